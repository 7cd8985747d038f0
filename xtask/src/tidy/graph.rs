//! The crates of the workspace and what each depends on directly.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, MetadataCommand};

use crate::repo;

/// One crate of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Crate {
    /// Its name.
    pub(crate) name: String,
    /// Its `Cargo.toml`, from the root.
    pub(crate) manifest: String,
    /// Direct dependencies of every kind (normal, build, dev), by package name, sorted.
    pub(crate) dependencies: Vec<String>,
    /// Those that tests alone have not: what the crate itself is built with.
    pub(crate) shipped: Vec<String>,
}

/// Asks cargo.
///
/// # Errors
/// `cargo metadata` fails, for example because a manifest is broken.
pub(crate) fn workspace() -> Result<Vec<Crate>> {
    let metadata = MetadataCommand::new()
        .current_dir(repo::root())
        .no_deps()
        .exec()
        .context("cargo metadata, which tidy reads the crates from")?;
    Ok(metadata.packages.iter().map(from_package).collect())
}

fn from_package(package: &cargo_metadata::Package) -> Crate {
    let manifest = package.manifest_path.as_std_path();
    let manifest = manifest.strip_prefix(repo::root()).unwrap_or(manifest);
    Crate {
        name: package.name.to_string(),
        manifest: manifest.to_string_lossy().into_owned(),
        dependencies: names(package, |_| true),
        shipped: names(package, |kind| kind != DependencyKind::Development),
    }
}

fn names(package: &cargo_metadata::Package, wanted: impl Fn(DependencyKind) -> bool) -> Vec<String> {
    let found = package.dependencies.iter().filter(|d| wanted(d.kind)).map(|d| d.name.clone());
    found.collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
pub(crate) fn example(name: &str, dependencies: &[&str]) -> Crate {
    let dependencies: Vec<String> = dependencies.iter().map(|d| (*d).to_owned()).collect();
    let manifest = format!("crates/{name}/Cargo.toml");
    Crate { name: name.to_owned(), manifest, shipped: dependencies.clone(), dependencies }
}
