"""Giving memory back: munmap, truncate, exit (mm/memory.c, mm/mmu_gather.c)."""

from __future__ import annotations

import numpy as np

from capplan.mm._jit import jit
from capplan.mm.buffer_head import try_to_free_buffers
from capplan.mm.huge_memory import huge_first, huge_pages, split_huge_page
from capplan.mm.lruvec import count_pages, lru_del, unlink
from capplan.mm.memcg import cancel_charge
from capplan.mm.nonresident import granule_found
from capplan.mm.page_alloc import free_frame, free_huge_page, free_kernel_pages
from capplan.mm.pcp import PCP_UNMOVABLE, pcp_free
from capplan.mm.rmap import account_cache, add_mapped, add_swapents, unmap_page
from capplan.mm.shrink_folio import clean_page
from capplan.mm.state import (
    HPAGE_PMD_NR,
    LRU_NONE,
    MAP_ANON,
    PCP_CPUS,
    PG_DIRTY,
    PG_DOOMED,
    PG_HUGE,
    PG_MAPPED,
    PG_MLOCKED,
    PG_SCATTERED,
    PG_SWAPBACKED,
    PG_SWAPCACHE,
    PG_WRITEBACK,
    PTE_NONE,
    PTE_PRESENT,
    PTE_SHADOW,
    PTE_SWAP,
    PTE_ZSWAP,
    ST_FILE_WRITEBACK,
    ST_KERNEL,
    ST_PAGETABLES,
    VM_PGFREE,
    XA_NONE,
)
from capplan.mm.swap_slots import drop_swap_cache, free_swap_entry
from capplan.mm.xarray import xa_store
from capplan.sim.fault import tables_of
from capplan.sim.fork import hand_over

__all__ = [
    "detach_entry",
    "detach_huge",
    "entries_of",
    "free_detached",
    "free_detached_huge",
    "free_newest",
    "free_tables",
    "huge_page_at",
    "punch",
    "zap_entry",
]

# Of an anonymous page that has more to it than its list, its charge and its place.
_NOT_PLAIN = (
    PG_DIRTY | PG_DOOMED | PG_HUGE | PG_MLOCKED | PG_SCATTERED | PG_SWAPCACHE | PG_WRITEBACK
)


@jit
def detach_entry(k, fr, pt, m, e):
    """Entry e leaves its mapping: its page (still charged, on no list), or -1 when it had none."""
    entry = pt[e]
    mapping = k.mapping[m]
    state = entry.state
    if state == PTE_NONE:
        return -1
    if state == PTE_SWAP or state == PTE_ZSWAP:
        add_swapents(k, pt, m, e, -entry.nr_pages)
    if state != PTE_PRESENT:
        granule_found(k, pt, m, e)
    i = entry.frame
    if i < 0:
        if state != PTE_SHADOW:
            free_swap_entry(k, fr, pt, e)
        xa_store(k, fr, pt, e, 0, XA_NONE, 0)
        entry.state = PTE_NONE
        entry.memcg = -1
        return -1
    nr = fr[i].nr_pages
    unmap_page(k, fr, pt, i)
    clean_page(k, fr, i)
    if state == PTE_PRESENT:
        mapping.resident_pages -= nr
    if fr[i].flags & PG_SWAPCACHE:
        drop_swap_cache(k, fr, pt, i)
    try_to_free_buffers(k, fr, i)
    account_cache(k, fr[i].memcg, mapping.kind, -nr)
    if fr[i].flags & PG_MLOCKED:
        k.nr_mlocked -= nr
    lru_del(k, fr, i)
    xa_store(k, fr, pt, e, 0, XA_NONE, 0)
    entry.frame = -1
    entry.state = PTE_NONE
    entry.memcg = -1
    return i


@jit
def huge_page_at(k, fr, pt, m, index):
    """First frame of the huge page that begins at granule ``index`` of mapping m; -1: none does.

    One that is not there as a whole, or is being written, is split.
    """
    e = k.mapping[m].first_pte + index
    first = pt[e].frame
    if first < 0 or not fr[first].flags & PG_HUGE:
        return -1
    whole = huge_first(k, fr, first) == first
    if whole:
        for j in range(huge_pages(k)):
            page = fr[first + j]
            if page.mapping != m or page.pte != e + j or page.flags & PG_WRITEBACK:
                whole = False
    if not whole:
        split_huge_page(k, fr, first)
        return -1
    return first


