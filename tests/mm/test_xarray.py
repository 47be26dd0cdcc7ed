"""Nodes of page cache and swap cache: made, charged, kept by shadows, and reclaimed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from capplan.mm import state as s
from capplan.mm import xarray as xa
from capplan.mm.reclaim import init_scan_control
from capplan.mm.slab import MIN_PARTIAL, do_shrink_slab
from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Mapping, Op, Swap
from tests.sim.engine_cases import S, last, node, process, scenario

small = pytest.mark.small
FILE, SWAP = 1, 0  # groups: who reads the file, and nobody


def machine(entries: int = 1024, g: int = 0, free: int = 4096) -> tuple[Any, Any, Any]:
    """A zone of ``free`` pages that is counted only, one group, and the nodes of its entries."""
    k = s.new_kernel()[0]
    k.nr_nodes, k.nr_zones, k.nr_cpus, k.nr_memcgs = 1, 4, 1, 2
    k.g, k.granule_pages = g, 1 << g
    k.nr_entries = entries
    zone = k.zone[s.ZONE_NORMAL]
    zone.managed, zone.counters_only, zone.free = free, 1, free
    zone.bag_seed[0] = zone.bag_seed_pages = zone.nr_free[0, s.MT_MOVABLE] = free
    k.memcg[FILE].parent = 0
    k.memcg[FILE].online = k.memcg[0].online = 1
    k.memcg_slab_counts = k.swap_shadow_nodes = 1
    pt = s.new_entries(entries, -(-entries // (1 << xa.xa_node_shift(g))))
    pt["nr_pages"][:entries] = 1 << g
    xa.xa_init(k)
    init_scan_control(k, 0, 32, 1)
    k.sc.priority = 12
    return k, s.new_frames(8), pt


def listed(k: Any, pt: Any, c: int) -> list[int]:
    """Nodes on a group's list, oldest first, by their place in the address space."""
    found, x = [], int(k.memcg[c].lruvec[0].shadow_head)
    while x >= 0:
        found.append(x - int(k.first_xa_node))
        x = int(pt[x].cells[xa.NEXT])
    return found


def evict(k: Any, fr: Any, pt: Any, pages: range) -> None:
    """Pages of the file are read and go; their shadows stay."""
    for e in pages:
        xa.xa_store_file(k, fr, pt, e, FILE, False)
    for e in pages:
        pt[e].memcg = FILE
        xa.xa_store(k, fr, pt, e, FILE, s.XA_SHADOW, 1)


@small
@pytest.mark.parametrize(
    ("size", "cpus", "order"),
    [(584, 1, 1), (584, 3, 1), (584, 4, 2), (584, 63, 2), (584, 64, 3), (4000, 1, 3), (700, 1, 1)],
)
def test_order_of_slabs_grows_with_the_cpus(size: int, cpus: int, order: int) -> None:
    assert xa.calculate_order(size, cpus) == order


@small
def test_do_shrink_slab_worked_examples() -> None:
    assert do_shrink_slab(300, 150, 0, 12) == (128, 22)
    assert do_shrink_slab(100, 50, 0, 12) == (0, 50)
    assert do_shrink_slab(100, 50, 100, 1) == (100, 50)  # all that there is, however few


@small
def test_neighbours_share_a_node_which_their_group_pays_for() -> None:
    k, fr, pt = machine()
    for e in range(65):
        xa.xa_store_file(k, fr, pt, e, FILE, False)
    assert (k.node[0].xa_nodes, k.node[0].xa_slabs, k.memcg[FILE].xa_nodes) == (2, 1, 2)
    assert k.nr_slab_reclaimable == k.nr_xa_pages == 2  # of order 1
    assert k.zone[s.ZONE_NORMAL].free == 4096 - 2
    assert k.memcg[FILE].stat[s.ST_SLAB_RECLAIMABLE] == k.memcg[FILE].memory.usage == 1  # 2 * 592
    xa.xa_store(k, fr, pt, 64, FILE, s.XA_NONE, 0)
    assert k.memcg[FILE].xa_nodes == 1
    for e in range(64):
        xa.xa_store(k, fr, pt, e, FILE, s.XA_NONE, 0)
    assert k.memcg[FILE].memory.usage == k.memcg[FILE].stat[s.ST_KERNEL] == 0
    assert k.node[0].xa_slabs == 1  # a node keeps some that are empty


