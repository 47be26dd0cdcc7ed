"""vm.nr_hugepages: the pool at boot and written during a run, and what it does to the node."""

from __future__ import annotations

from typing import Any

import pytest

from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Change, Op, Zone
from tests.sim.engine_cases import MS, S, events, last, node, process, scenario

pytestmark = pytest.mark.small

HOLD = Op("hold", ns=10 * S)
TWO_ZONES = (Zone(0, "DMA", 1024, 1024, 1024), Zone(0, "DMA32", 8192, 8192, 8192))


def write(value: int, at: int = 300 * MS) -> Change:
    return Change(at, "", "vm.nr_hugepages", value)


def found_of(*changes: Change, pages: int = 100, ops: tuple[Op, ...] = (HOLD,), **more: Any) -> Any:
    parts = [process("p", "a", pages, *ops)]
    return run(scenario(parts, (Cgroup("a"),), changes, node=node(**more)))


def free(found: Any) -> float:
    return last(found, "meminfo_kb.MemFree") / 4


def test_pool_at_boot_is_gone_from_free_memory() -> None:
    without, found = found_of(), found_of(sysctl={"vm.nr_hugepages": 3})
    assert last(found, "meminfo_kb.HugePages_Total") == 3
    assert last(found, "meminfo_kb.Hugetlb") == 3 * 2048
    assert last(without, "meminfo_kb.HugePages_Total") == 0
    assert free(without) - free(found) == 3 * 512
    assert found.series["meminfo_kb.HugePages_Total"][0] == 3


def test_pool_grows_and_shrinks_as_written() -> None:
    found = found_of(write(5), write(2, 400 * MS))
    total = found.series["meminfo_kb.HugePages_Total"]
    assert total.max() == 5
    assert total[-1] == 2
    assert free(found_of()) - free(found) == 2 * 512
    assert last(found, "vmstat.htlb_buddy_alloc_success") == 5
    assert free(found_of()) == free(found_of(write(5), write(0, 400 * MS)))


def test_pool_takes_the_smallest_zone_last_and_gives_its_blocks_back() -> None:
    found = found_of(write(14), zones=TWO_ZONES)
    dma = found.series["zone.DMA.order9"] * 512 + found.series["zone.DMA.order10"] * 1024
    assert last(found, "meminfo_kb.HugePages_Total") == 14
    assert dma[-1] < dma[0] == 1024
    back = found_of(write(14), write(0, 400 * MS), zones=TWO_ZONES)
    assert last(back, "zone.DMA.order10") == 1


def test_pool_that_cannot_be_filled_says_so_and_kills_nobody() -> None:
    found = found_of(write(1000))
    failed = events(found, "write_failed")[0]
    got = last(found, "meminfo_kb.HugePages_Total")
    assert 8 <= got <= 15
    assert failed.detail["key"] == "vm.nr_hugepages"
    assert failed.detail["errno"] == "ENOMEM"
    assert (failed.detail["wanted"], failed.detail["got"]) == (1000, got)
    assert not events(found, "oom_kill")
    assert last(found, "vmstat.htlb_buddy_alloc_fail") >= 1


def test_pool_on_a_node_of_holes_is_made_by_compaction() -> None:
    ops = (Op("punch", pages=6500), HOLD)
    found = found_of(write(3, 500 * MS), pages=6500, ops=ops)
    assert last(found, "meminfo_kb.HugePages_Total") == 3
    moved = last(found, "vmstat.pgmigrate_success")
    assert 256 <= moved <= 3 * 512
    made, tried = (last(found, f"vmstat.compact_{name}") for name in ("success", "stall"))
    assert made >= 1
    assert tried == made + last(found, "vmstat.compact_fail")
    assert last(found, "process.p.rss_pages") == 3250


def test_pool_is_spread_over_nodes() -> None:
    zones = (Zone(0, "DMA32", 8192, 8192, 8192), Zone(1, "Normal", 8192, 8192, 8192))
    found = found_of(write(6), zones=zones)
    plain = found_of(zones=zones)
    for name in ("N0.DMA32", "N1.Normal"):
        assert last(plain, f"zone.{name}.free") - last(found, f"zone.{name}.free") == 3 * 512


def test_compaction_in_the_background_makes_blocks_before_anybody_asks() -> None:
    ops = (Op("punch", pages=7000), HOLD)
    found = found_of(pages=7000, ops=ops)
    idle = found_of(pages=7000, ops=ops, sysctl={"vm.compaction_proactiveness": 0})
    assert last(idle, "vmstat.pgmigrate_success") == 0
    assert last(found, "vmstat.pgmigrate_success") > 0
    blocks = [
        last(one, "zone.DMA32.order9") + last(one, "zone.DMA32.order10") for one in (idle, found)
    ]
    assert blocks[0] < blocks[1]
    assert last(found, "vmstat.compact_stall") == 0


def test_pool_that_boot_cannot_fill_says_so() -> None:
    assert not events(found_of(sysctl={"vm.nr_hugepages": 3}), "write_failed")
    found = found_of(sysctl={"vm.nr_hugepages": 1000}, pages=1)
    (failed,) = events(found, "write_failed")
    assert failed.t < 0.001
    assert failed.detail["wanted"] == 1000
    assert failed.detail["got"] == found.series["meminfo_kb.HugePages_Total"][0]
