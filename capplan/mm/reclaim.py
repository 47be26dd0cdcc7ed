"""Direct reclaim: for the node or for one group's limit (mm/vmscan.c).

    priority 12..0: shrink every node; stop at the target
    then once more with a full walk, with forced deactivation, with memory.low overridden

The caller's time goes on while it reclaims: throttles add to ``k.wait_ns``, and I/O that ends
in that time is completed before the next priority.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.cpuset import node_allowed
from capplan.mm.memcg_v1 import mem_cgroup_soft_limit_reclaim
from capplan.mm.page_io import complete_reads
from capplan.mm.state import (
    DEF_PRIORITY,
    NS_PER_S,
    SWAP_CLUSTER_MAX,
    VM_ALLOCSTALL,
    WMARK_MIN,
)
from capplan.mm.swap import complete_io, local_ns
from capplan.mm.swap_map import total_free_swap
from capplan.mm.vmscan import shrink_node

__all__ = [
    "allow_direct_reclaim",
    "do_try_to_free_pages",
    "reclaimable_pages",
    "try_to_free_mem_cgroup_pages",
    "try_to_free_pages",
    "try_to_free_pages_order",
    "zone_reclaimable_pages",
]


@jit
def zone_reclaimable_pages(k, z):
    """LRU pages of zone z that reclaim could take (zone_reclaimable_pages). [pages]"""
    zone = k.zone[z]
    nr = zone.lru_pages[2] + zone.lru_pages[3]
    if total_free_swap(k) > 0:
        nr += zone.lru_pages[0] + zone.lru_pages[1]
    if nr == 0 and k.empty_lru_counts_free:
        nr = zone.free
    return nr


@jit
def reclaimable_pages(k, n):
    """The same for a whole node."""
    total = 0
    for z in range(4 * n, 4 * n + 4):
        if k.zone[z].managed:
            total += zone_reclaimable_pages(k, z)
    return total


@jit
def _throttle(k, fr, n, jiffies):
    """Sleep in reclaim_throttle() for CONGESTED or NOPROGRESS."""
    pending = k.nr_dirty + k.nr_writeback  # NR_ZONE_WRITE_PENDING (skip_throttle_noprogress)
    if k.node[n].kswapd_failures >= 16 or 2 * pending <= reclaimable_pages(k, n):
        return
    k.wait_ns += jiffies * (NS_PER_S // k.hz)
    complete_io(k, fr, local_ns(k))


@jit
def _pass(k, fr, pt):
    """Shrink each node once at the current priority (shrink_zones)."""
    sc = k.sc
    for n in range(k.nr_nodes):
        if sc.target == 0 and not node_allowed(k, n):
            continue
        mem_cgroup_soft_limit_reclaim(k, fr, pt, n)
        shrink_node(k, fr, pt, n)
        if k.memcg[sc.target].lruvec[n].congested:
            _throttle(k, fr, n, 1)
        if sc.target == 0 and sc.priority == 1 and sc.nr_reclaimed == 0:
            _throttle(k, fr, n, 1)
    complete_io(k, fr, local_ns(k))
    complete_reads(k, fr, pt, local_ns(k))


@jit
def do_try_to_free_pages(k, fr, pt):
    """Run k.sc to its target (do_try_to_free_pages): pages reclaimed."""
    sc = k.sc
    while True:
        sc.priority = DEF_PRIORITY
        while sc.priority >= 0:
            sc.nr_scanned = 0
            if sc.priority < DEF_PRIORITY - 2:
                sc.may_writepage = 1
            _pass(k, fr, pt)
            if sc.nr_reclaimed >= sc.nr_to_reclaim:
                break
            sc.priority -= 1
        for n in range(k.nr_nodes):
            lruvec = k.memcg[sc.target].lruvec[n]
            lruvec.refaults_anon = lruvec.activate_anon
            lruvec.refaults_file = lruvec.activate_file
            lruvec.congested = 0
        if sc.nr_reclaimed:
            return sc.nr_reclaimed
        if k.full_walk_retry and not sc.full_walk:
            sc.full_walk = 1
        elif sc.skipped_deactivate:
            sc.force_deactivate = 1
            sc.skipped_deactivate = 0
        elif sc.memcg_low_skipped:
            sc.force_deactivate = 0
            sc.memcg_low_reclaim = 1
            sc.memcg_low_skipped = 0
        else:
            return 0


@jit
def init_scan_control(k, target, nr, may_swap):
    """A fresh scan control for a reclaim of ``target`` (0: global)."""
    sc = k.sc
    sc.target = target
    sc.order = 0
    sc.reclaim_idx = 3
    sc.nr_to_reclaim = nr
    sc.nr_reclaimed = 0
    sc.nr_scanned = 0
    sc.kswapd = 0
    sc.may_writepage = 1
    sc.may_unmap = 1
    sc.may_swap = may_swap
    sc.proactive = 0
    sc.force_deactivate = 0
    sc.skipped_deactivate = 0
    sc.full_walk = 0
    sc.memcg_low_reclaim = 0
    sc.memcg_low_skipped = 0
    sc.no_cache_trim_mode = 0
    sc.cache_trim_failed = 0
    sc.pageout = 0


@jit
def try_to_free_mem_cgroup_pages(k, fr, pt, c, nr, may_swap):
    """Reclaim at least nr (and 32) pages from group c and below: pages reclaimed.

    The time it takes is a memory stall of the caller.
    """
    begin = k.work_ns + k.wait_ns
    init_scan_control(k, c, max(nr, SWAP_CLUSTER_MAX), may_swap)
    reclaimed = do_try_to_free_pages(k, fr, pt)
    k.memstall_ns += k.work_ns + k.wait_ns - begin
    return reclaimed


@jit
def try_to_free_pages(k, fr, pt):
    """Direct reclaim of 32 pages for the node: pages reclaimed (try_to_free_pages)."""
    return try_to_free_pages_order(k, fr, pt, SWAP_CLUSTER_MAX, 0)


@jit
def try_to_free_pages_order(k, fr, pt, nr, order):
    """Direct reclaim of nr pages for a request of an order: pages reclaimed."""
    begin = k.work_ns + k.wait_ns
    k.vmstat[VM_ALLOCSTALL] += 1
    init_scan_control(k, 0, nr, 1)
    k.sc.order = order
    reclaimed = do_try_to_free_pages(k, fr, pt)
    k.memstall_ns += k.work_ns + k.wait_ns - begin
    return reclaimed


@jit
def allow_direct_reclaim(k, n):
    """Whether free memory is above half of the min reserves (allow_direct_reclaim)."""
    if k.node[n].kswapd_failures >= 16:
        return True
    reserve = 0
    free = 0
    for z in range(4 * n, 4 * n + 3):
        zone = k.zone[z]
        if zone.managed == 0 or zone_reclaimable_pages(k, z) == 0:
            continue
        reserve += zone.wmark[WMARK_MIN] + zone.boost
        free += zone.free
    return reserve == 0 or free > reserve // 2
