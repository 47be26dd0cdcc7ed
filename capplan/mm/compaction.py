"""Compaction: movable pages go to the end of a zone, so that blocks come free (mm/compaction.c).

    migrate scanner  from the bottom, pageblock by pageblock: pages on the LRU lists
    free scanner     from the top: free blocks below the order wanted
    finished         a block of the order is free; or the scanners met

Direct compaction is asynchronous first: a pageblock with a page that cannot move is left at
once. Failure defers the zone, for twice as many attempts each time, 64 at most.

Departs from the kernel: pages move by whole granules, so that what is scattered below a granule
stays where it is; zones that are counted only are not compacted. Free pages are found by the
linear scan alone (no fast_isolate_freepages()). When skip hints are reset, all are.
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import rare
from capplan.mm.buddy import pageblock_migratetype
from capplan.mm.compaction_free import next_free, pageblock_frames
from capplan.mm.migrate import is_movable, migrate_folio
from capplan.mm.pcp import drain_local_pages
from capplan.mm.state import (
    COMPACT_CLUSTER_MAX,
    MT_MOVABLE,
    PAGE_ALLOC_COSTLY_ORDER,
    PAGEBLOCK_ORDER,
    PG_FREE,
    VM_COMPACT_FREE_SCANNED,
    VM_COMPACT_MIGRATE_SCANNED,
    WMARK_LOW,
    WMARK_MIN,
)
from capplan.mm.vmstat import (
    extfrag_for_order,
    fragmentation_index,
    fragmentation_score_wmark,
    order_available,
)
from capplan.mm.watermark import zone_watermark_ok

__all__ = [
    "COMPACT_COMPLETE",
    "COMPACT_CONTENDED",
    "COMPACT_CONTINUE",
    "COMPACT_DEFERRED",
    "COMPACT_MAX_DEFER_SHIFT",
    "COMPACT_PARTIAL_SKIPPED",
    "COMPACT_SKIPPED",
    "COMPACT_SUCCESS",
    "compact_zone",
    "compact_zone_begin",
    "compact_zone_end",
    "compact_zone_some",
    "compaction_defer_reset",
    "compaction_deferred",
    "compaction_suit_allocation_order",
    "compaction_suitable",
    "defer_compaction",
    "reset_isolation_suitable",
]

# include/linux/compaction.h, enum compact_result
(COMPACT_SKIPPED, COMPACT_DEFERRED, COMPACT_NO_SUITABLE_PAGE, COMPACT_CONTINUE, COMPACT_COMPLETE,
 COMPACT_PARTIAL_SKIPPED, COMPACT_CONTENDED, COMPACT_SUCCESS) = range(1, 9)  # fmt: skip
COMPACT_MAX_DEFER_SHIFT = 6


# --- is it worth while? ---------------------------------------------------------------------


@rare
def defer_compaction(k: Any, z: int, order: int) -> None:
    """Compaction of zone `z` for `order` failed: it is skipped for twice as many attempts."""
    zone = k.zone[z]
    zone.compact_considered = 0
    zone.compact_defer_shift = min(zone.compact_defer_shift + 1, COMPACT_MAX_DEFER_SHIFT)
    zone.compact_order_failed = min(zone.compact_order_failed, order)


@rare
def compaction_deferred(k: Any, z: int, order: int) -> bool:
    """Whether to skip zone `z` this time, which counts as an attempt.

    Worked example
    --------------
    After two failures (shift 2): the first three attempts are skipped, the fourth is made.
    """
    zone = k.zone[z]
    limit = 1 << int(zone.compact_defer_shift)
    if order < zone.compact_order_failed:
        return False
    zone.compact_considered += 1
    if zone.compact_considered >= limit:
        zone.compact_considered = limit
        return False
    return True


@rare
def compaction_defer_reset(k: Any, z: int, order: int, alloc_success: bool) -> None:
    """Compaction of zone `z` made a block, or is thought to have."""
    zone = k.zone[z]
    if alloc_success:
        zone.compact_considered = 0
        zone.compact_defer_shift = 0
    zone.compact_order_failed = max(zone.compact_order_failed, order + 1)


@rare
def compaction_suitable(k: Any, z: int, order: int, hz: int) -> bool:
    """Whether zone `z` has the free pages to move others to, and lacks only large blocks.

    Kernel
    ------
    mm/compaction.c, compaction_suitable(); compact_gap() is twice the request.

    Worked example
    --------------
    Order 9, LOW 517: free pages must exceed 517 + 1024, and the fragmentation index must not
    lie in 0..500 (vm.extfrag_threshold).
    """
    zone = k.zone[z]
    costly = order > PAGE_ALLOC_COSTLY_ORDER
    mark = zone.wmark[WMARK_LOW if costly else WMARK_MIN] + zone.boost + (2 << order)
    if zone.counters_only or not zone_watermark_ok(k, z, 0, mark, hz, 0):
        return False
    if not costly:
        return True
    index = fragmentation_index(k, z, order)
    return index < 0 or index > k.extfrag_threshold


@rare
def compaction_suit_allocation_order(k: Any, z: int, order: int, hz: int, wmark: int) -> int:
    """SUCCESS: there is a block already; SKIPPED: compaction would not help; or CONTINUE."""
    zone = k.zone[z]
    if zone_watermark_ok(k, z, order, zone.wmark[wmark] + zone.boost, hz, 0):
        return COMPACT_SUCCESS
    return COMPACT_CONTINUE if compaction_suitable(k, z, order, hz) else COMPACT_SKIPPED


# --- where the scanners go on ---------------------------------------------------------------


@rare
def _last_pageblock(k: Any, zone: Any) -> int:
    """Where the free scanner begins: the zone's last pageblock, a frame number within it."""
    size = pageblock_frames(k)
    return (zone.nr_frames - 1) // size * size  # type: ignore[no-any-return]


