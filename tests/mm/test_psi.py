"""Pressure: worked numbers, overlapping stalls, lazy averages, triggers."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capplan.mm import psi
from capplan.mm.state import NS_PER_MS, NS_PER_S, new_kernel

KERNEL = new_kernel()
PERIOD = 501 * 4 * NS_PER_MS  # 2 * HZ + 1 jiffies at HZ 250


def fresh(nr_cpus: int = 4) -> Any:
    """Root, /a, /a/b and /c; nothing has run yet."""
    k = KERNEL[0]
    k["psi"] = np.zeros_like(k["psi"])
    k["memcg"]["psi"] = np.zeros_like(k["memcg"]["psi"])
    k["memcg"]["parent"][:4] = (-1, 0, 1, 0)
    k["nr_cpus"], k["hz"], k["nr_memcgs"] = nr_cpus, 250, 4
    return k


@pytest.fixture
def k() -> Any:
    return fresh()


def totals(group: Any) -> tuple[int, int]:
    return int(group["some_ns"]), int(group["full_ns"])


def shown(avg: Any) -> list[float]:
    return [psi.psi_percent(int(a)) for a in avg]


@pytest.mark.small
@pytest.mark.parametrize(
    ("periods", "expected"),
    [
        ((100,), [18.11, 3.27, 0.68]),
        ((100,) * 5, [63.18, 15.32, 3.37]),
        ((100,) * 15, [95.01, 39.28, 9.78]),
        ((100,) * 5 + (0,) * 5, [23.26, 12.97, 3.25]),
    ],
)
def test_calc_avgs_worked_numbers(periods: tuple[int, ...], expected: list[float]) -> None:
    avg = np.zeros(3, np.int64)
    for percent in periods:
        psi.calc_avgs(avg, 0, PERIOD * percent // 100, PERIOD)
    assert shown(avg) == expected


@pytest.mark.small
def test_calc_avgs_under_one_percent_counts_for_nothing() -> None:
    avg = np.zeros(3, np.int64)
    psi.calc_avgs(avg, 0, PERIOD // 100 - 1, PERIOD)
    assert avg.tolist() == [0, 0, 0]
    psi.calc_avgs(avg, 0, PERIOD // 100 + 1, PERIOD)
    assert avg[0] > 0


@pytest.mark.small
def test_calc_avgs_missed_periods_decay_like_idle_ones() -> None:
    avg = np.array([204800, 204800, 204800], np.int64)
    one_by_one = avg.copy()
    psi.calc_avgs(avg, 4, 0, PERIOD)
    for _ in range(5):
        psi.calc_avgs(one_by_one, 0, 0, PERIOD)
    assert np.abs(avg - one_by_one).max() <= 0.002 * 204800
    assert avg[0] < avg[1] < avg[2] < 204800


@pytest.mark.small
def test_fixed_power_int_zero_is_one() -> None:
    assert psi.fixed_power_int(1677, 0) == 2048
    assert psi.fixed_power_int(1677, 1) == 1677
    assert psi.fixed_power_int(1677, 2) == (1677 * 1677 + 1024) >> 11


@pytest.mark.small
@pytest.mark.parametrize(
    ("cpus", "tasks", "stalled", "some", "full"),
    [
        (4, 4, 1, 250, 250),  # the kernel model's example
        (4, 4, 4, 1000, 1000),
        (1, 1, 1, 1000, 1000),
        (1, 2, 1, 1000, 0),  # the other keeps the CPU busy
        (2, 8, 3, 1000, 0),
        (2, 8, 7, 1000, 500),
        (64, 3, 1, 333, 333),
    ],
)
def test_psi_task_change_sleeping_stalls(
    cpus: int, tasks: int, stalled: int, some: int, full: int
) -> None:
    k = fresh(cpus)
    psi.psi_task_change(k, 1, 0, tasks, 0, 0)
    for _ in range(stalled):
        psi.psi_memstall_enter(k, 1, 0, True)
    for _ in range(stalled):
        psi.psi_memstall_leave(k, 1, 1000, True)
    assert totals(k["psi"]) == (some, full)
    assert totals(k["memcg"]["psi"][1]) == (some, full)
    psi.psi_update_averages(k, k["psi"], NS_PER_S)
    assert totals(k["psi"]) == (some, full)  # nothing stalls any more


@pytest.mark.small
def test_psi_task_change_reclaimer_shares_its_cpu() -> None:
    """One CPU, one task reclaims and one wants to work: half of the time is lost."""
    k = fresh(1)
    psi.psi_task_change(k, 1, 0, 2, 0, 0)
    psi.psi_memstall_enter(k, 1, 0, False)
    psi.psi_memstall_leave(k, 1, 1000, False)
    assert totals(k["psi"]) == (1000, 500)


@pytest.mark.small
def test_psi_task_change_reaches_ancestors_only(k: Any) -> None:
    psi.psi_task_change(k, 3, 0, 1, 0, 0)  # a busy sibling
    psi.psi_task_change(k, 2, 0, 1, 0, 0)
    psi.psi_memstall_enter(k, 2, 100, True)
    psi.psi_memstall_leave(k, 2, 300, True)
    found = [totals(k["memcg"]["psi"][c]) for c in range(1, 4)]
    assert found == [(200, 200), (200, 200), (0, 0)]
    assert totals(k["psi"]) == (100, 100)
    assert int(k["psi"]["nr_running"]) == 2


@pytest.mark.small
@pytest.mark.parametrize("c", [-1, 0])
def test_psi_task_change_kswapd_presses_the_system_alone(k: Any, c: int) -> None:
    psi.psi_task_change(k, c, 0, 1, 1, 1)
    psi.psi_task_change(k, c, 500, -1, -1, -1)
    assert totals(k["psi"]) == (500, 500)
    assert not k["memcg"]["psi"]["some_ns"].any()


@pytest.mark.small
def test_overlapping_stalls_stay_within_the_wall_time() -> None:
    """Two tasks stall 0-600 and 400-1000 on one CPU: SOME all of it, FULL their overlap."""
    k = fresh(1)
    psi.psi_task_change(k, 1, 0, 2, 0, 0)
    psi.psi_memstall_enter(k, 1, 0, True)
    psi.psi_memstall_enter(k, 1, 400, True)
    psi.psi_memstall_leave(k, 1, 600, True)
    psi.psi_memstall_leave(k, 1, 1000, True)
    assert totals(k["psi"]) == (1000, 200)


@pytest.mark.small
def test_psi_update_averages_counts_a_stall_in_its_periods(k: Any) -> None:
    psi.psi_task_change(k, 1, 0, 1, 0, 0)
    psi.psi_memstall_enter(k, 1, 0, True)
    psi.psi_update_averages(k, k["psi"], PERIOD - 1)
    assert shown(k["psi"]["avg_some"]) == [0, 0, 0]
    psi.psi_update_averages(k, k["psi"], 15 * PERIOD)
    assert shown(k["psi"]["avg_some"]) == [95.01, 39.28, 9.78]
    assert shown(k["psi"]["avg_full"]) == [95.01, 39.28, 9.78]
    assert shown(k["memcg"]["psi"][1]["avg_some"]) == [0, 0, 0]  # nobody looked yet
    psi.psi_memstall_leave(k, 1, 15 * PERIOD, True)
    assert shown(k["memcg"]["psi"][1]["avg_some"]) == [95.01, 39.28, 9.78]


@pytest.mark.small
def test_psi_update_averages_splits_a_stall_at_the_boundary(k: Any) -> None:
    psi.psi_task_change(k, 1, 0, 1, 0, 0)
    psi.psi_memstall_enter(k, 1, PERIOD // 2, True)
    psi.psi_memstall_leave(k, 1, PERIOD + PERIOD // 4, True)
    psi.psi_update_averages(k, k["psi"], 2 * PERIOD)
    expected = np.zeros(3, np.int64)
    psi.calc_avgs(expected, 0, PERIOD // 2, PERIOD)
    psi.calc_avgs(expected, 0, PERIOD // 4, PERIOD)
    assert k["psi"]["avg_some"].tolist() == expected.tolist()


@pytest.mark.small
@pytest.mark.parametrize("running", [0, 1])
def test_psi_update_averages_idle_group_decays_to_nothing(k: Any, running: int) -> None:
    psi.psi_task_change(k, 1, 0, 1, 0, 0)
    psi.psi_memstall_enter(k, 1, 0, True)
    psi.psi_memstall_leave(k, 1, 5 * PERIOD, True)
    psi.psi_task_change(k, 1, 5 * PERIOD, running - 1, 0, 0)
    psi.psi_update_averages(k, k["psi"], 10 * PERIOD)
    assert shown(k["psi"]["avg_some"]) == pytest.approx([23.26, 12.97, 3.25], abs=0.03)
    late = 10**6 * PERIOD + 12345
    psi.psi_update_averages(k, k["psi"], late)
    assert shown(k["psi"]["avg_some"]) == [0, 0, 0]
    assert 0 <= late - int(k["psi"]["period_ns"]) < PERIOD
    assert totals(k["psi"]) == (5 * PERIOD, 5 * PERIOD)


@pytest.mark.small
def test_psi_task_change_earlier_than_the_last_is_taken_then(k: Any) -> None:
    psi.psi_task_change(k, 1, 0, 1, 0, 0)
    psi.psi_memstall_enter(k, 1, 100, True)
    psi.psi_update_averages(k, k["psi"], 50)
    assert totals(k["psi"]) == (0, 0)
    psi.psi_memstall_leave(k, 1, 90, True)
    assert totals(k["psi"]) == (0, 0)


Stall = tuple[int, int, bool, int]
stalls = st.lists(
    st.tuples(st.integers(0, 10**7), st.integers(1, 10**7), st.booleans(), st.integers(0, 3)),
    max_size=8,
)


def naive_totals(found: list[Stall], cpus: int, inside: set[int]) -> tuple[Fraction, Fraction]:
    """SOME and FULL of one group by looking at each elementary interval."""
    found = [s for s in found if s[3] in inside]
    cuts = sorted({t for begin, length, _, _ in found for t in (begin, begin + length)})
    some = full = Fraction(0)
    for begin, end in itertools.pairwise(cuts):
        now = [s for s in found if s[0] <= begin < s[0] + s[1]]
        asleep = sum(s[2] for s in now)
        running, productive = len(found) - asleep, len(found) - len(now)
        threads = min(len(found), cpus)
        working = Fraction(min(productive, threads))
        if running > cpus:
            working = Fraction(productive * cpus, running)
        if now:
            some += (end - begin) * min(Fraction(len(now), threads), Fraction(1))
            full += (end - begin) * (threads - working) / threads
    return some, full


@given(found=stalls, cpus=st.integers(1, 6))
def test_psi_totals_equal_the_naive_sum(found: list[Stall], cpus: int) -> None:
    """Each task stalls once; counts and ancestors give what intervals give."""
    k = fresh(cpus)
    changes = []
    for begin, length, asleep, c in found:
        psi.psi_task_change(k, c, 0, 1, 0, 0)
        changes += [(begin, 1, asleep, c), (begin + length, 0, asleep, c)]
    for t, enter, asleep, c in sorted(changes):
        change = psi.psi_memstall_enter if enter else psi.psi_memstall_leave
        change(k, c, t, bool(asleep))
    for group, inside in ((0, {0, 1, 2, 3}), (1, {1, 2}), (2, {2}), (3, {3})):
        some, full = naive_totals(found, cpus, inside)
        got = k["memcg"]["psi"][group] if group else k["psi"]
        slack = len(changes) / 2  # half a nanosecond per booking
        assert abs(int(got["some_ns"]) - some) <= slack
        assert abs(int(got["full_ns"]) - full) <= slack
        assert 0 <= int(got["full_ns"]) <= int(got["some_ns"])
        assert int(got["nr_memstall"]) == int(got["nr_memstall_running"]) == 0


@given(looks=st.lists(st.integers(0, 40 * PERIOD), max_size=6))
def test_psi_update_averages_does_not_depend_on_who_looks(looks: list[int]) -> None:
    results = []
    for times in ([], sorted(looks)):
        k = fresh(1)
        psi.psi_task_change(k, 1, 0, 1, 0, 0)
        psi.psi_memstall_enter(k, 1, 0, True)
        for t in times:
            psi.psi_update_averages(k, k["psi"], t)
        psi.psi_update_averages(k, k["psi"], 40 * PERIOD)
        results.append((k["psi"]["avg_some"].tolist(), totals(k["psi"])))
    assert results[0] == results[1]
