"""Multi-gen LRU, the aging: which folios are young, and when to open a generation.

mm/vmscan.c under CONFIG_LRU_GEN: the refault feedback loop, the aging.
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import jit
from capplan.mm.lru_gen_lists import (
    LRU_GEN_ANON,
    LRU_GEN_FILE,
    folio_inc_gen,
    gen_list_add,
    gen_list_del,
    get_nr_gens,
)
from capplan.mm.lru_gen_walk import walk_mms
from capplan.mm.state import (
    LRU_INACTIVE_FILE,
    MAX_NR_GENS,
    MAX_NR_TIERS,
    MIN_NR_GENS,
    ZONES_PER_NODE,
)

MIN_LRU_BATCH = 64  # BITS_PER_LONG
MAX_LRU_BATCH = MIN_LRU_BATCH * 64


@jit
def ctrl_pos_refaulted(lv: Any, t: int, tier: int) -> int:
    """Return the refaults of a tier: those of this generation and half of earlier ones."""
    return lv.avg_refaulted[t, tier] + lv.tier_refaulted[t, tier]  # type: ignore[no-any-return]


@jit
def ctrl_pos_total(lv: Any, t: int, tier: int) -> int:
    """Return the pages of a tier that were evicted or protected (read_ctrl_pos())."""
    return (  # type: ignore[no-any-return]
        lv.avg_total[t, tier] + lv.tier_evicted[t, tier] + lv.tier_protected[t, tier]
    )


@jit
def reset_ctrl_pos(lv: Any, t: int) -> None:
    """Halve the feedback of a type when its oldest generation ends.

    Kernel
    ------
    mm/vmscan.c, reset_ctrl_pos(carryover=true), NR_HIST_GENS 1.
    """
    for tier in range(MAX_NR_TIERS):
        lv.avg_refaulted[t, tier] = ctrl_pos_refaulted(lv, t, tier) // 2
        lv.avg_total[t, tier] = ctrl_pos_total(lv, t, tier) // 2
        lv.tier_refaulted[t, tier] = 0
        lv.tier_evicted[t, tier] = 0
        lv.tier_protected[t, tier] = 0


@jit
def positive_ctrl_err(
    sp_refaulted: int, sp_total: int, sp_gain: int, pv_refaulted: int, pv_total: int, pv_gain: int
) -> bool:
    """Tell whether the process variable refaults little, or less than the set point.

    Worked example
    --------------
    Anon (swappiness 60) 100 of 1000 refaulted, file (gain 140) 100 of 1000:
    100 * 1064 * 60 = 6384000 <= 101 * 1000 * 140 = 14140000, so file is scanned. With file
    at 300 of 1000: 19152000 > 14140000, so anon is.
    """
    return (
        pv_refaulted < MIN_LRU_BATCH
        or pv_refaulted * (sp_total + MIN_LRU_BATCH) * sp_gain
        <= (sp_refaulted + 1) * pv_total * pv_gain
    )


@jit
def inc_min_seq(k: Any, fr: Any, c: int, n: int, t: int, can_swap: bool) -> None:
    """End the oldest generation of a type: what is left in it joins the next one.

    Anon that cannot be swapped stays where it is: its list becomes the youngest one's
    (cold/hot inversion, as in the kernel).
    """
    lv = k.memcg[c].lruvec[n]
    old = lv.min_seq[t] % MAX_NR_GENS
    if t == LRU_GEN_FILE or can_swap:
        for z in range(ZONES_PER_NODE):
            i = lv.gen_tail[old, t, z]
            while i >= 0:
                g = folio_inc_gen(k, fr, i, old)
                gen_list_del(k, fr, i)
                gen_list_add(k, fr, i, g, True)
                i = lv.gen_tail[old, t, z]
    reset_ctrl_pos(lv, t)
    lv.min_seq[t] += 1


@jit
def _gen_is_empty(lv: Any, g: int, t: int) -> bool:
    for z in range(ZONES_PER_NODE):
        if lv.gen_head[g, t, z] >= 0:
            return False
    return True


@jit
def try_to_inc_min_seq(k: Any, c: int, n: int, can_swap: bool) -> bool:
    """Skip empty oldest generations; with swap, anon never runs ahead of file."""
    lv = k.memcg[c].lruvec[n]
    anon, file = lv.min_seq[LRU_GEN_ANON], lv.min_seq[LRU_GEN_FILE]
    while (
        can_swap
        and anon + MIN_NR_GENS <= lv.max_seq
        and _gen_is_empty(lv, anon % MAX_NR_GENS, LRU_GEN_ANON)
    ):
        anon += 1
    while file + MIN_NR_GENS <= lv.max_seq and _gen_is_empty(lv, file % MAX_NR_GENS, LRU_GEN_FILE):
        file += 1
    if can_swap:
        anon = min(anon, file)
        file = max(anon, lv.min_seq[LRU_GEN_FILE])
    success = False
    if anon != lv.min_seq[LRU_GEN_ANON]:
        reset_ctrl_pos(lv, LRU_GEN_ANON)
        lv.min_seq[LRU_GEN_ANON] = anon
        success = True
    if file != lv.min_seq[LRU_GEN_FILE]:
        reset_ctrl_pos(lv, LRU_GEN_FILE)
        lv.min_seq[LRU_GEN_FILE] = file
        success = True
    return success


@jit
def inc_max_seq(k: Any, fr: Any, c: int, n: int, can_swap: bool) -> None:
    """Open a new youngest generation; the second youngest becomes inactive.

    Kernel
    ------
    mm/vmscan.c, inc_max_seq().

    Departs from the kernel
    -----------------------
    inc_min_seq() never drops the lock half-way.
    """
    lv = k.memcg[c].lruvec[n]
    for t in (LRU_GEN_FILE, LRU_GEN_ANON):
        if get_nr_gens(lv, t) == MAX_NR_GENS:
            inc_min_seq(k, fr, c, n, t, can_swap)
    prev = (lv.max_seq - 1) % MAX_NR_GENS
    new = (lv.max_seq + 1) % MAX_NR_GENS
    for t in range(2):
        lru = t * LRU_INACTIVE_FILE
        for z in range(ZONES_PER_NODE):
            delta = lv.gen_pages[prev, t, z] - lv.gen_pages[new, t, z]
            lv.pages[lru] += delta
            lv.pages[lru + 1] -= delta
            k.zone[n * ZONES_PER_NODE + z].lru_pages[lru] += delta
            k.zone[n * ZONES_PER_NODE + z].lru_pages[lru + 1] -= delta
    lv.gen_birth_ns[new] = k.now_ns
    lv.max_seq += 1


@jit
def try_to_inc_max_seq(k: Any, fr: Any, pt: Any, c: int, n: int, can_swap: bool) -> None:
    """Age a lruvec: promote what was accessed, then open a generation."""
    walk_mms(k, fr, pt, c, n, can_swap)
    inc_max_seq(k, fr, c, n, can_swap)


@jit
def gen_size(lv: Any, seq: int, t: int) -> int:
    """Count the pages of a generation."""
    total = 0
    for z in range(ZONES_PER_NODE):
        total += max(lv.gen_pages[seq % MAX_NR_GENS, t, z], 0)
    return total


@jit
def evictable_pages(lv: Any, can_swap: bool) -> int:
    """Count the pages of all generations of the types that can be evicted."""
    total = 0
    for t in range(0 if can_swap else LRU_GEN_FILE, 2):
        for seq in range(lv.min_seq[t], lv.max_seq + 1):
            total += gen_size(lv, seq, t)
    return total


@jit
def out_of_cold_folios(lv: Any, can_swap: bool) -> bool:
    """Tell whether only the two youngest generations are left."""
    t = LRU_GEN_ANON if can_swap else LRU_GEN_FILE
    return bool(lv.min_seq[t] + MIN_NR_GENS > lv.max_seq)


@jit
def should_run_aging(lv: Any, can_swap: bool) -> bool:
    """Decide whether a new generation is due.

    Kernel
    ------
    mm/vmscan.c, should_run_aging(); ``nr_to_scan`` is :func:`evictable_pages`, or 0 when
    :func:`out_of_cold_folios`.

    Worked example
    --------------
    Three generations of 1000 pages, young/mid/old: 300/400/300 no; 600/200/200 yes (young
    over a half); 300/500/200 yes (old under a quarter). Two generations: yes; four: no.
    """
    if out_of_cold_folios(lv, can_swap):
        return True
    first = LRU_GEN_ANON if can_swap else LRU_GEN_FILE
    if lv.min_seq[first] + MIN_NR_GENS < lv.max_seq:
        return False
    young, old = 0, 0
    for t in range(first, 2):
        young += gen_size(lv, lv.max_seq, t)
        if lv.min_seq[t] + MIN_NR_GENS <= lv.max_seq:
            old += gen_size(lv, lv.max_seq - MIN_NR_GENS, t)
    total = evictable_pages(lv, can_swap)
    return bool(young * MIN_NR_GENS > total or old * (MIN_NR_GENS + 2) < total)
