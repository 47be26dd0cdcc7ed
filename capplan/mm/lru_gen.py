"""Multi-gen LRU: eviction and its drivers, beside the classic policy of ``vmscan.py``.

mm/vmscan.c under CONFIG_LRU_GEN (kernel-model 7); ``sc`` is ``k.sc``.

    memcg reclaim:  shrink_lruvec -> lru_gen_shrink_lruvec -> try_to_shrink_lruvec
    global reclaim: shrink_node -> lru_gen_shrink_node -> the memcg LRU -> shrink_one -> the same
    kswapd, before each pass: lru_gen_age_node

Granules: a batch takes up to 64 pages however small the request is, as in the kernel, so a
granule of up to 64 pages is never too much. A larger one leaves a debt
(``lruvec.gen_credit`` < 0) that the next batches pay for by taking nothing.
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import jit
from capplan.mm.events import memcg_event
from capplan.mm.lru_gen_age import (
    MIN_LRU_BATCH,
    evictable_pages,
    out_of_cold_folios,
    should_run_aging,
    try_to_inc_max_seq,
    try_to_inc_min_seq,
)
from capplan.mm.lru_gen_lists import (
    LRU_GEN_FILE,
    clear_lru_refs,
    folio_update_gen,
    get_nr_gens,
)
from capplan.mm.lru_gen_memcg import (
    MEMCG_LRU_NOP,
    MEMCG_LRU_TAIL,
    MEMCG_LRU_YOUNG,
    lru_gen_rotate_memcg,
    random_bin,
)
from capplan.mm.lru_gen_scan import get_swappiness, get_tier_idx, scan_folios, type_and_tier
from capplan.mm.lru_gen_walk import suitable_to_scan, update_bloom_filter
from capplan.mm.lruvec import lru_add, referenced
from capplan.mm.page_counter import calculate_protection
from capplan.mm.shrink_folio import shrink_folio
from capplan.mm.slab import shrink_slab
from capplan.mm.state import (
    DEF_PRIORITY,
    EV_LOW,
    KSWAPD_SLICE_NS,
    LRU_INACTIVE_ANON,
    LRU_INACTIVE_FILE,
    LRU_NONE,
    MAX_NR_GENS,
    MEMCG_NR_BINS,
    MEMCG_NR_GENS,
    MIN_NR_GENS,
    PAGEBLOCK_ORDER,
    PG_ACTIVE,
    PG_DIRTY,
    PG_MAPPED,
    PG_MLOCKED,
    PG_RECLAIM,
    PG_REFERENCED,
    PG_WORKINGSET,
    PG_WRITEBACK,
    PTE_PRESENT,
    ST_PGSTEAL,
    VM_PGACTIVATE,
    VM_PGSTEAL_DIRECT,
    VM_PGSTEAL_KSWAPD,
    WMARK_HIGH,
    ZONES_PER_NODE,
)
from capplan.mm.swap import plug_finish
from capplan.mm.swap_map import total_free_swap
from capplan.mm.watermark import wmark_pages, zone_watermark_ok
from capplan.mm.writeback import nudge_flusher
from capplan.mm.xarray import shrink_shadow_nodes
from capplan.mm.zswap_shrinker import shrink_zswap

SLICE_OVER = -1


@jit
def _isolate_folios(k: Any, fr: Any, c: int, n: int, swappiness: int) -> tuple[int, int, int]:
    """Scan the preferred type, and the other one when that has nothing to isolate."""
    lv = k.memcg[c].lruvec[n]
    t, tier = type_and_tier(lv, swappiness)
    scanned, nr, isolated = scan_folios(k, fr, c, n, t, tier)
    if scanned == 0 and swappiness:
        t = 1 - t
        scanned, nr, isolated = scan_folios(k, fr, c, n, t, get_tier_idx(lv, t))
    return scanned, nr, isolated


@jit
def _window(k: Any, at: int) -> tuple[int, int]:
    """Return the granules of the 64 entries around one, within its page table."""
    half = (MIN_LRU_BATCH // 2) >> k.g
    table = max((1 << PAGEBLOCK_ORDER) >> k.g, 1)
    low = at - at % table
    high = low + table
    if at - low < half:
        return low, min(low + 2 * half, high)
    if high - at < half:
        return max(high - 2 * half, low), high
    return at - half, at + half


@jit
def lru_gen_look_around(k: Any, fr: Any, pt: Any, i: int) -> None:
    """Promote the accessed neighbours of a folio that reclaim found accessed.

    Kernel
    ------
    mm/vmscan.c, lru_gen_look_around(): 64 page table entries around, in the same table, which
    the next walk looks at if one in eight of them was accessed.

    Departs from the kernel
    -----------------------
    Neighbours are promoted in place; direct reclaim activates them one by one. A granule
    of 64 pages or more has no neighbours within reach.
    """
    m = fr[i].mapping
    if m < 0 or not fr[i].flags & PG_MAPPED:
        return
    first = k.mapping[m].first_pte
    begin, end = _window(k, fr[i].pte - first)
    end = min(end, k.mapping[m].nr_ptes)
    c = fr[i].memcg
    zone = fr[i].zone
    max_seq = k.memcg[c].lruvec[zone // ZONES_PER_NODE].max_seq + 0
    young = fr[i].nr_pages + 0
    for e in range(first + begin, first + end):
        j = pt[e].frame
        if pt[e].state != PTE_PRESENT or j == i or j < 0:
            continue
        same = fr[j].memcg == c and fr[j].zone // ZONES_PER_NODE == zone // ZONES_PER_NODE
        if same and fr[j].flags & (PG_MAPPED | PG_MLOCKED) == PG_MAPPED and referenced(k, fr, j):
            folio_update_gen(k, fr, j, max_seq % MAX_NR_GENS)
            young += fr[j].nr_pages
    if suitable_to_scan(max(end - begin, 1) * k.granule_pages, young):
        update_bloom_filter(k, pt, m, fr[i].pte, c, zone // ZONES_PER_NODE, max_seq)


@jit
def _put_back_rejected(k: Any, fr: Any, i: int) -> None:
    """Put a folio that was not reclaimed on a list: not the oldest generation's again."""
    f = fr[i]
    if f.flags & PG_ACTIVE:
        k.vmstat[VM_PGACTIVATE] += f.nr_pages
    if f.flags & PG_RECLAIM and f.flags & (PG_DIRTY | PG_WRITEBACK):
        if f.flags & PG_WORKINGSET:
            f.flags |= PG_REFERENCED
    else:
        clear_lru_refs(fr, i)
        f.flags |= PG_ACTIVE
    lru_add(k, fr, i)


