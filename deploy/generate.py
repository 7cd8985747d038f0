#!/usr/bin/env python3
"""Writes what is made of deploy/grafana/panels and deploy/prometheus/rules:

    deploy/grafana/dashboards/*.json                       dashboards, for Grafana's provisioning
    deploy/k8s/components/monitoring/dashboards.yaml       the same as ConfigMaps, for Grafana's sidecar
    deploy/k8s/components/monitoring/prometheusrule.yaml   the rules, for the Prometheus operator

    deploy/generate.py           writes them
    deploy/generate.py --check   fails where a file is not what would be written

A description has panels in rows; everything that Grafana wants besides is here, once. A query is a
pair: PromQL and legend. In PromQL stand, in angle brackets, the selections that every panel shares
(`SELECTIONS`); the rest is PromQL as Prometheus takes it.
"""

import json
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
RULES = HERE / "prometheus/rules/weir.yml"
COMPONENT = HERE / "k8s/components/monitoring"
RUNBOOKS = "https://runbooks.example/weir"

# `All` is ".*", which holds for series without the label as well: outside Kubernetes there is no namespace.
SELECTIONS = {
    "<scope>": 'namespace=~"$namespace",job=~"$job",instance=~"$instance"',
    "<model>": 'namespace=~"$namespace",job=~"$job",instance=~"$instance",model=~"$model"',
    "<slo>": 'namespace=~"$namespace",job=~"$job",model=~"$model"',
    "<rate>": "[$__rate_interval]",
}
VARIABLES = {
    "namespace": "label_values(weir_requests_in_flight, namespace)",
    "job": 'label_values(weir_requests_in_flight{namespace=~"$namespace"}, job)',
    "model": 'label_values(weir_queue_length{namespace=~"$namespace",job=~"$job"}, model)',
    "instance": 'label_values(weir_requests_in_flight{namespace=~"$namespace",job=~"$job"}, instance)',
}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
PANEL_KEYS = {
    "title", "kind", "unit", "width", "stack", "text", "columns", "thresholds", "runbook", "exemplars",
    "description", "query",
}
KINDS = {"timeseries", "stat", "table", "heatmap", "bargauge"}
COLUMNS, HEIGHT, STAT_HEIGHT = 24, 8, 4


def expand(promql):
    """PromQL with the selections filled in."""
    for name, selection in SELECTIONS.items():
        promql = promql.replace(name, selection)
    return promql


def variables(names):
    """The choices at the top of a dashboard: where data comes from, then what of it is shown."""
    chosen = [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}]
    for name in names:
        query = VARIABLES[name]
        chosen.append({
            "name": name, "type": "query", "label": name.capitalize(), "datasource": DATASOURCE,
            "query": {"query": query, "refId": name}, "definition": query,
            "includeAll": True, "allValue": ".*", "multi": True, "refresh": 2, "sort": 1,
            "current": {"text": "All", "value": "$__all"},
        })
    return chosen


def thresholds(panel):
    """`{ base = color, color = from, … }` as Grafana's steps."""
    table = dict(panel.get("thresholds", {"base": "green"}))
    steps = [{"color": table.pop("base"), "value": None}]
    steps += [{"color": color, "value": value} for color, value in sorted(table.items(), key=lambda item: item[1])]
    return {"mode": "absolute", "steps": steps}


def defaults(panel, kind):
    """How values are shown."""
    found = {"unit": panel.get("unit", "short"), "thresholds": thresholds(panel)}
    if kind == "timeseries":
        stack = "normal" if panel.get("stack") else "none"
        found["custom"] = {
            "fillOpacity": 20 if panel.get("stack") else 0, "showPoints": "never",
            "stacking": {"mode": stack, "group": "A"},
            "thresholdsStyle": {"mode": "line" if "thresholds" in panel else "off"},
        }
        found["min"] = 0
    else:
        found["color"] = {"mode": "thresholds"}
    return found


def options(panel, kind):
    """What only this kind of panel has."""
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    match kind:
        case "timeseries":
            return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
        case "stat":
            return {"reduceOptions": last, "colorMode": "value", "graphMode": "area",
                    "textMode": "value_and_name" if panel.get("text") == "name" else "auto"}
        case "bargauge":
            return {"reduceOptions": last, "orientation": "horizontal", "displayMode": "basic"}
        case "heatmap":
            return {"calculate": False, "cellGap": 1, "yAxis": {"unit": panel.get("unit", "short")},
                    "color": {"mode": "scheme", "scheme": "Blues", "steps": 64}}
        case "table":
            return {"showHeader": True}
    raise ValueError(kind)


def targets(panel, kind):
    """The queries."""
    found = []
    for index, (promql, legend) in enumerate(panel["query"]):
        found.append({
            "refId": chr(ord("A") + index), "datasource": DATASOURCE, "expr": expand(promql),
            "legendFormat": legend or "__auto", "exemplar": bool(panel.get("exemplars")),
            "instant": kind == "table", "range": kind != "table",
            "format": {"table": "table", "heatmap": "heatmap"}.get(kind, "time_series"),
        })
    return found


