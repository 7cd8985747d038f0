"""Reloads under load: the same rows at 0.8 of capacity, with and without versions that come and go.

Version 2 of housing, whose prediction is the other class's, comes and goes under the same name:
its folder is moved in or out, then `POST /v2/repository/models/housing/load` swaps. Each answer
is compared, byte by byte, with that of the version which its `x-weir-model` names. Requests come at
a steady rate over HTTP/2 and their time counts from when they were due. The server has one core,
for its requests and for the loading.
"""

import json
import shutil
import statistics
import sys
import threading
import time

import load
import report
import servers
from machine import ROOT, note
from servers import WORK

ROWS = 32
RELOADS = 200
SHARE = 0.8
# Connections and streams on each: requests that may wait at a time.
CONNECTIONS, STREAMS = 16, 16
PATH = "/rows"
ROUTES = {
    PATH: ['model = "housing"', 'request = { rows = "houses" }', 'response = { predictions = "prediction" }'],
}
MODELS, AWAY = WORK / "reload-models", WORK / "reload-away"
LOAD = "/v2/repository/models/housing/load"


def write_version(folder, answer):
    """A version whose `prediction` is `answer`."""
    source = ROOT / "examples/models/housing"
    folder.mkdir(parents=True)
    manifest = (source / "model.toml").read_text().replace("probability:high", answer)
    (folder / "model.toml").write_text(manifest.replace('samples = "samples.jsonl"', ""))
    shutil.copy(source / "model.onnx", folder)


def order(server, path=LOAD):
    status, answer = server.ask(path, "{}")
    if status != 200:
        sys.exit(f"bench: {path} answered {status}: {answer[:300]!r}")


def come_and_go(server, number):
    """Reload `number`: version 2 comes with the even ones and goes with the odd ones. Folders are
    moved, not written: both cores are taken, and what is done here is missing there."""
    here, away = MODELS / "housing/2", AWAY / "2"
    if number % 2 == 0:
        away.rename(here)
    else:
        here.rename(away)
    begun = time.perf_counter()
    order(server)
    return time.perf_counter() - begun


def other(answers):
    """What version 2 says: the probability of the other class."""
    return [[1 - p for p in numbers] for numbers in answers]


def expected_answers(server, workload):
    """The file of each version's raw answers, checked against the model's own numbers."""
    files = {}
    for number, version in enumerate(("1", "2")):
        if number:
            come_and_go(server, 0)
            workload = load.Workload(**{**vars(workload), "expected": other(workload.expected)})
        file = WORK / f"reload-{version}.answers"
        load.write_bodies(file, load.check(workload, server, PATH))
        files[f"housing/{version}"] = file
    come_and_go(server, 1)
    return files


def generate(server, workload, seconds, expected, rate=None):
    command = [servers.h2_load(), "--address", f"127.0.0.1:{server.port}", "--path", PATH, "--bodies", workload.file(),
               "--header", "content-type:application/json", "--connections", CONNECTIONS,
               "--streams", STREAMS if rate else 1, "--seconds", seconds]
    command += [word for pair in expected.items() for word in ("--expect", "=".join(map(str, pair)))]
    command += ["--rate", rate] if rate else []
    before = server.cpu_seconds()
    figures, said = load.run_generator(command, seconds + 60)
    if said:
        note(said)
    return {**figures, "cpu_s": server.cpu_seconds() - before}


class Reloads(threading.Thread):
    """Reloads at a steady pace until there were enough."""

    def __init__(self, server, numbers, seconds):
        super().__init__()
        self.server, self.numbers, self.pause = server, numbers, seconds / (len(numbers) + 1)
        self.times = []

    def run(self):
        begun = time.perf_counter()
        for done, number in enumerate(self.numbers, 1):
            time.sleep(max(0, begun + done * self.pause - time.perf_counter()))
            self.times.append(come_and_go(self.server, number))


def one_round(server, workload, rate, expected, numbers, seconds):
    """A stretch without reloads and one with them."""
    calm = generate(server, workload, seconds, expected, rate)
    reloads = Reloads(server, numbers, seconds)
    reloads.start()
    changing = generate(server, workload, seconds, expected, rate)
    reloads.join()
    if len(reloads.times) != len(numbers):
        sys.exit(f"bench: {len(reloads.times)} of {len(numbers)} reloads were made")
    return calm, changing, reloads.times


