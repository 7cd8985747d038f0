"""Builds the images and runs them as production would: `make test-container` (slow lane, needs root).

    run.py                      compiles Weir in the image build: 12 minutes on two cores
    run.py --binary PATH        takes a binary that is there: three minutes
    run.py --arm64              the image for arm64 instead, compiled here and run by an emulator

Needs a machine with Debian's or Ubuntu's packages; installs Docker and debootstrap where they are missing. No image
is pulled: `bases.py` makes stand-ins. Everything lives in .cache/container, on a daemon of its own;
at the end only the bootstrapped Debian stays there, for the next run.
"""

import argparse
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import bases
import emulated
import image
import running
from docker import Docker, install

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = ROOT / "deploy/docker/Dockerfile"
WEIR, VARIANT, BAKED, ARM64 = "weir:dev", "weir:dev-onnxruntime", "housing:dev", "weir:dev-arm64"


class Table:
    """Results, printed as they come and once more at the end."""

    def __init__(self):
        self.rows, self.failed = [], 0

    def check(self, what, work, *arguments):
        """Runs one check; a failed one does not keep the others from running."""
        begun = time.monotonic()
        try:
            result = work(*arguments)
        except AssertionError as error:
            self.failed += 1
            result = f"FAILED: {error}"
        self.rows.append((what, result.splitlines()[0], time.monotonic() - begun))
        print(f"{what:<34} {result}", flush=True)

    def print(self):
        print("\n| check | result | seconds |\n| --- | --- | --- |")
        for what, result, took in self.rows:
            print(f"| {what} | {result} | {took:.1f} |")


def build(docker, tag, *arguments, file=DOCKERFILE, context=ROOT):
    """Builds an image and tells how long it took; the output is kept beside the daemon's log."""
    log = docker.folder / f"build-{tag.replace(':', '-')}.log"
    docker.run("build", "--network", "host", "--progress", "plain", "--file", file, "--tag", tag,
               "--secret", f"id=certificates,src={bases.certificates()}", *arguments, context, log=log)
    return "built"


def arm64(docker, table, options):
    """Builds and checks the image for arm64."""
    table.check("toolchain", emulated.toolchain)
    table.check("base: Rust", lambda: bases.rust(docker) or "made of this machine's toolchain")
    table.check("build: weir for arm64", build, docker, ARM64, "--platform=linux/arm64", *arguments(options))
    if table.failed:
        return
    table.check(f"{ARM64}: size", image.size, docker, ARM64)
    table.check(f"{ARM64}: configuration", emulated.configuration, docker, ARM64)
    table.check(f"{ARM64}: files", lambda: image.contents(docker, ARM64)[0])
    table.check(f"{ARM64}: both models", emulated.answers_and_leaves, docker, ARM64,
                [running.HOUSING, running.SENTIMENT])


def arguments(options):
    """What every build is told."""
    return [f"--build-arg=PROFILE={options.profile}", f"--build-arg=DEBIAN_IMAGE={bases.DEBIAN}",
            f"--build-arg=RUST_IMAGE={bases.RUST}"]


def images(docker, table, options):
    """Builds everything; without an image nothing else is worth trying."""
    told = arguments(options)
    if options.binary:
        place = ROOT / "dist/amd64/weir"
        place.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["strip", "-o", place, options.binary], check=True)
        told.append("--build-arg=BINARY=prebuilt")
    else:
        table.check("base: Rust", lambda: bases.rust(docker) or "made of this machine's toolchain")
    table.check("build: weir", build, docker, WEIR, *told)
    table.check("build: with ONNX Runtime", build, docker, VARIANT, "--target=onnxruntime", *told)
    table.check("build: a model baked in", baked, docker)
    if not options.binary:
        table.check("build: dependencies cached", dependencies_stay, docker, told)


