#!/usr/bin/env python3
"""One command that measures Weir: beside a constant answer, beside FastAPI, face beside face, reloading.

    bench/run.py                   everything, Markdown on standard output (make bench)
    bench/run.py --json            the same as JSON, with every stretch
    bench/run.py --quick           one short round: does it run, not how fast is it
    bench/run.py --only housing    Weir beside a constant answer and FastAPI; so for sentiment
    bench/run.py --only v2         typed JSON, V2 JSON, V2 binary and gRPC beside each other
    bench/run.py --only reload     latency and failures while versions come and go
    WEIR_BINARY=FILE bench/run.py  that binary instead of a new build: a before and after

Needs Linux, two cores, cargo, python3; wrk and the peer's Python packages are installed
where they are missing. Answers are checked before anything is timed.
"""

import argparse
import json
import shutil
import statistics
import sys

import faces
import load
import machine
import reload
import report
import servers
from machine import ROOT, note

PARTS = ["housing", "sentiment", "v2", "reload"]
HOUSING_ROUTES = {
    "/lab/predict": ['model = "housing"', 'response = { prediction = "prediction" }'],
    "/lab/bulk-predict": ['model = "housing"', 'request = { rows = "houses" }',
                          'response = { predictions = "prediction" }'],
}
SENTIMENT_ROUTES = {
    "/project/predict": ['model = "sentiment"', 'request = { columns = { text = "text" } }',
                         'response = { predictions = "labels" }'],
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="JSON instead of Markdown")
    parser.add_argument("--quick", action="store_true", help="one round of one second")
    parser.add_argument("--only", choices=PARTS, help="one part alone")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="length of one stretch")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1
    return options


def prepare(options):
    machine.require_two_cores()
    machine.require_wrk()
    servers.WORK.mkdir(parents=True, exist_ok=True)
    if options.only in (None, "housing", "sentiment"):
        servers.make_peer_environment()
    if options.only in (None, "v2", "reload"):
        servers.h2_load()
    servers.build_weir()


def constant_path(workload):
    return f"/constant/{workload.name}"


def typical(answers):
    """The answer whose size is nearest to the mean size: what the constant endpoint says."""
    mean = statistics.mean(len(a) for a in answers)
    return min(answers, key=lambda a: abs(len(a) - mean))


def toml_value(value):
    """A JSON value as inline TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml_value(v)}" for key, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    return json.dumps(value)


def housing_config(workloads):
    """Routes of the model, and beside each a constant answer as long as the model's."""
    plain = servers.write_config("housing", ROOT / "examples/models/housing", HOUSING_ROUTES)
    routes = dict(HOUSING_ROUTES)
    with servers.weir(plain) as weir:
        weir.first_answer_s(workloads[0].path, workloads[0].bodies[0])
        for workload in workloads:
            answer = json.loads(typical(load.check(workload, weir, workload.path)))
            routes[constant_path(workload)] = [f"response = {toml_value(answer)}"]
    return servers.write_config("housing-constant", ROOT / "examples/models/housing", routes)


def answer_bytes(workload, weir):
    """Mean size of the model's answers and size of the constant one; they must be alike."""
    mean = statistics.mean(len(a) for a in load.check(workload, weir, workload.path))
    status, constant = weir.ask(constant_path(workload), workload.bodies[0])
    if status != 200 or abs(len(constant) - mean) > 0.1 * mean + 4:
        sys.exit(f"bench: the constant answer ({status}, {len(constant)} bytes) is unlike the model's ({mean:.0f})")
    return {"model": round(mean), "constant": len(constant)}


def measure_housing(options):
    workloads = [load.one_row(), load.many_rows()]
    config = housing_config(workloads)
    measured = []
    with servers.weir(config) as weir, servers.peer("housing") as peer:
        for server in (weir, peer):
            server.first_answer_s(workloads[0].path, workloads[0].bodies[0])
        for workload in workloads:
            note(f"{workload.title}: {options.rounds} rounds")
            sizes = answer_bytes(workload, weir)
            load.check(workload, peer, workload.path)
            contestants = [
                load.Contestant("Weir", weir, workload.path),
                load.Contestant("Weir, constant answer", weir, constant_path(workload)),
                load.Contestant("FastAPI + Pydantic + onnxruntime", peer, workload.path),
            ]
            load.race(workload, contestants, options.rounds, options.seconds)
            measured.append((workload, contestants, sizes))
    return measured


