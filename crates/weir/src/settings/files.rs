//! From files, environment and flags to settings.

use std::{
    fmt, fs,
    io::Read,
    path::{Path, PathBuf},
};

use weir_clients::{S3Config, redis::RedisConfig};
use weir_config::{Layer, Loaded, MAX_BYTES, Origin, Override, Places, Problem, Source};

use super::{Settings, checks::impossible, defaults, lines};
use crate::{args::Sources, environment, host::Limits};

/// What is wrong with a configuration, every problem of it, one a line.
#[derive(Debug)]
pub(crate) struct Wrong(pub(crate) Vec<Problem>);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&lines(&self.0))
    }
}

impl std::error::Error for Wrong {}

/// Reads the files (nothing, without any), each laid over those before it, then the environment, then `flags`.
/// Relative paths of a file are relative to it; paths given as arguments replace them. Defaults
/// follow what the host has.
///
/// # Errors
/// Every problem, one a line.
pub(crate) fn load(sources: &Sources, flags: Vec<Override>) -> anyhow::Result<Loaded<Settings>> {
    load_within(sources, flags, &Limits::of_this_process())
}

/// [`load`] with defaults that follow `limits`.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_within(
    sources: &Sources,
    flags: Vec<Override>,
    limits: &Limits,
) -> anyhow::Result<Loaded<Settings>> {
    let (loaded, problems) = read_within(sources, flags, limits)?;
    if problems.is_empty() { Ok(loaded) } else { Err(Wrong(problems).into()) }
}

/// [`load_within`] for who goes on with settings that cannot work, to find what else is wrong: they come
/// with all that keeps them from it.
///
/// # Errors
/// What keeps the sources from being read as settings, one a line.
pub(crate) fn read_within(
    sources: &Sources,
    flags: Vec<Override>,
    limits: &Limits,
) -> anyhow::Result<(Loaded<Settings>, Vec<Problem>)> {
    let texts = read(&sources.config).map_err(Wrong)?;
    let layers: Vec<Layer<'_>> =
        sources.config.iter().zip(&texts).map(|(file, text)| Layer { file, text }).collect();
    let nothing = [Layer { file: Path::new("weir.toml"), text: "" }];
    let layers = if layers.is_empty() { &nothing[..] } else { &layers };
    let mut overrides = environment::otel();
    overrides.extend(environment::overrides()?);
    overrides.extend(flags);
    let mut loaded: Loaded<Settings> = weir_config::parse_layers(layers, &overrides).map_err(Wrong)?;
    defaults::follow(&mut loaded.value, &mut loaded.places, limits);
    place_paths(&mut loaded.value, &loaded.places);
    if !sources.paths.is_empty() {
        loaded.value.server.models = sources.paths.clone();
        loaded.places.lay("server.models", Origin::Override(Source::Argument("arguments".to_owned())));
    }
    let problems = impossible(&loaded.value, &loaded.places);
    Ok((loaded, problems))
}

/// The text of each file.
///
/// # Errors
/// Every file that cannot be read.
fn read(files: &[PathBuf]) -> Result<Vec<String>, Vec<Problem>> {
    let (mut texts, mut problems) = (Vec::new(), Vec::new());
    for file in files {
        match read_one(file) {
            Ok(text) => texts.push(text),
            Err(error) => problems.push(Problem::new(file, format!("cannot be read: {error}"))),
        }
    }
    if problems.is_empty() { Ok(texts) } else { Err(problems) }
}

fn read_one(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    // One byte more than is allowed, so that the one who parses it sees that it is too long.
    fs::File::open(file)?.take(MAX_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// Makes paths that a file names relative to that file. What the environment or a flag says is
/// relative to where its writer is.
fn place_paths(settings: &mut Settings, places: &Places) {
    let place = |key: &str, path: &mut PathBuf| {
        if let Origin::File { file, .. } = places.origin(key) {
            *path = file.parent().unwrap_or(Path::new("")).join(&*path);
        }
    };
    let Settings { server, telemetry, state, redis, fetch, s3, archive, .. } = settings;
    for (i, path) in server.models.iter_mut().enumerate() {
        place(&format!("server.models[{i}]"), path);
    }
    server.onnxruntime.iter_mut().for_each(|path| place("server.onnxruntime", path));
    server.trace_file.iter_mut().for_each(|path| place("server.trace_file", path));
    telemetry.ca_file.iter_mut().for_each(|path| place("telemetry.ca_file", path));
    telemetry.headers_file.iter_mut().for_each(|path| place("telemetry.headers_file", path));
    for (key, path) in redis.iter_mut().flat_map(RedisConfig::files_mut) {
        place(&format!("redis.{key}"), path);
    }
    for (key, path) in s3.iter_mut().flat_map(S3Config::files_mut) {
        place(&format!("s3.{key}"), path);
    }
    fetch.cache.iter_mut().for_each(|path| place("fetch.cache", path));
    fetch.ca_file.iter_mut().for_each(|path| place("fetch.ca_file", path));
    for (i, archive) in archive.iter_mut().enumerate() {
        archive.token_file.iter_mut().for_each(|path| place(&format!("archive[{i}].token_file"), path));
    }
    let mut path = PathBuf::from(&state.path);
    place("state.path", &mut path);
    state.path = path.to_string_lossy().into_owned();
}
