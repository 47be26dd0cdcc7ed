"""Wilson's interval, and what looking early does to it: worked out exactly."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from capplan.plan.intervals import declared_looks, half_width, percent, proportion, wilson


@pytest.mark.parametrize(("count", "runs"), [(0, 10), (1, 7), (10, 200), (999, 1000), (50, 50)])
def test_wilson_is_scipys(count: int, runs: int) -> None:
    theirs = binomtest(count, runs).proportion_ci(method="wilson")
    assert wilson(count, runs) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_no_runs_say_nothing() -> None:
    found = proportion(0, 0)
    assert (found.p, found.low, found.high, str(found)) == (None, 0.0, 1.0, "unknown")


def test_looks_are_declared_before_anything_is_seen() -> None:
    assert declared_looks(1000, None) == (1000,)
    assert declared_looks(1000, 0.01) == (200, 400, 800, 1000)
    assert declared_looks(100, 0.01) == (100,)


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0"), (1, "100"), (0.0231, "2.3"), (0.9999, "99.99"), (0.5, "50.0")]
)
def test_percent_shows_what_counts(share: float, text: str) -> None:
    assert percent(share) == text


def coverage(p: float, looks: tuple[int, ...], until: float) -> float:
    """Chance that the interval at the end holds p, over all ways the runs can go."""
    going, held, before = np.ones(1), 0.0, 0
    for look in looks:
        new = binom.pmf(np.arange(look - before + 1), look - before, p)
        going = np.convolve(going, new)
        counts = np.arange(look + 1)
        intervals = np.array([wilson(int(x), look) for x in counts])
        widths = np.array([half_width(int(x), look) for x in counts])
        stops = (widths <= until) | (look == looks[-1])
        inside = (intervals[:, 0] <= p) & (p <= intervals[:, 1])
        held += going[stops & inside].sum()
        going = np.where(stops, 0.0, going)
        before = look
    return float(held)


@pytest.mark.parametrize("until", [None, 0.02, 0.03, 0.05])
def test_intervals_hold_the_truth_in_93_to_97_percent(until: float | None) -> None:
    looks = (200,) if until is None else declared_looks(3200, until)
    truths = np.linspace(0.02, 0.98, 49)
    found = np.array([coverage(float(p), looks, until or 1.0) for p in truths])
    assert 0.945 <= found.mean() <= 0.955
    assert found.min() >= 0.925
    assert found.max() <= 0.975
