"""How far the data behind a node reach: what its profiles draw, and what their traces saw."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from capplan.errors import InputError
from capplan.spec.common import Dist
from capplan.units import format_duration

if TYPE_CHECKING:
    from capplan.spec import NodeSpec
    from capplan.spec.profile import Trace

__all__ = ["Reach", "reach"]

NS_PER_S = 1_000_000_000
# Rhythms of work, [s]
PERIODS = {"hour": 3600.0, "day": 86_400.0, "week": 7 * 86_400.0, "month": 30 * 86_400.0}
MISSED = 0.05  # a peak that a record misses with this chance or more is worth a word


@dataclass(frozen=True)
class Reach:
    """What stands behind one container's figures.

    Attributes
    ----------
    container : str
    drawn : tuple of str
        Keys of the profile whose values are drawn anew in each run.
    recorded_s : float, optional
        Length of the shortest trace it follows [s].
    statement : str
        What the figures can and cannot say.
    """

    container: str
    drawn: tuple[str, ...]
    recorded_s: float | None
    statement: str


def reach(spec: NodeSpec) -> tuple[Reach, ...]:
    """How far the data of each container reach."""
    return tuple(_of_container(spec, name) for name in spec.containers)


def _of_container(spec: NodeSpec, name: str) -> Reach:
    source = spec.sources[name]
    drawn = [f"profile.{key}" for key in _drawn(source.profile, "")]
    drawn += [key for key in _drawn(spec.containers[name], "") if not key.startswith("profile")]
    traces = [
        (process.trace, _recorded_s(process.trace, source.path.parent))
        for process in source.profile.processes.values()
        if process.trace is not None
    ]
    for trace, _ in traces:
        drawn += [f"trace.{key}" for key in _implied(trace)]
    drawn = list(dict.fromkeys(drawn))
    shortest = min(traces, key=lambda item: item[1], default=None)
    if shortest is None:
        return Reach(name, tuple(drawn), None, _declared(drawn, spec.run.duration))
    said = _traced(*shortest, spec.run.duration)
    if not drawn:
        said += " Nothing of it is drawn: each run follows the same curve."
    return Reach(name, tuple(drawn), shortest[1], said)


def _drawn(model: Any, path: str) -> Iterator[str]:
    """Keys below a model that hold a distribution, not a value."""
    if isinstance(model, Dist):
        if model.constant is None:
            yield path
        return
    items: Iterator[tuple[Any, Any]] | None = None
    if isinstance(model, BaseModel):
        fields = type(model).model_fields
        items = ((fields[k].alias or k, getattr(model, k)) for k in fields)
    elif isinstance(model, dict):
        items = iter(model.items())
    elif isinstance(model, list | tuple):
        items = iter(enumerate(model))
    for key, below in items or ():
        yield from _drawn(below, f"{path}.{key}" if path else str(key))


def _implied(trace: Trace) -> list[str]:
    """What is drawn of a trace without being written as a distribution."""
    drawn = ["jitter"] if trace.jitter > 0 else []
    if trace.peaks is not None:
        drawn.append("peaks")
    if trace.at_end == "trend":
        drawn.append("trend")
    split = trace.measures not in ("rss", "anon") and trace.columns.anon is None
    if split and trace.anon_share is None:
        drawn.append("anon_share")
    return drawn


def _recorded_s(trace: Trace, folder: Any) -> float:
    from capplan.sim.expand_trace import recorded

    try:
        return recorded(trace, folder)
    except InputError:
        return 0.0  # the run itself says what is wrong with the file


def _traced(trace: Trace, recorded_s: float, duration_ns: int) -> str:
    span = format_duration(recorded_s * NS_PER_S)
    said = f"{trace.file} holds {span}"
    if trace.at_end == "repeat" and duration_ns / NS_PER_S > recorded_s > 0:
        times = math.ceil(duration_ns / NS_PER_S / recorded_s)
        said += f", played {times} times over in a run"
    missed = []
    for period, length in PERIODS.items():
        # events that know nothing of each other: none in a record of that length
        chance = math.exp(-recorded_s / length)
        if chance >= MISSED:
            missed.append(f"once a {period} {100 * min(chance, 0.999):.3g} %")
    if not missed:
        return said + "."
    return f"{said}. Chance that it holds none of the peaks that come {', '.join(missed)}."


def _declared(drawn: list[str], duration_ns: int) -> str:
    run = format_duration(duration_ns)
    if not drawn:
        return (
            f"The profile holds no trace and draws nothing: all runs of {run} are alike but for "
            "which pages are touched. As far as it knows a risk is 0 or 1."
        )
    return (
        f"The profile was declared, not recorded: a risk is that of what it draws ({len(drawn)} "
        f"keys) within {run}. What it does not describe cannot happen."
    )
