// Checks custom resources by the schemas of their CRDs. Reads a JSON list of objects from standard
// input; writes a JSON list of [index, problem]. `node schemas.mjs <folder where setup.sh put them>`
//
// These schemas say nothing of keys that they do not know, as a cluster drops them silently. A key that
// occurs nowhere in the schema is a problem here, so that a typing error is found.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

// The folder that has `node_modules`.
const root = pathToFileURL(`${process.argv[2]}/`);

// API group → [package, what its schemas' names begin with].
const groups = {
  "networking.istio.io": ["istio", "NetworkingIstioIo"],
  "security.istio.io": ["istio", "SecurityIstioIo"],
  "gateway.networking.k8s.io": ["gateway-api", "IoK8sSigsGatewayApiApis"],
  "keda.sh": ["keda", "ComGithubKedacoreKedaV2ApisKeda"],
  "monitoring.coreos.com": ["prometheus-operator", "ComGithubPrometheusOperatorPrometheusOperatorPkgApisMonitoring"],
};

// Below these, keys are the user's.
const free = new Set(["labels", "matchLabels", "annotations", "selector", "metadata", "portLevelMtls"]);

function* unknown(value, known, path) {
  if (Array.isArray(value)) for (const [i, item] of value.entries()) yield* unknown(item, known, `${path}/${i}`);
  else if (value && typeof value === "object")
    for (const [key, item] of Object.entries(value)) {
      if (!known.has(key)) yield `${path}/${key}: the schema has no such key`;
      if (!free.has(key)) yield* unknown(item, known, `${path}/${key}`);
    }
}

async function schema({ apiVersion, kind }) {
  const [group, version] = apiVersion.split("/");
  if (!groups[group]) throw new Error(`no schema for the group ${group}`);
  const [name, prefix] = groups[group];
  const file = new URL(`./node_modules/@kubernetes-models/${name}/_schemas/${prefix}${version[0].toUpperCase()}${version.slice(1)}${kind}.js`, root);
  return { ...(await import(file)), known: keys(file) };
}

// Property names in the code of a schema, and of those that it imports: KEDA's and the operator's are in pieces.
function keys(file, seen = new Set()) {
  seen.add(file.href);
  const text = readFileSync(file, "utf8");
  const found = new Set([...text.matchAll(/data\d*\.([A-Za-z_$][\w$]*)|data\d*\[?"([^"]+)"|void 0===?\w+\.(\w+)/g)].flatMap((m) => m.slice(1)));
  for (const [, name] of text.matchAll(/from\s*"([^"]*_schemas\/[^"]+|\.\/[^"]+)"/g)) {
    const path = name.endsWith(".js") ? name : `${name}.js`;
    const next = path.startsWith("./") ? new URL(path, file) : new URL(`./node_modules/${path}`, root);
    if (!seen.has(next.href)) for (const key of keys(next, seen)) found.add(key);
  }
  return found;
}

const problems = [];
for (const [index, object] of JSON.parse(readFileSync(0, "utf8")).entries()) {
  try {
    const { validate, known } = await schema(object);
    if (!validate(object))
      for (const error of validate.errors)
        problems.push([index, `${error.instancePath || "/"}: ${error.keyword} ${JSON.stringify(error.params)}`]);
    for (const problem of unknown(object.spec, known, "/spec")) problems.push([index, problem]);
  } catch (error) {
    problems.push([index, error.message.split("\n")[0]]);
  }
}
process.stdout.write(JSON.stringify(problems));
