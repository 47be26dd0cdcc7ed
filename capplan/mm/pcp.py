"""Per-cpu page lists: pages that are allocated from the zone's viewpoint (mm/page_alloc.c).

    alloc: own list empty -> take `batch` pages from the buddy lists
    free:  put on own list; at `high` -> give a bulk back

They hide memory: MemFree and the watermark tests do not see them, and after a large exit
one CPU's list keeps up to LOW / ncpus pages. `high` is fixed up to 6.6 (zone_highsize) and
tunes itself between a low and a high bound from 6.7 (feature ``pcp_auto``).

A CPU has one list per migratetype and order, and one `high` for all of them. User memory takes
from the movable one of order 0, page tables from the unmovable, slab from the reclaimable: the
kernel's own pages have no frames, so theirs are counts (``pcp_kernel``). Huge pages have a list of
their own, which counts 512 pages for each. What lay on lists of other types and orders at the start
(``pcp_other``) stays until a bulk is given back that the lists before it cannot fill. zsmalloc's
come from the movable one, zbud's go past the lists.
"""

from __future__ import annotations

from capplan.mm._jit import jit, prefetch
from capplan.mm.buddy import alloc_block, free_block
from capplan.mm.constants import HPAGE_PMD_NR
from capplan.mm.singles import (
    alloc_scattered,
    free_scattered,
    hand_out,
    pop_granule,
    push_granule,
    scattered_room,
    take_back,
)
from capplan.mm.state import MAX_PAGE_ORDER, MT_MOVABLE, PAGEBLOCK_ORDER, PCP_CPUS, WMARK_HIGH

__all__ = [
    "PCP_RECLAIMABLE",
    "PCP_UNMOVABLE",
    "decay_pcp_high",
    "drain_all_pages",
    "drain_local_pages",
    "drain_zone_pages",
    "pcp_alloc",
    "pcp_alloc_huge",
    "pcp_alloc_kernel",
    "pcp_alloc_movable",
    "pcp_free",
    "pcp_free_high_order",
    "pcp_free_huge",
    "pcp_free_kernel",
    "pcp_free_movable",
    "pcp_pages",
    "pcp_put",
    "pcp_put_other",
]

PCP_BATCH_SCALE_MAX = 5  # CONFIG_PCP_BATCH_SCALE_MAX

# The lists in the order of their numbers (order_to_pindex()); of the kernel's two the row too.
PCP_UNMOVABLE, PCP_RECLAIMABLE = 0, 1
_UNMOVABLE, _MOVABLE, _RECLAIMABLE, _HUGE, _LISTS = 0, 1, 2, 4, 5
SINGLE, HUGE = 0, 1  # rows of pcp_head and pcp_tail


@jit
def _push(fr, zone, row, cpu, i):
    head = zone.pcp_head[row, cpu]
    fr[i].next = head
    fr[i].prev = -1
    if head >= 0:
        fr[head].prev = i
    else:
        zone.pcp_tail[row, cpu] = i
    zone.pcp_head[row, cpu] = i


@jit
def _push_tail(fr, zone, row, cpu, i):
    tail = zone.pcp_tail[row, cpu]
    fr[i].next = -1
    fr[i].prev = tail
    if tail >= 0:
        fr[tail].next = i
    else:
        zone.pcp_head[row, cpu] = i
    zone.pcp_tail[row, cpu] = i


@jit
def _pop(fr, zone, row, cpu):
    i = zone.pcp_head[row, cpu]
    after = fr[i].next
    zone.pcp_head[row, cpu] = after
    if after >= 0:
        fr[after].prev = -1
    else:
        zone.pcp_tail[row, cpu] = -1
    return i


@jit
def _pop_tail(fr, zone, row, cpu):
    i = zone.pcp_tail[row, cpu]
    before = fr[i].prev
    zone.pcp_tail[row, cpu] = before
    if before >= 0:
        fr[before].next = -1
    else:
        zone.pcp_head[row, cpu] = -1
    return i


