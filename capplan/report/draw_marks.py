"""What is no curve: intervals around one, bars with names, settings as dots."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from capplan.report.palette import LIGHT
from capplan.report.words import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from capplan.report.chart import Chart, Dot, Panel

ROW = 24.0  # height of a bar with its name [points]
LEAST = 60.0
LEAST_GRID = 110.0  # its axis has a name
LETTER = 5.6  # width of a letter of a name [points]
LONGEST = 24  # letters of a name beside its bar; the table has it whole


def height(panel: Panel) -> float:
    """Of a panel whose rows have names [points]; 0 of another."""
    if panel.grid is not None:
        return max(LEAST_GRID, ROW * len(panel.grid.rows))
    return max(LEAST, ROW * len(panel.bars)) if panel.bars else 0.0


def bars(axes: Axes, panel: Panel) -> None:
    """The first on top, each with its interval as a line with ends."""
    places = range(len(panel.bars))
    axes.grid(axis="x", color=LIGHT["grid"], linewidth=0.6)
    axes.set_axisbelow(True)
    for place, bar in zip(places, panel.bars):
        axes.barh(
            place, bar.value, height=0.55, facecolor=LIGHT[bar.colour], edgecolor=LIGHT["quiet"],
            linewidth=0.5, zorder=2,
        )  # fmt: skip
        if bar.high > bar.low:
            axes.errorbar(
                bar.value, place, xerr=[[max(bar.value - bar.low, 0.0)], [bar.high - bar.value]],
                ecolor=LIGHT["ink"], elinewidth=1.1, capsize=3, zorder=3,
            )  # fmt: skip
    axes.set_yticks(places, [short(bar.label) for bar in panel.bars])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(panel.bars) - 0.4, -0.6)
    axes.set_ylabel("")
    for rule in panel.rules:
        axes.axvline(rule.level, color=LIGHT[rule.colour], linestyle=rule.style, linewidth=1.0)


def short(name: str) -> str:
    """A name that fits beside its bar: its middle is left out."""
    name = clean(name)
    if len(name) <= LONGEST:
        return name
    half = LONGEST // 2
    return f"{name[: half - 1]}\N{HORIZONTAL ELLIPSIS}{name[-half:]}"


def bands(axes: Axes, chart: Chart, panel: Panel, kept: Any) -> None:
    """Intervals, hatched so that they are seen without colour."""
    for band in panel.bands:
        axes.fill_between(
            chart.x[kept], band.low[kept], band.high[kept], facecolor="none", hatch="////",
            hatchcolor=LIGHT[band.colour], edgecolor=LIGHT[band.colour], linewidth=0.5, zorder=2,
        )  # fmt: skip


def dots(axes: Axes, panel: Panel, per_point: float) -> None:
    """Each setting with its name; the picked one is filled and larger.

    ``per_point`` is how much of x one point of the picture is.
    """
    lowered = _crowded(panel, per_point)
    for dot in panel.dots:
        colour = LIGHT["blue" if dot.picked else "quiet"]
        axes.errorbar(
            dot.x, dot.y, yerr=[[max(dot.y - dot.low, 0.0)], [max(dot.high - dot.y, 0.0)]],
            fmt="D" if dot.picked else "o", color=colour, markersize=9 if dot.picked else 6,
            markerfacecolor=colour if dot.picked else "none", capsize=3, elinewidth=1.1, zorder=3,
        )  # fmt: skip
        axes.annotate(
            short(dot.label), (dot.x, dot.y), xytext=(7, -12 if dot in lowered else 5),
            textcoords="offset points", fontsize=9, color=LIGHT["ink"], zorder=4,
        )  # fmt: skip
    if panel.dots:
        axes.margins(x=0.2)


def _crowded(panel: Panel, per_point: float) -> set[Dot]:
    """Dots whose names would begin in the one before: every second of such goes below."""
    lowered: set[Dot] = set()
    for dot, after in itertools.pairwise(sorted(panel.dots, key=lambda dot: dot.x)):
        name = LETTER * (len(short(dot.label)) + 1) * per_point
        if after.x - dot.x < name and dot not in lowered:
            lowered.add(after)
    return lowered
