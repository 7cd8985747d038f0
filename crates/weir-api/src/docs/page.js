"use strict";
// A file of its own, because the content security policy allows no inline script.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  layout: "BaseLayout",
  deepLinking: true,
  displayRequestDuration: true,
  showExtensions: true,
  showCommonExtensions: true,
  tryItOutEnabled: false,
  // Swagger UI would send the address of the document to a public service otherwise.
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