@rare
def _reset_cached_positions(k: Any, zone: Any) -> None:
    zone.compact_cached_migrate[0] = 0
    zone.compact_cached_migrate[1] = 0
    zone.compact_cached_free = _last_pageblock(k, zone)


@rare
def reset_isolation_suitable(k: Any, fr: Any, z: int) -> None:
    """Forget which pageblocks were fruitless, if a direct compaction went all the way since."""
    zone = k.zone[z]
    if not zone.compact_blockskip_flush:
        return
    zone.compact_blockskip_flush = 0
    for block in range(0, zone.nr_frames, pageblock_frames(k)):
        fr[zone.first_frame + block].skip = 0
    _reset_cached_positions(k, zone)


@rare
def _update_cached_migrate(zone: Any, cc: Any, end: int) -> None:
    zone.compact_cached_migrate[0] = max(zone.compact_cached_migrate[0], end)
    if cc.sync:
        zone.compact_cached_migrate[1] = max(zone.compact_cached_migrate[1], end)


@rare
def _is_huge(k: Any, fr: Any, first: int) -> bool:
    """Whether the pageblock is one huge page that is still whole (pageblock_skip_persistent())."""
    f = fr[first]
    if f.order != PAGEBLOCK_ORDER or f.flags & PG_FREE:
        return False
    for i in range(first, first + pageblock_frames(k)):
        if fr[i].flags & PG_FREE or fr[i].mapping != f.mapping:
            return False
    return True


# --- the migrate scanner --------------------------------------------------------------------


@rare
def _scanners_met(k: Any, cc: Any) -> bool:
    size = pageblock_frames(k)
    return cc.free // size <= cc.migrate // size  # type: ignore[no-any-return]


@rare
def _fast_find_migrateblock(k: Any, fr: Any, cc: Any) -> int:
    """A pageblock near the bottom with large free blocks: fewer pages have to move.

    Looks through free lists below the order wanted, a few blocks of each; where that fails the
    linear scan goes on from the lowest pageblock found so far.
    """
    zone = k.zone[cc.zone]
    size = pageblock_frames(k)
    if cc.ignore_skip or cc.migrate % size or cc.order <= PAGE_ALLOC_COSTLY_ORDER:
        return cc.migrate  # type: ignore[no-any-return]
    distance = (cc.free - cc.migrate) >> (3 if cc.migrate > 0 else 1)
    high = (cc.migrate + distance) // size * size
    limit = (COMPACT_CLUSTER_MAX >> min(cc.fast_search_fail, 31)) + 1
    scanned = 0
    for order in range(cc.order - 1, max(PAGE_ALLOC_COSTLY_ORDER, k.g) - 1, -1):
        i = zone.head[order, MT_MOVABLE]
        while i >= 0 and scanned < limit:
            scanned += 1
            block = (i - zone.first_frame) // size * size
            if i - zone.first_frame < high and not fr[zone.first_frame + block].skip:
                cc.migrate_scanned += scanned
                cc.fast_search_fail = 0
                if cc.fast_start >= 0:
                    cc.fast_start = min(cc.fast_start, block) if cc.fast_start > 0 else block
                return block  # type: ignore[no-any-return]
            i = fr[i].next
    cc.migrate_scanned += scanned
    cc.fast_search_fail += 1
    if cc.fast_start > 0:
        cc.migrate = cc.fast_start
        cc.fast_start = -1
    return cc.migrate  # type: ignore[no-any-return]


