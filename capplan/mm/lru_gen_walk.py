"""Multi-gen LRU, the page table walk of the aging, and the Bloom filters that keep it short.

    a process's first walk   all of its page tables
    later walks              tables used since the last one whose entry is in the filter:
                             one young entry in eight, found by the last walk or by reclaim

Pages of a table that is passed over stay young: reclaim meets them in their turn, 64 at a time
(``lru_gen_look_around()``), and none of those 64 is reclaimed. That is why a growing heap is
scanned many times over when its first generation is used up.

mm/vmscan.c under CONFIG_LRU_GEN, the sections "Bloom filters" and "mm_struct list", and walk_mm().
"""

from __future__ import annotations

import math
from typing import Any

from capplan.mm._jit import jit
from capplan.mm.lru_gen_lists import folio_update_gen
from capplan.mm.lruvec import draw_below, progress_now, referenced, zipf_mass
from capplan.mm.state import (
    ACCESS_CYCLIC,
    ACCESS_UNIFORM,
    ACCESS_ZIPF,
    MAX_NODES,
    MAX_NR_GENS,
    PAGEBLOCK_ORDER,
    PG_MAPPED,
    PG_MLOCKED,
    PG_SWAPBACKED,
    PROC_LIVE,
    PTE_PRESENT,
    ZONES_PER_NODE,
)

PTES_PER_CACHELINE = 8
FILTER_ITEMS = 32749  # the largest prime below 1 << BLOOM_FILTER_SHIFT


@jit
def suitable_to_scan(total: int, young: int) -> bool:
    """Tell whether a table has a young entry in each cache line, on average.

    Worked example: of 512 entries 64 are enough, 63 are not.
    """
    return young * PTES_PER_CACHELINE >= total


@jit
def _item(c: int, n: int, seq: int) -> int:
    """Number that a table holds which is in the filter of generation ``seq`` of a lruvec."""
    return 1 + (seq * 4096 + c * MAX_NODES + n) % FILTER_ITEMS


@jit
def _table_of(k: Any, m: int, e: int) -> int:
    """First entry of the page table that entry ``e`` of a mapping is in."""
    first = k.mapping[m].first_pte
    return e - (e - first) % max((1 << PAGEBLOCK_ORDER) >> k.g, 1)  # type: ignore[no-any-return]


@jit
def test_bloom_filter(k: Any, pt: Any, c: int, n: int, table: int) -> bool:
    """Tell whether a table is worth a look; True as long as nothing was ever walked."""
    lv = k.memcg[c].lruvec[n]
    return bool(not lv.walked or pt[table].walk == _item(c, n, lv.max_seq))


@jit
def update_bloom_filter(k: Any, pt: Any, m: int, e: int, c: int, n: int, seq: int) -> None:
    """Put the table of entry ``e`` into the filter for the walk that ends generation ``seq``.

    Departs from the kernel
    -----------------------
    Each table knows the last filter it is in, instead of 32,768 bits for each lruvec that two
    hashes of the table's address point into.
    """
    if k.memcg[c].lruvec[n].walked:
        pt[_table_of(k, m, e)].walk = _item(c, n, seq)


@jit
def _walk_pte_range(
    k: Any, fr: Any, pt: Any, c: int, n: int, m: int, table: int, can_swap: bool
) -> None:
    """Promote what was accessed in one table; a dense one is looked at next time too."""
    mapping = k.mapping[m]
    lv = k.memcg[c].lruvec[n]
    end = min(table + max((1 << PAGEBLOCK_ORDER) >> k.g, 1), mapping.first_pte + mapping.nr_ptes)
    total, present, young = (end - table) * k.granule_pages, 0, 0
    for e in range(table, end):
        j = pt[e].frame
        if pt[e].state != PTE_PRESENT or j < 0:
            continue
        f = fr[j]
        present += f.nr_pages
        if f.memcg != c or f.zone // ZONES_PER_NODE != n:
            continue
        if f.flags & (PG_MAPPED | PG_MLOCKED) != PG_MAPPED:
            continue
        if f.flags & PG_SWAPBACKED and not can_swap:
            continue
        if referenced(k, fr, j):
            folio_update_gen(k, fr, j, lv.max_seq % MAX_NR_GENS)
            young += f.nr_pages
    k.work_ns += (present + young) * k.cost.touch_ns
    if suitable_to_scan(total, young):
        update_bloom_filter(k, pt, m, table, c, n, lv.max_seq + 1)


