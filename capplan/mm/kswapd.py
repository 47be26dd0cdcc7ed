"""kswapd: background reclaim between LOW and HIGH (mm/vmscan.c, balance_pgdat()).

    wake:  all zones of a zonelist failed LOW, node not balanced, not hopeless
    pass:  shrink the node once at the priority; target = sum of HIGH
    sleep: one zone above HIGH -> nap of 100 ms -> sleep

One call of :func:`kswapd_run` is a slice of about a millisecond, be it one pass or several that
find little; the stepping loop calls again after the time it took, so tasks go on allocating
meanwhile and the fall from LOW to MIN is emergent.

Departs from the kernel: who is woken for a boosted mark balances the whole node, not only the zone
that was boosted and those below it (kswapd_highest_zoneidx).
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.compaction import reset_isolation_suitable
from capplan.mm.cpuset import node_allowed
from capplan.mm.events import tell_kswapd_sleep, tell_kswapd_wake
from capplan.mm.kcompactd import wakeup_kcompactd
from capplan.mm.lru_gen import lru_gen_age_node
from capplan.mm.memcg_v1 import mem_cgroup_soft_limit_reclaim
from capplan.mm.oom_kill import out_of_memory
from capplan.mm.reclaim import init_scan_control
from capplan.mm.state import (
    DEF_PRIORITY,
    KSWAPD_SLICE_NS,
    MAX_RECLAIM_RETRIES,
    NEVER_NS,
    NS_PER_MS,
    PAGEBLOCK_ORDER,
    SWAP_CLUSTER_MAX,
    VM_KSWAPD_HIGH_QUICKLY,
    VM_KSWAPD_LOW_QUICKLY,
    VM_PAGEOUTRUN,
    WMARK_HIGH,
)
from capplan.mm.swap import complete_io, local_ns, writeback_throttle_ns
from capplan.mm.vmscan import (
    age_active_anon,
    shrink_node_begin,
    shrink_node_end,
    shrink_node_some,
)
from capplan.mm.watermark import zone_watermark_ok

__all__ = ["kswapd_run", "pgdat_balanced", "wake_all_kswapds", "wakeup_kswapd"]

ASLEEP, RUNNING, NAPPING = 0, 1, 2
HZ = 3


@jit
def pgdat_balanced(k, n, order):
    """Whether one zone of node n is above HIGH and has a block of the order (pgdat_balanced)."""
    for z in range(4 * n, 4 * n + 4):
        zone = k.zone[z]
        mark = zone.wmark[WMARK_HIGH] + zone.boost
        if zone.managed and zone_watermark_ok(k, z, order, mark, HZ, 0):
            return True
    return False


@jit
def _boosted(k, n):
    total = 0
    for z in range(4 * n, 4 * n + 4):
        if k.zone[z].managed:
            total += k.zone[z].boost
    return total


@jit
def wakeup_kswapd(k, n, order):
    """Wake the kswapd of node n unless the node is balanced or hopeless (wakeup_kswapd)."""
    node = k.node[n]
    node.kswapd_order = max(node.kswapd_order, order)
    if node.kswapd_awake == RUNNING or node.kswapd_failures >= MAX_RECLAIM_RETRIES:
        return
    if pgdat_balanced(k, n, order) and not _boosted(k, n):
        return
    if node.kswapd_awake == NAPPING:
        k.vmstat[VM_KSWAPD_LOW_QUICKLY] += 1
    else:
        tell_kswapd_wake(k, n)
    node.kswapd_awake = RUNNING
    node.kswapd_priority = DEF_PRIORITY + 1  # a new balance_pgdat
    node.kswapd_due_ns = local_ns(k)
    k.need_resched = 1


@jit
def wake_all_kswapds(k, order):
    """Wake the kswapd of every node that needs it (wake_all_kswapds)."""
    for n in range(k.nr_nodes):
        if node_allowed(k, n):
            wakeup_kswapd(k, n, order)


@jit
def _begin(k, n):
    """Start of balance_pgdat()."""
    node = k.node[n]
    k.vmstat[VM_PAGEOUTRUN] += 1
    node.kswapd_priority = DEF_PRIORITY
    node.kswapd_alloc_order = node.kswapd_order
    node.kswapd_reclaim_order = node.kswapd_order
    node.kswapd_order = 0
    node.kswapd_reclaimed = 0
    node.kswapd_boost = _boosted(k, n)
    for t in range(4):
        node.kswapd_start_boost[t] = k.zone[4 * n + t].boost
        k.zone[4 * n + t].reclaim_active = 1


@jit
def _finish(k, fr, n):
    """End of balance_pgdat(): boosts it saw are taken off; nap or sleep."""
    node = k.node[n]
    boosted = 0
    for t in range(4):
        zone = k.zone[4 * n + t]
        boosted += node.kswapd_start_boost[t]
        zone.boost -= min(zone.boost, node.kswapd_start_boost[t])
        zone.reclaim_active = 0
    if boosted:  # there is now likely space to defragment pageblocks
        wakeup_kcompactd(k, n, PAGEBLOCK_ORDER)
    lruvec = k.memcg[0].lruvec[n]
    lruvec.refaults_anon = lruvec.activate_anon
    lruvec.refaults_file = lruvec.activate_file
    if node.kswapd_reclaim_order >= node.kswapd_alloc_order:  # kswapd(): what was asked meanwhile
        node.kswapd_alloc_order = node.kswapd_order
        node.kswapd_reclaim_order = node.kswapd_order
    _prepare_sleep(k, fr, n)


@jit
def _prepare_sleep(k, fr, n):
    node = k.node[n]
    hopeless = node.kswapd_failures >= MAX_RECLAIM_RETRIES
    if hopeless or pgdat_balanced(k, n, node.kswapd_reclaim_order):
        for z in range(4 * n, 4 * n + 4):
            reset_isolation_suitable(k, fr, z)
        wakeup_kcompactd(k, n, node.kswapd_alloc_order)
        node.flag_writeback = 0
        node.flag_dirty = 0
        node.flag_congested = 0
        for c in range(k.nr_memcgs):
            k.memcg[c].lruvec[n].congested = 0
        node.kswapd_awake = NAPPING
        node.kswapd_due_ns = local_ns(k) + 100 * NS_PER_MS
    else:
        k.vmstat[VM_KSWAPD_HIGH_QUICKLY] += 1
        node.kswapd_awake = RUNNING
        node.kswapd_priority = DEF_PRIORITY + 1
        node.kswapd_due_ns = local_ns(k)


@jit
def _begin_pass(k, fr, pt, n):
    """Begin a turn of balance_pgdat's loop; whether the loop is over instead."""
    node = k.node[n]
    balanced = pgdat_balanced(k, n, node.kswapd_reclaim_order)
    if not balanced and node.kswapd_boost:
        node.kswapd_boost = 0
        node.kswapd_priority = DEF_PRIORITY
    if balanced and not node.kswapd_boost:
        return True
    raised = not (node.kswapd_boost and node.kswapd_priority == DEF_PRIORITY - 2)
    node.kswapd_raise = 1 if raised else 0
    target = 0
    for z in range(4 * n, 4 * n + 4):
        if k.zone[z].managed:
            target += max(k.zone[z].wmark[WMARK_HIGH] + k.zone[z].boost, SWAP_CLUSTER_MAX)
    init_scan_control(k, 0, target, 0 if node.kswapd_boost else 1)
    sc = k.sc
    sc.kswapd = 1
    sc.order = node.kswapd_reclaim_order
    sc.full_walk = 1
    sc.priority = node.kswapd_priority
    sc.may_writepage = 1 if not node.kswapd_boost or sc.priority < DEF_PRIORITY - 2 else 0
    if k.lru_gen:
        if lru_gen_age_node(k, n):
            out_of_memory(k, -1, -1)
    else:
        age_active_anon(k, fr, pt, n)
    mem_cgroup_soft_limit_reclaim(k, fr, pt, n)
    shrink_node_begin(k, n)
    node.kswapd_memcg = 0
    node.kswapd_in_lruvec = 0
    return False