@jit
def _shrink_isolated(k: Any, fr: Any, pt: Any, nr: int) -> int:
    """Reclaim the isolated folios: pages freed.

    Departs from the kernel
    -----------------------
    A folio goes back to its list before the next one is tried; none gets a second try for
    having become clean meanwhile.
    """
    reclaimed = 0
    for at in range(nr):
        i = k.lru_gen_isolated[at]
        if fr[i].lru != LRU_NONE:
            continue  # its writeback ended meanwhile: back on its list
        k.sc.nr_scanned += fr[i].nr_pages
        k.sc.taken += fr[i].nr_pages
        freed = 0
        if not (fr[i].flags & PG_MAPPED and fr[i].flags & PG_REFERENCED):
            freed = shrink_folio(k, fr, pt, i)
            if not freed and fr[i].flags & PG_REFERENCED:
                lru_gen_look_around(k, fr, pt, i)
        # else: lru_gen_look_around() found it accessed
        if freed:
            reclaimed += freed
        elif fr[i].lru == LRU_NONE:
            _put_back_rejected(k, fr, i)
    return reclaimed


@jit
def evict_folios(k: Any, fr: Any, pt: Any, c: int, n: int, swappiness: int) -> int:
    """Evict a batch from a lruvec; the pages scanned, 0: nothing is left to evict.

    Kernel
    ------
    mm/vmscan.c, evict_folios().
    """
    lv = k.memcg[c].lruvec[n]
    if lv.gen_credit < 0:
        lv.gen_credit = min(lv.gen_credit + MIN_LRU_BATCH, 0)
        return MIN_LRU_BATCH
    scanned, nr, isolated = _isolate_folios(k, fr, c, n, swappiness)
    if try_to_inc_min_seq(k, c, n, swappiness != 0):
        scanned += 1
    if get_nr_gens(lv, 0 if swappiness else LRU_GEN_FILE) == MIN_NR_GENS:
        scanned = 0
    if isolated > MIN_LRU_BATCH:
        lv.gen_credit = MIN_LRU_BATCH - isolated
    reclaimed = _shrink_isolated(k, fr, pt, nr)
    k.sc.nr_reclaimed += reclaimed
    k.memcg[c].stat[ST_PGSTEAL] += reclaimed
    if k.sc.target == 0:
        k.vmstat[VM_PGSTEAL_KSWAPD if k.sc.kswapd else VM_PGSTEAL_DIRECT] += reclaimed
    return scanned


