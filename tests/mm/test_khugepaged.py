"""Whose mm khugepaged holds when a process ends."""

from __future__ import annotations

from typing import Any

import pytest

from capplan.mm import state
from capplan.mm.khugepaged import khugepaged_enter, khugepaged_exit

pytestmark = pytest.mark.small

S = 1_000_000_000


def machine(*blocks: int, born_s: int = 3) -> Any:
    """Processes with room for so many huge pages each, all born at once."""
    k = state.new_kernel()[0]
    k.thp_enabled = 1
    k.nr_procs = len(blocks)
    k.now_ns = born_s * S
    for p, nr in enumerate(blocks):
        k.proc[p].state = state.PROC_LIVE
        k.proc[p].start_ns = k.now_ns
        k.proc[p].first_vma = p
        k.vma[p].mapping = p
        k.vma[p].next = -1
        k.mapping[p].kind = state.MAP_ANON
        k.mapping[p].thp = 1
        k.mapping[p].max_pages = nr * state.HPAGE_PMD_NR
    return k


def let_go_s(k: Any, p: int, at_s: float) -> float:
    k.proc[p].state = state.PROC_EXITING
    k.now_ns = int(at_s * S)
    found = khugepaged_exit(k, p) / S
    k.proc[p].state = state.PROC_LIVE
    return float(found)


@pytest.mark.parametrize(
    ("blocks", "at_s", "gone_s"),
    [
        (8, 5, 5),  # one wake looks at all of it
        (75, 12.5, 13),  # 8 of 75 at 3 s, the next wake is at 13
        (75, 14, 23),
        (16, 14, 14),  # two wakes: through
        (0, 14, 14),
    ],
)
def test_mm_that_khugepaged_is_in_is_held_until_its_next_wake(
    blocks: int, at_s: float, gone_s: float
) -> None:
    k = machine(blocks)
    khugepaged_enter(k, 0)
    assert let_go_s(k, 0, at_s) == gone_s


def test_khugepaged_is_in_one_of_several() -> None:
    k = machine(20, 20)
    k.khugepaged_ns = 3 * S
    assert [let_go_s(k, p, 5) for p in (0, 1)] == [13, 5]  # 8 blocks: in the first
    assert [let_go_s(k, p, 25) for p in (0, 1)] == [25, 33]  # 24: in the second


def test_khugepaged_wakes_for_the_first_process_only() -> None:
    k = machine(20, 20)
    k.proc[1].state = state.PROC_UNBORN
    khugepaged_enter(k, 0)
    assert k.khugepaged_ns == 3 * S
    k.now_ns = 7 * S
    k.proc[1].state = state.PROC_LIVE
    khugepaged_enter(k, 1)
    assert k.khugepaged_ns == 3 * S


def test_without_huge_pages_nothing_is_held() -> None:
    k = machine(75)
    k.thp_enabled = 0
    assert let_go_s(k, 0, 5) == 5
