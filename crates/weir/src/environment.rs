//! The process's environment, read here and nowhere else.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use weir_config::{Key, Override, Source};

/// What the names of our variables begin with.
const PREFIX: &str = "WEIR_";

/// Overrides of the configuration: `WEIR_SERVER__LISTEN=…`.
///
/// # Errors
/// The first that is no text.
pub(crate) fn overrides() -> anyhow::Result<Vec<Override>> {
    let ours = env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()));
    let text = |(name, value): (OsString, OsString)| match (name.to_str(), value.to_str()) {
        (Some(name), Some(value)) => Ok((name.to_owned(), value.to_owned())),
        _ => Err(anyhow!("environment variable {}: name and value must be UTF-8", name.to_string_lossy())),
    };
    Ok(weir_config::environment(PREFIX, ours.map(text).collect::<anyhow::Result<Vec<_>>>()?))
}

/// A sentence for each variable that looks like an override of one of `keys` and is none. What it says may be a
/// secret and is not in it.
pub(crate) fn misspelt(keys: &[Key]) -> Vec<String> {
    let names: Vec<String> = env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    let found = weir_config::misspelt(PREFIX, names.iter().map(String::as_str), keys);
    let told = |(name, meant)| {
        format!(
            "environment variable {name} is read by nobody: two underscores stand between a table and its \
             key, as in {meant}"
        )
    };
    found.into_iter().map(told).collect()
}

/// OpenTelemetry's own variables
/// (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>), as the
/// settings that they stand for. Empty is unset there.
pub(crate) fn otel() -> Vec<Override> {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.endpoint"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "telemetry.protocol"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "telemetry.ca_file"),
        ("OTEL_SERVICE_NAME", "telemetry.service_name"),
        ("OTEL_RESOURCE_ATTRIBUTES", "telemetry.resource"),
    ];
    let said = variables.into_iter().filter_map(|(name, key)| Some((name, key, text(name)?)));
    let ours = |key, value| if key == "telemetry.protocol" { protocol(value) } else { value };
    said.map(|(name, key, value)| Override::new(Source::Variable(name.to_owned()), key, ours(key, value)))
        .collect()
}

/// OpenTelemetry's names of protocols as ours. Also who asks for JSON is sent protobuf, which receivers of OTLP over
/// HTTP prefer: a variable that a platform sets for every pod should not keep one from starting, and what a
/// receiver refuses is logged and counted.
fn protocol(name: String) -> String {
    match name.as_str() {
        "http/protobuf" | "http/json" => "http".to_owned(),
        _ => name,
    }
}

/// Headers for telemetry, which may be secrets: no setting, so that nothing shows them.
pub(crate) fn otlp_headers() -> Option<String> {
    text("OTEL_EXPORTER_OTLP_HEADERS")
}

fn text(name: &str) -> Option<String> {
    variable(name)?.into_string().ok().filter(|value| !value.is_empty())
}

/// The ONNX Runtime library that `WEIR_ONNXRUNTIME` names.
pub(crate) fn onnxruntime() -> Option<PathBuf> {
    variable("WEIR_ONNXRUNTIME").map(PathBuf::from)
}

/// Where fetched models are kept where the configuration does not say: in the user's cache
/// (<https://specifications.freedesktop.org/basedir-spec/latest/>), for a service without a home in
/// /var/lib.
pub(crate) fn model_cache() -> PathBuf {
    let absolute = |path: &PathBuf| path.is_absolute();
    let cache = variable("XDG_CACHE_HOME").map(PathBuf::from).filter(absolute);
    let home = || variable("HOME").map(PathBuf::from).filter(|home| home.is_absolute() && home.is_dir());
    let cache = cache.or_else(|| Some(home()?.join(".cache")));
    cache.map_or_else(|| "/var/lib/weir/models".into(), |cache| cache.join("weir/models"))
}

/// Keys of an object store, by the names that all its tools read.
pub(crate) fn s3_keys() -> Option<weir_clients::S3Keys> {
    let text = |name| variable(name)?.into_string().ok().filter(|value| !value.is_empty());
    let (id, secret) = (text("AWS_ACCESS_KEY_ID")?, text("AWS_SECRET_ACCESS_KEY")?);
    Some(weir_clients::S3Keys { id, secret, token: text("AWS_SESSION_TOKEN") })
}

/// The log filter of `RUST_LOG`.
pub(crate) fn log_filter() -> Option<String> {
    variable("RUST_LOG")?.into_string().ok()
}

/// Whether Kubernetes started us, which tells every pod where its API is.
pub(crate) fn in_kubernetes() -> bool {
    variable("KUBERNETES_SERVICE_HOST").is_some()
}

/// Whether the user asked for no colour (<https://no-color.org>).
pub(crate) fn no_color() -> bool {
    variable("NO_COLOR").is_some_and(|v| !v.is_empty())
}

/// Folders where pip puts packages: of the active virtual environment, the user, the
/// system. No Python is started to ask: it may be absent, and is slow.
pub(crate) fn site_packages() -> Vec<PathBuf> {
    let roots = [
        variable("VIRTUAL_ENV").map(PathBuf::from),
        variable("CONDA_PREFIX").map(PathBuf::from),
        variable("HOME").map(|home| Path::new(&home).join(".local")),
        Some("/usr/local".into()),
        Some("/usr".into()),
    ];
    roots.into_iter().flatten().flat_map(|root| python_folders(&root.join("lib"))).collect()
}

fn python_folders(lib: &Path) -> Vec<PathBuf> {
    let Ok(entries) = lib.read_dir() else { return Vec::new() };
    let mut pythons: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().and_then(OsStr::to_str).is_some_and(|n| n.starts_with("python3")))
        .collect();
    // The latest first, in a stable order.
    pythons.sort_unstable_by(|a, b| b.cmp(a));
    pythons
        .iter()
        .flat_map(|p| [p.join("site-packages"), p.join("dist-packages")])
        .filter(|p| p.is_dir())
        .collect()
}

#[allow(clippy::disallowed_methods)] // the ban points here: this is where the binary reads it
fn variable(name: &str) -> Option<std::ffi::OsString> {
    env::var_os(name)
}
