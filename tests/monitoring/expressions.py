"""Every PromQL expression of the dashboards and rules, ready to be asked."""

import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
RULES = ROOT / "deploy/prometheus/rules/weir.yml"

# What Grafana would put in: all of everything, and a window of several scrapes.
GRAFANA = {"$__rate_interval": "10s", "$namespace": ".*", "$job": ".*", "$model": ".*", "$instance": ".*"}

# Metrics that are there under a cgroup with a limit alone, which a test cannot make without root.
# Expressions with them are run in another form (`ELSEWHERE`) or not at all.
ABSENT = {"weir_memory_limit_bytes"}

# What cannot be had here, and what is asked instead so that names and labels are checked all the same.
ELSEWHERE = {
    "WeirBuildMismatch": ("there is one build of Weir to test", lambda promql: promql.replace("> 1", ">= 1")),
    "WeirMemoryNearLimit": (
        "a limit needs a cgroup of its own, which takes root",
        lambda promql: promql.replace("weir_memory_limit_bytes", "process_virtual_memory_bytes").replace("> 0.9", "> 0"),
    ),
}


def filled(promql):
    """With Grafana's variables filled in; none may be left."""
    for name, value in GRAFANA.items():
        promql = promql.replace(name, value)
    assert "$" not in promql and "<" not in re.sub(r"< on|<=", "", promql), promql
    return promql


def panels():
    """Place → expression of every query of every panel, annotations included."""
    found = {}
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text())
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                found[f"{path.stem}: {panel['title']} ({panel['id']}{target['refId']})"] = filled(target["expr"])
        for annotation in dashboard["annotations"]["list"]:
            found[f"{path.stem}: annotation {annotation['name']}"] = filled(annotation["expr"])
    return found


def rules(kind):
    """Name → rule; `kind` is `alert` or `record`."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


def metrics(promql):
    """Names of Weir's and the process's metrics in an expression."""
    return set(re.findall(r"\b(?:weir|process)_[a-z0-9_]+\b", promql))


def absent(promql):
    """Those of them that cannot be had here."""
    return metrics(promql) & ABSENT
