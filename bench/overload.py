#!/usr/bin/env python3
"""More load than fits: goodput at multiples of capacity, and the way back.

    bench/overload.py           Markdown, and the plots into docs/images
    bench/overload.py --json    the same as JSON
    bench/overload.py --quick   short stretches: does it run

Two models: one calibrated to 5 ms a row that cannot be batched, and sentiment. The generator is
`weir load`, open loop, Poisson arrivals, on a core of its own. Capacity C is the highest goodput
(right answers within the deadline): the rate that gives it is searched once and offered anew in each
round, so that a lucky stretch does not become what all others are measured by. Ratios are taken within
a round; the table has their medians.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import urllib.request

import batching
import machine
import plot
import report
import servers
from machine import LOAD_CORE, ROOT, note

DEADLINE_MS = 200
GOAL_MS = 5.0
MULTIPLES = (0.8, 2, 5, 10)
GOODPUT_GOALS = {2: 0.95, 5: 0.90, 10: 0.80}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10, help="length of one stretch")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 2
    return options


class Subject:
    """A model that is served and asked."""

    def __init__(self, server, model):
        self.server, self.model = server, model

    def load(self, *words):
        """What `weir load` measured."""
        command = ["taskset", "--cpu-list", str(LOAD_CORE), str(servers.weir_binary()), "--json", "load",
                   f"http://127.0.0.1:{self.server.port}", self.model, *words]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit(f"bench: weir load failed: {run.stderr[-1000:]}")
        return json.loads(run.stdout)["measured"]

    def offer(self, rate, seconds):
        """Poisson arrivals; `executed` are the rows that the engine ran for them."""
        before = self.executed()
        measured = self.load("--rate", f"{rate:.1f}", "--duration", f"{seconds}s", "--warmup", "0s", "--poisson",
                             "--deadline", f"{DEADLINE_MS}ms")
        return {**measured, "executed": self.executed() - before}

    def executed(self):
        url = f"http://127.0.0.1:{self.server.port}/v2/models/{self.model}/stats"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(json.load(answer)["model_stats"][0]["inference_count"])


def calibrated():
    """A model of 5 ms a row on this machine: layers are added until it takes that long."""
    folder, layers = servers.WORK / "burner", 100
    for _ in range(4):
        batching.make_model("burner", folder, "--layers", str(layers))
        (folder / "model.toml").write_text('name = "burner"\nengine = "onnxruntime"\n\n[batching]\nmax_rows = 1\n')
        with serve("burner", folder) as server:
            subject = Subject(server, "burner")
            ready(subject)
            took = subject.load("--connections", "1", "--duration", "2s")["latency"]["p50_ms"]
        note(f"{layers} layers take {took:.2f} ms")
        if abs(took - GOAL_MS) < 0.05 * GOAL_MS:
            break
        layers = max(1, round(layers * GOAL_MS / took))
    return folder


def serve(model, folder):
    routes = {} if model == "burner" else batching.ROUTE
    return servers.weir(batching.config(f"overload-{model}", model, folder, routes), model)


def ready(subject):
    url = f"http://127.0.0.1:{subject.server.port}/readyz"
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=1)
            return
        except OSError:
            time.sleep(0.05)
    sys.exit("bench: the server did not become ready")


def best_rate(subject, seconds):
    """The offered rate of the highest goodput, around that at which the model saturates."""
    saturated = subject.load("--connections", "16", "--duration", f"{seconds}s")["ok_per_s"]
    # A model that batches does more the more waits, so that its goodput still grows beyond.
    rates = [saturated * share for share in (0.9, 1.0, 1.2, 1.5)]
    return max(rates, key=lambda rate: subject.offer(rate, seconds)["goodput_per_s"])


def row(multiple, c, measured):
    latency, refused = measured["latency"], measured["refused"]
    answered = measured["goodput_per_s"] * measured["seconds"]
    refusals = measured["outcomes"].get("refused", 0)
    return {"multiple": multiple, "offered_per_s": measured["offered_per_s"],
            "goodput_per_s": measured["goodput_per_s"], "of_capacity": measured["goodput_per_s"] / c,
            "accepted_p50_ms": latency["p50_ms"], "accepted_p99_ms": latency["p99_ms"],
            "refused_p50_ms": refused["p50_ms"], "refused_p99_ms": refused["p99_ms"], "refusals": refusals,
            "with_retry_after": measured["refused_with_retry_after"],
            "in_vain": max(0, measured["executed"] - answered) / max(1, measured["executed"]),
            "bottleneck": measured["generator"]["bottleneck"]}


def one_round(subject, rate, seconds):
    """C, and a row for each multiple of it."""
    c = subject.offer(rate, seconds)["goodput_per_s"]
    return c, [row(m, c, subject.offer(m * c, seconds)) for m in MULTIPLES]


def combined(rows):
    """The rows of one multiple as one: counts are added up, of the others the median counts."""
    def one(key):
        values = [r[key] for r in rows if r[key] is not None]
        if key in ("refusals", "with_retry_after"):
            return sum(values)
        if key == "bottleneck":
            return next((v for v in values if v), None)
        return statistics.median(values) if values else None
    spread = [r["of_capacity"] for r in rows]
    return {key: one(key) for key in rows[0]} | {"of_capacity_range": [min(spread), max(spread)]}


def recovery(subject, c, seconds):
    """Naive retries at 5 C, and how long it takes until the tail is the old one again."""
    calm = f"{seconds}s@{0.7 * c:.0f}"
    stages = f"{calm},{seconds}s@{5 * c:.0f},{2 * seconds}s@{0.7 * c:.0f}"
    measured = subject.load("--stages", stages, "--warmup", "0s", "--poisson", "--retries", "3",
                            "--deadline", f"{DEADLINE_MS}ms")
    points = [(p["at"], p["latency"]["p99_ms"], p["goodput_per_s"], p["offered_per_s"]) for p in measured["series"]]
    return {**way_back(points, seconds), "attempts": measured["attempts"], "requests": measured["requests"],
            "series": points}


def way_back(points, seconds):
    """When the p99 is the old one again: from when on the median over four intervals is one that was seen before.

    Of single intervals the slowest before would be the measure, and the machine's own hiccups, twice as many in
    twice the time, would decide. How many single ones are slower than any before is told beside it.
    """
    before = [p99 for at, p99, *_ in points if at < seconds]
    after = [(at - 2 * seconds, p99) for at, p99, *_ in points if at >= 2 * seconds]
    usual = max(medians(before))
    smooth = medians([p99 for _, p99 in after])
    back = next((at for (at, _), median in zip(after, smooth) if median <= usual), None)
    late = [p99 for at, p99 in after if back is not None and at >= back]
    return {"baseline_p99_ms": statistics.median(before), "worst_before_ms": max(before), "back_after_s": back,
            "slower_later": [sum(p99 > max(before) for p99 in late), len(late)]}


def medians(values, width=4):
    """Of each `width` values that follow each other."""
    return [statistics.median(values[i:i + width]) for i in range(max(1, len(values) - width + 1))]


def measure(model, folder, options):
    seconds = options.seconds
    with serve(model, folder) as server:
        subject = Subject(server, model)
        ready(subject)
        subject.load("--connections", "4", "--duration", "1s")
        rate = best_rate(subject, seconds)
        found = [one_round(subject, rate, seconds) for _ in range(options.rounds)]
        c = statistics.median(c for c, _ in found)
        note(f"{model}: C = {c:.0f} a second")
        rows = [combined(same) for same in zip(*(rows for _, rows in found))]
        return {"model": model, "deadline_ms": DEADLINE_MS, "capacity": c, "rows": rows,
                "recovery": recovery(subject, c, seconds)}


def verdict(found, r):
    """Whether a row keeps the reliability table's figures; the one at 0.8 C is what they are measured by."""
    if r["multiple"] not in GOODPUT_GOALS:
        return ""
    calm = found["rows"][0]["accepted_p99_ms"]
    kept = (r["of_capacity"] >= GOODPUT_GOALS[r["multiple"]]
            and r["accepted_p99_ms"] <= max(2 * calm, found["deadline_ms"] / 2)
            and r["refused_p99_ms"] <= 10 and r["with_retry_after"] == r["refusals"] and r["in_vain"] <= 0.01)
    return "met" if kept else "**missed**"


