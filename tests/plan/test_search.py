"""The search for the level that a node bears, on replicates whose critical levels are known."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capplan.plan.search import allowed_failures, confidence_of, runs_needed, search


class World:
    """Replicate r bears every level up to ``critical[r]``; counts what is run."""

    def __init__(self, critical: dict[int, int]) -> None:
        self.critical = critical
        self.asked: list[tuple[int, int]] = []

    def run(self, level: int, replicates: Sequence[int]) -> Iterable[tuple[int, bool]]:
        self.asked += [(level, r) for r in replicates]
        return [(r, level <= self.critical[r]) for r in replicates]


@given(
    st.lists(st.integers(-1, 60), min_size=1, max_size=80), st.integers(0, 50),
    st.sampled_from([0.01, 0.1, 0.3]),
)  # fmt: skip
def test_search_finds_the_order_statistic(levels: list[int], highest: int, risk: float) -> None:
    world = World(dict(enumerate(levels)))
    found = search(world.run, range(len(levels)), highest, risk, 0.95)
    allowed = allowed_failures(len(levels), risk, 0.95)
    good = [at for at in range(highest + 1) if sum(c < at for c in levels) <= allowed]
    assert found.level == (max(good) if good else None)
    assert found.runs == len(world.asked)
    assert found.violations == 0
    if found.level is not None:
        assert found.failures == sum(c < found.level for c in levels)
        assert found.limited == (found.level == highest)


def test_search_runs_each_replicate_hardly_more_than_once() -> None:
    random.seed(5)
    world = World({r: 30 + int(random.gauss(0, 3)) for r in range(299)})
    found = search(world.run, range(299), 99, 0.01, 0.95)
    assert found.level == min(world.critical.values())
    assert found.runs < 1.6 * 299  # a plain bisection needs 7 x 299


def test_a_knob_that_is_not_monotone_is_told() -> None:
    found = search(lambda at, rs: [(r, at != 4) for r in rs], range(20), 9, 0.2, 0.95)
    assert found.level == 9
    assert found.violations == found.checked == 16


def test_confidence_is_the_binomial_tail() -> None:
    assert runs_needed(0.01, 0.95) == 299
    assert confidence_of(299, 0, 0.01) == pytest.approx(1 - 0.99**299)
    assert confidence_of(299, 0, 0.01) >= 0.95 > confidence_of(298, 0, 0.01)
    assert allowed_failures(100, 0.01, 0.95) == 0


def test_coverage_of_the_tolerance_limit() -> None:
    """Over many samples the answer's true risk is within the bar as often as promised."""
    random.seed(7)
    held = 0
    for _ in range(400):
        # critical levels uniform on 0..9999: the risk of level x is x / 10000
        world = World({r: random.randrange(10_000) for r in range(59)})
        found = search(world.run, range(59), 9_999, 0.05, 0.95)
        assert found.level is not None
        held += found.level / 10_000 <= 0.05
    assert held / 400 == pytest.approx(0.95, abs=0.03)