@jit
def mem_cgroup_below_min(k: Any, target: int, c: int) -> bool:
    """Tell whether memory.min protects all of a memcg against a reclaim of ``target``."""
    if c == 0 or c == target:
        return False
    return bool(k.memcg[c].memory.emin >= k.memcg[c].memory.usage)


@jit
def mem_cgroup_below_low(k: Any, target: int, c: int) -> bool:
    """Tell whether memory.low protects all of a memcg against a reclaim of ``target``."""
    if c == 0 or c == target:
        return False
    return bool(k.memcg[c].memory.elow >= k.memcg[c].memory.usage)


@jit
def get_nr_to_scan(k: Any, fr: Any, pt: Any, c: int, n: int, can_swap: bool) -> int:
    """Return the pages to scan at this priority; 0: none; -1: leave this memcg.

    Ages the lruvec when that is due, but not at the default priority.

    Kernel
    ------
    mm/vmscan.c, get_nr_to_scan().
    """
    lv = k.memcg[c].lruvec[n]
    if mem_cgroup_below_min(k, k.sc.target, c):
        return -1
    due = should_run_aging(lv, can_swap)
    nr_to_scan = 0 if out_of_cold_folios(lv, can_swap) else evictable_pages(lv, can_swap)
    if nr_to_scan and not k.memcg[c].online:
        return nr_to_scan
    if not due or k.sc.priority == DEF_PRIORITY:
        return nr_to_scan >> k.sc.priority  # type: ignore[no-any-return]
    try_to_inc_max_seq(k, fr, pt, c, n, can_swap)
    return -1


@jit
def should_abort_scan(k: Any, n: int) -> bool:
    """Tell whether global reclaim has enough: its target, or kswapd's marks, are met."""
    sc = k.sc
    if sc.target != 0:
        return False
    if sc.nr_reclaimed >= max(sc.nr_to_reclaim, 2 << sc.order):
        return True
    if not sc.kswapd or sc.order:
        return False
    for z in range(n * ZONES_PER_NODE, n * ZONES_PER_NODE + sc.reclaim_idx + 1):
        mark = wmark_pages(k, z, WMARK_HIGH) + MIN_LRU_BATCH
        if k.zone[z].managed > 0 and not zone_watermark_ok(k, z, 0, mark, sc.reclaim_idx, 0):
            return False
    return True


@jit
def try_to_shrink_lruvec(k: Any, fr: Any, pt: Any, c: int, n: int) -> int:
    """Evict until this priority's share is scanned.

    Returns
    -------
    int
        1: the memcg is to be rotated, 0: it is not, SLICE_OVER: kswapd goes on with it later.

    Kernel
    ------
    mm/vmscan.c, try_to_shrink_lruvec(): between two batches kswapd lets others run
    (cond_resched()).
    """
    sc = k.sc
    swappiness = get_swappiness(k, c)
    while True:
        nr_to_scan = get_nr_to_scan(k, fr, pt, c, n, swappiness != 0)
        if nr_to_scan <= 0:
            break
        delta = evict_folios(k, fr, pt, c, n, swappiness)
        sc.lruvec_scanned += delta
        if delta == 0 or sc.lruvec_scanned >= nr_to_scan or should_abort_scan(k, n):
            break
        if sc.kswapd and k.work_ns + k.wait_ns >= KSWAPD_SLICE_NS:
            return SLICE_OVER
    sc.lruvec_scanned = 0
    if sc.unqueued_dirty and sc.unqueued_dirty == sc.file_taken:
        nudge_flusher(k, fr, pt)
    return 1 if nr_to_scan < 0 else 0


