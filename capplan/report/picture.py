"""memory.png: who held the node's memory, when."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from capplan.plan.outcome_model import Outcome
    from capplan.sim.result import Run


def figure(outcome: Outcome, run: Run) -> Figure:
    """The picture as a matplotlib Figure."""
    raise NotImplementedError


def draw(outcome: Outcome, run: Run, path: Path) -> None:
    """Write the picture to ``path`` (the suffix says the format)."""
    raise NotImplementedError