@jit
def detach_huge(k, fr, pt, m, first):
    """The entries of a huge page leave their mapping; its frames are on no list, and charged."""
    for i in range(first, first + huge_pages(k)):
        detach_entry(k, fr, pt, m, fr[i].pte)


@jit
def free_detached_huge(k, fr, first):
    """Uncharge and free a huge page that left its mapping."""
    cancel_charge(k, fr[first].memcg, HPAGE_PMD_NR)
    free_huge_page(k, fr, first)


@jit
def free_detached(k, fr, i):
    """Uncharge and free a page that left its mapping; one under writeback goes at its end."""
    nr = fr[i].nr_pages
    cancel_charge(k, fr[i].memcg, nr)
    if fr[i].flags & PG_WRITEBACK:
        if not fr[i].flags & PG_SWAPBACKED:
            k.memcg[fr[i].memcg].stat[ST_FILE_WRITEBACK] -= nr
        fr[i].flags |= PG_DOOMED
        return
    free_frame(k, fr, i)


@jit
def zap_entry(k, fr, pt, m, e):
    """Free what entry e holds at once: the pages it had resident."""
    i = detach_entry(k, fr, pt, m, e)
    if i < 0:
        return 0
    nr = fr[i].nr_pages
    free_detached(k, fr, i)
    return nr


@jit
def entries_of(k, m, nr):
    """Page table entries behind nr pages of mapping m: a huge page has one, is freed as one.

    Kernel: zap_huge_pmd(); __free_pages_ok() of order 9.
    """
    return nr / 512.0 if k.mapping[m].thp and k.thp_enabled else 1.0 * nr


@jit
def _free_newest_huge(k, fr, pt, m, nr):
    """Whether the mapping ended in a huge page of at most nr pages, which is free now."""
    mapping = k.mapping[m]
    index = mapping.used - huge_pages(k)
    if nr < HPAGE_PMD_NR or index < 0 or mapping.forks > 0:
        return False
    first = huge_page_at(k, fr, pt, m, index)
    if first < 0:
        return False
    k.work_ns += k.cost.exit_free_ns
    detach_huge(k, fr, pt, m, first)
    free_detached_huge(k, fr, first)
    mapping.used = index
    mapping.size_pages -= HPAGE_PMD_NR
    return True


@jit
def _is_plain(k, fr, pt, m, e, c, lru, z):
    """Whether entry e maps a page of group c on a list of zone z that only has to go."""
    entry = pt[e]
    if entry.state != PTE_PRESENT or entry.xa != XA_NONE:
        return False
    page = fr[entry.frame]
    if page.memcg != c or page.zone != z or page.lru != lru or not page.flags & PG_MAPPED:
        return False
    return page.flags & _NOT_PLAIN == 0


@jit
def _drop_newest(k, fr, pt, m, e):
    """The page of entry e, a plain one, leaves its list and is free; the rest is counted later."""
    i = pt[e].frame
    pt[e].frame = -1
    pt[e].state = PTE_NONE
    pt[e].memcg = -1
    page = fr[i]
    unlink(k.memcg[page.memcg].lruvec[page.zone >> 2], fr, i, page.lru)
    page.lru = LRU_NONE
    page.mapping = -1
    page.pte = -1
    page.memcg = -1
    page.flags = 0
    pcp_free(k, fr, page.zone, k.cpu % PCP_CPUS, i)


