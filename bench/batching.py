#!/usr/bin/env python3
"""Text models with batching on and off, beside the engine called directly, in one run.

    bench/batching.py           MiniLM and an encoder of DistilBERT's size, Markdown
    bench/batching.py --json    the same as JSON
    bench/batching.py --quick   short stretches: does it run

The larger encoder has random weights: its answers are nonsense, its time is a real one's.
Engine for all: the onnxruntime of the peers' environment, one thread, core 0.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys

import load
import machine
import plot
import report
import servers
from machine import ROOT, SERVER_CORE, note

MODELS_ENVIRONMENT = ROOT / ".cache/venvs/bench-models"
ROUTE = {"/predict": ['model = "{model}"', 'request = { columns = { text = "text" } }',
                      'response = { predictions = "labels" }']}
CONCURRENCIES = (1, 16, 64)
SIZES = (1, 2, 4, 8, 16)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1
    return options


def make_model(*arguments):
    """Runs bench/models/make.py in an environment of its own."""
    requirements = ROOT / "bench/models/requirements.txt"
    servers.make_environment(MODELS_ENVIRONMENT, requirements, "onnx, to write models,")
    subprocess.run([MODELS_ENVIRONMENT / "bin/python", ROOT / "bench/models/make.py", *arguments], check=True)


def encoder_folder():
    """A text classifier of DistilBERT's size."""
    folder = servers.WORK / "encoder"
    if not (folder / "model.toml").exists():
        note("writing an encoder of DistilBERT's size")
        make_model("encoder", folder, "--tokenizer", ROOT / ".cache/sentiment/tokenizer.json")
    return folder


def variant(source, name, batching):
    """A copy of a model folder that runs on onnxruntime, with or without batching."""
    folder = servers.WORK / f"{name}-{'on' if batching else 'off'}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    manifest = folder / "model.toml"
    text = manifest.read_text()
    table = "" if batching else "\n[batching]\nmax_rows = 1\n"
    manifest.write_text('engine = "onnxruntime"\n' + text + table)
    return folder


def config(name, model, folder, routes=None):
    """A `weir.toml` that runs on the peer's ONNX Runtime; `routes` default to one for texts."""
    routes = ROUTE if routes is None else routes
    routes = {path: [line.replace("{model}", model) for line in table] for path, table in routes.items()}
    file = servers.write_config(name, folder, routes)
    text = file.read_text().replace("[server]\n", f"[server]\nonnxruntime = {json.dumps(str(servers.peer_library()))}\n")
    file.write_text(text)
    return file


def sentences(concurrency):
    """Workloads without expected scores where the weights are random."""
    workload = load.one_sentence(concurrency)
    return load.Workload(f"text-c{concurrency}", f"concurrency {concurrency}", "/predict",
                         workload.bodies, workload.expected, workload.tolerance, concurrency)


def agree(workload, first, second):
    """Both servers must give the same scores: batching changes no answer."""
    for body in workload.bodies:
        answers = [server.ask(workload.path, body) for server in (first, second)]
        numbers = [load.numbers(json.loads(raw)) if status == 200 else [] for status, raw in answers]
        near = len(numbers[0]) == len(numbers[1]) and all(
            abs(a - b) <= workload.tolerance for a, b in zip(*numbers))
        if not numbers[0] or not near:
            sys.exit(f"bench: {answers[0]} and {answers[1]} differ for {body}")