@rare
def _move_isolated(k: Any, fr: Any, pt: Any, cc: Any) -> bool:
    """Move the isolated pages; False when there is nowhere to move them to."""
    for n in range(cc.nr_isolated):
        j = next_free(k, fr, cc)
        if j < 0:
            cc.nr_isolated = 0
            return False
        migrate_folio(k, fr, pt, cc.isolated[n], j)
        cc.migrated += k.granule_pages
    cc.nr_isolated = 0
    return True


@rare
def _compact_pageblock(k: Any, fr: Any, pt: Any, cc: Any, block: int) -> bool:
    """Move what can be moved out of a pageblock, 32 pages and then the rest; False: no free pages.

    Kernel
    ------
    mm/compaction.c, isolate_migratepages_block(); the second time in the same pageblock it isolates
    all that is left (``rescan``, ``finish_pageblock``). Asynchronous and direct: at the first page
    that cannot be isolated the pageblock is left, what was isolated stays. A pageblock of which
    nothing was moved is one to skip: the fast search would find it again for ever.
    """
    zone = k.zone[cc.zone]
    leave = cc.direct and not cc.sync
    most = max(COMPACT_CLUSTER_MAX >> k.g, 1)
    at, end = block, min(block + pageblock_frames(k), zone.nr_frames)
    found = False
    moved = cc.migrated
    cc.migrate = block
    cc.nr_isolated = 0
    while at < end:
        i = zone.first_frame + at
        if fr[i].flags & PG_FREE:
            cc.migrate_scanned += 1
            at += 1 << (fr[i].order - k.g)
            continue
        cc.migrate_scanned += k.granule_pages
        if is_movable(k, fr, i):
            found = True
            cc.isolated[cc.nr_isolated] = i
            cc.nr_isolated += 1
            if cc.nr_isolated == most:
                most = pageblock_frames(k)
                if not _move_isolated(k, fr, pt, cc):
                    return False
        elif leave:
            found = cc.migrated > moved
            cc.nr_isolated = 0
            at |= (1 << max(cc.order - k.g, 0)) - 1  # to the end of its block of the order
        at += 1
    if not _move_isolated(k, fr, pt, cc):
        return False
    cc.migrate = end
    if found and cc.order > 0:  # what was freed has to merge before a block can be seen
        drain_local_pages(k, fr, cc.zone)
    if not found:
        fr[zone.first_frame + block].skip = 1
        _update_cached_migrate(zone, cc, end)
    return True


@rare
def _isolate_migratepages(k: Any, fr: Any, pt: Any, cc: Any) -> bool:
    """Empty the next pageblock that is worth it; False when compaction has to stop."""
    zone = k.zone[cc.zone]
    size = pageblock_frames(k)
    block = _fast_find_migrateblock(k, fr, cc) // size * size
    fast = block != cc.migrate
    while block + size <= cc.free:
        first = zone.first_frame + block
        if fast or cc.ignore_skip or not fr[first].skip:
            asynchronous = cc.direct and not cc.sync
            movable = pageblock_migratetype(k, fr, cc.zone, first) == MT_MOVABLE
            if not _is_huge(k, fr, first) and (movable or not asynchronous):
                return _compact_pageblock(k, fr, pt, cc, block)
            _update_cached_migrate(zone, cc, block + size)
        fast = False
        block += size
        cc.migrate = block
    return True


# --- one zone -------------------------------------------------------------------------------


