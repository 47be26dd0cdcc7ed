"""Classic LRU reclaim (mm/vmscan.c).

    shrink_node:    for each memcg of the target's subtree, in pre-order:
                      protection -> shrink_lruvec -> shrink_slab
    shrink_lruvec:  get_scan_count at the priority; 32 pages a turn from each list
    inactive tail:  shrink_folio; active tail: back to inactive (executable file pages rotate)

``k.sc`` is the scan control of the reclaim that is going on; CPU time goes to ``k.work_ns``.
The per-page decision is in ``shrink_folio``, the drivers in ``reclaim`` and ``kswapd``. Lists
are scanned on credit: a granule is taken when the scan budget covers it.

Departs from the kernel: a batch of 32 pages is one step, so "too many isolated" never happens.
"""

from __future__ import annotations

import math

from capplan.mm._jit import jit, prefetch
from capplan.mm.events import memcg_event
from capplan.mm.huge_memory import huge_first, huge_pages
from capplan.mm.lru_gen import (
    lru_gen_shrink_lruvec,
    lru_gen_shrink_node_begin,
    lru_gen_shrink_node_some,
)
from capplan.mm.lruvec import lru_move, referenced
from capplan.mm.page_counter import calculate_protection
from capplan.mm.page_io import complete_reads
from capplan.mm.scan_count import get_scan_count, list_is_scanned, skip_turns
from capplan.mm.shrink_folio import shrink_folio
from capplan.mm.slab import shrink_slab
from capplan.mm.state import (
    EV_LOW,
    HPAGE_PMD_NR,
    KSWAPD_SLICE_NS,
    LRU_ACTIVE_ANON,
    LRU_ACTIVE_FILE,
    LRU_INACTIVE_ANON,
    LRU_INACTIVE_FILE,
    PG_ACTIVE,
    PG_EXEC,
    PG_HUGE,
    PG_MAPPED,
    PG_WORKINGSET,
    ST_PGSCAN,
    ST_PGSTEAL,
    SWAP_CLUSTER_MAX,
    VM_PGDEACTIVATE,
    VM_PGREFILL,
    VM_PGSCAN_DIRECT,
    VM_PGSCAN_KSWAPD,
    VM_PGSTEAL_DIRECT,
    VM_PGSTEAL_KSWAPD,
    WMARK_HIGH,
)
from capplan.mm.swap import (
    complete_io,
    isolate_begin,
    isolate_end,
    local_ns,
    plug_finish,
    writeback_throttle_ns,
)
from capplan.mm.workingset import lru_note_cost, lruvec_pages
from capplan.mm.writeback import nudge_flusher
from capplan.mm.xarray import ask_for_node, shrink_shadow_nodes
from capplan.mm.zswap_shrinker import shrink_zswap

__all__ = [
    "age_active_anon",
    "inactive_is_low",
    "inactive_list_is_low",
    "shrink_lruvec",
    "shrink_node",
    "shrink_node_begin",
    "shrink_node_end",
    "shrink_node_some",
]


@jit
def inactive_list_is_low(inactive, active):
    """Whether the inactive list is too short for its active one (inactive_is_low). [pages]

    Worked example: (active, inactive) = (262144, 87381): 1 GiB together, ratio 3, True.
    """
    gb = (inactive + active) >> 18
    ratio = int(math.sqrt(10 * gb)) if gb else 1
    return inactive * ratio < active


@jit
def inactive_is_low(k, c, n, lru_inactive):
    """The same for group c and all below it on node n."""
    return inactive_list_is_low(
        lruvec_pages(k, c, n, lru_inactive), lruvec_pages(k, c, n, lru_inactive + 1)
    )