def draw(panel, number, place):
    """One panel as Grafana stores it."""
    kind = panel.get("kind", "timeseries")
    unknown = panel.keys() - PANEL_KEYS
    if unknown or kind not in KINDS:
        raise SystemExit(f"panel {panel['title']!r}: unknown {sorted(unknown) or kind}")
    made = {
        "id": number, "title": panel["title"], "type": kind, "datasource": DATASOURCE, "gridPos": place,
        "description": panel.get("description", ""), "targets": targets(panel, kind),
        "fieldConfig": {"defaults": defaults(panel, kind), "overrides": []}, "options": options(panel, kind),
    }
    if "columns" in panel:
        order = {name: index for index, name in enumerate(panel["columns"])}
        made["transformations"] = [
            {"id": "filterFieldsByName", "options": {"include": {"names": panel["columns"]}}},
            {"id": "organize", "options": {"indexByName": order, "renameByName": {"Value": "replicas"}}},
        ]
    if "runbook" in panel:
        made["links"] = [{
            "title": f"Runbook: {panel['runbook']}", "url": f"{RUNBOOKS}/{panel['runbook']}.md", "targetBlank": True,
        }]
    return made


def rows(description):
    """Panels, each with its place: rows are filled from the left, and broken where they are full."""
    made, top = [], 0
    for row in description["row"]:
        made.append({"id": len(made) + 1, "type": "row", "title": row["title"], "collapsed": False, "panels": [],
                     "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1}})
        left, top = 0, top + 1
        height = STAT_HEIGHT if all(panel.get("kind") == "stat" for panel in row["panel"]) else HEIGHT
        for panel in row["panel"]:
            width = panel.get("width", 8)
            if left + width > COLUMNS:
                left, top = 0, top + height
            made.append(draw(panel, len(made) + 1, {"x": left, "y": top, "w": width, "h": height}))
            left += width
        top += height
    return made


def dashboard(description):
    """One dashboard as Grafana stores it."""
    return {
        "uid": description["uid"], "title": description["title"], "description": description["description"],
        "tags": ["weir"], "editable": False, "graphTooltip": 1, "schemaVersion": 39, "version": 1, "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"}, "timezone": "",
        "links": [{"title": "Weir", "type": "dashboards", "tags": ["weir"], "asDropdown": True,
                   "includeVars": True, "keepTime": True}],
        "templating": {"list": variables(description.get("variables", list(VARIABLES)))},
        "annotations": {"list": [{
            "name": "Starts", "enable": True, "iconColor": "orange", "datasource": DATASOURCE,
            "expr": expand('changes(process_start_time_seconds{job=~"$job"}[1m]) > 0'), "titleFormat": "{{instance}} started",
        }]},
        "panels": rows(description),
    }


def dashboards():
    """File name → dashboard."""
    made = {}
    for path in sorted((HERE / "grafana/panels").glob("*.toml")):
        description = tomllib.loads(path.read_text())
        made[f"{description['uid']}.json"] = dashboard(description)
    return made


def config_maps(made):
    """One ConfigMap a dashboard, since all together would be more than kubectl can apply."""
    documents = []
    for file, content in made.items():
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        documents.append(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n"
            f"  name: {file.removesuffix('.json')}-dashboard\n  labels:\n    grafana_dashboard: \"1\"\n"
            f"  annotations:\n    grafana_folder: Weir\ndata:\n  {file}: |-\n    {text}\n"
        )
    return MADE + "---\n".join(documents)


def prometheus_rule():
    """The rules as the Prometheus operator takes them: the file's groups under `spec`."""
    groups = RULES.read_text().partition("groups:\n")[2]
    indented = "".join(f"  {line}" if line.strip() else line for line in groups.splitlines(keepends=True))
    return (
        f"{MADE}apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: weir\n"
        f"spec:\n  groups:\n{indented}"
    )


MADE = "# Made by deploy/generate.py; do not edit.\n"


def files():
    """Path → text of everything that is made."""
    made = dashboards()
    found = {HERE / "grafana/dashboards" / name: json.dumps(content, indent=2, ensure_ascii=False) + "\n"
             for name, content in made.items()}
    found[COMPONENT / "dashboards.yaml"] = config_maps(made)
    found[COMPONENT / "prometheusrule.yaml"] = prometheus_rule()
    return found


def main(arguments):
    if arguments not in ([], ["--check"]):
        raise SystemExit(__doc__)
    made = files()
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    stale += [path for path in (HERE / "grafana/dashboards").glob("*.json") if path not in made]
    if arguments == ["--check"]:
        names = ", ".join(str(path.relative_to(HERE.parent)) for path in stale)
        return f"not as deploy/generate.py writes it: {names}" if stale else None
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
