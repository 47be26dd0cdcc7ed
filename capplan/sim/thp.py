"""Transparent huge pages of anonymous regions (mm/huge_memory.c).

    first touch of an aligned 2 MiB that is in the region -> order-9 block above LOW, or
                                                             compaction makes one
    -> charge 512 pages at once -> one fault; no block or no room -> pages as ever (fallback)

A huge page costs all its 512 pages however little of it is touched: what a growing region has
not touched yet is ``thp_spare``, and its next growth takes that first. How long it stays one, and
what that means, is in ``mm/huge_memory.py``.

Departs from the kernel: khugepaged does not collapse pages later.
"""

from __future__ import annotations

from capplan.mm._jit import rare
from capplan.mm.cpuset import preferred_node
from capplan.mm.lruvec import lru_add
from capplan.mm.memcg import handle_over_high, try_charge_huge
from capplan.mm.mempolicy import alloc_node, stays_on_node
from capplan.mm.page_alloc import alloc_huge_page, free_huge_page
from capplan.mm.page_alloc_costly import alloc_costly
from capplan.mm.rmap import account_cache, map_page
from capplan.mm.state import (
    HPAGE_PMD_NR,
    MAP_ANON,
    MPOL_DEFAULT,
    MPOL_PREFERRED_MANY,
    PAGEBLOCK_ORDER,
    PG_HUGE,
    PG_MLOCKED,
    PTE_NONE,
    PTE_PRESENT,
    ST_PGFAULT,
    VM_PGFAULT,
    VM_THP_FAULT_ALLOC,
    VM_THP_FAULT_FALLBACK,
    WMARK_LOW,
)
from capplan.sim.fault import install, page_tables

__all__ = ["thp_fault"]

THP_COMPACT = 2  # kernel_t.thp_enabled


@rare
def _is_suitable(k, pt, m):
    """Whether the next touch begins an aligned 2 MiB, untouched and within the region."""
    mapping = k.mapping[m]
    granules = 1 << (PAGEBLOCK_ORDER - k.g)
    if not k.thp_enabled or mapping.kind != MAP_ANON or mapping.cow_parent >= 0:
        return False
    if mapping.used % granules or mapping.size_pages != mapping.used * k.granule_pages:
        return False
    if mapping.size_pages + HPAGE_PMD_NR > mapping.max_pages:
        return False
    e = mapping.first_pte + mapping.used
    for j in range(e, e + granules):
        if pt[j].state != PTE_NONE:
            return False
    return True


@rare
def _alloc_huge(k, fr, pt, m):
    """A block for a huge page (mm/huge_memory.c, vma_thp_gfp_mask(); alloc_pages_mpol()).

    With ``defrag`` = madvise a region that did not ask gets what is there
    (GFP_TRANSHUGE_LIGHT). One that asked, and any with ``defrag`` = always, compacts its own
    node first, and then reclaims and compacts on any, or where its memory policy says.
    """
    mapping = k.mapping[m]
    node = alloc_node(k, m, mapping.first_pte + mapping.used, PAGEBLOCK_ORDER - k.g)
    near = stays_on_node(k)
    if k.mpol_mode == MPOL_PREFERRED_MANY:
        first = _alloc_preferred_many(k, fr)
        if first >= 0:
            return first
    if k.thp_enabled != THP_COMPACT:
        this_node = 1 if near and k.mpol_mode != MPOL_DEFAULT else 0
        return alloc_huge_page(k, fr, node, this_node, WMARK_LOW)
    first = alloc_costly(k, fr, pt, node, 1, 0, 0) if near else -1
    return first if first >= 0 else alloc_costly(k, fr, pt, node, 0, 0, 1)


@rare
def _alloc_preferred_many(k, fr):
    """A block of the policy's nodes as it is there (alloc_pages_preferred_many)."""
    mems = k.mems_allowed
    k.mems_allowed &= k.mpol_nodes
    first = alloc_huge_page(k, fr, preferred_node(k), 0, WMARK_LOW)
    k.mems_allowed = mems
    return first


@rare
def thp_fault(k, fr, pt, t, v):
    """First touch of the region's next 2 MiB: whether a huge page is there now.

    Kernel
    ------
    mm/huge_memory.c, do_huge_pmd_anonymous_page(), vma_alloc_anon_folio_pmd().

    Worked example
    --------------
    A region of 1000 pages grows to 100: one fault, 512 pages charged, 412 of them spare. At
    513 the second 2 MiB would end behind the region: single pages.
    """
    m = k.vma[v].mapping
    if not _is_suitable(k, pt, m):
        return False
    mapping = k.mapping[m]
    c = mapping.owner if mapping.owner >= 0 else k.proc[k.task[t].proc].memcg
    first = _alloc_huge(k, fr, pt, m)
    if first < 0:
        k.vmstat[VM_THP_FAULT_FALLBACK] += 1
        return False
    granules = 1 << (PAGEBLOCK_ORDER - k.g)
    if not try_charge_huge(k, t, c, HPAGE_PMD_NR):
        free_huge_page(k, fr, first)
        k.vmstat[VM_THP_FAULT_FALLBACK] += 1
        return False
    page_tables(k, fr, v, mapping.size_pages, HPAGE_PMD_NR)  # one is kept for a split
    e = mapping.first_pte + mapping.used
    for j in range(granules):
        _map_granule(k, fr, pt, v, first + j, e + j, c)
    mapping.used += granules
    mapping.size_pages += HPAGE_PMD_NR
    mapping.thp_spare = HPAGE_PMD_NR
    k.work_ns += k.cost.fault_ns * HPAGE_PMD_NR  # nearly all of it is zeroing
    k.vmstat[VM_PGFAULT] += 1
    k.vmstat[VM_THP_FAULT_ALLOC] += 1
    k.memcg[c].stat[ST_PGFAULT] += 1
    if k.task[t].over_high:
        handle_over_high(k, fr, pt, t, c)
    return True


@rare
def _map_granule(k, fr, pt, v, i, e, c):
    """One granule of the huge page: tied to its entry, in the books, on its list."""
    m = k.vma[v].mapping
    mapping = k.mapping[m]
    nr = k.granule_pages
    install(k, fr, m, i, e, c)
    fr[i].flags |= PG_HUGE
    pt[e].frame = i
    pt[e].nr_pages = nr
    pt[e].state = PTE_PRESENT
    account_cache(k, c, mapping.kind, nr)
    mapping.resident_pages += nr
    if mapping.locked or k.vma[v].locked:
        fr[i].flags |= PG_MLOCKED
        k.nr_mlocked += nr
    map_page(k, fr, pt, i)
    lru_add(k, fr, i)
