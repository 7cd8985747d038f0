//! Routes without a model: parameters filled into a fixed answer.

use std::collections::HashSet;

use bytes::Bytes;
use http::{Response, StatusCode, request::Parts};
use serde_json::Value;
use weir_codec::{CodecError, DecodeLimits, QueryDecoder, QueryParam, QueryValues, write_detail};
use weir_types::{Rules, Scalar};

use crate::{config::ParameterConfig, listener::Body, respond};

/// A compiled template.
pub(crate) struct Template {
    path: QueryDecoder,
    query: QueryDecoder,
    answer: Answer,
}

enum Answer {
    /// Without parameters the body is the same every time.
    Fixed(Bytes),
    Filled(Value),
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    /// Every parameter that cannot be.
    pub(crate) fn new(
        query: &[ParameterConfig],
        path: &[ParameterConfig],
        response: Value,
    ) -> Result<Self, Vec<String>> {
        let fixed = query.is_empty() && path.is_empty();
        let decoders = (decoder(QueryDecoder::path, path), decoder(QueryDecoder::new, query));
        let (path, query) = match decoders {
            (Ok(path), Ok(query)) => (path, query),
            (path, query) => {
                return Err([path.err(), query.err()].into_iter().flatten().flatten().collect());
            }
        };
        let answer =
            if fixed { Answer::Fixed(response.to_string().into()) } else { Answer::Filled(response) };
        Ok(Self { path, query, answer })
    }

    /// Answers a request; 422 with every parameter that is wrong.
    pub(crate) fn answer(&self, head: &Parts, path: &[(String, String)]) -> Response<Body> {
        let response = match &self.answer {
            Answer::Fixed(body) => return respond::json(StatusCode::OK, body.clone()),
            Answer::Filled(response) => response,
        };
        let path = self.path.decode_pairs(path);
        let query = self.query.decode(head.uri.query().unwrap_or_default());
        match (path, query) {
            (Ok(path), Ok(query)) => {
                respond::json(StatusCode::OK, fill(response, &[&path, &query]).to_string())
            }
            (path, query) => {
                let errors: Vec<_> = [path.err(), query.err()].into_iter().flatten().flatten().collect();
                let mut body = Vec::new();
                write_detail(&errors, &mut body);
                respond::json(StatusCode::UNPROCESSABLE_ENTITY, body)
            }
        }
    }
}

/// Prepares a decoder of `parameters`.
///
/// # Errors
/// Every parameter that cannot be.
fn decoder(
    new: fn(Vec<QueryParam>, DecodeLimits) -> Result<QueryDecoder, CodecError>,
    parameters: &[ParameterConfig],
) -> Result<QueryDecoder, Vec<String>> {
    let limits = DecodeLimits::default();
    let (mut good, mut problems) = (Vec::new(), Vec::new());
    for config in parameters {
        // Each by itself first: all of them together tell the first problem only.
        let tried = parameter(config)
            .and_then(|one| new(vec![one.clone()], limits).map(|_| one).map_err(|e| e.to_string()));
        tried.map_or_else(|problem| problems.push(problem), |one| good.push(one));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    new(good, limits).map_err(|e| vec![e.to_string()])
}

/// Replaces `{name}` in every string of `value`.
fn fill(value: &Value, parameters: &[&QueryValues]) -> Value {
    match value {
        Value::String(text) => Value::String(fill_text(text, parameters)),
        Value::Array(items) => items.iter().map(|item| fill(item, parameters)).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), fill(v, parameters))).collect(),
        other => other.clone(),
    }
}

fn fill_text(text: &str, parameters: &[&QueryValues]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let value = after
            .split_once('}')
            .and_then(|(name, tail)| Some((parameters.iter().find_map(|p| p.text(name))?, tail)));
        match value {
            Some((value, tail)) => {
                out.push_str(&value);
                rest = tail;
            }
            None => {
                out.push('{');
                rest = after;
            }
        }
    }
    out + rest
}

