"""vm.zone_reclaim_mode: what a node gives up before its tasks go to another node."""

from __future__ import annotations

from typing import Any

import pytest

from capplan.mm import node_reclaim
from capplan.mm.state import (
    LRU_ACTIVE_FILE,
    LRU_INACTIVE_FILE,
    VM_ZONE_RECLAIM_FAILED,
    VM_ZONE_RECLAIM_SUCCESS,
    ZONE_NORMAL,
    new_entries,
    new_frames,
    new_kernel,
)
from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Disk, Mapping, Node, Op, Process, Scenario, Task, Zone

MIB = 256
S = 1_000_000_000


def node_with_cache(mode: int, mapped: int = 300, dirty: int = 200) -> Any:
    """1000 pages on the file lists of node 0, which manages 50,000."""
    k = new_kernel()[0]
    k.nr_nodes, k.nr_zones, k.zone_reclaim_mode = 1, 4, mode
    k.min_unmapped_ratio, k.min_slab_ratio = 1, 5
    zone = k.zone[ZONE_NORMAL]
    zone.managed = k.totalram = 50_000
    zone.lru_pages[LRU_INACTIVE_FILE], zone.lru_pages[LRU_ACTIVE_FILE] = 600, 400
    k.node[0].nr_file_mapped, k.node[0].nr_dirty = mapped, dirty
    return k


@pytest.mark.small
@pytest.mark.parametrize(("mode", "pages"), [(1, 500), (3, 700), (5, 800), (7, 1000)])
def test_pagecache_reclaimable_by_mode(mode: int, pages: int) -> None:
    assert node_reclaim.node_pagecache_reclaimable(node_with_cache(mode), 0) == pages


@pytest.mark.small
def test_pagecache_reclaimable_is_never_below_zero() -> None:
    k = node_with_cache(1, mapped=5000, dirty=5000)
    assert node_reclaim.node_pagecache_reclaimable(k, 0) == 0


@pytest.mark.small
def test_little_page_cache_is_left_alone_unless_slab_is_much() -> None:
    k = node_with_cache(1)
    fr, pt = new_frames(1), new_entries(1)
    assert not node_reclaim.node_reclaim(k, fr, pt, 0)  # 500 pages: not above 1 % of 50,000
    assert k.vmstat[VM_ZONE_RECLAIM_FAILED] == 0
    k.node[0].nr_dirty = 199
    assert not node_reclaim.node_reclaim(k, fr, pt, 0)  # 501: looked, but no memcg has any
    assert k.vmstat[VM_ZONE_RECLAIM_FAILED] == 1
    k.node[0].nr_dirty = 200
    k.nr_slab_reclaimable = k.nr_slab_pinned = 2501
    assert not node_reclaim.node_reclaim(k, fr, pt, 0)  # slab above 5 %
    assert k.vmstat[VM_ZONE_RECLAIM_FAILED] == 2
    assert k.vmstat[VM_ZONE_RECLAIM_SUCCESS] == 0


def two_nodes(mode: int, lru_gen: bool = False) -> Scenario:
    """Node 0 is full of page cache when a heap grows there by half a node."""
    zones = tuple(Zone(n, "Normal", 64 * MIB, 64 * MIB, 64 * MIB, free=62 * MIB) for n in range(2))
    rate = 40.0 * MIB
    return Scenario(
        name="two-nodes",
        node=Node(
            zones=zones,
            cpus=1,  # of node 0
            release="6.12" if lru_gen else "6.1",
            lru_gen=lru_gen,
            sysctl={"vm.zone_reclaim_mode": mode, "vm.min_free_kbytes": 1024,
                    "vm.watermark_boost_factor": 0},
            disks=(Disk("d", 50_000, 50_000, 2000.0, 2000.0, 60_000.0),),
        ),
        cgroup_version="v2",
        cgroups=(Cgroup("a"), Cgroup("b")),
        mappings=(
            Mapping("file", "file", 56 * MIB, size_pages=56 * MIB, disk="d", via="read"),
            Mapping("heap", "anon", 30 * MIB),
        ),
        processes=(
            Process(
                "reader", "a", "reader", mappings=("file",),
                tasks=(Task((Op("read", "file", pages=56 * MIB, rate=rate),)),),
            ),
            Process(
                "heap", "b", "heap", mappings=("heap",), start_ns=3 * S,
                tasks=(Task((Op("grow", "heap", pages=30 * MIB, rate=rate),)),),
            ),
        ),
        duration_ns=6 * S,
        sample_ns=S // 4,
    )  # fmt: skip


def last(result: Any, name: str) -> float:
    return float(result.series[name][-1])


def test_local_page_cache_goes_before_a_heap_spills() -> None:
    spilt, local = run(two_nodes(0)), run(two_nodes(1))
    assert last(spilt, "zone.N1.Normal.free") < 45 * MIB
    assert last(spilt, "vmstat.zone_reclaim_success") == 0
    assert last(spilt, "cgroup.a.stat.file") > 50 * MIB * 4096
    assert last(local, "zone.N1.Normal.free") > 61 * MIB
    assert last(local, "vmstat.zone_reclaim_success") > 0
    assert last(local, "cgroup.a.stat.file") < 35 * MIB * 4096


def test_multi_gen_lru_ignores_the_mode_unless_it_is_seven() -> None:
    one, seven = run(two_nodes(1, lru_gen=True)), run(two_nodes(7, lru_gen=True))
    assert last(one, "vmstat.zone_reclaim_success") == 0
    assert last(one, "vmstat.zone_reclaim_failed") > 0
    assert last(one, "zone.N1.Normal.free") < 45 * MIB
    assert last(seven, "zone.N1.Normal.free") > 61 * MIB
