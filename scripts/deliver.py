#!/usr/bin/env python3
"""From training to a package that may be promoted: `make deliver-model MODEL=housing`.

    scripts/deliver.py FOLDER [--weir PROGRAM] [--out FOLDER] [--trained] [--stop-after STEP]

FOLDER is a model with a delivery.toml. The steps, each of which ends the delivery when it fails:

    train     its command in a copy of the folder (`--trained`: the artefact that is there)
    inspect   what Weir makes of it, and which engine would run it
    parity    every golden row of samples.jsonl, answered by Weir, against what training wrote
    latency   `weir serve` and `weir load` at the rate of [check], held to its `fail_if`
    package   `weir package`: an archive with its SHA-256

OUT (.cache/delivery/NAME) then has the archive, delivery.json with every figure, and delivery.md, the text of
the change that promotes it. Nothing is deployed here: `scripts/promote.py` names it in an overlay, a person or a rule
merges that, and the cluster follows. The gate on quality (is it better than what serves?) is not here yet.
"""

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STEPS = ("train", "inspect", "parity", "latency", "package")
# Seconds that a server may take to drain.
PATIENCE = 60


class Failed(Exception):
    """A step that did not hold, and why."""


def run(*command, **options):
    """Runs a program and returns what it wrote; a failure carries all of it."""
    done = subprocess.run([*map(str, command)], text=True, capture_output=True, **options)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


class Delivery:
    """One model on its way."""

    def __init__(self, folder, weir, out):
        self.source, self.weir, self.out = folder, weir, out
        self.model = out / folder.name
        description = tomllib.loads((folder / "delivery.toml").read_text())
        self.training, self.limits = description["train"], description["check"]
        self.figures = {"model": folder.name}

    def prepare(self):
        """A copy to work in: training writes beside its script, and must not touch the checkout."""
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.copytree(self.source, self.model, ignore=shutil.ignore_patterns(".venv", "__pycache__"))

    def train(self):
        venv, wanted = self.environment()
        downloads = self.out / "downloads"
        run(venv / "bin/python", "-m", "pip", "download", "--quiet", "--no-deps", "--dest", downloads,
            *self.training["downloads"])
        for name in ("model.onnx", "samples.jsonl"):
            (self.model / name).unlink(missing_ok=True)
        words = [word.format(downloads=downloads) for word in self.training["command"]]
        log = run(venv / "bin/python", *words, cwd=self.model)
        (self.out / "train.log").write_text(log)
        shutil.rmtree(downloads)
        return {"log": "train.log", "requirements": wanted.read_text().splitlines(), "last_lines": log.splitlines()[-12:]}

    def environment(self):
        """The environment that the training's requirements ask for, made where it is not up to date."""
        wanted = self.source / self.training["requirements"]
        venv = ROOT / ".cache/venvs" / f"train-{self.source.name}"
        made = venv / "requirements.txt"
        if not made.exists() or made.read_text() != wanted.read_text():
            shutil.rmtree(venv, ignore_errors=True)
            run(sys.executable, "-m", "venv", venv)
            run(venv / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", wanted)
            shutil.copy(wanted, made)
        return venv, wanted

    def inspect(self):
        [model] = json.loads(run(self.weir, "--json", "inspect", self.model))["models"]
        kept = {key: model[key] for key in ("name", "version", "digest", "bytes", "samples")}
        return kept | {"engine": f"{model['engine']['name']} {model['engine']['version']}"}

    def parity(self):
        rows = [json.loads(line) for line in (self.model / "samples.jsonl").read_text().splitlines()]
        if not rows:
            raise Failed("samples.jsonl has no rows: nothing says what the answers have to be")
        lines = run(self.weir, "predict", self.model, input="".join(json.dumps(row["input"]) + "\n" for row in rows))
        answers = [json.loads(line) for line in lines.splitlines()]
        if len(answers) != len(rows):
            raise Failed(f"{len(rows)} golden rows, {len(answers)} answers")
        gaps = [gap(row["prediction"], answer["prediction"]) for row, answer in zip(rows, answers)]
        largest = max(gaps)
        if not largest <= self.limits["tolerance"]:
            raise Failed(f"golden row {gaps.index(largest) + 1} is {largest:.3g} away, {self.limits['tolerance']} is allowed")
        return {"rows": len(rows), "largest_gap": largest, "allowed": self.limits["tolerance"]}

    def latency(self):
        server = subprocess.Popen([self.weir, "--json", "serve", self.model, "--listen", "127.0.0.1:0"],
                                  stderr=subprocess.PIPE, text=True, env={**os.environ, "WEIR_LOG__FORMAT": "json"})
        try:
            loaded = subprocess.run(
                [self.weir, "--json", "load", address(server), self.figures["inspect"]["name"],
                 "--rate", str(self.limits["rate"]), "--duration", self.limits["duration"],
                 "--samples", self.model / "samples.jsonl", "--fail-if", ",".join(self.limits["fail_if"])],
                text=True, capture_output=True)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(PATIENCE)
        (self.out / "load.json").write_text(loaded.stdout)
        measured = json.loads(loaded.stdout)["measured"] if loaded.stdout else {}
        if loaded.returncode:
            # On a machine that is too busy to send in time, the figures are about that machine.
            late = measured.get("generator", {}).get("bottleneck")
            raise Failed(loaded.stderr.strip() + (f"\nthe generator: {late}" if late else ""))
        kept = {key: measured["latency"][key] for key in ("count", "p50_ms", "p99_ms", "max_ms")}
        return kept | {"rate": self.limits["rate"], "kept": self.limits["fail_if"]}

    def package(self):
        inspected = self.figures["inspect"]
        archive = self.out / f"{inspected['name']}-{inspected['version']}.tar.gz"
        told = json.loads(run(self.weir, "--json", "package", self.model, "--output", archive))
        digests = [model["digest"] for model in told["models"]]
        if digests != [inspected["digest"]]:
            raise Failed(f"the package holds {digests}, what was checked is {inspected['digest']}")
        return {key: told[key] for key in ("file", "bytes", "sha256")}

    def write(self):
        """The figures, for machines and for the change that promotes the model."""
        (self.out / "delivery.json").write_text(json.dumps(self.figures, indent=1) + "\n")
        (self.out / "delivery.md").write_text(summary(self.figures))


def gap(expected, found):
    """How far an answer is from the golden row's: numbers by value, all else equal or endlessly far."""
    if isinstance(expected, dict) and isinstance(found, dict) and expected.keys() == found.keys():
        return max((gap(expected[key], found[key]) for key in expected), default=0.0)
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return max(map(gap, expected, found), default=0.0)
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in (expected, found)):
        distance = abs(expected - found)
        return math.inf if math.isnan(distance) else distance
    return 0.0 if expected == found else math.inf


