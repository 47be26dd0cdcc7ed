"""Transparent huge pages: faults of 512 pages, their fallback, and what they cost."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Mapping, Op, Process
from tests.sim.engine_cases import MS, S, events, last, node, process, scenario

pytestmark = pytest.mark.small

HOLD = Op("hold", ns=1000 * S)


def huge(name: str, pages: int, *after: Op, size: int = 4096) -> tuple[Process, Mapping]:
    """A process with a region of ``size`` pages that asks for huge pages."""
    one, heap = process(name, "a", pages, *after)
    return one, dataclasses.replace(heap, thp=True, max_pages=size)


def found_of(*parts: Any, group: Cgroup = Cgroup("a"), **more: Any) -> Any:  # noqa: B008
    return run(scenario(list(parts), (group,), **more))


def rss(found: Any, name: str = "p") -> float:
    return last(found, f"process.{name}.rss_pages")


def usage(found: Any) -> float:
    return last(found, "cgroup.a.memory.current") / 4096


@pytest.mark.parametrize("g", [0, 3, 5])
def test_little_touch_costs_a_whole_huge_page(g: int) -> None:
    found = found_of(huge("p", 100, HOLD), granule_order=g)
    assert rss(found) == 512
    assert usage(found) == 513  # and the page table that is kept for a split
    assert last(found, "vmstat.thp_fault_alloc") == 1
    assert last(found, "vmstat.pgfault") == 1


def test_growth_takes_the_spare_pages_first() -> None:
    ops = [Op("grow", pages=n, rate=50_000.0) for n in (300, 112, 1)]
    assert rss(found_of(huge("p", 100, ops[0], HOLD))) == 512
    assert rss(found_of(huge("p", 100, *ops[:2], HOLD))) == 512
    assert rss(found_of(huge("p", 100, *ops, HOLD))) == 1024


def test_region_that_ends_within_2_mib_gets_single_pages() -> None:
    found = found_of(huge("p", 600, HOLD, size=1000))
    assert rss(found) == 512 + 88
    assert last(found, "vmstat.thp_fault_alloc") == 1
    assert last(found, "vmstat.thp_fault_fallback") == 0


def test_charge_without_room_falls_back_and_kills_nobody() -> None:
    found = found_of(huge("p", 600, HOLD), group=Cgroup("a", memory_max=700))
    assert rss(found) == 600
    assert last(found, "vmstat.thp_fault_alloc") == 1
    assert last(found, "vmstat.thp_fault_fallback") == 1
    assert not events(found, "oom_kill")
    assert last(found, "cgroup.a.events.max") == 0


def test_node_without_a_block_falls_back() -> None:
    # 8192 pages, 512 of them the kernel's; single pages up to 7000, then no 2 MiB above LOW
    found = found_of(process("plain", "a", 7000, HOLD), huge("p", 100, HOLD),
                     duration_ns=2 * S)  # fmt: skip
    assert last(found, "vmstat.thp_fault_alloc") + last(found, "vmstat.thp_fault_fallback") >= 1
    late = huge("p", 100, HOLD)
    late = (dataclasses.replace(late[0], start_ns=S), late[1])
    found = found_of(process("plain", "a", 7000, HOLD), late, duration_ns=2 * S)
    assert rss(found) == 100
    assert last(found, "vmstat.thp_fault_fallback") == 1


def test_never_means_single_pages() -> None:
    assert rss(found_of(huge("p", 100, HOLD), node=node(thp=False))) == 100
    plain = found_of(process("p", "a", 100, HOLD))
    assert rss(plain) == 100
    assert last(plain, "vmstat.thp_fault_fallback") == 0


def test_free_gives_the_spare_end_back_too() -> None:
    found = found_of(huge("p", 700, Op("free", pages=300), HOLD))
    assert rss(found) == 400


def swapped(**more: Any) -> Any:
    """Two huge pages that nobody touches any more, swapped out by 400 pages of somebody else."""
    return found_of(huge("p", 1024, HOLD), process("q", "a", 400, HOLD, start_ns=S),
                    group=Cgroup("a", memory_max=1200), node=node(swap=2048, **more),
                    duration_ns=3 * S)  # fmt: skip


def test_classic_lru_swaps_it_out_whole() -> None:
    found = swapped()
    out = found.series["vmstat.pswpout"]
    assert out.max() >= 512  # 226 pages were wanted
    assert not (out % 512).any()
    assert rss(found) == 1024 - last(found, "vmstat.pswpout")


def test_multi_gen_lru_splits_it() -> None:
    found = swapped(lru_gen=True)
    assert last(found, "vmstat.pswpout") % 512 > 0


def test_swap_that_has_no_cluster_splits_it() -> None:
    found = found_of(huge("p", 1024, HOLD), process("q", "a", 400, HOLD, start_ns=S),
                     group=Cgroup("a", memory_max=1400), node=node(swap=500),
                     duration_ns=3 * S)  # fmt: skip
    assert last(found, "vmstat.pswpout") % 512 > 0


def test_swapped_huge_page_waits_on_the_list_for_huge_pages() -> None:
    found = swapped()
    lower = (found.series["meminfo_kb.MemFree"][0] - last(found, "meminfo_kb.MemFree")) / 4
    in_use = rss(found, "p") + rss(found, "q")
    assert lower >= in_use + last(found, "vmstat.pswpout") - 512


def test_swap_and_exit_free_all() -> None:
    ops = (Op("hold", ns=500 * MS), Op("exit"))
    found = found_of(huge("p", 500, *ops), process("q", "a", 400, HOLD, start_ns=100 * MS),
                     group=Cgroup("a", memory_max=700), node=node(swap=2048))  # fmt: skip
    assert not events(found, "oom_kill")
    assert found.series["vmstat.pswpout"].max() > 0
    assert usage(found) <= 400 + 1 + 64
    assert last(found, "cgroup.a.memory.swap.current") <= 400 * 4096


def test_curve_is_followed_without_the_spare() -> None:
    curve = (Op("target", pages=700, at_ns=300 * MS), Op("target", pages=200, at_ns=600 * MS))
    found = found_of(huge("p", 1, *curve, HOLD))
    assert found.series["process.p.rss_pages"].max() == 1024
    assert rss(found) == pytest.approx(200, abs=2)
