"""Which knob moves the result: shares of the variance over a sweep's points.

First order: the share of the variance that is left when a knob's value is known and the mean
over the others is taken, ``Var(E[Y | X]) / Var(Y)``. Total order: the share that goes when all
others are known; it needs a Saltelli design.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from capplan.plan.design import Design

__all__ = ["Index", "first_order", "sensitivity"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

RESAMPLES = 1000
CONFIDENCE = 0.95
MOST_BINS = 16
LEAST_IN_BIN = 8


@dataclass(frozen=True)
class Index:
    """How much one knob moves one metric; ``total`` is None but for a Saltelli design."""

    knob: str
    of: str
    first: float
    first_low: float
    first_high: float
    total: float | None = None
    total_low: float | None = None
    total_high: float | None = None


def sensitivity(
    design: Design, knobs: Sequence[str], metric: str, values: FloatArray, seed: int
) -> list[Index]:
    """Indices of all knobs for one metric, the strongest first.

    Parameters
    ----------
    design : Design
        Where the points lie.
    knobs : sequence of str
        The knobs' keys, in the design's order.
    metric : str
        What ``values`` are.
    values : (points,) float64
        NaN where a point has none: it is left out (a Saltelli design then has no indices).
    seed : int
        Of the resampling.

    Returns
    -------
    list of Index
        Empty when the metric does not vary.
    """
    there = np.isfinite(values)
    if there.sum() < 2 or np.ptp(values[there]) == 0:
        return []
    if design.base:
        found = _saltelli(design, knobs, metric, values, seed) if there.all() else []
    else:
        found = _given_data(design, knobs, metric, values, there, seed)
    return sorted(found, key=lambda i: (-(i.total if i.total is not None else i.first), i.knob))


def _given_data(
    design: Design,
    knobs: Sequence[str],
    metric: str,
    values: FloatArray,
    there: npt.NDArray[np.bool_],
    seed: int,
) -> list[Index]:
    y = values[there]
    made = []
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, y.size, (RESAMPLES, y.size))
    for column, knob in enumerate(knobs):
        bins = _bins(design.unit[there, column], design.levels[column])
        # on a full grid the others' values are the same in every group: nothing to take off
        exact = design.kind == "grid" and bool(there.all())
        first = first_order(y, bins, exact=exact)
        again = np.array([first_order(y[pick], bins[pick], exact=False) for pick in picks])
        low, high = _around(first, again)
        made.append(Index(knob, metric, first, low, high))
    return made


def _bins(place: FloatArray, levels: int) -> IntArray:
    """Groups of points that are alike in one knob: its values, or slices of its range."""
    if levels:
        return np.minimum((place * levels).astype(np.int64), levels - 1)
    bins = int(np.clip(place.size // LEAST_IN_BIN, 2, MOST_BINS))
    order = np.argsort(np.argsort(place, kind="stable"), kind="stable")
    return order * bins // place.size


def first_order(y: FloatArray, bins: IntArray, *, exact: bool = False) -> float:
    """``Var(E[Y | X]) / Var(Y)`` from given data, X cut into bins.

    Parameters
    ----------
    y : (n,) float64
        The metric at each point.
    bins : (n,) int64
        The bin each point's X lies in, from 0.
    exact : bool
        Leave the chance variance of the bins' means in: on a full grid it is none.

    Returns
    -------
    float
        0 to 1. Otherwise the bias of the plain ratio is taken off as in omega squared:
        ``(SS_between - (k - 1) MS_within) / SS_total`` (W. L. Hays, Statistics for
        Psychologists, 1963).
    """
    count = np.bincount(bins)
    some = count > 0
    total = float(((y - y.mean()) ** 2).sum())
    groups = int(some.sum())
    if total == 0.0 or groups < 2:
        return 0.0
    means = np.bincount(bins, weights=y)[some] / count[some]
    between = float((count[some] * (means - y.mean()) ** 2).sum())
    if exact or y.size <= groups:
        return min(between / total, 1.0)
    within = (total - between) / (y.size - groups)
    return min(max((between - (groups - 1) * within) / total, 0.0), 1.0)


def _around(found: float, again: FloatArray) -> tuple[float, float]:
    """A 95 % interval from resampled values, moved to lie around what was found."""
    tail = (1 - CONFIDENCE) / 2
    low, middle, high = np.quantile(again, [tail, 0.5, 1 - tail])
    shift = found - middle  # resampling repeats points, which raises the index
    return max(float(low + shift), 0.0), min(float(high + shift), 1.0)


def _saltelli(
    design: Design, knobs: Sequence[str], metric: str, values: FloatArray, seed: int
) -> list[Index]:
    n, d = design.base, len(knobs)
    # moved and scaled, which leaves the indices as they are and keeps the sums of squares exact
    parts = ((values - values.mean()) / float(np.ptp(values))).reshape(d + 2, n)
    first, total = _indices(parts)
    rng = np.random.default_rng(seed)  # scipy's own resampling cannot be seeded
    again = [_indices(parts[:, rng.integers(0, n, n)]) for _ in range(RESAMPLES)]
    tail = (1 - CONFIDENCE) / 2
    lows, highs = np.nanquantile(np.array(again), [tail, 1 - tail], axis=0)
    made = []
    for column, knob in enumerate(knobs):
        numbers = (first[column], lows[0][column], highs[0][column],
                   total[column], lows[1][column], highs[1][column])  # fmt: skip
        plain = [float(x) for x in numbers]
        if all(map(math.isfinite, plain)):
            made.append(Index(knob, metric, *plain))
    return made


def _indices(parts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """First and total order of each knob from f(A), f(B) and f(A with a column of B)."""
    from scipy.stats import sobol_indices

    known = {"f_A": parts[:1], "f_B": parts[1:2], "f_AB": parts[2:, None, :]}
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample without variance: NaN
        found = sobol_indices(func=known, n=parts.shape[1])
    return np.ravel(found.first_order), np.ravel(found.total_order)
