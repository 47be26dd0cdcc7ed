"""The slow path: who reclaims, who waits, when it becomes OOM (mm/page_alloc.c).

    LOW fails -> wake kswapd -> MIN -> direct reclaim -> MIN, drain per-cpu lists -> MIN
    no zone could reach MIN even if all LRU pages went, or 17 rounds without progress -> OOM

:func:`alloc_frame` is one round. ALLOC_AGAIN means that the task goes on after the time
spent, with its state in ``k.task[t]``.
"""

from __future__ import annotations

from capplan.mm._jit import jit, rare
from capplan.mm.cpuset import node_allowed, preferred_node
from capplan.mm.events import tell_direct_reclaim
from capplan.mm.highatomic import unreserve_highatomic_pageblock
from capplan.mm.kswapd import wake_all_kswapds, wakeup_kswapd
from capplan.mm.node_reclaim import get_page
from capplan.mm.oom_kill import out_of_memory
from capplan.mm.page_alloc import alloc_flags_nofragment, get_page_from_freelist
from capplan.mm.pcp import drain_all_pages
from capplan.mm.reclaim import allow_direct_reclaim, try_to_free_pages, zone_reclaimable_pages
from capplan.mm.state import (
    MAX_RECLAIM_RETRIES,
    MPOL_PREFERRED_MANY,
    NS_PER_MS,
    NS_PER_S,
    WMARK_HIGH,
    WMARK_LOW,
    WMARK_MIN,
    ZONES_PER_NODE,
)
from capplan.mm.swap import local_ns
from capplan.mm.watermark import zone_watermark_ok_free

__all__ = ["ALLOC_AGAIN", "alloc_frame", "wake_if_mixed"]

ALLOC_AGAIN = -2
HZ = 3


@jit
def should_reclaim_retry(k, t, progress):
    """Whether another round may help (should_reclaim_retry)."""
    task = k.task[t]
    if progress:
        task.no_progress = 0
    else:
        task.no_progress += 1
    if task.no_progress > MAX_RECLAIM_RETRIES:
        return False
    for z in range(k.nr_zones):
        zone = k.zone[z]
        if zone.managed == 0 or not node_allowed(k, z // ZONES_PER_NODE):
            continue
        available = zone_reclaimable_pages(k, z) + zone.free
        mark = zone.wmark[WMARK_MIN] + zone.boost
        if zone_watermark_ok_free(k, z, 0, mark, HZ, 0, available):
            return True
    return False


@jit
def _may_oom(k, fr, t, node, nr_pages):
    """The OOM stage: a frame after all, or ALLOC_AGAIN (__alloc_pages_may_oom)."""
    now = local_ns(k)
    if now < k.oom_lock_until_ns:
        k.wait_ns += NS_PER_S // k.hz
        return ALLOC_AGAIN
    i = get_page_from_freelist(k, fr, node, nr_pages, WMARK_HIGH, 0)
    if i >= 0:
        return i
    killed_before = k.nr_killed
    if not out_of_memory(k, -1, k.task[t].proc):
        return -1
    k.oom_lock_until_ns = local_ns(k)
    k.task[t].no_progress = 0
    if k.nr_killed == killed_before:
        k.wait_ns += NS_PER_MS // 4
    return ALLOC_AGAIN


@jit
def wake_if_mixed(k, z):
    """An allocation from zone z that mixed pageblocks wakes kswapd (rmqueue())."""
    if k.zone[z].boosted:
        k.zone[z].boosted = 0
        wakeup_kswapd(k, z // ZONES_PER_NODE, 0)


@rare
def _alloc_preferred_many(k, fr, pt, nr_pages):
    """A frame of the policy's nodes, without direct reclaim: -1 where there is none.

    Kernel
    ------
    mm/mempolicy.c, alloc_pages_preferred_many(): its first pass.
    """
    mems = k.mems_allowed
    k.mems_allowed &= k.mpol_nodes
    node = preferred_node(k)
    i = get_page(k, fr, pt, node, nr_pages, WMARK_LOW, alloc_flags_nofragment(k, node))
    if i >= 0:
        wake_if_mixed(k, fr[i].zone)
    else:
        wake_all_kswapds(k, 0)
        i = get_page(k, fr, pt, node, nr_pages, WMARK_MIN, 0)
    k.mems_allowed = mems
    return i


@jit
def alloc_frame(k, fr, pt, t, node, nr_pages):
    """A frame of nr_pages for user memory of task t: index, ALLOC_AGAIN, or -1 (nobody to kill).

    Kernel
    ------
    mm/page_alloc.c, __alloc_pages(), __alloc_pages_slowpath().
    """
    if k.mpol_mode == MPOL_PREFERRED_MANY:
        i = _alloc_preferred_many(k, fr, pt, nr_pages)
        if i >= 0:
            k.spread_dirty = 0
            return i
    unmixed = alloc_flags_nofragment(k, node)
    i = get_page(k, fr, pt, node, nr_pages, WMARK_LOW, unmixed)
    k.spread_dirty = 0
    if i >= 0:
        wake_if_mixed(k, fr[i].zone)
        return i
    wake_all_kswapds(k, 0)
    i = get_page(k, fr, pt, node, nr_pages, WMARK_MIN, 0)
    if i >= 0:
        return i
    if not allow_direct_reclaim(k, node):
        # throttle_direct_reclaim(): kswapd wakes the waiters; look again soon
        k.wait_ns += NS_PER_MS
        k.memstall_ns += NS_PER_MS
        return ALLOC_AGAIN
    tell_direct_reclaim(k, t)
    progress = try_to_free_pages(k, fr, pt)
    i = -1
    if progress:
        i = get_page(k, fr, pt, node, nr_pages, WMARK_MIN, 0)
        if i < 0:
            unreserve_highatomic_pageblock(k, fr, node, False)
            drain_all_pages(k, fr)
            i = get_page(k, fr, pt, node, nr_pages, WMARK_MIN, 0)
    if i >= 0:
        k.task[t].no_progress = 0
        return i
    if should_reclaim_retry(k, t, progress > 0):
        return ALLOC_AGAIN
    if unreserve_highatomic_pageblock(k, fr, node, True):
        return ALLOC_AGAIN
    return _may_oom(k, fr, t, node, nr_pages)
