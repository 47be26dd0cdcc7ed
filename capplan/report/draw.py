"""Charts drawn by matplotlib: SVG for the page, PNG and SVG files with a legend of their own.

No pyplot: nothing global is touched. Bytes depend on the chart only: no date, fixed ids. The
margins are fixed numbers, not fitted: a page of pictures is drawn in a second.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from capplan.report import draw_grid, draw_marks
from capplan.report.chart import Chart, Curve, Heat, Panel, thinned
from capplan.report.palette import HATCHES, LIGHT, PALE
from capplan.report.words import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINT = 72.0  # of an inch: one unit of an SVG
PANEL = 190.0  # height of a usual panel [points]
GAP = 16.0  # between panels
LEFT, RIGHT, TOP, BOTTOM = 58.0, 10.0, 16.0, 40.0
LABELS = 150.0  # left of what has names: bars, rows of a grid
AXIS_NAME = 20.0  # beside such names
LEGEND = 250.0  # beside the panels, in files
HEADING = 30.0
WIDE, NARROW = 920.0, 420.0
POINTS = {WIDE: 700, NARROW: 320}
DPI = 110
TIME_UNITS = ((1, "s"), (60, "min"), (3600, "h"), (86400, "d"))
TIME_STEPS = (
    0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800,
    14400, 21600, 43200, 86400, 172800, 432000, 864000,
)  # fmt: skip
# cividis at equal steps (Nunez, Anderton, Renslow 2018): its lightness rises evenly, so the order
# of the steps is seen without colour too.
STEPS = ("#00224e", "#2a3f6d", "#575d6d", "#7d7c78", "#a59c74", "#d2c060", "#fee838")
STYLE: Any = {
    "font.family": "sans-serif", "font.size": 10.5, "svg.fonttype": "none",
    "svg.hashsalt": "capplan", "text.color": LIGHT["ink"], "axes.labelcolor": LIGHT["ink"],
    "axes.edgecolor": LIGHT["quiet"], "xtick.color": LIGHT["quiet"], "ytick.color": LIGHT["quiet"],
    "xtick.labelcolor": LIGHT["ink"], "ytick.labelcolor": LIGHT["ink"], "axes.linewidth": 0.7,
    "hatch.linewidth": 0.6, "path.simplify": True, "axes.spines.top": False,
    "axes.spines.right": False, "text.parse_math": False, "axes.facecolor": "none",
    "figure.facecolor": LIGHT["paper"],
}  # fmt: skip


class Box(NamedTuple):
    """Where a panel's axes lie in the picture [points, from the top left]."""

    left: float
    top: float
    width: float
    height: float


class Layout(NamedTuple):
    """Size of a picture and the boxes of its panels."""

    width: float
    height: float
    boxes: tuple[Box, ...]


def layout(chart: Chart, width: float, *, alone: bool = False) -> Layout:
    """Where everything goes; ``alone``: with title and legend, as a file of its own."""
    top = TOP + (HEADING if alone else 0.0)
    left = max(_left(panel) for panel in chart.panels)
    inner = width - left - RIGHT - (LEGEND if alone else 0.0)
    boxes = []
    for panel in chart.panels:
        height = draw_marks.height(panel) or PANEL * panel.height
        boxes.append(Box(left, top, inner, height))
        top += height + GAP
    bottom = BOTTOM + max(draw_grid.names_height(panel, inner) for panel in chart.panels)
    return Layout(width, top - GAP + bottom, tuple(boxes))


def _left(panel: Panel) -> float:
    """Room for what stands left of a panel's axes."""
    if panel.grid is not None:
        return LABELS + AXIS_NAME
    if panel.bars:
        return LABELS
    return LEFT if panel.heat is None else LEFT + AXIS_NAME


def figure(chart: Chart, width: float = WIDE, *, alone: bool = False) -> Figure:
    """The chart as a matplotlib Figure."""
    import matplotlib
    from matplotlib.figure import Figure

    place = layout(chart, width, alone=alone)
    kept = thinned(chart, POINTS.get(width, POINTS[WIDE]))
    with matplotlib.rc_context(STYLE):
        made = Figure(figsize=(place.width / POINT, place.height / POINT))
        for number, (panel, box) in enumerate(zip(chart.panels, place.boxes)):
            axes = made.add_axes(_fractions(box, place))
            _panel(axes, chart, panel, kept, box.width)
            axes.tick_params(labelbottom=number == len(chart.panels) - 1)
            _marks(axes, chart, numbered=number == 0)
            if alone:
                _legend(axes, chart, panel, number)
        _x_axis(made.axes[-1], chart, place.boxes[-1].width)
        if alone:
            text = clean(chart.title)
            size = 12 if len(text) * 6.2 < place.width else 9.5
            made.text(LEFT / place.width, 1 - 18 / place.height, text, fontsize=size, weight="bold")
    return made


