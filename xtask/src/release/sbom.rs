//! A bill of materials in CycloneDX 1.5 (<https://cyclonedx.org/docs/1.5/json/>): what the binary is made
//! of, without what builds and tests alone need. Written from `cargo metadata`, without a time or a serial
//! number, so that the same `Cargo.lock` makes the same bill.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};
use serde_json::{Value, json};

use crate::repo;

/// The graph of what is built for `target`: a binary for Linux has nothing of what Windows needs.
///
/// # Errors
/// Cargo cannot tell.
pub(super) fn metadata(target: &str) -> Result<Metadata> {
    let mut command = MetadataCommand::new();
    let options = ["--locked", "--filter-platform", target].map(str::to_owned);
    command.current_dir(repo::root()).other_options(options).exec().context("cargo metadata")
}

/// The bill of the package `root`.
///
/// # Errors
/// The package or the graph of dependencies is missing.
pub(super) fn of(metadata: &Metadata, root: &str) -> Result<String> {
    let resolve = metadata.resolve.as_ref().context("cargo metadata gave no graph")?;
    let edges: BTreeMap<&PackageId, Vec<&PackageId>> = resolve
        .nodes
        .iter()
        .map(|node| {
            let linked =
                node.deps.iter().filter(|dep| dep.dep_kinds.iter().any(|k| k.kind == DependencyKind::Normal));
            (&node.id, linked.map(|dep| &dep.pkg).collect())
        })
        .collect();
    let packages: BTreeMap<&PackageId, &Package> = metadata.packages.iter().map(|p| (&p.id, p)).collect();
    let first =
        metadata.packages.iter().find(|p| p.name.as_str() == root).context("the package is missing")?;
    let (mut seen, mut next) = (BTreeSet::from([&first.id]), vec![&first.id]);
    while let Some(id) = next.pop() {
        next.extend(edges.get(id).into_iter().flatten().filter(|id| seen.insert(id)));
    }
    let mut parts: Vec<&Package> = seen.iter().filter_map(|id| packages.get(id).copied()).collect();
    parts.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    let depends = parts.iter().map(|part| {
        let on = edges.get(&part.id).into_iter().flatten().filter_map(|id| packages.get(id));
        let on: BTreeSet<String> = on.map(|package| purl(package)).collect();
        json!({"ref": purl(part), "dependsOn": on})
    });
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(first, "application")},
        "components": parts.iter().filter(|p| p.id != first.id).map(|p| component(p, "library")).collect::<Vec<_>>(),
        "dependencies": depends.collect::<Vec<_>>(),
    });
    Ok(format!("{bill:#}\n"))
}

/// Checks the bill in the file `path` by the schema that CycloneDX publishes, its addresses and licences too.
///
/// # Errors
/// What is wrong with it, or the environment of `tests/sbom` is not there.
pub(super) fn check(path: &Path) -> Result<()> {
    let python = repo::root().join(".cache/venvs/sbom/bin/python");
    ensure!(python.exists(), "{} is not there: run `make venvs`", python.display());
    let told = Command::new(python).arg(repo::root().join("tests/sbom/check.py")).arg(path).output()?;
    let said = String::from_utf8_lossy(&told.stderr);
    ensure!(told.status.success(), "the bill of materials is wrong:\n{said}");
    Ok(())
}

/// The package's URL (<https://github.com/package-url/purl-spec>). Of what versions may have, only the
/// plus sign is written as a code.
fn purl(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version).replace('+', "%2B")
}

fn component(package: &Package, kind: &str) -> Value {
    let mut component = json!({
        "type": kind,
        "bom-ref": purl(package),
        "name": package.name.as_str(),
        "version": package.version.to_string(),
        "purl": purl(package),
    });
    if let Some(license) = &package.license {
        // Old packages write `/` for OR.
        component["licenses"] = json!([{"expression": license.replace('/', " OR ")}]);
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What [`check`] says of a text.
    fn checked(text: &str) -> Result<()> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        check(file.path())
    }

    #[test]
    fn the_bill_is_what_the_schema_asks_for_and_a_broken_one_is_refused() {
        let text = of(&metadata("x86_64-unknown-linux-gnu").unwrap(), "weir").unwrap();
        checked(&text).unwrap();
        for (right, wrong, said) in [
            (r#""type": "library""#, r#""type": "crate""#, "'crate' is not one of"),
            (r#""specVersion""#, r#""specVersoin""#, "'specVersion' is a required property"),
            (r#""version": 1,"#, r#""version": 1, "made": "by hand","#, "'made' was unexpected"),
            (r#""expression": "MIT""#, r#""expression": "as is""#, "is no SPDX expression"),
            (r#""pkg:cargo/hyper@"#, r#""pkg:Cargo/hyper@"#, "is written pkg:cargo/hyper@"),
            (r#""bom-ref": "pkg:cargo/hyper@"#, r#""bom-ref": "pkg:cargo/hyp@"#, "is no component"),
        ] {
            assert!(text.contains(right), "{right}");
            let error = checked(&text.replace(right, wrong)).unwrap_err().to_string();
            assert!(error.contains(said), "{wrong}: {error}");
        }
    }

    #[test]
    fn the_bill_names_what_is_linked_and_nothing_twice() {
        let metadata = metadata("x86_64-unknown-linux-gnu").unwrap();
        let text = of(&metadata, "weir").unwrap();
        assert_eq!(text, of(&metadata, "weir").unwrap());
        let bill: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&bill["bomFormat"], &bill["specVersion"], &bill["version"]),
            (&"CycloneDX".into(), &"1.5".into(), &1.into())
        );
        let components = bill["components"].as_array().unwrap();
        let refs: BTreeSet<&str> = components.iter().map(|c| c["bom-ref"].as_str().unwrap()).collect();
        assert_eq!(refs.len(), components.len());
        for component in components {
            assert!(component["type"] == "library" && component["name"].is_string(), "{component}");
            assert!(component["licenses"][0]["expression"].is_string(), "{component} has no licence");
        }
        let own = bill["metadata"]["component"]["bom-ref"].as_str().unwrap();
        for line in bill["dependencies"].as_array().unwrap() {
            let named = line["dependsOn"].as_array().unwrap().iter().chain([&line["ref"]]);
            assert!(named.map(|r| r.as_str().unwrap()).all(|r| refs.contains(r) || r == own), "{line}");
        }
        let named = |name: &str| components.iter().any(|c| c["name"] == name);
        assert!(named("hyper") && named("weir-serving"));
        let of_windows = |c: &Value| c["name"].as_str().unwrap().starts_with("windows");
        assert!(!components.iter().any(of_windows), "they are no part of a binary for Linux");
        assert!(!named("proptest") && !named("weir-testbed") && !named("xtask"), "tests are no part of it");
    }
}