@jit
def _prepare_scan_control(k, n):
    """What holds for the whole pass over this node (prepare_scan_control)."""
    sc = k.sc
    lruvec = k.memcg[sc.target].lruvec[n]
    sc.anon_cost = lruvec.anon_cost
    sc.file_cost = lruvec.file_cost
    sc.anon_part = -1
    sc.deactivate_anon = 1
    sc.deactivate_file = 1
    if not sc.force_deactivate:
        if lruvec.activate_anon == lruvec.refaults_anon and not inactive_is_low(
            k, sc.target, n, LRU_INACTIVE_ANON
        ):
            sc.deactivate_anon = 0
        if lruvec.activate_file == lruvec.refaults_file and not inactive_is_low(
            k, sc.target, n, LRU_INACTIVE_FILE
        ):
            sc.deactivate_file = 0
    inactive_file = lruvec_pages(k, sc.target, n, LRU_INACTIVE_FILE)
    sc.cache_trim_mode = (
        1
        if (inactive_file >> sc.priority) and not sc.deactivate_file and not sc.no_cache_trim_mode
        else 0
    )
    sc.file_is_tiny = 0
    if sc.target == 0:
        file = inactive_file + lruvec_pages(k, 0, n, LRU_ACTIVE_FILE)
        free = 0
        high = 0
        for z in range(4 * n, 4 * n + 4):
            if k.zone[z].managed:
                free += k.zone[z].free
                high += k.zone[z].wmark[WMARK_HIGH] + k.zone[z].boost
        anon = lruvec_pages(k, 0, n, LRU_INACTIVE_ANON)
        if file + free <= high and not sc.deactivate_anon and (anon >> sc.priority):
            sc.file_is_tiny = 1


@jit
def _look_ahead(fr, i):
    """Ask for what the scan of page i's list meets soon (prefetchw_prev_lru_folio).

    The kernel asks for the page before this one. Visits of granules follow each other faster
    than memory answers: the page that is asked for is a few farther, where nothing was taken
    off the list between them.
    """
    prefetch(fr, fr[i].ahead)


@jit
def _shrink_active_list(k, fr, pt, c, n, nr, lru):
    """Move pages from the active tail to the inactive head (shrink_active_list).

    Touched executable file pages stay active; touched anonymous pages do not.
    """
    lruvec = k.memcg[c].lruvec[n]
    lruvec.credit[lru] += nr
    rotated = 0
    moved = 0
    while lruvec.tail[lru] >= 0:
        i = lruvec.tail[lru]
        size = fr[i].nr_pages
        if lruvec.credit[lru] < size:
            break
        _look_ahead(fr, i)
        lruvec.credit[lru] -= size
        k.vmstat[VM_PGREFILL] += size
        k.work_ns += k.cost.rotate_ns * size
        touched = referenced(k, fr, i)
        if fr[i].flags & PG_MAPPED:
            k.work_ns += k.cost.rmap_ns * size
        if touched and lru == LRU_ACTIVE_FILE and fr[i].flags & PG_EXEC:
            rotated += size
        else:
            fr[i].flags &= ~PG_ACTIVE
            fr[i].flags |= PG_WORKINGSET
            moved += size
        lru_move(k, fr, i)
    if lruvec.tail[lru] < 0:
        lruvec.credit[lru] = 0
    k.vmstat[VM_PGDEACTIVATE] += moved
    if rotated:
        lru_note_cost(k, c, n, lru == LRU_ACTIVE_FILE, 0, rotated)


@jit
def _is_of(k, fr, i, stop):
    """Whether page i, or the huge page that it is of, is page ``stop``."""
    if fr[i].flags & PG_HUGE:
        return 0 <= stop - huge_first(k, fr, i) < huge_pages(k)
    return i == stop


