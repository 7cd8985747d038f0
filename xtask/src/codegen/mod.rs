//! Rust for the `.proto` files, committed, so that building Weir needs no protoc.
//!
//! A build script was rejected: it would make every build, also `cargo install`, need
//! protoc, and nobody would see in a review what changed.

mod files;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, ensure};
use files::Generated;
use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use tempfile::TempDir;

use crate::{repo, say};

/// Where the `.proto` files are.
const SOURCES: &str = "crates/weir-api/proto";
/// Where what is made from them is: the server's own, and what a client needs too.
const OUTPUTS: [&str; 2] = ["crates/weir-api/src/grpc/generated", "crates/weir-codec/src/v2/generated"];
/// What a client of the Open Inference Protocol needs too.
const SHARED: &str = "inference.rs";
/// A Python with grpcio-tools, which bring protoc along.
const PYTHON: &str = ".cache/venvs/protoc/bin/python";
/// Every file, and the name of the Rust made from its package; none where another package
/// has the same messages.
const FILES: [(&str, Option<&str>); 5] = [
    ("inference/model_config.proto", Some("inference.rs")),
    ("inference/grpc_service.proto", Some("inference.rs")),
    ("grpc/health/v1/health.proto", Some("health.rs")),
    ("grpc/reflection/v1/reflection.proto", Some("reflection.rs")),
    ("grpc/reflection/v1alpha/reflection.proto", None),
];

/// Makes the files again: writes them, or with `check` says which differ.
///
/// # Errors
/// protoc or rustfmt is missing or fails.
pub(crate) fn command(check: bool) -> Result<ExitCode> {
    let (shared, own): (Vec<_>, Vec<_>) = generate()?.into_iter().partition(|file| file.name == SHARED);
    let mut good = true;
    for (folder, generated) in OUTPUTS.into_iter().zip([own, shared]) {
        good &= settle(folder, &generated, check)?;
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes the files of one folder, or says which differ; `false` if some do.
fn settle(folder: &str, generated: &[Generated], check: bool) -> Result<bool> {
    let output = repo::root().join(folder);
    if !check {
        files::write(&output, generated)?;
        say::note(format!("codegen: {} files in {folder}", generated.len()));
        return Ok(true);
    }
    let problems = files::differences(&output, generated)?;
    problems.iter().for_each(|name| {
        say::note(format!("{folder}/{name}: not what the .proto files say: run `cargo xtask codegen`"));
    });
    if problems.is_empty() {
        say::note(format!("codegen: {} files in {folder} are as the .proto files say", generated.len()));
    }
    Ok(problems.is_empty())
}

fn generate() -> Result<Vec<Generated>> {
    let place = TempDir::new()?;
    let described = describe(&place.path().join("descriptors.bin"))?;
    let mut generated = rust(place.path(), &described)?;
    let bytes = without_comments(described).encode_to_vec();
    generated.push(Generated { name: "descriptors.bin".into(), bytes });
    Ok(generated)
}

/// Has protoc read the files.
fn describe(to: &Path) -> Result<FileDescriptorSet> {
    let python = repo::root().join(PYTHON);
    ensure!(python.exists(), "{PYTHON} is not there: run `make venvs`");
    let mut protoc = Command::new(python);
    protoc.args(["-m", "grpc_tools.protoc", "--proto_path", SOURCES, "--include_source_info"]);
    protoc.arg("--descriptor_set_out").arg(to).args(FILES.map(|(file, _)| file)).current_dir(repo::root());
    let status = protoc.status().context("protoc cannot be started")?;
    ensure!(status.success(), "protoc refuses the files");
    Ok(FileDescriptorSet::decode(fs::read(to)?.as_slice())?)
}

/// Reflection needs no comments.
fn without_comments(mut described: FileDescriptorSet) -> FileDescriptorSet {
    described.file.iter_mut().for_each(|file| file.source_code_info = None);
    described
}

/// The Rust of each package that has a name for it.
fn rust(place: &Path, described: &FileDescriptorSet) -> Result<Vec<Generated>> {
    let named = |file: &&FileDescriptorProto| target(file.name()).is_some();
    let wanted = FileDescriptorSet { file: described.file.iter().filter(named).cloned().collect() };
    let mut config = prost_build::Config::new();
    // Contents of tensors are shared with the request's buffer, not copied; maps in an order
    // of their own would make answers differ from run to run.
    config.bytes(["."]).btree_map(["."]).out_dir(place);
    let packages: Vec<_> =
        wanted.file.iter().map(|f| (f.package().to_owned(), f.name().to_owned())).collect();
    config.compile_fds(wanted)?;
    let mut generated: Vec<Generated> = Vec::new();
    for (package, file) in packages {
        let Some(name) = target(&file) else { continue };
        if generated.iter().all(|g| g.name != name) {
            generated.push(formatted(&place.join(format!("{package}.rs")), name)?);
        }
    }
    Ok(generated)
}

fn target(file: &str) -> Option<&'static str> {
    FILES.iter().find(|(name, _)| *name == file).and_then(|(_, target)| *target)
}

/// One file with its header, in this workspace's own format.
fn formatted(made: &PathBuf, name: &str) -> Result<Generated> {
    let text = fs::read_to_string(made).with_context(|| format!("prost made no {}", made.display()))?;
    fs::write(made, format!("{}\n{text}", files::MARK))?;
    let config = repo::root().join("rustfmt.toml");
    let mut rustfmt = Command::new("rustfmt");
    rustfmt.args(["--edition", "2024", "--config-path"]).arg(config).arg(made);
    let status = rustfmt.status().context("rustfmt is not installed: rustup component add rustfmt")?;
    ensure!(status.success(), "rustfmt fails on {name}");
    Ok(Generated { name: name.to_owned(), bytes: fs::read(made)? })
}