def measure_sentiment(options):
    if not (ROOT / ".cache/sentiment/model.toml").exists():
        sys.exit("bench: the sentiment model is missing: make fetch, or measure --only housing")
    configs = {engine: servers.write_config(f"sentiment-{engine}", servers.sentiment_folder(engine), SENTIMENT_ROUTES)
               for engine in ("rten", "onnxruntime")}
    text = configs["onnxruntime"].read_text()
    configs["onnxruntime"].write_text(text.replace("[server]\n", f"[server]\nonnxruntime = {json.dumps(str(servers.peer_library()))}\n"))
    measured = []
    with servers.weir(configs["rten"], "Weir rten") as rten, \
            servers.weir(configs["onnxruntime"], "Weir onnxruntime") as ort, servers.peer("sentiment") as peer:
        for concurrency in (1, 16):
            workload = load.one_sentence(concurrency)
            note(f"{workload.title}, concurrency {concurrency}: {options.rounds} rounds")
            for server in (rten, ort, peer):
                server.first_answer_s(workload.path, workload.bodies[0])
                load.check(workload, server, workload.path)
            contestants = [
                load.Contestant("Weir, rten (embedded)", rten, workload.path),
                load.Contestant("Weir, onnxruntime", ort, workload.path),
                load.Contestant("FastAPI + Pydantic + onnxruntime", peer, workload.path),
            ]
            load.race(workload, contestants, options.rounds, options.seconds)
            measured.append((workload, contestants, None))
    return measured


def measure_starts(options):
    """Start to first answer and the memory after it, with housing alone."""
    workload = load.one_row()
    config = servers.write_config("housing", ROOT / "examples/models/housing", HOUSING_ROUTES)
    starts = 2 if options.quick else 10
    rows = []
    for name, start in [("Weir", lambda: servers.weir(config)),
                        ("FastAPI + Pydantic + onnxruntime", lambda: servers.peer("housing"))]:
        note(f"{name}: {starts} cold starts")
        times, memory = [], []
        for _ in range(starts):
            with start() as server:
                times.append(server.first_answer_s(workload.path, workload.bodies[0]))
                memory.append(server.rss_mb())
        rows.append({"name": name, "starts": starts, "first_answer_ms": 1e3 * statistics.median(times),
                     "rss_mb": statistics.median(memory)})
    return rows


def goals(measured, starts):
    found = []
    for workload, contestants, _ in measured:
        if workload.name.startswith("housing"):
            weir, constant, peer = contestants
            against_peer, against_constant = {"housing-1": (10, 0.5), "housing-32": (12, None)}[workload.name]
            found.append(report.goal(f"{workload.title}, against FastAPI + onnxruntime", against_peer,
                                     **load.ratios(weir, peer)))
            if against_constant:
                found.append(report.goal(f"{workload.title}, against the constant answer", against_constant,
                                         **load.ratios(weir, constant)))
        if workload.name == "sentiment-c1":
            _, same_library, peer = contestants
            found.append(report.goal("sentiment, 1 sentence, against FastAPI with the same onnxruntime", 1,
                                     **load.ratios(same_library, peer)))
    if starts:
        found.append(report.bound("memory with housing loaded", starts[0]["rss_mb"], 25, "MB"))
        found.append(report.bound("start to first answer", starts[0]["first_answer_ms"], 100, "ms"))
    return found


def as_json(workload, contestants, sizes):
    return {"name": workload.name, "title": workload.title, "concurrency": workload.concurrency,
            "answer_bytes": sizes, "contestants": [report.as_row(c) for c in contestants]}


def main():
    options = arguments()
    if not shutil.which("cargo"):
        sys.exit("bench: cargo is not installed: get Rust from https://rustup.rs")
    prepare(options)
    busy = machine.warn_if_busy()
    wanted = lambda part: options.only in (None, part)
    starts = measure_starts(options) if wanted("housing") else []
    measured = measure_housing(options) if wanted("housing") else []
    measured += measure_sentiment(options) if wanted("sentiment") else []
    by_face = faces.measure(options) if wanted("v2") else []
    reloads = reload.measure(options) if wanted("reload") else None
    versions = [l for l in servers.PEER_REQUIREMENTS.read_text().splitlines() if l and not l.startswith("#")]
    result = {
        **machine.circumstances(options, busy), "peer_versions": versions, "starts": starts,
        "workloads": [as_json(*m) for m in measured], "faces": [faces.as_json(m) for m in by_face],
        "reloads": reloads, "goals": goals(measured, starts) + (faces.goals(by_face) if by_face else [])
        + (reload.goals(reloads) if reloads else []),
    }
    more = faces.markdown(result["faces"]) + (reload.markdown(reloads) if reloads else [])
    print(json.dumps(result, indent=2) if options.json else report.markdown(result, more))
    if reloads and reload.failed(reloads):
        sys.exit("bench: requests failed while models were reloaded")


if __name__ == "__main__":
    main()