@jit
def _shrink_inactive_list(k, fr, pt, c, n, nr, lru):
    """Reclaim from an inactive tail; pages freed (shrink_inactive_list).

    A huge page that is met is taken as a whole, however little the turn had left.
    """
    sc = k.sc
    lruvec = k.memcg[c].lruvec[n]
    lruvec.credit[lru] += nr
    scanned = 0
    reclaimed = 0
    pageout_before = sc.pageout
    unqueued_before = sc.unqueued_dirty
    stop = lruvec.head[lru]  # pages put back at the head are not met again in this turn
    last = False
    isolate_begin(k)
    while lruvec.tail[lru] >= 0 and not last:
        i = lruvec.tail[lru]
        size = fr[i].nr_pages
        if lruvec.credit[lru] < (1 if fr[i].flags & PG_HUGE else size):
            break
        _look_ahead(fr, i)
        if fr[i].prev >= 0:
            prefetch(pt, fr[fr[i].prev].pte)  # where its shadow will stand
            ask_for_node(k, pt, fr[fr[i].prev].pte)
        last = _is_of(k, fr, i, stop)
        freed = shrink_folio(k, fr, pt, i)
        if freed > size or fr[i].flags & PG_HUGE:
            size = HPAGE_PMD_NR
        lruvec.credit[lru] -= min(size, lruvec.credit[lru])
        scanned += size
        sc.taken += size
        if lru == LRU_INACTIVE_FILE:
            sc.file_taken += size
        reclaimed += freed
    isolate_end(k, fr)
    if lruvec.tail[lru] < 0 or last:
        lruvec.credit[lru] = 0
    if scanned == 0:
        return 0
    _count_scan(k, c, scanned, reclaimed)
    pageout = sc.pageout - pageout_before
    lru_note_cost(k, c, n, lru == LRU_INACTIVE_FILE, pageout, scanned - reclaimed)
    if sc.unqueued_dirty - unqueued_before == scanned:
        nudge_flusher(k, fr, pt)
        if k.cgroup_v1 and sc.target > 0:  # its writers are not paused by their group's dirt
            k.wait_ns += writeback_throttle_ns(k, fr)
    return reclaimed


@jit
def _count_scan(k, c, scanned, reclaimed):
    sc = k.sc
    sc.nr_scanned += scanned
    stat = k.memcg[c].stat
    stat[ST_PGSCAN] += scanned
    stat[ST_PGSTEAL] += reclaimed
    if sc.target > 0:
        return
    if sc.kswapd:
        k.vmstat[VM_PGSCAN_KSWAPD] += scanned
        k.vmstat[VM_PGSTEAL_KSWAPD] += reclaimed
    else:
        k.vmstat[VM_PGSCAN_DIRECT] += scanned
        k.vmstat[VM_PGSTEAL_DIRECT] += reclaimed


