"""Loads through proxies, and the table of what became of them."""

import os
from contextlib import contextmanager
from dataclasses import dataclass, field

from processes import Load

LONG = os.environ.get("ROLLING") == "long"
HEADER = ("scenario", "way", "sent", "answered", "refused", "failed", "retried", "p50 ms", "p99 ms")

TABLE = []


@dataclass
class Way:
    """A load's way to the replicas: its proxy, its face, and what it is called."""

    proxy: object
    rate: float | None
    face: str = "typed"
    label: str = ""
    flags: tuple = ()
    result: dict = field(default_factory=dict)
    retried: int = 0
    upstream: int = 0

    @property
    def name(self):
        return f"{self.proxy.name}, {self.label or {'typed': 'JSON', 'grpc': 'gRPC'}[self.face]}"

    @property
    def outcomes(self):
        return self.result["outcomes"]

    @property
    def failed(self):
        """Requests that were neither answered rightly nor refused politely."""
        return self.result["requests"] - self.outcomes["ok"] - self.outcomes["refused"]

    def row(self, scenario):
        latency = self.result["latency"]
        return (scenario, self.name, self.result["requests"], self.outcomes["ok"], self.outcomes["refused"],
                self.failed, self.retried, f"{latency['p50_ms']:.2f}", f"{latency['p99_ms']:.2f}")


@contextmanager
def traffic(place, scenario, ways, duration=None, model="housing"):
    """Loads on all `ways` while the body runs (or for `duration`), then their rows in the table. A proxy's
    retries are counted for all of its ways together, and stand in the row of its first."""
    proxies = list({id(way.proxy): way.proxy for way in ways}.values())
    before = {id(p): (p.retries(), p.sent()) for p in proxies}
    loads = [Load(place, way.proxy.url, way.rate, way.face, duration or "10m", way.flags, model) for way in ways]
    try:
        yield
        for way, load in zip(ways, loads):
            way.result = load.finish(end=duration is None)
    finally:
        for load in loads:
            if load.child.poll() is None:
                load.child.kill()
                load.child.wait()
    for proxy in proxies:
        first = next(way for way in ways if way.proxy is proxy)
        retries, sent = before[id(proxy)]
        first.retried, first.upstream = proxy.retries() - retries, proxy.sent() - sent
    TABLE.extend(way.row(scenario) for way in ways)
    for way in ways:
        print("|", " | ".join(map(str, way.row(scenario))), "|", way.result["failures"] or "", flush=True)


def markdown():
    """The table of all loads so far."""
    lines = [HEADER, ["---"] * 2 + ["---:"] * 7, *TABLE]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
