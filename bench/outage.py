#!/usr/bin/env python3
"""What a prediction takes longer while the Redis behind its cache hangs, or is gone.

    bench/outage.py           Markdown (make bench-outage)
    bench/outage.py --json    the same as JSON
    bench/outage.py --quick   short stretches: does it run, not how long does it take

One server, housing with its cache on a Redis, and one client that asks a new row every few
milliseconds, so that each request has to ask Redis and then the model. Redis is stopped (SIGSTOP), goes
on, is killed and started again; the breaker's state comes from /metrics. The goals are those of the
reliability table: 20 ms added at most until the breaker opens, which takes a second at most; then 1 ms
at most; closed again 5 s after Redis is back.
"""

import argparse
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

import machine
import report
import servers
from machine import LOAD_CORE, ROOT, note

PAUSE_S = 0.005
GOALS = {"opening_ms": 20, "open_s": 1, "opened_ms": 1, "back_s": 5}
ROUTE = "/predict"
ROW = {"MedInc": 8.3, "HouseAge": 41, "AveRooms": 6.9, "AveBedrms": 1, "Population": 322, "AveOccup": 2.5,
       "Latitude": 37.9, "Longitude": -122.2}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="JSON instead of Markdown")
    parser.add_argument("--quick", action="store_true", help="one round of one second")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="length of one stretch")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1
    return options


class Redis:
    """A redis-server of this run, on a free port."""

    def __init__(self):
        fetched = ROOT / ".cache/servers/bin/redis-server"
        program = str(fetched) if fetched.exists() else shutil.which("redis-server")
        if not program:
            sys.exit("bench: redis-server is not installed: run `make servers`")
        self.port = servers.free_port()
        self.command = ["taskset", "--cpu-list", str(LOAD_CORE), program, "--port", str(self.port),
                        "--save", "", "--bind", "127.0.0.1"]
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.005)

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Client:
    """Asks one row after the other, each a new one."""

    def __init__(self, weir):
        self.weir = weir
        self.connection = http.client.HTTPConnection("127.0.0.1", weir.port, timeout=30)
        self.asked = 0

    def ask(self):
        """Milliseconds of one prediction."""
        self.asked += 1
        row = {**ROW, "MedInc": 1 + self.asked / 1e4}
        begun = time.perf_counter()
        self.connection.request("POST", ROUTE, json.dumps(row), {"content-type": "application/json"})
        answer = self.connection.getresponse()
        body = answer.read()
        took = 1e3 * (time.perf_counter() - begun)
        if answer.status != 200 or answer.headers["x-cache"] != "miss":
            sys.exit(f"bench: a prediction was answered {answer.status} {answer.headers['x-cache']}: {body[:300]!r}")
        return took

    def stretch(self, seconds):
        """Milliseconds of each prediction of a stretch."""
        end, took = time.perf_counter() + seconds, []
        while time.perf_counter() < end:
            took.append(self.ask())
            time.sleep(PAUSE_S)
        return took

    def until(self, open_):
        """Asks until the breaker is open or closed: the seconds, and milliseconds of each prediction."""
        begun, took = time.perf_counter(), []
        while breaker_is_open(self.weir) != open_:
            took.append(self.ask())
            if time.perf_counter() - begun > 30:
                sys.exit(f"bench: the breaker is not {'open' if open_ else 'closed'} after 30 s")
        return time.perf_counter() - begun, took


def breaker_is_open(weir):
    found = [line for line in weir.metrics().splitlines() if line.startswith("weir_redis_node_breaker{")]
    return bool(found) and float(found[0].rsplit(" ", 1)[1]) != 0


def outage(client, redis, seconds, break_, mend):
    """One outage, with what went before as the yardstick."""
    before = client.stretch(seconds)
    break_()
    open_s, opening = client.until(True)
    opened = client.stretch(seconds)
    mend()
    back_s, _ = client.until(False)
    usual, slow = statistics.median(before), sorted(before)[int(0.99 * len(before))]
    return {"before_p50_ms": usual, "before_p99_ms": slow, "waited": sum(took > slow + 1 for took in opening),
            "opening_ms": max(opening, default=usual) - usual, "open_s": open_s,
            "opened_ms": statistics.median(opened) - usual,
            "opened_p99_ms": sorted(opened)[int(0.99 * len(opened))] - slow, "back_s": back_s,
            "asked": len(before) + len(opening) + len(opened)}


def measure(options):
    redis = Redis()
    redis.start()
    routes = {ROUTE: ['model = "housing"', 'response = { prediction = "prediction" }']}
    config = servers.write_config("outage", ROOT / "examples/models/housing", routes, True)
    config.write_text(config.read_text() + f'\n[redis]\nurl = "redis://127.0.0.1:{redis.port}"\n')
    kinds = {"stopped (SIGSTOP)": (lambda: redis.signal(signal.SIGSTOP), lambda: redis.signal(signal.SIGCONT)),
             "killed": (redis.kill, redis.start)}
    found = {kind: [] for kind in kinds}
    os.sched_setaffinity(0, {LOAD_CORE})
    try:
        with servers.weir(config) as weir:
            client = Client(weir)
            weir.first_answer_s(ROUTE, json.dumps({**ROW, "MedInc": 0}))
            client.until(False)
            for round_ in range(options.rounds):
                for kind, (break_, mend) in kinds.items():
                    note(f"round {round_ + 1} of {options.rounds}: Redis {kind}")
                    found[kind].append(outage(client, redis, options.seconds, break_, mend))
    finally:
        redis.kill()
    return found


def table(found):
    s = report.significant
    lines = ["| Redis | asked, all answered | ms before, p50 / p99 | breaker open after s | most ms added until then | "
             "ms added then, p50 / p99 | closed after s | goals |", "| --- " * 8 + "|"]
    for kind, rounds in found.items():
        of = {key: [one[key] for one in rounds] for key in rounds[0]}
        middle = {key: statistics.median(values) for key, values in of.items()}
        met = all(middle[key] <= goal for key, goal in GOALS.items())
        lines.append(f"| {kind} | {sum(of['asked']):,} | {s(middle['before_p50_ms'])} / {s(middle['before_p99_ms'])} | "
                     f"{s(middle['open_s'])} | {s(middle['opening_ms'])} (most {s(max(of['opening_ms']))}) | "
                     f"{s(middle['opened_ms'])} / {s(middle['opened_p99_ms'])} | {s(middle['back_s'])} | "
                     f"{'met' if met else '**missed**'} |")
    return lines


def main():
    options = arguments()
    machine.require_two_cores()
    servers.WORK.mkdir(parents=True, exist_ok=True)
    servers.build_weir()
    busy = machine.warn_if_busy()
    result = {**machine.circumstances(options, busy), "goals": GOALS, "outages": measure(options)}
    lines = [report.machine_line(result), "", f"Medians of {options.rounds} rounds.", "", *table(result["outages"])]
    print(json.dumps(result, indent=2) if options.json else "\n".join(lines))


if __name__ == "__main__":
    main()
