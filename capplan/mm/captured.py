"""A start from a captured state: what a node held is placed, then its free lists are as seen.

    placing   user and cache pages come from the pages that were in use, marks and limits apart
    finish    what nothing asked for is the kernel's own; the captured free blocks go on the lists

So MemFree, the free blocks of each order and the per-cpu lists at t = 0 are those that were
seen, whatever had to be placed. This stands for no code of the kernel: a real node came to its
state by a history that nobody wrote down.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.buddy import free_block
from capplan.mm.singles import alloc_scattered
from capplan.mm.state import (
    MT_HIGHATOMIC,
    MT_MOVABLE,
    MT_UNMOVABLE,
    NR_MIGRATETYPES,
    NR_ORDERS,
    PG_KERNEL,
)

__all__ = ["finish", "placing_pages", "placing_zone"]


@jit
def placing_zone(k, z):
    """Whether pages may be placed in zone z: it has frames; tiny ones start as they were seen."""
    return k.zone[z].managed > 0 and not k.zone[z].counters_only


@jit
def placing_pages(k, fr, nr, mt):
    """Single pages of a migratetype while placing: from the highest zone down, those obtained."""
    got = 0
    for step in range(k.nr_zones):
        z = k.nr_zones - 1 - step
        if got < nr and placing_zone(k, z):
            got += alloc_scattered(k, fr, z, nr - got, mt)
    return got


@jit
def _take_the_rest(k, fr, z):
    """Pages in use that no process, cache or slab asked for are the kernel's: taken for good."""
    zone = k.zone[z]
    taken = 0
    for mt in range(MT_HIGHATOMIC):
        rest = (zone.bag_granules[mt] << k.g) - zone.bag_used[mt]
        taken += alloc_scattered(k, fr, z, rest, mt)
    for order in range(NR_ORDERS):
        for mt in range(NR_MIGRATETYPES):
            i = zone.head[order, mt]
            while i >= 0:
                after = fr[i].next
                fr[i].flags = PG_KERNEL
                fr[i].next = -1
                fr[i].prev = -1
                taken += 1 << order
                i = after
            zone.head[order, mt] = -1
            zone.tail[order, mt] = -1
            zone.nr_free[order, mt] = 0
    zone.free = 0
    return taken


@jit
def _bring_back(k, fr, z):
    """The captured free blocks go on the lists; those below a granule into the bag."""
    zone = k.zone[z]
    i = zone.stash
    zone.stash = -1
    while i >= 0:
        after = fr[i].next
        free_block(k, fr, z, i, fr[i].order)
        i = after
    if k.g == 0:
        return
    # what the Unmovable bag has handed out becomes part of its seed, which is used first
    used = zone.bag_used[MT_UNMOVABLE]
    zone.bag_granules[MT_UNMOVABLE] = 0
    zone.bag_head[MT_UNMOVABLE] = -1
    zone.bag_seed_pages = used
    for order in range(NR_ORDERS):
        zone.bag_seed[order] = zone.stash_seed[order]
        zone.bag_seed_pages += zone.stash_seed[order] << order
        zone.nr_free[order, MT_MOVABLE] += zone.stash_seed[order]
        zone.free += zone.stash_seed[order] << order
    zone.bag_seed[0] += used


@jit
def finish(k, fr):
    """All that was held is in place: the kernel takes the rest, the free lists come back."""
    for z in range(k.nr_zones):
        if not placing_zone(k, z):
            continue
        zone = k.zone[z]
        k.nr_slab_unreclaimable += _take_the_rest(k, fr, z)
        _bring_back(k, fr, z)
        zone.boost = zone.boost_boot
        zone.boosted = 0
        zone.below_high = 0
        zone.free_min = zone.free
    k.captured = 2