@jit
def _end_pass(k, fr, n):
    """End a turn of balance_pgdat's loop; whether the loop is over."""
    node = k.node[n]
    sc = k.sc
    if sc.immediate:
        k.wait_ns += writeback_throttle_ns(k, fr)
        complete_io(k, fr, local_ns(k))
    if sc.nr_reclaimed >= 2 << sc.order:  # kswapd_shrink_node(): compact_gap() is there
        node.kswapd_reclaim_order = 0
    raise_priority = node.kswapd_raise != 0
    node.kswapd_priority = sc.priority  # the multi-gen LRU chooses where to begin
    node.kswapd_reclaimed += sc.nr_reclaimed
    if max(sc.nr_scanned, sc.nr_reclaimed) >= sc.nr_to_reclaim:
        raise_priority = False
    if node.kswapd_boost:
        node.kswapd_boost -= min(node.kswapd_boost, sc.nr_reclaimed)
        if node.kswapd_boost and sc.nr_reclaimed == 0:
            return True
    if raise_priority or sc.nr_reclaimed == 0:
        node.kswapd_priority -= 1
    return node.kswapd_priority < 1


@jit
def _balance(k, fr, pt, n):
    """A slice of balance_pgdat's loop; whether the loop is over."""
    node = k.node[n]
    if node.kswapd_memcg < 0:
        if _begin_pass(k, fr, pt, n):
            return True
    else:
        k.sc = node.kswapd_sc
    if not shrink_node_some(k, fr, pt, n):
        node.kswapd_sc = k.sc
        return False
    node.kswapd_memcg = -1
    shrink_node_end(k, n, 0)
    if not _end_pass(k, fr, n):
        return False
    if node.kswapd_reclaimed == 0:  # not where the node was found balanced
        node.kswapd_failures += 1
    return True


@jit
def kswapd_run(k, fr, pt, n):
    """One turn of node n's kswapd; sets when it is due again. CPU time is in k.work_ns."""
    node = k.node[n]
    if node.kswapd_awake == NAPPING:
        # the nap is over: still balanced -> sleep until the next wake
        order = node.kswapd_reclaim_order
        if node.kswapd_failures >= MAX_RECLAIM_RETRIES or pgdat_balanced(k, n, order):
            node.kswapd_awake = ASLEEP
            node.kswapd_due_ns = NEVER_NS
            tell_kswapd_sleep(k, n)
            return
        k.vmstat[VM_KSWAPD_LOW_QUICKLY] += 1
        node.kswapd_awake = RUNNING
        node.kswapd_priority = DEF_PRIORITY + 1
    while node.kswapd_awake == RUNNING:
        if node.kswapd_priority > DEF_PRIORITY:
            _begin(k, n)
        if _balance(k, fr, pt, n):
            _finish(k, fr, n)
        else:
            node.kswapd_due_ns = local_ns(k)
        if k.work_ns + k.wait_ns >= KSWAPD_SLICE_NS:
            break
    node.kswapd_ns += int(k.work_ns)