@jit
def _nr_pcp_alloc(k, zone, cpu):
    """Pages to refill with; tunes high upward (nr_pcp_alloc)."""
    base = zone.pcp_batch
    if not k.pcp_auto:
        return base
    high = min(max(zone.pcp_high[cpu], zone.pcp_high_min), zone.pcp_high_max)
    if high < base:
        return 1
    batch = base << int(zone.pcp_alloc_factor[cpu])
    if zone.pcp_high_min != zone.pcp_high_max and not zone.below_high:
        high = min(high + batch, zone.pcp_high_max)
    zone.pcp_high[cpu] = high
    most = max(high - zone.pcp_count[cpu] - base, base)
    if batch <= most and zone.pcp_alloc_factor[cpu] < PCP_BATCH_SCALE_MAX:
        zone.pcp_alloc_factor[cpu] += 1
    return min(batch, most)


@jit
def _nr_pcp_high(k, zone, cpu):
    """Pages the list may hold now (nr_pcp_high)."""
    batch = zone.pcp_batch
    if not k.pcp_auto:
        high = zone.pcp_high_min
        return min(batch << 2, high) if zone.reclaim_active else high
    high = min(max(zone.pcp_high[cpu], zone.pcp_high_min), zone.pcp_high_max)
    zone.pcp_high[cpu] = high
    freed = max(zone.pcp_free_count[cpu], batch)
    if zone.reclaim_active:
        zone.pcp_high[cpu] = max(high - freed, zone.pcp_high_min)
        return min(batch << 2, zone.pcp_high[cpu])
    if zone.pcp_high_min == zone.pcp_high_max:
        return high
    if zone.below_high:
        zone.pcp_high[cpu] = max(high - freed, zone.pcp_high_min)
        return max(zone.pcp_count[cpu], zone.pcp_high_min)
    if zone.pcp_count[cpu] >= high:
        need = zone.pcp_free_count[cpu] + batch
        if zone.pcp_high[cpu] < need:
            zone.pcp_high[cpu] = min(max(need, zone.pcp_high_min), zone.pcp_high_max)
    return high


@jit
def _nr_pcp_free(k, zone, cpu, high):
    """Pages to give back at once; doubles with each free in a row (nr_pcp_free)."""
    batch = zone.pcp_batch
    if high < batch:
        return k.granule_pages
    most = high - batch
    if k.pcp_auto:
        return min(max(zone.pcp_free_count[cpu], batch), most)
    wanted = batch << int(zone.pcp_factor[cpu])
    if wanted < most and zone.pcp_factor[cpu] < PCP_BATCH_SCALE_MAX:
        zone.pcp_factor[cpu] += 1
    return min(max(wanted, batch), most)


@jit
def pcp_alloc(k, fr, z, cpu):
    """One movable granule from zone z through the list of a CPU: frame index, or -1."""
    zone = k.zone[z]
    zone.pcp_factor[cpu] >>= 1
    if zone.pcp_free_count[cpu] > 0:
        zone.pcp_free_count[cpu] >>= 1
    if zone.pcp_head[SINGLE, cpu] < 0:
        left = _nr_pcp_alloc(k, zone, cpu)
        first = alloc_block(k, fr, z, k.g, MT_MOVABLE)
        if first < 0:
            return first
        left -= k.granule_pages
        while left >= k.granule_pages:
            j = alloc_block(k, fr, z, k.g, MT_MOVABLE)
            if j < 0:
                break
            # refilled pages are handed out in the order they came
            _push_tail(fr, zone, SINGLE, cpu, j)
            zone.pcp_count[cpu] += k.granule_pages
            left -= k.granule_pages
        return first
    zone.pcp_count[cpu] -= k.granule_pages
    return _pop(fr, zone, SINGLE, cpu)


@jit
def _nr_pcp_alloc_huge(k, zone, cpu):
    """Huge pages to refill with: two, for a batch is less than one (nr_pcp_alloc)."""
    base = zone.pcp_batch
    if k.pcp_auto:
        high = min(max(zone.pcp_high[cpu], zone.pcp_high_min), zone.pcp_high_max)
        if high < base:
            return 1
        if zone.pcp_high_min != zone.pcp_high_max and not zone.below_high:
            high = min(high + base, zone.pcp_high_max)
        zone.pcp_high[cpu] = high
    return 2 if base > 1 else 1


