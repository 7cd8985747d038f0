//! Files: secrets, where state and traces are written.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access, statvfs};
use weir_clients::{S3Config, redis::RedisConfig};
use weir_config::ByteSize;
use weir_features::StoreKind;
use weir_serving::FetchConfig;

use super::finding::{Finding, Level};
use crate::{environment, output::size, settings::Settings, telemetry};

/// Free room that a disk should have at least.
const LEAST_FREE: u64 = 64 << 20;

/// Looks at every file that the settings name but models. `awaits`: there are archives to be fetched.
pub(super) fn look(settings: &Settings, awaits: bool) -> Vec<Finding> {
    let mut findings: Vec<_> = named(settings)
        .iter()
        .flat_map(|(key, path)| held(key, path, secret(key, path, read(path))))
        .collect();
    if settings.state.store == StoreKind::Embedded {
        findings.push(written("state store", Path::new(&settings.state.path), settings.state.budget));
    }
    if let Some(trace) = &settings.server.trace_file {
        findings.push(written("trace file", trace, settings.server.trace_max));
    }
    if !settings.archive.is_empty() {
        findings.push(cache(&settings.fetch, awaits));
    }
    findings
}

/// Files of secrets and certificates, each with its key.
fn named(settings: &Settings) -> Vec<(String, PathBuf)> {
    let Settings { mut redis, mut s3, fetch, telemetry, archive, .. } = settings.clone();
    let redis = redis.iter_mut().flat_map(RedisConfig::files_mut);
    let redis = redis.map(|(key, path)| (format!("redis.{key}"), path.clone()));
    let s3 = s3.iter_mut().flat_map(S3Config::files_mut);
    let s3 = s3.map(|(key, path)| (format!("s3.{key}"), path.clone()));
    let tokens = archive.into_iter().enumerate();
    let tokens = tokens.filter_map(|(i, one)| Some((format!("archive[{i}].token_file"), one.token_file?)));
    let single = [
        ("fetch.ca_file", fetch.ca_file),
        ("telemetry.ca_file", telemetry.ca_file),
        ("telemetry.headers_file", telemetry.headers_file),
    ];
    let single = single.into_iter().filter_map(|(key, path)| Some((key.to_owned(), path?)));
    redis.chain(s3).chain(tokens).chain(single).collect()
}

/// The folder of archives, which is made where it is not there yet.
fn cache(fetch: &FetchConfig, awaits: bool) -> Finding {
    let folder = fetch.cache.clone().unwrap_or_else(environment::model_cache);
    // Where it is still to be made, the nearest folder above it has to be written.
    let there = folder.ancestors().find(|above| above.exists()).unwrap_or(Path::new("."));
    let may = access(there, Access::WRITE_OK).map_err(io::Error::from);
    let free = statvfs(there).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    let finding = room("archive cache", &folder, may, free, fetch.max_archive.0);
    // One that holds all that is wanted may be a volume that nobody writes to.
    if awaits || finding.level != Level::Fail { finding } else { Finding { level: Level::Warn, ..finding } }
}

/// The permission bits of a file that can be read.
fn read(path: &Path) -> io::Result<u32> {
    fs::File::open(path)?.metadata().map(|meta| meta.permissions().mode() & 0o777)
}

fn secret(key: &str, path: &Path, mode: io::Result<u32>) -> Finding {
    let public = key.ends_with(".ca_file") || key.ends_with(".cert_file");
    match mode {
        Err(error) => Finding::fail(
            "secrets",
            format!("{key}: {} cannot be read: {error}", path.display()),
            "mount the file, and let this user (or its group: fsGroup in Kubernetes) read it",
        ),
        Ok(mode) if mode & 0o004 != 0 && !public => Finding::warn(
            "secrets",
            format!("{key}: {} may be read by everybody (mode {mode:03o})", path.display()),
            "chmod o-r; in Kubernetes `defaultMode: 0440` with an fsGroup",
        ),
        Ok(_) => Finding::ok("secrets", format!("{key}: {} can be read", path.display())),
    }
}

