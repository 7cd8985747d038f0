"""What must be true of a container that runs, hardened as `docker.HARDENED` says."""

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from docker import await_that
from image import UID

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
HOUSING, SENTIMENT = ROOT / "examples/models/housing", ROOT / ".cache/sentiment"
CONFIG = ROOT / "examples/weir.toml"
# Differences that a processor's vector units may make.
TOLERANCE = 1e-4
CALLERS, REQUESTS = 32, 2000


def mounted(*models):
    """Options that mount models where the image looks for them, read-only."""
    return [f"--volume={path.resolve()}:/models/{path.name}:ro" for path in models]


def golden(model):
    """The rows of a model and the answers that they are to have."""
    return [json.loads(line) for line in (model / "samples.jsonl").read_text().splitlines()]


def answers(container, models):
    """Golden rows of each model, over HTTP: the answers that training gave."""
    asked = 0
    for model in models:
        rows = golden(model)[:50]
        code, text = container.ask(f"/v1/models/{model.name}:predict",
                                   {"instances": [row["input"] for row in rows]})
        assert code == 200, text
        got = json.loads(text)["predictions"]
        assert len(got) == len(rows)
        for row, answer in zip(rows, got):
            close(answer, {key: value for key, value in row.items() if key not in ("input", "tolerance")}, row)
        asked += len(rows)
    return asked


def close(found, expected, where):
    """Whether an answer says what the golden row says, of the words that both have."""
    if isinstance(expected, dict) and isinstance(found, dict):
        shared = expected.keys() & found.keys()
        assert shared, f"{found} has none of {expected}: {where}"
        for key in shared:
            close(found[key], expected[key], where)
    elif isinstance(expected, dict) and len(expected) == 1:
        close(found, *expected.values(), where)
    elif isinstance(expected, list):
        assert len(found) == len(expected), f"{found}, not {expected}: {where}"
        for one, other in zip(found, expected):
            close(one, other, where)
    elif isinstance(expected, float):
        assert abs(found - expected) <= TOLERANCE, f"{found}, not {expected}: {where}"
    else:
        assert found == expected, f"{found}, not {expected}: {where}"


def healthy_and_right(docker, image, models, arguments):
    """HEALTHCHECK turns healthy, golden rows are answered, the process has no rights, metrics count."""
    with docker.start(image, *arguments) as container:
        took = container.await_healthy()
        asked = answers(container, models)
        rights = container.status()
        assert rights["Uid"] == [str(UID)] * 4 and rights["CapEff"] == ["0" * 16], rights
        assert rights["NoNewPrivs"] == ["1"] and rights["Seccomp"] == ["2"], rights
        code, metrics = container.ask("/metrics")
        counted = re.findall(r'^weir_requests_total\{.*code="200".*\} (\d+)', metrics, re.MULTILINE)
        assert code == 200 and sum(map(int, counted)) >= len(models), metrics[:2000]
        resident = re.search(r"^process_resident_memory_bytes (\S+)", metrics, re.MULTILINE)
        return f"healthy after {took:.1f} s, {asked} golden rows right, {float(resident[1]) / 1e6:.0f} MB resident"


@contextlib.contextmanager
def web(container, folder):
    """A web server that gives the files of a folder, at a loopback that has nothing but the container."""
    command = container.inside(sys.executable, "-m", "http.server", "8099", "--bind", "127.0.0.1", "--directory", folder)
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        server.kill()
        server.wait()


def fetched(docker, image):
    """A model comes from a web server into the one folder that may be written, and is there after a restart; nothing is
    unpacked where it has another SHA-256 than was said."""
    place = docker.folder / "fetched"
    place.mkdir(exist_ok=True)
    place.chmod(0o777)
    packed = docker.once(image, f"--volume={HOUSING}:/in/housing:ro", f"--volume={place}:/out",
                         command=("package", "/in/housing", "--output", "/out/housing.tar.gz", "--force"))
    assert packed.returncode == 0, packed.stdout + packed.stderr
    right = hashlib.sha256((place / "housing.tar.gz").read_bytes()).hexdigest()

    def start(said, *mount):
        config = place / f"{said}.toml"
        config.write_text('[server]\nlisten = "0.0.0.0:8000"\nmodels = ["/models"]\n\n[[archive]]\n'
                          f'url = "http://127.0.0.1:8099/housing.tar.gz"\nsha256 = "{said}"\n')
        return docker.start(image, f"--volume={config}:/etc/weir/weir.toml:ro", *mount)

    # An earlier run may have kept its daemon's folder.
    docker.run("volume", "rm", "--force", "fetched")
    kept = "--volume=fetched:/var/lib/weir"
    with start(right, kept) as container:
        await_that("it listens", lambda: "listening on" in container.logs, 60, lambda: container.logs)
        code, missing = container.ask("/readyz")
        assert code == 503 and "housing" in missing and "fetched" in missing, missing
        with web(container, place):
            container.await_healthy()
        asked = answers(container, [HOUSING])
    with start(right, kept) as container:
        container.await_healthy()
        asked += answers(container, [HOUSING])
    with start("0" * 64, f"--tmpfs=/var/lib/weir:uid={UID}") as container, web(container, place):
        code = container.await_end(60)
        assert code == 1 and right in container.logs, (code, container.logs)
    return f"503 until it is there, {asked} golden rows right, half of them after a restart without the web server; another SHA-256: exit 1"


