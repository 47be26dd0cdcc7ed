"""A grid of counts: who did what to whom, each count written into its cell."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from capplan.report.draw_marks import LETTER, short
from capplan.report.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Patch

    from capplan.report.chart import Grid, Panel

SLOPE = 38  # of the columns' names [degrees]
# Shades of one blue, light to dark (ColorBrewer's Blues, colorbrewer2.org): their order is that of
# their lightness, in black and white too. No theme changes them: the palette has none of them.
SHADES = ("#f7fbfe", "#deebf7", "#c6dbef", "#9ecae1", "#6baed6", "#3182bd", "#08519c")
DARKEST = len(SHADES) - 1  # numbers on it are white, on all others black
BLACK, WHITE = "#000001", "#fffffd"


def names_height(panel: Panel, width: float) -> float:
    """What the names of the columns take below a grid of that width [points]."""
    if panel.grid is None or not _sloped(panel.grid, width):
        return 0.0
    return 8.0 + math.sin(math.radians(SLOPE)) * _longest(panel.grid)


def _longest(shown: Grid) -> float:
    return LETTER * max(len(short(name)) for name in shown.columns)


def _sloped(shown: Grid, width: float) -> bool:
    """Whether the names of the columns do not fit beside each other."""
    return _longest(shown) + LETTER > width / len(shown.columns)


def grid(axes: Axes, shown: Grid, width: float) -> None:
    """Rows from the top; empty cells stay empty."""
    most = max(float(shown.values.max()), 1.0)
    for row, values in enumerate(shown.values):
        for column, value in enumerate(values):
            shade = _shade(float(value) / most)
            axes.add_patch(_cell(column, row, SHADES[shade]))
            if value:
                axes.text(
                    column, row, f"{value:,.0f}", ha="center", va="center", fontsize=9, zorder=3,
                    color=WHITE if shade == DARKEST else BLACK,
                )  # fmt: skip
    axes.set_xlim(-0.5, len(shown.columns) - 0.5)
    axes.set_ylim(len(shown.rows) - 0.5, -0.5)
    axes.set_yticks(range(len(shown.rows)), [short(name) for name in shown.rows])
    turned: dict[str, Any] = {"rotation": SLOPE, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(
        range(len(shown.columns)), [short(name) for name in shown.columns],
        **(turned if _sloped(shown, width) else {}),
    )  # fmt: skip
    axes.tick_params(length=0)
    axes.set_xlabel(shown.xlabel)


def _shade(share: float) -> int:
    """The first shade is for nothing; the others divide what there is evenly."""
    return 1 + min(int(share * DARKEST), DARKEST - 1) if share else 0


def _cell(column: int, row: int, colour: str) -> Patch:
    from matplotlib.patches import Rectangle

    return Rectangle(
        (column - 0.5, row - 0.5), 1, 1, facecolor=colour, edgecolor=LIGHT["quiet"],
        linewidth=0.5, zorder=2,
    )  # fmt: skip
