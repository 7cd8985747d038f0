//! "Only home of": which crate of ours may use which library.
//!
//! The table is `[bans] deny` in `deny.toml`, so that there is one: cargo-deny holds the
//! whole dependency graph to it, this check holds our own manifests to it and needs no
//! installed tool. Tests are free: a test client of HTTP serves nobody.

use anyhow::{Context, Result};
use serde::Deserialize;

use super::graph::Crate;
use crate::repo::File;

/// A library that not everybody may use.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Home {
    /// The library.
    #[serde(rename = "crate")]
    name: String,
    /// Who may depend on it; empty for nobody.
    #[serde(default)]
    wrappers: Vec<String>,
    /// Why.
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
struct DenyFile {
    bans: Bans,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Home>,
}

/// The table in `deny.toml`.
///
/// # Errors
/// The file is missing or has another form.
pub(crate) fn table(files: &[File]) -> Result<Vec<Home>> {
    let file = files.iter().find(|f| f.path == "deny.toml").context("deny.toml is missing")?;
    parse(file.text.as_deref().unwrap_or_default())
}

fn parse(text: &str) -> Result<Vec<Home>> {
    let parsed: DenyFile = toml::from_str(text).context("deny.toml: [bans] deny")?;
    Ok(parsed.bans.deny)
}

/// Every use outside the home, and every entry that gives no reason.
pub(crate) fn check(crates: &[Crate], homes: &[Home]) -> Vec<String> {
    let silent = homes.iter().filter(|home| home.reason.is_empty());
    let silent = silent.map(|home| format!("deny.toml: {} has no reason", home.name));
    let strays = homes.iter().flat_map(|home| crates.iter().filter_map(|c| stray(c, home)));
    silent.chain(strays).collect()
}

fn stray(user: &Crate, home: &Home) -> Option<String> {
    if !user.shipped.contains(&home.name) || home.wrappers.contains(&user.name) {
        return None;
    }
    let allowed = match home.wrappers.iter().filter(|w| w.starts_with("weir")).collect::<Vec<_>>().as_slice()
    {
        [] => "nobody may".to_owned(),
        some => format!("only {} may", some.iter().map(|w| w.as_str()).collect::<Vec<_>>().join(", ")),
    };
    Some(format!("{}: uses {}, {allowed}: {}", user.manifest, home.name, home.reason))
}

#[cfg(test)]
mod tests {
    use super::{super::graph::example, *};

    const TABLE: &str = r#"
        [bans]
        deny = [
            { crate = "hyper", wrappers = ["weir-api", "hyper-util"], reason = "one HTTP server" },
            { crate = "openssl", reason = "rustls" },
        ]"#;

    #[test]
    fn a_library_outside_its_home_is_caught() {
        let homes = parse(TABLE).unwrap();
        let found = check(&[example("weir-api", &["hyper"]), example("weir-serving", &["hyper"])], &homes);
        assert_eq!(found, ["crates/weir-serving/Cargo.toml: uses hyper, only weir-api may: one HTTP server"]);
    }

    #[test]
    fn tests_may_use_what_they_need() {
        let mut only_in_tests = example("weir", &["hyper"]);
        only_in_tests.shipped.clear();
        assert_eq!(check(&[only_in_tests], &parse(TABLE).unwrap()), [""; 0]);
    }

    #[test]
    fn a_banned_library_is_caught_everywhere() {
        let found = check(&[example("weir", &["openssl"])], &parse(TABLE).unwrap());
        assert_eq!(found, ["crates/weir/Cargo.toml: uses openssl, nobody may: rustls"]);
    }

    #[test]
    fn an_entry_needs_a_reason() {
        let homes = parse("[bans]\ndeny = [{ crate = \"bincode\" }]").unwrap();
        assert_eq!(check(&[], &homes), ["deny.toml: bincode has no reason"]);
    }

    #[test]
    fn the_real_table_pins_what_the_architecture_says() {
        let text = std::fs::read_to_string(crate::repo::root().join("deny.toml")).unwrap();
        let homes = parse(&text).unwrap();
        for (library, home) in [
            ("hyper", "weir-api"),
            ("clap", "weir"),
            ("rten", "weir-engine"),
            ("ort", "weir-engine"),
            ("tokenizers", "weir-engine"),
            ("prost", "weir-artifact"),
            ("regex", "weir-codec"),
        ] {
            let entry = homes.iter().find(|h| h.name == library).unwrap_or_else(|| panic!("{library}"));
            assert!(entry.wrappers.iter().any(|w| w == home), "{library} lives in {home}");
        }
    }
}