def table(found):
    s = report.significant
    lines = [f"### {found['model']}: C = {s(found['capacity'])} a second within {found['deadline_ms']} ms", "",
             "| offered | goodput/s | of C (range) | accepted p50 / p99 ms | refused p50 / p99 ms | refusals with Retry-After | "
             "run in vain | goals |", "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for r in found["rows"]:
        lines.append(f"| {r['multiple']} C = {s(r['offered_per_s'])}/s | {s(r['goodput_per_s'])} | "
                     f"{100 * r['of_capacity']:.1f} % ({' to '.join(f'{100 * x:.0f}' for x in r['of_capacity_range'])}) | "
                     f"{s(r['accepted_p50_ms'])} / {s(r['accepted_p99_ms'])} | "
                     f"{s(r['refused_p50_ms'])} / {s(r['refused_p99_ms'])} | {r['with_retry_after']:,} of {r['refusals']:,} | "
                     f"{100 * r['in_vain']:.2f} % | {verdict(found, r)} |")
    back = found["recovery"]
    came = "did not come back" if back["back_after_s"] is None else (
        f"was back after {back['back_after_s']:.0f} s; {back['slower_later'][0]} of the {back['slower_later'][1]} "
        "intervals from then on were slower than any before")
    lines += ["", f"After 5 C with three immediate retries ({back['attempts'] / back['requests']:.1f} attempts a request), "
              f"then 0.7 C: the p99 (median {s(back['baseline_p99_ms'])} ms before, no interval above "
              f"{s(back['worst_before_ms'])} ms) {came}.", ""]
    lines += [f"At {r['multiple']} C the generator: {r['bottleneck']}." for r in found["rows"] if r["bottleneck"]]
    return lines


def draw(models):
    ticks = {m: f"{m:g}" for m in (0, *MULTIPLES[1:])}
    goodput = {f["model"]: [(r["multiple"], 100 * r["of_capacity"]) for r in f["rows"]] for f in models}
    p99 = {f"{f['model']}, {kind}": [(r["multiple"], r[f"{kind}_p99_ms"]) for r in f["rows"] if r[f"{kind}_p99_ms"]]
           for f in models for kind in ("accepted", "refused")}
    back = {f["model"]: [(at, good / f["capacity"] * 100) for at, _, good, _ in f["recovery"]["series"]] for f in models}
    images = ROOT / "docs/images"
    x = "offered load, multiples of capacity C"
    images.joinpath("overload-goodput.svg").write_text(plot.line_chart(
        "Goodput under overload", x, "goodput, % of C", goodput, x_ticks=ticks))
    images.joinpath("overload-latency.svg").write_text(plot.line_chart(
        "How long an answer and a refusal take", x, "p99, ms", p99, log_y=True, x_ticks=ticks))
    images.joinpath("overload-recovery.svg").write_text(plot.line_chart(
        "5 C with naive retries in the second quarter, 0.7 C before and after", "seconds", "goodput, % of C", back))


def main():
    options = arguments()
    machine.require_two_cores()
    servers.WORK.mkdir(parents=True, exist_ok=True)
    servers.make_peer_environment()
    servers.build_weir()
    busy = machine.warn_if_busy()
    sentiment = batching.variant(ROOT / ".cache/sentiment", "sentiment", True)
    models = [measure("burner", calibrated(), options), measure("sentiment", sentiment, options)]
    result = {**machine.circumstances(options, busy), "models": models}
    if not options.quick:
        draw(models)
    lines = [report.machine_line(result), ""] + [line for found in models for line in table(found)]
    print(json.dumps(result, indent=2) if options.json else "\n".join(lines))


if __name__ == "__main__":
    main()