/// What is found of a file, and of what it holds where it can be read and that is telemetry's.
fn held(key: &str, path: &Path, readable: Finding) -> Vec<Finding> {
    if readable.level == Level::Fail {
        return vec![readable];
    }
    let wrong = telemetry::files::wrong(key, path).into_iter();
    let wrong = wrong.map(|one| Finding::fail("secrets", format!("{key}: {}", one.found), one.fix));
    let wrong: Vec<_> = wrong.collect();
    match (wrong.is_empty(), readable.level) {
        // That it can be read is no comfort then.
        (false, Level::Ok) => wrong,
        _ => [vec![readable], wrong].concat(),
    }
}

/// A place that is written to, which needs `wanted` bytes in the long run.
fn written(check: &'static str, path: &Path, wanted: ByteSize) -> Finding {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let place = if path.exists() { path } else { &folder };
    let may = access(place, Access::WRITE_OK).map_err(io::Error::from);
    let free = statvfs(&folder).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    room(check, path, may, free, wanted.0)
}

fn room(check: &'static str, path: &Path, may: io::Result<()>, free: Option<u64>, wanted: u64) -> Finding {
    let path = path.display();
    if let Err(error) = may {
        let fix = "make the folder, mount a volume that this user may write, or name another path";
        return Finding::fail(check, format!("{path} cannot be written: {error}"), fix);
    }
    let Some(free) = free else { return Finding::ok(check, format!("{path} can be written")) };
    let found = format!("{path} can be written, {} are free", size(free));
    let fix = format!("make room: {} may be written", size(wanted));
    match free {
        free if free < LEAST_FREE => Finding::fail(check, found, fix),
        free if free < wanted => Finding::warn(check, found, fix),
        _ => Finding::ok(check, found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_for_their_reader_alone() {
        let of = |key, mode: io::Result<u32>| secret(key, Path::new("s"), mode).level;
        assert_eq!(of("redis.password_file", Ok(0o440)), Level::Ok);
        assert_eq!(of("redis.password_file", Ok(0o644)), Level::Warn);
        assert_eq!(of("fetch.ca_file", Ok(0o644)), Level::Ok, "a certificate is no secret");
        assert_eq!(of("redis.key_file", Err(io::ErrorKind::PermissionDenied.into())), Level::Fail);
    }

    #[test]
    fn what_a_file_of_telemetry_holds_is_looked_at_where_it_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name)
        };
        let levels = |key: &str, path: &Path, mode: io::Result<u32>| {
            held(key, path, secret(key, path, mode))
                .into_iter()
                .map(|finding| finding.level)
                .collect::<Vec<_>>()
        };
        let (good, bad) = (at("good", "x-key: 1\n"), at("bad", "x\nhost: y\n"));
        assert_eq!(levels("telemetry.headers_file", &good, Ok(0o440)), [Level::Ok]);
        assert_eq!(
            levels("telemetry.headers_file", &bad, Ok(0o440)),
            [Level::Fail, Level::Fail],
            "one a line"
        );
        assert_eq!(
            levels("telemetry.headers_file", &bad, Ok(0o644)),
            [Level::Warn, Level::Fail, Level::Fail]
        );
        let denied = Err(io::ErrorKind::PermissionDenied.into());
        assert_eq!(levels("telemetry.headers_file", &bad, denied), [Level::Fail], "told once");
        assert_eq!(levels("telemetry.ca_file", &good, Ok(0o644)), [Level::Fail]);
        assert_eq!(levels("redis.password_file", &bad, Ok(0o440)), [Level::Ok], "a password may be anything");
    }

    #[test]
    fn a_place_to_write_needs_leave_and_room() {
        let of = |may, free| room("state store", Path::new("s"), may, free, 256 << 20).level;
        assert_eq!(of(Ok(()), Some(1 << 30)), Level::Ok);
        assert_eq!(of(Ok(()), Some(128 << 20)), Level::Warn);
        assert_eq!(of(Ok(()), Some(1 << 20)), Level::Fail);
        assert_eq!(of(Err(io::ErrorKind::ReadOnlyFilesystem.into()), Some(1 << 30)), Level::Fail);
    }

    #[test]
    fn what_is_on_disk_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        fs::write(&file, "x").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).unwrap();
        assert_eq!(read(&file).unwrap(), 0o604);
        assert_ne!(written("state store", &folder.path().join("s.redb"), ByteSize(1)).level, Level::Warn);
        let nowhere = written("state store", &folder.path().join("no/such/s.redb"), ByteSize(1));
        assert_eq!(nowhere.level, Level::Fail);
    }
}
