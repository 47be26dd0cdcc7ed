"""From a finished run to a verdict that a person understands.

"Fits" means: no OOM kill, no pause, no eviction, no unfinished work, and no process asleep
in a throttle for more than the gate's share of its life.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from capplan.plan.outcome_model import (
    DEFAULT_THROTTLE_SHARE,
    Candidate,
    ContainerOutcome,
    GateLike,
    Incident,
    NodeOutcome,
    Outcome,
    Sign,
    Span,
    ZoneOutcome,
)

if TYPE_CHECKING:
    from capplan.sim.result import Run

__all__ = [
    "DEFAULT_THROTTLE_SHARE",
    "Candidate",
    "ContainerOutcome",
    "GateLike",
    "Incident",
    "NodeOutcome",
    "Outcome",
    "Sign",
    "Span",
    "ZoneOutcome",
    "analyse",
]


def analyse(run: Run, gate: GateLike | None = None, stock: Run | None = None) -> Outcome:
    """What ``run`` means.

    Parameters
    ----------
    run : Run
        A finished simulation.
    gate : GateLike, optional
        Anything with ``max_throttle_share``; None: 1 %.
    stock : Run, optional
        The same scenario with ``oom_kill_disable: 0``, where the file left it out (v1).

    Returns
    -------
    Outcome
        The verdict and its evidence.
    """
    raise NotImplementedError
