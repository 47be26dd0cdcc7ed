"""kcompactd: compaction in the background, one thread per node (mm/compaction.c).

    woken by kswapd, when it sleeps after a request of a high order  -> a block of that order
    each 500 ms, when the node's fragmentation score is high         -> until it is low

One call of :func:`kcompactd_run` is about a millisecond of it; the stepping loop calls again.
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import rare
from capplan.mm.compaction import (
    COMPACT_COMPLETE,
    COMPACT_CONTINUE,
    COMPACT_MAX_DEFER_SHIFT,
    COMPACT_PARTIAL_SKIPPED,
    COMPACT_SUCCESS,
    compact_zone_begin,
    compact_zone_end,
    compact_zone_some,
    compaction_defer_reset,
    compaction_deferred,
    compaction_suit_allocation_order,
    defer_compaction,
)
from capplan.mm.pcp import drain_zone_pages
from capplan.mm.state import (
    NEVER_NS,
    NS_PER_MS,
    VM_COMPACT_DAEMON_FREE_SCANNED,
    VM_COMPACT_DAEMON_MIGRATE_SCANNED,
    VM_COMPACT_DAEMON_WAKE,
    WMARK_MIN,
    ZONES_PER_NODE,
)
from capplan.mm.swap import local_ns
from capplan.mm.vmstat import fragmentation_score_wmark, proactive_score

__all__ = ["kcompactd_run", "proactive_look", "wakeup_kcompactd"]

HPAGE_FRAG_CHECK_INTERVAL_NS = 500 * NS_PER_MS
HZ_MOVABLE = 3


@rare
def wakeup_kcompactd(k: Any, n: int, order: int) -> None:
    """Have node `n` compacted for a block of `order`, if a zone lends itself to it."""
    node = k.node[n]
    if order == 0:
        return
    node.kcompactd_max_order = max(node.kcompactd_max_order, order)
    if node.kcompactd_due_ns < NEVER_NS:
        return  # not asleep
    for z in range(n * ZONES_PER_NODE, (n + 1) * ZONES_PER_NODE):
        if k.zone[z].managed == 0:
            continue
        suits = compaction_suit_allocation_order(
            k, z, node.kcompactd_max_order, HZ_MOVABLE, WMARK_MIN
        )
        if suits == COMPACT_CONTINUE:
            node.kcompactd_proactive = 0
            node.kcompactd_due_ns = local_ns(k)
            return


@rare
def proactive_look(k: Any) -> None:
    """Each 500 ms: nodes whose free memory is too fragmented are compacted.

    Kernel
    ------
    mm/compaction.c, should_proactive_compact_node(), since "mm: proactive compaction" (in v5.9).
    """
    missed = (k.now_ns - k.proactive_due_ns) // HPAGE_FRAG_CHECK_INTERVAL_NS
    k.proactive_due_ns += (missed + 1) * HPAGE_FRAG_CHECK_INTERVAL_NS
    for n in range(k.nr_nodes):
        node = k.node[n]
        if node.kcompactd_due_ns < NEVER_NS or k.now_ns < node.kcompactd_check_ns:
            continue
        if node.kswapd_awake == 1:
            continue
        score = proactive_score(k, n)
        if score > fragmentation_score_wmark(k, False):
            node.kcompactd_proactive = 1
            node.kcompactd_score = score
            node.kcompactd_due_ns = k.now_ns
            k.proactive_woken = 1


@rare
def _begin(k: Any, n: int) -> None:
    """Begin a round of all zones: their number comes from ``cc.zone``."""
    node = k.node[n]
    cc = node.kcompactd_cc
    cc.zone = n * ZONES_PER_NODE - 1
    cc.order = -1 if node.kcompactd_proactive else node.kcompactd_max_order
    cc.sync = 1
    cc.direct = 0
    cc.ignore_skip = node.kcompactd_proactive
    cc.running = 1
    if not node.kcompactd_proactive:
        k.vmstat[VM_COMPACT_DAEMON_WAKE] += 1


@rare
def _begin_zone(k: Any, fr: Any, cc: Any, z: int) -> int:
    """Begin with zone `z`: CONTINUE, or another COMPACT_* where there is nothing to do."""
    cc.zone = z
    cc.whole_zone = cc.ignore_skip
    if k.zone[z].managed == 0:
        return 0
    if cc.order >= 0 and compaction_deferred(k, z, cc.order):
        return 0
    return compact_zone_begin(k, fr, cc, z % ZONES_PER_NODE)


@rare
def _end_zone(k: Any, fr: Any, cc: Any, status: int) -> None:
    compact_zone_end(k, cc)
    if cc.order >= 0 or k.proactive_counted:
        k.vmstat[VM_COMPACT_DAEMON_MIGRATE_SCANNED] += cc.migrate_scanned
        k.vmstat[VM_COMPACT_DAEMON_FREE_SCANNED] += cc.free_scanned
    if cc.order < 0:
        return
    if status == COMPACT_SUCCESS:
        compaction_defer_reset(k, cc.zone, cc.order, False)
    elif status == COMPACT_COMPLETE or status == COMPACT_PARTIAL_SKIPPED:
        drain_zone_pages(k, fr, cc.zone)
        defer_compaction(k, cc.zone, cc.order)


@rare
def _finish(k: Any, n: int) -> None:
    """All zones are through; a proactive round without success waits 32 s for the next."""
    node = k.node[n]
    node.kcompactd_cc.running = 0
    node.kcompactd_due_ns = NEVER_NS
    if node.kcompactd_proactive:
        interval = HPAGE_FRAG_CHECK_INTERVAL_NS
        if proactive_score(k, n) >= node.kcompactd_score:
            interval <<= COMPACT_MAX_DEFER_SHIFT
        node.kcompactd_check_ns = local_ns(k) + interval
    elif node.kcompactd_max_order <= node.kcompactd_cc.order:
        node.kcompactd_max_order = 0


@rare
def kcompactd_run(k: Any, fr: Any, pt: Any, n: int) -> None:
    """One turn of node `n`'s kcompactd; sets when it is due again.

    Kernel
    ------
    mm/compaction.c, kcompactd_do_work(), compact_node().
    """
    node = k.node[n]
    cc = node.kcompactd_cc
    status = COMPACT_CONTINUE
    if not cc.running:
        _begin(k, n)
        status = 0
    while True:
        if status == COMPACT_CONTINUE:
            status = compact_zone_some(k, fr, pt, cc, float(NS_PER_MS))
            if status == COMPACT_CONTINUE:
                node.kcompactd_due_ns = local_ns(k)
                break
            _end_zone(k, fr, cc, status)
        elif cc.zone + 1 < (n + 1) * ZONES_PER_NODE:
            status = _begin_zone(k, fr, cc, cc.zone + 1)
        else:
            _finish(k, n)
            break
    node.kcompactd_ns += int(k.work_ns)
