"""Multi-gen LRU, the scan: which type, which tiers, which folios come off the oldest list.

mm/vmscan.c under CONFIG_LRU_GEN, the section "the eviction", up to isolate_folios().
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import jit
from capplan.mm.lru_gen_age import (
    MAX_LRU_BATCH,
    MIN_LRU_BATCH,
    ctrl_pos_refaulted,
    ctrl_pos_total,
    positive_ctrl_err,
)
from capplan.mm.lru_gen_lists import (
    LRU_GEN_ANON,
    LRU_GEN_FILE,
    LRU_REFS_MAX,
    LRU_REFS_WIDTH,
    clear_lru_refs,
    folio_inc_gen,
    folio_lru_refs,
    gen_list_add,
    gen_list_del,
    get_nr_gens,
    lru_gen_isolate,
    lru_gen_mark_accessed,
    lru_gen_type,
    lru_tier_from_refs,
)
from capplan.mm.lruvec import progress_now, referenced
from capplan.mm.state import (
    MAX_NR_GENS,
    MAX_NR_TIERS,
    MIN_NR_GENS,
    PG_MAPPED,
    PG_MLOCKED,
    PG_REFERENCED,
    ST_PGSCAN,
    VM_PGREFILL,
    VM_PGSCAN_DIRECT,
    VM_PGSCAN_KSWAPD,
    ZONES_PER_NODE,
)
from capplan.mm.swap_map import mem_cgroup_nr_swap_pages

MAX_SWAPPINESS = 200


@jit
def get_swappiness(k: Any, c: int) -> int:
    """Return the memcg's swappiness, 0 when it has less than 64 slots to swap to."""
    if not k.sc.may_swap or mem_cgroup_nr_swap_pages(k, c) < MIN_LRU_BATCH:
        return 0
    if k.cgroup_v1 and c > 0:
        return k.memcg[c].swappiness  # type: ignore[no-any-return]
    return k.swappiness  # type: ignore[no-any-return]


@jit
def _protects(lv: Any, sp_type: int, sp_gain: int, t: int, tier: int, gain: int) -> bool:
    """Tell whether a tier refaults more than the first tier of the set point's type."""
    return not positive_ctrl_err(
        ctrl_pos_refaulted(lv, sp_type, 0),
        ctrl_pos_total(lv, sp_type, 0),
        sp_gain,
        ctrl_pos_refaulted(lv, t, tier),
        ctrl_pos_total(lv, t, tier),
        gain,
    )


@jit
def get_tier_idx(lv: Any, t: int) -> int:
    """Return the last tier of a type to evict: below the first that refaults twice as much."""
    tier = 1
    while tier < MAX_NR_TIERS and not _protects(lv, t, 1, t, tier, 2):
        tier += 1
    return tier - 1


@jit
def get_type_to_scan(lv: Any, swappiness: int) -> int:
    """Choose anon or file by their refault rates, weighted by swappiness."""
    file_gain = MAX_SWAPPINESS - swappiness
    if _protects(lv, LRU_GEN_ANON, swappiness, LRU_GEN_FILE, 0, file_gain):
        return LRU_GEN_ANON
    return LRU_GEN_FILE


@jit
def type_and_tier(lv: Any, swappiness: int) -> tuple[int, int]:
    """Choose the type to scan first, and its last tier to evict.

    Kernel
    ------
    mm/vmscan.c, isolate_folios() and get_type_to_scan(); __GFP_IO is always allowed.

    Worked example
    --------------
    swappiness 0: file. Anon in generation 1, file in 2: anon. Both in 2: swappiness 1 file,
    200 anon, else the one that refaults less (few refaults: file).
    """
    if swappiness == 0:
        return LRU_GEN_FILE, get_tier_idx(lv, LRU_GEN_FILE)
    if lv.min_seq[LRU_GEN_ANON] < lv.min_seq[LRU_GEN_FILE] or swappiness == MAX_SWAPPINESS:
        return LRU_GEN_ANON, get_tier_idx(lv, LRU_GEN_ANON)
    if swappiness == 1:
        return LRU_GEN_FILE, get_tier_idx(lv, LRU_GEN_FILE)
    t = get_type_to_scan(lv, swappiness)
    gain = swappiness if t == LRU_GEN_ANON else MAX_SWAPPINESS - swappiness
    tier = 1
    while tier < MAX_NR_TIERS and not _protects(lv, 1 - t, MAX_SWAPPINESS - gain, t, tier, gain):
        tier += 1
    return t, tier - 1