@jit
def pmd_young(k: Any, m: int, first: int, end: int) -> bool:
    """Tell whether granules [first, end) of a mapping were used since its last walk.

    Kernel
    ------
    mm/vmscan.c, walk_pmd_range(): the accessed bit of the entry that points to the table.

    Worked example
    --------------
    Read in circles, 1000 pages; page 300 was next at the last walk, 450 is now: of [0, 512)
    it is young, of [512, 1000) not.
    """
    mapping = k.mapping[m]
    then, now = mapping.walk_progress, progress_now(k, m)
    if end > mapping.walk_used:
        return True
    if now <= then or mapping.size_pages <= 0:
        return False
    nr = mapping.size_pages * 1.0
    if mapping.pattern == ACCESS_CYCLIC:
        begins, ends = first * k.granule_pages, end * k.granule_pages
        return bool(math.ceil((now - begins) / nr) - 1 > math.floor((then - ends) / nr))
    if mapping.pattern == ACCESS_UNIFORM:
        share = (end - first) * k.granule_pages / nr
    elif mapping.pattern == ACCESS_ZIPF:
        granules = max(mapping.size_pages // k.granule_pages, 1)
        share = zipf_mass(mapping, first, end) / zipf_mass(mapping, 0, max(granules, end))
    else:
        return False
    at_all = 1.0 - math.exp(-(now - then) * share)
    return draw_below(k, mapping.stream, first, int(now) & 0x7FFFFFFF, at_all)  # type: ignore[no-any-return]


@jit
def _walk_region(
    k: Any, fr: Any, pt: Any, c: int, n: int, m: int, can_swap: bool, force: bool
) -> None:
    """Walk the page tables of one region (walk_pmd_range).

    A walk that passes over unused tables clears the accessed bit of the others' entries; what
    was touched since is told from the region's accesses, and from what it grew by.
    """
    mapping = k.mapping[m]
    per = max((1 << PAGEBLOCK_ORDER) >> k.g, 1)
    for first in range(0, mapping.used, per):
        table = mapping.first_pte + first
        if not force:
            if not pmd_young(k, m, first, min(first + per, mapping.used)):
                continue
            if not test_bloom_filter(k, pt, c, n, table):
                continue
        _walk_pte_range(k, fr, pt, c, n, m, table, can_swap)
    if not force:
        mapping.walk_progress = progress_now(k, m)
        mapping.walk_used = mapping.used


@jit
def walk_mms(k: Any, fr: Any, pt: Any, c: int, n: int, can_swap: bool) -> None:
    """Walk the processes of a memcg: promote what their page tables accessed.

    Kernel
    ------
    mm/vmscan.c, iterate_mm_list(), walk_mm(), should_skip_vma(). A process that was added
    since the last walk is walked whole (``force_scan``).

    Departs from the kernel
    -----------------------
    A region that several processes map is walked once, for the first of them; a process that
    did not run since the last walk is not passed over as such, its tables are as unused.
    """
    lv = k.memcg[c].lruvec[n]
    k.walks += 1
    first, last_ns = not lv.walked, lv.walk_ns + 0
    for p in range(k.nr_procs):
        proc = k.proc[p]
        if proc.memcg != c or proc.state != PROC_LIVE:
            continue
        lv.walked, lv.walk_ns = 1, k.now_ns
        force = first or proc.start_ns > last_ns
        v = proc.first_vma
        while v >= 0:
            vma = k.vma[v]
            m = vma.mapping
            if not vma.via_read and not vma.locked and k.mapping[m].walk != k.walks:
                k.mapping[m].walk = k.walks
                _walk_region(k, fr, pt, c, n, m, can_swap, force)
            v = vma.next