def direct(model_file, tokenizer, seconds):
    """Texts a second and milliseconds a call of the engine alone, by batch size."""
    texts = servers.WORK / "texts.json"
    texts.write_text(json.dumps([json.loads(body)["text"][0] for body in load.one_sentence(1).bodies]))
    command = ["taskset", "--cpu-list", str(SERVER_CORE), servers.PEERS / "bin/python", ROOT / "bench/direct.py",
               model_file, tokenizer, texts, "--sizes", ",".join(map(str, SIZES)), "--seconds", str(seconds)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


def measure(name, source, artifact, options):
    """Interleaved: on, off and direct in each round, so that what drifts drifts for all."""
    on = config(f"{name}-on", name, variant(source, name, True))
    off = config(f"{name}-off", name, variant(source, name, False))
    rounds_direct, contestants = [], {}
    with servers.weir(on, f"{name} on") as with_batching, servers.weir(off, f"{name} off") as without:
        workloads = [sentences(c) for c in CONCURRENCIES]
        for server in (with_batching, without):
            server.first_answer_s(workloads[0].path, workloads[0].bodies[0])
        agree(workloads[0], with_batching, without)
        for workload in workloads:
            contestants[workload.concurrency] = [load.Contestant("batching on", with_batching, workload.path),
                                                 load.Contestant("batching off", without, workload.path)]
        for number in range(options.rounds):
            note(f"{name}: round {number + 1} of {options.rounds}")
            rounds_direct.append(direct(source / artifact, source / "tokenizer.json", options.seconds / len(SIZES) * 2))
            for workload in workloads:
                for contestant in contestants[workload.concurrency]:
                    contestant.stretches.append(load.stretch(contestant, workload, options.seconds))
    return {"name": name, "direct": summed(rounds_direct), "rows": rows(contestants, rounds_direct)}


def summed(rounds):
    return [{"size": size, "texts_per_s": statistics.median(r[i]["texts_per_s"] for r in rounds),
             "call_ms": statistics.median(r[i]["call_ms"] for r in rounds)} for i, size in enumerate(SIZES)]


def rows(contestants, rounds_direct):
    """Each stretch is compared with the direct calls of its own round."""
    found = []
    for concurrency, pair in contestants.items():
        for contestant in pair:
            of_best = [s["requests_per_s"] / max(d["texts_per_s"] for d in r)
                       for s, r in zip(contestant.stretches, rounds_direct)]
            of_single = [s["p50_ms"] / r[0]["call_ms"] for s, r in zip(contestant.stretches, rounds_direct)]
            found.append({"concurrency": concurrency, "name": contestant.name,
                          **{k: contestant.median(k) for k in ("requests_per_s", "p50_ms", "p99_ms", "cpu_ms")},
                          "of_best_batch": statistics.median(of_best), "of_single_call": statistics.median(of_single)})
    return found


def markdown(models):
    lines = []
    for model in models:
        lines += [f"### {model['name']}", "", "| | texts/s | p50 / p99 ms | CPU ms a text | of the best batch called "
                  "directly | p50 by a single call |", "| --- | --- | --- | --- | --- | --- |"]
        lines += [f"| direct, batches of {d['size']} | {report.significant(d['texts_per_s'])} | "
                  f"{report.significant(d['call_ms'])} a call | | | |" for d in model["direct"]]
        lines += [f"| Weir, concurrency {r['concurrency']}, {r['name']} | {report.significant(r['requests_per_s'])} | "
                  f"{report.significant(r['p50_ms'])} / {report.significant(r['p99_ms'])} | "
                  f"{report.significant(r['cpu_ms'])} | {r['of_best_batch']:.2f} | {r['of_single_call']:.2f} |"
                  for r in model["rows"]]
        lines.append("")
    return "\n".join(lines)


def draw(models):
    """Throughput by concurrency, each model with batching on and off, as shares of its best direct batch."""
    series = {}
    for model in models:
        for row in model["rows"]:
            name = f"{model['name']}, {row['name'].removeprefix('batching ')}"
            series.setdefault(name, []).append((row["concurrency"], 100 * row["of_best_batch"]))
    (ROOT / "docs/images/batching.svg").write_text(plot.line_chart(
        "What batching gains: on and off", "requests at once", "texts a second, % of the engine's best batch", series,
        x_ticks={c: str(c) for c in CONCURRENCIES}))


def main():
    options = arguments()
    machine.require_two_cores()
    machine.require_wrk()
    servers.WORK.mkdir(parents=True, exist_ok=True)
    servers.make_peer_environment()
    servers.build_weir()
    busy = machine.warn_if_busy()
    sentiment = ROOT / ".cache/sentiment"
    if not (sentiment / "model.toml").exists():
        sys.exit("bench: the sentiment model is missing: make fetch")
    models = [measure("sentiment", sentiment, "encoder.onnx", options),
              measure("encoder", encoder_folder(), "model.onnx", options)]
    if not options.quick:
        draw(models)
    result = {**machine.circumstances(options, busy), "models": models}
    print(json.dumps(result, indent=2) if options.json else report.machine_line(result) + "\n\n" + markdown(models))


if __name__ == "__main__":
    main()