def _fractions(box: Box, place: Layout) -> tuple[float, float, float, float]:
    """A box as matplotlib wants it: shares of the picture, from the bottom left."""
    bottom = place.height - box.top - box.height
    return (
        box.left / place.width, bottom / place.height, box.width / place.width,
        box.height / place.height,
    )  # fmt: skip


def save(chart: Chart, kind: str, width: float = WIDE, *, alone: bool = True) -> bytes:
    """The chart as "png" or "svg" bytes; the same chart gives the same bytes."""
    import matplotlib

    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    out = io.BytesIO()
    made = figure(chart, width + (LEGEND if alone else 0.0), alone=alone)
    with matplotlib.rc_context(STYLE):
        made.savefig(
            out, format=kind, dpi=DPI if kind == "png" else POINT, metadata=metadata,
            transparent=not alone,
        )  # fmt: skip
    return out.getvalue()


# --- a panel -----------------------------------------------------------------------------


def _panel(axes: Axes, chart: Chart, panel: Panel, kept: Any, width: float) -> None:
    x = chart.x[kept]
    axes.set_ylabel(f"{panel.label} [{panel.unit}]" if panel.unit else panel.label)
    if panel.heat is not None:
        _heat(axes, chart, panel.heat)
    elif panel.bars:
        draw_marks.bars(axes, panel)
    elif panel.grid is not None:
        draw_grid.grid(axes, panel.grid, width)
        return
    else:
        axes.grid(axis="y", color=LIGHT["grid"], linewidth=0.6)
        axes.set_axisbelow(True)
        for stretch in panel.stretches:
            end = chart.x[-1] if stretch.end is None else stretch.end
            axes.axvspan(
                stretch.begin, max(end, stretch.begin + 0.003 * chart.ends[1]),
                facecolor="none", hatch=stretch.hatch, hatchcolor=LIGHT[stretch.colour],
                edgecolor="none", linewidth=0, zorder=2.6,
            )  # fmt: skip
        _bands(axes, x, [c for c in panel.curves if c.kind == "band"], kept)
        for curve in panel.curves:
            if curve.kind != "band":
                _line(axes, x, curve, kept)
        draw_marks.bands(axes, chart, panel, kept)
        draw_marks.dots(axes, panel, (chart.ends[1] - chart.ends[0]) / width)
        for rule in panel.rules:
            axes.axhline(
                rule.level, color=LIGHT[rule.colour], linewidth=1.0, linestyle=rule.style, zorder=3
            )
        axes.set_ylim(panel.bottom, panel.top)
    axes.set_xlim(*chart.ends)


def _bands(axes: Axes, x: Any, bands: list[Curve], kept: Any) -> None:
    """Painted from the highest down to the lowest, each from the ground: half the points."""
    tops: Any = np.cumsum([np.nan_to_num(c.values[kept]) for c in bands], axis=0) if bands else []
    for curve, top in zip(reversed(bands), reversed(list(tops))):
        hatch = HATCHES.get(curve.colour, "")
        ink = "quiet" if curve.colour in PALE else "paper"
        axes.fill(
            np.concatenate(([x[0]], x, [x[-1]])), np.concatenate(([0.0], top, [0.0])),
            facecolor=LIGHT[curve.colour], edgecolor=LIGHT["paper"], linewidth=0.5, hatch=hatch,
            hatchcolor=LIGHT[ink], zorder=2,
        )  # fmt: skip


def _line(axes: Axes, x: Any, curve: Curve, kept: Any) -> None:
    drawstyle = "steps-post" if curve.kind == "step" else "default"
    axes.plot(
        x, curve.values[kept], color=LIGHT[curve.colour], linewidth=1.5, linestyle=curve.style,
        drawstyle=drawstyle, zorder=3,
    )  # fmt: skip


def _heat(axes: Axes, chart: Chart, heat: Heat) -> None:
    from matplotlib.colors import ListedColormap

    rows = len(heat.rows)
    step = np.searchsorted(np.array(heat.bounds), _columns(heat.values), side="left")
    axes.imshow(
        step, aspect="auto", origin="lower", interpolation="none",
        extent=(*chart.ends, -0.5, rows - 0.5),
        cmap=ListedColormap(steps(len(heat.labels))), vmin=-0.5, vmax=len(heat.labels) - 0.5,
    )  # fmt: skip
    axes.set_yticks(range(rows), heat.rows)


