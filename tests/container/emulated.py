"""What must be true of the arm64 image, run by QEMU's user emulation: it translates the program, not a machine.

Docker would need the kernel to know the emulator (binfmt_misc); a changed root needs nothing.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import image
import running
from bases import ROOT, run
from docker import await_that

EMULATOR = Path("/usr/bin/qemu-aarch64-static")
TARGET = "aarch64-unknown-linux-gnu"


class Emulated:
    """The image's own program and libraries, as its user, in a root of its files; alive within `with`."""

    def __init__(self, docker, name, models):
        self.root = docker.folder / "arm64"
        shutil.rmtree(self.root, ignore_errors=True)
        with tarfile.open(image.export(docker, name)) as archive:
            archive.extractall(self.root, filter="fully_trusted")
        shutil.copy(EMULATOR, self.root / "emulator")
        for model in models:
            shutil.copytree(model.resolve(), self.root / "models" / model.name)
        self.log = docker.folder / "arm64.log"
        self.port = free_port()

    def __enter__(self):
        with open(self.log, "w") as log:
            self.process = self.weir("serve", "--config", "/etc/weir/weir.toml", stdout=log, stderr=log)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.root)

    def weir(self, *arguments, **options):
        """Starts `weir …`. /proc, which the emulator and Weir read, is mounted for this process alone."""
        script = f'mount --bind /proc "$0/proc" && exec chroot --userspec={image.UID}:{image.UID} "$0" "$@"'
        command = ["unshare", "--mount", "sh", "-c", script, self.root, "/emulator", "/usr/local/bin/weir"]
        settings = {"WEIR_SERVER__LISTEN": f"127.0.0.1:{self.port}", "WEIR_SERVER__ADMIN_LISTEN": "127.0.0.1:0"}
        return subprocess.Popen([*command, *arguments], text=True, env={**os.environ, **settings}, **options)

    def ask(self, path, body=None):
        """Asks the server: status and body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def ready(self):
        assert self.process.poll() is None, self.log.read_text()
        return self.ask("/readyz")[0] == 200


def toolchain():
    """This machine's toolchain, of which the stand-in for the Rust image is made, has the standard library for arm64."""
    os.chdir(ROOT)
    run("rustup", "target", "add", TARGET)
    return "has arm64"


def free_port():
    """One that nothing listens on: here the network is the machine's own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers_and_leaves(docker, name, models):
    """It becomes ready, `weir health` agrees, golden rows are right, SIGTERM ends it with 0."""
    with Emulated(docker, name, models) as server:
        begun = time.monotonic()
        await_that("it is ready", server.ready, 120, server.log.read_text)
        took = time.monotonic() - begun
        health = server.weir("health", "--url", f"http://127.0.0.1:{server.port}", stdout=subprocess.PIPE)
        assert health.wait(60) == 0, health.stdout.read()
        asked = running.answers(server, models)
        os.kill(server.process.pid, signal.SIGTERM)
        code = server.process.wait(60)
        assert code == 0, server.log.read_text()
        return f"ready after {took:.1f} s, {asked} golden rows right, exit 0"


def configuration(docker, name):
    """It says what it is made for."""
    found = docker.inspect(name, "image")
    assert (found["Os"], found["Architecture"]) == ("linux", "arm64"), found
    return image.configuration(docker, name)
