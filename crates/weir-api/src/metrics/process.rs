//! The process's own figures, under the names that Prometheus's client libraries share
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>).

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use super::write;

/// Says what memory the process may take; nothing until it is known that there is a limit.
#[derive(Debug)]
pub(super) struct MemoryLimit(pub(super) Arc<OnceLock<u64>>);

impl Collector for MemoryLimit {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(bytes) = self.0.get() else { return Ok(()) };
        let text = "Memory that the cgroup allows; absent where it sets no limit";
        write::gauge(&mut encoder, "weir_memory_limit_bytes", text, *bytes as f64)
    }
}

/// Reads the system when somebody scrapes; says nothing of what the system does not tell.
#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        write::seconds(
            &mut encoder,
            "process_cpu",
            "Time of all cores that the process used",
            cpu_seconds(),
        )?;
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kib = |key| status_value(&status, key).map(|kib| kib * 1024.0);
        let gauges = [
            ("process_resident_memory_bytes", "Resident memory", kib("VmRSS:")),
            ("process_virtual_memory_bytes", "Virtual memory", kib("VmSize:")),
            ("process_virtual_memory_max_bytes", "Virtual memory that there may be", limit(Resource::As)),
            ("process_open_fds", "Open file descriptors", open_descriptors()),
            ("process_max_fds", "File descriptors that may be open", limit(Resource::Nofile)),
            ("process_threads", "Threads", status_value(&status, "Threads:")),
            (
                "process_start_time_seconds",
                "When the process started, in seconds since 1970 began",
                start_time(),
            ),
        ];
        for (name, help, value) in gauges {
            value.map_or(Ok(()), |value| write::gauge(&mut encoder, name, help, value))?;
        }
        Ok(())
    }
}

/// User and system time of all threads. `/proc/self/stat` has the same in hundredths.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn status_value(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find(|l| l.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The limit in force; nothing where there is none.
fn limit(resource: Resource) -> Option<f64> {
    getrlimit(resource).current.map(|limit| limit as f64)
}

fn open_descriptors() -> Option<f64> {
    // The listing holds the descriptor that lists.
    Some((std::fs::read_dir("/proc/self/fd").ok()?.count() as f64 - 1.0).max(0.0))
}

/// Ticks after the machine's start (`proc_pid_stat(5)`, field 22), and when that was.
fn start_time() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in brackets, may hold anything; what follows is field 3.
    let ticks: f64 = stat.rsplit_once(") ")?.1.split(' ').nth(22 - 3)?.parse().ok()?;
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + ticks / rustix::param::clock_ticks_per_second() as f64)
}
