"""A Docker daemon of the tests' own, and the command line to it.

Its images, layers and containers lie in a folder that is removed at the end, so a run leaves
nothing behind and meets nothing that somebody else left. It has neither a bridge nor rules of a
firewall: containers here have no network but their own loopback.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

DOCKERD = "/usr/sbin/dockerd"
# Some machines have another `docker` first on PATH, without BuildKit.
DOCKER = "/usr/bin/docker"
HARDENED = ["--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
            "--pids-limit", "200"]


def install(more):
    """Installs what is missing, and the packages of the programs in `more`, from Debian's or Ubuntu's packages."""
    wanted = {DOCKERD: "docker.io", DOCKER: "docker.io", "/usr/sbin/debootstrap": "debootstrap",
              "/usr/sbin/iptables": "iptables", "/usr/bin/nsenter": "util-linux", **more}
    missing = sorted({package for path, package in wanted.items() if not Path(path).exists()})
    if os.geteuid() != 0:
        sys.exit("tests/container needs root, for a Docker daemon of its own: sudo make test-container")
    if not missing:
        return
    if not shutil.which("apt-get"):
        sys.exit(f"tests/container needs {', '.join(missing)}, and there is no apt-get to install them with")
    quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
    subprocess.run(["apt-get", "update"], check=True, **quiet)
    subprocess.run(["apt-get", "install", "--yes", "--no-install-recommends", *missing], check=True, **quiet)


class Docker:
    """The daemon, alive within `with`."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.socket = self.folder / "docker.sock"
        self.environment = {**os.environ, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "1"}
        self.process = None

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = open(self.folder / "dockerd.log", "w")
        self.process = subprocess.Popen(
            [DOCKERD, "--iptables=false", "--ip6tables=false", "--bridge=none",
             "--host", self.environment["DOCKER_HOST"], "--data-root", self.folder / "data",
             "--exec-root", self.folder / "exec", "--pidfile", self.folder / "dockerd.pid"],
            stdout=self.log, stderr=self.log)
        await_that("the Docker daemon answers", lambda: self.run("version", check=False).returncode == 0, 30)
        return self

    def __exit__(self, *_):
        for container in self.run("ps", "--all", "--quiet").stdout.split():
            self.run("rm", "--force", container)
        self.process.terminate()
        self.process.wait(30)
        self.log.close()

    def run(self, *arguments, check=True, log=None):
        """Runs `docker …`; without `check`, who calls looks at the status."""
        command = [DOCKER, *map(str, arguments)]
        result = subprocess.run(command, env=self.environment, text=True, capture_output=True)
        if log:
            Path(log).write_text(result.stdout + result.stderr)
        if check and result.returncode:
            sys.exit(f"{' '.join(command)}\n{result.stdout}{result.stderr}")
        return result

    def inspect(self, name, kind="container"):
        """What Docker knows of a container or an image."""
        return json.loads(self.run("inspect", "--type", kind, name).stdout)[0]

    def start(self, image, *arguments, command=()):
        """Starts a hardened container."""
        return Container(self, self.run("run", "--detach", *HARDENED, *arguments, image, *command).stdout.strip())

    def once(self, image, *arguments, command=()):
        """Runs a hardened container to its end: status and both outputs."""
        return self.run("run", "--rm", *HARDENED, *arguments, image, *command, check=False)


class Container:
    """One container, removed at the end of `with`."""

    def __init__(self, docker, name):
        self.docker, self.name = docker, name

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.docker.run("rm", "--force", self.name)

    @property
    def state(self):
        return self.docker.inspect(self.name)["State"]

    @property
    def health(self):
        return self.state["Health"]["Status"]

    @property
    def logs(self):
        result = self.docker.run("logs", self.name)
        return result.stdout + result.stderr

    def status(self):
        """/proc/…/status of its process, as the host sees it."""
        lines = Path(f"/proc/{self.state['Pid']}/status").read_text().splitlines()
        return {key: value.split() for key, value in (line.split(":", 1) for line in lines)}

    def threads(self):
        """The names of its threads."""
        return [path.read_text().strip() for path in Path(f"/proc/{self.state['Pid']}/task").glob("*/comm")]

    def inside(self, *command):
        """The command line that runs a program of the host in the container's network."""
        return ["nsenter", "--target", str(self.state["Pid"]), "--net", *map(str, command)]

    def ask(self, path, body=None):
        """Asks the server over its loopback: status and body."""
        data = [] if body is None else ["--json", json.dumps(body)]
        result = subprocess.run(
            self.inside("curl", "--silent", "--show-error", "--max-time", "10", "--write-out", r"\n%{http_code}",
                        *data, f"http://127.0.0.1:8000{path}"), text=True, capture_output=True)
        assert result.returncode == 0, f"{path}: {result.stderr}\n{self.logs}"
        text, _, code = result.stdout.rpartition("\n")
        return int(code), text

    def await_healthy(self, seconds=60):
        """Waits until HEALTHCHECK says so, and returns how long that took."""
        begun = time.monotonic()
        await_that("the container is healthy", lambda: self.health == "healthy", seconds, lambda: self.logs)
        return time.monotonic() - begun

    def await_end(self, seconds):
        """Waits until it has ended, and returns its status."""
        await_that("the container ends", lambda: not self.state["Running"], seconds, lambda: self.logs)
        return self.state["ExitCode"]


def await_that(what, happens, seconds, explain=lambda: ""):
    """Asks until it is so; past the time, the run fails with the explanation."""
    until = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds} s: {what}\n{explain()}")
        time.sleep(0.05)
