//! The host or the container: descriptors, cores, memory, clock, user.

use std::{fs, path::Path, time::SystemTime};

use rustix::process::{Resource, geteuid, getrlimit};

use super::finding::Finding;
use crate::{
    environment,
    host::{Limits, machine_memory},
    settings::Settings,
};

/// Descriptors that a server holds beside its connections: listeners, files, Redis, models' servers.
const OTHER_FILES: u64 = 64;
/// 2025-01-01 and 2100-01-01 UTC, in seconds of Unix time: a clock outside of it was never set.
const SANE: std::ops::Range<u64> = 1_735_689_600..4_102_444_800;

/// What was seen of the host.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// Most open files that the process may allow itself; `None` for any number.
    pub(super) files: Option<u64>,
    pub(super) limits: Limits,
    /// Memory of the machine.
    pub(super) memory: Option<u64>,
    /// Seconds of Unix time; `None` before 1970.
    pub(super) unix_seconds: Option<u64>,
    pub(super) root: bool,
    pub(super) read_only: bool,
    /// Whose container it is in, if it is in one.
    pub(super) container: Option<&'static str>,
}

impl Facts {
    /// What there is to see, by way of `/proc`.
    pub(super) fn gather(limits: Limits, now: SystemTime) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let since = now.duration_since(SystemTime::UNIX_EPOCH).ok();
        Self {
            files: getrlimit(Resource::Nofile).maximum,
            limits,
            memory: machine_memory(),
            unix_seconds: since.map(|since| since.as_secs()),
            root: geteuid().is_root(),
            read_only: is_read_only(&read("/proc/self/mountinfo")),
            container: container(&read("/proc/self/cgroup")),
        }
    }
}

/// Whether `/proc/self/mountinfo` says that `/` may not be written.
fn is_read_only(mountinfo: &str) -> bool {
    let mut options = mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(4);
        (fields.next()? == "/").then(|| fields.next())?
    });
    // The last mount over a place is the one that counts.
    options.next_back().is_some_and(|options| options.split(',').any(|option| option == "ro"))
}

fn container(cgroup: &str) -> Option<&'static str> {
    let there = |path: &str| Path::new(path).exists();
    if environment::in_kubernetes() || cgroup.contains("kubepods") {
        Some("Kubernetes")
    } else if there("/.dockerenv") || cgroup.contains("/docker") {
        Some("Docker")
    } else if there("/run/.containerenv") {
        Some("Podman")
    } else {
        None
    }
}

/// What is found of a host, whatever is to be served there.
pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    vec![place(facts), user(facts.root), root(facts.read_only), clock(facts.unix_seconds)]
}

/// Whether it is enough to serve `settings`; memory is weighed by itself.
pub(super) fn suffices(facts: &Facts, settings: &Settings) -> Vec<Finding> {
    vec![
        files(facts.files, settings.server.max_connections as u64),
        cores(&facts.limits, settings.server.threads),
    ]
}

fn place(facts: &Facts) -> Finding {
    Finding::ok("place", facts.container.map_or("no container".into(), |of| format!("a container of {of}")))
}

fn user(root: bool) -> Finding {
    match root {
        false => Finding::ok("user", "not root"),
        true => Finding::warn(
            "user",
            "runs as root",
            "run it as another user: `runAsNonRoot: true` in Kubernetes, `User=` in systemd",
        ),
    }
}

fn root(read_only: bool) -> Finding {
    let found =
        if read_only { "read-only, which is fine" } else { "writable; Weir needs no more than to read it" };
    Finding::ok("root filesystem", found)
}

fn files(limit: Option<u64>, connections: u64) -> Finding {
    let wanted = connections + OTHER_FILES;
    match limit {
        Some(limit) if limit < wanted => Finding::warn(
            "descriptors",
            format!("{limit} open files are allowed, max_connections = {connections} needs {wanted}"),
            format!(
                "raise the hard limit (LimitNOFILE={wanted}, ulimit -Hn) or lower server.max_connections"
            ),
        ),
        limit => {
            let limit = limit.map_or("any number of".into(), |limit| limit.to_string());
            Finding::ok("descriptors", format!("{limit} open files are allowed, {wanted} may be needed"))
        }
    }
}

fn cores(limits: &Limits, threads: usize) -> Finding {
    let quota = limits.quota.map_or(String::new(), |quota| format!(", {quota} by the cgroup's quota"));
    let found = format!("{threads} threads for {} cores{quota}", limits.cores);
    if threads > limits.threads() {
        let most = limits.threads();
        let fix = format!("set server.threads to {most}, or to 0 to follow the cgroup, or raise the limit");
        return Finding::warn("cores", found, fix);
    }
    Finding::ok("cores", found)
}

fn clock(unix_seconds: Option<u64>) -> Finding {
    match unix_seconds {
        Some(now) if SANE.contains(&now) => Finding::ok("clock", "set"),
        _ => Finding::fail(
            "clock",
            "the wall clock is not set: it is not between 2025 and 2100",
            "set it (timedatectl set-ntp true): times of events, entries and certificates go by it",
        ),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::finding::Level, *};

    pub(in super::super) fn facts() -> Facts {
        Facts {
            files: Some(20_000),
            limits: Limits { cores: 4, quota: Some(2.0), memory: Some(4 << 30) },
            memory: Some(8 << 30),
            unix_seconds: Some(SANE.start),
            root: false,
            read_only: true,
            container: None,
        }
    }

    fn all(facts: &Facts, settings: &Settings) -> Vec<Finding> {
        let findings = [check(facts), suffices(facts, settings)].concat();
        assert!(
            findings.iter().all(|f| (f.level == Level::Ok) == f.fix.is_empty()),
            "a fix for each: {findings:?}"
        );
        findings
    }

    fn settings() -> Settings {
        let mut settings = Settings::default();
        settings.server.threads = 2;
        settings
    }

    #[test]
    fn a_host_that_has_enough_is_fine() {
        assert!(all(&facts(), &settings()).iter().all(|finding| finding.level == Level::Ok));
    }

    #[test]
    fn each_lack_is_found() {
        let (good, settings) = (facts(), settings());
        let of = |facts: Facts, check| {
            all(&facts, &settings).into_iter().find(|finding| finding.check == check).unwrap().level
        };
        assert_eq!(of(Facts { files: Some(1_024), ..good.clone() }, "descriptors"), Level::Warn);
        assert_eq!(of(Facts { files: None, ..good.clone() }, "descriptors"), Level::Ok);
        let limits = Limits { quota: Some(1.0), ..good.limits };
        assert_eq!(of(Facts { limits, ..good.clone() }, "cores"), Level::Warn);
        assert_eq!(of(Facts { unix_seconds: Some(0), ..good.clone() }, "clock"), Level::Fail);
        assert_eq!(of(Facts { unix_seconds: None, ..good.clone() }, "clock"), Level::Fail);
        assert_eq!(of(Facts { root: true, ..good }, "user"), Level::Warn);
    }

    #[test]
    fn proc_is_read() {
        assert!(is_read_only("1 0 0:1 / / rw - overlay o rw\n2 0 0:1 / / ro,relatime - overlay o rw\n"));
        assert!(!is_read_only("1 0 0:1 / / rw - overlay o rw\n2 1 0:2 / /etc ro - tmpfs t rw\n"));
        assert_eq!(container("0::/kubepods/pod1\n"), Some("Kubernetes"));
    }
}
