//! Control groups of both versions: <https://docs.kernel.org/admin-guide/cgroup-v2.html>,
//! <https://docs.kernel.org/admin-guide/cgroup-v1/index.html>.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What a control group allows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Bounds {
    /// Cores' worth of time.
    pub(super) quota: Option<f64>,
    /// Bytes.
    pub(super) memory: Option<u64>,
    /// Bytes of them that nothing uses, or that could be had at once: files that were read and lie unused.
    pub(super) free: Option<u64>,
}

/// A number that is no limit: version 1 writes the largest one that pages allow.
const NO_LIMIT: u64 = 1 << 60;
/// Deepest nesting of groups that is followed.
const MAX_DEPTH: usize = 64;

impl Bounds {
    fn tighter(self, other: Self) -> Self {
        let less = |a: f64, b: f64| a.min(b);
        Self {
            quota: self.quota.into_iter().chain(other.quota).reduce(less),
            memory: self.memory.into_iter().chain(other.memory).min(),
            free: self.free.into_iter().chain(other.free).min(),
        }
    }
}

/// A mounted hierarchy.
struct Mount {
    /// The group that its top is.
    root: String,
    point: String,
    /// Its controllers in version 1; `None` for version 2.
    controllers: Option<String>,
}

/// The tightest bounds of this process's groups and those around them, as `/proc` and `/sys` below
/// `root` tell of them.
pub(super) fn bounds(root: &Path) -> Bounds {
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_default();
    let (mounts, groups) = (read("proc/self/mountinfo"), read("proc/self/cgroup"));
    let mounts: Vec<Mount> = mounts.lines().filter_map(mount).collect();
    let folders = groups.lines().flat_map(|group| folders(group, &mounts));
    folders.fold(Bounds::default(), |bounds, (top, folder)| {
        bounds.tighter(upwards(&below(root, &top), &below(root, &folder)))
    })
}

/// `/a/b` below `root`.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// One line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)), if it is of control groups.
fn mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, point) = (left.next()?.to_owned(), left.next()?.to_owned());
    let mut right = right.split(' ');
    let controllers = match right.next()? {
        "cgroup2" => None,
        "cgroup" => Some(right.nth(1)?.to_owned()),
        _ => return None,
    };
    Some(Mount { root, point, controllers })
}

/// Where the group of one line of `/proc/self/cgroup` is mounted: the top of the hierarchy, and the
/// group's folder.
fn folders(line: &str, mounts: &[Mount]) -> Vec<(PathBuf, PathBuf)> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { return Vec::new() };
    let holds = |mount: &&Mount| match &mount.controllers {
        None => controllers.is_empty(),
        Some(mounted) => controllers.split(',').any(|c| !c.is_empty() && mounted.split(',').any(|m| m == c)),
    };
    let folder = |mount: &Mount| {
        let top = PathBuf::from(&mount.point);
        // A container that sees the host's path, and only its own group mounted, has that at the top.
        let inside = Path::new(group).strip_prefix(&mount.root).ok().filter(|p| !p.starts_with(".."));
        (top.clone(), inside.map_or(top.clone(), |inside| top.join(inside)))
    };
    mounts.iter().filter(holds).map(folder).collect()
}

/// The tightest bounds between `folder` and `top`.
fn upwards(top: &Path, folder: &Path) -> Bounds {
    let start = if folder.is_dir() { folder } else { top };
    let way = start.ancestors().take(MAX_DEPTH).take_while(|folder| folder.starts_with(top));
    way.fold(Bounds::default(), |bounds, folder| bounds.tighter(of(folder)))
}

fn of(folder: &Path) -> Bounds {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<f64>().ok();
    let quota = || {
        let text = read("cpu.max")?;
        let (quota, period) = text.trim().split_once(' ')?;
        cores(quota.parse().ok()?, period.parse().ok()?)
    };
    let quota_v1 = || cores(number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?);
    let memory = |name: &str| read(name)?.trim().parse::<u64>().ok().filter(|bytes| *bytes < NO_LIMIT);
    let used = |name: &str, files: &str| {
        let files =
            read("memory.stat")?.lines().find_map(|line| line.strip_prefix(files)?.trim().parse().ok());
        Some(memory(name)?.saturating_sub(files.unwrap_or(0)))
    };
    let free = || {
        let (limit, used) = match memory("memory.max") {
            Some(limit) => (limit, used("memory.current", "inactive_file ")),
            None => (memory("memory.limit_in_bytes")?, used("memory.usage_in_bytes", "total_inactive_file ")),
        };
        Some(limit.saturating_sub(used?))
    };
    Bounds {
        free: free(),
        quota: quota().or_else(quota_v1),
        memory: memory("memory.max").or_else(|| memory("memory.limit_in_bytes")),
    }
}

fn cores(quota: f64, period: f64) -> Option<f64> {
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// A tree with `files`.
#[cfg(test)]
#[allow(clippy::unwrap_used)] // it is a test's
pub(super) fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let file = root.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> (Option<f64>, Option<u64>) {
        let Bounds { quota, memory, .. } = bounds(tree(files).path());
        (quota, memory)
    }

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw,nsdelegate\n";

    #[test]
    fn a_pod_of_version_2_sees_its_group_at_the_top() {
        let files = [
            ("proc/self/mountinfo", V2),
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/memory.max", "536870912\n"),
        ];
        assert_eq!(read(&files), (Some(1.5), Some(512 << 20)));
    }

    #[test]
    fn the_tightest_group_on_the_way_up_counts() {
        let files = [
            ("proc/self/mountinfo", V2),
            ("proc/self/cgroup", "0::/kubepods/pod1/box\n"),
            ("sys/fs/cgroup/kubepods/pod1/box/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/kubepods/pod1/box/memory.max", "max\n"),
            ("sys/fs/cgroup/kubepods/pod1/cpu.max", "50000 100000\n"),
            ("sys/fs/cgroup/kubepods/pod1/memory.max", "1073741824\n"),
            ("sys/fs/cgroup/kubepods/memory.max", "2147483648\n"),
        ];
        assert_eq!(read(&files), (Some(0.5), Some(1 << 30)));
    }

    #[test]
    fn version_1_has_a_hierarchy_a_controller() {
        let files = [
            (
                "proc/self/mountinfo",
                "31 23 0:27 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n\
                 32 23 0:28 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
            ),
            ("proc/self/cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "134217728\n"),
            ("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 33554432\n"),
        ];
        assert_eq!(read(&files), (Some(2.5), Some(256 << 20)));
        assert_eq!(bounds(tree(&files).path()).free, Some((256 - 128 + 32) << 20));
    }

    #[test]
    fn no_limit_is_none_however_it_is_written() {
        let v1 = [
            (
                "proc/self/mountinfo",
                "31 23 0:27 / /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n32 23 0:28 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
            ),
            ("proc/self/cgroup", "4:memory:/x\n3:cpu:/x\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(read(&v1), (None, None));
        assert_eq!(read(&[]), (None, None), "no control groups at all");
        let outside = [
            ("proc/self/mountinfo", V2),
            ("proc/self/cgroup", "0::/../../elsewhere\n"),
            ("sys/fs/cgroup/memory.max", "1000\n"),
        ];
        assert_eq!(read(&outside), (None, Some(1000)), "a group outside of what is mounted");
    }
}
