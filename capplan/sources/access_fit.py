"""From the share of memory that is touched within a time to how it is accessed.

The share touched within a window t, as a function of t, tells the pattern: with N pages accessed
at a rate of a pages each second it is

    cyclic    min(a t / N, 1)                     in order, over and over
    uniform   1 - exp(-a t / N)                   any page
    part      f (1 - exp(-a t / (f N)))           any page of a part f, the rest never
    zipf      mean over ranks r of 1 - exp(-a t w(r)), w(r) as r**-skew
    idle      0

(the working set function of Denning's model for independent references). The rate is what the
engine takes: accesses to other pages; a page that is accessed many times in a row counts once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Fit", "Share", "fit"]

LEVEL = 3.84  # 95 % of chi-square with one degree of freedom
LEAST, MOST = 1e-6, 20.0  # accesses of a page in a second, the mean; more cannot be told
COARSE, FINE = 73, 40  # steps of the search over rates
SKEWS = tuple(k / 5 for k in range(1, 21))
RANKS = 40  # classes of equal width in log rank

Model = Callable[[float], tuple[list[float], float]]  # rate -> shares by window, part


@dataclass(frozen=True)
class Share:
    """The share of memory that was touched within a window, and its standard error.

    Attributes
    ----------
    window_s
        [s]
    share, error
        0 to 1.
    """

    window_s: float
    share: float
    error: float


@dataclass(frozen=True)
class Fit:
    """The pattern that explains the shares best.

    Attributes
    ----------
    pattern
        ``idle``, ``cyclic``, ``uniform`` (of a part, where that is below 1) or ``zipf``.
    rate, low, high
        Accesses of a page in a second, the mean over the part's pages, with its 95 % interval.
        Where all of them were touched in the shortest window high is infinite, and rate the
        lowest within a standard error. [1/s]
    skew
        Of zipf.
    part
        Share of the memory that is accessed at all.
    misfit
        The largest distance of a share from the pattern's, in standard errors.
    """

    pattern: str
    rate: float
    low: float
    high: float
    skew: float = 0.0
    part: float = 1.0
    misfit: float = 0.0


def fit(shares: Sequence[Share], pages: int) -> Fit:
    """Find the pattern by weighted least squares; what is not uniform must pay for itself.

    Parameters
    ----------
    shares : sequence of Share
        One for each window; at least one.
    pages : int
        Of the memory, for zipf's ranks. [pages]

    Worked example
    --------------
    63 % touched in 10 s and 86 % in 20 s: 1 - exp(-1), 1 - exp(-2): uniform, 0.1 accesses of a
    page in a second. 50 % in 10 s and 100 % in 20 s: cyclic, 0.05.
    """
    found: list[tuple[float, Fit]] = []
    for pattern, skew, parameters, model in _models(shares, pages):

        def miss(rate: float, model: Model = model) -> float:
            modelled, _ = model(rate)
            return sum(((m - s.share) / s.error) ** 2 for m, s in zip(modelled, shares))

        rate, least = _least(miss)
        low, high = _within(miss, rate, least + LEVEL)
        if math.isinf(high):  # whatever is faster explains it as well
            rate = max(_within(miss, rate, least + 1.0)[0], LEAST)
        modelled, part = model(rate)
        worst = max(abs(m - s.share) / s.error for m, s in zip(modelled, shares))
        this = Fit(pattern, rate, low, high, skew, part, worst)
        found.append((least + LEVEL * parameters, this))
    least, best = min(found, key=lambda one: one[0])
    if sum((s.share / s.error) ** 2 for s in shares) <= least:
        return Fit("idle", 0.0, 0.0, found[0][1].high)
    return best


def _models(shares: Sequence[Share], pages: int) -> Iterator[tuple[str, float, int, Model]]:
    """Pattern, skew, number of parameters, model."""

    def uniform(rate: float) -> tuple[list[float], float]:
        return [-math.expm1(-rate * s.window_s) for s in shares], 1.0

    def cyclic(rate: float) -> tuple[list[float], float]:
        return [min(rate * s.window_s, 1.0) for s in shares], 1.0

    def part(rate: float) -> tuple[list[float], float]:
        whole, _ = uniform(rate)
        fitted = sum(w * s.share / s.error**2 for w, s in zip(whole, shares))
        held = min(max(fitted / sum((w / s.error) ** 2 for w, s in zip(whole, shares)), 0.0), 1.0)
        return [held * w for w in whole], held

    yield "uniform", 0.0, 1, uniform
    yield "cyclic", 0.0, 2, cyclic
    if len(shares) > 1:
        yield "uniform", 0.0, 2, part
        for skew in SKEWS:
            classes = _classes(skew, max(pages, 2))

            def zipf(
                rate: float, classes: list[tuple[float, float]] = classes
            ) -> tuple[list[float], float]:
                touched = [
                    sum(-width * math.expm1(-rate * s.window_s * w) for width, w in classes)
                    for s in shares
                ]
                return touched, 1.0

            yield "zipf", skew, 3, zipf


def _classes(skew: float, pages: int) -> list[tuple[float, float]]:
    """Zipf's ranks in classes: the share of pages in each, their weight (1 is the mean page's)."""
    edges = [(pages + 1.0) ** (k / RANKS) for k in range(RANKS + 1)]
    widths = [b - a for a, b in itertools.pairwise(edges)]
    if abs(skew - 1.0) < 1e-9:
        masses = [math.log(b / a) for a, b in itertools.pairwise(edges)]
    else:
        power = 1.0 - skew
        masses = [(b**power - a**power) / power for a, b in itertools.pairwise(edges)]
    whole = sum(masses)
    return [(w / pages, m / whole / w * pages) for w, m in zip(widths, masses)]


def _steps(low: float, high: float, count: int) -> list[float]:
    return [low * (high / low) ** (k / (count - 1)) for k in range(count)]


def _least(miss: Callable[[float], float]) -> tuple[float, float]:
    """The rate that misses least, by a grid and a finer one around its best."""
    coarse = _steps(LEAST, MOST, COARSE)
    at = min(range(COARSE), key=lambda k: miss(coarse[k]))
    fine = _steps(coarse[max(at - 1, 0)], coarse[min(at + 1, COARSE - 1)], FINE)
    rate = min(fine, key=miss)
    return rate, miss(rate)


def _within(miss: Callable[[float], float], rate: float, bound: float) -> tuple[float, float]:
    """How far the rate may go either way before it misses by more than the bound."""
    ends = []
    for end in (LEAST, MOST):
        if miss(end) <= bound:
            ends.append(0.0 if end == LEAST else math.inf)
            continue
        inside, outside = rate, end
        for _ in range(40):
            middle = math.sqrt(inside * outside)
            inside, outside = (middle, outside) if miss(middle) <= bound else (inside, middle)
        ends.append(inside)
    return ends[0], ends[1]
