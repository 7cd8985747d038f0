"""Renders deploy/: kustomize overlays and combinations of components, the Helm chart, and asks weir what it reads."""

import functools
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
VENV = ROOT / ".cache/venvs/deploy"
WEIR = os.environ.get("WEIR", str(ROOT / "target/debug/weir"))
ENVIRONMENTS = ("dev", "staging", "prod")

# Who lets requests in, and what shares out those for a canary; how it scales; what else.
ENTRANCES = ((), ("ingress",), ("canary", "gateway-api"), ("canary", "istio"))
SCALING = ((), ("keda",), ("metrics-adapter",))
REDIS = ((), ("redis",))
MONITORING = ((), ("monitoring",))


def run(*command, cwd=None, stdin=None, env=None, fails=False):
    """Standard output of a command; of one that must fail, its standard error."""
    done = subprocess.run(command, cwd=cwd, input=stdin, env=env, capture_output=True, text=True)
    if (done.returncode != 0) != fails:
        raise AssertionError(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stderr if fails else done.stdout


def objects(text):
    return [found for found in yaml.load_all(text, Loader=yaml.CSafeLoader) if found]


def kustomize(folder):
    return objects(run(VENV / "bin/kubectl", "kustomize", folder))


@functools.cache
def _overlay(environment):
    return json.dumps(kustomize(DEPLOY / "k8s/overlays" / environment))


def overlay(environment):
    """What `kubectl apply -k deploy/k8s/overlays/<environment>` applies: a fresh copy each time."""
    return json.loads(_overlay(environment))


def combinations():
    """Every combination of components that is meant to work."""
    for parts in itertools.product(ENTRANCES, SCALING, REDIS, MONITORING):
        yield tuple(itertools.chain(*parts))


@functools.cache
def combined(environment, components):
    """An environment with components, by a kustomization of its own."""
    with tempfile.TemporaryDirectory() as folder:
        place = lambda *parts: os.path.relpath(DEPLOY.joinpath("k8s", *parts), os.path.realpath(folder))
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": f"weir-{environment}",
            "resources": [place("environments", environment)],
            "components": [place("components", name) for name in components],
        }
        if "canary" in components:
            kustomization["components"].append(place("environments", environment, "size"))
            kustomization["images"] = [{"name": "weir-canary", "newName": "registry.example.com/weir", "newTag": "0.2.0"}]
        Path(folder, "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return kustomize(folder)


def everything():
    """(name, objects) of all that is rendered: the overlays, and all combinations on top of production."""
    yield from ((environment, overlay(environment)) for environment in ENVIRONMENTS)
    for components in combinations():
        yield "prod + " + (", ".join(components) or "nothing"), combined("prod", components)


def chart(environment, *options):
    values = DEPLOY / "helm" / (f"environments/{environment}.yaml" if environment else "weir/values.yaml")
    return objects(run(VENV / "bin/helm", "template", "weir", DEPLOY / "helm/weir", "--namespace", f"weir-{environment}", "--values", values, *options))


def of_kind(found, kind, name=None):
    return [o for o in found if o["kind"] == kind and name in (None, o["metadata"]["name"])]


def the(found, kind, name="weir"):
    [one] = of_kind(found, kind, name)
    return one


def workloads(found):
    return [o for o in found if o["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job")]


def servers(found):
    """The Deployments that run Weir."""
    return [o for o in of_kind(found, "Deployment") if o["metadata"]["labels"].get("app.kubernetes.io/name") == "weir"]


def pod(workload):
    return workload["spec"]["template"]["spec"]


def container(workload):
    [only] = pod(workload)["containers"]
    return only


def mounted_config(found, deployment):
    """weir.toml and the variables that a Deployment's container gets, by the names that its pod refers to."""
    [volume] = [v for v in pod(deployment)["volumes"] if v["name"] == "config"]
    text = the(found, "ConfigMap", volume["configMap"]["name"])["data"]["weir.toml"]
    [source] = container(deployment)["envFrom"]
    return text, the(found, "ConfigMap", source["configMapRef"]["name"])["data"]


@functools.cache
def _settings(text, variables):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "weir.toml").write_text(text)
        env = clean_environment() | dict(variables)
        return run(WEIR, "config", "show", "--config", "weir.toml", "--json", cwd=folder, env=env)


def settings(found, deployment):
    """The settings that the real binary reads from the rendered ConfigMaps."""
    text, variables = mounted_config(found, deployment)
    return json.loads(_settings(text, tuple(sorted(variables.items()))))


def clean_environment():
    return {name: value for name, value in os.environ.items() if not name.startswith("WEIR") and name != "RUST_LOG"} | {"NO_COLOR": "1"}


def seconds(text):
    """`10s`, `1m`, `500ms` in seconds."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
    number = text.rstrip("msdh")
    return float(number) * units[text[len(number):]]


def quantity(text):
    """`512Mi`, `64MiB`, `2`, `500m` as a number."""
    units = {"m": 0.001, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "": 1}
    text = str(text)
    number = text.rstrip("KMGiBm")
    return float(number) * units[text[len(number):]]


if __name__ == "__main__":
    sys.stdout.write(yaml.safe_dump_all(overlay(sys.argv[1])))
