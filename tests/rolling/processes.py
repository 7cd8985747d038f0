"""Child processes: real replicas of Weir, Redis, and loads of `weir load`."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WEIR = os.environ.get("WEIR", str(ROOT / "target/debug/weir"))
SAMPLES = ROOT / "examples/models/housing/samples.jsonl"

# Longest wait for something that is bound to happen, on a machine that is busy with other tests.
PATIENCE_S = 120


def free_port():
    """A port below those that the system gives to outgoing connections: while a replica restarts, a
    proxy's own connection could take its place."""
    for _ in range(1000):
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port between 20000 and 32000")


def until(what, condition):
    """Polls until `condition` holds, and returns what it gave."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {PATIENCE_S} s")


def status(url):
    """The status of an answer, or None where there is none."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


class Process:
    """A program whose output goes to a file."""

    def __init__(self, command, log, **more):
        self.log = Path(log)
        with open(self.log, "ab") as out:
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **more)

    def signal(self, number):
        self.child.send_signal(number)

    def kill(self):
        self.child.kill()
        return self.child.wait(PATIENCE_S)

    def stop(self):
        """SIGTERM; the exit status."""
        self.child.terminate()
        return self.child.wait(PATIENCE_S)


class Weir:
    """One replica, at an address that it keeps when it starts again."""

    def __init__(self, place, name, settings="", models=None, version=None, extra=""):
        self.folder = Path(place) / name
        self.folder.mkdir(parents=True)
        self.name, self.port, self.process = name, free_port(), None
        if models is None:
            shutil.copytree(ROOT / "examples/models/housing", self.folder / "models/housing" / (version or "1"))
            models = ["models"]
        # What production sets; the rest are the defaults.
        text = (f"[server]\nmodels = {json.dumps(models)}\nlisten = \"127.0.0.1:{self.port}\"\n"
                f"request_timeout = \"10s\"\nheader_timeout = \"75s\"\n{settings}\n{extra}")
        (self.folder / "weir.toml").write_text(text)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def url(self, path):
        return f"http://{self.address}{path}"

    def start(self, ready=True):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WEIR")}
        command = [WEIR, "serve", "--config", "weir.toml"]
        self.process = Process(command, self.folder / "log", cwd=self.folder, env=environment)
        if ready:
            self.await_ready()
        return self

    def await_ready(self):
        def condition():
            assert self.process.child.poll() is None, f"{self.name} ended:\n{self.process.log.read_text()}"
            return status(self.url("/readyz")) == 200
        until(f"{self.name} is ready", condition)

    def restart(self):
        """SIGTERM, exit status 0, and a new one in its place."""
        code = self.process.stop()
        assert code == 0, f"{self.name} ended with {code}:\n{self.process.log.read_text()}"
        self.start()

    def metric(self, name, label=""):
        """The sum of a metric's samples whose labels contain `label`."""
        with urllib.request.urlopen(self.url("/metrics"), timeout=PATIENCE_S) as answer:
            text = answer.read().decode()
        lines = [line for line in text.splitlines() if re.match(rf"{name}[{{ ]", line) and label in line]
        return sum(float(line.split(" # ")[0].rsplit(" ", 1)[1]) for line in lines)

    def predictions(self):
        """Predictions of housing asked for, over any face."""
        return self.metric("weir_requests_total", 'model="housing"')

    def end(self):
        if self.process and self.process.child.poll() is None:
            self.process.signal(signal.SIGCONT)
            self.process.kill()


class Redis(Process):
    """A server that keeps nothing."""

    def __init__(self, place):
        self.port = free_port()
        program = ROOT / ".cache/servers/bin/redis-server"
        program = str(program) if program.exists() else shutil.which("redis-server")
        assert program, "there is no redis-server: run `make servers`"
        command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        super().__init__(command, Path(place) / "redis.log")

        def accepts():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0
        until("redis accepts", accepts)


class Load:
    """`weir load` until it is ended: open loop, or closed without a rate. Answers of typed JSON must be the
    golden ones; those of gRPC must be what the same bodies were answered before the load."""

    def __init__(self, place, url, rate, face="typed", duration="10m", flags=(), model="housing"):
        if model == "housing":
            check = ["--samples", str(SAMPLES)] if face == "typed" else ["--bodies", "50", "--check"]
        else:
            check = ["--bodies", "100"]
        self.out = Path(place) / f"load-{time.monotonic_ns()}.json"
        command = [WEIR, "load", url, model, "--json", "--face", face, "--duration", duration, "--timeout", "25s",
                   "--warmup", "0s", *([] if rate is None else ["--rate", str(rate)]), *check, *flags]
        self.errors = self.out.with_suffix(".log")
        with open(self.out, "wb") as out, open(self.errors, "wb") as errors:
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=errors)
        # It has asked once and says so: from here on it sends.
        until("the load begins", self.begun)

    def begun(self):
        told = self.errors.read_text()
        assert self.child.poll() is None, f"the load ended:\n{told}"
        return "POST /" in told

    def finish(self, end=True):
        """What was measured."""
        if end:
            self.child.send_signal(signal.SIGINT)
        self.child.wait(PATIENCE_S)
        text = self.out.read_text()
        assert text, f"the load says nothing:\n{self.errors.read_text()}"
        return json.loads(text)["measured"]
