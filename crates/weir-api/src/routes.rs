//! Methods and paths, and what answers them.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use http::{HeaderValue, Method};
use percent_encoding::percent_decode_str;
use weir_serving::ServedVersion;
use weir_types::Error;

use crate::{
    admin,
    config::RouteMethod,
    metrics::{Metrics, RouteMetrics},
    operation::{Builtin, Endpoint},
    predict::PredictHandler,
    respond,
    state::StateHandler,
    template::Template,
    v2::rest::INFER_PATH,
};

/// What answers one method of one path.
pub(crate) enum Handler {
    Predict(Arc<PredictHandler>),
    Template(Box<Template>),
    Builtin(Builtin),
    /// Embeddings as OpenAI's API has them.
    Embeddings,
    /// What operators ask and order.
    Admin(admin::Endpoint),
    /// Features and events.
    State(Box<StateHandler>),
    /// The Open Inference Protocol.
    V2(Endpoint),
    /// A file of the docs page.
    Asset,
    /// The model behind it could not be loaded.
    Unavailable(Error),
}

/// A handler and what it counts.
pub(crate) struct Route {
    pub(crate) handler: Handler,
    pub(crate) metrics: RouteMetrics,
    pub(crate) path: String,
}

/// The methods of one path.
struct Entry {
    methods: Vec<(Method, Arc<Route>)>,
    allow: HeaderValue,
}

/// What a method and path lead to.
pub(crate) enum Found {
    /// A route and its path parameters, decoded, in the path's order.
    Route(Arc<Route>, Vec<(String, String)>),
    /// The path exists for the methods named.
    MethodNotAllowed(HeaderValue),
    /// The same path with, or without, a slash at its end exists.
    Redirect(String),
    /// Nothing.
    Nothing,
}

impl Found {
    /// The route, where there is one.
    pub(crate) fn route(&self) -> Option<&Route> {
        match self {
            Found::Route(route, _) => Some(route),
            _ => None,
        }
    }
}

/// The routes of one listener, compiled.
pub(crate) struct Routes(matchit::Router<Entry>);

impl Routes {
    /// Finds what answers `method` on `path` (as sent, still percent-coded).
    pub(crate) fn find(&self, method: &Method, path: &str) -> Found {
        let path = Decoded::of(path);
        let Ok(matched) = self.0.at(&path.text) else { return self.other_slash(path.sent) };
        let entry = matched.value;
        match entry.methods.iter().find(|(m, _)| m == method) {
            Some((_, route)) => {
                let parameters = matched.params.iter();
                let parameters = parameters.map(|(k, v)| (k.to_owned(), path.parameter(v))).collect();
                Found::Route(route.clone(), parameters)
            }
            None => Found::MethodNotAllowed(entry.allow.clone()),
        }
    }

    /// Whether the path exists with, or without, a slash at its end. `//host` is left alone:
    /// as a location it would be another server.
    fn other_slash(&self, sent: &str) -> Found {
        let other = match sent.strip_suffix('/') {
            Some(without) => without.to_owned(),
            None => format!("{sent}/"),
        };
        let decoded = Decoded::of(&other).text;
        // Browsers read `\\` as `/`.
        let elsewhere = sent.starts_with("//") || sent.contains('\\');
        let exists = !other.is_empty() && !elsewhere && self.0.at(&decoded).is_ok();
        if exists { Found::Redirect(other) } else { Found::Nothing }
    }
}

/// A path without its percent-coding. A coded slash is a character of its segment and separates none
/// (RFC 3986 section 2.2): what proxies refuse or let in by path must not be reached under another one.
struct Decoded<'p> {
    sent: &'p str,
    text: Cow<'p, str>,
    coded_slash: bool,
}

/// Stands for a coded slash while the path is matched: no character of any text (Unicode 23.7).
const SLASH: char = '\u{ffff}';

