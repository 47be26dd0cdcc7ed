"""What touching a granule that is not in memory does (mm/memory.c, mm/filemap.c, mm/shmem.c).

allocate a frame -> charge it in batches of 64 pages (memory.high after each)
-> fill it (zero, read, swap in) -> refault decision -> put it on its list, map it
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.lru_gen_lists import lru_gen_refault
from capplan.mm.lruvec import lru_add, progress_now
from capplan.mm.memcg import (
    CHARGE_OK,
    CHARGE_SHORT,
    cancel_charge,
    charge_batches,
    charge_forced,
    charge_what_fits,
    end_tries,
    handle_over_high,
    reset_charge,
    try_charge,
)
from capplan.mm.mempolicy import alloc_node, interleave_next
from capplan.mm.nonresident import granule_found
from capplan.mm.page_alloc import alloc_kernel_pages, free_frame, put_back_frame
from capplan.mm.page_alloc_slowpath import ALLOC_AGAIN, alloc_frame
from capplan.mm.page_io import complete_reads, swap_in, swap_in_ahead
from capplan.mm.pcp import PCP_RECLAIMABLE, PCP_UNMOVABLE
from capplan.mm.rmap import account_cache, add_swapents, map_page, mapping_of
from capplan.mm.state import (
    MAP_FILE,
    MAP_KERNEL,
    MAP_SHMEM,
    MEMCG_CHARGE_BATCH,
    PG_ACTIVE,
    PG_EXEC,
    PG_MLOCKED,
    PG_READAHEAD,
    PG_RECLAIM,
    PG_SWAP_CLEAN,
    PG_SWAPBACKED,
    PG_WRITEBACK,
    PG_YOUNG,
    PTE_NONE,
    PTE_PRESENT,
    PTE_SHADOW,
    PTE_SWAP,
    PTE_ZSWAP,
    ST_KERNEL,
    ST_PAGETABLES,
    ST_PGFAULT,
    ST_PGMAJFAULT,
    ST_SLAB_RECLAIMABLE,
    VM_PGFAULT,
    VM_PGMAJFAULT,
)
from capplan.mm.swap import disk_read, local_ns, plug_finish
from capplan.mm.swap_map import ask_for_slot, holder, mem_cgroup_swap_full, total_free_swap
from capplan.mm.swap_slots import drop_swap_cache
from capplan.mm.swap_state import (
    swap_cluster_window,
    swap_ra_hit,
    swap_ra_window,
    swap_use_vma_readahead,
)
from capplan.mm.workingset import workingset_refault
from capplan.mm.xarray import xa_store_file

__all__ = [
    "FAULT_AGAIN",
    "FAULT_NOMEM",
    "FAULT_OK",
    "FAULT_OOM_WAIT",
    "charged_frame",
    "fault",
    "first_flags",
    "install",
    "page_tables",
    "slab_page",
    "tables_of",
]

# The same numbers as CHARGE_*.
FAULT_OK, FAULT_AGAIN, FAULT_NOMEM, FAULT_OOM_WAIT = 0, 1, 2, 3
PTES_PER_TABLE = 512


@jit
def _charge_granule(k, fr, pt, t, c, nr, user_fault, may_short):
    """Charge nr pages batch by batch: (one of CHARGE_*, the pages charged), all or nothing.

    With ``may_short`` a part is better than nothing: (CHARGE_OK, fewer than nr).
    """
    if k.captured == 1:  # it was there: limits had their say before the capture
        charge_forced(k, c, nr)
        return CHARGE_OK, nr
    if nr > MEMCG_CHARGE_BATCH and k.task[t].oom_memcg > 0:
        # the batches that had room were given back: only room for all of them is room
        return end_tries(k, fr, pt, t, c, nr, user_fault), 0
    if nr % MEMCG_CHARGE_BATCH == 0 and charge_batches(k, t, c, nr):
        return CHARGE_OK, nr
    done = 0
    while done < nr:
        batch = min(nr - done, MEMCG_CHARGE_BATCH)
        status = try_charge(k, fr, pt, t, c, batch, user_fault, may_short)
        if status == CHARGE_SHORT:
            done += charge_what_fits(k, c, batch)
            return (CHARGE_OK if done else FAULT_AGAIN), done
        if status != CHARGE_OK:
            if done:
                cancel_charge(k, c, done)
            return status, 0
        done += batch
        if k.task[t].over_high:
            handle_over_high(k, fr, pt, t, c)
    return CHARGE_OK, nr


@jit
def tables_of(index, nr):
    """Tables that pages [index, index + nr) need beyond those of the pages before them."""
    first = (index + PTES_PER_TABLE - 1) // PTES_PER_TABLE
    return (index + nr + PTES_PER_TABLE - 1) // PTES_PER_TABLE - first


@jit
def page_tables(k, fr, v, index, nr):
    """Tables that the first touch of pages [index, index + nr) adds to the process."""
    tables = tables_of(index, nr)
    if tables <= 0:
        return
    got = alloc_kernel_pages(k, fr, tables, PCP_UNMOVABLE)
    p = k.vma[v].proc
    c = k.proc[p].memcg
    k.proc[p].pgtables += got
    k.nr_pagetables += got
    k.memcg[c].stat[ST_PAGETABLES] += got
    k.memcg[c].stat[ST_KERNEL] += got
    charge_forced(k, c, got)


@jit
def _from_swap_cache(k, fr, pt, v, e):
    """The page is in the swap cache, on its way out or read ahead: map it."""
    i = pt[e].frame
    m = fr[i].mapping
    nr = fr[i].nr_pages
    pt[e].state = PTE_PRESENT
    ahead = fr[i].flags & PG_READAHEAD
    swap_ra_hit(k, v, e, nr if ahead else 0)
    fr[i].flags &= ~(PG_RECLAIM | PG_SWAP_CLEAN | PG_READAHEAD)
    fr[i].flags |= PG_YOUNG
    fr[i].seen = progress_now(k, m)
    add_swapents(k, pt, m, e, -nr)
    k.mapping[m].resident_pages += nr
    granule_found(k, pt, m, e)
    if not k.mapping[m].via_read:
        map_page(k, fr, pt, i)
        k.vmstat[VM_PGFAULT] += nr
        k.memcg[fr[i].memcg].stat[ST_PGFAULT] += nr
    k.work_ns += k.cost.fault_ns * nr
    if ahead and not fr[i].flags & PG_WRITEBACK and mem_cgroup_swap_full(k, pt[e].owner):
        drop_swap_cache(k, fr, pt, i)
    return FAULT_OK


@jit
def _read_ahead(k, fr, pt, t, m, e):
    """Put entry e's page into the swap cache (__read_swap_cache_async).

    Returns the pages that its device has to read, -1 when there was no memory for it.
    """
    nr = pt[e].nr_pages
    c = pt[e].owner if k.memcg[pt[e].owner].online else k.proc[k.task[t].proc].memcg
    status, i = charged_frame(k, fr, pt, t, alloc_node(k, m, e, 0), c, nr, True, 0)
    if status != FAULT_OK:
        reset_charge(k, t)
        return -1
    refault = pt[e].memcg >= 0
    install(k, fr, m, i, e, c)
    fr[i].flags &= ~PG_YOUNG
    if not k.lru_gen:  # folio_add_lru() in a fault makes them active, these as well
        fr[i].flags &= ~PG_ACTIVE
    read = swap_in_ahead(k, fr, pt, i)
    if refault and k.lru_gen:
        lru_gen_refault(k, fr, pt, i, True)
    elif refault:
        workingset_refault(k, fr, pt, i, total_free_swap(k) > 0)
    pt[e].frame = i
    account_cache(k, c, k.mapping[m].kind, nr)
    lru_add(k, fr, i)
    return read


@jit
def _swapin_readahead(k, fr, pt, t, v, e):
    """Read what lies around entry e: (pages that one read brings, pages asked for along)."""
    if k.swap[pt[e].swap].zram:
        return 1, 0
    m = k.vma[v].mapping
    around = swap_use_vma_readahead(k, m)
    if around:
        win, first, end = swap_ra_window(k, v, e)
    else:
        win, first, end = swap_cluster_window(k, pt, e)
    ahead = 0
    k.plug_outer = 1 if win > 1 else 0  # until the page itself is charged
    for n in range(first, end):
        other = n if around else holder(k, pt, n)
        if other < 0 or other == e or pt[other].frame >= 0 or pt[other].swap < 0:
            continue
        if k.swap[pt[other].swap].zram:
            continue
        got = _read_ahead(k, fr, pt, t, m if around else mapping_of(k, other), other)
        if got < 0:
            break
        ahead += got
    return win, ahead


@jit
def _asked(k, mapping, e, sequential):
    """When the kernel asked the device for entry e of a file [ns].

    In a sequential stream readahead asks for what follows when the reader comes to what was
    read ahead last (page_cache_async_ra), so the device works while the reader copies.
    """
    now = local_ns(k)
    asked = mapping.ra_ns if sequential and mapping.ra_next == e else now
    mapping.ra_next = e + 1
    mapping.ra_ns = now
    return asked


@jit
def _fill(k, fr, pt, t, v, i, e, state, sequential, window, ahead):
    """Bring the contents and decide where the page goes; its reading time is in k.wait_ns.

    window, ahead : of swap, as :func:`_swapin_readahead` returns them
    """
    m = fr[i].mapping
    mapping = k.mapping[m]
    nr = fr[i].nr_pages
    c = fr[i].memcg
    restored = 0
    before = k.wait_ns
    read = 0
    refault = state != PTE_NONE and pt[e].memcg >= 0
    if state == PTE_NONE or state == PTE_SHADOW:
        if mapping.kind == MAP_FILE and state == PTE_SHADOW:  # else write(2) makes a new page
            disk_read(k, mapping.disk, nr, sequential, _asked(k, mapping, e, sequential))
            read = nr
        elif not mapping.via_read:  # write(2) takes no fault: all it costs is write_copy_ns
            k.work_ns += k.cost.fault_ns * nr
    else:
        reads = (nr + window - 1) // window if sequential else nr
        read = swap_in(k, fr, pt, i, reads, ahead)
        if reads < nr:
            swap_ra_hit(k, v, e, nr - reads)  # of its own pages
        add_swapents(k, pt, m, e, -nr)
    if refault:
        if k.lru_gen:
            restored = 1 if lru_gen_refault(k, fr, pt, i, not mapping.via_read) else 0
        else:
            restored = workingset_refault(k, fr, pt, i, total_free_swap(k) > 0)
    if state != PTE_NONE:
        granule_found(k, pt, m, e)
    if read and not mapping.via_read:
        k.task[t].majfaults += read
        k.memcg[c].stat[ST_PGMAJFAULT] += read
        k.vmstat[VM_PGMAJFAULT] += read
    if restored:
        k.memstall_ns += k.wait_ns - before


@jit
def charged_frame(k, fr, pt, t, node, c, nr, user_fault, may_short):
    """A frame of nr pages charged to group c: (one of FAULT_*, frame).

    With ``may_short`` it has fewer pages where the group has room for a part only.
    """
    i = alloc_frame(k, fr, pt, t, node, nr)
    if i == ALLOC_AGAIN:
        return FAULT_AGAIN, i
    if i < 0:
        return FAULT_NOMEM, i
    status, charged = _charge_granule(k, fr, pt, t, c, nr, user_fault, may_short)
    if status == CHARGE_OK and charged == nr:
        return FAULT_OK, i
    free_frame(k, fr, i)
    if status != CHARGE_OK:
        return status, -1
    i = alloc_frame(k, fr, pt, t, node, charged)
    if i < 0:
        cancel_charge(k, c, charged)
        return FAULT_AGAIN, i
    return FAULT_OK, i


@jit
def slab_page(k, fr, pt, t, c):
    """A page of dentries that were looked up once, charged to group c: one of FAULT_*.

    Kernel: mm/slub.c, allocate_slab(); mm/memcontrol.c, obj_cgroup_charge_pages(). The page is
    asked for as any other is (GFP_KERNEL), so it wakes kswapd and reclaims. The group pays whole
    pages here, by the bytes of its objects there.
    """
    status, i = charged_frame(k, fr, pt, t, 0, c, 1, False, 0)
    if status != FAULT_OK:
        return status
    put_back_frame(k, fr, i)  # slab is counted by zone, not by frame
    if alloc_kernel_pages(k, fr, 1, PCP_RECLAIMABLE) == 0:
        cancel_charge(k, c, 1)
        return FAULT_NOMEM
    k.nr_slab_reclaimable += 1
    k.memcg[c].slab_once += 1
    if c > 0:
        k.nr_slab_memcg += 1
        k.memcg[c].stat[ST_SLAB_RECLAIMABLE] += 1
        k.memcg[c].stat[ST_KERNEL] += 1
    return FAULT_OK


@jit
def fault(k, fr, pt, t, v, e, nr, sequential):
    """Task t touches entry e of its vma v, which is not resident: one of FAULT_*.

    Parameters
    ----------
    e : entry index; nr : pages of the granule (1..2^g) [pages]
    sequential : the device reads it as part of a stream

    Time spent is added to k.work_ns and k.wait_ns whatever the result; FAULT_AGAIN means
    that the task tries again after it.
    """
    m = k.vma[v].mapping
    mapping = k.mapping[m]
    state = pt[e].state
    complete_reads(k, fr, pt, local_ns(k))
    if state == PTE_SWAP and pt[e].frame >= 0:
        return _from_swap_cache(k, fr, pt, v, e)
    window, ahead = 1, 0
    if state == PTE_SWAP or state == PTE_ZSWAP:
        ask_for_slot(k, pt, e)
        window, ahead = _swapin_readahead(k, fr, pt, t, v, e)
    user_fault = not mapping.via_read and mapping.kind != MAP_KERNEL
    c = mapping.owner if mapping.owner >= 0 else k.proc[k.task[t].proc].memcg
    if pt[e].swap >= 0 and k.memcg[pt[e].owner].online:
        c = pt[e].owner
    may_short = 1 if mapping.kind == MAP_FILE and state == PTE_SHADOW and nr > 1 else 0
    status, i = charged_frame(k, fr, pt, t, alloc_node(k, m, e, 0), c, nr, user_fault, may_short)
    if k.plug_outer:
        k.plug_outer = 0
        plug_finish(k, fr, 0)
    if status != FAULT_OK:
        return status
    interleave_next(k, m)
    pt[e].nr_pages = nr
    nr = fr[i].nr_pages
    install(k, fr, m, i, e, c)
    _fill(k, fr, pt, t, v, i, e, state, sequential, window, ahead)
    pt[e].frame = i
    pt[e].state = PTE_PRESENT
    account_cache(k, c, mapping.kind, nr)
    if mapping.kind == MAP_FILE or mapping.kind == MAP_SHMEM:
        xa_store_file(k, fr, pt, e, c, mapping.kind == MAP_SHMEM)
    mapping.resident_pages += nr
    if mapping.locked or k.vma[v].locked:
        fr[i].flags |= PG_MLOCKED
        k.nr_mlocked += nr
    if user_fault:
        k.vmstat[VM_PGFAULT] += nr
        k.memcg[c].stat[ST_PGFAULT] += nr
        map_page(k, fr, pt, i)
        if state == PTE_NONE:
            page_tables(k, fr, v, (e - mapping.first_pte) * k.granule_pages, nr)
    if mapping.kind != MAP_KERNEL:  # on no list
        lru_add(k, fr, i)
    return FAULT_OK


@jit
def install(k, fr, m, i, e, c):
    """Tie the frame to its entry and give it its first flags."""
    page = fr[i]
    page.mapping = m
    page.pte = e
    page.memcg = c
    page.seen = progress_now(k, m)
    page.flags |= first_flags(k, k.mapping[m])


@jit
def first_flags(k, mapping):
    """Flags of a page that a fault (or read(2), write(2)) brings to a mapping."""
    flags = 0
    if mapping.kind != MAP_FILE:
        flags |= PG_SWAPBACKED
        if k.anon_starts_active:
            flags |= PG_ACTIVE
    if not mapping.via_read:
        flags |= PG_YOUNG
        if k.lru_gen:
            flags |= PG_ACTIVE  # folio_add_lru() in a fault
        if mapping.exec:
            flags |= PG_EXEC
    return flags
