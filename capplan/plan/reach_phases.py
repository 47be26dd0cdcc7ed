"""What a profile would do after the run's end: a peak that comes later is in no figure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from capplan.units import format_duration

if TYPE_CHECKING:
    from capplan.spec import NodeSpec
    from capplan.spec.profile import PhaseBody

__all__ = ["unreached"]

TAKES = ("grow", "burst", "leak", "fork")
"""Phases after which a process holds more memory."""


def unreached(spec: NodeSpec) -> tuple[str, ...]:
    """A sentence for each container with a phase that begins after the run's end.

    Only times that stand in the profile count: what a phase takes besides (a growth at its rate,
    a throttled task) comes on top, so what is said to be unreached is.
    """
    said = []
    for name in spec.containers:
        for process in spec.sources[name].profile.processes.values():
            begins = process.start.constant
            found = begins is not None and _first(process.phases, begins, spec.run.duration)
            if isinstance(found, tuple):
                what, at = found
                run = format_duration(spec.run.duration)
                when = format_duration(at)
                said.append(f"{name}: {what} at {when} or later is not seen in a run of {run}")
                break
    return tuple(said)


def _first(phases: Iterable[PhaseBody], at: int, end: int) -> tuple[str, int] | int | None:
    """The first phase that takes memory after ``end``; else when the phases are through."""
    for phase in phases:
        if phase.repeat is not None:
            return _first(phase.repeat.phases, at, end) if phase.repeat.times is None else None
        every = phase.burst.every.constant if phase.burst is not None else 0
        if every is None:
            return None
        if at + every >= end and phase.kind in TAKES:
            return _named(phase), at + every
        if phase.hold is not None:
            if phase.hold.duration.constant is None:
                return None
            at += phase.hold.duration.constant
    return at


def _named(phase: PhaseBody) -> str:
    region = getattr(phase.body, "region", "")
    return f"the {phase.kind} of {region}" if region else f"the {phase.kind}"
