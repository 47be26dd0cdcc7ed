"""Model and kernel on the same axes: one picture per recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from capplan.validate.judge import Verdict
from capplan.validate.series import GROUP_SERIES, GROUP_SERIES_V1
from capplan.validate.truth import Course

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NODE_PANELS = ("MemFree", "AnonPages", "Cached", "SwapFree")
GROUP_PANELS = ("current", "anon", "file", "swap")
KERNEL, KERNEL_2, MODEL = "#555555", "#999999", "#c44e00"
KIB_PER_MIB, BYTES_PER_MIB = 1024, 1 << 20
DPI = 100


def draw(verdict: Verdict) -> Figure:
    """The picture of one verdict: the node's panels, then a row for each cgroup.

    The kernel's two runs are grey, the model orange; kills are full vertical lines, finishes
    dotted ones, in the colour of whoever saw them.
    """
    from matplotlib.figure import Figure

    recording = verdict.recording
    names = GROUP_SERIES_V1 if recording.v1 else GROUP_SERIES
    rows: list[list[tuple[str, str, float]]] = [
        [(name, f"meminfo_kb.{name}", KIB_PER_MIB) for name in NODE_PANELS]
    ]
    for group in recording.raw["cgroups"]:
        prefix = f"cgroup.{group['name']}."
        rows.append(
            [(f"{group['name']}: {p}", prefix + names[p], BYTES_PER_MIB) for p in GROUP_PANELS]
        )
    figure = Figure(figsize=(16, 2.6 * len(rows) + 0.8), dpi=DPI, layout="constrained")
    axes: NDArray[Any] = figure.subplots(len(rows), len(NODE_PANELS), sharex=True, squeeze=False)
    for line, panels in zip(axes, rows, strict=True):
        for ax, (title, series, unit) in zip(line, panels, strict=True):
            _panel(ax, verdict, title, series, unit)
    for ax in axes[-1]:
        ax.set_xlabel("time [s]")
    word = "passes" if verdict.passed else "fails"
    figure.suptitle(f"{verdict.name} ({word}): kernel grey (two runs), model orange; MiB")
    return figure


def _panel(ax: Axes, verdict: Verdict, title: str, series: str, unit: float) -> None:
    styles = ((KERNEL, "-", 2.2), (KERNEL_2, "-", 1.2))
    for truth, (color, line, width) in zip(verdict.recording.truths, styles, strict=False):
        _line(ax, truth, series, unit, color, line, width)
        _marks(ax, truth, color)
    _line(ax, verdict.predicted, series, unit, MODEL, "--", 1.4)
    _marks(ax, verdict.predicted, MODEL)
    ax.set_title(title, fontsize=9)
    ax.set_ylim(bottom=0)
    ax.grid(alpha=0.3)


def _line(
    ax: Axes, course: Course, series: str, unit: float, color: str, line: str, width: float
) -> None:
    values = course.series.get(series)
    if values is not None:
        there = ~np.isnan(values)
        ax.plot(course.t[there], values[there] / unit, line, color=color, linewidth=width)


def _marks(ax: Axes, course: Course, color: str) -> None:
    for happening in course.happenings:
        line = "-" if happening.event == "oom_kill" else ":"
        ax.axvline(happening.t, color=color, linestyle=line, linewidth=0.8, alpha=0.7)


def save(verdict: Verdict, folder: Path, dpi: int = DPI) -> Path:
    """Write the picture as PNG under the recording's name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{verdict.name}.png"
    draw(verdict).savefig(path, dpi=dpi, metadata={"Software": None})
    return path