@jit
def note_fd_accesses(k: Any, fr: Any, i: int) -> None:
    """Mark the read(2)s since the last look, which the kernel marks as they come."""
    m = fr[i].mapping
    if m < 0 or fr[i].flags & PG_MAPPED or not k.mapping[m].via_read:
        return
    laps = (progress_now(k, m) - fr[i].seen) / max(k.mapping[m].size_pages, 1)
    if referenced(k, fr, i):
        for _ in range(min(max(int(laps), 1), LRU_REFS_MAX + 2)):
            lru_gen_mark_accessed(fr, i)


@jit
def sort_folio(k: Any, fr: Any, lv: Any, i: int, tier_idx: int) -> bool:
    """Move a folio that is not to be evicted to where it belongs; False: evict it.

    Kernel
    ------
    mm/vmscan.c, sort_folio(): promoted by the aging, protected by its tier, or in a zone
    that the request cannot use.
    """
    if fr[i].flags & PG_MLOCKED:
        return False
    note_fd_accesses(k, fr, i)
    t = lru_gen_type(fr, i)
    oldest = lv.min_seq[t] % MAX_NR_GENS
    g = fr[i].gen - 1
    if g != oldest:
        gen_list_del(k, fr, i)
        gen_list_add(k, fr, i, g, False)
        return True
    refs = folio_lru_refs(fr, i)
    tier = lru_tier_from_refs(refs)
    protected = tier > tier_idx or refs == 1 << LRU_REFS_WIDTH
    if not protected and fr[i].zone % ZONES_PER_NODE <= k.sc.reclaim_idx:
        return False
    if protected:
        lv.tier_protected[t, tier] += fr[i].nr_pages
    g = folio_inc_gen(k, fr, i, oldest)
    gen_list_del(k, fr, i)
    gen_list_add(k, fr, i, g, True)
    return True


@jit
def isolate_folio(k: Any, fr: Any, i: int) -> None:
    """Take a folio off for eviction."""
    if not fr[i].flags & PG_REFERENCED:
        clear_lru_refs(fr, i)
    fr[i].flags &= ~PG_REFERENCED
    lru_gen_isolate(k, fr, i)


@jit
def _count_scan(k: Any, c: int, isolated: int, nr_sorted: int) -> None:
    k.memcg[c].stat[ST_PGSCAN] += isolated
    if k.sc.target == 0:
        k.vmstat[VM_PGSCAN_KSWAPD if k.sc.kswapd else VM_PGSCAN_DIRECT] += isolated
        k.vmstat[VM_PGREFILL] += nr_sorted


@jit
def scan_folios(k: Any, fr: Any, c: int, n: int, t: int, tier_idx: int) -> tuple[int, int, int]:
    """Isolate up to 64 pages of a type from its oldest generation.

    Returns
    -------
    scanned, nr, isolated : int
        Pages scanned (0: nothing to isolate); frames isolated, listed in
        ``k.lru_gen_isolated``, oldest first; their pages.

    Kernel
    ------
    mm/vmscan.c, scan_folios(): the zones from the request's highest one down.

    Departs from the kernel
    -----------------------
    The 4096 limit counts pages; the kernel counts folios.
    """
    lv = k.memcg[c].lruvec[n]
    scanned, nr, isolated = 0, 0, 0
    if get_nr_gens(lv, t) == MIN_NR_GENS:
        return 0, 0, 0
    g = lv.min_seq[t] % MAX_NR_GENS
    for step in range(ZONES_PER_NODE):
        z = (k.sc.reclaim_idx - step) % ZONES_PER_NODE
        i = lv.gen_tail[g, t, z]
        while i >= 0 and isolated < MIN_LRU_BATCH and scanned < MAX_LRU_BATCH:
            scanned += fr[i].nr_pages
            if not sort_folio(k, fr, lv, i, tier_idx):
                isolate_folio(k, fr, i)
                k.lru_gen_isolated[nr] = i
                nr += 1
                isolated += fr[i].nr_pages
            i = lv.gen_tail[g, t, z]
    k.work_ns += (scanned - isolated) * k.cost.rotate_ns
    _count_scan(k, c, isolated, scanned - isolated)
    if t == LRU_GEN_FILE:
        k.sc.file_taken += isolated
    if isolated == 0 and scanned < MAX_LRU_BATCH:
        scanned = 0
    return scanned, nr, isolated
