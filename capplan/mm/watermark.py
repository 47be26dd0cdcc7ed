"""Watermarks: how they are set, and the test that every allocation passes.

Algorithm::

    min_free_kbytes = isqrt(lowmem_kb * 16), clamped; khugepaged may raise it
    min = pages_min * managed // lowmem;  gap = max(min // 4, managed * scale_factor // 10000)
    low = min + gap;  high = low + gap;  promo = high + gap
    ok  = free - unusable > mark - discount + reserve[hz], and for order > 0 a block exists

Setting up is plain Python (at boot and at a sysctl write); only what an allocation runs is
compiled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from capplan.mm._jit import jit
from capplan.mm.state import (
    MAX_PAGE_ORDER,
    MT_HIGHATOMIC,
    MT_MOVABLE,
    MT_RECLAIMABLE,
    MT_UNMOVABLE,
    PAGEBLOCK_ORDER,
    WMARK_HIGH,
    WMARK_LOW,
    WMARK_MIN,
    WMARK_PROMO,
    ZONE_MOVABLE,
    ZONE_NORMAL,
    ZONES_PER_NODE,
)

__all__ = [
    "ALLOC_HIGHATOMIC",
    "ALLOC_MIN_RESERVE",
    "ALLOC_NOFRAGMENT",
    "ALLOC_NON_BLOCK",
    "ALLOC_NO_WATERMARKS",
    "ALLOC_OOM",
    "NodeThresholds",
    "boost_watermark",
    "calculate_min_free_kbytes",
    "calculate_totalreserve_pages",
    "init_per_zone_wmark_min",
    "node_thresholds",
    "nr_free_buffer_pages",
    "set_recommended_min_free_kbytes",
    "set_zone_wmarks",
    "setup_per_zone_wmarks",
    "si_mem_available",
    "wmark_pages",
    "write_min_free_kbytes",
    "zone_marks",
    "zone_watermark_fast",
    "zone_watermark_ok",
    "zone_watermark_ok_free",
]

# mm/internal.h (names of 6.3 and later; earlier ones were HIGH, HARDER and OOM).
ALLOC_NON_BLOCK = 1
ALLOC_MIN_RESERVE = 2
ALLOC_HIGHATOMIC = 4
ALLOC_OOM = 8
ALLOC_NO_WATERMARKS = 16
ALLOC_NOFRAGMENT = 256
_RESERVES = ALLOC_NON_BLOCK | ALLOC_MIN_RESERVE | ALLOC_HIGHATOMIC | ALLOC_OOM

PAGEBLOCK_PAGES = 1 << PAGEBLOCK_ORDER
# mm/page_alloc.c, calculate_min_free_kbytes(): 128 KiB up to 256 MiB (64 MiB before 5.8).
MIN_FREE_KBYTES_FLOOR = 128
MIN_FREE_KBYTES_CEILING = 262144
# mm/khugepaged.c: no transparent huge pages below 512 MiB; MIGRATE_PCPTYPES is 3; the raise
# is at most 5 % of lowmem.
THP_MIN_PAGES = 512 << 8
MIGRATE_PCPTYPES = 3
RECOMMENDED_SHARE = 20
# __setup_per_zone_wmarks(): bounds of the min mark of Movable (SWAP_CLUSTER_MAX and 128).
MOVABLE_MIN_PAGES, MOVABLE_MAX_PAGES = 32, 128


def _zones(k: Any) -> range:
    return range(int(k.nr_nodes) * ZONES_PER_NODE)


def nr_free_buffer_pages(k: Any) -> int:
    """Pages beyond the high marks in zones up to Normal, all nodes.

    Kernel
    ------
    mm/page_alloc.c, nr_free_zone_pages(); the high marks are 0 at the first call at boot.
    """
    return sum(
        max(0, int(k.zone[z].managed) - int(k.zone[z].wmark[WMARK_HIGH]))
        for z in _zones(k)
        if z % ZONES_PER_NODE <= ZONE_NORMAL
    )


def calculate_min_free_kbytes(k: Any, ceiling: int = MIN_FREE_KBYTES_CEILING) -> int:
    """vm.min_free_kbytes from the size of lowmem [KiB].

    Parameters
    ----------
    k : kernel_t
        Read: ``zone[].managed``, ``zone[].wmark``, ``user_min_free_kbytes``. Written:
        ``min_free_kbytes``, unless the user's value is as large.
    ceiling : int, default 262144
        Upper clamp; 65536 before 5.8. [KiB]

    Kernel
    ------
    mm/page_alloc.c, calculate_min_free_kbytes().

    Worked example
    --------------
    Managed 3840 + 765952 + 3311616 pages: isqrt(16325632 * 16) = 16161.
    """
    value = math.isqrt(nr_free_buffer_pages(k) * 4 * 16)
    if value > int(k.user_min_free_kbytes):
        k.min_free_kbytes = min(max(value, MIN_FREE_KBYTES_FLOOR), ceiling)
    return int(k.min_free_kbytes)


def set_recommended_min_free_kbytes(k: Any) -> int:
    """Apply khugepaged's raise of vm.min_free_kbytes; returns the value in force [KiB].

    Kernel
    ------
    mm/khugepaged.c, set_recommended_min_free_kbytes(). It raises even over a smaller value
    of the user.

    Worked example
    --------------
    Three populated zones of 16 GiB: 512 * 3 * (2 + 9) = 16896 pages, 67584 KiB.
    """
    zones = sum(1 for z in _zones(k) if z % ZONES_PER_NODE <= ZONE_NORMAL and k.zone[z].present > 0)
    pages = PAGEBLOCK_PAGES * zones * (2 + MIGRATE_PCPTYPES * MIGRATE_PCPTYPES)
    pages = min(pages, nr_free_buffer_pages(k) // RECOMMENDED_SHARE)
    if pages * 4 > int(k.min_free_kbytes):
        k.min_free_kbytes = pages * 4
        setup_per_zone_wmarks(k)
    return int(k.min_free_kbytes)


def zone_marks(managed: int, share: int, scale_factor: int) -> tuple[int, int, int, int]:
    """Min, low, high and promo of one zone whose share of min_free_kbytes is `share` pages.

    Parameters
    ----------
    managed : int
        Pages the buddy allocator manages. [pages]
    share : int
        The zone's part of vm.min_free_kbytes; its min mark. [pages]
    scale_factor : int
        vm.watermark_scale_factor; 0: the rule before it existed (before 4.6). [1/10000]

    Kernel
    ------
    mm/page_alloc.c, __setup_per_zone_wmarks().

    Worked example
    --------------
    Managed 3311616, share 13709, factor 10: gap max(3427, 3311), so 13709, 17136, 20563, 23990.
    """
    if scale_factor == 0:
        low, high = share + (share >> 2), share + (share >> 1)
        return share, low, high, high
    gap = max(share >> 2, managed * scale_factor // 10000)
    return share, share + gap, share + 2 * gap, share + 3 * gap


def setup_per_zone_wmarks(k: Any) -> None:
    """Set the marks of all zones from vm.min_free_kbytes, and what follows from them.

    Parameters
    ----------
    k : kernel_t
        Read: ``min_free_kbytes``, ``watermark_scale_factor``, ``movable_excluded``,
        ``zone[].managed``. Written: ``zone[].wmark``, ``zone[].boost`` (to 0) and, by
        :func:`calculate_totalreserve_pages`, the reserves.

    Kernel
    ------
    mm/page_alloc.c, __setup_per_zone_wmarks(). ``movable_excluded``: Movable takes no part
    and has a min mark of its own, 32 even when empty (6.6).

    Worked example
    --------------
    16 GiB (managed 3840, 765952, 3311616), min_free_kbytes 67584: DMA 15, 18, 21;
    DMA32 3170, 3962, 4754; Normal 13709, 17136, 20563.
    """
    pages_min = int(k.min_free_kbytes) >> 2
    scale_factor = int(k.watermark_scale_factor)
    excluded = bool(k.movable_excluded)

    def special(z: int) -> bool:
        return excluded and z % ZONES_PER_NODE == ZONE_MOVABLE

    lowmem = sum(int(k.zone[z].managed) for z in _zones(k) if not special(z))
    for z in _zones(k):
        zone = k.zone[z]
        managed = int(zone.managed)
        share = pages_min * managed // lowmem if lowmem else 0
        marks = zone_marks(managed, share, scale_factor)
        if special(z):
            own = min(max(managed // 1024, MOVABLE_MIN_PAGES), MOVABLE_MAX_PAGES)
            marks = (own, *(own + mark - share for mark in marks[1:]))  # type: ignore[assignment]
        zone.wmark[:] = marks
        zone.boost = 0
    calculate_totalreserve_pages(k)


def set_zone_wmarks(k: Any, z: int, min_: int, low: int, high: int, boost: int = 0) -> None:
    """Set a zone's marks as captured from a real node [pages].

    The kernel computed them from the managed pages of its moment, which later frees change.
    """
    zone = k.zone[z]
    zone.wmark[WMARK_MIN] = min_
    zone.wmark[WMARK_LOW] = low
    zone.wmark[WMARK_HIGH] = high
    zone.wmark[WMARK_PROMO] = high + (high - low)
    zone.boost = boost


def calculate_totalreserve_pages(k: Any) -> int:
    """Pages nobody may count on: per zone the largest reserve plus the high mark [pages].

    Written to ``k.total_reserve`` and ``k.node[].totalreserve``.

    Kernel
    ------
    mm/page_alloc.c, calculate_totalreserve_pages().

    Worked example
    --------------
    16 GiB, min_free_kbytes 67584: 3840 + 17690 + 20563 = 42093.
    """
    for node in range(int(k.nr_nodes)):
        total = 0
        for t in range(ZONES_PER_NODE):
            zone = k.zone[node * ZONES_PER_NODE + t]
            reserve = max(int(pages) for pages in zone.reserve[t:])
            total += min(reserve + int(zone.wmark[WMARK_HIGH]), int(zone.managed))
        k.node[node].totalreserve = total
    k.total_reserve = sum(int(k.node[node].totalreserve) for node in range(int(k.nr_nodes)))
    return int(k.total_reserve)


def init_per_zone_wmark_min(k: Any, thp: bool, ceiling: int = MIN_FREE_KBYTES_CEILING) -> None:
    """What boot does: default min_free_kbytes, marks, and khugepaged's raise.

    The lowmem reserve must have been set up. Marks start at 0, as at boot.

    Parameters
    ----------
    k : kernel_t
        See :func:`setup_per_zone_wmarks`.
    thp : bool
        Transparent huge pages are on in any mode (`madvise` counts).
    ceiling : int, default 262144
        Upper clamp of the computed value. [KiB]

    Kernel
    ------
    mm/page_alloc.c, init_per_zone_wmark_min(); mm/huge_memory.c, hugepage_init().
    """
    for z in _zones(k):
        k.zone[z].wmark[:] = 0
    calculate_min_free_kbytes(k, ceiling)
    setup_per_zone_wmarks(k)
    if thp and sum(int(k.zone[z].managed) for z in _zones(k)) >= THP_MIN_PAGES:
        set_recommended_min_free_kbytes(k)


def write_min_free_kbytes(k: Any, value: int) -> None:
    """A write to the sysctl: it wins, and khugepaged does not raise it again [KiB].

    Kernel
    ------
    mm/page_alloc.c, min_free_kbytes_sysctl_handler().
    """
    k.min_free_kbytes = value
    k.user_min_free_kbytes = value
    setup_per_zone_wmarks(k)


def si_mem_available(k: Any, free: int, file: int, reclaimable: int) -> int:
    """MemAvailable [pages].

    Parameters
    ----------
    k : kernel_t
        Read: ``total_reserve`` and the low marks of all zones, empty ones as well.
    free : int
        Free pages of all zones. [pages]
    file : int
        Active and inactive file pages (shmem is not among them). [pages]
    reclaimable : int
        Reclaimable slab and other reclaimable kernel memory. [pages]

    Kernel
    ------
    mm/show_mem.c, si_mem_available().

    Worked example
    --------------
    Free 4761394, reserve 35668, file 931912, slab 71116, low marks 21148 together: 5686458.
    """
    low = sum(int(k.zone[z].wmark[WMARK_LOW]) + int(k.zone[z].boost) for z in _zones(k))
    available = free - int(k.total_reserve)
    available += file - min(file // 2, low)
    available += reclaimable - min(reclaimable // 2, low)
    return max(available, 0)


@dataclass(frozen=True)
class NodeThresholds:
    """Free pages of the whole node at which things begin or end [pages]."""

    wake_kswapd: int
    direct_reclaim: int
    kswapd_stops: tuple[tuple[int, int], ...]  # (zone, free above which kswapd may sleep)


def node_thresholds(k: Any, hz: int = ZONE_MOVABLE) -> NodeThresholds:
    """Free memory at which kswapd wakes and direct reclaim begins.

    The allocator tries every zone before it calls the node low, so the marks add up.

    Worked example
    --------------
    16 GiB, min_free_kbytes 67584: 3840 + 16898 + 17136 = 37874 and
    3840 + 16106 + 13709 = 33655.
    """
    low = least = 0
    stops = []
    for z in _zones(k):
        zone = k.zone[z]
        managed, reserve, boost = int(zone.managed), int(zone.reserve[hz]), int(zone.boost)
        if z % ZONES_PER_NODE > hz or managed == 0:
            continue
        low += min(managed, int(zone.wmark[WMARK_LOW]) + boost + reserve)
        least += min(managed, int(zone.wmark[WMARK_MIN]) + boost + reserve)
        stops.append((z, int(zone.wmark[WMARK_HIGH]) + boost + reserve))
    return NodeThresholds(low, least, tuple(stops))


@jit
def wmark_pages(k: Any, z: int, wmark: int) -> int:
    """Mark `wmark` of zone `z` with its boost (min_wmark_pages() and its sisters) [pages]."""
    return k.zone[z].wmark[wmark] + k.zone[z].boost  # type: ignore[no-any-return]


@jit
def zone_watermark_ok_free(
    k: Any, z: int, order: int, mark: int, hz: int, flags: int, free: int
) -> bool:
    """:func:`zone_watermark_ok` for a given number of free pages (__zone_watermark_ok())."""
    zone = k.zone[z]
    if flags & ALLOC_NO_WATERMARKS:
        return True
    free -= (1 << order) - 1
    if flags & _RESERVES == 0:
        free -= zone.nr_free_highatomic if k.highatomic_counts_free else zone.nr_reserved_highatomic
    least = mark
    if flags & ALLOC_MIN_RESERVE:
        least -= least // 2
        if flags & ALLOC_NON_BLOCK:
            least -= least // 4
    if flags & ALLOC_OOM:
        least -= least // 2
    if free <= least + zone.reserve[hz]:
        return False
    if order == 0:
        return True
    for o in range(order, MAX_PAGE_ORDER + 1):
        if (
            zone.nr_free[o, MT_UNMOVABLE] > 0
            or zone.nr_free[o, MT_MOVABLE] > 0
            or zone.nr_free[o, MT_RECLAIMABLE] > 0
        ):
            return True
        if flags & (ALLOC_HIGHATOMIC | ALLOC_OOM) and zone.nr_free[o, MT_HIGHATOMIC] > 0:
            return True
    return False


@jit
def zone_watermark_ok(k: Any, z: int, order: int, mark: int, hz: int, flags: int) -> bool:
    """Whether a request may take 2^order pages from zone `z` and leave `mark`.

    Parameters
    ----------
    k : kernel_t
    z, order : int
        Zone, and order of the request.
    mark : int
        The mark to leave, boost included (:func:`wmark_pages`). [pages]
    hz : int
        Highest zone type the request may use: its lowmem reserve is added.
    flags : int
        ALLOC_*: what the request may dip into.

    Kernel
    ------
    mm/page_alloc.c, __zone_watermark_ok(). The comparison is strict: free must exceed the sum.

    Worked example
    --------------
    Mark 16896: GFP_ATOMIC (MIN_RESERVE and NON_BLOCK) needs more than 6336, a real-time
    task or an OOM victim more than 8448.
    """
    return zone_watermark_ok_free(k, z, order, mark, hz, flags, k.zone[z].free)


@jit
def zone_watermark_fast(k: Any, z: int, order: int, wmark: int, hz: int, flags: int) -> bool:
    """The allocator's test: :func:`zone_watermark_ok` with mark number `wmark`.

    An atomic single page may ignore the boost of the min mark.

    Kernel
    ------
    mm/page_alloc.c, zone_watermark_fast().
    """
    zone = k.zone[z]
    mark = zone.wmark[wmark] + zone.boost
    if zone_watermark_ok_free(k, z, order, mark, hz, flags, zone.free):
        return True
    if order == 0 and wmark == WMARK_MIN and zone.boost > 0 and flags & ALLOC_MIN_RESERVE:
        return zone_watermark_ok_free(k, z, order, zone.wmark[WMARK_MIN], hz, flags, zone.free)
    return False


@jit
def boost_watermark(k: Any, z: int) -> bool:
    """Raise the marks of `z` by one pageblock after a fallback that mixes migratetypes.

    Returns whether it was raised (kswapd is then to be woken).

    Kernel
    ------
    mm/page_alloc.c, boost_watermark().

    Worked example
    --------------
    High mark 14360, factor 15000: the boost grows by 512 up to 21540.
    """
    zone = k.zone[z]
    if k.watermark_boost_factor == 0 or PAGEBLOCK_PAGES * 4 > zone.managed:
        return False
    most = zone.wmark[WMARK_HIGH] * k.watermark_boost_factor // 10000
    if most == 0:
        return False
    zone.boost = min(zone.boost + PAGEBLOCK_PAGES, max(most, PAGEBLOCK_PAGES))
    return True