@jit
def pcp_alloc_huge(k, fr, z, cpu):
    """A movable block of order 9 from zone z through its list of a CPU: first frame, or -1.

    Kernel
    ------
    mm/page_alloc.c, order_to_pindex(), rmqueue_pcplist(), __rmqueue_pcplist(): the batch is
    max(batch >> order, 2) blocks.

    Worked example
    --------------
    Batch 63, empty list: two blocks leave the zone, of which one waits: 512 pages on the list.
    """
    zone = k.zone[z]
    zone.pcp_factor[cpu] >>= 1
    zone.pcp_free_count[cpu] >>= 1
    if zone.pcp_head[HUGE, cpu] < 0:
        for _ in range(_nr_pcp_alloc_huge(k, zone, cpu)):
            first = alloc_block(k, fr, z, PAGEBLOCK_ORDER, MT_MOVABLE)
            if first < 0:
                break
            _push_tail(fr, zone, HUGE, cpu, first)
            zone.pcp_count[cpu] += HPAGE_PMD_NR
        if zone.pcp_head[HUGE, cpu] < 0:
            return -1
    zone.pcp_count[cpu] -= HPAGE_PMD_NR
    return _pop(fr, zone, HUGE, cpu)


@jit
def pcp_put(k, fr, z, cpu, i):
    """Put a frame on a CPU's list, whatever it holds already."""
    _push(fr, k.zone[z], SINGLE, cpu, i)
    k.zone[z].pcp_count[cpu] += k.granule_pages


@jit
def pcp_put_other(k, fr, z, cpu, i):
    """Put a frame on a CPU's lists of other types, from which user memory does not take."""
    zone = k.zone[z]
    fr[i].next = zone.pcp_other[cpu]
    zone.pcp_other[cpu] = i
    zone.pcp_count[cpu] += k.granule_pages


@jit
def _pop_other(fr, zone, cpu):
    i = zone.pcp_other[cpu]
    zone.pcp_other[cpu] = fr[i].next
    fr[i].next = -1
    return i


@jit
def _ask_for_buddies(k, fr, zone, i):
    """Frame i goes back to the buddy lists soon: what it may merge with is looked at then."""
    block = i - zone.first_frame
    below = PAGEBLOCK_ORDER - k.g
    prefetch(fr, zone.first_frame + (block >> below << below))  # the pageblock's migratetype
    for above in range(min(MAX_PAGE_ORDER - k.g, 4)):
        prefetch(fr, zone.first_frame + ((block >> above ^ 1) << above))


@jit
def _free_frames(k, fr, z, cpu, nr, movable):
    """Up to ``nr`` pages of a list of frames go back; what is left of nr."""
    zone = k.zone[z]
    tail = zone.pcp_tail[SINGLE]
    while nr > 0 and (tail[cpu] if movable else zone.pcp_other[cpu]) >= 0:
        i = _pop_tail(fr, zone, SINGLE, cpu) if movable else _pop_other(fr, zone, cpu)
        zone.pcp_count[cpu] -= k.granule_pages
        free_block(k, fr, z, i, k.g)
        nr -= k.granule_pages
    return nr


@jit
def _free_huge_blocks(k, fr, z, cpu, nr):
    """Up to ``nr`` pages, rounded up, of the list of huge pages go back; what is left of nr."""
    zone = k.zone[z]
    while nr > 0 and zone.pcp_tail[HUGE, cpu] >= 0:
        zone.pcp_count[cpu] -= HPAGE_PMD_NR
        free_block(k, fr, z, _pop_tail(fr, zone, HUGE, cpu), PAGEBLOCK_ORDER)
        nr -= HPAGE_PMD_NR
    return nr


