"""Multi-gen LRU, the lists: where a folio goes, which tier it is in, what a shadow says.

include/linux/mm_inline.h and mm/workingset.c under CONFIG_LRU_GEN (kernel-model 7). The
aging and the eviction are in ``lru_gen.py``, the memcg LRU of global reclaim in
``lru_gen_memcg.py``.

``frame.gen`` is the generation's index plus one, 0 when the folio is on no list, as in
folio->flags. Lists are sorted lazily as in the kernel: an accessed folio changes ``gen``
(and the counts) at once and its place only when the eviction meets it; so a folio's list
is not always that of its generation.
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import jit
from capplan.mm.state import (
    LRU_INACTIVE_FILE,
    LRU_NONE,
    MAX_NR_GENS,
    MAX_NR_TIERS,
    MIN_NR_GENS,
    PG_ACTIVE,
    PG_DIRTY,
    PG_MLOCKED,
    PG_RECLAIM,
    PG_REFERENCED,
    PG_SWAPBACKED,
    PG_SWAPCACHE,
    PG_WORKINGSET,
    PG_WRITEBACK,
    ST_ACTIVATE_ANON,
    ST_REFAULT_ANON,
    ST_RESTORE_ANON,
    VM_ACTIVATE_ANON,
    VM_ACTIVATE_FILE,
    VM_REFAULT_ANON,
    ZONES_PER_NODE,
)

LRU_GEN_ANON, LRU_GEN_FILE = 0, 1
LRU_REFS_WIDTH = MAX_NR_TIERS - 2  # include/linux/page-flags-layout.h
LRU_REFS_MAX = (1 << LRU_REFS_WIDTH) - 1
SHADOW_WORKINGSET = 1  # entry.evicted


@jit
def lru_gen_init_lruvec(k: Any, c: int, n: int) -> None:
    """Start with generations 0 to 3, all empty.

    Kernel
    ------
    mm/vmscan.c, lru_gen_init_lruvec(): max_seq MIN_NR_GENS + 1, both min_seq 0.
    """
    lv = k.memcg[c].lruvec[n]
    lv.max_seq = MIN_NR_GENS + 1
    for t in range(2):
        lv.min_seq[t] = 0
    for g in range(MAX_NR_GENS):
        lv.gen_birth_ns[g] = k.now_ns
    lv.gen_credit = 0


@jit
def lru_gen_type(fr: Any, i: int) -> int:
    """Return LRU_GEN_ANON (swap-backed) or LRU_GEN_FILE: folio_is_file_lru()."""
    return LRU_GEN_ANON if fr[i].flags & PG_SWAPBACKED else LRU_GEN_FILE


@jit
def get_nr_gens(lv: Any, t: int) -> int:
    """Count the generations of a type, 2 to 4."""
    return lv.max_seq - lv.min_seq[t] + 1  # type: ignore[no-any-return]


@jit
def folio_lru_refs(fr: Any, i: int) -> int:
    """Return the accesses through file descriptors beyond PG_referenced, 0 to 4."""
    return fr[i].refs + (1 if fr[i].flags & PG_WORKINGSET else 0)  # type: ignore[no-any-return]


@jit
def lru_tier_from_refs(refs: int) -> int:
    """Return the tier, ceil(log2(accesses)).

    Worked example
    --------------
    refs 0, 1, 2, 3, 4 (accesses up to 1, 2, 3, 4, 5 and more) -> tiers 0, 1, 2, 2, 3.
    """
    tier = 0
    while (1 << tier) < refs + 1:
        tier += 1
    return tier


@jit
def lru_gen_mark_accessed(fr: Any, i: int) -> None:
    """Note one read(2) or write(2) of the folio: folio_inc_refs() in mm/swap.c."""
    f = fr[i]
    if f.flags & PG_MLOCKED:
        return
    if not f.flags & PG_REFERENCED:
        f.flags |= PG_REFERENCED
    elif not f.flags & PG_WORKINGSET:
        f.flags |= PG_WORKINGSET
    elif f.refs < LRU_REFS_MAX:
        f.refs += 1


@jit
def clear_lru_refs(fr: Any, i: int) -> None:
    """Forget what file descriptors did: folio_clear_lru_refs()."""
    fr[i].refs = 0
    fr[i].flags &= ~(PG_REFERENCED | PG_WORKINGSET)


@jit
def lru_gen_is_active(lv: Any, g: int) -> bool:
    """Tell whether a generation is reported as active: the two youngest are."""
    return bool(g == lv.max_seq % MAX_NR_GENS or g == (lv.max_seq - 1) % MAX_NR_GENS)


@jit
def lru_gen_update_size(k: Any, fr: Any, i: int, old: int, new: int) -> None:
    """Count a folio out of generation ``old`` and into ``new`` (-1: none).

    The sizes of the active and inactive lists, of the lruvec and of the zone, follow.

    Kernel
    ------
    include/linux/mm_inline.h, lru_gen_update_size(); reset_batch_size() in mm/vmscan.c.
    """
    zone = fr[i].zone
    lv = k.memcg[fr[i].memcg].lruvec[zone // ZONES_PER_NODE]
    z = zone % ZONES_PER_NODE
    t = lru_gen_type(fr, i)
    nr_pages = fr[i].nr_pages
    if old >= 0:
        lv.gen_pages[old, t, z] -= nr_pages
        lru = t * LRU_INACTIVE_FILE + (1 if lru_gen_is_active(lv, old) else 0)
        lv.pages[lru] -= nr_pages
        k.zone[zone].lru_pages[lru] -= nr_pages
    if new >= 0:
        lv.gen_pages[new, t, z] += nr_pages
        lru = t * LRU_INACTIVE_FILE + (1 if lru_gen_is_active(lv, new) else 0)
        lv.pages[lru] += nr_pages
        k.zone[zone].lru_pages[lru] += nr_pages


@jit
def gen_list_add(k: Any, fr: Any, i: int, g: int, to_tail: bool) -> None:
    """Link a folio at the head (newest) or the tail (scanned next) of a list."""
    zone = fr[i].zone
    lv = k.memcg[fr[i].memcg].lruvec[zone // ZONES_PER_NODE]
    z = zone % ZONES_PER_NODE
    t = lru_gen_type(fr, i)
    if to_tail:
        end = lv.gen_tail[g, t, z]
        fr[i].next, fr[i].prev = -1, end
        lv.gen_tail[g, t, z] = i
        if end >= 0:
            fr[end].next = i
        else:
            lv.gen_head[g, t, z] = i
    else:
        end = lv.gen_head[g, t, z]
        fr[i].next, fr[i].prev = end, -1
        lv.gen_head[g, t, z] = i
        if end >= 0:
            fr[end].prev = i
        else:
            lv.gen_tail[g, t, z] = i


@jit
def gen_list_del(k: Any, fr: Any, i: int) -> None:
    """Unlink a folio from whatever list it is on.

    Only the ends of a list name it, and they are looked for in all generations: ``gen``
    does not tell where a promoted folio still is.
    """
    zone = fr[i].zone
    lv = k.memcg[fr[i].memcg].lruvec[zone // ZONES_PER_NODE]
    z = zone % ZONES_PER_NODE
    t = lru_gen_type(fr, i)
    before, after = fr[i].prev, fr[i].next
    if before >= 0:
        fr[before].next = after
    else:
        for g in range(MAX_NR_GENS):
            if lv.gen_head[g, t, z] == i:
                lv.gen_head[g, t, z] = after
    if after >= 0:
        fr[after].prev = before
    else:
        for g in range(MAX_NR_GENS):
            if lv.gen_tail[g, t, z] == i:
                lv.gen_tail[g, t, z] = before
    fr[i].next, fr[i].prev = -1, -1


@jit
def _seq_to_add(lv: Any, fr: Any, i: int, reclaiming: bool) -> int:
    """Choose the generation of a folio that comes onto a list."""
    flags = fr[i].flags
    t = lru_gen_type(fr, i)
    if flags & PG_ACTIVE:
        return lv.max_seq  # type: ignore[no-any-return]
    if t == LRU_GEN_ANON and not flags & PG_SWAPCACHE:
        return lv.max_seq - 1  # type: ignore[no-any-return]
    if flags & PG_RECLAIM and flags & (PG_DIRTY | PG_WRITEBACK):
        return lv.max_seq - 1  # type: ignore[no-any-return]
    if reclaiming or lv.min_seq[t] + MIN_NR_GENS >= lv.max_seq:
        return lv.min_seq[t]  # type: ignore[no-any-return]
    return lv.min_seq[t] + 1  # type: ignore[no-any-return]


@jit
def lru_gen_add_folio(k: Any, fr: Any, i: int, reclaiming: bool) -> bool:
    """Put a folio on the list of the generation that its flags deserve.

    A folio that a page fault brings in carries PG_ACTIVE (folio_add_lru() sets it): the
    caller does that.

    Parameters
    ----------
    i : int
        Frame on no list, with its memcg, zone and flags set.
    reclaiming : bool
        The folio is ready to go (folio_rotate_reclaimable()): tail of the oldest.

    Returns
    -------
    bool
        False when the folio is mlocked: it belongs on the unevictable list.

    Kernel
    ------
    include/linux/mm_inline.h, lru_gen_add_folio().

    Worked example
    --------------
    min_seq 0, max_seq 3: PG_ACTIVE -> 3; anon not in the swap cache -> 2; dirty file under
    PG_reclaim -> 2; a file page of read(2) -> 1, and -> 0 once only three generations are
    left.
    """
    f = fr[i]
    if not k.lru_gen or f.flags & PG_MLOCKED:
        return False
    if reclaiming:
        f.flags &= ~PG_ACTIVE  # lru_move_tail()
    lv = k.memcg[f.memcg].lruvec[f.zone // ZONES_PER_NODE]
    g = _seq_to_add(lv, fr, i, reclaiming) % MAX_NR_GENS
    if f.flags & PG_ACTIVE:
        f.refs = 0
        f.flags &= ~(PG_REFERENCED | PG_ACTIVE)
    f.gen = g + 1
    f.lru = lru_gen_type(fr, i) * LRU_INACTIVE_FILE  # on a list; gen tells which
    lru_gen_update_size(k, fr, i, -1, g)
    gen_list_add(k, fr, i, g, reclaiming)
    return True


@jit
def lru_gen_isolate(k: Any, fr: Any, i: int) -> bool:
    """Take a folio off for reclaim: lru_gen_del_folio(reclaiming=true)."""
    g = fr[i].gen - 1
    if g < 0:
        return False
    gen_list_del(k, fr, i)
    fr[i].gen = 0
    fr[i].lru = LRU_NONE
    lru_gen_update_size(k, fr, i, g, -1)
    return True


@jit
def lru_gen_del_folio(k: Any, fr: Any, i: int) -> bool:
    """Take a folio off its list; one of an active generation remembers it in PG_ACTIVE.

    Kernel
    ------
    include/linux/mm_inline.h, lru_gen_del_folio(reclaiming=false).
    """
    g = fr[i].gen - 1
    if not lru_gen_isolate(k, fr, i):
        return False
    zone = fr[i].zone
    if lru_gen_is_active(k.memcg[fr[i].memcg].lruvec[zone // ZONES_PER_NODE], g):
        fr[i].flags |= PG_ACTIVE
    return True


@jit
def folio_update_gen(k: Any, fr: Any, i: int, g: int) -> None:
    """Promote a folio that page tables accessed; its place on the lists follows later."""
    old = fr[i].gen - 1
    if old < 0:
        fr[i].flags |= PG_REFERENCED
        return
    clear_lru_refs(fr, i)
    if old != g:
        fr[i].gen = g + 1
        lru_gen_update_size(k, fr, i, old, g)


@jit
def folio_inc_gen(k: Any, fr: Any, i: int, old: int) -> int:
    """Move a folio of the oldest generation to the next one; a promoted one keeps its own."""
    g = fr[i].gen - 1
    if g >= 0 and g != old:
        return g  # type: ignore[no-any-return]
    new = (old + 1) % MAX_NR_GENS
    clear_lru_refs(fr, i)
    fr[i].gen = new + 1
    lru_gen_update_size(k, fr, i, old, new)
    return new


@jit
def lru_gen_counts(k: Any, c: int, n: int, t: int, active: bool) -> int:
    """Count the pages reported as active (two youngest generations) or inactive.

    Worked example
    --------------
    max_seq 7, anon generations 4..7 of 10, 20, 30, 40 pages: active 70, inactive 30.
    """
    lv = k.memcg[c].lruvec[n]
    total = 0
    for g in range(MAX_NR_GENS):
        if lru_gen_is_active(lv, g) == active:
            for z in range(ZONES_PER_NODE):
                total += lv.gen_pages[g, t, z]
    return total


@jit
def lru_gen_eviction(k: Any, fr: Any, pt: Any, i: int) -> None:
    """Leave a shadow of an evicted folio and count the eviction in its tier.

    The shadow is ``min_seq << 2 | max(refs - 1, 0)``; the entry's ``evicted`` says refs > 0.

    Kernel
    ------
    mm/workingset.c, lru_gen_eviction(). The memcg is the folio's own, not the reclaim
    target as with the classic LRU.
    """
    c = fr[i].memcg
    n = fr[i].zone // ZONES_PER_NODE
    lv = k.memcg[c].lruvec[n]
    t = lru_gen_type(fr, i)
    refs = folio_lru_refs(fr, i)
    e = pt[fr[i].pte]
    e.shadow = (lv.min_seq[t] << LRU_REFS_WIDTH) | max(refs - 1, 0)
    e.evicted = n << 1 | (SHADOW_WORKINGSET if refs else 0)
    e.memcg = c
    lv.tier_evicted[t, lru_tier_from_refs(refs)] += fr[i].nr_pages


@jit
def lru_gen_test_recent(k: Any, pt: Any, entry: int, t: int) -> bool:
    """Tell whether a shadow's generation is still the oldest one."""
    e = pt[entry]
    if e.memcg < 0:
        return False
    min_seq = k.memcg[e.memcg].lruvec[e.evicted >> 1].min_seq[t]
    return (e.shadow >> LRU_REFS_WIDTH) == min_seq  # type: ignore[no-any-return]


