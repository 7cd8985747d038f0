#!/usr/bin/env python3
"""Draws dashboards as SVG for docs/guide/monitoring.md, from Prometheus's answers about a real run.

Grafana cannot be had here: what is drawn are the panels' queries, by the small code below, not by Grafana. The run
takes three minutes and does not join the tests: `.cache/venvs/monitoring/bin/python tests/monitoring/draw.py`.
"""

import json
import math
import signal
import subprocess
import sys
import time
from html import escape

from asking import ask, post, together
from expressions import DASHBOARDS, GRAFANA, ROOT, absent, filled
from scenario import HOUSING, NO_STORE, TEXT, bulk

sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "bench")]
from plot import COLOURS, STYLE, Axis  # noqa: E402
from stack import Stack, listens, weir_binary  # noqa: E402

IMAGES = ROOT / "docs/images"
WANTED = {"weir-service", "weir-cache"}
DURATION_S, REDIS_AWAY_S, REDIS_BACK_S, BURST_S = 150, 40, 70, 105
GRAFANA["$__rate_interval"] = "5s"
# Pixels of Grafana's grid: 24 columns, rows of this height.
COLUMN, ROW, GAP = 46, 26, 8
UNITS = {"bytes": (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)), "s": (("s", 1), ("ms", 1e-3), ("µs", 1e-6)),
         "percentunit": (("%", 0.01),)}


def in_unit(value, unit):
    """A value for people."""
    if not value:
        return "0"
    for name, size in UNITS.get(unit, ()):
        if abs(value) >= size or name in ("µs", "KiB", "%"):
            return f"{value / size:.3g} {name}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def run(stack):
    """Two replicas under load; Redis goes away and comes back; then a burst that is too much."""
    stack.start_redis()
    models = [HOUSING, TEXT / "classifier"]
    replicas = [stack.start_weir(f"weir-{name}", models) for name in "ab"]
    prometheus = stack.start_prometheus().url
    common = ["--duration", f"{DURATION_S}s", "--warmup", "0s", "--repeat", "0.95", "--connections", "32"]
    loads = [subprocess.Popen([weir_binary(), "load", replica.url, model, "--rate", rate, *common], stdout=subprocess.DEVNULL)
             for replica in replicas for model, rate in (("housing", "150"), ("classifier", "60"))]
    begun = time.time()
    until(begun + REDIS_AWAY_S)
    stack.redis.stop(signal.SIGKILL)
    until(begun + REDIS_BACK_S)
    stack.redis.start()
    stack.redis.wait(lambda: listens(stack.redis.port))
    until(begun + BURST_S)
    body, hurried = bulk(4000), NO_STORE | {"Request-Timeout": "0.1"}
    while time.time() < begun + BURST_S + 15:
        together(64, lambda i: post(replicas[0], "/v2/models/housing/infer", body, hurried))
    [load.wait() for load in loads]
    return prometheus, begun


def until(moment):
    time.sleep(max(0, moment - time.time()))


def lines(prometheus, panel, begun):
    """Legend → points, seconds since the begin and values, of all queries of a panel."""
    found = {}
    for target in panel["targets"]:
        promql = filled(target["expr"])
        if absent(promql):
            continue
        data = ask(prometheus, "query_range", query=promql, start=begun, end=begun + DURATION_S, step=1)
        for series in data["result"]:
            legend = target["legendFormat"]
            for name, value in series["metric"].items():
                legend = legend.replace("{{%s}}" % name, value)
            points = [(float(t) - begun, float(v)) for t, v in series["values"]]
            found[legend.replace("__auto", "")] = [p for p in points if not math.isnan(p[1])]
    return {legend: points for legend, points in sorted(found.items()) if points}


def draw_panel(panel, found):
    """One panel at its place."""
    place, unit = panel["gridPos"], panel["fieldConfig"]["defaults"]["unit"]
    left, top = place["x"] * COLUMN + GAP, place["y"] * ROW + GAP + 24
    width, height = place["w"] * COLUMN - 2 * GAP, place["h"] * ROW - 2 * GAP
    parts = [f'<rect class="panel" x="{left}" y="{top}" width="{width}" height="{height}"/>',
             f'<text x="{left + 8}" y="{top + 18}" style="font-weight:600">{escape(panel["title"])}</text>']
    if panel["type"] == "stat":
        last = " ".join(in_unit(points[-1][1], unit) for points in list(found.values())[:3]) or "–"
        return [*parts, f'<text x="{left + width / 2}" y="{top + height - 14}" text-anchor="middle" style="font-size:22px">{last}</text>']
    if not found:
        return [*parts, f'<text x="{left + width / 2}" y="{top + height / 2}" text-anchor="middle">–</text>']
    x = Axis([0, DURATION_S], left + 62, left + width - 22, False, True)
    y = Axis([v for points in found.values() for _, v in points], top + height - 42, top + 34, False, True)
    for value in y.ticks[:: max(1, len(y.ticks) // 4)]:
        parts += [f'<line class="grid" x1="{x.start}" x2="{x.end}" y1="{y.at(value):.1f}" y2="{y.at(value):.1f}"/>',
                  f'<text x="{x.start - 6}" y="{y.at(value):.1f}" dy="4" text-anchor="end">{in_unit(value, unit)}</text>']
    for seconds in range(0, DURATION_S + 1, 50):
        parts.append(f'<text x="{x.at(seconds):.1f}" y="{top + height - 26}" text-anchor="middle">{seconds} s</text>')
    for colour, points in zip(COLOURS * 9, found.values()):
        # Where there is no number, there is no line.
        moves = ("M" if not i or t - points[i - 1][0] > 1.5 else "L" for i, (t, _) in enumerate(points))
        drawn = "".join(f"{move}{x.at(t):.1f} {y.at(v):.1f}" for move, (t, v) in zip(moves, points))
        parts.append(f'<path d="{drawn}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    return parts + legend(found, left + 8, top + height - 8, width)


def legend(found, left, top, width):
    """As many names as there is room for."""
    parts, at = [], left
    for colour, name in zip(COLOURS * 9, found):
        wide = 14 + 6.6 * len(name)
        if at + wide > left + width - 16:
            return [*parts, f'<text x="{at}" y="{top}">…</text>']
        parts.append(f'<text x="{at}" y="{top}" style="font-size:11px;fill:{colour}">{escape(name)}</text>')
        at += wide
    return parts


def draw(prometheus, dashboard, begun):
    """A dashboard; what is no line or number is left out, with its place."""
    parts, bottom = [], 0
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        if panel["type"] == "row":
            parts.append(f'<text class="title" x="{GAP}" y="{place["y"] * ROW + 46}">{escape(panel["title"])}</text>')
        elif panel["type"] in ("timeseries", "stat"):
            parts += draw_panel(panel, lines(prometheus, panel, begun))
        bottom = max(bottom, (place["y"] + place["h"]) * ROW + 32)
    style = STYLE + ".panel{fill:none;stroke:#bbb}text{font-size:12px}"
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * COLUMN} {bottom}" role="img" '
            f'aria-label="{escape(dashboard["title"])}"><style>{style}</style>'
            f'<text class="title" x="{GAP}" y="20">{escape(dashboard["title"])}</text>\n' + "\n".join(parts) + "</svg>\n")


def main():
    with Stack(interval="1s") as stack:
        prometheus, begun = run(stack)
        for path in DASHBOARDS:
            if path.stem in WANTED:
                picture = draw(prometheus, json.loads(path.read_text()), begun)
                (IMAGES / f"dashboard-{path.stem.removeprefix('weir-')}.svg").write_text(picture)


if __name__ == "__main__":
    main()