@jit
def _free_bulk(k, fr, z, cpu, nr, first):
    """Give pages back: from list ``first`` on, each until it is empty (free_pcppages_bulk)."""
    zone = k.zone[z]
    for step in range(_LISTS):
        if nr <= 0:
            return
        which = (first + step) % _LISTS
        if which == _UNMOVABLE or which == _RECLAIMABLE:
            part = min(nr, zone.pcp_kernel[which >> 1, cpu])
            if part > 0:
                zone.pcp_kernel[which >> 1, cpu] -= part
                zone.pcp_count[cpu] -= part
                free_scattered(k, fr, z, part, which)
                nr -= part
        elif which == _HUGE:
            nr = _free_huge_blocks(k, fr, z, cpu, nr)
        else:
            nr = _free_frames(k, fr, z, cpu, nr, which == _MOVABLE)


@jit
def _commit(k, fr, z, cpu, nr, which):
    """``nr`` pages were put on list ``which``; more than `high` goes (free_unref_page_commit)."""
    zone = k.zone[z]
    zone.pcp_alloc_factor[cpu] >>= 1
    zone.pcp_count[cpu] += nr
    if zone.pcp_free_count[cpu] < zone.pcp_batch << PCP_BATCH_SCALE_MAX:
        zone.pcp_free_count[cpu] += nr
    high = _nr_pcp_high(k, zone, cpu)
    if zone.pcp_count[cpu] >= high:
        _free_bulk(k, fr, z, cpu, _nr_pcp_free(k, zone, cpu, high), which)
        if zone.below_high and zone.free > zone.wmark[WMARK_HIGH] + zone.boost + zone.reserve[3]:
            zone.below_high = 0


@jit
def pcp_free(k, fr, z, cpu, i):
    """Free one granule to the movable list of a CPU (free_unref_page)."""
    _ask_for_buddies(k, fr, k.zone[z], i)
    _push(fr, k.zone[z], SINGLE, cpu, i)
    _commit(k, fr, z, cpu, k.granule_pages, _MOVABLE)


@jit
def pcp_free_huge(k, fr, z, cpu, first):
    """Free a block of order 9 to its list of a CPU (free_unref_page, pcp_allowed_order)."""
    _push(fr, k.zone[z], HUGE, cpu, first)
    _commit(k, fr, z, cpu, HPAGE_PMD_NR, _HUGE)


@jit
def pcp_alloc_kernel(k, fr, z, cpu, nr, kind):
    """Single pages for the kernel from zone z through the lists of a CPU: those obtained.

    Parameters
    ----------
    kind : PCP_UNMOVABLE (page tables, stacks) or PCP_RECLAIMABLE (slab with a shrinker)

    Kernel
    ------
    mm/page_alloc.c, __rmqueue_pcplist().

    Worked example
    --------------
    One page, batch 63, empty list: 63 leave the zone, 62 of them wait on the list.
    """
    zone = k.zone[z]
    got = 0
    while got < nr:
        if zone.pcp_kernel[kind, cpu] == 0:
            more = alloc_scattered(k, fr, z, _nr_pcp_alloc(k, zone, cpu), kind << 1)
            if more == 0:
                return got
            zone.pcp_kernel[kind, cpu] = more
            zone.pcp_count[cpu] += more
        part = min(nr - got, zone.pcp_kernel[kind, cpu])
        zone.pcp_kernel[kind, cpu] -= part
        zone.pcp_count[cpu] -= part
        zone.pcp_factor[cpu] >>= min(part, 7)
        zone.pcp_free_count[cpu] >>= min(part, 31)
        got += part
    return got


@jit
def pcp_free_kernel(k, fr, z, cpu, nr, kind):
    """Free ``nr`` single pages of the kernel to a list of a CPU, one after the other."""
    zone = k.zone[z]
    for _ in range(nr):
        zone.pcp_kernel[kind, cpu] += 1
        _commit(k, fr, z, cpu, 1, kind << 1)