/// Checks what a template declares against what it uses.
///
/// # Errors
/// Every problem there is.
pub(crate) fn check(
    path: &str,
    query: &[ParameterConfig],
    typed: &[ParameterConfig],
    response: &Value,
) -> Result<(), Vec<String>> {
    let in_path: HashSet<&str> = names_in(path).collect();
    let mut known: HashSet<&str> = in_path.clone();
    let mut problems = Vec::new();
    for parameter in query {
        if !known.insert(&parameter.name) {
            problems.push(format!("two parameters are called `{}`", parameter.name));
        }
    }
    for parameter in typed.iter().filter(|p| !in_path.contains(p.name.as_str())) {
        problems.push(format!("the path has no `{{{}}}`", parameter.name));
    }
    if query.iter().any(|parameter| parameter.name.is_empty()) {
        problems.push("a query parameter needs a name".into());
    }
    problems.extend(Template::new(query, typed, Value::Null).err().into_iter().flatten());
    for name in names_in_value(response).into_iter().filter(|name| !known.contains(name.as_str())) {
        problems.push(format!("the response uses `{{{name}}}`, which is no parameter of the route"));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// The path parameters of `path`, typed by `given`, strings where that says nothing.
pub(crate) fn path_parameters(path: &str, given: &[ParameterConfig]) -> Vec<ParameterConfig> {
    let typed = |name: &str| given.iter().find(|p| p.name == name).cloned();
    names_in(path).map(|name| typed(name).unwrap_or_else(|| ParameterConfig::string(name))).collect()
}

/// The `{name}`s in a text, in order. What is no identifier between the braces is text.
fn names_in(text: &str) -> impl Iterator<Item = &str> {
    let name = |rest: &'_ str| -> Option<usize> {
        let end = rest.find('}')?;
        let identifier = end > 0 && rest[..end].bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        identifier.then_some(end)
    };
    text.split('{').skip(1).filter_map(move |rest| Some(&rest[..name(rest)?]))
}

fn names_in_value(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => names_in(text).map(str::to_owned).collect(),
        Value::Array(items) => items.iter().flat_map(names_in_value).collect(),
        Value::Object(map) => map.values().flat_map(names_in_value).collect(),
        _ => Vec::new(),
    }
}

fn parameter(config: &ParameterConfig) -> Result<QueryParam, String> {
    let named = |problem: String| format!("parameter `{}`: {problem}", config.name);
    let scalars = |values: &[Value]| values.iter().map(scalar).collect::<Result<Vec<_>, _>>();
    Ok(QueryParam {
        name: config.name.clone(),
        dtype: config.dtype.parse().map_err(named)?,
        // A parameter with a default is not required, whatever else is said.
        required: config.required && config.default.is_none(),
        default: config.default.as_ref().map(scalar).transpose().map_err(named)?,
        rules: Rules {
            ge: config.ge,
            gt: config.gt,
            le: config.le,
            lt: config.lt,
            one_of: config.one_of.as_deref().map(scalars).transpose().map_err(named)?,
            min_length: config.min_length,
            max_length: config.max_length,
            pattern: config.pattern.clone(),
            allow_inf_nan: false,
        },
    })
}

fn scalar(value: &Value) -> Result<Scalar, String> {
    match value {
        Value::Bool(b) => Ok(Scalar::Bool(*b)),
        Value::String(s) => Ok(Scalar::String(s.clone())),
        Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(i), _) => Ok(Scalar::Int(i)),
            (None, Some(f)) => Ok(Scalar::Float(f)),
            _ => Err(format!("{n} is out of range")),
        },
        other => Err(format!("{other} is no single value")),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::BodyExt;
    use serde_json::json;

    use super::*;

    fn ask(template: &Template, uri: &str, path: &[(&str, &str)]) -> (u16, Value) {
        let (head, ()) = Request::get(uri).body(()).unwrap().into_parts();
        let path: Vec<_> = path.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let response = template.answer(&head, &path);
        let status = response.status().as_u16();
        let body = futures_block(response.into_body());
        (status, serde_json::from_slice(&body).unwrap())
    }

    fn futures_block(body: Body) -> Bytes {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(body.collect()).unwrap().to_bytes()
    }

    #[test]
    fn parameters_are_filled_in_once_and_not_again() {
        let response = json!({"message": "Hello {name}", "of": ["{id}", 1, "{unknown}"]});
        let query = [ParameterConfig::string("name")];
        let path = [ParameterConfig::string("id")];
        let template = Template::new(&query, &path, response).unwrap();
        let (status, body) = ask(&template, "/x?name=%7Bid%7D+%26", &[("id", "7")]);
        assert_eq!((status, body), (200, json!({"message": "Hello {id} &", "of": ["7", 1, "{unknown}"]})));
        let (status, body) = ask(&template, "/x", &[("id", "7")]);
        assert_eq!(status, 422);
        assert_eq!(body["detail"][0]["loc"], json!(["query", "name"]));
    }

    #[test]
    fn every_mistake_is_told() {
        let mut odd = ParameterConfig::string("a");
        odd.dtype = "text".into();
        let query = [odd.clone(), odd];
        let typed = [ParameterConfig::string("gone")];
        let problems = check("/x/{id}", &query, &typed, &json!({"m": "{nobody} {id}"})).unwrap_err();
        assert_eq!(problems.len(), 5, "{problems:#?}");
        let mut pattern = ParameterConfig::string("b");
        pattern.pattern = Some("(".into());
        let mut other = ParameterConfig::string("");
        other.default = Some(json!([]));
        let mut third = pattern.clone();
        third.name = "c".into();
        let problems = check("/x", &[pattern, other, third], &[], &json!({})).unwrap_err();
        assert_eq!(problems.len(), 4, "{problems:#?}");
    }
}