def address(server):
    """Where the server says that it listens."""
    said = []
    for line in server.stderr:
        said.append(line)
        at = json.loads(line).get("address") if line.startswith("{") else None
        if at:
            return f"http://{at}"
    raise Failed("the server did not start:\n" + "".join(said))


def summary(figures):
    """A page of Markdown: what was delivered, and what was measured."""
    inspected, rows = figures.get("inspect", {}), []
    if inspected:
        rows += [("model", f"{inspected['name']}/{inspected['version']}"), ("digest", f"`{inspected['digest']}`"),
                 ("engine", inspected["engine"])]
    if parity := figures.get("parity"):
        rows.append(("parity", f"{parity['rows']} golden rows, largest gap {parity['largest_gap']:.2g} "
                               f"({parity['allowed']:g} allowed)"))
    if latency := figures.get("latency"):
        rows.append(("latency", f"{latency['count']} requests at {latency['rate']}/s: p50 {latency['p50_ms']:.2f} ms, "
                                f"p99 {latency['p99_ms']:.2f} ms; kept: none of {', '.join(latency['kept'])}"))
    if package := figures.get("package"):
        rows.append(("package", f"{Path(package['file']).name}, {package['bytes']} bytes, SHA-256 `{package['sha256']}`"))
    table = "".join(f"| {what} | {value} |\n" for what, value in rows)
    return f"# {figures['model']}\n\n| | |\n| --- | --- |\n{table}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a model with a delivery.toml")
    parser.add_argument("--weir", type=Path, default=ROOT / "target/release/weir", help="the program that checks and packs")
    parser.add_argument("--out", type=Path, help="where to work and what to leave [.cache/delivery/NAME]")
    parser.add_argument("--trained", action="store_true", help="take the artefact that is there")
    parser.add_argument("--stop-after", choices=STEPS, default=STEPS[-1], help="the last step to take")
    options = parser.parse_args()
    folder = options.folder.resolve()
    delivery = Delivery(folder, options.weir.resolve(), (options.out or ROOT / ".cache/delivery" / folder.name).resolve())
    delivery.prepare()
    for step in STEPS[: STEPS.index(options.stop_after) + 1]:
        if step == "train" and options.trained:
            continue
        try:
            delivery.figures[step] = getattr(delivery, step)()
        except Failed as error:
            sys.exit(f"{step}: FAILED\n{error}")
        shown = {key: value for key, value in delivery.figures[step].items() if key not in ("requirements", "last_lines")}
        print(f"{step}: {json.dumps(shown)}", flush=True)
    delivery.write()
    print(f"delivered: {delivery.out}")


if __name__ == "__main__":
    main()
