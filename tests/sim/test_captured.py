"""A captured node starts from what was seen: free pages, free blocks, charges, swap."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from capplan.sim.build_captured import generations, inactive_and_active
from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, LruLists, Mapping, Process, Scenario, Zone
from tests.sim.engine_cases import node, scenario

# Free blocks per order: 3 + 4 + 16 + 1536 + 1024 pages in each list together.
BLOCKS = {
    "Unmovable": (1, 1, 2, 0, 0, 0, 0, 0, 2, 0, 0),
    "Movable": (2, 1, 2, 0, 0, 0, 0, 0, 2, 1, 1),
    "Reclaimable": (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
}
FREE = sum((a + b) << o for o, (a, b) in enumerate(zip(BLOCKS["Unmovable"], BLOCKS["Movable"])))

pytestmark = pytest.mark.small

NODES = 2  # pages that the index of the cache takes: 8 nodes of 592 bytes


def captured(g: int = 0, swapped: int = 300, version: str = "v2", **more: Any) -> Scenario:
    """8192 pages: one group with 2000 pages of heap, 300 more in swap, 500 of cache."""
    zone = Zone(
        0, "DMA32", 8192, 8192, 8192, FREE, (90, 112, 134), pagetypeinfo=BLOCKS, pcp_pages=32
    )
    machine = node(swap=1000, zones=(zone,), captured=True, slab_reclaimable_pages=100)
    parts = [
        (
            Process("a/main", "a", "a", mappings=("heap", "cache"), kernel_pages=7),
            Mapping("heap", "anon", 4000, resident_pages=2000, swapped_pages=swapped),
        )
    ]
    cache = Mapping("cache", "file", 500, 500, 500, via="read", disk="vda")
    groups = (Cgroup("a", memory_max=2520),)
    settings = {"files": (cache,), "node": machine, "granule_order": g, "cgroup_version": version}
    return scenario(parts, groups, **(settings | more))


def at_start(case: Scenario) -> dict[str, float]:
    return {name: float(values[0]) for name, values in run(case).series.items()}


@pytest.mark.parametrize("g", [0, 2, 3])
def test_free_pages_and_blocks_are_those_that_were_seen(g: int) -> None:
    found = at_start(captured(g))
    assert found["zone.DMA32.free"] == FREE
    for order in range(11):
        seen = BLOCKS["Unmovable"][order] + BLOCKS["Movable"][order]
        assert found[f"zone.DMA32.order{order}"] == seen, order
    assert 32 - (1 << g) < found["pcp.pages"] <= 2048


def test_blocks_that_leave_no_room_for_a_place_of_their_own_are_all_there() -> None:
    """Of 8192 pages all but 600 are free: Unmovable blocks share the Movable ones' part."""
    blocks = {"Unmovable": (0, 0, 0, 0, 0, 3), "Movable": (4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7)}
    free = 3 * 32 + 4 + 7 * 1024
    zone = Zone(0, "DMA32", 8192, 8192, 8192, free, (90, 112, 134), pagetypeinfo=blocks)
    case = scenario([], (), node=node(zones=(zone,), captured=True), duration_ns=10**8)
    found = at_start(case)
    assert found["zone.DMA32.free"] == free
    assert found["zone.DMA32.order10"] == 7
    assert found["zone.DMA32.order5"] == 3


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("g", [0, 3])
def test_what_the_node_held_is_in_place(g: int, version: str) -> None:
    found = at_start(captured(g, version=version))
    current = "memory.usage_in_bytes" if version == "v1" else "memory.current"
    assert found["meminfo_kb.AnonPages"] == 2000 * 4
    assert found["meminfo_kb.Cached"] == 500 * 4
    assert found["meminfo_kb.SReclaimable"] == 100 * 4
    assert found["meminfo_kb.SwapFree"] == 700 * 4
    assert found["cgroup.a.stat.anon"] == 2000 * 4096
    assert found["cgroup.a.memory.swap.current"] == 300 * 4096
    # the heap's 2300 pages have five page tables, the heap and the process's own are charged
    assert found[f"cgroup.a.{current}"] == (2000 + 500 + 7 + 5 + NODES) * 4096
    # every page is somewhere
    assert (
        sum(
            found[name]
            for name in (
                "meminfo_kb.MemFree",
                "meminfo_kb.AnonPages",
                "meminfo_kb.Cached",
                "meminfo_kb.SReclaimable",
                "meminfo_kb.SUnreclaim",
            )
        )
        + 4 * (found["pcp.pages"] + 5 + 7)
        == 8192 * 4
    )