@jit
def _free_newest_plain(k, fr, pt, m, nr):
    """Give back the newest granules as long as they are plain alike; (pages, their tables).

    The same as :func:`zap_entry` for each of them; what all have in common is counted once.
    """
    mapping = k.mapping[m]
    if mapping.kind != MAP_ANON or mapping.thp or mapping.forks or k.lru_gen or k.cgroup_v1:
        return 0, 0
    newest = pt[mapping.first_pte + max(mapping.used - 1, 0)].frame
    if newest < 0 or fr[newest].lru == LRU_NONE:
        return 0, 0
    c, lru, z = np.int64(fr[newest].memcg), np.int64(fr[newest].lru), np.int64(fr[newest].zone)
    taken = 0
    tables = 0
    while mapping.used > 0:
        e = mapping.first_pte + mapping.used - 1
        size = pt[e].nr_pages
        if taken + size > nr or not _is_plain(k, fr, pt, m, e, c, lru, z):
            break
        k.work_ns += k.cost.exit_free_ns * size
        _drop_newest(k, fr, pt, m, e)
        mapping.used -= 1
        taken += size
        tables += tables_of(mapping.used * k.granule_pages, size)
    if taken:
        mapping.size_pages -= taken
        mapping.resident_pages -= taken
        k.vmstat[VM_PGFREE] += taken
        add_mapped(k, pt, m, c, -taken)
        count_pages(k, z, c, lru, -taken)
        cancel_charge(k, c, taken)
    return taken, tables


@jit
def free_newest(k, fr, pt, v, nr):
    """Give back the newest nr pages of an area (munmap of its end); whole granules.

    Returns the pages taken off the mapping's extent, at most nr. Page tables that map nothing any
    more go too, of anonymous memory: a truncated file leaves its mappers theirs.

    Kernel: unmap_region(), free_pgtables() down to the end of what stays.
    """
    m = k.vma[v].mapping
    mapping = k.mapping[m]
    nr += mapping.thp_spare  # the untouched end of a huge page goes with what was before it
    mapping.thp_spare = 0
    taken, tables = _free_newest_plain(k, fr, pt, m, nr)
    while mapping.used > 0:
        if mapping.thp and _free_newest_huge(k, fr, pt, m, nr - taken):
            taken += HPAGE_PMD_NR
            tables += tables_of(mapping.used * k.granule_pages, HPAGE_PMD_NR)
            continue
        e = mapping.first_pte + mapping.used - 1
        size = pt[e].nr_pages
        if taken + size > nr:
            break
        k.work_ns += k.cost.exit_free_ns * entries_of(k, m, size)
        if mapping.forks == 0 or not hand_over(k, fr, pt, m, mapping.used - 1):
            zap_entry(k, fr, pt, m, e)
        mapping.used -= 1
        mapping.size_pages -= size
        taken += size
        tables += tables_of(mapping.used * k.granule_pages, size)
    if mapping.kind == MAP_ANON:
        _free_tables(k, fr, k.vma[v].proc, min(tables, k.proc[k.vma[v].proc].pgtables))
    return taken


@jit
def _free_tables(k, fr, p, nr):
    """Free nr page tables of process p."""
    c = k.proc[p].memcg
    k.proc[p].pgtables -= nr
    k.nr_pagetables -= nr
    k.memcg[c].stat[ST_PAGETABLES] -= nr
    k.memcg[c].stat[ST_KERNEL] -= nr
    cancel_charge(k, c, nr)
    free_kernel_pages(k, fr, nr, PCP_UNMOVABLE)


@jit
def punch(k, fr, pt, m, nr):
    """Give back every second granule of the newest nr pages (madvise(2) with MADV_DONTNEED).

    The mapping keeps its extent. What is left lets no two neighbours merge.
    """
    mapping = k.mapping[m]
    index = mapping.used - nr // k.granule_pages
    while index < mapping.used:
        e = mapping.first_pte + max(index, 0)
        k.work_ns += k.cost.exit_free_ns * pt[e].nr_pages
        zap_entry(k, fr, pt, m, e)
        index += 2


@jit
def free_tables(k, fr, p):
    """Free the page tables and kernel memory of a dead process."""
    proc = k.proc[p]
    c = proc.memcg
    _free_tables(k, fr, p, proc.pgtables)
    k.memcg[c].stat[ST_KERNEL] -= proc.kernel_pages
    cancel_charge(k, c, proc.kernel_pages)
    k.nr_kernel -= proc.kernel_pages
    free_kernel_pages(k, fr, proc.kernel_pages, PCP_UNMOVABLE)
    proc.kernel_pages = 0
