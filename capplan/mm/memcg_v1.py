"""cgroup v1's soft limit in global reclaim (mm/memcontrol-v1.c; before 6.11 mm/memcontrol.c).

    before each pass over a node: of the groups above memory.soft_limit_in_bytes take the one
    that is furthest above; shrink its subtree at priority 0, 32 pages a group, until a quarter
    of the excess or all of it is gone; when nothing came, the next group; three at most

With the multi-gen LRU a group above its soft limit is only visited first.

Departs from the kernel: the excess is looked up when reclaim begins, not kept in a tree that
is brought up to date every 1024 charges.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.lru_gen_memcg import lru_gen_soft_reclaim
from capplan.mm.state import SWAP_CLUSTER_MAX
from capplan.mm.vmscan import shrink_lruvec

__all__ = ["mem_cgroup_soft_limit_reclaim", "soft_limit_excess"]

MEM_CGROUP_MAX_RECLAIM_LOOPS = 100
MEM_CGROUP_MAX_SOFT_LIMIT_RECLAIM_LOOPS = 2


@jit
def soft_limit_excess(k, c):
    """Pages that group c is above its soft limit (soft_limit_excess). [pages]"""
    return max(k.memcg[c].memory.usage - k.memcg[c].soft_limit, 0)


@jit
def _largest(k, but):
    """The group with the largest excess, except ``but``; -1 when none has any."""
    best = -1
    most = 0
    for c in range(1, k.nr_memcgs):
        excess = soft_limit_excess(k, c)
        if c != but and excess > most:
            best = c
            most = excess
    return best


@jit
def _shrink_group(k, fr, pt, c, n):
    """Take 32 pages of one group at priority 0 (mem_cgroup_shrink_node): pages reclaimed.

    The scan control is a fresh one there: active lists are left alone.
    """
    sc = k.sc
    target, priority, wanted, reclaimed = sc.target, sc.priority, sc.nr_to_reclaim, sc.nr_reclaimed
    kswapd, may_writepage, may_swap = sc.kswapd, sc.may_writepage, sc.may_swap
    skipped, low_skipped = sc.skipped_deactivate, sc.memcg_low_skipped
    sc.target = c
    sc.priority = 0
    sc.nr_to_reclaim = SWAP_CLUSTER_MAX
    sc.nr_reclaimed = 0
    sc.kswapd = 0
    sc.may_writepage = 1
    sc.may_swap = 1
    sc.anon_cost = 0
    sc.file_cost = 0
    sc.deactivate_anon = 0
    sc.deactivate_file = 0
    sc.cache_trim_mode = 0
    sc.file_is_tiny = 0
    shrink_lruvec(k, fr, pt, c, n)
    got = sc.nr_reclaimed
    sc.target = target
    sc.priority = priority
    sc.nr_to_reclaim = wanted
    sc.nr_reclaimed = reclaimed
    sc.kswapd = kswapd
    sc.may_writepage = may_writepage
    sc.may_swap = may_swap
    sc.skipped_deactivate = skipped
    sc.memcg_low_skipped = low_skipped
    return got


@jit
def _soft_reclaim(k, fr, pt, root, n):
    """Shrink the subtree of a group that is above its soft limit (mem_cgroup_soft_reclaim)."""
    excess = soft_limit_excess(k, root)
    total = 0
    for loop in range(2, MEM_CGROUP_MAX_RECLAIM_LOOPS + 3):
        for c in range(root, k.memcg[root].subtree_end):
            total += _shrink_group(k, fr, pt, c, n)
            if soft_limit_excess(k, root) == 0:
                return total
        if total == 0 or total >= excess >> 2 or loop > MEM_CGROUP_MAX_RECLAIM_LOOPS:
            break
    return total


@jit
def mem_cgroup_soft_limit_reclaim(k, fr, pt, n):
    """Reclaim from those above their soft limit before a global pass over node n.

    Parameters
    ----------
    n : node

    The pages freed are added to k.sc.nr_reclaimed.

    Kernel
    ------
    memcg1_soft_limit_reclaim(); with the multi-gen LRU memcg1_update_tree().
    """
    if not k.cgroup_v1 or not k.soft_limit or k.sc.target != 0 or k.sc.order > 0:
        return
    if k.lru_gen:
        for c in range(1, k.nr_memcgs):
            if soft_limit_excess(k, c) > 0:
                lru_gen_soft_reclaim(k, c, n)
        return
    c = _largest(k, -1)
    loop = 0
    while c >= 0 and loop <= MEM_CGROUP_MAX_SOFT_LIMIT_RECLAIM_LOOPS:
        got = _soft_reclaim(k, fr, pt, c, n)
        k.sc.nr_reclaimed += got
        if got:
            return
        c = _largest(k, c)
        loop += 1
