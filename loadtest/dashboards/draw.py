"""Draws each Grafana dashboard as a picture from what a Prometheus has seen: the panels where they stand, with their titles,
units and legends.

A panel that has nothing to draw is an error. One that stood at nought throughout is named: nothing of its kind happened.
"""

import json
import math
import os
import pathlib
import re
import sys
import time
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

PROMETHEUS = os.environ["CROCHET_PROMETHEUS"]
DASHBOARDS = pathlib.Path(os.environ["CROCHET_DASHBOARDS"])
PICTURES = pathlib.Path(os.environ["CROCHET_PICTURES"])
UNTIL = time.time()
BEGAN = UNTIL - float(os.environ["CROCHET_SECONDS"])
WINDOW = "15s"
STEP_SECONDS = 1
# Of Grafana's grid of 24 columns, in inches.
COLUMN, ROW = 0.75, 0.36
LEGEND_MAX = 10

UNITS = {
    "s": lambda value: seconds(value),
    "reqps": lambda value: f"{value:.3g}/s",
    "percentunit": lambda value: f"{100 * value:.3g} %",
    "bytes": lambda value: f"{value / 2**20:.4g} MiB",
    "currencyUSD": lambda value: f"${value:,.2f}",
}


def seconds(value):
    if abs(value) >= 1 or value == 0:
        return f"{value:.3g} s"
    return f"{1e3 * value:.3g} ms" if abs(value) >= 1e-3 else f"{1e6 * value:.3g} µs"


def unit(panel):
    name = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "short")
    return UNITS.get(name, lambda value: f"{value:.4g}")


def asked(expression):
    query = {"query": expression, "start": BEGAN, "end": UNTIL, "step": STEP_SECONDS}
    url = f"{PROMETHEUS}/api/v1/query_range?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)["data"]["result"]


def legend(form, labels):
    if form in (None, "", "__auto"):
        return ", ".join(value for name, value in labels.items() if name != "__name__")
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda name: labels.get(name[1], ""), form)


def lines(panel):
    """Name and points of each series that has a value."""
    for target in panel["targets"]:
        for series in asked(target["expr"].replace("$__rate_interval", WINDOW)):
            points = [(at, float(value)) for at, value in series["values"]]
            points = [(at - BEGAN, value) for at, value in points if math.isfinite(value)]
            if points:
                yield legend(target.get("legendFormat"), series["metric"]), points


def place(axes, panel):
    axes.set_title(panel["title"], fontsize=9, loc="left", weight="bold")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=7)


def number(axes, panel, found):
    axes.set_xticks([])
    axes.set_yticks([])
    value = found[0][1][-1][1]
    axes.text(0.5, 0.45, unit(panel)(value), ha="center", va="center", fontsize=20, transform=axes.transAxes)


def curves(axes, panel, found):
    found = sorted(found, key=lambda line: -max(value for _, value in line[1]))
    for count, (name, points) in enumerate(found):
        marker = "." if len(points) == 1 else None
        axes.plot(*zip(*points), label=name if count < LEGEND_MAX else None, linewidth=1.1, marker=marker)
    axes.yaxis.set_major_formatter(lambda value, _: unit(panel)(value))
    if all(value == 0 for _, points in found for _, value in points):
        axes.set_ylim(0, 1)
    else:
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    axes.grid(alpha=0.25)
    title = f"and {len(found) - LEGEND_MAX} more" if len(found) > LEGEND_MAX else None
    axes.legend(fontsize=6, loc="upper left", title=title, title_fontsize=6, framealpha=0.6)


def draw(path):
    """The picture of one dashboard; its panels with nothing to draw, and those that stood at nought."""
    dashboard = json.loads(path.read_text())
    panels = dashboard["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = pyplot.figure(figsize=(24 * COLUMN, height * ROW))
    figure.suptitle(dashboard["title"], fontsize=12, x=0.02, y=1 - 0.1 / (height * ROW), ha="left", va="top")
    empty, still = [], []
    for panel in panels:
        grid = panel["gridPos"]
        left, width = (grid["x"] + 1.4) / 24, (grid["w"] - 1.9) / 24
        bottom = 1 - (grid["y"] + grid["h"] - 0.4) / (height + 1) - 0.5 / (height + 1)
        axes = figure.add_axes((left, bottom, width, (grid["h"] - 1.8) / (height + 1)))
        place(axes, panel)
        found = list(lines(panel))
        if not found:
            empty.append(panel["title"])
            axes.text(0.5, 0.5, "nothing to draw", color="red", ha="center", transform=axes.transAxes)
            continue
        if all(value == 0 for _, points in found for _, value in points):
            still.append(panel["title"])
        (number if panel["type"] == "stat" else curves)(axes, panel, found)
    picture = PICTURES / f"{path.stem}.png"
    figure.savefig(picture, dpi=100)
    pyplot.close(figure)
    print(f"  {picture}: {len(panels)} panels")
    return empty, still


def main():
    PICTURES.mkdir(parents=True, exist_ok=True)
    failed = False
    for path in sorted(DASHBOARDS.glob("*.json")):
        empty, still = draw(path)
        for title in still:
            print(f"    at nought throughout: {title}")
        for title in empty:
            print(f"    FAILED: nothing to draw: {title}")
        failed |= bool(empty)
    return failed


sys.exit(main())
