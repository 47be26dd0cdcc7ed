"""What a picture shows, before it is drawn: curves, bands, limits, marks.

A :class:`Chart` is data only, so that one description gives the page's SVG, the PNG, the legend,
the values under the pointer and the text for those who do not see it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from capplan.plan.outcome_context import Context
from capplan.units import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capplan.plan.outcome_model import Outcome

Array = np.ndarray[Any, np.dtype[np.float64]]
NEAR = 0.025  # of the run: incidents nearer than this share one mark


@dataclass(frozen=True, eq=False)
class Curve:
    """One row of values over the chart's x.

    ``kind`` is "line", "step" or "band"; bands are stacked in their order from the bottom.
    """

    label: str
    values: Array
    colour: str  # a name of the palette
    kind: str = "line"
    style: str = "-"


@dataclass(frozen=True)
class Rule:
    """A level that holds all along: a watermark, a size, a gate."""

    label: str
    level: float
    style: str = "-"
    colour: str = "ink"


@dataclass(frozen=True)
class Stretch:
    """A part of x that is marked over the whole height; ``end`` None: to the end."""

    label: str
    begin: float
    end: float | None
    colour: str
    hatch: str


@dataclass(frozen=True)
class Mark:
    """A moment, with the number of its incident."""

    t: float
    text: str


@dataclass(frozen=True, eq=False)
class Heat:
    """Rows of cells over x, each in one of a few steps of a scale."""

    rows: tuple[str, ...]
    values: Array  # rows x samples
    bounds: tuple[float, ...]  # the first step is what is not above bounds[0]
    labels: tuple[str, ...]  # one for each step


@dataclass(frozen=True, eq=False)
class Grid:
    """Counts by row and column, each written into its cell and shaded by its size."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: Array  # rows x columns
    xlabel: str


@dataclass(frozen=True, eq=False)
class Band:
    """What lies between two curves: an interval around one."""

    label: str
    low: Array
    high: Array
    colour: str


@dataclass(frozen=True)
class Bar:
    """A value with its interval, by name; drawn from the left."""

    label: str
    value: float
    low: float
    high: float
    colour: str = "blue"


@dataclass(frozen=True)
class Dot:
    """A setting by two of its figures; ``low`` to ``high`` is the interval of y."""

    label: str
    x: float
    y: float
    low: float
    high: float
    picked: bool = False


@dataclass(frozen=True, eq=False)
class Panel:
    """One pair of axes; several are drawn above each other with the same x."""

    label: str  # of the y axis
    unit: str
    curves: tuple[Curve, ...] = ()
    rules: tuple[Rule, ...] = ()
    stretches: tuple[Stretch, ...] = ()
    heat: Heat | None = None
    bands: tuple[Band, ...] = ()
    bars: tuple[Bar, ...] = ()
    dots: tuple[Dot, ...] = ()
    grid: Grid | None = None
    top: float | None = None
    bottom: float | None = 0.0
    height: float = 1.0  # in units of a picture's usual height


@dataclass(frozen=True, eq=False)
class Chart:
    """A picture and what it says."""

    slug: str  # of its file and its place in the page
    title: str  # the finding
    alt: str  # the finding with its figures, for those who do not see the picture
    x: Array
    panels: tuple[Panel, ...]
    marks: tuple[Mark, ...] = ()
    wide: bool = False  # whether the page gives it its whole width
    xlabel: str = "run time"
    time: bool = True  # x is run time [s]
    note: str = ""  # how to read it

    @property
    def ends(self) -> tuple[float, float]:
        """The x axis' ends. A node that dies as it starts has one sample: it gets one second."""
        first, last = float(self.x[0]), float(self.x[-1])
        return first, last if last > first else first + 1.0


def marks(outcome: Outcome, context: Context, container: str | None = None) -> tuple[Mark, ...]:
    """The incidents that count, by number; those near each other share a mark."""
    near = NEAR * max(context.duration, 1e-9)
    shown: list[tuple[float, list[int]]] = []
    for incident in outcome.incidents:
        if not incident.breaks or container not in (None, incident.container):
            continue
        if shown and incident.t - shown[-1][0] < near:
            shown[-1][1].append(incident.number)
        else:
            shown.append((incident.t, [incident.number]))
    return tuple(Mark(t, f"{n[0]}" if len(n) == 1 else f"{n[0]}-{n[-1]}") for t, n in shown)


def unit(size: float) -> tuple[int, str]:
    """The unit of an axis that ends at ``size`` bytes."""
    return (GIB, "GiB") if size >= 4 * GIB else (MIB, "MiB")


def thinned(chart: Chart, points: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    """The samples worth drawing: of each bucket the extremes of the curves that count.

    No peak is lost of a single curve, of a stack, or of a stack without its last band.
    """
    size = chart.x.size
    keys = [key for panel in chart.panels for key in _keys(panel)]
    buckets = max(1, points // max(1, 2 * len(keys)))
    if size <= points or size <= buckets:
        return np.arange(size)
    edges = np.linspace(0, size, buckets + 1).astype(int)
    kept = {0, size - 1}
    for begin, end in itertools.pairwise(edges.tolist()):
        for key in keys:
            part = np.nan_to_num(key[begin:end])
            kept |= {begin + int(part.argmin()), begin + int(part.argmax())}
    return np.array(sorted(kept))


def _keys(panel: Panel) -> Sequence[Array]:
    bands = [c.values for c in panel.curves if c.kind == "band"]
    keys = [c.values for c in panel.curves if c.kind == "line"]
    if bands:
        keys += [np.asarray(np.sum(bands, axis=0))]
        keys += [np.asarray(np.sum(bands[:-1], axis=0))] if len(bands) > 1 else []
    return keys


def alike(first: Chart, second: Chart) -> tuple[Chart, Chart]:
    """Two charts with the same scales, panel by panel, so that they can be compared by eye."""
    pairs = [_same_scale(a, b) for a, b in zip(first.panels, second.panels)]
    if len(first.panels) != len(second.panels):
        return first, second
    one, other = zip(*pairs)
    return replace(first, panels=one), replace(second, panels=other)


def _same_scale(a: Panel, b: Panel) -> tuple[Panel, Panel]:
    if a.heat is not None or b.heat is not None or (a.label, a.unit) != (b.label, b.unit):
        return a, b
    top = max(_reach(a)[1], _reach(b)[1])
    bottom = min(_reach(a)[0], _reach(b)[0])
    return replace(a, top=top, bottom=bottom), replace(b, top=top, bottom=bottom)


def _reach(panel: Panel) -> tuple[float, float]:
    """Lowest and highest of a panel's axis, with a little room."""
    rows = [np.nan_to_num(curve.values) for curve in panel.curves]
    low = min((float(row.min()) for row in rows), default=0.0)
    high = max((float(row.max()) for row in rows), default=1.0)
    bottom = 1.05 * min(low, 0.0) if panel.bottom is None else panel.bottom
    return bottom, 1.05 * high if panel.top is None else panel.top