@jit
def _balance_rest(k):
    """Stop the kind with less left, keep the proportion of the other (shrink_lruvec)."""
    nr = k.sc.nr
    target = k.sc.target_scan
    nr_file = nr[LRU_INACTIVE_FILE] + nr[LRU_ACTIVE_FILE]
    nr_anon = nr[LRU_INACTIVE_ANON] + nr[LRU_ACTIVE_ANON]
    if nr_file == 0 or nr_anon == 0:
        return False
    if nr_file > nr_anon:
        stop, go = LRU_INACTIVE_ANON, LRU_INACTIVE_FILE
        left = nr_anon
    else:
        stop, go = LRU_INACTIVE_FILE, LRU_INACTIVE_ANON
        left = nr_file
    percent = left * 100 // (target[stop] + target[stop + 1] + 1)
    nr[stop] = 0
    nr[stop + 1] = 0
    for lru in (go, go + 1):
        done = target[lru] - nr[lru]
        nr[lru] = max(target[lru] * (100 - percent) // 100 - done, 0)
    return True


@jit
def _begin_lruvec(k, c, n):
    """What to scan of the lists of one group (shrink_lruvec, its beginning)."""
    sc = k.sc
    get_scan_count(k, c, n)
    sc.lruvec_reclaimed = 0
    sc.lruvec_adjusted = 1 if sc.target == 0 and not sc.kswapd and sc.priority == 12 else 0


@jit
def _through(nr):
    """Whether the lists have given what they had to (shrink_lruvec; Active anon alone is none)."""
    return nr[LRU_INACTIVE_ANON] == 0 and nr[LRU_ACTIVE_FILE] == 0 and nr[LRU_INACTIVE_FILE] == 0


@jit
def _turn_lruvec(k, fr, pt, c, n):
    """Up to 32 pages of each list; whether the lists are through (shrink_lruvec, its loop)."""
    sc = k.sc
    nr = sc.nr
    if k.nr_writeback:
        complete_io(k, fr, local_ns(k))  # what it wrote before may be at the tail by now
    if k.nr_reads:
        complete_reads(k, fr, pt, local_ns(k))
    if k.granule_pages > SWAP_CLUSTER_MAX:
        skip_turns(k, fr, c, n)
        if _through(nr):
            return True
    for lru in range(4):
        part = min(nr[lru], SWAP_CLUSTER_MAX)
        if part == 0:
            continue
        nr[lru] -= part
        if not list_is_scanned(sc, lru):
            sc.skipped_deactivate = 1
        elif lru == LRU_ACTIVE_ANON or lru == LRU_ACTIVE_FILE:
            _shrink_active_list(k, fr, pt, c, n, part, lru)
        else:
            sc.lruvec_reclaimed += _shrink_inactive_list(k, fr, pt, c, n, part, lru)
    if sc.lruvec_reclaimed < sc.nr_to_reclaim or sc.lruvec_adjusted:
        return False
    if not _balance_rest(k):
        return True
    sc.lruvec_adjusted = 1
    return False


@jit
def _end_lruvec(k, fr, pt, c, n):
    """Count, and keep the anonymous lists in balance (shrink_lruvec, its end)."""
    sc = k.sc
    plug_finish(k, fr, 1 if sc.kswapd else 0)
    sc.nr_reclaimed += sc.lruvec_reclaimed
    if (
        k.nr_swaps > 0
        and sc.may_swap
        and inactive_list_is_low(
            k.memcg[c].lruvec[n].pages[LRU_INACTIVE_ANON],
            k.memcg[c].lruvec[n].pages[LRU_ACTIVE_ANON],
        )
    ):
        _shrink_active_list(k, fr, pt, c, n, SWAP_CLUSTER_MAX, LRU_ACTIVE_ANON)


@jit
def shrink_lruvec(k, fr, pt, c, n):
    """Scan the lists of one group in turns of 32 pages (shrink_lruvec)."""
    if k.lru_gen:
        lru_gen_shrink_lruvec(k, fr, pt, c, n)
        return
    _begin_lruvec(k, c, n)
    while not (_through(k.sc.nr) or _turn_lruvec(k, fr, pt, c, n)):
        pass
    _end_lruvec(k, fr, pt, c, n)


@jit
def age_active_anon(k, fr, pt, n):
    """kswapd's background aging of anonymous pages (kswapd_age_node)."""
    if k.nr_swaps == 0 or k.lru_gen or not inactive_is_low(k, 0, n, LRU_INACTIVE_ANON):
        return
    for c in range(k.nr_memcgs):
        _shrink_active_list(k, fr, pt, c, n, SWAP_CLUSTER_MAX, LRU_ACTIVE_ANON)


@jit
def _protected(k, c):
    """Whether group c is skipped in this pass (mem_cgroup_below_min, _low)."""
    sc = k.sc
    calculate_protection(k, sc.target, c)
    counter = k.memcg[c].memory
    if c == sc.target or c == 0:
        return False
    if counter.usage <= counter.emin:
        return True
    if counter.usage <= counter.elow:
        if not sc.memcg_low_reclaim:
            sc.memcg_low_skipped = 1
            return True
        memcg_event(k, c, EV_LOW)
    return False


@jit
def _shrink_node_memcgs(k, fr, pt, n):
    """One pass over the target's subtree (shrink_node_memcgs).

    Since "mm: vmscan: share the iterator" (feature ``direct_reclaim_cursor``) direct reclaim
    goes on where the last one stopped and ends when it has enough; before, it walks all.
    """
    sc = k.sc
    first = sc.target
    end = k.memcg[first].subtree_end if first > 0 else k.nr_memcgs
    count = end - first
    partial = k.direct_reclaim_cursor and not sc.kswapd and not sc.full_walk
    start = 0
    if partial and first <= k.node[n].reclaim_cursor < end:
        start = k.node[n].reclaim_cursor - first
    if partial:  # protection is worked out from the top down
        for c in range(first, end):
            calculate_protection(k, sc.target, c)
    for step in range(count):
        c = first + (start + step) % count
        if _protected(k, c):
            continue
        shrink_lruvec(k, fr, pt, c, n)
        shrink_slab(k, fr, c)
        shrink_shadow_nodes(k, fr, pt, c, n)
        shrink_zswap(k, fr, pt, c)
        k.work_ns += k.cost.visit_ns
        if partial and sc.nr_reclaimed >= sc.nr_to_reclaim:
            k.node[n].reclaim_cursor = c + 1 if c + 1 < end else first
            return


@jit
def shrink_node_some(k, fr, pt, n):
    """A slice of kswapd's pass over all groups of node n; whether the pass is over."""
    node = k.node[n]
    if k.lru_gen:
        return lru_gen_shrink_node_some(k, fr, pt, n)
    while node.kswapd_memcg < k.nr_memcgs:
        c = node.kswapd_memcg
        if not node.kswapd_in_lruvec:
            if _protected(k, c):
                node.kswapd_memcg += 1
                continue
            _begin_lruvec(k, c, n)
            node.kswapd_in_lruvec = 1
        while not (_through(k.sc.nr) or _turn_lruvec(k, fr, pt, c, n)):
            if k.work_ns + k.wait_ns >= KSWAPD_SLICE_NS:
                return False
        _end_lruvec(k, fr, pt, c, n)
        shrink_slab(k, fr, c)
        shrink_shadow_nodes(k, fr, pt, c, n)
        shrink_zswap(k, fr, pt, c)
        k.work_ns += k.cost.visit_ns
        node.kswapd_in_lruvec = 0
        node.kswapd_memcg += 1
    return True


@jit
def shrink_node_begin(k, n):
    """Begin a pass over node n (shrink_node, prepare_scan_control)."""
    sc = k.sc
    sc.node = n
    sc.dirty = 0
    sc.unqueued_dirty = 0
    sc.congested = 0
    sc.writeback = 0
    sc.immediate = 0
    sc.taken = 0
    sc.file_taken = 0
    if not k.lru_gen:
        _prepare_scan_control(k, n)
    elif sc.target == 0:
        lru_gen_shrink_node_begin(k, n)


@jit
def shrink_node(k, fr, pt, n):
    """One pass of reclaim over node n for k.sc.target; pages freed are in sc.nr_reclaimed."""
    before = k.sc.nr_reclaimed
    shrink_node_begin(k, n)
    if k.lru_gen and k.sc.target == 0:
        lru_gen_shrink_node_some(k, fr, pt, n)
        return
    _shrink_node_memcgs(k, fr, pt, n)
    shrink_node_end(k, n, before)


@jit
def shrink_node_end(k, n, before):
    """What a pass says about dirty pages and congestion (shrink_node, its end)."""
    sc = k.sc
    node = k.node[n]
    if k.lru_gen and sc.target == 0:
        return
    if sc.kswapd:
        if sc.writeback and sc.writeback == sc.taken:
            node.flag_writeback = 1
        if sc.unqueued_dirty == sc.file_taken:
            node.flag_dirty = 1
    lruvec = k.memcg[sc.target].lruvec[n]
    if (sc.kswapd or (sc.target > 0 and not k.cgroup_v1)) and sc.dirty and sc.dirty == sc.congested:
        lruvec.congested = 1
    if sc.nr_reclaimed > before:
        node.kswapd_failures = 0
