"""The pool of huge pages, vm.nr_hugepages (mm/hugetlb.c).

    more   a node after the other gives a block of order 9, compacting and reclaiming for it;
           the first time no node has one the pool stays as it is
    fewer  free huge pages go back to the zones, a node after the other

A huge page of the pool is nobody's until a process maps it, is not charged to memory.max, and
is never reclaimed or moved here: to the rest of the node it is memory that is gone.

Departs from the kernel: no process maps them (all are free), so any can be given back; no surplus
and no gigantic pages.
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import rare
from capplan.mm.buddy import alloc_block
from capplan.mm.captured import placing_zone
from capplan.mm.page_alloc import alloc_huge_page, zonelist_zone
from capplan.mm.page_alloc_costly import alloc_costly
from capplan.mm.pcp import pcp_free_huge
from capplan.mm.singles import give_counted_block, take_counted_block
from capplan.mm.state import (
    MT_MOVABLE,
    PAGEBLOCK_ORDER,
    PCP_CPUS,
    PG_KERNEL,
    VM_HTLB_BUDDY_ALLOC_FAIL,
    VM_HTLB_BUDDY_ALLOC_SUCCESS,
    WMARK_LOW,
    ZONES_PER_NODE,
)
from capplan.mm.watermark import zone_watermark_ok

__all__ = ["hugetlb_boot", "nr_huge_pages", "set_max_huge_pages"]

HZ_MOVABLE = 3
RETRY_MAYFAIL = 2


@rare
def nr_huge_pages(k: Any) -> int:
    """Huge pages in the pool (HugePages_Total)."""
    total = 0
    for z in range(k.nr_zones):
        total += k.zone[z].nr_hugetlb
    return total


@rare
def _add(k: Any, fr: Any, first: int) -> None:
    """A block becomes a huge page of its zone's part of the pool."""
    zone = k.zone[fr[first].zone]
    for i in range(first, first + (1 << (PAGEBLOCK_ORDER - k.g))):
        fr[i].flags = PG_KERNEL
        fr[i].mapping = -1
    fr[first].next = zone.hugetlb_head
    zone.hugetlb_head = first
    zone.nr_hugetlb += 1


@rare
def _from_counted_zone(k: Any, n: int) -> bool:
    """A block from a zone that is counted only (DMA), the last of the zonelist."""
    for step in range(ZONES_PER_NODE):
        z = zonelist_zone(k, n, step)
        zone = k.zone[z]
        mark = zone.wmark[WMARK_LOW] + zone.boost
        if not zone.counters_only or zone.managed == 0:
            continue
        if zone_watermark_ok(k, z, PAGEBLOCK_ORDER, mark, HZ_MOVABLE, 0):
            if take_counted_block(k, z, PAGEBLOCK_ORDER):
                zone.nr_hugetlb += 1
                return True
    return False


@rare
def _alloc_on(k: Any, fr: Any, pt: Any, n: int) -> bool:
    """A huge page of node `n` (alloc_buddy_hugetlb_folio()): its own zones, the smallest last."""
    first = alloc_huge_page(k, fr, n, 1, WMARK_LOW)
    if first < 0 and _from_counted_zone(k, n):
        return True
    if first < 0:
        first = alloc_costly(k, fr, pt, n, 1, 1, RETRY_MAYFAIL)
    if first < 0:
        return False
    _add(k, fr, first)
    return True


@rare
def _next_node(k: Any) -> int:
    """The node whose turn it is (hstate_next_node_to_alloc(), ..._to_free())."""
    n = k.hugetlb_next_nid
    k.hugetlb_next_nid = (n + 1) % k.nr_nodes
    return n  # type: ignore[no-any-return]


@rare
def _alloc_pool_huge_folio(k: Any, fr: Any, pt: Any) -> bool:
    for _ in range(k.nr_nodes):
        n = _next_node(k)
        if _alloc_on(k, fr, pt, n):
            k.vmstat[VM_HTLB_BUDDY_ALLOC_SUCCESS] += 1
            k.work_ns += k.cost.touch_ns * (1 << PAGEBLOCK_ORDER)  # prep_compound_page()
            return True
        k.vmstat[VM_HTLB_BUDDY_ALLOC_FAIL] += 1
    return False


@rare
def _free_on(k: Any, fr: Any, n: int) -> bool:
    """A huge page of node `n` goes back to its zone."""
    for z in range(n * ZONES_PER_NODE, (n + 1) * ZONES_PER_NODE):
        zone = k.zone[z]
        if zone.nr_hugetlb == 0:
            continue
        zone.nr_hugetlb -= 1
        if zone.counters_only:
            give_counted_block(k, z, PAGEBLOCK_ORDER)
        else:
            first = zone.hugetlb_head
            zone.hugetlb_head = fr[first].next
            for i in range(first, first + (1 << (PAGEBLOCK_ORDER - k.g))):
                fr[i].flags = 0
            pcp_free_huge(k, fr, z, k.cpu % PCP_CPUS, first)
        return True
    return False


@rare
def set_max_huge_pages(k: Any, fr: Any, pt: Any, wanted: int) -> bool:
    """One step towards a pool of `wanted` huge pages; False: it is there, or stays as it is.

    Kernel
    ------
    mm/hugetlb.c, set_max_huge_pages(), alloc_pool_huge_folio(), remove_pool_hugetlb_folio().

    Worked example
    --------------
    16 wanted on a node with 5 free blocks in DMA32 and 7 in DMA: these twelve, then four that
    compaction of DMA32 makes.
    """
    have = nr_huge_pages(k)
    if have < wanted:
        return _alloc_pool_huge_folio(k, fr, pt)
    if have > wanted:
        for _ in range(k.nr_nodes):
            if _free_on(k, fr, _next_node(k)):
                return True
    return False


@rare
def hugetlb_boot(k: Any, fr: Any, pt: Any) -> None:
    """The pool as the run begins; of a captured node, out of what was in use."""
    if k.captured != 1:
        while nr_huge_pages(k) < k.nr_hugepages and set_max_huge_pages(k, fr, pt, k.nr_hugepages):
            pass
        return
    left = k.nr_hugepages
    for z in range(k.nr_zones - 1, -1, -1):
        while left > 0 and placing_zone(k, z):
            first = alloc_block(k, fr, z, PAGEBLOCK_ORDER, MT_MOVABLE)
            if first < 0:
                break
            _add(k, fr, first)
            left -= 1