@small
def test_only_shadows_in_it_put_a_node_on_the_list() -> None:
    k, fr, pt = machine()
    evict(k, fr, pt, range(63))
    xa.xa_store_file(k, fr, pt, 63, FILE, False)
    assert k.memcg[FILE].lruvec[0].shadow_nodes == 0
    xa.xa_store(k, fr, pt, 63, FILE, s.XA_SHADOW, 1)
    assert k.memcg[FILE].lruvec[0].shadow_nodes == 1
    xa.xa_store_file(k, fr, pt, 0, FILE, False)  # it came back
    assert k.memcg[FILE].lruvec[0].shadow_nodes == 0


def many(nodes: int = 256, pages: int = 0) -> tuple[Any, Any, Any]:
    """A group with ``nodes`` nodes of one shadow each, and ``pages`` pages on its lists."""
    k, fr, pt = machine(entries=64 * nodes)
    evict(k, fr, pt, range(0, 64 * nodes, 64))
    k.memcg[FILE].lruvec[0].pages[s.LRU_INACTIVE_FILE] = pages
    return k, fr, pt


@small
def test_the_oldest_nodes_beyond_an_eighth_of_the_pages_go_with_their_shadows() -> None:
    k, fr, pt = many()
    lruvec, slab = k.memcg[FILE].lruvec[0], int(k.memcg[FILE].stat[s.ST_SLAB_RECLAIMABLE])
    assert slab == 37  # 256 * 592 bytes
    # 256 - 37 / 8 = 252 are too many, half of them make no batch yet; the next half does
    xa.shrink_shadow_nodes(k, fr, pt, FILE, 0)
    assert (lruvec.shadow_nodes, lruvec.shadow_deferred) == (256, 126)
    k.sc.priority = 3
    xa.shrink_shadow_nodes(k, fr, pt, FILE, 0)
    assert (lruvec.shadow_nodes, lruvec.shadow_deferred) == (128, 124)
    assert listed(k, pt, FILE) == list(range(128, 256))
    assert (pt["memcg"][: 64 * 128 : 64] == -1).all()  # no refault
    assert (pt["memcg"][64 * 128 : 64 * 256 : 64] == FILE).all()
    assert k.sc.nr_reclaimed == (19 - 10 - MIN_PARTIAL - 1) * 2  # slabs of 14 nodes
    assert k.vmstat[s.VM_SLABS_SCANNED] == 128


@small
@pytest.mark.parametrize("lru_gen", [0, 1])
def test_the_multi_gen_lru_sees_the_pages_of_the_last_sum(lru_gen: int) -> None:
    k, fr, pt = many(pages=4096)
    k.lru_gen = lru_gen
    k.sc.priority = 0
    k.memcg[FILE].lruvec[0].shadow_deferred = 1000
    xa.mem_cgroup_flush_stats(k)
    k.memcg[FILE].lruvec[0].pages[s.LRU_INACTIVE_FILE] = 0
    k.now_ns = xa.FLUSH_TIME_NS - 1
    xa.shrink_shadow_nodes(k, fr, pt, FILE, 0)
    assert (k.memcg[FILE].lruvec[0].shadow_nodes == 256) is (lru_gen == 1)
    k.now_ns += 1
    xa.shrink_shadow_nodes(k, fr, pt, FILE, 0)
    assert k.memcg[FILE].lruvec[0].shadow_nodes < 256


@small
def test_a_node_that_was_used_again_goes_to_the_end_when_the_shrinker_comes() -> None:
    k, fr, pt = many()
    xa.xa_store_file(k, fr, pt, 0, FILE, False)
    xa.xa_store_file(k, fr, pt, 64, FILE, False)
    xa.xa_store(k, fr, pt, 64, FILE, s.XA_SHADOW, 1)
    k.sc.priority = 0
    k.memcg[FILE].lruvec[0].shadow_deferred = 128
    xa.shrink_shadow_nodes(k, fr, pt, FILE, 0)
    left = listed(k, pt, FILE)
    assert left[-1] == 1  # the one that was listed again; node 0 has a page and is not
    assert 0 not in left
    assert pt[64].memcg == FILE


@small
def test_swap_is_nobodys_and_is_reclaimed_since_6_3_only() -> None:
    for feature in (0, 1):
        k, fr, pt = machine()
        k.swap_shadow_nodes = feature
        for what in (s.XA_PAGE, s.XA_SHADOW):
            for e in range(64):
                xa.xa_store_swap(k, fr, pt, e, what)
        assert k.memcg[SWAP].lruvec[0].shadow_nodes == feature
        assert k.memcg[FILE].xa_nodes == k.memcg[FILE].memory.usage == 0


