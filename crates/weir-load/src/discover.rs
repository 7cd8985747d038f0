//! What a server says about the model that is to be asked.

use std::time::Duration;

use serde_json::Value;
use weir_clients::{Client, Reply};

use crate::body::{
    schema::Schema,
    tensors::{self, Input},
};

/// Longest wait for a description.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks a server to describe itself.
pub(crate) struct Describer {
    client: Client,
}

/// How a route is asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Route {
    /// With this body.
    Post(Schema),
    /// With a body that says nothing about itself.
    PostAny,
    /// Without a body.
    Get,
}

impl Describer {
    pub(crate) fn new(url: &str) -> Self {
        Self { client: Client::new(url, PATIENCE) }
    }

    fn get(&self, path: &str) -> Result<Reply, String> {
        self.client.get(path).map_err(|e| format!("the server cannot be reached: {e}"))
    }

    /// The server's OpenAPI document; `None` where it has none.
    pub(crate) fn openapi(&self) -> Result<Option<Value>, String> {
        let reply = self.get("/openapi.json")?;
        let found =
            (reply.status == 200).then(|| serde_json::from_slice::<Value>(&reply.body).ok()).flatten();
        Ok(found.filter(|document| document.get("paths").is_some()))
    }

    /// The inputs of a model, from its V2 metadata.
    pub(crate) fn inputs(&self, model: &str, version: Option<&str>) -> Result<Vec<Input>, String> {
        let version = version.map(|v| format!("/versions/{v}")).unwrap_or_default();
        let reply = self.get(&format!("/v2/models/{model}{version}"))?;
        let metadata = serde_json::from_slice::<Value>(&reply.body).unwrap_or_default();
        if reply.status != 200 {
            let words = metadata
                .get("error")
                .and_then(Value::as_str)
                .unwrap_or("no Open Inference Protocol V2 there?");
            return Err(format!("the metadata of model `{model}`: status {}: {words}", reply.status));
        }
        tensors::inputs(&metadata).ok_or_else(|| format!("the metadata of model `{model}` has no inputs"))
    }
}

/// The typed route of a model in an OpenAPI document.
///
/// # Errors
/// No such model, with the names of those that there are; or a schema that we cannot make
/// bodies for.
pub(crate) fn model_schema(
    document: &Value,
    model: &str,
    version: Option<&str>,
) -> Result<(String, Schema), Vec<String>> {
    let version = version.map(|v| format!("/versions/{v}")).unwrap_or_default();
    let path = format!("/v1/models/{model}{version}:predict");
    let operation = document.get("paths").and_then(|paths| paths.get(&path)).and_then(|p| p.get("post"));
    let Some(operation) = operation else {
        return Err(vec![format!("the server has no model `{model}`; it has {}", models(document))]);
    };
    let schema = body_schema(operation).ok_or_else(|| vec![format!("{path} describes no body")])?;
    Ok((path, Schema::read(document, schema)?))
}

/// Names of the models in an OpenAPI document.
fn models(document: &Value) -> String {
    let paths = document.get("paths").and_then(Value::as_object).into_iter().flat_map(|p| p.keys());
    let name = |path: &String| Some(path.strip_prefix("/v1/models/")?.strip_suffix(":predict")?.to_owned());
    let names: Vec<String> = paths.filter_map(name).filter(|name| !name.contains('/')).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn body_schema(operation: &Value) -> Option<&Value> {
    operation.pointer("/requestBody/content/application~1json/schema")
}

/// How `path` is asked, by an OpenAPI document if there is one.
///
/// # Errors
/// No such path, or a schema that we cannot make bodies for.
pub(crate) fn route(document: Option<&Value>, path: &str) -> Result<Route, Vec<String>> {
    let bare = path.split('?').next().unwrap_or(path);
    let Some(paths) = document.and_then(|d| d.get("paths")) else { return Ok(Route::Get) };
    let (document, item) = match (document, paths.get(bare)) {
        (Some(document), Some(item)) => (document, item),
        // It may still answer: documents leave out what is not meant for people.
        _ => return Ok(Route::Get),
    };
    match item.get("post") {
        Some(post) => match body_schema(post) {
            Some(schema) => Schema::read(document, schema).map(Route::Post),
            None => Ok(Route::PostAny),
        },
        None => Ok(Route::Get),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        let body = json!({"requestBody": {"content": {"application/json": {"schema": {"type": "object", "properties": {"x": {"type": "number"}}}}}}});
        json!({"paths": {
            "/v1/models/a:predict": {"post": body},
            "/v1/models/b:predict": {"post": body},
            "/v1/models/a/versions/2:predict": {"post": body},
            "/constant": {"post": {}},
            "/hello": {"get": {}},
        }})
    }

    #[test]
    fn an_unknown_model_is_told_with_those_that_there_are() {
        let told = model_schema(&document(), "c", None).unwrap_err();
        assert_eq!(told, ["the server has no model `c`; it has a, b"]);
        assert_eq!(model_schema(&document(), "a", Some("2")).unwrap().0, "/v1/models/a/versions/2:predict");
    }

    #[test]
    fn routes_are_asked_as_they_describe_themselves() {
        let document = document();
        let route = |path| route(Some(&document), path).unwrap();
        assert!(matches!(route("/v1/models/a:predict?outputs=label"), Route::Post(_)));
        assert_eq!(
            (route("/constant"), route("/hello"), route("/other")),
            (Route::PostAny, Route::Get, Route::Get)
        );
        assert_eq!(super::route(None, "/x").unwrap(), Route::Get);
    }
}
