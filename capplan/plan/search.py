"""The highest level of a knob that a node bears: a search over runs with common random numbers.

A level is a whole number; the higher, the more is asked of the node (replicas added, percent taken
off a limit). With the same draws at every level, a replicate that goes well at one level goes well
at every lower one: each has its own critical level. The answer is the level that all but a few of
the replicates bear, an order statistic of the critical levels, and so a tolerance limit that holds
whatever their distribution is, at the confidence of :func:`confidence_of`. What a run has shown at
one level is never run again at a level that it implies.

Source: S. S. Wilks, Determination of sample sizes for setting tolerance limits, Annals of
Mathematical Statistics 12 (1941), 91-96.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Found", "Trials", "allowed_failures", "confidence_of", "runs_needed", "search"]

PILOTS = (1, 8)  # replicates that find the neighbourhood before all of them are asked
CHECKED = 16  # replicates that are run again at a lower level, to see that it is borne too

Run = Callable[[int, Sequence[int]], Iterable[tuple[int, bool]]]
"""Runs replicates at a level; gives back each with whether it went well."""


def runs_needed(risk: float, confidence: float) -> int:
    """Replicates of which none may fail for a risk to be shown.

    Worked example
    --------------
    >>> runs_needed(0.01, 0.95), runs_needed(0.05, 0.95)
    (299, 59)
    """
    return math.ceil(math.log(1.0 - confidence) / math.log(1.0 - risk))


def allowed_failures(runs: int, risk: float, confidence: float) -> int:
    """How many of ``runs`` may fail while the risk is shown; 0 when too few runs show nothing.

    Worked example
    --------------
    >>> allowed_failures(299, 0.01, 0.95), allowed_failures(473, 0.01, 0.95)
    (0, 1)
    """
    allowed = 0
    while confidence_of(runs, allowed + 1, risk) >= confidence:
        allowed += 1
    return allowed


def confidence_of(runs: int, failures: int, risk: float) -> float:
    """Confidence that the risk is at most ``risk`` when so many of ``runs`` failed.

    1 - P(at most ``failures`` of ``runs`` fail at a risk of ``risk``).
    """
    return 1.0 - sum(
        math.comb(runs, k) * risk**k * (1.0 - risk) ** (runs - k) for k in range(failures + 1)
    )


@dataclass(frozen=True)
class Found:
    """Where a search ended.

    Attributes
    ----------
    level : int, optional
        Highest level borne; None: not even level 0.
    failures : int
        Replicates that fail there.
    limited : bool
        The highest level that was to be tried is borne: there may be more.
    runs : int
        That the search needed.
    confidence : float
        That the risk there is within the bar.
    violations : int
        Replicates that went well at the level and failed at a lower one, of ``checked``.
    """

    level: int | None
    failures: int
    limited: bool
    runs: int
    confidence: float
    violations: int = 0
    checked: int = 0


class Trials:
    """What is known of each replicate: the highest level it bears, the lowest it does not."""

    def __init__(self, replicates: Sequence[int], run: Run) -> None:
        self.replicates = replicates
        self.run = run
        self.runs = 0
        self.bears = dict.fromkeys(replicates, -1)
        self.fails = dict.fromkeys(replicates, math.inf)

    def failures(self, level: int, among: Sequence[int]) -> int:
        """How many replicates fail at a level; those not known are run."""
        unknown = [r for r in among if self.bears[r] < level < self.fails[r]]
        self.runs += len(unknown)
        for replicate, well in self.run(level, unknown) if unknown else ():
            if well:
                self.bears[replicate] = max(self.bears[replicate], level)
            else:
                self.fails[replicate] = min(self.fails[replicate], level)
        return sum(self.fails[r] <= level for r in among)

    def again(self, level: int, among: Sequence[int]) -> int:
        """Run replicates that are known to bear a level; how many fail nevertheless."""
        self.runs += len(among)
        return sum(not well for _, well in self.run(level, among))


def search(
    run: Run, replicates: Sequence[int], highest: int, risk: float, confidence: float
) -> Found:
    """Find the highest level whose risk is within the bar.

    Parameters
    ----------
    run : callable
        Runs replicates at a level.
    replicates : sequence of int
        All that may be used: with fewer than :func:`runs_needed` the confidence is lower.
    highest : int
        No level above it is tried.
    risk, confidence : float
        The bar, and how sure the answer is to be.
    """
    trials = Trials(replicates, run)
    allowed = allowed_failures(len(replicates), risk, confidence)
    level: int | None = None
    # those few who fail too often show that all would: each finds what the next need not exceed
    for count in (*(allowed + pilot for pilot in PILOTS), len(replicates)):

        def borne(at: int, among: Sequence[int] = replicates[:count]) -> bool:
            return trials.failures(at, among) <= allowed

        top, is_first = highest if level is None else level, level is None
        level = _bisect(borne, 0, top, first=None if is_first else top, grow=is_first)
        if level is None:
            break
    if level is None:
        failed = trials.failures(0, replicates)
        return Found(None, failed, False, trials.runs, 0.0)
    failures = trials.failures(level, replicates)
    again = [r for r in replicates if trials.bears[r] >= level][:CHECKED] if level > 1 else []
    violations = trials.again(level // 2, again) if again else 0
    return Found(
        level=level,
        failures=failures,
        limited=level == highest,
        runs=trials.runs,
        confidence=confidence_of(len(replicates), failures, risk),
        violations=violations,
        checked=len(again),
    )


def _bisect(
    good: Callable[[int], bool],
    low: int,
    high: int,
    *,
    first: int | None = None,
    grow: bool = False,
) -> int | None:
    """Highest level from ``low`` to ``high`` that is good; None: ``low`` is not.

    ``first`` is tried before all others; ``grow`` doubles upwards from ``low``, for where the
    answer is likelier small.
    """
    if first is not None and good(first):
        return first
    if not good(low):
        return None
    bad = high + 1 if first is None else first
    step = 1
    while grow and low + step < bad:
        if not good(low + step):
            bad = low + step
            break
        low, step = low + step, step * 2
    while bad - low > 1:
        middle = (low + bad) // 2
        if good(middle):
            low = middle
        else:
            bad = middle
    return low
