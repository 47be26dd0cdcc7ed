"""A captured node's simulated next minute against what ``capplan record`` measured in it.

Two predictions are held against each recording, with the tolerances of ``capplan validate``:

- ``record``: the recording's own ``node.yaml``, whose containers follow the recorded curves from
  the captured state on. What of it is in swap, what reclaim takes of the cache and what stays free
  is the model's.
- ``capture``: the captured ``node.yaml`` with one container more, what was about to start
  (``next.yaml``). Nothing of what happened after the capture goes into it.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from capplan.sources.record import NODE
from capplan.validate.series import SeriesScore, measures_of, score_series
from capplan.validate.truth import Course, Recording, course_of_run

NODE_FILE = "node.yaml"
NEXT = "next.yaml"
OBSERVED = "observed.json"
MINUTE_S = 60.0
_GROUP = {  # a truth's name -> columns of the trace that add up to it [bytes]
    "stat.anon": ("anon",), "stat.file": ("file", "shmem"), "memory.swap.current": ("swap",),
    "memory.current": ("usage",),
}  # fmt: skip


def outlook(folder: Path) -> dict[str, tuple[SeriesScore, ...]]:
    """Simulate and compare; errors of each series by the name of the prediction.

    Parameters
    ----------
    folder : Path
        What :func:`lab.observe.observe` wrote.
    """
    observed = json.loads((folder / OBSERVED).read_text(encoding="utf-8"))
    node = yaml.safe_load((folder / "capture" / NODE_FILE).read_text(encoding="utf-8"))
    measured = [_measured(folder / run["trace"], node) for run in observed["runs"]]
    captured_s = [run["capture_s"] - run["record_s"] for run in observed["runs"]]
    after = [_cut(course, at) for course, at in zip(measured, captured_s, strict=True)]
    starts_s = observed["runs"][0]["next_s"] - observed["runs"][0]["capture_s"]
    predictions = {
        "record": (_cut(_simulated(folder / "record" / NODE_FILE), captured_s[0]), after[:1]),
        "capture": (_cut(_with_next(folder, node, starts_s), 0.0), after),
    }
    return {
        name: tuple(_scores(folder, node, predicted, truths))
        for name, (predicted, truths) in predictions.items()
    }


def table(scores: dict[str, tuple[SeriesScore, ...]]) -> str:
    """The errors as a table for people, a line a series, both predictions side by side."""
    by_name = {name: {score.series: score for score in found} for name, found in scores.items()}
    series = dict.fromkeys(score.series for found in scores.values() for score in found)
    lines = [("series", *(f"{name}, mean (largest)" for name in by_name), "allowed", "two runs")]
    for one in series:
        found = [own[one] for own in by_name.values() if one in own]
        cells = [f"{score.mean:.2%} ({score.largest:.1%})" for score in found]
        lines.append((one, *cells, f"{found[0].tolerance:.0%}", f"{found[-1].spread:.2%}"))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _scores(
    folder: Path, node: dict[str, Any], predicted: Course, truths: list[Course]
) -> Iterator[SeriesScore]:
    groups = [{"name": name} | limits for name, limits in node["cgroup"]["groups"].items()]
    leaves = [group for group in groups if f"cgroup.{group['name']}.stat.anon" in truths[0].series]
    raw = {"cgroup_version": node["cgroup"]["version"], "cgroups": leaves, "processes": []}
    recording = Recording(folder.name, folder, raw, tuple(truths))
    for measure in measures_of(recording):
        score = score_series(recording, predicted, measure)
        if score is not None:
            yield score


def _measured(path: Path, node: dict[str, Any]) -> Course:
    """A recording's trace under the names of the truth; groups that have none below them."""
    rows: dict[str, list[dict[str, str]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["group"], []).append(row)
    t = _column(rows[NODE], "time")
    series = {"t": t}
    for group, own in rows.items():
        if group == NODE or any(other.startswith(f"{group}/") for other in rows):
            continue
        for name, columns in _GROUP.items():
            total = sum(_column(own, column) for column in columns)
            series[f"cgroup.{group}.{name}"] = np.interp(t, _column(own, "time"), total)
    whole = {name: _column(rows[NODE], name) / 1024 for name in rows[NODE][0] if name != "group"}
    total_kb = sum(zone["managed"] for zone in node["node"]["zones"]) * 4
    swap_kb = sum(int(area["size"].removesuffix("Ki")) for area in node["node"].get("swap", ()))
    series["meminfo_kb.MemTotal"] = np.full(len(t), float(total_kb))
    series["meminfo_kb.MemFree"] = total_kb - whole["usage"]
    series["meminfo_kb.AnonPages"] = whole["anon"]
    series["meminfo_kb.Cached"] = whole["file"] + whole["shmem"]
    series["meminfo_kb.SwapFree"] = swap_kb - whole["swap"]
    return Course((), series, float(t[-1]))


def _column(rows: list[dict[str, str]], name: str) -> NDArray[np.float64]:
    return np.array([float(row[name]) for row in rows])


def _cut(course: Course, begin_s: float) -> Course:
    """The minute from a moment on, counted from there, on whole seconds."""
    t = np.arange(0.0, MINUTE_S + 1)
    series = {
        name: np.interp(t, course.t - begin_s, values)
        for name, values in course.series.items()
        if name != "t" and len(values) == len(course.t)
    }
    return dataclasses.replace(course, series={"t": t} | series, end_s=MINUTE_S)


def _simulated(path: Path) -> Course:
    from capplan.api import simulate
    from capplan.spec import load

    return course_of_run(simulate(load(path, {"run.duration": f"{MINUTE_S + 20:g}s"})).run)


def _with_next(folder: Path, node: dict[str, Any], starts_s: float) -> Course:
    """The captured node, simulated with what starts next."""
    entry = yaml.safe_load((folder / NEXT).read_text(encoding="utf-8"))
    entry["start"] = f"{starts_s:.3f}s"
    whole = node | {"containers": node["containers"] | {"next": entry}}
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copytree(folder / "capture", scratch, dirs_exist_ok=True)
        path = Path(scratch) / NODE_FILE
        path.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
        return _simulated(path)