@small
def test_tmpfs_keeps_its_node_while_its_page_is_in_swap() -> None:
    k, fr, pt = machine()
    xa.xa_store_file(k, fr, pt, 0, FILE, True)
    for what in (s.XA_PAGE, s.XA_SHADOW, s.XA_NONE):
        xa.xa_store_swap(k, fr, pt, 0, what)
    assert (k.node[0].xa_nodes, pt[0].xa) == (1, s.XA_SHMEM)
    assert k.memcg[FILE].lruvec[0].shadow_nodes == 0


@small
def test_a_granule_of_512_pages_stands_for_8_nodes() -> None:
    k, fr, pt = machine(entries=4, g=9)
    xa.xa_store_file(k, fr, pt, 3, FILE, False)
    assert k.node[0].xa_nodes == k.memcg[FILE].xa_nodes == 8
    xa.xa_store(k, fr, pt, 3, FILE, s.XA_SHADOW, 1)
    assert k.memcg[FILE].lruvec[0].shadow_nodes == 8


@small
def test_the_nodes_of_a_removed_group_are_its_parents() -> None:
    k, fr, pt = machine()
    k.nr_memcgs = 3
    k.memcg[2].parent = FILE
    for e in range(0, 192, 64):
        xa.xa_store_file(k, fr, pt, e, 2, False)
    xa.xa_store(k, fr, pt, 0, 2, s.XA_SHADOW, 1)
    assert k.memcg[2].memory.usage == k.memcg[FILE].memory.usage == 1
    xa.reparent_shadow_nodes(k, pt, 2)
    assert [int(k.memcg[c].xa_nodes) for c in range(3)] == [0, 3, 0]
    assert [int(k.memcg[c].memory.usage) for c in (FILE, 2)] == [1, 0]
    assert [int(k.memcg[c].lruvec[0].shadow_nodes) for c in (FILE, 2)] == [1, 0]
    assert listed(k, pt, FILE) == [0]
    xa.xa_store(k, fr, pt, 0, 2, s.XA_NONE, 0)  # whoever empties it, the parent pays no more
    assert k.memcg[FILE].xa_nodes == 2


@small
@pytest.mark.parametrize("seed", range(5))
def test_counts_agree_with_a_naive_count(seed: int) -> None:
    """Whatever is stored, in whatever order: nodes, those listed and charges follow from it."""
    k, fr, pt = machine(entries=640)
    rng = np.random.default_rng(seed)
    for _ in range(3000):
        e, what = int(rng.integers(640)), int(rng.integers(3))
        if e < 320:
            xa.xa_store_swap(k, fr, pt, e, what)
        else:
            xa.xa_store(k, fr, pt, e, FILE, what, 1)
        if rng.integers(100) == 0:
            k.sc.priority = 0
            xa.shrink_shadow_nodes(k, fr, pt, int(rng.integers(2)), 0)
    held = pt["xa"][:640].reshape(10, 64)
    in_use = held.any(axis=1)
    alone = in_use & ~(held == s.XA_PAGE).any(axis=1)
    assert k.node[0].xa_nodes == in_use.sum()
    assert k.memcg[FILE].xa_nodes == in_use[5:].sum()
    for c, half in ((SWAP, alone[:5]), (FILE, alone[5:])):
        assert k.memcg[c].lruvec[0].shadow_nodes == half.sum()
        assert set(np.flatnonzero(half) + 5 * c) <= set(listed(k, pt, c))


def test_page_cache_charges_its_nodes_and_gives_them_back() -> None:
    """640 pages of a file: 10 nodes of 592 bytes are 2 pages; an unlink frees them."""
    reader, heap = process("r", "a", 1, Op("read", "data", pages=640, rate=5000.0),
                           Op("hold", ns=S), mappings=("r.heap", "data"))  # fmt: skip
    data = Mapping("data", "file", 640, 640, 0, via="read", disk="vda")
    found = run(scenario([(reader, heap)], (Cgroup("a"),), files=(data,)))
    assert last(found, "cgroup.a.stat.file") == 640 * 4096
    assert last(found, "cgroup.a.stat.slab_reclaimable") == 2 * 4096


def test_swapped_pages_take_slab_that_no_group_pays_for() -> None:
    hog, heap = process("h", "a", 2000, Op("hold", ns=S))
    machine_ = node(swap=4096, swaps=(Swap("vda", 4096, -2),))
    found = run(scenario([(hog, heap)], (Cgroup("a", memory_max=1000),), node=machine_))
    swapped = last(found, "cgroup.a.memory.swap.current") / 4096
    assert swapped > 900
    nodes = -(-int(swapped) // 64)
    assert last(found, "meminfo_kb.SReclaimable") >= 4 * 2 * (nodes // 14)
    assert last(found, "cgroup.a.stat.slab_reclaimable") == 0
