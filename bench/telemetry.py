#!/usr/bin/env python3
"""What telemetry costs: one binary without it, with traces (none, 1 %, all sampled), with metrics, and with both.

    bench/telemetry.py           Markdown (make bench-telemetry)
    bench/telemetry.py --json    the same as JSON
    bench/telemetry.py --quick   one round of one second: does it run, not how fast is it

The servers run side by side on one core and are asked one after the other, round by round, so that what
drifts on the machine drifts for all of them; ratios are medians over stretches that ran next to each other.
Traces go to rotel, a real receiver, on the core of the load. Beside them runs a second server without
telemetry: how far it is from the first is what the machine cannot tell apart.
"""

import argparse
import contextlib
import json
import socket
import subprocess
import sys
import time

import load
import machine
import report
import run
import servers
from machine import LOAD_CORE, ROOT, note

ROTEL = ROOT / ".cache/venvs/otlp"
MOST_COST = 0.03
# Sixty times as often as by default: what one message costs shows within a stretch.
METRICS = 'metrics = true\nmetrics_interval = "1s"\n'
# What is held to the goal: what people run in production.
GOALS = {"on, 1 % sampled": "sample = 0.01\n", "metrics, no traces": "traces = false\n" + METRICS,
         "on, 1 % and metrics": "sample = 0.01\n" + METRICS}
MODES = {"off": None, "off again": None, "on, none sampled": "sample = 0.0\n", **GOALS,
         "on, all sampled": "sample = 1.0\n"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="JSON instead of Markdown")
    parser.add_argument("--quick", action="store_true", help="one round of one second")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=3, help="length of one stretch")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1
    return options


@contextlib.contextmanager
def receiver():
    """rotel, which takes what it is sent and throws it away; gives its port."""
    agents = list(ROTEL.glob("lib/python3*/site-packages/rotel/rotel-agent"))
    if not agents:
        sys.exit(f"bench: {ROTEL} is not there: run `make venvs`")
    port, grpc = servers.free_port(), servers.free_port()
    command = ["taskset", "--cpu-list", str(LOAD_CORE), str(agents[0]), "start", "--exporter", "blackhole",
               "--otlp-http-endpoint", f"127.0.0.1:{port}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await_port(process, port)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=20)


def await_port(process, port):
    end = time.monotonic() + servers.START_TIMEOUT_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    sys.exit("bench: rotel does not listen")


def config(model, mode, settings, folder, routes, port):
    name = f"telemetry-{model}-{mode.replace(' ', '-').replace(',', '').replace('%', 'percent')}"
    file = servers.write_config(name, folder, routes)
    if settings is not None:
        table = f'\n[telemetry]\nendpoint = "http://127.0.0.1:{port}"\n{settings}'
        file.write_text(file.read_text() + table)
    return file


def dropped(server, signal):
    """What was lost of a signal; it costs less than what was sent. A server that does not tell fails."""
    name = f'weir_telemetry_dropped_total{{signal="{signal}"}} '
    told = [line for line in server.metrics().splitlines() if line.startswith(name)]
    if len(told) != 1:
        sys.exit(f"bench: {server.name} does not tell what it dropped: nothing was sent")
    return int(float(told[0].rsplit(" ", 1)[1]))


def lost(contestant):
    """Spans that were lost; None where there is no telemetry. Where few are sent, none may be."""
    if MODES[contestant.name] is None:
        return None
    spans, messages = (dropped(contestant.server, signal) for signal in ("traces", "metrics"))
    if messages or (spans and contestant.name in GOALS):
        sys.exit(f"bench: {contestant.name}: {spans} spans, {messages} messages of metrics were dropped: "
                 "what was measured is not what it costs to send them")
    return spans


def measure(model, folder, workload, routes, port, options):
    note(f"{model}: without telemetry and with it")
    with contextlib.ExitStack() as stack:
        contestants = []
        for mode, settings in MODES.items():
            file = config(model, mode, settings, folder, routes, port)
            weir = stack.enter_context(servers.weir(file, f"{model} {mode}"))
            weir.first_answer_s(workload.path, workload.bodies[0])
            contestants.append(load.Contestant(mode, weir, workload.path))
        load.check(workload, contestants[-1].server, workload.path)
        load.race(workload, contestants, options.rounds, options.seconds)
        spans = {c.name: lost(c) for c in contestants}
    first = contestants[0]
    rows = [{**report.as_row(c), **load.ratios(c, first), "dropped_spans": spans[c.name]} for c in contestants]
    costs = {row["name"]: 1 - row["by_rate"] for row in rows if row["name"] in GOALS}
    goals = {name: {"cost": cost, "met": cost <= MOST_COST} for name, cost in costs.items()}
    return {"model": model, "title": workload.title, "concurrency": workload.concurrency, "rows": rows, "goals": goals}


def dropped_text(row):
    return "–" if row["dropped_spans"] is None else f"{row['dropped_spans']:,}"


def table(found):
    s = report.significant
    lines = [f"### {found['title']}, concurrency {found['concurrency']}", "",
             "| telemetry | req/s | p50 / p99 ms | rate beside off | CPU beside off | spans dropped |",
             "| --- | --- | --- | --- | --- | --- |"]
    for row in found["rows"]:
        lines.append(f"| {row['name']} | {s(row['requests_per_s'])} | {s(row['p50_ms'])} / {s(row['p99_ms'])} | "
                     f"{row['by_rate']:.3f} | {1 / row['by_cpu']:.3f} | {dropped_text(row)} |")
    lines += ["", f"Goal: at most {100 * MOST_COST:.0f} % of the rate.", ""]
    for name, goal in found["goals"].items():
        lines.append(f"- {name}: {100 * goal['cost']:.1f} %, {'met' if goal['met'] else '**missed**'}")
    return [*lines, ""]


def main():
    options = arguments()
    machine.require_two_cores()
    machine.require_wrk()
    servers.WORK.mkdir(parents=True, exist_ok=True)
    servers.build_weir()
    busy = machine.warn_if_busy()
    subjects = [("housing", ROOT / "examples/models/housing", load.one_row(), run.HOUSING_ROUTES),
                ("sentiment", ROOT / ".cache/sentiment", load.one_sentence(16), run.SENTIMENT_ROUTES)]
    with receiver() as port:
        found = [measure(*subject, port, options) for subject in subjects]
    result = {**machine.circumstances(options, busy), "telemetry": found}
    lines = [report.machine_line(result), ""] + [line for each in found for line in table(each)]
    print(json.dumps(result, indent=2) if options.json else "\n".join(lines))


if __name__ == "__main__":
    main()
