"""Single pages where a granule is larger than a page: the *bag*, one for each migratetype.

    alloc   what the broken granules of the type have left; then another granule is broken
    free    the granule broken last is whole again first, and goes back to the free lists

Page tables, stacks and slab without a shrinker are Unmovable, slab with one Reclaimable; pages
of zsmalloc (zswap, zram) and the short ends of users' regions are Movable: compaction moves
their granules like others.

Free blocks below order g that were there at boot (``bag_seed``, from buddyinfo) are used first,
smallest first, by the Unmovable bag; granules are handed out densely. So the counts below g are
a function of ``bag_used``, and pages are conserved exactly. At g = 0 a bag is simply a stack of
single frames. A zone with ``counters_only`` is all (Unmovable) bag.
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import jit
from capplan.mm.buddy import alloc_block, free_block
from capplan.mm.state import (
    MAX_PAGE_ORDER,
    MT_MOVABLE,
    MT_UNMOVABLE,
    NR_ORDERS,
    PG_KERNEL,
    PG_MOVABLE,
)

__all__ = [
    "alloc_scattered",
    "free_scattered",
    "give_counted_block",
    "hand_out",
    "pop_granule",
    "push_granule",
    "scattered_room",
    "take_back",
    "take_counted_block",
]


@jit
def _count_seeds(k: Any, z: int) -> None:
    """Write the free counts of the blocks from boot: they follow from ``bag_used``."""
    zone = k.zone[z]
    left = min(zone.bag_used[MT_UNMOVABLE], zone.bag_seed_pages)
    for o in range(NR_ORDERS if zone.counters_only else k.g):
        blocks = zone.bag_seed[o]
        taken = min(blocks, (left + (1 << o) - 1) >> o)
        zone.nr_free[o, MT_MOVABLE] += blocks - taken
        # a block of which a part is in use: its free rest is aligned, one block per binary digit
        rest = max((taken << o) - left, 0)
        for half in range(o):
            zone.nr_free[half, MT_MOVABLE] += (rest >> half) & 1
        left = max(left - (taken << o), 0)


@jit
def _count_bag(k: Any, z: int, mt: int) -> None:
    """Write the free counts below a granule, of the bag of `mt` and of those that share a row."""
    zone = k.zone[z]
    seeds = zone.bag_seed_pages
    shares_row = mt == MT_UNMOVABLE or mt == MT_MOVABLE
    if not shares_row or (seeds == 0 and not zone.counters_only):
        rest = (zone.bag_granules[mt] << k.g) - zone.bag_used[mt]
        for o in range(k.g):
            zone.nr_free[o, mt] = (rest >> o) & 1
        return
    rest = (zone.bag_granules[MT_MOVABLE] << k.g) - zone.bag_used[MT_MOVABLE]
    for o in range(NR_ORDERS if zone.counters_only else k.g):
        zone.nr_free[o, MT_MOVABLE] = (rest >> o) & 1
    rest = (zone.bag_granules[MT_UNMOVABLE] << k.g) - max(zone.bag_used[MT_UNMOVABLE] - seeds, 0)
    for o in range(k.g):
        zone.nr_free[o, MT_UNMOVABLE] = (rest >> o) & 1
    if seeds > 0:
        _count_seeds(k, z)


@jit
def push_granule(k: Any, fr: Any, z: int, i: int, mt: int) -> None:
    """Granule `i`, which is allocated, joins the bag of `mt`: all of it can be taken singly."""
    zone = k.zone[z]
    fr[i].flags = PG_MOVABLE if mt == MT_MOVABLE else PG_KERNEL
    fr[i].nr_pages = 1 << k.g
    head = zone.bag_head[mt]
    fr[i].next = head
    fr[i].prev = -1
    if head >= 0:
        fr[head].prev = i
    zone.bag_head[mt] = i
    zone.bag_granules[mt] += 1
    zone.free += 1 << k.g
    _count_bag(k, z, mt)


@jit
def pop_granule(k: Any, fr: Any, z: int, mt: int) -> int:
    """Take the granule broken last out of the bag, if it is whole again; -1: it is not."""
    zone = k.zone[z]
    seeds = zone.bag_seed_pages if mt == MT_UNMOVABLE else 0
    granules = zone.bag_granules[mt] - 1
    if granules < 0 or zone.bag_used[mt] > seeds + (granules << k.g):
        return -1
    i = zone.bag_head[mt]
    zone.bag_head[mt] = fr[i].next
    if fr[i].next >= 0:
        fr[fr[i].next].prev = -1
    zone.bag_granules[mt] = granules
    zone.free -= 1 << k.g
    zone.free_min = min(zone.free_min, zone.free)
    fr[i].flags = 0
    _count_bag(k, z, mt)
    return i  # type: ignore[no-any-return]


@jit
def scattered_room(k: Any, z: int, mt: int) -> int:
    """Single pages that the bag of `mt` has left."""
    zone = k.zone[z]
    seeds = zone.bag_seed_pages if mt == MT_UNMOVABLE else 0
    return seeds + (zone.bag_granules[mt] << k.g) - zone.bag_used[mt]  # type: ignore[no-any-return]


@jit
def hand_out(k: Any, z: int, n_pages: int, mt: int) -> None:
    """Single pages that the bag of `mt` has (:func:`scattered_room`) are taken."""
    zone = k.zone[z]
    zone.bag_used[mt] += n_pages
    zone.free -= n_pages
    zone.free_min = min(zone.free_min, zone.free)
    _count_bag(k, z, mt)


@jit
def take_back(k: Any, z: int, n_pages: int, mt: int) -> None:
    """Single pages come back to the bag of `mt`; :func:`pop_granule` tells what is whole then."""
    k.zone[z].bag_used[mt] -= n_pages
    k.zone[z].free += n_pages
    _count_bag(k, z, mt)


@jit
def alloc_scattered(k: Any, fr: Any, z: int, n_pages: int, mt: int) -> int:
    """Take `n_pages` single pages of zone `z`.

    Parameters
    ----------
    mt : MT_UNMOVABLE, MT_MOVABLE or MT_RECLAIMABLE

    Returns the pages obtained: fewer when the zone has no more. They have no frame record;
    give them back with :func:`free_scattered` and the same `mt`, in any portions.

    Departs from the kernel
    -----------------------
    Single pages fill one granule after the other, and the granule in use is whole again when
    enough pages, whichever, have come back: no fragmentation by long-lived single pages.

    Worked example
    --------------
    Granules of 16 pages: 20 Unmovable pages break two, which leaves 12 = 8 + 4 of the second.
    """
    zone = k.zone[z]
    if zone.counters_only:
        mt = MT_UNMOVABLE
    got = scattered_room(k, z, mt)
    while got < n_pages and not zone.counters_only:
        i = alloc_block(k, fr, z, k.g, mt)
        if i < 0:
            break
        push_granule(k, fr, z, i, mt)
        got += 1 << k.g
    got = min(got, n_pages)
    hand_out(k, z, got, mt)
    return got


@jit
def free_scattered(k: Any, fr: Any, z: int, n_pages: int, mt: int) -> None:
    """Give back `n_pages` of :func:`alloc_scattered`; granules that are whole again merge."""
    zone = k.zone[z]
    if zone.counters_only:
        mt = MT_UNMOVABLE
    take_back(k, z, n_pages, mt)
    i = pop_granule(k, fr, z, mt)
    while i >= 0:
        free_block(k, fr, z, i, k.g)
        i = pop_granule(k, fr, z, mt)


@jit
def take_counted_block(k: Any, z: int, order: int) -> bool:
    """Take a block of `order` from a zone that is counted only; False when it has none.

    Worked example
    --------------
    One free block of order 10: an order-9 request leaves one of order 9.
    """
    zone = k.zone[z]
    o = order
    while o <= MAX_PAGE_ORDER and min(zone.nr_free[o, MT_MOVABLE], zone.bag_seed[o]) == 0:
        o += 1
    if o > MAX_PAGE_ORDER:
        return False
    zone.bag_seed[o] -= 1
    for half in range(order, o):
        zone.bag_seed[half] += 1
    zone.bag_seed_pages -= 1 << order
    zone.free -= 1 << order
    zone.free_min = min(zone.free_min, zone.free)
    _count_bag(k, z, MT_UNMOVABLE)
    return True


@jit
def give_counted_block(k: Any, z: int, order: int) -> None:
    """Give back a block of :func:`take_counted_block`; two of them merge."""
    zone = k.zone[z]
    zone.free += 1 << order
    zone.bag_seed_pages += 1 << order
    zone.bag_seed[order] += 1
    while order < MAX_PAGE_ORDER and zone.bag_seed[order] == 2:
        zone.bag_seed[order] = 0
        order += 1
        zone.bag_seed[order] += 1
    _count_bag(k, z, MT_UNMOVABLE)
