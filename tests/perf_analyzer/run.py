#!/usr/bin/env python3
"""perf_analyzer, Triton's load tester, against Weir: no request may fail, no answer be wrong.

    tests/perf_analyzer/run.py            (make test-perf-analyzer)
    WEIR_BINARY=FILE tests/perf_analyzer/run.py

Over HTTP with JSON and with binary tensors, over gRPC and over its stream. perf_analyzer compares
every answer of add_sub with the one given and ends with an error where one differs; a wrong
expectation shows first that it does. The server's own statistics must count what it says it sent.
It reads the metadata, the configuration and the statistics of each model as well.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests/perf_analyzer"
MODELS = [ROOT / "examples/models/housing", ROOT / "tests/v2clients/models"]
REQUESTS = 500
CONCURRENCY = 8
LIMIT_S = 120
TRANSPORTS = {
    "HTTP, JSON": ["-i", "http", "--input-tensor-format", "json", "--output-tensor-format", "json"],
    "HTTP, binary": ["-i", "http"],
    "gRPC": ["-i", "grpc"],
    "gRPC, stream": ["-i", "grpc", "--streaming"],
}


def tensor(content):
    return {"content": content, "shape": [len(content)]}


def housing():
    """Real rows; the rules of the model refuse the random ones that are made without them."""
    lines = (ROOT / "examples/models/housing/samples.jsonl").read_text().splitlines()
    return {"data": [{"input": tensor(list(json.loads(line)["input"].values()))} for line in lines]}


def add_sub(number=int, error=0):
    pairs = [([number(i + k) for k in range(16)], [number(3 * k - i) for k in range(16)]) for i in range(32)]
    return {"data": [{"INPUT0": tensor(a), "INPUT1": tensor(b)} for a, b in pairs],
            "validation_data": [{"OUTPUT0": tensor([x + y + error for x, y in zip(a, b)]),
                                 "OUTPUT1": tensor([x - y for x, y in zip(a, b)])} for a, b in pairs]}


def identity(rows):
    """Its output has no fixed size, so that answers are not compared."""
    return {"data": [{"INPUT0": tensor(row)} for row in rows]}


# The model, its rows, and rows a request. Answers to several rows are not compared.
CASES = [
    ("housing", housing(), 1),
    ("housing", housing(), 32),
    ("add_sub_int32", add_sub(), 1),
    ("add_sub_fp32", add_sub(float), 1),
    ("add_sub_int32", add_sub(), 8),
    ("identity_bytes", identity([["", "text"], ["with \"quotes\"", "and ümlauts"]]), 1),
    ("identity_uint64", identity([[0, 1, 2**53], [7, 8, 9]]), 1),
]


def installed():
    """The command, with the libraries that it needs."""
    run = subprocess.run(["sh", HERE / "install.sh"], stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        sys.exit("perf_analyzer could not be installed; see above")
    place = Path(run.stdout.strip())
    (loader,) = place.glob("root/usr/lib/*-linux-gnu/ld-linux*.so.*")
    return [loader, "--library-path", loader.parent, place / "wheel/perf_analyzer/bin/perf_analyzer"]


def binary():
    if "WEIR_BINARY" in os.environ:
        return os.environ["WEIR_BINARY"]
    build = ["cargo", "build", "--quiet", "--package", "weir", "--message-format", "json"]
    run = subprocess.run(build, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        sys.exit("the build failed; cargo says why above")
    built = [json.loads(line).get("executable") for line in run.stdout.splitlines()]
    return next(file for file in built if file and Path(file).name == "weir")


class Server:
    """Weir on a port that is free, with the models."""

    def __enter__(self):
        command = [binary(), "serve", *MODELS, "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said = []
        for line in self.process.stdout:
            said.append(line)
            if found := re.search(r"listening on http://([0-9.:]+)", line):
                self.address = found[1]
                return self
        sys.exit("weir did not start; it said:\n" + "".join(said))

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate(timeout=30)

    def counts(self, model):
        """Requests that succeeded and that failed, as the server has them."""
        with urllib.request.urlopen(f"http://{self.address}/v2/models/{model}/stats", timeout=10) as answer:
            (stats,) = json.load(answer)["model_stats"]
        return [stats["inference_stats"][what]["count"] for what in ("success", "fail")]


def run(command, server, model, data, batch, options):
    """What perf_analyzer says, and whether it ended well."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(data, file)
        file.flush()
        words = [*command, "-m", model, "-u", server.address, "-b", str(batch), "--input-data", file.name,
                 "--concurrency-range", str(CONCURRENCY), "--request-count", str(REQUESTS), *options]
        ended = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S)
    return ended.returncode == 0, ended.stdout + ended.stderr


def problem(command, server, case, options):
    """What is wrong, or nothing."""
    model, data, batch = case
    if batch > 1:
        data = {"data": data["data"]}
    before = server.counts(model)
    well, said = run(command, server, model, data, batch, options)
    succeeded, failed = (after - then for after, then in zip(server.counts(model), before))
    if not well or f"Request count: {REQUESTS}" not in said:
        return said
    if succeeded < REQUESTS or failed:
        return f"the server counted {succeeded} requests that succeeded and {failed} that failed"
    return None


def main():
    command = installed()
    passed = failed = 0
    with Server() as server:
        for name, options in TRANSPORTS.items():
            _, said = run(command, server, "add_sub_int32", add_sub(error=1), 1, options)
            if "doesn't match expected output" not in said:
                sys.exit(f"{name}: a wrong answer went unnoticed:\n{said}")
            for case in CASES:
                found = problem(command, server, case, options)
                passed, failed = passed + (not found), failed + bool(found)
                print(f"{'FAILED' if found else 'ok'}  {name}: {case[0]}, {case[2]} a request", flush=True)
                if found:
                    print(found)
    print(f"perf_analyzer: {passed} passed, {failed} failed ({REQUESTS} requests each, concurrency {CONCURRENCY})")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
