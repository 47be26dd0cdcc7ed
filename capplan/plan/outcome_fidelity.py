"""The fidelity of the mechanisms that decided a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from capplan.validate.fidelity import Fidelity, of_mechanisms
from capplan.validate.mechanisms import TITLES, exercised

if TYPE_CHECKING:
    from capplan.sim.result import Run

# What happened besides, in every other run: told only where nothing else decided.
BESIDES = ("oom_score_adj", "lru_gen", "shmem", "locked", "fork", "numa", "growth")
TOLD = 4


def fidelity_of(run: Run) -> tuple[Fidelity, ...]:
    """Figures of what was at work in ``run``, those that decide a verdict first.

    Parameters
    ----------
    run : Run
        A finished simulation.

    Returns
    -------
    tuple of Fidelity
        At least one; at most :data:`TOLD`.
    """
    happened = {
        (e.event, e.scope or str(e.detail.get("scope", "")))
        for e in run.events
        if e.event in ("oom_kill", "paused", "evicted", "oomd_kill", "earlyoom_kill")
    }
    keys = exercised(run.scenario, run.series, happened)
    deciding = [key for key in keys if key not in BESIDES] or list(keys)
    return of_mechanisms(deciding[:TOLD], TITLES)
