"""Turning points of series."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from capplan.plan.outcome_series import Series
from capplan.spec.cgroup import ancestry
from tests.plan.synthetic import Maker


def series(**named: object) -> Series:
    made = Maker(duration=20.0).container("web", [(0, 10)])
    for name, values in named.items():
        made.put(name, values)
    return Series(made.run())


def test_rise_begins_when_a_tenth_was_done() -> None:
    values = np.array([5.0] * 6 + [5.0 + n for n in range(1, 16)])  # 5 up to t=5, then +1 a second
    found = series(x=values)
    # before t=16: the value at 15 s is 15, a tenth of the rise is 6 at 6 s
    assert found.rise(found.get("x"), 16.0) == (6.0, 6.0, 15.0, 1.0)


def test_rise_of_a_flat_series_is_none() -> None:
    found = series(x=3.0)
    assert found.rise(found.get("x"), 10.0) is None


def test_onset_bridges_short_pauses_and_no_long_ones() -> None:
    mask = np.zeros(21, dtype=bool)
    mask[[1, 2, 9, 12, 15]] = True
    found = series()
    assert found.onset(mask, 16.0) == 9.0  # six samples without: a new stretch


def test_onset_that_ended_long_ago_is_none() -> None:
    mask = np.zeros(21, dtype=bool)
    mask[2] = True
    found = series()
    assert found.onset(mask, 20.0) is None
    assert found.onset(mask, 2.0) is None  # what happens at the moment itself is no sign
    assert found.onset(mask, 3.0) == 2.0


def test_increase_counts_from_the_first_sample() -> None:
    values = np.concatenate([[np.nan, 100.0], np.arange(101.0, 120.0)])
    found = series(x=values)
    assert found.increase(found.get("x")) == 19.0
    assert found.increase(found.get("x"), 5.0, 7.0) == 2.0


def test_missing_series_is_none_and_counts_nothing() -> None:
    found = series()
    assert found.get("nowhere") is None
    assert found.increase(None) == 0.0
    assert found.extreme("nowhere", "max") is None
    assert found.before(None, 3.0) == 0.0


def test_ancestry_goes_up_to_the_root() -> None:
    assert ancestry("a/b/c") == ["a/b/c", "a/b", "a"]
    assert ancestry("") == []


@given(st.lists(st.floats(0, 1e6), min_size=20, max_size=20))
def test_average10_is_a_share(steps: list[float]) -> None:
    total = np.concatenate([[0.0], np.cumsum(steps)])
    found = series(psi=total)
    average = found.average10(found.get("psi"))
    assert average is not None
    assert ((average >= 0) & (average <= 1)).all()
    # the last 10 s hold the last ten steps
    assert average[-1] == pytest.approx(min(sum(steps[-10:]) / 10e6, 1.0), abs=1e-9)


def test_average10_of_the_first_second_is_no_spike() -> None:
    found = series(psi=np.concatenate([[0.0], np.full(20, 5e5)]))  # half of the first second
    average = found.average10(found.get("psi"))
    assert average is not None
    assert average[1] == pytest.approx(0.05)


@given(st.lists(st.booleans(), min_size=21, max_size=21), st.integers(1, 20))
def test_onset_is_a_true_sample_before(flags: list[bool], t: int) -> None:
    mask = np.array(flags)
    begin = series().onset(mask, float(t))
    if begin is not None:
        assert begin < t
        assert mask[int(begin)]
