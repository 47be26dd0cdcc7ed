"""The ring of things that happened, read by the recorder after each slice.

What goes on for long (a task is throttled, kswapd is awake, a task reclaims, swap is full) is
told when it begins, and once more when it ends; pauses of less than QUIET_NS are no end. The
end is told when it is known, later than it was: readers sort by time.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.cpuset import numa_node_id, preferred_node
from capplan.mm.state import (
    KIND_DIRECT_RECLAIM,
    KIND_KSWAPD_SLEEP,
    KIND_KSWAPD_WAKE,
    KIND_SWAP_FULL,
    KIND_THROTTLE_BEGIN,
    KIND_THROTTLE_END,
    KIND_ZSWAP_FULL,
    MAX_EVENTS,
    MPOL_BIND,
    QUIET_NS,
    WMARK_HIGH,
    WMARK_LOW,
    WMARK_MIN,
)

__all__ = [
    "memcg_event",
    "record",
    "tell_direct_reclaim",
    "tell_kswapd_sleep",
    "tell_kswapd_wake",
    "tell_swap_full",
    "tell_throttle",
    "tell_zswap_full",
]


@jit
def record(k, kind, proc, memcg, a, b, c, d, e, f):
    """Append an event at the actor's local time."""
    record_at(k, k.now_ns + int(k.work_ns + k.wait_ns), kind, proc, memcg, a, b, c, d, e, f)


@jit
def record_at(k, t_ns, kind, proc, memcg, a, b, c, d, e, f):
    """Append an event; a full ring loses it and counts the loss."""
    if k.nr_events >= MAX_EVENTS:
        k.events_lost += 1
        return
    event = k.event[k.nr_events]
    k.nr_events += 1
    event.t_ns = t_ns
    event.kind = kind
    event.proc = proc
    event.memcg = memcg
    event.task = k.actor
    event.a = a
    event.b = b
    event.c = c
    event.d = d
    event.e = e
    event.f = f
    event.dump = -1
    event.trigger = -1
    event.nodes = 0


@jit
def _tell_node(k, t_ns, kind, proc, memcg, n):
    """An event of node n with what is free and the marks in force, over all zones [pages]."""
    free = 0
    least = 0
    low = 0
    high = 0
    for z in range(k.nr_zones):
        zone = k.zone[z]
        free += zone.free
        least += zone.wmark[WMARK_MIN] + zone.boost
        low += zone.wmark[WMARK_LOW] + zone.boost
        high += zone.wmark[WMARK_HIGH] + zone.boost
    record_at(k, t_ns, kind, proc, memcg, free, least, low, high, n, 0)


@jit
def tell_kswapd_wake(k, n):
    """kswapd of node n was asleep and is woken."""
    node = k.node[n]
    now = k.now_ns + int(k.work_ns + k.wait_ns)
    if node.kswapd_told:
        if now - node.kswapd_slept_ns < QUIET_NS:
            return
        record_at(k, node.kswapd_slept_ns, KIND_KSWAPD_SLEEP, -1, 0, 0, 0, 0, 0, n, 0)
    node.kswapd_told = 1
    _tell_node(k, now, KIND_KSWAPD_WAKE, -1, 0, n)


@jit
def tell_kswapd_sleep(k, n):
    """kswapd of node n goes to sleep."""
    k.node[n].kswapd_slept_ns = k.now_ns + int(k.work_ns + k.wait_ns)


@jit
def tell_throttle(k, t, c, sleep):
    """Task t is going to sleep above the memory.high of group c or of one above it [ns]."""
    task = k.task[t]
    now = k.now_ns + int(k.work_ns + k.wait_ns)
    if task.throttle_told and now - task.throttle_end_ns >= QUIET_NS:
        record_at(k, task.throttle_end_ns, KIND_THROTTLE_END, task.proc, c, 0, 0, 0, 0, 0, 0)
        task.throttle_told = 0
    if not task.throttle_told:
        memory = k.memcg[c].memory
        record(k, KIND_THROTTLE_BEGIN, task.proc, c, memory.usage, memory.high, 0, 0, 0, 0)
    task.throttle_told = 1
    task.throttle_end_ns = now + sleep


@jit
def tell_direct_reclaim(k, t):
    """Task t reclaims for itself."""
    task = k.task[t]
    now = k.now_ns + int(k.work_ns + k.wait_ns)
    if now - task.reclaim_told_ns >= QUIET_NS:
        memcg = k.proc[task.proc].memcg
        node = preferred_node(k) if k.mpol_mode == MPOL_BIND else numa_node_id(k)
        _tell_node(k, now, KIND_DIRECT_RECLAIM, task.proc, memcg, node)
    task.reclaim_told_ns = now


@jit
def tell_swap_full(k, c):
    """No swap device had room for a page of group c."""
    now = k.now_ns + int(k.work_ns + k.wait_ns)
    if now - k.swap_full_ns >= QUIET_NS:
        record_at(k, now, KIND_SWAP_FULL, -1, c, 0, 0, 0, 0, 0, 0)
    k.swap_full_ns = now


@jit
def tell_zswap_full(k):
    """The zswap pool takes no page: its limit was reached (zswap_pool_limit_hit)."""
    now = k.now_ns + int(k.work_ns + k.wait_ns)
    if now - k.zswap_full_ns >= QUIET_NS:
        record_at(k, now, KIND_ZSWAP_FULL, -1, 0, k.zswap_pages, 0, 0, 0, 0, 0)
    k.zswap_full_ns = now


@jit
def memcg_event(k, c, event):
    """Count a memory.events item at group c and, v2, its ancestors (memcg_memory_event)."""
    if c > 0:
        k.memcg[c].events_local[event] += 1
    while c > 0:
        k.memcg[c].events[event] += 1
        if k.cgroup_v1:
            return
        c = k.memcg[c].parent