def steps(count: int) -> list[str]:
    """``count`` colours of the scale, its ends included."""
    return [STEPS[round(n * (len(STEPS) - 1) / max(count - 1, 1))] for n in range(count)]


def _columns(values: Any, most: int = 220) -> Any:
    """At most ``most`` columns: each the lowest of its part, for scarcity is what matters."""
    if values.shape[1] <= most:
        return values
    edges = np.linspace(0, values.shape[1], most + 1).astype(int)
    return np.minimum.reduceat(values, edges[:-1], axis=1)


def _marks(axes: Axes, chart: Chart, *, numbered: bool) -> None:
    for mark in chart.marks:
        axes.axvline(mark.t, color=LIGHT["alarm"], linewidth=1.3, zorder=4)
        if numbered:
            axes.annotate(
                mark.text, (mark.t, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3),
                textcoords="offset points", ha="center", color=LIGHT["alarm"], weight="bold",
            )  # fmt: skip


def _x_axis(axes: Axes, chart: Chart, width: float) -> None:
    """As many ticks as fit, of run time at whole seconds, minutes, hours or days."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    if any(panel.grid for panel in chart.panels):
        return  # it has names instead
    if not chart.time:
        axes.set_xlabel(chart.xlabel)
        axes.locator_params(axis="x", nbins=8 if width > 500 else 5)
        return
    span = chart.ends[1] - chart.ends[0]
    many = 10 if width > 500 else 6
    size, name = next((u for u in TIME_UNITS if span <= 120 * u[0]), TIME_UNITS[-1])
    step = next((s for s in TIME_STEPS if span <= many * s), span / many)
    for each in axes.figure.axes:
        each.xaxis.set_major_locator(MultipleLocator(step))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / size:g}"))
    axes.set_xlabel(f"{chart.xlabel} [{name}]")


# --- the legend --------------------------------------------------------------------------


class Entry(NamedTuple):
    """A line of a legend; ``kind`` says what its sign looks like."""

    label: str
    colour: str
    kind: str  # band, line, rule, stretch, mark, step (a step of a scale)
    style: str = ""


def entries(chart: Chart, panel: Panel, number: int) -> list[Entry]:
    """A panel's legend, bands from the top."""
    bands = [c for c in panel.curves if c.kind == "band" and np.nanmax(c.values, initial=0.0) > 0]
    found = [Entry(clean(c.label), c.colour, "band") for c in reversed(bands)]
    found += [
        Entry(clean(c.label), c.colour, "line", c.style) for c in panel.curves if c.kind != "band"
    ]
    found += [Entry(clean(b.label), b.colour, "stretch", "/") for b in panel.bands]
    found += [Entry(clean(r.label), r.colour, "line", r.style) for r in panel.rules]
    said = dict.fromkeys((s.label, s.colour, s.hatch) for s in panel.stretches)
    found += [Entry(clean(label), colour, "stretch", hatch) for label, colour, hatch in said]
    if panel.heat is not None:
        labels = panel.heat.labels
        found += [Entry(la, c, "step") for la, c in zip(labels, steps(len(labels)))]
    if number == 0 and chart.marks:
        found.append(Entry("incident, by its number", "alarm", "line"))
    return found


def _legend(axes: Axes, chart: Chart, panel: Panel, number: int) -> None:
    """Beside the data, never over it."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    signs: list[Any] = []
    for entry in entries(chart, panel, number):
        colour = LIGHT.get(entry.colour, entry.colour)
        # a label that begins so is taken for none
        label = f" {entry.label}" if entry.label.startswith("_") else entry.label
        if entry.kind == "line":
            style: Any = entry.style or "-"
            signs.append(Line2D([], [], color=colour, linestyle=style, label=label))
            continue
        hatch = entry.style or HATCHES.get(entry.colour, "")
        ink = "quiet" if entry.colour in PALE else "paper"
        face = "none" if entry.kind == "stretch" else colour
        hatched = colour if entry.kind == "stretch" else LIGHT[ink]
        signs.append(Patch(facecolor=face, hatch=hatch, hatchcolor=hatched, label=label))
    axes.legend(
        handles=signs, loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False, fontsize=8.5,
        borderaxespad=0.0, labelspacing=0.35,
    )  # fmt: skip
