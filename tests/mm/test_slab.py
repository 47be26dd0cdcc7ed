"""Slab shrinkers free what is unused, and only that."""

from __future__ import annotations

from typing import Any

import pytest

from capplan.mm import state
from capplan.mm.reclaim import init_scan_control
from capplan.mm.slab import shrink_slab

pytestmark = pytest.mark.small


def machine(pages: int, pinned: int) -> tuple[Any, Any]:
    """A node with reclaimable slab outside any group, at priority 0."""
    k = state.new_kernel()[0]
    k.nr_nodes = 1
    k.nr_zones = 4
    k.granule_pages = 1
    k.vfs_cache_pressure = 100
    k.nr_slab_reclaimable = pages
    k.nr_slab_pinned = pinned
    k.zone[1].managed = 10_000
    k.zone[1].bag_used[state.MT_RECLAIMABLE] = pages
    init_scan_control(k, 0, 32, 1)
    k.sc.priority = 0
    return k, state.new_frames(pages + 8)


def test_shrink_slab_leaves_what_is_in_use() -> None:
    k, frames = machine(pages=500, pinned=500)
    shrink_slab(k, frames, 0)
    assert k.nr_slab_reclaimable == 500
    assert k.sc.nr_reclaimed == 0
    assert k.vmstat[state.VM_SLABS_SCANNED] == 0


def test_shrink_slab_frees_unused_slab_only() -> None:
    k, frames = machine(pages=500, pinned=400)
    shrink_slab(k, frames, 0)
    assert 400 <= k.nr_slab_reclaimable < 500
    assert k.sc.nr_reclaimed == 500 - k.nr_slab_reclaimable


def test_objects_that_were_looked_up_once_go_at_the_first_look() -> None:
    once, others = machine(pages=500, pinned=0), machine(pages=500, pinned=0)
    once[0].memcg[0].slab_once = 500
    for k, frames in (once, others):
        k.sc.priority = 2
        shrink_slab(k, frames, 0)
    freed = [500 - k.nr_slab_reclaimable for k, _ in (once, others)]
    # (10500 >> 2) * 2 = 5250 objects, 41 batches of 128: 5248, 249 pages' worth
    assert freed == [249, 124]
    assert once[0].memcg[0].slab_once == 500 - 249


@pytest.mark.parametrize("counts", [0, 1])
def test_slab_of_a_memcgs_reclaim_counts_before_6_4_only(counts: int) -> None:
    k, frames = machine(pages=500, pinned=0)
    k.memcg_slab_counts = counts
    k.nr_memcgs = 2
    k.nr_slab_memcg = k.memcg[1].stat[state.ST_SLAB_RECLAIMABLE] = 500
    k.memcg[1].memory.usage = 500
    k.sc.target = 1
    shrink_slab(k, frames, 1)
    assert k.nr_slab_memcg < 500
    assert k.sc.nr_reclaimed == counts * (500 - k.nr_slab_memcg)
