"""A start from a captured state: what a node held is placed, then its lists are as seen.

    placing   user and cache pages come from the pages that were in use, marks and limits apart
    finish    what nothing asked for is the kernel's own; the captured free blocks go on the lists;
              each group's pages go on the LRU lists, or generations, that they were on

So MemFree, the free blocks of each order, the per-cpu lists and the sizes of all LRU lists at
t = 0 are those that were seen, whatever had to be placed. Which of a group's pages are the old
ones is not known: those that were placed first. This stands for no code of the kernel: a real
node came to its state by a history that nobody wrote down.
"""

from __future__ import annotations

from capplan.mm._jit import rare
from capplan.mm.buddy import free_block
from capplan.mm.lru_gen_lists import gen_list_add, lru_gen_isolate, lru_gen_update_size
from capplan.mm.lruvec import lru_add, lru_del
from capplan.mm.singles import alloc_scattered
from capplan.mm.state import (
    LRU_INACTIVE_FILE,
    MAX_NR_GENS,
    MT_HIGHATOMIC,
    MT_MOVABLE,
    MT_UNMOVABLE,
    NR_MIGRATETYPES,
    NR_ORDERS,
    PG_ACTIVE,
    PG_KERNEL,
    ZONES_PER_NODE,
)

__all__ = ["finish", "placing_pages", "placing_zone"]


@rare
def placing_zone(k, z):
    """Whether pages may be placed in zone z: it has frames; tiny ones start as they were seen."""
    return k.zone[z].managed > 0 and not k.zone[z].counters_only


@rare
def placing_pages(k, fr, nr, mt):
    """Single pages of a migratetype while placing: from the highest zone down, those obtained."""
    got = 0
    for step in range(k.nr_zones):
        z = k.nr_zones - 1 - step
        if got < nr and placing_zone(k, z):
            got += alloc_scattered(k, fr, z, nr - got, mt)
    return got


@rare
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


@rare
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


@rare
def _oldest(k, c, n, t):
    """The page of a type that would be scanned first: -1 where none is on a list."""
    lv = k.memcg[c].lruvec[n]
    if not k.lru_gen:
        i = lv.tail[t * LRU_INACTIVE_FILE]
        return i if i >= 0 else lv.tail[t * LRU_INACTIVE_FILE + 1]
    for seq in range(lv.min_seq[t], lv.max_seq + 1):
        for z in range(ZONES_PER_NODE):
            i = lv.gen_tail[seq % MAX_NR_GENS, t, z]
            if i >= 0:
                return i
    return -1


@rare
def _take_off(k, fr, c, n, t):
    """Take a group's pages of a type off its lists: the first of their chain, oldest first."""
    first = -1
    last = -1
    i = _oldest(k, c, n, t)
    while i >= 0:
        if k.lru_gen:
            lru_gen_isolate(k, fr, i)
        else:
            lru_del(k, fr, i)
        fr[i].next = -1
        if last < 0:
            first = i
        else:
            fr[last].next = i
        last = i
        i = _oldest(k, c, n, t)
    return first


@rare
def _put_on(k, fr, c, n, t, i, d):
    """Put a page on list d of those that were seen, as the newest there."""
    if not k.lru_gen:
        fr[i].flags = fr[i].flags | PG_ACTIVE if d else fr[i].flags & ~PG_ACTIVE
        lru_add(k, fr, i)
        return
    lv = k.memcg[c].lruvec[n]
    g = (lv.max_seq - (k.memcg[c].seen_lists - 1 - d)) % MAX_NR_GENS
    fr[i].flags &= ~PG_ACTIVE
    fr[i].gen = g + 1
    fr[i].lru = t * LRU_INACTIVE_FILE
    lru_gen_update_size(k, fr, i, -1, g)
    gen_list_add(k, fr, i, g, False)


@rare
def _restore_lists(k, fr, c, n):
    """Spread a group's pages on a node over its lists as they were seen.

    On several nodes each has its share of every list; pages that were not counted are on the
    youngest.
    """
    memcg = k.memcg[c]
    lv = memcg.lruvec[n]
    for t in range(2):
        lru = t * LRU_INACTIVE_FILE
        here = lv.pages[lru] + lv.pages[lru + 1]
        everywhere = 0
        for other in range(k.nr_nodes):
            lists = memcg.lruvec[other]
            everywhere += lists.pages[lru] + lists.pages[lru + 1]
        i = _take_off(k, fr, c, n, t)
        d = 0
        placed = 0
        bound = memcg.seen_pages[0, t] * here // max(everywhere, 1)
        while i >= 0:
            after = fr[i].next
            while d < memcg.seen_lists - 1 and placed >= bound:
                d += 1
                bound += memcg.seen_pages[d, t] * here // max(everywhere, 1)
            _put_on(k, fr, c, n, t, i, d)
            placed += fr[i].nr_pages
            i = after
    if k.lru_gen:
        for t in range(2):
            lv.min_seq[t] = lv.max_seq - (memcg.seen_lists - 1)
        for d in range(memcg.seen_lists):
            g = (lv.min_seq[0] + d) % MAX_NR_GENS
            lv.gen_birth_ns[g] = k.now_ns - memcg.seen_age_ns[d]


@rare
def finish(k, fr):
    """All that was held is in place: the kernel takes the rest, the lists are as seen."""
    for c in range(k.nr_memcgs):
        if k.memcg[c].seen_lists:
            for n in range(k.nr_nodes):
                _restore_lists(k, fr, c, n)
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
