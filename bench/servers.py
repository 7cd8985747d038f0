"""Starting, asking and stopping the servers that are compared, each pinned to one core."""

import functools
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from machine import ROOT, SERVER_CORE, cpu_seconds, note, rss_mb

WORK = ROOT / ".cache/bench"
PEERS = ROOT / ".cache/venvs/peers"
PEER_REQUIREMENTS = ROOT / "bench/peers/requirements.txt"
START_TIMEOUT_S = 60
# Names a binary to measure instead of building one: an earlier one, for a before and after.
OTHER_BINARY = "WEIR_BINARY"


class Server:
    """One running server."""

    def __init__(self, name, command, environment=None):
        self.name = name
        self.port = free_port()
        command = [word.replace("{port}", str(self.port)) for word in command]
        self.log = WORK / f"{name.replace(' ', '-')}.log"
        self.begun = time.perf_counter()
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                ["taskset", "--cpu-list", str(SERVER_CORE), *command],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **(environment or {}), "OMP_NUM_THREADS": "1"})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(self, path, body, headers=None):
        """The status and the raw answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", path, body, headers or {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def first_answer_s(self, path, body):
        """Seconds from the start of the process to its first answer."""
        while time.perf_counter() - self.begun < START_TIMEOUT_S:
            if self.process.poll() is not None:
                break
            try:
                status, answer = self.ask(path, body)
            except OSError:
                time.sleep(0.0005)
                continue
            if status == 200:
                return time.perf_counter() - self.begun
            if status != 503:
                sys.exit(f"bench: {self.name} answered {status} on {path}: {answer[:300]!r}")
        sys.exit(f"bench: {self.name} did not start; it said:\n{self.log.read_text()[-2000:]}")

    def metrics(self):
        """The text of /metrics."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def cpu_seconds(self):
        return cpu_seconds(self.process.pid)

    def rss_mb(self):
        return rss_mb(self.process.pid)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def build_weir():
    if OTHER_BINARY in os.environ:
        return
    note("building weir (profile dist: fat LTO, the first time takes some minutes)")
    command = ["cargo", "build", "--quiet", "--profile", "dist", "--package", "weir"]
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        sys.exit("bench: the build failed; cargo says why above")


@functools.cache
def h2_load():
    """bench/h2, built: the generator for HTTP/2 and for a given rate."""
    manifest = ROOT / "bench/h2/Cargo.toml"
    target = ROOT / ".cache/bench/h2"
    command = ["cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", manifest, "--target-dir", target]
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        sys.exit("bench: the load generator's build failed; cargo says why above")
    return target / "release/h2-load"


@functools.cache
def weir_binary():
    """Where cargo built it, wherever the user's configuration puts that."""
    if OTHER_BINARY in os.environ:
        return Path(os.environ[OTHER_BINARY])
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    metadata = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return Path(json.loads(metadata)["target_directory"]) / "dist/weir"


def make_environment(folder, requirements, content):
    """A Python environment, made anew when its requirements change."""
    stamp = folder / "requirements.txt"
    if stamp.exists() and stamp.read_bytes() == requirements.read_bytes():
        return
    note(f"installing {content} into {folder.relative_to(ROOT)}")
    shutil.rmtree(folder, ignore_errors=True)
    pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
           "--requirement", requirements]
    for command in [[sys.executable, "-m", "venv", folder], pip]:
        if subprocess.run(command).returncode != 0:
            sys.exit("bench: the environment could not be made; see above")
    shutil.copy(requirements, stamp)


def make_peer_environment():
    make_environment(PEERS, PEER_REQUIREMENTS, "FastAPI, Pydantic and onnxruntime")


def peer_library():
    """The ONNX Runtime library that the peer uses, so that both run the same."""
    return next(PEERS.glob("lib/python*/site-packages/onnxruntime/capi/libonnxruntime.so.*"))


def peer(model):
    """FastAPI + Pydantic + onnxruntime with one model, as uvicorn runs it best."""
    command = [str(PEERS / "bin/python"), "-m", "uvicorn", "fastapi_app:app", "--app-dir", "bench/peers",
               "--port", "{port}", "--loop", "uvloop", "--http", "httptools",
               "--no-access-log", "--log-level", "warning"]
    return Server("FastAPI + onnxruntime", command, {"PEER_MODELS": model, "PEER_ROOT": str(ROOT)})


def weir(config, name="Weir"):
    return Server(name, [str(weir_binary()), "serve", "--config", str(config), "--listen", "127.0.0.1:{port}"])


def write_config(name, model, routes, cached=False):
    """A `weir.toml`. `routes` maps a path to the rest of its table, as text. Bodies come again and
    again, so that answers are kept only where that is what is measured."""
    lines = ["[server]", f"models = [{json.dumps(str(model))}]", "", "[cache]",
             "all = true" if cached else "enabled = false"]
    for path, table in routes.items():
        lines += ["", "[[route]]", f"path = {json.dumps(path)}", *table]
    file = WORK / f"{name}.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


def sentiment_folder(engine):
    """A copy of the sentiment model that names its engine."""
    source, folder = ROOT / ".cache/sentiment", WORK / f"sentiment-{engine}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    manifest = folder / "model.toml"
    manifest.write_text(f'engine = "{engine}"\n' + manifest.read_text())
    return folder
