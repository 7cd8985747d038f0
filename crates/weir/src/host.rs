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

/// Memory that a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resident {
    /// Bytes now.
    pub(crate) now: u64,
    /// Bytes when they were most.
    pub(crate) most: u64,
}

impl Resident {
    /// That of this process; `None` where the system does not tell.
    pub(crate) fn of_this_process() -> Option<Self> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        Some(Self { now: kib(&status, "VmRSS:")?, most: kib(&status, "VmHWM:")? })
    }
}

/// Bytes of a line such as `VmRSS:  1024 kB` of a file in `/proc`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Memory of the machine, bytes.
pub(crate) fn machine_memory() -> Option<u64> {
    kib(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")
}

/// Bytes that can still be had beside everything that runs: in the machine, and in every control group
/// around this process that has a limit. Files that were read and lie in memory can be dropped, so they
/// do not count as used.
pub(crate) fn free_memory(root: &Path) -> Option<u64> {
    let machine = fs::read_to_string(root.join("proc/meminfo")).ok();
    let machine = machine.and_then(|text| kib(&text, "MemAvailable:"));
    machine.into_iter().chain(cgroup::bounds(root).free).min()
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
        let cgroup::Bounds { quota, memory, .. } = cgroup::bounds(root);
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
    fn proc_is_read() {
        assert_eq!(kib("MemTotal:       16384 kB\nMemFree: 1 kB\n", "MemTotal:"), Some(16_384 << 10));
        let Resident { now, most } = Resident::of_this_process().unwrap();
        assert!(0 < now && now <= most, "{now} {most}");
    }

    #[test]
    fn what_is_free_is_what_the_tightest_around_it_leaves() {
        let mount = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        let mut files = vec![
            ("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable:    1048576 kB\n"),
            ("proc/self/mountinfo", mount),
            ("proc/self/cgroup", "0::/pod\n"),
            ("sys/fs/cgroup/pod/memory.max", "335544320\n"),
            ("sys/fs/cgroup/pod/memory.current", "230686720\n"),
            ("sys/fs/cgroup/pod/memory.stat", "anon 200000000\ninactive_file 10485760\nactive_file 1\n"),
        ];
        let free = |files: &[(&str, &str)]| free_memory(cgroup::tree(files).path());
        assert_eq!(free(&files), Some(110 << 20), "320 MiB, of which 220 are used and 10 of those can go");
        files[0].1 = "MemAvailable: 1024 kB\n";
        assert_eq!(free(&files), Some(1 << 20), "the machine has less");
        files[0].1 = "";
        files[3].1 = "max\n";
        assert_eq!(free(&files), None, "nothing limits it, and nothing tells");
    }

    #[test]
    fn this_machine_has_cores() {
        let limits = Limits::of_this_process();
        assert!(limits.threads() >= 1 && limits.threads() <= limits.cores, "{limits:?}");
    }
}
