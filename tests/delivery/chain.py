"""The whole way of the housing model: train, check, pack, unpack, promote (slow lane, `make test-delivery`).

    chain.py WEIR

Needs what training needs: PyPI, and some minutes the first time. The overlay that is changed is a copy.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HOUSING = ROOT / "examples/models/housing"


def run(*command):
    done = subprocess.run([*map(str, command)], text=True, capture_output=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    print(done.stdout, end="", flush=True)
    return done.stdout


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main():
    weir = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        model, out = place / "housing", place / "out"
        shutil.copytree(HOUSING, model, ignore=shutil.ignore_patterns("model.onnx", "samples.jsonl", ".venv"))
        # What this machine can keep while it does other things: the gate on speed has its own tests.
        description = model / "delivery.toml"
        description.write_text(description.read_text().replace("p99>25ms", "p99>10s"))
        run(sys.executable, ROOT / "scripts/deliver.py", model, "--weir", weir, "--out", out)
        figures = json.loads((out / "delivery.json").read_text())

        # The card says that training repeats; other vector units may round its last digits.
        same = sha256(out / "housing/model.onnx") == sha256(HOUSING / "model.onnx")
        print(f"trained: {'byte for byte' if same else 'not byte for byte'} what the repository has")

        archive = Path(figures["package"]["file"])
        assert sha256(archive) == figures["package"]["sha256"]
        with tarfile.open(archive) as opened:
            opened.extractall(place / "models", filter="data")
        [unpacked] = json.loads(run(weir, "--json", "inspect", place / "models/housing"))["models"]
        assert unpacked["digest"] == figures["inspect"]["digest"], "what is unpacked is not what was checked"

        # A registry would tell the digest of the image made of it; the archive's stands for that here.
        shutil.copytree(ROOT / "deploy/k8s", place / "k8s")
        image = f"registry.example.com/weir-housing@sha256:{figures['package']['sha256']}"
        run(sys.executable, ROOT / "scripts/promote.py", place / "k8s/environments/dev", "weir", image)
        rendered = subprocess.run([ROOT / ".cache/venvs/deploy/bin/kubectl", "kustomize", place / "k8s/overlays/dev"],
                                  text=True, capture_output=True, check=True).stdout
        assert rendered.count(f"image: {image}") == 1, rendered
    print("delivery chain: trained, checked, packed, unpacked, promoted")


if __name__ == "__main__":
    main()