impl<'p> Decoded<'p> {
    fn of(sent: &'p str) -> Self {
        let coded_slash = sent.contains("%2F") || sent.contains("%2f");
        let text = match coded_slash {
            false => percent_decode_str(sent).decode_utf8_lossy(),
            true => {
                let segment = |part| {
                    percent_decode_str(part).decode_utf8_lossy().replace('/', SLASH.encode_utf8(&mut [0; 4]))
                };
                sent.split('/').map(segment).collect::<Vec<_>>().join("/").into()
            }
        };
        Self { sent, text, coded_slash }
    }

    fn parameter(&self, value: &str) -> String {
        if self.coded_slash { value.replace(SLASH, "/") } else { value.to_owned() }
    }
}

/// Collects routes.
pub(crate) struct Builder<'a> {
    metrics: &'a Metrics,
    paths: HashMap<String, Vec<(Method, Arc<Route>)>>,
    order: Vec<String>,
}

impl<'a> Builder<'a> {
    /// None yet; what is added counts in `metrics`.
    pub(crate) fn new(metrics: &'a Metrics) -> Self {
        Self { metrics, paths: HashMap::new(), order: Vec::new() }
    }

    /// Adds one; what answers it is `version`, if it is a model.
    pub(crate) fn add(
        &mut self,
        method: RouteMethod,
        path: &str,
        handler: Handler,
        version: Option<&ServedVersion>,
    ) -> Arc<Route> {
        let metrics = self.metrics.route(method.name(), counted_as(&handler, path), version);
        let route = Arc::new(Route { handler, metrics, path: path.to_owned() });
        let methods = self.paths.entry(path.to_owned()).or_insert_with(|| {
            self.order.push(path.to_owned());
            Vec::new()
        });
        let method = match method {
            RouteMethod::Get => Method::GET,
            RouteMethod::Post => Method::POST,
            RouteMethod::Put => Method::PUT,
            RouteMethod::Patch => Method::PATCH,
            RouteMethod::Delete => Method::DELETE,
        };
        methods.push((method, route.clone()));
        route
    }

    /// Compiles them, and tells which paths cannot be matched.
    pub(crate) fn finish(mut self, told: &mut dyn FnMut(&str, String)) -> Routes {
        let mut router = matchit::Router::new();
        for path in self.order {
            let Some(mut methods) = self.paths.remove(&path) else { continue };
            let allow = respond::allow(methods.iter().map(|(m, _)| m));
            if let Some(head) = methods.iter().find(|(m, r)| *m == Method::GET && answers_head(&r.handler)) {
                methods.push((Method::HEAD, head.1.clone()));
            }
            if let Err(error) = router.insert(path.as_str(), Entry { methods, allow }) {
                told(&path, format!("the path {path} cannot be matched: {error}"));
            }
        }
        Routes(router)
    }
}

/// The path that a route is counted under. A histogram for each of the protocol's questions
/// about models would be most of `/metrics`; inference is counted for each model.
fn counted_as<'p>(handler: &Handler, path: &'p str) -> &'p str {
    match handler {
        Handler::V2(Endpoint::Infer) => INFER_PATH,
        Handler::V2(_) => "/v2",
        Handler::State(handler) => handler.endpoint.counted_as(),
        Handler::Admin(_) => "/admin",
        _ => path,
    }
}

/// FastAPI answers HEAD for its own pages but not for declared routes; probes and
/// scrapers use it too.
fn answers_head(handler: &Handler) -> bool {
    matches!(handler, Handler::Asset | Handler::V2(_))
        || matches!(handler, Handler::Builtin(builtin) if !matches!(builtin, Builtin::Health | Builtin::Models))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coded_slash_is_a_character_and_separates_nothing() {
        let text = |sent| Decoded::of(sent).text.into_owned();
        assert_eq!(text("/v1/models"), "/v1/models");
        assert_eq!(text("/v1/%6dodels"), "/v1/models");
        assert_eq!(text("/v1/%252F"), "/v1/%2F");
        assert_eq!(text("/v1%2Fmodels"), format!("/v1{SLASH}models"));
        let path = Decoded::of("/v1/features/users/a%2fb%2Fc%20d");
        let last = path.text.rsplit('/').next().unwrap();
        assert_eq!(path.parameter(last), "a/b/c d");
    }
}