def test_kernel_memory_of_a_group_is_no_page_cache() -> None:
    case = captured()
    kernel = Mapping("slab", "kernel", 400, resident_pages=400)
    main = dataclasses.replace(case.processes[0], mappings=("heap", "cache", "slab"))
    case = dataclasses.replace(case, mappings=(*case.mappings, kernel), processes=(main,))
    found = at_start(case)
    assert found["cgroup.a.stat.kernel"] == (400 + 7 + 5 + NODES) * 4096
    assert found["cgroup.a.stat.file"] == 500 * 4096
    assert found["cgroup.a.memory.current"] == (2000 + 500 + 400 + 7 + 5 + NODES) * 4096
    assert found["meminfo_kb.Cached"] == 2000
    assert found["meminfo_kb.Unevictable"] == 0
    assert found["process.a/main.rss_pages"] == 2000


def test_reclaimable_slab_of_a_group_is_charged_and_counted() -> None:
    case = dataclasses.replace(captured(), cgroups=(Cgroup("a", slab_reclaimable_pages=60),))
    found = at_start(case)
    assert found["cgroup.a.stat.slab_reclaimable"] == 60 * 4096
    assert found["cgroup.a.memory.current"] == (2000 + 500 + 60 + 7 + 5) * 4096
    assert found["meminfo_kb.SReclaimable"] == 160 * 4
    assert found["zone.DMA32.free"] == FREE


def test_page_tables_of_a_sparse_mapping_are_its_own() -> None:
    case = captured()
    main = dataclasses.replace(case.processes[0], sparse_tables=90)
    case = dataclasses.replace(case, processes=(main,))
    found = at_start(case)
    assert found["meminfo_kb.PageTables"] == (90 + 5) * 4
    assert found["cgroup.a.stat.pagetables"] == (90 + 5) * 4096
    assert found["zone.DMA32.free"] == FREE


def test_a_group_at_its_limit_starts_at_it_without_reclaim() -> None:
    case = captured()
    case = dataclasses.replace(
        case, cgroups=(Cgroup("a", memory_max=2514, slab_reclaimable_pages=NODES),)
    )
    found = run(case)
    assert found.series["cgroup.a.memory.current"][0] == 2514 * 4096
    assert found.series["cgroup.a.events.max"][-1] == 0
    assert found.series["meminfo_kb.AnonPages"][-1] == 8000


def test_swap_that_is_full_keeps_the_rest_in_memory() -> None:
    found = at_start(captured(swapped=1200))
    assert found["meminfo_kb.SwapFree"] == 0
    assert found["meminfo_kb.AnonPages"] == (2000 + 200) * 4


def test_more_than_was_in_use_makes_the_free_pages_fewer_and_says_so() -> None:
    case = captured()
    big = Mapping("cache", "file", 4000, 4000, 4000, via="read", disk="vda")
    case = dataclasses.replace(case, mappings=(case.mappings[0], big))
    found = run(case)
    held = 2000 + 4000 + 100 + 7 + 5
    assert 0 < found.series["zone.DMA32.free"][0] < 8192 - held
    assert found.series["meminfo_kb.Cached"][0] == 16000


def test_the_run_goes_on_from_there() -> None:
    """What the process frees merges with the captured blocks; nothing is lost."""
    case = captured(2)
    found = run(dataclasses.replace(case, processes=(_that_exits(case.processes[0]),)))
    free = found.series["zone.DMA32.free"][-1] + found.series["pcp.pages"][-1]
    before = found.series["zone.DMA32.free"][0] + found.series["pcp.pages"][0]
    # the heap, its page tables and the process's own kernel memory come back
    assert free == before + 2000 + 5 + 7
    assert found.series["meminfo_kb.SwapFree"][-1] == 4000


def _that_exits(process: Process) -> Process:
    from capplan.sim.scenario import Op, Task

    return dataclasses.replace(process, tasks=(Task((Op("hold", ns=10**8), Op("exit"))),))


def test_lists_and_generations_turn_into_those_that_the_kernel_has() -> None:
    gens = LruLists((1, 2, 3, 4), (10, 20, 30, 40), (9, 8, 7, 6))
    assert inactive_and_active(gens) == LruLists((3, 7), (30, 70))
    assert generations(gens) == gens
    lists = LruLists((1, 2), (10, 20))
    assert inactive_and_active(lists) == lists
    assert generations(lists) == LruLists((0, 1, 0, 2), (0, 10, 0, 20), (0, 0, 0, 0))


@pytest.mark.parametrize("lru_gen", [False, True])
@pytest.mark.parametrize("g", [0, 2])
def test_pages_start_on_the_lists_that_they_were_on(g: int, lru_gen: bool) -> None:
    case = captured(g)
    case = dataclasses.replace(
        case,
        node=dataclasses.replace(case.node, lru_gen=lru_gen),
        lru=(("a", LruLists((1200, 800), (96, 404))), ("gone", LruLists((1, 1), (1, 1)))),
    )
    found = at_start(case)
    assert found["cgroup.a.stat.inactive_anon"] == 1200 * 4096
    assert found["cgroup.a.stat.active_anon"] == 800 * 4096
    assert found["cgroup.a.stat.inactive_file"] == 96 * 4096
    assert found["cgroup.a.stat.active_file"] == 404 * 4096
