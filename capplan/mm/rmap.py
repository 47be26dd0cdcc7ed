"""What a page that comes or goes changes in the books of its processes (mm/rmap.c).

A mapping is attached by processes (vmas); each attachment counts its mapped pages. A
private region has one attachment; a shared one is counted in each process's RSS and once in
the node's counters.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.state import (
    MAP_ANON,
    MAP_FILE,
    MAP_KERNEL,
    MAP_SHMEM,
    PG_MAPPED,
    PTE_NONE,
    ST_ANON,
    ST_FILE,
    ST_FILE_MAPPED,
    ST_KERNEL,
    ST_SHMEM,
)

__all__ = [
    "account_cache",
    "add_mapped",
    "add_swapents",
    "flush_dirty",
    "map_page",
    "mapping_of",
    "maps_granule",
    "unmap_page",
]


@jit
def maps_granule(k, pt, v, index):
    """Whether vma v reaches granule ``index`` of its mapping.

    After fork a child shares what was there, less what was copied since: a granule that its
    region of copies (``vma.copy``) has an entry for is not shared any more.
    """
    s = k.vma[v].copy
    if s < 0:
        return True
    copies = k.mapping[s]
    return index < copies.used and pt[copies.first_pte + index].state == PTE_NONE


@jit
def _add_rss(k, pt, m, e, nr):
    """Add nr pages of entry e to the RSS of every process that maps them."""
    mapping = k.mapping[m]
    kind = mapping.kind
    v = mapping.first_vma
    while v >= 0:
        vma = k.vma[v]
        shares = mapping.forks == 0 or maps_granule(k, pt, v, e - mapping.first_pte)
        if shares and not vma.via_read:
            vma.mapped_pages += nr
            proc = k.proc[vma.proc]
            if kind == MAP_ANON:
                proc.rss_anon += nr
            elif kind == MAP_FILE:
                proc.rss_file += nr
            else:
                proc.rss_shmem += nr
        v = vma.next_on_mapping


@jit
def add_swapents(k, pt, m, e, nr):
    """Entry e of mapping m went to swap (or came back, nr < 0): MM_SWAPENTS of its processes."""
    mapping = k.mapping[m]
    mapping.swapped_pages += nr
    if mapping.kind != MAP_ANON:
        return
    v = mapping.first_vma
    while v >= 0:
        if mapping.forks == 0 or maps_granule(k, pt, v, e - mapping.first_pte):
            k.proc[k.vma[v].proc].swapents += nr
        v = k.vma[v].next_on_mapping


@jit
def add_mapped(k, pt, m, c, nr):
    """nr pages of group c in a mapping that nobody forked from are mapped (or not, nr < 0)."""
    _add_rss(k, pt, m, k.mapping[m].first_pte, nr)
    k.nr_anon += nr
    k.memcg[c].stat[ST_ANON] += nr


@jit
def map_page(k, fr, pt, i):
    """Page i is reached by page tables now (page_add_*_rmap): RSS, NR_ANON_MAPPED, memory.stat."""
    if fr[i].flags & PG_MAPPED:
        return
    m = fr[i].mapping
    nr = fr[i].nr_pages
    fr[i].flags |= PG_MAPPED
    _add_rss(k, pt, m, fr[i].pte, nr)
    if k.mapping[m].kind == MAP_ANON:
        k.nr_anon += nr
        k.memcg[fr[i].memcg].stat[ST_ANON] += nr
    else:
        k.memcg[fr[i].memcg].stat[ST_FILE_MAPPED] += nr
        k.node[fr[i].zone >> 2].nr_file_mapped += nr


@jit
def unmap_page(k, fr, pt, i):
    """Page i left the page tables (try_to_unmap)."""
    if not fr[i].flags & PG_MAPPED:
        return
    m = fr[i].mapping
    nr = fr[i].nr_pages
    fr[i].flags &= ~PG_MAPPED
    _add_rss(k, pt, m, fr[i].pte, -nr)
    if k.mapping[m].kind == MAP_ANON:
        k.nr_anon -= nr
        k.memcg[fr[i].memcg].stat[ST_ANON] -= nr
    else:
        k.memcg[fr[i].memcg].stat[ST_FILE_MAPPED] -= nr
        k.node[fr[i].zone >> 2].nr_file_mapped -= nr


@jit
def flush_dirty(k, m, nr):
    """CPUs that run a process of mapping m have to forget nr pages before these are written.

    One interrupt for each page and CPU: whoever reclaims waits for the answers, whoever runs
    there is held up as long. A CPU that left the process, or idles on it, is not asked.

    Kernel
    ------
    mm/rmap.c, should_defer_flush(), try_to_unmap_flush_dirty(): the batch ends at each dirty
    page, and a page that gets a swap slot is dirty; arch/x86/mm/tlb.c, tlb_is_not_lazy().
    """
    v = k.mapping[m].first_vma
    while v >= 0:
        p = k.vma[v].proc
        t = k.proc[p].first_task
        while 0 <= t < k.nr_tasks and k.task[t].proc == p:
            cpu = k.task[t].wait
            if cpu != k.cpu and k.cpu_actor[cpu] == t and k.cpu_free_ns[cpu] > k.now_ns:
                k.work_ns += k.cost.shootdown_ns * nr
                k.task[t].interrupt_ns += k.cost.shootdown_ns * nr
            t += 1
        v = k.vma[v].next_on_mapping


@jit
def account_cache(k, c, kind, nr):
    """nr pages of a file or shmem object entered (or left, nr < 0) the page cache for group c.

    Kernel memory is counted here too, in its own books.
    """
    if kind == MAP_ANON:
        return
    if kind == MAP_KERNEL:
        k.nr_kernel += nr
        k.memcg[c].stat[ST_KERNEL] += nr
        return
    k.nr_file += nr
    k.memcg[c].stat[ST_FILE] += nr
    if kind == MAP_SHMEM:
        k.nr_shmem += nr
        k.memcg[c].stat[ST_SHMEM] += nr


@jit
def mapping_of(k, e):
    """The mapping that entry e belongs to."""
    low = 0
    high = k.nr_mappings - 1
    while low < high:
        middle = (low + high + 1) // 2
        if k.mapping[middle].first_pte <= e:
            low = middle
        else:
            high = middle - 1
    return low
