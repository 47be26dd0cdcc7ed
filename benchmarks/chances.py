"""Intervals against truths that are known: coverage, with and without --until; rare incidents."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from benchmarks.common import median, report
from capplan.plan import rare
from capplan.plan.intervals import declared_looks, half_width, wilson
from capplan.sim.expand_draws import Draws

UNIT = NormalDist()
FEWEST, MOST = 200, 6400


def coverage(truths: int, until: float | None) -> tuple[float, float]:
    """Share of intervals that hold the truth, and the mean number of runs."""
    rng = np.random.default_rng(1)
    held, runs = 0, 0
    for p in np.linspace(0.02, 0.98, truths):
        hits = np.cumsum(rng.random(MOST) < p)
        for look in declared_looks(FEWEST if until is None else MOST, until):
            count = int(hits[look - 1])
            if until is not None and half_width(count, look) <= until:
                break
        low, high = wilson(count, look)
        held += low <= p <= high
        runs += look
    return held / truths, runs / truths


class Largest:
    """The incident: the largest of a few drawn numbers is above a bound. Its chance is known."""

    def __init__(self, seed: int, p: float, names: int) -> None:
        self.seed, self.names = seed, names
        self.bound = UNIT.inv_cdf((1 - p) ** (1 / names))

    def __call__(self, samples: Sequence[rare.Sample]) -> list[float]:
        return [self.score(sample) for sample in samples]

    def score(self, sample: rare.Sample) -> float:
        """1 and more: it happened."""
        draws = Draws(self.seed, sample.replicate, blend=sample.blend)
        top = max(draws.score(0, f"c{i}") for i in range(self.names)) / self.bound
        return 2 - 0.5 / top if top >= 1 else min(0.5 + 0.5 * top, math.nextafter(1, 0))


def rare_incidents(repeats: int, runs: int, p: float, names: int) -> None:
    """Splitting, again and again, against the known probability."""
    found = [rare.split(Largest(seed, p, names), runs, seed) for seed in range(repeats)]
    estimates = np.array([one.p for one in found])
    held = sum(one.low <= p <= one.high for one in found) / repeats
    wide = [one.half_width for one in found if one.reached]
    report(f"rare_{names}", [
        ("truth", p, "", ""),
        ("repeats", repeats, "", "200"),
        ("runs of each", float(np.mean([one.runs for one in found])), "", f"<= {runs}"),
        ("mean estimate / truth", float(estimates.mean() / p), "", "1"),
        ("1.96 standard deviations / truth", float(1.96 * estimates.std() / p), "", "<= 0.5"),
        ("interval's half-width / estimate, median", median(wide), "", "<= 0.5"),
        ("the same, 95 % of repeats", float(np.quantile(wide, 0.95)), "", ""),
        ("intervals that hold the truth", 100 * held, "%", "95"),
        ("repeats that reached it", 100 * sum(one.reached for one in found) / repeats, "%", ""),
    ])  # fmt: skip


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--truths", type=int, default=1000)
    given = parser.parse_args()
    rows = []
    for until in (None, 0.02, 0.03, 0.05):
        share, runs = coverage(given.truths, until)
        what = "200 runs" if until is None else f"--until {until}, {runs:,.0f} runs on average"
        rows.append((f"intervals that hold the truth: {what}", 100 * share, "%", "93 to 97"))
    report("coverage", rows)
    for names in (1, 5):
        rare_incidents(given.repeats, 10_000, 1e-4, names)


if __name__ == "__main__":
    main()
