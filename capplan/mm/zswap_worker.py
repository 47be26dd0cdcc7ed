"""zswap's worker: writes back when the pool was full (mm/zswap.c, shrink_worker()).

    since 6.5   one page of each group in turn, until the pool takes pages again; 16 failures end
                it, and a second chance is one
    before      the two pages of the allocator's oldest page (zbud_reclaim_page)

A kernel thread: the pages that it writes back are charged to their groups, whose reclaim it does
where they are at their limits.

Each rejection wakes it. It gets its fair share of the CPU, which is as much as who woke it has had
meanwhile: a look at a page costs a step through all groups, several pages are rejected meanwhile,
and wake it once.

Departs from the kernel: it runs when the turn of who woke it is over; its work is not interrupted.
A group that it cannot charge is not killed in: its page stays in the pool.
"""

from __future__ import annotations

from capplan.mm._jit import jit, rare
from capplan.mm.cpuset import numa_node_id
from capplan.mm.kswapd import wake_all_kswapds
from capplan.mm.memcg import charge_kthread
from capplan.mm.page_alloc import get_page_from_freelist, put_back_frame
from capplan.mm.reclaim import try_to_free_pages
from capplan.mm.state import MAX_RECLAIM_RETRIES, WMARK_LOW, WMARK_MIN
from capplan.mm.zswap import zswap_accept_thr_pages, zswap_max_pages
from capplan.mm.zswap_writeback import (
    lru_add_drain,
    owner_to_charge,
    shrink_memcg_cb,
    writeback_enabled,
    zswap_writeback_entry,
)

__all__ = ["shrink_worker", "zswap_worker"]

ZBUD_BUDDIES = 2
NOTHING, FAILED, WRITTEN = 0, 1, 2  # -ENOENT, -EAGAIN, 0


@jit
def _alloc(k, fr, pt, nr):
    """A frame of nr pages for the worker (GFP_KERNEL), -1 where reclaim finds none."""
    node = numa_node_id(k)
    i = get_page_from_freelist(k, fr, node, nr, WMARK_LOW, 0)
    if i >= 0:
        return i
    wake_all_kswapds(k, 0)
    i = get_page_from_freelist(k, fr, node, nr, WMARK_MIN, 0)
    if i < 0 and try_to_free_pages(k, fr, pt):
        i = get_page_from_freelist(k, fr, node, nr, WMARK_MIN, 0)
    return i


@jit
def _write_back(k, fr, pt, e):
    """Write entry e back; its pages."""
    c = owner_to_charge(k, pt, e)
    nr = pt[e].nr_pages
    i = _alloc(k, fr, pt, nr)
    if i < 0:
        return 0
    if not charge_kthread(k, fr, pt, c, nr):
        put_back_frame(k, fr, i)
        return 0
    return zswap_writeback_entry(k, fr, pt, e, i, c)


@jit
def _shrink_memcg(k, fr, pt, c):
    """Group c's oldest entry: NOTHING, FAILED or WRITTEN (shrink_memcg)."""
    e = k.memcg[c].zswap_head
    if e < 0 or not writeback_enabled(k, c):
        return NOTHING
    if not shrink_memcg_cb(k, pt, e):
        return FAILED
    return WRITTEN if _write_back(k, fr, pt, e) else FAILED


@jit
def _next_group(k):
    """The next group that is online, in pre-order, -1 behind the last (zswap_next_shrink)."""
    c = k.zswap_next_shrink + 1
    while c < k.nr_memcgs and not k.memcg[c].online:
        c += 1
    k.zswap_next_shrink = c if c < k.nr_memcgs else -1
    return k.zswap_next_shrink


@jit
def shrink_worker(k, fr, pt):
    """Write back until the pool takes pages again.

    Worked example
    --------------
    One group, all entries new: 16 get their second chance, and the worker gives up. Woken again
    once all have had theirs, it writes back until the pool is at its threshold.
    """
    failures = 0
    attempts = 0
    while failures < MAX_RECLAIM_RETRIES:
        c = _next_group(k)
        k.work_ns += k.cost.visit_ns
        if c < 0:
            failures += 1 if attempts == 0 else 0
            attempts = 0
        else:
            found = _shrink_memcg(k, fr, pt, c)
            attempts += 1 if found != NOTHING else 0
            failures += 1 if found == FAILED else 0
        if k.zswap_pages <= zswap_accept_thr_pages(k):
            break


@rare
def _reclaim_zbud(k, fr, pt):
    """The allocator's oldest page, whoever's it is: both buddies go (zpool_shrink of one page)."""
    for _ in range(k.nr_memcgs + 1):
        c = _next_group(k)
        if c >= 0 and k.memcg[c].zswap_head >= 0:
            for _ in range(ZBUD_BUDDIES):
                _shrink_memcg(k, fr, pt, c)
            return


@rare
def zswap_worker(k, fr, pt, share_ns):
    """Run as often as the worker was woken, and has the CPU for, until none would have woken it.

    share_ns : the work of who woke it between the first rejection and the last

    Worked example
    --------------
    One group: 16 second chances are 48 steps of 2 us. Woken 64 times within 2 ms, it runs 21 times,
    and once more when its wakers sleep.
    """
    runs = k.zswap_shrink_pending
    k.zswap_shrink_pending = 0
    enough = zswap_accept_thr_pages(k) if k.zswap_lru else zswap_max_pages(k)
    while runs > 0:
        runs = runs - 1 if k.work_ns < share_ns else 0  # what wakes it later finds it queued
        if k.zswap_lru:
            shrink_worker(k, fr, pt)
        else:
            _reclaim_zbud(k, fr, pt)
        if k.zswap_pages <= enough:
            break
    lru_add_drain(k, fr)
