//! The crates of the workspace and what each depends on directly.

use anyhow::{Context, Result};
use cargo_metadata::MetadataCommand;

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
}

/// Asks cargo. Tests are held to the same edges as the code: a dev-dependency that
/// points up is a design problem too.
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
    let mut dependencies: Vec<String> = package.dependencies.iter().map(|d| d.name.clone()).collect();
    dependencies.sort();
    dependencies.dedup();
    let manifest = package.manifest_path.as_std_path();
    let manifest = manifest.strip_prefix(repo::root()).unwrap_or(manifest);
    Crate { name: package.name.to_string(), manifest: manifest.to_string_lossy().into_owned(), dependencies }
}

#[cfg(test)]
pub(crate) fn example(name: &str, dependencies: &[&str]) -> Crate {
    Crate {
        name: name.to_owned(),
        manifest: format!("crates/{name}/Cargo.toml"),
        dependencies: dependencies.iter().map(|d| (*d).to_owned()).collect(),
    }
}
