"""zswap's store: which pages it takes on their way to the device (mm/zswap.c, zswap_store()).

    allowed by zswap.max? pool under its limit (hysteresis)? -> compress -> pool page from the zone
    (before the victim is freed, may fail) -> charge bytes to the owner
    full: reject to the device, and the worker writes old entries back

Since 6.8 (feature ``zswap_memcg_writeback``) a group at its zswap.max writes its oldest page back
and then stores the new one.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.events import tell_zswap_full
from capplan.mm.state import PTE_ZSWAP, ST_ZSWPOUT, VM_ZSWPOUT
from capplan.mm.zswap import (
    stored_length,
    zswap_accept_thr_pages,
    zswap_keep,
    zswap_max_pages,
    zswap_takes,
)
from capplan.mm.zswap_writeback import shrink_memcg

__all__ = ["zswap_store"]

MAX_WAKEUPS = 100  # more than a turn has rejections, less than zswap_shrink_pending can hold


@jit
def _may_zswap(k, c):
    """Whether zswap.max of the group and its ancestors leaves room (obj_cgroup_may_zswap)."""
    while c > 0:
        memcg = k.memcg[c]
        if memcg.zswap_bytes // 4096 >= memcg.zswap_max:
            return False
        c = memcg.parent
    return True


@jit
def _has_room(k, fr, pt, c):
    """Whether group c may store a page more, having written one back where that helps."""
    if _may_zswap(k, c):
        return True
    return k.zswap_memcg_writeback and k.captured != 1 and shrink_memcg(k, fr, pt, c)


@jit
def _wake_worker(k, nr):
    """Wake the worker nr times (queue_work), at this point of the actor's work."""
    if k.zswap_shrink_pending == 0:
        k.zswap_woken_ns = k.work_ns
    k.zswap_rejected_ns = k.work_ns
    k.zswap_shrink_pending = min(k.zswap_shrink_pending + nr, MAX_WAKEUPS)


@jit
def _check_limits(k, nr):
    """Whether the pool is full, with its hysteresis (zswap_check_limits); nr pages ask.

    A rejection wakes the worker: each of them since 6.5 (feature ``zswap_lru``), before only one
    above the limit.
    """
    limit = zswap_max_pages(k)
    full = k.zswap_pages > limit if not k.zeromap else k.zswap_pages >= limit
    if full:
        tell_zswap_full(k)
        k.zswap_full = 1
    elif k.zswap_full and k.zswap_pages <= zswap_accept_thr_pages(k):
        k.zswap_full = 0
    if k.zswap_full and (full or k.zswap_lru):
        _wake_worker(k, nr)
    return k.zswap_full != 0


@jit
def zswap_store(k, fr, pt, i, same_filled):
    """Store page i: 1 stored, 0 rejected (it goes to the device)."""
    e = fr[i].pte
    nr = fr[i].nr_pages
    c = fr[i].memcg
    if not _has_room(k, fr, pt, c) or _check_limits(k, nr):
        return 0
    length = 0
    if not same_filled:
        length = stored_length(k, fr[i].mapping, e)
        k.work_ns += k.cost.compress_ns * nr
        if not zswap_takes(k, length):
            return 0
    if not zswap_keep(k, fr, pt, e, length):
        return 0
    pt[e].state = PTE_ZSWAP
    k.memcg[c].stat[ST_ZSWPOUT] += nr
    k.vmstat[VM_ZSWPOUT] += nr
    return 1
