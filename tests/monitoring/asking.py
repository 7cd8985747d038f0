"""Questions to Prometheus and requests to Weir, by the standard library."""

import http.client
import json
import math
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor


def ask(prometheus, path, **parameters):
    """One question to Prometheus's API. A wrong expression is an error with its reason."""
    query = urllib.parse.urlencode(parameters)
    try:
        with urllib.request.urlopen(f"{prometheus}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{parameters}: {error.read().decode()}") from error


def values(prometheus, promql):
    """What an instant query finds, as numbers."""
    found = ask(prometheus, "query", query=promql)
    samples = [found["result"]] if found["resultType"] == "scalar" else [s["value"] for s in found["result"]]
    return [float(value) for _, value in samples]


def has_data(prometheus, promql):
    """Whether there is a sample that is a number."""
    return any(not math.isnan(value) for value in values(prometheus, promql))


class Watcher:
    """Asks expressions again and again, until each had data once: a fault shows while it lasts."""

    def __init__(self, prometheus, expressions):
        self.prometheus, self.open = prometheus, dict(expressions)
        self.ended, self.failure = threading.Event(), None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while self.open and not self.ended.wait(0.3):
                for name, promql in list(self.open.items()):
                    if has_data(self.prometheus, promql):
                        del self.open[name]
        except Exception as error:  # shown by the one who waits
            self.failure = error

    def wait(self, seconds, wanted=None):
        """Until all, or those `wanted`, had data; what had none in time."""
        deadline = time.monotonic() + seconds
        while (left := self.left(wanted)) and time.monotonic() < deadline and not self.failure:
            time.sleep(0.1)
        if self.failure:
            raise self.failure
        return left

    def left(self, wanted=None):
        return {name: promql for name, promql in list(self.open.items()) if wanted is None or name in wanted}

    def end(self):
        self.ended.set()
        self.thread.join(30)


def post(server, path, body, headers=None, timeout=10):
    """The status of an answer; 0 where there was none."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data, {"Content-Type": "application/json"} | (headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            answer.read()
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            error.read()
        return error.code
    except (OSError, http.client.HTTPException):
        return 0


def together(count, work):
    """`work(i)` by so many threads at once; the results."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


def post_slowly(server, path, body, pause_s):
    """A caller whose body comes so much after its head."""
    data = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: weir\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        connection.sendall(f"{head}Connection: close\r\n\r\n".encode())
        time.sleep(pause_s)  # this is the caller's slowness, not a wait for anything
        connection.sendall(data)
        while connection.recv(4096):
            pass


def flood(server, pings=2000):
    """A connection with nothing but HTTP/2 PING frames (RFC 9113, section 6.7), until it is closed."""
    ping = bytes([0, 0, 8, 6, 0, 0, 0, 0, 0]) + b"weirping"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        try:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]) + ping * pings)
            while connection.recv(65536):
                pass
        except OSError:
            pass


class RedisCommands:
    """The few commands that damaging entries takes (RESP 2)."""

    def __init__(self, server):
        self.connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        self.file = self.connection.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.connection.close()

    def __call__(self, *words):
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        message = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)
        self.connection.sendall(message)
        return self.reply()

    def reply(self):
        kind, line = self.file.read(1), self.file.readline()[:-2]
        if kind == b"$":
            return None if line == b"-1" else self.file.read(int(line) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(line))]
        if kind == b"-":
            raise AssertionError(line.decode())
        return line

    def damage(self):
        """Flips a bit in the last byte of every string; how many there were."""
        damaged = 0
        for key in self("KEYS", "*"):
            if self("TYPE", key) == b"string" and (value := self("GET", key)):
                self("SET", key, value[:-1] + bytes([value[-1] ^ 1]), "KEEPTTL")
                damaged += 1
        return damaged
