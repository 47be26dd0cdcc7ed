"""Charts as a page shows them: SVG for wide and narrow, legend, and the values for the pointer."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from capplan.report import draw, svg
from capplan.report.chart import thinned
from capplan.report.palette import HATCHES, PALE
from capplan.report.words import clean

if TYPE_CHECKING:
    from markupsafe import Markup

    from capplan.report.chart import Chart, Panel

DIGITS = 4
VALUES = 320  # samples for the pointer
# matplotlib's signs for hatches, as classes of the style sheet
HATCH_CLASS = {
    "/": "h-up", "\\": "h-down", "-": "h-flat", "|": "h-tall", "x": "h-cross", "+": "h-grid",
}  # fmt: skip
STYLE_CLASS = {"-": "l-solid", "--": "l-dashed", ":": "l-dotted", "-.": "l-dashed"}


class Sign(NamedTuple):
    """A line of a legend as the page draws it."""

    label: str
    colour: str  # a CSS value
    classes: str


class Plate(NamedTuple):
    """A picture of the page."""

    slug: str
    title: str
    note: str
    wide: bool
    drawings: tuple[tuple[str, Markup], ...]  # class, SVG
    legends: tuple[tuple[str, tuple[Sign, ...]], ...]  # panel, its lines
    data: dict[str, Any] | None


def plate(chart: Chart, prefix: str = "") -> Plate:
    """``chart`` as a page shows it; ``prefix`` keeps apart what one page shows twice."""
    slug = f"{prefix}{chart.slug}"
    widths = ((draw.WIDE, "wide"), (draw.NARROW, "narrow")) if chart.wide else ((draw.NARROW, ""),)
    drawings = tuple((kind, _drawing(chart, f"{slug}{kind[:1]}", width)) for width, kind in widths)
    legends = tuple(
        (clean(panel.label), tuple(_sign(e) for e in draw.entries(chart, panel, n) if e.label))
        for n, panel in enumerate(chart.panels)
    )
    return Plate(
        slug, clean(chart.title), chart.note, chart.wide, drawings, _once(legends),
        _data(chart, tuple(width for width, _ in widths)) if chart.time else None,
    )  # fmt: skip


def _once(
    legends: tuple[tuple[str, tuple[Sign, ...]], ...],
) -> tuple[tuple[str, tuple[Sign, ...]], ...]:
    """Panels alike share a legend (the heat maps of several zones)."""
    shown: list[tuple[str, tuple[Sign, ...]]] = []
    for label, signs in legends:
        new = tuple(s for s in signs if not any(s in earlier for _, earlier in shown))
        if new:
            shown.append((label, new))
    return tuple(shown)


def _drawing(chart: Chart, slug: str, width: float) -> Markup:
    from markupsafe import Markup

    text = draw.save(chart, "svg", width, alone=False).decode()
    # matplotlib escapes the names it writes; title and alt are escaped here
    return Markup(svg.fit(text, slug, escape(clean(chart.title)), escape(clean(chart.alt))))


def _sign(entry: draw.Entry) -> Sign:
    colour = entry.colour if entry.colour.startswith("#") else f"var(--{entry.colour})"
    if entry.kind == "line":
        return Sign(entry.label, colour, f"line {STYLE_CLASS[entry.style or '-']}")
    hatch = entry.style or HATCHES.get(entry.colour, "")
    classes = "band" if entry.kind != "stretch" else "stretch"
    if hatch:
        classes += f" {HATCH_CLASS[hatch[0]]}"
    if entry.colour in PALE:
        classes += " pale"
    return Sign(entry.label, colour, classes)


# --- what the script needs ---------------------------------------------------------------


def _data(chart: Chart, widths: tuple[float, ...]) -> dict[str, Any]:
    """Values by sample, and where each panel's axes lie in each drawing."""
    kept = thinned(chart, VALUES)
    return {
        "t": [_short(v) for v in chart.x[kept]],
        "ends": list(chart.ends),
        "marks": [{"t": _short(m.t), "text": m.text} for m in chart.marks],
        "panels": [_panel(panel, kept) for panel in chart.panels],
        "boxes": [[list(box) for box in draw.layout(chart, width).boxes] for width in widths],
        "units": [list(unit) for unit in draw.TIME_UNITS],
        "steps": list(draw.TIME_STEPS),
    }


def _panel(panel: Panel, kept: Any) -> dict[str, Any]:
    if panel.heat is not None:
        rows = list(zip(panel.heat.rows, panel.heat.values))
        unit = "MiB"
    else:
        rows = [(curve.label, curve.values) for curve in panel.curves]
        unit = panel.unit
    return {
        "label": clean(panel.label),
        "unit": unit,
        "rows": [
            {"label": clean(label), "values": [_short(v) for v in values[kept]]}
            for label, values in reversed(rows)
        ],
    }


def _short(value: float) -> float | int | None:
    """Four digits are what a pointer needs; None where there is no value."""
    if not np.isfinite(value):
        return None
    rounded = float(f"{value:.{DIGITS}g}") if abs(value) < 1e4 else float(round(value))
    return int(rounded) if rounded == int(rounded) else rounded
