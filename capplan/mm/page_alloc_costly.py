"""Blocks of order 9: the fast path, direct compaction, reclaim for it (mm/page_alloc.c).

    LOW -> (wake kswapd) -> MIN -> compact, asynchronous
    then reclaim twice the request unless compaction could go on as it is -> compact, synchronous

Costly orders never kill anybody: who asks has something else to do (small pages, a smaller pool).
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import jit
from capplan.mm.compaction import (
    COMPACT_COMPLETE,
    COMPACT_DEFERRED,
    COMPACT_PARTIAL_SKIPPED,
    COMPACT_SKIPPED,
    COMPACT_SUCCESS,
    compact_zone,
    compaction_defer_reset,
    compaction_deferred,
    compaction_suitable,
    defer_compaction,
)
from capplan.mm.cpuset import node_allowed
from capplan.mm.kswapd import wake_all_kswapds
from capplan.mm.page_alloc import alloc_huge_page, zonelist_zone
from capplan.mm.pcp import drain_all_pages
from capplan.mm.reclaim import try_to_free_pages_order, zone_reclaimable_pages
from capplan.mm.state import (
    MAX_RECLAIM_RETRIES,
    PAGEBLOCK_ORDER,
    VM_COMPACT_FAIL,
    VM_COMPACT_STALL,
    VM_COMPACT_SUCCESS,
    WMARK_HIGH,
    WMARK_LOW,
    WMARK_MIN,
    ZONES_PER_NODE,
)
from capplan.mm.watermark import zone_watermark_ok, zone_watermark_ok_free

__all__ = ["alloc_costly", "try_to_compact_pages"]

HZ_MOVABLE = 3
ORDER = PAGEBLOCK_ORDER
COMPACT_GAP = 2 << PAGEBLOCK_ORDER  # compact_gap()
MAX_COMPACT_RETRIES = 16 // 4  # should_compact_retry(): a quarter for costly orders


@jit
def _zone_of(k: Any, node: int, this_node: int, step: int) -> int:
    """Zone number `step` of the zonelist, or -1 when it is not to be used or there is none."""
    if this_node and step >= ZONES_PER_NODE:
        return -1
    z = zonelist_zone(k, node, step)
    if k.zone[z].managed == 0 or not node_allowed(k, z // ZONES_PER_NODE):
        return -1
    return z  # type: ignore[no-any-return]


@jit
def try_to_compact_pages(k: Any, fr: Any, pt: Any, node: int, this_node: int, sync: int) -> int:
    """Compact the zones of a zonelist until one has a block of order 9: the best COMPACT_*.

    Kernel
    ------
    mm/compaction.c, try_to_compact_pages(), compact_zone_order().
    """
    best = COMPACT_SKIPPED
    for step in range(k.nr_zones):
        z = _zone_of(k, node, this_node, step)
        if z < 0:
            continue
        if compaction_deferred(k, z, ORDER):
            best = max(best, COMPACT_DEFERRED)
            continue
        cc = k.cc
        cc.zone = z
        cc.order = ORDER
        cc.sync = sync
        cc.direct = 1
        cc.whole_zone = 0
        cc.ignore_skip = 0
        status = compact_zone(k, fr, pt, cc, HZ_MOVABLE)
        best = max(best, status)
        if status == COMPACT_SUCCESS:
            compaction_defer_reset(k, z, ORDER, False)
            break
        if sync and (status == COMPACT_COMPLETE or status == COMPACT_PARTIAL_SKIPPED):
            defer_compaction(k, z, ORDER)
    return best


@jit
def _direct_compact(
    k: Any, fr: Any, pt: Any, node: int, this_node: int, sync: int
) -> tuple[int, int]:
    """A block after compaction, or -1, and the result (__alloc_pages_direct_compact())."""
    begin = k.work_ns
    result = try_to_compact_pages(k, fr, pt, node, this_node, sync)
    k.memstall_ns += k.work_ns - begin
    if result == COMPACT_SKIPPED:
        return -1, result
    k.vmstat[VM_COMPACT_STALL] += 1
    first = alloc_huge_page(k, fr, node, this_node, WMARK_MIN)
    if first < 0:
        k.vmstat[VM_COMPACT_FAIL] += 1
        return -1, result
    z = fr[first].zone
    k.zone[z].compact_blockskip_flush = 0
    compaction_defer_reset(k, z, ORDER, True)
    k.vmstat[VM_COMPACT_SUCCESS] += 1
    return first, result


@jit
def _compaction_ready(k: Any, node: int, this_node: int) -> bool:
    """Whether no zone has to be reclaimed before it is compacted (mm/vmscan.c)."""
    for step in range(k.nr_zones):
        z = _zone_of(k, node, this_node, step)
        if z < 0 or k.zone[z].counters_only:
            continue
        zone = k.zone[z]
        if zone_watermark_ok(k, z, ORDER, zone.wmark[WMARK_MIN] + zone.boost, HZ_MOVABLE, 0):
            continue
        mark = zone.wmark[WMARK_HIGH] + zone.boost + COMPACT_GAP
        suitable = compaction_suitable(k, z, ORDER, HZ_MOVABLE)
        if not suitable or not zone_watermark_ok(k, z, 0, mark, HZ_MOVABLE, 0):
            return False
    return True


@jit
def _direct_reclaim(k: Any, fr: Any, pt: Any, node: int, this_node: int) -> tuple[int, int]:
    """A block after reclaim, or -1, and the progress made (__alloc_pages_direct_reclaim()).

    Reclaim aims at compact_gap(), which should_continue_reclaim() goes on to.
    """
    progress = 1
    if not _compaction_ready(k, node, this_node):
        progress = try_to_free_pages_order(k, fr, pt, COMPACT_GAP, ORDER)
    if progress == 0:
        return -1, 0
    first = alloc_huge_page(k, fr, node, this_node, WMARK_MIN)
    if first < 0:
        drain_all_pages(k, fr)
        first = alloc_huge_page(k, fr, node, this_node, WMARK_MIN)
    return first, progress


@jit
def _should_retry(
    k: Any, node: int, this_node: int, progress: int, result: int, tries: int
) -> bool:
    """Whether another round may help (should_reclaim_retry(), should_compact_retry()).

    Kernel: for costly orders every round counts against MAX_RECLAIM_RETRIES; compaction that was
    skipped for want of free pages is worth another as long as a zone could reach them.
    """
    for step in range(k.nr_zones):
        z = _zone_of(k, node, this_node, step)
        if z < 0:
            continue
        zone = k.zone[z]
        free = zone_reclaimable_pages(k, z) + zone.free
        mark = zone.wmark[WMARK_MIN] + zone.boost
        if tries <= MAX_RECLAIM_RETRIES and zone_watermark_ok_free(
            k, z, ORDER, mark, HZ_MOVABLE, 0, free
        ):
            return True
        mark = zone.wmark[WMARK_LOW] + zone.boost + COMPACT_GAP
        free = zone_reclaimable_pages(k, z) // ORDER + zone.free
        skipped = progress > 0 and result == COMPACT_SKIPPED and not zone.counters_only
        if skipped and zone_watermark_ok_free(k, z, 0, mark, HZ_MOVABLE, 0, free):
            return True
    return progress > 0 and result == COMPACT_SUCCESS and tries <= MAX_COMPACT_RETRIES


@jit
def alloc_costly(
    k: Any, fr: Any, pt: Any, node: int, this_node: int, kswapd: int, hard: int
) -> int:
    """The first frame of a block of order 9, or -1.

    Parameters
    ----------
    node, this_node : int
        Where the zonelist begins; 1: no other node (__GFP_THISNODE).
    kswapd : int
        1: kswapd is woken (__GFP_KSWAPD_RECLAIM).
    hard : int
        0: only compact, asynchronously (__GFP_NORETRY on this node); 1: reclaim and compact
        once; 2: go on while there is progress (__GFP_RETRY_MAYFAIL).

    Kernel
    ------
    mm/page_alloc.c, __alloc_pages_slowpath() of a costly order.
    """
    first = alloc_huge_page(k, fr, node, this_node, WMARK_LOW)
    if first >= 0:
        return first  # type: ignore[no-any-return]
    if kswapd:
        wake_all_kswapds(k, ORDER)
    first = alloc_huge_page(k, fr, node, this_node, WMARK_MIN)
    if first >= 0:
        return first  # type: ignore[no-any-return]
    first, result = _direct_compact(k, fr, pt, node, this_node, 0)
    if first >= 0 or hard == 0:
        return first
    tries = 1
    while True:
        first, progress = _direct_reclaim(k, fr, pt, node, this_node)
        if first >= 0:
            return first
        first, result = _direct_compact(k, fr, pt, node, this_node, 1)
        if first >= 0 or hard < 2:
            return first
        if not _should_retry(k, node, this_node, progress, result, tries):
            return -1
        tries += 1