@jit
def lru_gen_refault(k: Any, fr: Any, pt: Any, i: int, in_fault: bool) -> bool:
    """Count a refault; protect the folio if it should not have been evicted.

    Parameters
    ----------
    i : int
        The new folio, already owned (``memcg``) and linked to its entry (``pte``), whose
        shadow is still in place; not yet on a list.
    in_fault : bool
        A page fault brings it in (lru_gen_in_fault()).

    Returns
    -------
    bool
        True when it came back with PG_workingset: waiting for its read is a memory stall.

    Kernel
    ------
    mm/workingset.c, lru_gen_refault().
    """
    c = fr[i].memcg
    n = fr[i].zone // ZONES_PER_NODE
    e = pt[fr[i].pte]
    if e.memcg != c or e.evicted >> 1 != n:
        return False
    t = lru_gen_type(fr, i)
    nr_pages = fr[i].nr_pages
    k.memcg[c].stat[ST_REFAULT_ANON + t] += nr_pages
    k.vmstat[VM_REFAULT_ANON + t] += nr_pages
    if not lru_gen_test_recent(k, pt, fr[i].pte, t):
        return False
    refs = (e.shadow & LRU_REFS_MAX) + (e.evicted & SHADOW_WORKINGSET)
    k.memcg[c].lruvec[n].tier_refaulted[t, lru_tier_from_refs(refs)] += nr_pages
    k.memcg[c].stat[ST_ACTIVATE_ANON + t] += nr_pages
    k.vmstat[VM_ACTIVATE_FILE if t == LRU_GEN_FILE else VM_ACTIVATE_ANON] += nr_pages
    if not in_fault and refs < LRU_REFS_MAX:
        return False
    fr[i].refs = LRU_REFS_MAX
    fr[i].flags |= PG_WORKINGSET
    k.memcg[c].stat[ST_RESTORE_ANON + t] += nr_pages
    return True
