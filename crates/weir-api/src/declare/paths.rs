//! Which paths an operator may declare.

use std::collections::HashSet;

use super::{Declarations, MODELS_PREFIX, RouteProblem};
use crate::{
    config::{RouteConfig, RouteMethod},
    operation::OperationKind,
    state::{EVENTS, FEATURES},
};

/// What begins paths that the server keeps for itself, and what is there.
const OWN: [(&str, &str); 5] = [
    (MODELS_PREFIX, "the models' own paths are"),
    (FEATURES, "feature views are"),
    (EVENTS, "event streams are"),
    ("/docs/", "the files of the docs page are"),
    ("/v2/", "the Open Inference Protocol is"),
];

/// What is wrong with `path` by itself.
pub(super) fn check(path: &str) -> Vec<String> {
    if !path.starts_with('/') {
        return vec![format!("a path starts with `/`: write `/{path}`")];
    }
    let mut problems = Vec::new();
    for (prefix, what) in OWN.into_iter().filter(|(prefix, _)| path.starts_with(prefix)) {
        problems.push(format!("{path} cannot be declared: {prefix} is where {what}; choose another path"));
    }
    if let Some(odd) = path.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#' | '%' | '\\')) {
        problems.push(format!("a path cannot contain {odd:?}"));
    }
    if path.contains("//") {
        problems.push(format!("{path} has an empty part between two slashes, which proxies take out"));
    }
    if path.split('/').any(|part| matches!(part, "." | "..")) {
        problems.push(format!("{path} has a part `.` or `..`, which clients resolve before they ask"));
    }
    problems.extend(parameters(path));
    problems
}

/// What is wrong with the `{name}`s of `path`.
fn parameters(path: &str) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut problems = Vec::new();
    let mut pieces = path.split('{');
    let mut stray = pieces.next().is_some_and(|before| before.contains('}'));
    for piece in pieces {
        let (name, rest) = piece.split_once('}').unwrap_or(("", "}"));
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        stray |= !is_name || rest.contains('}');
        if is_name && !seen.insert(name) {
            problems.push(format!("{path} has `{{{name}}}` twice; give each parameter a name of its own"));
        }
    }
    if stray {
        problems.push(format!(
            "{path}: `{{` and `}}` enclose a parameter's name, of letters, digits and `_`, as in `/items/{{id}}`"
        ));
    }
    problems
}

/// Two `[[route]]`s for one method and path: both are named.
pub(super) fn doubles(routes: &[RouteConfig]) -> impl Iterator<Item = RouteProblem> + '_ {
    routes.iter().enumerate().filter_map(|(index, route)| {
        let same = |r: &RouteConfig| r.path == route.path && r.method == route.method;
        let first = routes[..index].iter().position(same)?;
        let (method, path) = (route.method.name(), &route.path);
        let message =
            format!("{method} {path} is declared already, by [[route]] {}; change one of them", first + 1);
        Some(RouteProblem { route: Some(index), beside: Some(first), message })
    })
}

/// A `[[route]]` on a method and path of the server's own.
pub(super) fn clashes(all: &Declarations, routes: &[RouteConfig]) -> Vec<RouteProblem> {
    // Those with a model or a template are the operator's.
    let own = all.served.iter().filter(|declared| match declared.operation.kind {
        OperationKind::Predict { .. } | OperationKind::Template { .. } => false,
        OperationKind::Builtin(_)
        | OperationKind::Admin(_)
        | OperationKind::Embeddings { .. }
        | OperationKind::State(_)
        | OperationKind::V2(_) => true,
    });
    let own: HashSet<(&str, RouteMethod)> =
        own.map(|d| (d.operation.path.as_str(), d.operation.method)).collect();
    let clash = |(index, route): (usize, &RouteConfig)| {
        own.contains(&(route.path.as_str(), route.method)).then(|| RouteProblem {
            route: Some(index),
            beside: None,
            message: format!(
                "the server itself answers {} {}; choose another path",
                route.method.name(),
                route.path
            ),
        })
    };
    routes.iter().enumerate().filter_map(clash).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_no_client_reaches_or_that_mislead_are_refused() {
        for (path, told) in [
            ("predict", "write `/predict`"),
            ("/v1/models/x:predict", "models' own"),
            ("/docs/page.js", "docs page"),
            ("/docs/{file}", "docs page"),
            ("/v2/models", "Open Inference"),
            ("/a b", "' '"),
            ("/a%20b", "'%'"),
            ("/a\\b", "'\\\\'"),
            ("//g", "empty part"),
            ("/a//b", "empty part"),
            ("/a/../b", "`..`"),
            ("/f/{x}/{x}", "`{x}` twice"),
            ("/f/{}", "parameter's name"),
            ("/f/{a-b}", "parameter's name"),
            ("/f/{x", "parameter's name"),
            ("/f/x}", "parameter's name"),
            ("/f/{x}}", "parameter's name"),
            ("/f/{*rest}", "parameter's name"),
        ] {
            let problems = check(path);
            assert_eq!(problems.len(), 1, "{path}: {problems:?}");
            assert!(problems[0].contains(told), "{path}: {problems:?}");
        }
        for good in ["/", "/predict", "/predict/", "/f/{x}/{y_2}", "/v1/models", "/docsy", "/v2x", "/a.b/c"] {
            assert_eq!(check(good), Vec::<String>::new(), "{good}");
        }
        assert_eq!(check("/docs//{x}/{x}").len(), 3, "all at once");
    }
}
