"""What is sent, what must come back, and one measured stretch of it."""

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Callable

from machine import LOAD_CORE, ROOT
from servers import WORK

BODIES = 200
JSON = {"content-type": "application/json"}


def numbers(answer):
    """Every number of a JSON document, in order."""
    if isinstance(answer, dict):
        return [n for value in answer.values() for n in numbers(value)]
    if isinstance(answer, list):
        return [n for value in answer for n in numbers(value)]
    return [answer] if isinstance(answer, (int, float)) and not isinstance(answer, bool) else []


def numbers_of_json(raw):
    return numbers(json.loads(raw))


def write_bodies(path, bodies):
    """Each body as a line with its length, its bytes and a line feed."""
    path.write_bytes(b"".join(b"%d\n%s\n" % (len(body), body) for body in bodies))


def read_bodies(path):
    """What `write_bodies` wrote."""
    rest = path.read_bytes()
    while rest:
        length, _, rest = rest.partition(b"\n")
        yield rest[:int(length)]
        rest = rest[int(length) + 1:]


@dataclass
class Workload:
    """Bodies that are sent in turn, and the numbers that each answer must hold."""

    name: str
    title: str
    path: str
    bodies: list
    expected: list
    tolerance: float
    concurrency: int
    headers: dict = field(default_factory=lambda: dict(JSON))
    # The numbers of a raw answer, in the order of those expected.
    read: Callable = numbers_of_json

    def file(self):
        """The bodies as the generators read them."""
        path = WORK / f"{self.name}.bodies"
        write_bodies(path, [body.encode() if isinstance(body, str) else body for body in self.bodies])
        return path

    def answers(self, server, path):
        """The status and the raw answer of each body, asked once."""
        return [server.ask(path, body, self.headers) for body in self.bodies]

    def generator(self, port, path, seconds):
        """The command that sends the bodies and prints one line of figures."""
        headers = [f"{name}: {value}" for name, value in self.headers.items()]
        return ["wrk", "--threads", "1", "--connections", str(self.concurrency), "--duration", f"{seconds}s",
                "--timeout", "10s", "--script", str(ROOT / "bench/rotate.lua"), f"http://127.0.0.1:{port}{path}",
                "--", str(self.file()), *headers]


@dataclass
class Contestant:
    """One server's way of answering a workload, and what was measured of it."""

    name: str
    server: object
    path: str
    stretches: list = field(default_factory=list)
    # Its own, where contestants say the same in different ways.
    workload: Workload = None

    def median(self, key):
        return statistics.median(stretch[key] for stretch in self.stretches)


def read_samples(model):
    text = (ROOT / f"examples/models/{model}/samples.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def one_row():
    rows = read_samples("housing")[:BODIES]
    return Workload("housing-1", "housing, 1 row", "/lab/predict",
                    [json.dumps(r["input"]) for r in rows], [[r["prediction"]] for r in rows], 1e-6, 16)


def rotated(count):
    """The samples of each body."""
    samples = read_samples("housing")
    # Every start is another one, and 37 shares no factor with 500: 200 different bodies.
    return [[samples[(37 * i + k) % len(samples)] for k in range(count)] for i in range(BODIES)]


def many_rows(count=32):
    chosen = rotated(count)
    return Workload(f"housing-{count}", f"housing, {count} rows", "/lab/bulk-predict",
                    [json.dumps({"houses": [r["input"] for r in rows]}) for rows in chosen],
                    [[r["prediction"] for r in rows] for rows in chosen], 1e-6, 16)


def one_sentence(concurrency):
    short = [s for s in read_samples("sentiment") if 0 < len(s["input"]["text"]) <= 120]
    return Workload(f"sentiment-c{concurrency}", "sentiment, 1 sentence", "/project/predict",
                    [json.dumps({"text": [s["input"]["text"]]}) for s in short],
                    [[score["score"] for score in s["prediction"]] for s in short],
                    max(s.get("tolerance", 1e-5) for s in short), concurrency)


def check(workload, server, path):
    """Asks every body once; a wrong answer ends the bench. Returns the raw answers."""
    answers = workload.answers(server, path)
    for body, expected, (status, raw) in zip(workload.bodies, workload.expected, answers, strict=True):
        found = workload.read(raw) if status == 200 else []
        near = len(found) == len(expected) and all(
            abs(a - b) <= workload.tolerance for a, b in zip(found, expected))
        if not near:
            sys.exit(f"bench: {server.name} answered {status} {raw[:300]!r} on {path}\n"
                     f"expected {expected[:4]} within {workload.tolerance} for {body[:300]}")
    return [raw for _, raw in answers]


def run_generator(command, limit_s):
    """The figures that a generator prints; it has a core to itself."""
    command = ["taskset", "--cpu-list", str(LOAD_CORE), *map(str, command)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
    line = next((l for l in run.stdout.splitlines() if l.startswith("RESULT ")), None)
    if run.returncode != 0 or line is None:
        sys.exit(f"bench: {command[3]} failed: {run.stdout[-500:]}{run.stderr[-500:]}")
    return json.loads(line.removeprefix("RESULT ")), run.stderr


def stretch(contestant, workload, seconds):
    """The generator for some seconds; figures of that stretch alone."""
    workload = contestant.workload or workload
    before = contestant.server.cpu_seconds()
    result, said = run_generator(workload.generator(contestant.server.port, contestant.path, seconds), seconds + 60)
    used = contestant.server.cpu_seconds() - before
    if result["failed"] or not result["requests"]:
        sys.exit(f"bench: {contestant.name}: {result['failed']} of {result['requests']} requests failed\n{said[-500:]}")
    return {
        "requests_per_s": result["requests"] / (result["duration_us"] / 1e6),
        "p50_ms": result["p50_us"] / 1e3,
        "p99_ms": result["p99_us"] / 1e3,
        "cpu_ms": 1e3 * used / result["requests"],
        "core_share": used / (result["duration_us"] / 1e6),
    }


def race(workload, contestants, rounds, seconds):
    """A B A B …: what drifts on the machine drifts for all of them."""
    for contestant in contestants:
        stretch(contestant, workload, max(1, seconds // 2))
    for _ in range(rounds):
        for contestant in contestants:
            contestant.stretches.append(stretch(contestant, workload, seconds))
    for contestant in contestants:
        contestant.rss_mb = contestant.server.rss_mb()


def ratios(first, second):
    """How many times better `first` is, by requests a second and by CPU time a request:
    medians over stretches that ran next to each other."""
    pairs = list(zip(first.stretches, second.stretches))
    return {"by_rate": statistics.median(a["requests_per_s"] / b["requests_per_s"] for a, b in pairs),
            "by_cpu": statistics.median(b["cpu_ms"] / a["cpu_ms"] for a, b in pairs)}
