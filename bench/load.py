"""What is sent, what must come back, and one measured stretch of it."""

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass, field

from machine import LOAD_CORE, ROOT
from servers import WORK

BODIES = 200


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

    def file(self):
        path = WORK / f"{self.name}.jsonl"
        path.write_text("".join(body + "\n" for body in self.bodies))
        return path


@dataclass
class Contestant:
    """One server's way of answering a workload, and what was measured of it."""

    name: str
    server: object
    path: str
    stretches: list = field(default_factory=list)

    def median(self, key):
        return statistics.median(stretch[key] for stretch in self.stretches)


def read_samples(model):
    text = (ROOT / f"examples/models/{model}/samples.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def one_row():
    rows = read_samples("housing")[:BODIES]
    return Workload("housing-1", "housing, 1 row", "/lab/predict",
                    [json.dumps(r["input"]) for r in rows], [[r["prediction"]] for r in rows], 1e-6, 16)


def many_rows(count=32):
    samples = read_samples("housing")
    # Every start is another one, and 37 shares no factor with 500: 200 different bodies.
    chosen = [[samples[(37 * i + k) % len(samples)] for k in range(count)] for i in range(BODIES)]
    return Workload(f"housing-{count}", f"housing, {count} rows", "/lab/bulk-predict",
                    [json.dumps({"houses": [r["input"] for r in rows]}) for rows in chosen],
                    [[r["prediction"] for r in rows] for rows in chosen], 1e-6, 16)


def one_sentence(concurrency):
    short = [s for s in read_samples("sentiment") if 0 < len(s["input"]["text"]) <= 120]
    return Workload(f"sentiment-c{concurrency}", "sentiment, 1 sentence", "/project/predict",
                    [json.dumps({"text": [s["input"]["text"]]}) for s in short],
                    [[score["score"] for score in s["prediction"]] for s in short],
                    max(s.get("tolerance", 1e-5) for s in short), concurrency)


def numbers(answer):
    """Every number of a JSON document, in order."""
    if isinstance(answer, dict):
        return [n for value in answer.values() for n in numbers(value)]
    if isinstance(answer, list):
        return [n for value in answer for n in numbers(value)]
    return [answer] if isinstance(answer, (int, float)) and not isinstance(answer, bool) else []


def check(workload, server, path):
    """Asks every body once; a wrong answer ends the bench. Returns the raw answers."""
    answers = []
    for body, expected in zip(workload.bodies, workload.expected):
        status, raw = server.ask(path, body)
        found = numbers(json.loads(raw)) if status == 200 else []
        near = len(found) == len(expected) and all(
            abs(a - b) <= workload.tolerance for a, b in zip(found, expected))
        if not near:
            sys.exit(f"bench: {server.name} answered {status} {raw[:300]!r} on {path}\n"
                     f"expected {expected[:4]} within {workload.tolerance} for {body[:300]}")
        answers.append(raw)
    return answers


def stretch(contestant, workload, seconds):
    """wrk for some seconds; figures of that stretch alone."""
    url = f"http://127.0.0.1:{contestant.server.port}{contestant.path}"
    command = ["taskset", "--cpu-list", str(LOAD_CORE), "wrk", "--threads", "1",
               "--connections", str(workload.concurrency), "--duration", f"{seconds}s", "--timeout", "10s",
               "--script", str(ROOT / "bench/rotate.lua"), url, "--", str(workload.file())]
    before = contestant.server.cpu_seconds()
    run = subprocess.run(command, capture_output=True, text=True)
    used = contestant.server.cpu_seconds() - before
    line = next((l for l in run.stdout.splitlines() if l.startswith("RESULT ")), None)
    if run.returncode != 0 or line is None:
        sys.exit(f"bench: wrk failed: {run.stdout[-500:]}{run.stderr[-500:]}")
    result = json.loads(line.removeprefix("RESULT "))
    if result["failed"] or not result["requests"]:
        sys.exit(f"bench: {contestant.name}: {result['failed']} of {result['requests']} requests failed")
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
