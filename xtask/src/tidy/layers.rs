//! Layers point down only: the picture in ARCHITECTURE.md as a table.

use super::graph::Crate;

/// Which layer a crate is in. A crate sees every layer below its own.
const LAYERS: &[(&str, u8)] = &[
    ("weir-types", 0),
    ("weir-config", 0),
    ("weir-clients", 0),
    // Servers for tests, which any crate's may start.
    ("weir-testbed", 0),
    ("weir-codec", 1),
    ("weir-artifact", 1),
    ("weir-engine", 1),
    ("weir-registry", 1),
    ("weir-features", 1),
    ("weir-lake", 1),
    ("weir-stats", 1),
    ("weir-auth", 1),
    // Asks a server from outside, as any client does: it sees nothing that serves.
    ("weir-load", 2),
    ("weir-serving", 2),
    ("weir-api", 3),
    ("weir-pipelines", 3),
    ("weir", 4),
];

/// Edges between siblings that are allowed all the same.
const SIBLINGS: &[(&str, &str)] = &[
    // An engine runs what the artefact crate read: its spec and its parsed graph.
    ("weir-engine", "weir-artifact"),
    // The table of a client is read in the words of configuration files.
    ("weir-clients", "weir-config"),
    // Its tests run against real servers.
    ("weir-clients", "weir-testbed"),
];

/// Stands beside the layers: nothing depends on it and it depends on no crate of ours, so
/// that it builds while they do not.
const BESIDE: &str = "xtask";

/// Every edge that points up or sideways, and every crate that has no layer yet. Tests are
/// held to the same edges: a dev-dependency that points up is a design problem too.
pub(crate) fn check(crates: &[Crate]) -> Vec<String> {
    let names: Vec<&str> = crates.iter().map(|c| c.name.as_str()).collect();
    let ours = |name: &&String| names.contains(&name.as_str());
    let unplaced = names.iter().filter(|name| **name != BESIDE && layer(name).is_none()).map(|name| {
        format!("{name}: has no layer; give it one in xtask/src/tidy/layers.rs and in ARCHITECTURE.md")
    });
    let edges =
        crates.iter().flat_map(|from| from.dependencies.iter().filter(ours).filter_map(|to| edge(from, to)));
    unplaced.chain(edges).collect()
}

fn layer(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer)
}

/// Starts servers: a dev-dependency of any crate, and nothing else.
const ONLY_IN_TESTS: &str = "weir-testbed";

/// What is wrong with the edge, if anything.
fn edge(from: &Crate, to: &str) -> Option<String> {
    let place = &from.manifest;
    if to == ONLY_IN_TESTS && from.shipped.iter().any(|name| name == to) {
        return Some(format!("{place}: {to} is for tests: it goes under [dev-dependencies]"));
    }
    if from.name == BESIDE || to == BESIDE {
        return Some(format!(
            "{place}: {} may not depend on {to}: {BESIDE} stands beside the layers",
            from.name
        ));
    }
    let (high, low) = (layer(&from.name)?, layer(to)?);
    if high > low || SIBLINGS.contains(&(from.name.as_str(), to)) {
        return None;
    }
    let why = if high == low { "they are siblings" } else { "layers point down only" };
    Some(format!("{place}: {} (layer {high}) may not depend on {to} (layer {low}): {why}", from.name))
}

#[cfg(test)]
mod tests {
    use super::{super::graph::example, *};

    fn problems(edges: &[(&str, &[&str])]) -> Vec<String> {
        let mut crates: Vec<Crate> = edges.iter().map(|(name, to)| example(name, to)).collect();
        for name in edges.iter().flat_map(|(_, to)| to.iter()) {
            if !crates.iter().any(|c| c.name == *name) {
                crates.push(example(name, &[]));
            }
        }
        check(&crates)
    }

    #[test]
    fn layers_may_see_every_layer_below() {
        assert_eq!(
            problems(&[("weir", &["weir-types", "weir-api"]), ("weir-api", &["weir-codec"])]),
            [""; 0]
        );
    }

    #[test]
    fn an_edge_up_is_caught() {
        let found = problems(&[("weir-codec", &["weir-serving"])]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("weir-codec (layer 1)") && found[0].contains("point down"), "{found:?}");
    }

    #[test]
    fn the_testbed_is_for_tests() {
        assert!(problems(&[("weir", &["weir-testbed"])])[0].contains("dev-dependencies"));
        let mut user = example("weir", &["weir-testbed"]);
        user.shipped.clear();
        assert_eq!(check(&[user, example("weir-testbed", &[])]), [""; 0]);
    }

    #[test]
    fn an_edge_between_siblings_is_caught_unless_it_is_listed() {
        assert_eq!(problems(&[("weir-engine", &["weir-artifact"])]), [""; 0]);
        assert!(problems(&[("weir-artifact", &["weir-engine"])])[0].contains("siblings"));
        assert!(problems(&[("weir-types", &["weir-config"])])[0].contains("siblings"));
        assert!(problems(&[("weir-api", &["weir-pipelines"])])[0].contains("siblings"));
    }

    #[test]
    fn a_crate_without_a_layer_is_caught() {
        assert!(problems(&[("weir-new", &[])])[0].contains("has no layer"));
    }

    #[test]
    fn xtask_stands_alone() {
        assert!(problems(&[("xtask", &["weir-types"])])[0].contains("beside"));
        assert!(problems(&[("weir", &["xtask"])])[0].contains("beside"));
    }

    #[test]
    fn other_peoples_crates_are_not_layered() {
        assert_eq!(check(&[example("weir-types", &["serde", "thiserror"])]), [""; 0]);
    }
}
