//! What the host, or the container, lets this process have.

mod cgroup;

use std::{fs, path::Path, thread};

/// Cores and memory that this process may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits {
    /// Cores that it may run on (`Cpus_allowed_list`, which `taskset` and cpusets set).
    pub(crate) cores: usize,
    /// Cores' worth of time that the cgroup gives it, fractions included; `None` for all.
    pub(crate) quota: Option<f64>,
    /// Bytes that the cgroup lets it have; `None` for all.
    pub(crate) memory: Option<u64>,
}

impl Limits {
    /// Those of this process.
    pub(crate) fn of_this_process() -> Self {
        Self::read(Path::new("/"))
    }

    /// Those that `/proc` and `/sys` below `root` tell of. What cannot be read limits nothing.
    pub(crate) fn read(root: &Path) -> Self {
        let status = fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
        let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let cores = cores.and_then(count_list).filter(|cores| *cores > 0);
        let cores = cores.unwrap_or_else(|| thread::available_parallelism().map_or(1, Into::into));
        let cgroup::Bounds { quota, memory } = cgroup::bounds(root);
        Self { cores, quota, memory }
    }

    /// Threads that compute at once: the quota rounded to the nearest whole number, one at least
    /// and one a core at most. Rounded down, half of a quota of 1.5 would lie idle; rounded up, 1.1
    /// would be throttled for almost half of each period whenever both threads are busy.
    pub(crate) fn threads(&self) -> usize {
        self.quota.map_or(self.cores, |quota| (quota.round() as usize).clamp(1, self.cores))
    }
}

/// How many numbers a list such as `0-3,8` holds.
fn count_list(list: &str) -> Option<usize> {
    list.trim().split(',').try_fold(0_usize, |sum, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_counted() {
        assert_eq!(count_list("\t0-3,8\n"), Some(5));
        assert_eq!(count_list("0"), Some(1));
        assert_eq!(["", "3-1", "x"].map(count_list), [None; 3]);
    }

    #[test]
    fn fractional_quotas_are_rounded_to_the_nearest() {
        let threads = |quota| Limits { cores: 4, quota, memory: None }.threads();
        let of = [0.1, 0.5, 1.1, 1.5, 2.4, 3.9, 64.0].map(|quota| threads(Some(quota)));
        assert_eq!(of, [1, 1, 1, 2, 2, 4, 4]);
        assert_eq!(threads(None), 4);
    }

    #[test]
    fn this_machine_has_cores() {
        let limits = Limits::of_this_process();
        assert!(limits.threads() >= 1 && limits.threads() <= limits.cores, "{limits:?}");
    }
}
