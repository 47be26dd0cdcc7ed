"""What zswap gives up: through the swap cache, at its group's expense, after a second chance."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from capplan.mm.state import new_entries, new_frames, new_kernel
from capplan.mm.zswap_lru import zswap_lru_add, zswap_lru_records
from capplan.mm.zswap_worker import shrink_worker, zswap_worker
from capplan.mm.zswap_writeback import shrink_memcg_cb, writeback_enabled
from capplan.sim.result import Run
from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Op, Zswap
from tests.sim.engine_cases import S, last, node, process, scenario

pytestmark = pytest.mark.small

REFERENCED = 2


def stored(entries: int, second_chance: int = 1) -> tuple[Any, Any]:
    """Group 1 has so many new pages in a pool that is over its threshold, and no frame is free."""
    k = new_kernel()[0]
    k.nr_entries, k.zswap_enabled, k.nr_memcgs, k.nr_nodes = entries, 1, 2, 1
    k.zswap_second_chance, k.zswap_pages = second_chance, entries
    k.memcg[0].online = k.memcg[1].online = 1
    k.memcg[1].parent = 0
    pt = new_entries(entries, 0, zswap_lru_records(k))
    k.first_zswap = len(pt) - zswap_lru_records(k)
    pt["owner"][:entries], pt["in_zswap"][:entries], pt["nr_pages"][:entries] = 1, REFERENCED, 1
    for e in range(entries):
        zswap_lru_add(k, pt, e)
    return k, pt


def test_a_page_is_written_back_at_the_second_look() -> None:
    k, pt = stored(3)
    assert not shrink_memcg_cb(k, pt, 0)
    assert k.memcg[1].zswap_head == 1
    assert k.memcg[1].zswap_tail == 0
    assert shrink_memcg_cb(k, pt, 0)


def test_before_6_12_the_first_look_is_enough() -> None:
    k, pt = stored(3, second_chance=0)
    assert shrink_memcg_cb(k, pt, 0)


def test_a_page_that_is_in_the_swap_cache_too_is_not_cold() -> None:
    k, pt = stored(3, second_chance=0)
    pt["frame"][0] = 7
    assert not shrink_memcg_cb(k, pt, 0)
    assert k.memcg[1].zswap_tail == 0


def test_the_worker_gives_up_after_16_second_chances() -> None:
    k, pt = stored(40)
    shrink_worker(k, new_frames(1), pt)
    assert (pt["in_zswap"][:40] == REFERENCED).sum() == 24
    assert k.memcg[1].zswap_head == 16


def test_a_group_above_may_forbid_writing_back() -> None:
    k, _ = stored(1)
    assert writeback_enabled(k, 1)
    k.memcg[0].zswap_writeback = 0
    assert not writeback_enabled(k, 1)


def test_the_worker_has_the_cpu_for_as_long_as_its_wakers() -> None:
    """A look: a step to the root, one to the group, one behind the last."""
    k, pt = stored(200)
    k.cost.visit_ns = 2000.0
    k.zswap_lru, k.zswap_shrink_pending = 1, 64
    zswap_worker(k, new_frames(1), pt, 150_000.0)
    # 47 steps of 2 us for 16; then 46 for 15, since a run that begins behind the last group counts
    # that as a failure: behind its share after two, it runs once more
    assert (pt["in_zswap"][:200] == REFERENCED).sum() == 200 - 16 - 15 - 15
    assert k.zswap_shrink_pending == 0


def full_pool(release: str, **group: Any) -> Run:
    """A group of 1,000 pages grows to 3,000 behind a pool of 1 % of 8,192 pages."""
    hog, heap = process("hog", "a", 3000, Op("hold", ns=2 * S), rate=2_000.0)
    parts = [(hog, dataclasses.replace(heap, length_mean=1000.0))]
    machine = node(swap=4096, release=release, zswap=Zswap(True, max_pool_percent=1))
    return run(scenario(parts, (Cgroup("a", memory_max=1000, **group),), node=machine))


def test_a_full_pool_writes_its_oldest_pages_back_and_goes_on_storing() -> None:
    found = full_pool("6.12")
    limit = 8192 // 100
    assert last(found, "vmstat.zswpwb") > 50
    assert last(found, "vmstat.zswpout") > 4 * limit
    assert found.series["meminfo_kb.Zswap"].max() <= 4 * (limit + 1)


def test_each_counts_as_a_refault() -> None:
    found = full_pool("6.12")
    wb = last(found, "vmstat.zswpwb")
    assert last(found, "cgroup.a.stat.workingset_refault_anon") == wb


def test_6_1_takes_no_page_more_and_writes_only_what_is_above_the_limit_back() -> None:
    found = full_pool("6.1")
    assert 0 < last(found, "vmstat.zswpwb") < 20
    assert last(found, "vmstat.zswpout") < 1.1 * last(full_pool("6.12"), "vmstat.zswpout")


def test_a_group_that_forbids_it_keeps_its_pages_in_the_pool() -> None:
    assert last(full_pool("6.12", zswap_writeback=False), "vmstat.zswpwb") == 0


@pytest.mark.parametrize(("release", "goes_on"), [("6.1", False), ("6.12", True)])
def test_at_zswap_max_the_oldest_page_makes_room_since_6_8(release: str, goes_on: bool) -> None:
    hog, heap = process("hog", "a", 3000, Op("hold", ns=2 * S), rate=2_000.0)
    parts = [(hog, dataclasses.replace(heap, length_mean=1000.0))]
    machine = node(swap=4096, release=release, zswap=Zswap(True, max_pool_percent=50))
    group = Cgroup("a", memory_max=1000, zswap_max=100)
    found = run(scenario(parts, (group,), node=machine))
    assert (last(found, "vmstat.zswpwb") > 0) == goes_on
    assert found.series["cgroup.a.memory.zswap.current"].max() <= 100 * 4096 + 1000
