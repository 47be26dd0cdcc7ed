"""The buddy allocator: free blocks of 2^order pages, by migratetype.

Algorithm::

    alloc(o, mt)   first non-empty list[o.., mt], take the head, put upper halves back;
                   nothing there: claim a pageblock of another migratetype, or steal a block
    free(pfn, o)   while the buddy pfn ^ (1 << o) is free and of order o: merge, o += 1

One frame record stands for 2^g pages (``k.g``), so blocks of order g and more are lists of
frames: frame ``zone.first_frame + b`` is block number b, at pfn ``b << g`` of its zone. Only
the head of a free block carries PG_FREE, its order and the list's links. The migratetype of
a pageblock is kept in ``fr[first frame of the pageblock].migratetype``, for free and used
pageblocks alike: nobody else may write that field. A free block is on the list of its
pageblock's type, but where a kernel before 6.15 has moved it to another's (``refs`` of its head).

Below order g there are counts only (``singles.py``). ``zone.free == sum(nr_free[o, :] << o)``
always holds.
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import jit
from capplan.mm.freelists import buddy_init
from capplan.mm.state import (
    MAX_PAGE_ORDER,
    MT_HIGHATOMIC,
    MT_MOVABLE,
    PAGEBLOCK_ORDER,
    PG_FREE,
    PG_KERNEL,
    PG_MOVABLE,
)
from capplan.mm.watermark import boost_watermark

__all__ = [
    "alloc_block",
    "buddy_init",
    "convert_pageblocks",
    "free_block",
    "isolate_free_granule",
    "pageblock_migratetype",
]

PAGEBLOCK_PAGES = 1 << PAGEBLOCK_ORDER
# mm/page_alloc.c, fallbacks[]: where Unmovable, Movable and Reclaimable look next.
_FALLBACKS = ((2, 1), (2, 0), (0, 1))


@jit
def _pageblock(zone: Any, g: int, i: int) -> int:
    """First frame of the pageblock that frame `i` lies in."""
    return i - ((i - zone.first_frame) & ((1 << (PAGEBLOCK_ORDER - g)) - 1))  # type: ignore[no-any-return]


@jit
def pageblock_migratetype(k: Any, fr: Any, z: int, i: int) -> int:
    """Migratetype of the pageblock of frame `i` (get_pageblock_migratetype())."""
    return fr[_pageblock(k.zone[z], k.g, i)].migratetype  # type: ignore[no-any-return]


@jit
def _link(zone: Any, fr: Any, i: int, order: int, mt: int, tail: bool) -> None:
    """Put the block at `i` on a free list (__add_to_free_list()); its ``refs`` tell which."""
    fr[i].flags = PG_FREE
    fr[i].order = order
    fr[i].refs = mt
    if tail:
        other = zone.tail[order, mt]
        fr[i].next = -1
        fr[i].prev = other
        zone.tail[order, mt] = i
        if other >= 0:
            fr[other].next = i
        else:
            zone.head[order, mt] = i
    else:
        other = zone.head[order, mt]
        fr[i].prev = -1
        fr[i].next = other
        zone.head[order, mt] = i
        if other >= 0:
            fr[other].prev = i
        else:
            zone.tail[order, mt] = i
    zone.nr_free[order, mt] += 1
    if mt == MT_HIGHATOMIC:
        zone.nr_free_highatomic += 1 << order


@jit
def _unlink(zone: Any, fr: Any, i: int, order: int) -> None:
    """Take the block at `i` off its free list (__del_page_from_free_list())."""
    mt = fr[i].refs
    following, before = fr[i].next, fr[i].prev
    if before >= 0:
        fr[before].next = following
    else:
        zone.head[order, mt] = following
    if following >= 0:
        fr[following].prev = before
    else:
        zone.tail[order, mt] = before
    fr[i].flags = 0
    fr[i].next = -1
    fr[i].prev = -1
    zone.nr_free[order, mt] -= 1
    if mt == MT_HIGHATOMIC:
        zone.nr_free_highatomic -= 1 << order


@jit
def _expand(zone: Any, fr: Any, i: int, low: int, high: int, mt: int, g: int) -> None:
    """Cut an order-`high` block at `i` down to `low`: upper halves go back (expand())."""
    while high > low:
        high -= 1
        _link(zone, fr, i + (1 << (high - g)), high, mt, False)
    fr[i].order = low


@jit
def _rmqueue_smallest(k: Any, fr: Any, z: int, order: int, mt: int) -> int:
    """Take a block of at least `order` from the lists of `mt` itself, or -1."""
    zone = k.zone[z]
    o = order
    while o <= MAX_PAGE_ORDER:
        i = zone.head[o, mt]
        if i >= 0:
            _unlink(zone, fr, i, o)
            _expand(zone, fr, i, order, o, mt, k.g)
            return i  # type: ignore[no-any-return]
        o += 1
    return -1


@jit
def _set_pageblocks(zone: Any, fr: Any, g: int, i: int, order: int, mt: int) -> None:
    """Retag the pageblocks of an order-`order` block (change_pageblock_range())."""
    step = 1 << (PAGEBLOCK_ORDER - g)
    first = _pageblock(zone, g, i)
    for n in range(1 << max(order - PAGEBLOCK_ORDER, 0)):
        fr[first + n * step].migratetype = mt


@jit
def _find_suitable_fallback(zone: Any, order: int, mt: int) -> int:
    """First other migratetype with a free block of `order`, or -1."""
    for n in range(2):
        other = _FALLBACKS[mt][n]
        if zone.head[order, other] >= 0:
            return other
    return -1


@jit
def _is_whole(k: Any, zone: Any, first: int) -> bool:
    """Whether the zone does not end inside this pageblock."""
    return first + (1 << (PAGEBLOCK_ORDER - k.g)) <= zone.first_frame + zone.nr_frames  # type: ignore[no-any-return]


@jit
def _alike_pages(k: Any, fr: Any, first: int, mt: int, other: int) -> tuple[int, int]:
    """Free pages of a pageblock of type `other`, and those in use that go with a request of `mt`.

    mm/page_alloc.c, prep_move_freepages_block(), try_to_steal_block(): among `other`'s pages those
    that are not movable cannot be told apart, but in a Movable pageblock they all go with the
    kernel's.
    """
    free = movable = 0
    j = first
    while j < first + (1 << (PAGEBLOCK_ORDER - k.g)):
        flags = fr[j].flags
        if flags & PG_FREE:
            pages = 1 << int(fr[j].order)
            free += pages
            j += pages >> k.g
        else:
            if flags & PG_MOVABLE or (fr[j].mapping >= 0 and flags & PG_KERNEL == 0):
                movable += 1 << k.g
            j += 1
    if mt == MT_MOVABLE:
        return free, movable
    return free, PAGEBLOCK_PAGES - free - movable if other == MT_MOVABLE else 0


@jit
def _move_freepages(k: Any, fr: Any, z: int, first: int, mt: int) -> None:
    """All free blocks of a pageblock go to the lists of `mt` (move_freepages_block())."""
    zone = k.zone[z]
    j = first
    while j < first + (1 << (PAGEBLOCK_ORDER - k.g)):
        if fr[j].flags & PG_FREE:
            order = int(fr[j].order)
            _unlink(zone, fr, j, order)
            _link(zone, fr, j, order, mt, True)
            j += 1 << (order - k.g)
        else:
            j += 1


@jit
def convert_pageblocks(k: Any, fr: Any, z: int, i: int, mt: int) -> int:
    """Give the pageblocks of free block `i`, and what is free in them, another type: their pages.

    -1: the zone ends inside the pageblock.
    """
    zone = k.zone[z]
    order = int(fr[i].order)
    first = _pageblock(zone, k.g, i)
    if order >= PAGEBLOCK_ORDER:
        _unlink(zone, fr, i, order)
        _link(zone, fr, i, order, mt, True)
    elif _is_whole(k, zone, first):
        _move_freepages(k, fr, z, first, mt)
    else:
        return -1
    _set_pageblocks(zone, fr, k.g, i, order, mt)
    return max(PAGEBLOCK_PAGES, 1 << order)


@jit
def _boost(k: Any, z: int) -> None:
    if boost_watermark(k, z) and not k.no_kswapd:
        k.zone[z].boosted = 1


@jit
def _claim_pageblock(k: Any, fr: Any, z: int, i: int, mt: int, other: int) -> bool:
    """Retag the pageblock of free block `i` if at least half of it is free or alike."""
    first = _pageblock(k.zone[z], k.g, i)
    if not _is_whole(k, k.zone[z], first):
        return False
    free, alike = _alike_pages(k, fr, first, mt, other)
    if free + alike < PAGEBLOCK_PAGES // 2:
        return False
    _move_freepages(k, fr, z, first, mt)
    fr[first].migratetype = mt
    return True


@jit
def _can_steal_fallback(order: int, mt: int) -> bool:
    """Whether a block lets a pageblock be taken over: a small movable request must not."""
    return order >= PAGEBLOCK_ORDER // 2 or mt != MT_MOVABLE


@jit
def _least_order(k: Any, order: int) -> int:
    """Smallest block that is looked at: with ALLOC_NOFRAGMENT no pageblock is broken up."""
    return max(order, PAGEBLOCK_ORDER) if k.nofragment else order


@jit
def _rmqueue_claim(k: Any, fr: Any, z: int, order: int, mt: int) -> int:
    """Take over a pageblock of another migratetype, largest free block first, or -1."""
    zone = k.zone[z]
    o = MAX_PAGE_ORDER
    while o >= _least_order(k, order):
        other = _find_suitable_fallback(zone, o, mt)
        if other >= 0:
            if not _can_steal_fallback(o, mt):
                return -1
            i = zone.head[o, other]
            if o >= PAGEBLOCK_ORDER:
                _unlink(zone, fr, i, o)
                _set_pageblocks(zone, fr, k.g, i, o, mt)
                _expand(zone, fr, i, order, o, mt, k.g)
                return i  # type: ignore[no-any-return]
            _boost(k, z)
            if _claim_pageblock(k, fr, z, i, mt, other):
                return _rmqueue_smallest(k, fr, z, order, mt)
        o -= 1
    return -1


@jit
def _rmqueue_steal(k: Any, fr: Any, z: int, order: int, mt: int) -> int:
    """Take the smallest block of another migratetype that fits; the rest stays there, or -1."""
    zone = k.zone[z]
    for o in range(order, MAX_PAGE_ORDER + 1):
        other = _find_suitable_fallback(zone, o, mt)
        if other >= 0:
            return _rmqueue_smallest(k, fr, z, order, other)
    return -1


@jit
def _steal_suitable_fallback(k: Any, fr: Any, z: int, o: int, mt: int, whole: bool) -> None:
    """Move a block of order `o`, or all of its pageblock that is free, to the lists of `mt`."""
    zone = k.zone[z]
    i = zone.head[o, _find_suitable_fallback(zone, o, mt)]
    first = _pageblock(zone, k.g, i)
    old = fr[first].migratetype
    if o >= PAGEBLOCK_ORDER:
        _set_pageblocks(zone, fr, k.g, i, o, mt)
    elif old != MT_HIGHATOMIC:
        _boost(k, z)
        if whole and _is_whole(k, zone, first):
            free, alike = _alike_pages(k, fr, first, mt, old)
            _move_freepages(k, fr, z, first, mt)
            if free + alike >= PAGEBLOCK_PAGES // 2:
                fr[first].migratetype = mt
            return
    _unlink(zone, fr, i, o)
    _link(zone, fr, i, o, mt, True)


@jit
def _rmqueue_fallback(k: Any, fr: Any, z: int, order: int, mt: int) -> int:
    """A block out of the largest of another migratetype, which moves as a whole, or -1.

    Where no pageblock can be taken over it is the smallest that fits, of which what is left over
    moves too.
    """
    zone = k.zone[z]
    o = MAX_PAGE_ORDER
    while o >= _least_order(k, order) and _find_suitable_fallback(zone, o, mt) < 0:
        o -= 1
    if o < _least_order(k, order):
        return -1
    whole = _can_steal_fallback(o, mt)
    if not whole:
        o = order
        while _find_suitable_fallback(zone, o, mt) < 0:
            o += 1
    _steal_suitable_fallback(k, fr, z, o, mt, whole)
    return _rmqueue_smallest(k, fr, z, order, mt)


@jit
def _rmqueue(k: Any, fr: Any, z: int, order: int, mt: int) -> int:
    """A block of the migratetype's own lists, or by way of another's (__rmqueue()), or -1."""
    i = _rmqueue_smallest(k, fr, z, order, mt)
    if i >= 0:
        return i
    if not k.fallback_claims:
        return _rmqueue_fallback(k, fr, z, order, mt)
    i = _rmqueue_claim(k, fr, z, order, mt)
    if i < 0 and not k.nofragment:
        i = _rmqueue_steal(k, fr, z, order, mt)
    return i


@jit
def alloc_block(k: Any, fr: Any, z: int, order: int, mt: int) -> int:
    """Allocate 2^order pages of zone `z`; watermarks are the caller's business.

    Parameters
    ----------
    k : kernel_t
        ``nofragment``: ALLOC_NOFRAGMENT of the request.
    fr : (F,) frame_t
    z, order : int
        Zone, and order of at least ``k.g``.
    mt : int
        MT_UNMOVABLE, MT_MOVABLE or MT_RECLAIMABLE.

    Returns
    -------
    int
        First frame of the block (flags 0, on no list, its order set), or -1.

    Kernel
    ------
    mm/page_alloc.c, __rmqueue(); __rmqueue_claim(), __rmqueue_steal() since c2f6ea38fc1b ("mm:
    page_alloc: don't steal single pages from biggest buddy") (in v6.15, and read in 6.12.117);
    before, __rmqueue_fallback(), steal_suitable_fallback() (read in 6.1.192).

    Departs from the kernel
    -----------------------
    No CMA; highatomic blocks are not a last resort of an OOM victim's requests.

    Worked example
    --------------
    One free order-4 block at pfn 0: an order-0 allocation returns pfn 0 and leaves 1 (order
    0), 2 (order 1), 4 (order 2), 8 (order 3).
    """
    i = _rmqueue(k, fr, z, order, mt)
    if i < 0:
        return -1
    k.zone[z].free -= 1 << order
    k.zone[z].free_min = min(k.zone[z].free_min, k.zone[z].free)
    return i


@jit
def isolate_free_granule(k: Any, fr: Any, z: int, i: int) -> None:
    """Take the first granule off the free block at `i`; the rest stays free.

    Kernel
    ------
    mm/page_isolation.c, __isolate_free_page(); what compaction takes too much it gives back.
    """
    zone = k.zone[z]
    order = int(fr[i].order)
    mt = fr[i].refs
    _unlink(zone, fr, i, order)
    _expand(zone, fr, i, k.g, order, mt, k.g)
    zone.free -= 1 << k.g
    zone.free_min = min(zone.free_min, zone.free)


@jit
def _is_free_block(zone: Any, fr: Any, block: int, order: int) -> bool:
    """Whether block number `block` is the head of a free block of `order`."""
    if block >= zone.nr_frames:
        return False
    i = zone.first_frame + block
    return bool(fr[i].flags & PG_FREE) and fr[i].order == order


@jit
def _free_one(k: Any, fr: Any, z: int, i: int, order: int) -> None:
    """Free a block of at most a pageblock, merging upwards (__free_one_page())."""
    zone = k.zone[z]
    g = k.g
    first = zone.first_frame
    block = i - first
    mt = fr[_pageblock(zone, g, i)].migratetype
    zone.free += 1 << order
    o = order
    while o < MAX_PAGE_ORDER:
        buddy = block ^ (1 << (o - g))
        if not _is_free_block(zone, fr, buddy, o):
            break
        other = mt
        if o >= PAGEBLOCK_ORDER:
            other = fr[_pageblock(zone, g, first + buddy)].migratetype
            if other != mt and (other == MT_HIGHATOMIC or mt == MT_HIGHATOMIC):
                break
        _unlink(zone, fr, first + buddy, o)
        if other != mt:
            _set_pageblocks(zone, fr, g, first + buddy, o, mt)
        block &= buddy
        o += 1
    # buddy_merge_likely(): when the block above is free, this one may soon grow; keep it last
    tail = False
    if o < MAX_PAGE_ORDER - 1:
        above = block & ~(1 << (o - g))
        tail = _is_free_block(zone, fr, above ^ (1 << (o + 1 - g)), o + 1)
    _link(zone, fr, first + block, o, mt, tail)


@jit
def free_block(k: Any, fr: Any, z: int, i: int, order: int) -> None:
    """Free the block of 2^order pages at frame `i`; it merges with its buddies.

    All flags of the frame are dropped. Frees larger than a pageblock go one pageblock at a
    time, as each keeps its migratetype.

    Kernel
    ------
    mm/page_alloc.c, free_one_page(), split_large_buddy(), __free_one_page().

    Worked example
    --------------
    Free blocks 1 (order 0), 2 (order 1), 4 (order 2), 8 (order 3): freeing pfn 0 leaves one
    order-4 block at pfn 0.
    """
    if order <= PAGEBLOCK_ORDER:
        _free_one(k, fr, z, i, order)
    else:
        step = 1 << (PAGEBLOCK_ORDER - k.g)
        for n in range(1 << (order - PAGEBLOCK_ORDER)):
            _free_one(k, fr, z, i + n * step, PAGEBLOCK_ORDER)
