"""Compaction's free scanner: where pages are moved to (mm/compaction.c, isolate_freepages()).

    from the top, pageblock by pageblock: free blocks below the order wanted, in Movable pageblocks
    a pageblock without any               -> of the next only every second, fourth, ... 32nd page

Departs from the kernel: the linear scan alone, no fast_isolate_freepages(); blocks are taken a
granule at a time, so what is left of one when compaction ends has never been taken.
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import rare
from capplan.mm.buddy import isolate_free_granule
from capplan.mm.state import (
    COMPACT_CLUSTER_MAX,
    MT_MOVABLE,
    PAGEBLOCK_ORDER,
    PG_FREE,
    WMARK_MIN,
)
from capplan.mm.watermark import zone_watermark_ok

__all__ = ["next_free", "pageblock_frames"]


@rare
def pageblock_frames(k: Any) -> int:
    return 1 << (PAGEBLOCK_ORDER - k.g)  # type: ignore[no-any-return]


@rare
def _may_isolate(k: Any, z: int) -> bool:
    """Whether a granule may be taken: MIN without its boost is left (__isolate_free_page())."""
    zone = k.zone[z]
    mark = zone.wmark[WMARK_MIN] + k.granule_pages
    return zone_watermark_ok(k, z, 0, mark, 0, 0)


@rare
def _is_target(k: Any, fr: Any, cc: Any, first: int) -> bool:
    """Whether pages may be moved to this pageblock (suitable_migration_target())."""
    order = cc.order if cc.order > 0 else PAGEBLOCK_ORDER
    f = fr[first]
    if f.flags & PG_FREE and f.order >= order:
        return False
    return f.migratetype == MT_MOVABLE and (cc.ignore_skip or not f.skip)


@rare
def _highest_free(k: Any, fr: Any, zone: Any, below: int) -> int:
    """Start of the highest pageblock below a frame number that may be a target, -1: there is none.

    This spares the free scanner the pages of full pageblocks; it counts them all the same.
    Where free blocks are many it would cost more than it spares: the last frame, then.
    """
    blocks = 0
    for order in range(k.g, PAGEBLOCK_ORDER):
        blocks += zone.nr_free[order, MT_MOVABLE]
    if blocks << 6 > zone.nr_frames:
        return zone.nr_frames - 1  # type: ignore[no-any-return]
    highest = -1
    for order in range(k.g, PAGEBLOCK_ORDER):
        i = zone.head[order, MT_MOVABLE]
        while i >= 0:
            at = i - zone.first_frame
            if at < below:
                highest = max(highest, at)
            i = fr[i].next
    return highest


@rare
def _scan_free_pageblock(k: Any, fr: Any, cc: Any, end: int) -> int:
    """The next free granule up to `end`, taken; -1 when there is none, -2 below the mark.

    Kernel
    ------
    mm/compaction.c, isolate_freepages_block(): a free block is taken as a whole, between two of
    them ``stride`` pages are passed over at a time.
    """
    zone = k.zone[cc.zone]
    step = max(cc.stride >> k.g, 1)
    looks = max(k.granule_pages // cc.stride, 1)
    while cc.free_at < end:
        i = zone.first_frame + cc.free_at
        if fr[i].flags & PG_FREE:
            if not _may_isolate(k, cc.zone):
                return -2
            if cc.free_at >= cc.free_block_end:
                cc.free_block_end = cc.free_at + (1 << (fr[i].order - k.g))
            isolate_free_granule(k, fr, cc.zone, i)
            cc.free_scanned += k.granule_pages
            cc.free_wanted -= 1
            cc.free_found = 1
            cc.free_at += 1
            if cc.free_at >= cc.free_block_end and cc.free_wanted > 0:
                cc.free_at += step - 1
            return i  # type: ignore[no-any-return]
        cc.free_scanned += looks
        cc.free_at += step
    cc.free_at = end
    return -1


@rare
def next_free(k: Any, fr: Any, cc: Any) -> int:
    """Take the next free granule of the free scanner, or -1 (isolate_freepages()).

    A pageblock without free pages doubles the stride, to 32 pages at most: where every second
    page is free, the others are all that it sees then. Each call of the kernel's begins anew.
    """
    zone = k.zone[cc.zone]
    size = pageblock_frames(k)
    low = cc.migrate // size * size + size
    highest = zone.nr_frames  # where free blocks may be; found when a pageblock had none
    if cc.free_wanted <= 0 and cc.free_at >= cc.free_block_end:
        cc.free_wanted = cc.nr_isolated
        cc.stride = 1 if cc.sync else COMPACT_CLUSTER_MAX
        cc.free_found = 0
    while cc.free >= low:
        end = min(cc.free + size, zone.nr_frames)
        if cc.free_at < end and _is_target(k, fr, cc, zone.first_frame + cc.free):
            if cc.free > highest and cc.free_at == cc.free:  # each of its pages is in use
                cc.free_scanned += ((end - cc.free) << k.g) // cc.stride
                cc.free_at = end
            i = _scan_free_pageblock(k, fr, cc, end)
            if i >= 0:
                return i
            if i == -2:
                return -1
            fr[zone.first_frame + cc.free].skip = 1
            zone.compact_cached_free = min(zone.compact_cached_free, max(cc.free - size, 1))
            cc.stride = 1 if cc.free_found else min(cc.stride << 1, COMPACT_CLUSTER_MAX)
        if highest == zone.nr_frames:
            highest = _highest_free(k, fr, zone, cc.free)
        cc.free -= size
        cc.free_at = cc.free
        cc.free_block_end = cc.free_found = 0
    return -1
