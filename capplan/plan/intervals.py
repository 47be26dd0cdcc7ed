"""Intervals of proportions, and looking at them before all runs are done."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from statistics import NormalDist

__all__ = [
    "CONFIDENCE",
    "Proportion",
    "clean_runs",
    "declared_looks",
    "half_width",
    "proportion",
    "wilson",
]

CONFIDENCE = 0.95
FIRST_LOOK = 200
LOOK_GROWTH = 2  # each look is at twice as many runs as the one before


@dataclass(frozen=True)
class Proportion:
    """How many of how many, and the interval of the probability behind it."""

    count: int
    runs: int
    p: float | None  # None: no runs
    low: float
    high: float

    def __str__(self) -> str:
        """For people: 2.3 % (95 %: 1.5 to 3.4 %)."""
        if self.p is None:
            return "unknown"
        return f"{percent(self.p)} % (95 %: {percent(self.low)} to {percent(self.high)} %)"


def percent(share: float) -> str:
    """A share in percent, two digits that count."""
    value = 100 * share
    if value == 0 or value == 100:
        return f"{value:.0f}"
    if value > 99:  # what is left to 100 counts
        return f"{value:.{2 if value < 99.95 else 4}f}".rstrip("0")
    return f"{value:.2g}" if value < 10 else f"{value:.1f}"


def proportion(count: int, runs: int, confidence: float = CONFIDENCE) -> Proportion:
    """A proportion with its Wilson interval; without runs it can be anything."""
    if runs == 0:
        return Proportion(count, runs, None, 0.0, 1.0)
    low, high = wilson(count, runs, confidence)
    return Proportion(count, runs, count / runs, low, high)


def wilson(count: int, runs: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of a probability.

    Parameters
    ----------
    count, runs : int
        Incidents, and runs (at least 1).
    confidence : float
        Share of intervals that hold the truth.

    Returns
    -------
    low, high : float
        Exactly 0 where there was no incident, 1 where each run had one.

    Source
    ------
    E. B. Wilson, Probable inference, the law of succession, and statistical inference, Journal
    of the American Statistical Association 22 (1927), 209-212.

    Worked example
    --------------
    >>> [round(x, 4) for x in wilson(10, 200)]
    [0.0274, 0.0896]
    """
    z = _quantile(confidence)
    p = count / runs
    scale = 1.0 + z * z / runs
    center = (p + z * z / (2 * runs)) / scale
    half = z * math.sqrt(p * (1 - p) / runs + z * z / (4 * runs * runs)) / scale
    low = 0.0 if count == 0 else center - half
    high = 1.0 if count == runs else center + half
    return low, high


def clean_runs(bar: float, confidence: float = CONFIDENCE) -> int:
    """Runs without incident whose interval ends at ``bar``: fewer cannot show it.

    Worked example
    --------------
    >>> clean_runs(0.01)
    381
    """
    z = _quantile(confidence)
    return math.ceil(z * z * (1.0 - bar) / bar)


def half_width(count: int, runs: int, confidence: float = CONFIDENCE) -> float:
    """Half the width of :func:`wilson`."""
    low, high = wilson(count, runs, confidence)
    return (high - low) / 2


def declared_looks(replicates: int, until: float | None) -> tuple[int, ...]:
    """The numbers of runs after which the intervals are looked at: 200, 400, 800, ... and all.

    They depend on nothing that the runs show. Whether to stop is judged by the interval's width
    alone, which says little about where the truth lies: over p from 0.02 to 0.98 the intervals
    hold it in 94.9 to 95.1 % of all cases on average, 92.9 % at worst
    (tests/plan/test_intervals.py works it out exactly), as they do without looking.

    Worked example
    --------------
    >>> declared_looks(1000, 0.01), declared_looks(1000, None)
    ((200, 400, 800, 1000), (1000,))
    """
    if until is None:
        return (replicates,)
    looks = []
    look = FIRST_LOOK
    while look < replicates:
        looks.append(look)
        look *= LOOK_GROWTH
    return (*looks, replicates)


@functools.cache
def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)
