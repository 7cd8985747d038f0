#!/usr/bin/env python3
"""Runs the processes of deploy/docker/compose.yaml natively, where images of others cannot be pulled:
Weir, Redis and Prometheus, from the same configuration files, on free ports.

    scripts/stack.py                          the housing demo, until Ctrl-C
    scripts/stack.py --replicas 2 MODEL …     other models, two replicas

Grafana is in no Debian package: its dashboards are not shown here. Their PromQL is run by tests/monitoring,
which starts its servers with this file. Programs come from .cache/servers (`make servers`) or PATH;
Weir from WEIR_BINARY, target/release or target/debug.
"""

import argparse
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A debug build that loads several models on a busy machine.
PATIENCE_S = 60
SCRAPE = "scrape_interval: 15s"
EVALUATION = "evaluation_interval: 15s"


def program(name):
    """The unpacked program, else the one on PATH."""
    unpacked = ROOT / ".cache/servers/bin" / name
    found = str(unpacked) if unpacked.exists() else shutil.which(name)
    if not found:
        raise SystemExit(f"{name} is not there: run `make servers`")
    return found


def weir_binary():
    """WEIR_BINARY, else what was built last."""
    if named := os.environ.get("WEIR_BINARY"):
        return named
    built = [path for path in (ROOT / "target/release/weir", ROOT / "target/debug/weir") if path.exists()]
    if not built:
        raise SystemExit("Weir is not built: run `cargo build --release`, or name a binary in WEIR_BINARY")
    return str(max(built, key=lambda path: path.stat().st_mtime))


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def answers(url):
    """Whether a GET is answered 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def listens(port):
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        return True
    except OSError:
        return False


def die_with_parent():
    """Linux: the kernel ends the child when we are killed and can end nothing ourselves."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Server:
    """A process with a log file and a port."""

    def __init__(self, name, command, port, log, env=None, before=None):
        self.name, self.command, self.port, self.log = name, command, port, log
        self.env, self.before, self.process = env, before, None
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        def prepare():
            die_with_parent()
            if self.before:
                self.before()

        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=prepare,
                # Ctrl-C is for us: we end them in order.
                start_new_session=True, env=os.environ | (self.env or {}),
            )

    def wait(self, ready):
        """Until `ready()`. Ends with the log where the process ends or takes too long."""
        deadline = time.monotonic() + PATIENCE_S
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{self.name} does not start:\n{self.log.read_text()}")
            time.sleep(0.05)
        return self

    def send(self, number):
        self.process.send_signal(number)

    def stop(self, number=signal.SIGTERM):
        """Ends it, by force if it does not obey."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Stack:
    """All processes, in one folder. A context manager: what was started is ended."""

    def __init__(self, interval="15s"):
        self.folder = Path(tempfile.mkdtemp(prefix="weir-stack-"))
        self.servers, self.targets, self.interval = [], [], interval
        self.redis = self.prometheus = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in reversed(self.servers):
            server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, name, command, port, ready, **more):
        server = Server(name, command, port, self.folder / f"{name}.log", **more)
        self.servers.append(server)
        return server.wait(ready)

    def start_redis(self):
        port = free_port()
        command = [program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "",
                   "--dir", str(self.folder)]
        self.redis = self.run("redis", command, port, lambda: listens(port))
        return self.redis

    def start_weir(self, name, models, env=None, scraped=True, before=None):
        """A replica by the configuration of the image, with what compose.yaml sets by the environment."""
        port = free_port()
        settings = {"WEIR_SERVER__ADMIN_LISTEN": "127.0.0.1:0", "WEIR_CACHE__ALL": "true",
                    "WEIR_STATE__PATH": str(self.folder / f"{name}.redb"), "NO_COLOR": "1"}
        if self.redis:
            settings["WEIR_REDIS__URL"] = f"redis://127.0.0.1:{self.redis.port}"
        command = [weir_binary(), "serve", "--config", str(ROOT / "deploy/docker/weir.toml"),
                   "--listen", f"127.0.0.1:{port}", *map(str, models)]
        ready = f"http://127.0.0.1:{port}/readyz"
        server = self.run(name, command, port, lambda: answers(ready), env=settings | (env or {}), before=before)
        if scraped:
            self.targets.append(f"127.0.0.1:{port}")
            self.write_targets()
        return server

    def write_targets(self):
        """Prometheus looks at the file again when it changes."""
        folder = self.folder / "prometheus/targets"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "weir.new").write_text(json.dumps([{"targets": self.targets}]))
        (folder / "weir.new").rename(folder / "weir.json")

    def start_prometheus(self):
        """With a copy of deploy/prometheus in which targets and intervals are ours."""
        folder, source = self.folder / "prometheus", ROOT / "deploy/prometheus"
        folder.mkdir(exist_ok=True)
        shutil.copytree(source / "rules", folder / "rules")
        text = (source / "prometheus.yml").read_text()
        assert text.count(SCRAPE) == text.count(EVALUATION) == 1, "prometheus.yml has other intervals"
        text = text.replace(SCRAPE, f"scrape_interval: {self.interval}")
        (folder / "prometheus.yml").write_text(text.replace(EVALUATION, f"evaluation_interval: {self.interval}"))
        self.write_targets()
        # Alertmanager is none of compose.yaml's either; Debian's does not run unpacked.
        (folder / "targets/alertmanager.json").write_text("[]")
        port = free_port()
        command = [program("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                   f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage"]
        self.prometheus = self.run("prometheus", command, port, lambda: answers(f"http://127.0.0.1:{port}/-/ready"))
        return self.prometheus


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=1, help="how many Weirs (default 1)")
    parser.add_argument("--seconds", type=float, help="end after so long instead of at Ctrl-C")
    parser.add_argument("models", nargs="*", default=[ROOT / "examples/models/housing"])
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Stack() as stack:
        stack.start_redis()
        for number in range(arguments.replicas):
            stack.start_weir(f"weir-{number}", arguments.models)
        stack.start_prometheus()
        for server in stack.servers:
            print(f"{server.name:<14}{server.url}", flush=True)
        print("Grafana is not among them: it cannot be had here. Ctrl-C ends all.", flush=True)
        try:
            threading.Event().wait(arguments.seconds)
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
