"""The machine: what it is, and what a process has used of it."""

import datetime
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVER_CORE = 0
LOAD_CORE = 1
TICKS = os.sysconf("SC_CLK_TCK")


def note(text):
    print(text, file=sys.stderr, flush=True)


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def vector_extensions():
    """The ones that decide how fast a model can be; a name like 'AMD EPYC' does not say."""
    flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[-1].split("\n", 1)[0].split()
    wanted = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "amx_int8": "AMX"}
    return [name for flag, name in wanted.items() if flag in flags]


def describe():
    return {
        "processor": processor(),
        "vector_extensions": vector_extensions(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": os.uname().release,
    }


def commit():
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip() or "unknown"


def circumstances(options, load):
    """When, of what, on what and how a run measures."""
    return {"date": datetime.date.today().isoformat(), "commit": commit(), "machine": describe(), "load": load,
            "rounds": options.rounds, "seconds": options.seconds}


def require_two_cores():
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("bench: needs two cores, one for the server and one for the load generator")


def warn_if_busy():
    load = os.getloadavg()[0]
    if load > 0.7:
        note(f"bench: the machine is busy (load {load:.1f}); ratios hold better than absolute figures")
    return load


def require_wrk():
    """wrk, from Debian's package where it is missing and this is root."""
    if shutil.which("wrk"):
        return
    advice = "bench: wrk is not installed. Debian: apt-get install wrk; macOS has no taskset, use Linux"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        sys.exit(advice)
    note("installing wrk")
    install = ["apt-get", "install", "--yes", "--no-install-recommends", "wrk"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if subprocess.run(install, **quiet).returncode != 0:
        subprocess.run(["apt-get", "update"], **quiet)
        subprocess.run(install, **quiet)
    if not shutil.which("wrk"):
        sys.exit(advice)


def cpu_seconds(pid):
    """User and system time of all threads of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mb(pid):
    """Resident memory now, in MB of 10^6 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0