@rare
def _compact_finished(k: Any, cc: Any) -> int:
    zone = k.zone[cc.zone]
    if _scanners_met(k, cc):
        _reset_cached_positions(k, zone)
        if cc.direct:
            zone.compact_blockskip_flush = 1
        return COMPACT_COMPLETE if cc.whole_zone else COMPACT_PARTIAL_SKIPPED
    if cc.order < 0:
        if k.node[cc.zone >> 2].kswapd_awake == 1:
            return COMPACT_PARTIAL_SKIPPED
        score = extfrag_for_order(k, cc.zone, PAGEBLOCK_ORDER)
        return COMPACT_CONTINUE if score > fragmentation_score_wmark(k, True) else COMPACT_SUCCESS
    return COMPACT_SUCCESS if order_available(k, cc.zone, cc.order) else COMPACT_CONTINUE


@rare
def compact_zone_begin(k: Any, fr: Any, cc: Any, hz: int) -> int:
    """Set the scanners of `cc` (zone, order, mode are set): CONTINUE, or why there is no need."""
    zone = k.zone[cc.zone]
    cc.migrate_scanned = cc.free_scanned = cc.migrated = 0
    cc.nr_isolated = cc.fast_search_fail = cc.free_wanted = cc.free_block_end = 0
    cc.fast_start = 0
    if zone.counters_only or zone.nr_frames == 0:
        return COMPACT_SKIPPED
    if cc.order >= 0:
        suits = compaction_suit_allocation_order(k, cc.zone, cc.order, hz, WMARK_MIN)
        if suits != COMPACT_CONTINUE:
            return suits
        restarting = zone.compact_considered >= 1 << COMPACT_MAX_DEFER_SHIFT
        if restarting and zone.compact_defer_shift == COMPACT_MAX_DEFER_SHIFT:
            reset_isolation_suitable(k, fr, cc.zone)
    if zone.compact_cached_free <= 0:
        zone.compact_cached_free = _last_pageblock(k, zone)
    if cc.whole_zone:
        cc.migrate = 0
        cc.free = _last_pageblock(k, zone)
    else:
        size = pageblock_frames(k)
        cc.migrate = zone.compact_cached_migrate[1 if cc.sync else 0]
        cc.free = zone.compact_cached_free // size * size
        cc.whole_zone = 1 if cc.migrate == 0 else 0
    cc.free_at = cc.free
    return COMPACT_CONTINUE


@rare
def compact_zone_some(k: Any, fr: Any, pt: Any, cc: Any, until_ns: float) -> int:
    """Compact until it is finished or the actor has worked `until_ns`; COMPACT_*."""
    status = _compact_finished(k, cc)
    while status == COMPACT_CONTINUE and k.work_ns < until_ns:
        before = cc.migrate_scanned + cc.free_scanned
        going = _isolate_migratepages(k, fr, pt, cc)
        k.work_ns += (cc.migrate_scanned + cc.free_scanned - before) * k.cost.touch_ns
        if not going and not _scanners_met(k, cc):
            return COMPACT_CONTENDED
        status = _compact_finished(k, cc)
    return status


@rare
def compact_zone_end(k: Any, cc: Any) -> None:
    """Count what the scanners did."""
    k.vmstat[VM_COMPACT_MIGRATE_SCANNED] += cc.migrate_scanned
    k.vmstat[VM_COMPACT_FREE_SCANNED] += cc.free_scanned


@rare
def compact_zone(k: Any, fr: Any, pt: Any, cc: Any, hz: int) -> int:
    """Compact zone ``cc.zone`` until a block of ``cc.order`` is free: COMPACT_*.

    Parameters
    ----------
    k : kernel_t
    fr : (F,) frame_t
    pt : (E,) entry_t
    cc : compact_control_t
        Zone, order, mode; see :func:`compact_zone_begin`.
    hz : int
        Highest zone type of the request: its lowmem reserve counts.

    Kernel
    ------
    mm/compaction.c, compact_zone().

    Worked example
    --------------
    Two pageblocks, the lower with its even pages in use, the upper free but for its odd pages:
    256 pages move, and the lower is a free block of order 9.
    """
    status = compact_zone_begin(k, fr, cc, hz)
    if status != COMPACT_CONTINUE:
        return status
    status = compact_zone_some(k, fr, pt, cc, 1e18)
    compact_zone_end(k, cc)
    return status