def start(workload):
    """A server with version 1, told by clients what to load."""
    for place in (MODELS, AWAY):
        shutil.rmtree(place, ignore_errors=True)
    write_version(MODELS / "housing/1", "probability:high")
    write_version(AWAY / "2", "probability:low")
    file = servers.write_config("reload", MODELS, ROUTES)
    file.write_text(file.read_text().replace("[server]\n", '[server]\nmodel_control = "explicit"\n'))
    return servers.weir(file)


def measure(options):
    workload = load.many_rows(ROWS)
    reloads, rounds = (20, 1) if options.quick else (RELOADS, options.rounds)
    seconds = options.seconds if options.quick else max(options.seconds, 2 * RELOADS // (10 * rounds))
    numbers = [list(range(reloads))[at * reloads // rounds:(at + 1) * reloads // rounds] for at in range(rounds)]
    with start(workload) as weir:
        weir.first_answer_s(PATH, workload.bodies[0])
        expected = expected_answers(weir, workload)
        capacity = [generate(weir, workload, options.seconds, expected) for _ in range(3)]
        per_s = statistics.median(c["requests"] / c["duration_us"] * 1e6 for c in capacity)
        note(f"reloads: capacity {per_s:,.0f} requests a second; {reloads} reloads in {rounds} rounds of {seconds} s")
        # What so many requests at a time and a first reload need is not what reloading leaves behind.
        one_round(weir, workload, SHARE * per_s, expected, [0, 1], seconds)
        generate(weir, workload, seconds, expected, SHARE * per_s)
        before = weir.rss_mb()
        measured = [one_round(weir, workload, SHARE * per_s, expected, some, seconds) for some in numbers]
        generate(weir, workload, seconds, expected, SHARE * per_s)
        after = weir.rss_mb()
    calm, changing, times = zip(*measured)
    return {"rows": ROWS, "capacity_per_s": per_s, "rate_per_s": SHARE * per_s, "reloads": reloads,
            "seconds": seconds, "reload_ms": 1e3 * statistics.median(t for some in times for t in some),
            "stretches": [summary("without reloads", calm), summary("with reloads", changing)],
            "rss_before_mb": before, "rss_after_mb": after}


def summary(name, stretches):
    """Sums, but for times: medians of the stretches' own, and the longest."""
    by_model = {}
    for stretch in stretches:
        for model, count in stretch["by_model"].items():
            by_model[model] = by_model.get(model, 0) + count
    total = {key: sum(s[key] for s in stretches) for key in ("requests", "failed")}
    return {"name": name, **total, "by_model": by_model,
            **{f"{q}_ms": statistics.median(s[f"{q}_us"] for s in stretches) / 1e3 for q in ("p50", "p99")},
            "max_ms": max(s["max_us"] for s in stretches) / 1e3,
            "cpu_share": sum(s["cpu_s"] for s in stretches) / (sum(s["duration_us"] for s in stretches) / 1e6)}


def failed(measured):
    return sum(stretch["failed"] for stretch in measured["stretches"])


def goals(measured):
    growth = 100 * (measured["rss_after_mb"] / measured["rss_before_mb"] - 1)
    return [report.bound(f"{measured['reloads']} reloads at {SHARE} of capacity, failed requests", failed(measured), 0, ""),
            report.bound("memory after the reloads, above before", growth, 5, "%")]


def markdown(measured):
    s = report.significant
    lines = [f"### {measured['reloads']} reloads under load", "",
             f"housing, {measured['rows']} rows a request, {s(measured['rate_per_s'])} requests a second over HTTP/2: "
             f"{SHARE} of the {s(measured['capacity_per_s'])} that the server can answer; stretches of "
             f"{measured['seconds']} s without and with reloads took turns. A reload took "
             f"{s(measured['reload_ms'])} ms (median). Resident memory before and after the reloads: "
             f"{measured['rss_before_mb']:.1f} and {measured['rss_after_mb']:.1f} MB.", "",
             "| | requests | failed | p50 / p99 / longest, ms | answers by version | share of the core |",
             "| --- | --- | --- | --- | --- | --- |"]
    for row in measured["stretches"]:
        versions = ", ".join(f"{model}: {count:,}" for model, count in sorted(row["by_model"].items()))
        lines.append(f"| {row['name']} | {row['requests']:,} | {row['failed']} | {s(row['p50_ms'])} / {s(row['p99_ms'])} / "
                     f"{s(row['max_ms'])} | {versions} | {row['cpu_share']:.2f} |")
    return [*lines, ""]