def baked(docker):
    """An image of the housing model: the files that serve it, and none of its training."""
    models = docker.folder / "models"
    shutil.rmtree(models, ignore_errors=True)
    (models / "housing").mkdir(parents=True)
    for name in ("model.toml", "model.onnx", "samples.jsonl"):
        shutil.copy(running.HOUSING / name, models / "housing")
    return build(docker, BAKED, f"--build-arg=WEIR_IMAGE={WEIR}", file=ROOT / "deploy/docker/baked.Dockerfile", context=models)


def dependencies_stay(docker, told):
    """A change of a source compiles no dependency again."""
    with_change = docker.folder / "changed"
    shutil.copytree(ROOT, with_change, ignore=shutil.ignore_patterns("target", ".cache", ".git", "dist", "tests"))
    source = with_change / "crates/weir-types/src/lib.rs"
    source.write_text(source.read_text() + "\n// changed\n")
    log = docker.folder / "build-changed.log"
    docker.run("build", "--network", "host", "--progress", "plain", "--file", DOCKERFILE, "--target", "dependencies",
               *told, with_change, log=log)
    shutil.rmtree(with_change)
    assert "Compiling" not in log.read_text(), f"dependencies were compiled again: {log}"
    return "a changed source compiles none again"


def checks(docker, table):
    """All that is asked of the images."""
    library = "usr/local/lib/libonnxruntime.so"
    both = [running.HOUSING, running.SENTIMENT]
    for name, limit, more, programs in [
        (WEIR, image.LIMIT, (), ["/usr/local/bin/weir"]),
        (VARIANT, 2 * image.LIMIT, (library,), ["/usr/local/bin/weir", f"/{library}"]),
    ]:
        table.check(f"{name}: size", image.size, docker, name, limit)
        table.check(f"{name}: configuration", image.configuration, docker, name)
        table.check(f"{name}: files", lambda: image.contents(docker, name, more)[0])
        table.check(f"{name}: shell", image.no_shell, docker, name)
        table.check(f"{name}: loader",
                    lambda: image.linked(docker, name, image.contents(docker, name, more)[1], programs))
        table.check(f"{name}: models mounted", running.healthy_and_right, docker, name, both, running.mounted(*both))
    table.check(f"{VARIANT}: engine", running.on_onnxruntime, docker, VARIANT)
    table.check(f"{BAKED}: model baked in", running.healthy_and_right, docker, BAKED, both[:1], [])
    table.check("model fetched", running.fetched, docker, WEIR)
    table.check("SIGTERM under load", running.drains, docker, WEIR, [])
    table.check("SIGTERM while it loads", running.ends_while_it_loads, docker, WEIR)
    table.check("limits of the cgroup", running.follows_its_cgroup, docker, WEIR)
    table.check("wrong configuration", running.refuses_what_is_wrong, docker, WEIR)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=Path, help="a weir for this machine, instead of compiling one")
    parser.add_argument("--profile", default="dist", help="cargo profile to compile with")
    parser.add_argument("--arm64", action="store_true", help="the image for arm64 instead")
    parser.add_argument("--keep", action="store_true", help="keep images and logs, for a look at them")
    options = parser.parse_args()
    if platform.machine() != "x86_64":
        sys.exit("tests/container has run on x86_64 only")
    install({str(emulated.EMULATOR): "qemu-user-static"} if options.arm64 else {})
    cache = ROOT / ".cache/container"
    cache.mkdir(parents=True, exist_ok=True)
    table, folder = Table(), cache.resolve() / "daemon"
    with Docker(folder) as docker:
        table.check("base: Debian", lambda: bases.debian(docker, cache.resolve()) or "made by debootstrap")
        if options.arm64:
            arm64(docker, table, options)
        else:
            images(docker, table, options)
            if not table.failed:
                checks(docker, table)
        table.print()
        for size, by in image.layers(docker, ARM64 if options.arm64 else WEIR) if not table.failed else []:
            print(f"layer {size / image.MEGABYTE:6.1f} MB  {by[:80]}")
    if not options.keep and not table.failed:
        shutil.rmtree(folder)
    print(f"container: {len(table.rows) - table.failed} checks passed, {table.failed} failed")
    sys.exit(1 if table.failed else 0)


if __name__ == "__main__":
    main()