@jit
def lru_gen_shrink_lruvec(k: Any, fr: Any, pt: Any, c: int, n: int) -> None:
    """Shrink one memcg of a memcg reclaim.

    Kernel
    ------
    mm/vmscan.c, lru_gen_shrink_lruvec(). The walk over the target's subtree, the
    protections and the slab shrinkers are shrink_node_memcgs()'s.
    """
    k.sc.lruvec_scanned = 0
    rotate = try_to_shrink_lruvec(k, fr, pt, c, n)
    plug_finish(k, fr, 0)
    if rotate:
        lru_gen_rotate_memcg(k, c, n, MEMCG_LRU_YOUNG)


@jit
def lruvec_is_sizable(k: Any, c: int, n: int) -> bool:
    """Tell whether a lruvec has a page to scan at this priority."""
    total = evictable_pages(k.memcg[c].lruvec[n], get_swappiness(k, c) != 0)
    return bool(total >> k.sc.priority if k.memcg[c].online else total)


@jit
def _shrink_one(k: Any, fr: Any, pt: Any, c: int, n: int) -> int:
    """Shrink one memcg of a global reclaim; how to rotate it in the memcg LRU, or SLICE_OVER.

    Kernel
    ------
    mm/vmscan.c, shrink_one().
    """
    lv = k.memcg[c].lruvec[n]
    if not k.sc.in_lruvec:
        if mem_cgroup_below_min(k, 0, c):
            return MEMCG_LRU_YOUNG
        if mem_cgroup_below_low(k, 0, c):
            if lv.memcg_seg != MEMCG_LRU_TAIL:
                return MEMCG_LRU_TAIL
            memcg_event(k, c, EV_LOW)
        k.sc.lruvec_scanned = 0
    rotate = try_to_shrink_lruvec(k, fr, pt, c, n)
    k.sc.in_lruvec = 1 if rotate == SLICE_OVER else 0
    if rotate == SLICE_OVER:
        return SLICE_OVER
    shrink_slab(k, fr, c)
    shrink_shadow_nodes(k, fr, pt, c, n)
    shrink_zswap(k, fr, pt, c)
    if rotate and k.memcg[c].online:
        return MEMCG_LRU_YOUNG
    if not rotate and lruvec_is_sizable(k, c, n):
        return MEMCG_LRU_NOP
    return MEMCG_LRU_TAIL if lv.memcg_seg != MEMCG_LRU_TAIL else MEMCG_LRU_YOUNG


@jit
def _bin_head(k: Any, n: int) -> int:
    """First memcg of the bin that shrink_many() is at."""
    at = (k.sc.many_bin + k.sc.many_step) % MEMCG_NR_BINS
    return k.node[n].memcg_lru_head[k.sc.many_gen, at]  # type: ignore[no-any-return]


@jit
def _shrink_many(k: Any, fr: Any, pt: Any, n: int) -> bool:
    """Shrink the memcgs of the old generation, bin by bin; False: kswapd's slice is over.

    Kernel
    ------
    mm/vmscan.c, shrink_many(): a memcg is rotated once the next one is known. One that was
    rotated by somebody else leads to the end of another generation's list: the bin is begun
    again.
    """
    sc = k.sc
    while sc.many_step < MEMCG_NR_BINS:
        end_gen = sc.many_gen + 0
        while sc.many_memcg >= 0:
            c = sc.many_memcg + 0
            lv = k.memcg[c].lruvec[n]
            op = MEMCG_LRU_NOP
            stop = False
            if sc.in_lruvec or lv.memcg_gen == sc.many_gen:
                op = _shrink_one(k, fr, pt, c, n)
                if op == SLICE_OVER:
                    return False
                stop = should_abort_scan(k, n)
            end_gen = lv.memcg_gen + 0
            sc.many_memcg = lv.memcg_next
            if op:
                lru_gen_rotate_memcg(k, c, n, op)
            if stop:
                return True
        if end_gen == sc.many_gen:
            sc.many_step += 1
        sc.many_memcg = _bin_head(k, n)
    return True


