"""An outcome as text: the verdict first, then containers, node, incidents, assumptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

    from capplan.plan.outcome_model import Outcome

DEFAULT_TOP = 20


def render(outcome: Outcome, file: TextIO | Console, *, top: int = DEFAULT_TOP) -> None:
    """Write ``outcome`` to ``file``: rich tables on a terminal, plain aligned text in a pipe.

    Parameters
    ----------
    outcome : Outcome
        What to show.
    file : TextIO or rich.console.Console
        Where to.
    top : int
        Containers shown one by one, those at most risk first; the rest in one line.
    """
    raise NotImplementedError