@jit
def pcp_alloc_movable(k, fr, z, cpu, nr):
    """Single Movable pages (zsmalloc's) from zone z through the list of a CPU: those obtained."""
    room = scattered_room(k, z, MT_MOVABLE)
    while room < nr:
        i = pcp_alloc(k, fr, z, cpu)
        if i < 0:
            break
        push_granule(k, fr, z, i, MT_MOVABLE)
        room += k.granule_pages
    got = min(room, nr)
    hand_out(k, z, got, MT_MOVABLE)
    return got


@jit
def pcp_free_movable(k, fr, z, cpu, nr):
    """Free single Movable pages; a granule that is whole again goes to the list of a CPU."""
    take_back(k, z, nr, MT_MOVABLE)
    i = pop_granule(k, fr, z, MT_MOVABLE)
    while i >= 0:
        pcp_free(k, fr, z, cpu, i)
        i = pop_granule(k, fr, z, MT_MOVABLE)


@jit
def drain_local_pages(k, fr, z):
    """Give what the actor's CPU holds of zone z back to the buddy lists (drain_local_pages)."""
    cpu = k.cpu % PCP_CPUS
    if k.zone[z].pcp_count[cpu] > 0:
        _free_bulk(k, fr, z, cpu, k.zone[z].pcp_count[cpu], _UNMOVABLE)


@jit
def drain_zone_pages(k, fr, z):
    """Give what every CPU's list holds of zone z back to the buddy lists."""
    zone = k.zone[z]
    for cpu in range(zone.pcp_count.size):
        if zone.pcp_count[cpu] > 0:
            _free_bulk(k, fr, z, cpu, zone.pcp_count[cpu], _UNMOVABLE)


@jit
def drain_all_pages(k, fr):
    """Give every CPU's list back to the buddy lists (drain_all_pages)."""
    for z in range(k.nr_zones):
        zone = k.zone[z]
        for cpu in range(zone.pcp_count.size):
            if zone.pcp_count[cpu] > 0:
                _free_bulk(k, fr, z, cpu, zone.pcp_count[cpu], _UNMOVABLE)


@jit
def pcp_free_high_order(k, fr, cpu):
    """What the free of an order-1..3 block does to a CPU's list of the zone of kernel memory.

    After a row of frees without an allocation all of the list is given back (free_high). From
    6.7 on it takes two such frees in a row, which nothing here makes.

    Kernel
    ------
    mm/page_alloc.c, free_unref_page_commit(), nr_pcp_high(), nr_pcp_free().
    """
    if k.pcp_auto:
        return
    for z in range(2, -1, -1):
        zone = k.zone[z]
        if zone.managed == 0 or zone.counters_only:
            continue
        if zone.pcp_factor[cpu] > 0:
            _free_bulk(k, fr, z, cpu, zone.pcp_count[cpu], _UNMOVABLE)
        return


@jit
def decay_pcp_high(k, fr):
    """The vmstat worker's look at all lists, once a second: whether there was anything to do.

    Kernel
    ------
    mm/page_alloc.c, decay_pcp_high(), since "mm, pcp: decrease PCP high if free pages < high
    watermark" and its series (in v6.7): high falls by an eighth towards its low bound, but not
    more than 32 batches under what is held; what is above it goes back to the buddy lists.
    """
    todo = False
    for z in range(k.nr_zones):
        zone = k.zone[z]
        if zone.managed == 0:
            continue
        for cpu in range(min(k.nr_cpus, zone.pcp_count.size)):
            high = max(zone.pcp_high[cpu], zone.pcp_high_min)
            count = zone.pcp_count[cpu]
            if high > zone.pcp_high_min:
                kept = count - (zone.pcp_batch << PCP_BATCH_SCALE_MAX)
                high = max(kept, high - (high >> 3), zone.pcp_high_min)
                zone.pcp_high[cpu] = high
                todo = True
            if count > high:
                _free_bulk(k, fr, z, cpu, count - high, _UNMOVABLE)
                todo = True
    return todo


@jit
def pcp_pages(k):
    """Pages on per-cpu lists, all zones."""
    total = 0
    for z in range(k.nr_zones):
        total += k.zone[z].pcp_count.sum()
    return total