@jit
def set_initial_priority(k: Any, n: int) -> None:
    """Start kswapd at the priority that its target asks for.

    Kernel
    ------
    mm/vmscan.c, set_initial_priority(): clamp(fls(reclaimable) - 1 - fls(target - 1), 6, 12).

    Worked example
    --------------
    200000 inactive pages, target 16629: fls 18 - 1 - fls(16628) 15 = 2, so 6.
    """
    sc = k.sc
    if sc.priority != DEF_PRIORITY or sc.nr_to_reclaim < MIN_LRU_BATCH:
        return
    reclaimable = 0
    for z in range(n * ZONES_PER_NODE, (n + 1) * ZONES_PER_NODE):
        reclaimable += k.zone[z].lru_pages[LRU_INACTIVE_FILE]
        if total_free_swap(k) > 0:
            reclaimable += k.zone[z].lru_pages[LRU_INACTIVE_ANON]
    priority = fls(reclaimable) - 1 - fls(sc.nr_to_reclaim - 1)
    sc.priority = min(max(priority, DEF_PRIORITY // 2), DEF_PRIORITY)


@jit
def fls(value: int) -> int:
    """Return the position of the highest set bit, from 1; 0 for 0."""
    bits = 0
    while value > 0:
        value >>= 1
        bits += 1
    return bits


@jit
def lru_gen_shrink_node_begin(k: Any, n: int) -> None:
    """Begin to shrink a node for global reclaim: direct reclaim or kswapd."""
    sc = k.sc
    sc.reclaimed_before = sc.nr_reclaimed
    sc.in_lruvec = 0
    sc.many_step = MEMCG_NR_BINS
    if not sc.may_writepage or not sc.may_unmap:
        return  # for a boost, or the node alone: what is easy, and there is no such thing here
    set_initial_priority(k, n)
    if sc.kswapd:
        sc.nr_reclaimed = 0
    sc.many_gen = k.node[n].memcg_lru_seq % MEMCG_NR_GENS
    sc.many_bin = random_bin(k, n)
    sc.many_step = 0
    sc.many_memcg = _bin_head(k, n)


@jit
def lru_gen_shrink_node_some(k: Any, fr: Any, pt: Any, n: int) -> bool:
    """Shrink the node, kswapd for a slice of time; whether that is all.

    Kernel
    ------
    mm/vmscan.c, lru_gen_shrink_node().
    """
    sc = k.sc
    if not _shrink_many(k, fr, pt, n):
        return False
    plug_finish(k, fr, 1 if sc.kswapd else 0)
    if sc.kswapd and sc.may_writepage:
        sc.nr_reclaimed += sc.reclaimed_before
    if sc.nr_reclaimed > sc.reclaimed_before:
        k.node[n].kswapd_failures = 0
    return True


@jit
def lru_gen_age_node(k: Any, n: int) -> bool:
    """Prepare a pass of kswapd; True: every generation is younger than min_ttl, so the OOM
    killer is to be called.

    Kernel
    ------
    mm/vmscan.c, lru_gen_age_node(), lruvec_is_reclaimable().
    """
    set_initial_priority(k, n)
    reclaimable = k.lru_gen_min_ttl_ns == 0
    for c in range(k.nr_memcgs):
        if not k.memcg[c].online:
            continue
        calculate_protection(k, 0, c)
        if reclaimable or mem_cgroup_below_min(k, 0, c) or not lruvec_is_sizable(k, c, n):
            continue
        lv = k.memcg[c].lruvec[n]
        birth = lv.gen_birth_ns[lv.min_seq[LRU_GEN_FILE] % MAX_NR_GENS]
        reclaimable = birth + k.lru_gen_min_ttl_ns < k.now_ns
    return not reclaimable
