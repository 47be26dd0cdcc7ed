"""Designs: from knobs to the settings of each point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from capplan.plan.point import grid
from capplan.spec.sweep import DURATION, RATE, SIZE, quantity
from capplan.units import format_k8s

if TYPE_CHECKING:
    from capplan.spec.sweep import Knob, Range, SweepSpec

__all__ = ["Design", "design", "knob_values"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Design:
    """The points of a sweep.

    Attributes
    ----------
    kind : str
        grid, paired, latin, sobol or saltelli.
    settings : list of dict
        Of each point, by key.
    unit : (points, knobs) float64
        Each knob's place from 0 to 1 (lists: the middle of the value's share).
    levels : tuple of int
        Values of each knob; 0 where it is continuous.
    base : int
        Of a Saltelli design, N: the points are A, B, then A with one column of B, knob by knob.
    """

    kind: str
    settings: list[dict[str, str]]
    unit: FloatArray
    levels: tuple[int, ...]
    base: int = 0


def design(spec: SweepSpec, seed: int) -> Design:
    """Lay out the points of a sweep; the same seed gives the same points."""
    kind, knobs = spec.model.design, spec.knobs
    if kind in ("grid", "paired"):
        return _counted(kind, knobs)
    from scipy.stats import qmc

    points = spec.model.points or 0
    base = 0
    if kind == "latin":
        unit = qmc.LatinHypercube(len(knobs), rng=np.random.default_rng(seed)).random(points)
    elif kind == "sobol":
        unit = qmc.Sobol(len(knobs), rng=np.random.default_rng(seed)).random(points)
    else:
        pairs = qmc.Sobol(2 * len(knobs), rng=np.random.default_rng(seed)).random(points)
        unit, base = _saltelli(pairs, len(knobs)), points
    settings = [{knob.key: _at(knob, float(u)) for knob, u in zip(knobs, row)} for row in unit]
    return Design(kind, settings, np.asarray(unit), _levels(knobs, False), base)


def _saltelli(pairs: FloatArray, count: int) -> FloatArray:
    """A, B, and A with each column in turn from B (Saltelli et al., 2010)."""
    a, b = pairs[:, :count], pairs[:, count:]
    mixed = []
    for column in range(count):
        one = a.copy()
        one[:, column] = b[:, column]
        mixed.append(one)
    return np.vstack([a, b, *mixed])


def _counted(kind: str, knobs: Sequence[Knob]) -> Design:
    values = {knob.key: knob_values(knob) for knob in knobs}
    if kind == "grid":
        settings = grid(values)
    else:
        settings = [dict(zip(values, row)) for row in zip(*map(_listed, knobs))]
    places = {key: {v: i for i, v in enumerate(found)} for key, found in values.items()}
    unit = np.array(
        [[(places[k][s[k]] + 0.5) / len(values[k]) for k in values] for s in settings]
    ).reshape(len(settings), len(knobs))
    return Design(kind, settings, unit, _levels(knobs, True))


def _levels(knobs: Sequence[Knob], counted: bool) -> tuple[int, ...]:
    return tuple(
        len(knob_values(k)) if counted else len(k.values) if k.range is None else 0 for k in knobs
    )


def knob_values(knob: Knob) -> list[str]:
    """The values of a knob on a grid, each once."""
    return list(dict.fromkeys(_listed(knob)))


def _listed(knob: Knob) -> list[str]:
    if knob.range is None:
        return list(knob.values)
    steps = knob.range.steps or 2
    return [in_range(knob.range, i / (steps - 1)) for i in range(steps)]


def _at(knob: Knob, place: float) -> str:
    """A knob's value at a place from 0 to 1."""
    if knob.range is not None:
        return in_range(knob.range, place)
    return knob.values[min(int(place * len(knob.values)), len(knob.values) - 1)]


def in_range(given: Range, place: float) -> str:
    """The value at a place from 0 to 1 of a range, written as its ends are.

    Worked example
    --------------
    >>> from capplan.spec.sweep import Range
    >>> in_range(Range(low="400Mi", high="900Mi", round="1Mi"), 0.5)
    '650Mi'
    >>> in_range(Range(low=10, high=1000, scale="log"), 0.5)
    '100'
    """
    (low, kind), (high, other) = quantity(given.low), quantity(given.high)
    kind = other if low == 0 else kind  # "0" is of no kind
    if given.scale == "log":
        value = math.exp(math.log(low) + place * (math.log(high) - math.log(low)))
    else:
        value = low + place * (high - low)
    if given.round is not None:
        step = quantity(given.round)[0]
        value = min(max(round(value / step) * step, low), high)
    if kind == RATE:
        return f"{value!r}/s"
    if kind == DURATION:
        return f"{round(value)}ns"
    if kind == SIZE:
        return format_k8s(round(value))
    whole = all(_is_whole(end) for end in (given.low, given.high))
    return str(round(value)) if whole else repr(value)


def _is_whole(value: Any) -> bool:
    return not isinstance(value, float) and "." not in str(value)