def drains(docker, image, arguments):
    """SIGTERM under load: whatever was sent is answered, and the status is 0."""
    settings = ["--env=WEIR_SERVER__DRAIN_DELAY=2s", f"--volume={CONFIG.parent / 'housing.toml'}:/etc/weir/weir.toml:ro",
                f"--volume={HOUSING}:/etc/weir/models/housing:ro", "--env=WEIR_SERVER__LISTEN=0.0.0.0:8000"]
    row = docker.folder / "row.json"
    row.write_text(json.dumps(golden(HOUSING)[0]["input"]))
    with docker.start(image, *settings, *arguments) as container:
        container.await_healthy()
        callers = subprocess.Popen(
            container.inside(sys.executable, HERE / "callers.py", 8000, CALLERS, row), text=True, stdout=subprocess.PIPE)
        await_that("callers are at work", lambda: served(container) > REQUESTS, 30)
        begun = time.monotonic()
        stopped = docker.run("stop", "--time", "30", container.name)
        took = time.monotonic() - begun
        counts = json.loads(callers.communicate(timeout=60)[0])
        assert stopped.returncode == 0 and container.state["ExitCode"] == 0, container.logs
        assert "drained" in container.logs, container.logs
        lost = counts["sent"] - counts["answered"]
        assert lost == 0 and counts["told to leave"] == CALLERS, counts
        return f"{counts['sent']} requests of {CALLERS} callers, {lost} lost, exit 0 in {took:.1f} s"


def served(container):
    _, metrics = container.ask("/metrics")
    return sum(map(int, re.findall(r'^weir_requests_total\{.*route="/predict".*\} (\d+)', metrics, re.MULTILINE)))


def ends_while_it_loads(docker, image):
    """SIGTERM before it listens, to the first process of a container: it ends at once, not at the kill."""
    # A fiftieth of a core, so that loading takes long enough to be met in it.
    with docker.start(image, "--cpus=0.02", *mounted(HOUSING, SENTIMENT)) as container:
        caught = 1 << (signal.SIGTERM - 1)
        # The program of the container, and not what starts it, which catches all signals.
        catches = lambda status: status["Name"] == ["weir"] and int(status["SigCgt"][0], 16) & caught
        await_that("it catches SIGTERM", lambda: catches(container.status()), 60)
        assert "listening" not in container.logs, "loaded before it could be told to end"
        os.kill(container.state["Pid"], signal.SIGTERM)
        code = container.await_end(20)
        assert code == 128 + signal.SIGTERM, (code, container.logs)
        return f"exit {code}"


def follows_its_cgroup(docker, image):
    """One core means one thread for requests; the memory granted is enough under load."""
    with docker.start(image, "--cpus=1", "--memory=256m", "--memory-swap=256m", *mounted(HOUSING, SENTIMENT)) as container:
        container.await_healthy()
        wide = container.threads().count("weir-http")
        load = docker.run("run", "--rm", "--network", f"container:{container.name}", image, "--json", "load",
                          "http://127.0.0.1:8000", "sentiment", "--rate", "5", "--duration", "5s",
                          "--fail-if", "errors>0%", check=False)
        assert load.returncode == 0, load.stdout + load.stderr
        assert wide <= 1, container.threads()
        state = container.state
        assert state["Running"] and not state["OOMKilled"]
        return f"1 core: {wide or 'no extra'} thread for requests; 256 MiB held under load"


def refuses_what_is_wrong(docker, image):
    """A wrong configuration ends at once, with status 1 and every problem with its place."""
    wrong = docker.folder / "wrong.toml"
    wrong.write_text('[server]\nmodels = ["/models"]\nlistne = "0.0.0.0:8000"\nmax_body = "huge"\n')
    wrong.chmod(0o644)
    ended = docker.once(image, f"--volume={wrong}:/etc/weir/weir.toml:ro", *mounted(HOUSING))
    text = ended.stdout + ended.stderr
    assert ended.returncode == 1, (ended.returncode, text)
    for part in ("listne", "max_body", "weir.toml:3", "weir.toml:4"):
        assert part in text, text
    empty = docker.once(image)
    assert empty.returncode == 1 and "/models" in empty.stderr + empty.stdout, (empty.returncode, empty.stderr)
    return "exit 1; both problems told with file and line; an empty /models told"


def on_onnxruntime(docker, image):
    """The variant runs neural networks on the library that it carries."""
    told = docker.once(image, *mounted(SENTIMENT), command=("--json", "inspect", "/models/sentiment"))
    assert told.returncode == 0, told.stderr
    engine = json.loads(told.stdout)["models"][0]["engine"]
    assert engine["name"] == "onnxruntime" and "/usr/local/lib/libonnxruntime.so" in engine["reason"], engine
    return f"{engine['name']} {engine['version'].split('+')[0]}"
