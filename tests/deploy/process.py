"""Real processes, told what the manifests tell containers."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from manifests import ROOT, WEIR, clean_environment

PATIENCE = 120


@contextlib.contextmanager
def weir(args, env, cwd):
    """A server; yields (process, port of the public listener). Ends it if the test did not."""
    process = subprocess.Popen([WEIR, *args], env=clean_environment() | env, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    reader = None
    try:
        told = []
        for line in process.stderr:
            told.append(line)
            found = re.search(r"listening on http://[\d.]+:(\d+)", line)
            if found and not re.search(r"metrics|gRPC|admin", line):
                break
        else:
            raise AssertionError("it ended: " + "".join(told))
        # It logs on, and must not wait for a reader.
        reader = threading.Thread(target=process.stderr.read)
        reader.start()
        yield process, int(found[1])
    finally:
        process.kill()
        process.wait()
        if reader:
            reader.join()
        process.stderr.close()


def ask(port, path, body=None, headers=()):
    """(status, headers, JSON or text) of one request."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json", **dict(headers)})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            status, got, text = answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        status, got, text = error.code, error.headers, error.read()
    try:
        return status, got, json.loads(text)
    except ValueError:
        return status, got, text.decode()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def program(name):
    found = shutil.which(name, path=f"{ROOT / '.cache/servers/bin'}:{os.environ['PATH']}")
    assert found, f"{name} is not there: run `make servers`"
    return found


@contextlib.contextmanager
def redis(config, users):
    """A Redis with the manifests' configuration, its paths and its address replaced; yields its port."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        Path(folder, "users.acl").write_text(users)
        for old, new in (("/run/secrets/weir-redis", folder), ("dir /data", f"dir {folder}"), ("bind * -::*", f"bind 127.0.0.1\nport {port}")):
            assert old in config, old
            config = config.replace(old, new)
        Path(folder, "redis.conf").write_text(config)
        process = subprocess.Popen([program("redis-server"), f"{folder}/redis.conf"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            told = []
            for line in process.stdout:
                told.append(line)
                if "Ready to accept connections" in line:
                    break
            else:
                raise AssertionError("".join(told))
            yield port
        finally:
            process.kill()
            process.communicate()


def redis_reply(port, command):
    """First line of what Redis answers to an inline command, as redis-cli would send it without a login."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(f"{command}\r\n".encode())
        return connection.makefile().readline().strip()


def until(condition, what):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.01)
