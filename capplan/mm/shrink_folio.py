"""What becomes of one page at the inactive tail (mm/vmscan.c, shrink_folio_list()).

under writeback -> activate, marked for rotation (v1 memcg reclaim waits)
touched         -> activate or keep; executable file pages at once
anon, shmem     -> swap slot, unmap, write (zswap and zram free at once; a device does not)
dirty file      -> activate, for the flusher (kswapd writes in distress)
clean file      -> drop, leave a shadow
huge page       -> the same for all of it at once; split where swap has no room for it as one
"""

from __future__ import annotations

from capplan.mm._jit import jit, rare
from capplan.mm.buffer_head import try_to_free_buffers
from capplan.mm.huge_memory import (
    huge_first,
    huge_pages,
    is_uniform,
    split_huge_page,
)
from capplan.mm.lru_gen_lists import lru_gen_eviction
from capplan.mm.lruvec import age_nonresident, draw_below, lru_del, lru_move, referenced
from capplan.mm.nonresident import granule_found, granule_lost
from capplan.mm.page_alloc import free_frame, free_huge_page
from capplan.mm.page_counter import charge_swap, uncharge_memory, uncharge_memsw
from capplan.mm.page_io import swap_write_device, swap_writepage
from capplan.mm.rmap import account_cache, add_swapents, flush_dirty, map_page, unmap_page
from capplan.mm.state import (
    HPAGE_PMD_NR,
    MAP_ANON,
    PG_ACTIVE,
    PG_DIRTY,
    PG_EXEC,
    PG_HUGE,
    PG_MAPPED,
    PG_MLOCKED,
    PG_READAHEAD,
    PG_RECLAIM,
    PG_REFERENCED,
    PG_SWAP_CLEAN,
    PG_SWAPBACKED,
    PG_SWAPCACHE,
    PG_WRITEBACK,
    PTE_PRESENT,
    PTE_SHADOW,
    PTE_SWAP,
    PTE_ZSWAP,
    ST_FILE_DIRTY,
    ST_SWAPCACHED,
    VM_PGACTIVATE,
    XA_SHADOW,
)
from capplan.mm.swap import (
    STREAM_FATE,
    complete_io,
    disk_write,
    local_ns,
    plug_flush,
    start_writeback,
)
from capplan.mm.swap_map import mem_cgroup_swap_full
from capplan.mm.swap_slots import add_to_swap_cache, drop_swap_cache
from capplan.mm.swapfile import get_swap_cluster, get_swap_page, give_slot
from capplan.mm.workingset import workingset_eviction
from capplan.mm.xarray import xa_store, xa_store_swap
from capplan.mm.zram import zram_store
from capplan.mm.zswap import zswap_drop
from capplan.mm.zswap_store import zswap_store

__all__ = ["clean_page", "place_in_swap", "set_page_dirty", "shrink_folio"]

# folio_check_references()
KEEP, ACTIVATE, RECLAIM, RECLAIM_CLEAN = 0, 1, 2, 3


@jit
def set_page_dirty(k, fr, i):
    """A file page was written to (folio_mark_dirty)."""
    if fr[i].flags & PG_DIRTY:
        return
    nr = fr[i].nr_pages
    fr[i].flags |= PG_DIRTY
    k.nr_dirty += nr
    k.node[fr[i].zone >> 2].nr_dirty += nr
    k.memcg[fr[i].memcg].stat[ST_FILE_DIRTY] += nr
    mapping = k.mapping[fr[i].mapping]
    mapping.dirty_pages += nr
    k.disk[mapping.disk].nr_dirty += nr
    k.disk[mapping.disk].dirtied += nr


@jit
def clean_page(k, fr, i):
    """A dirty page is on its way to disk, or dropped (folio_clear_dirty_for_io)."""
    if not fr[i].flags & PG_DIRTY:
        return
    nr = fr[i].nr_pages
    fr[i].flags &= ~PG_DIRTY
    k.nr_dirty -= nr
    k.node[fr[i].zone >> 2].nr_dirty -= nr
    k.memcg[fr[i].memcg].stat[ST_FILE_DIRTY] -= nr
    mapping = k.mapping[fr[i].mapping]
    mapping.dirty_pages -= nr
    k.disk[mapping.disk].nr_dirty -= nr


@jit
def _reclaim_swap_space(k, fr, pt, i):
    """Page i stays: the slot it kept is given back where swap is half full (activate_locked)."""
    page = fr[i]
    if (
        page.flags & PG_SWAPCACHE
        and not page.flags & PG_WRITEBACK
        and pt[page.pte].state == PTE_PRESENT
        and mem_cgroup_swap_full(k, page.memcg)
    ):
        drop_swap_cache(k, fr, pt, i)


@jit
def _putback(k, fr, pt, i, active):
    """Back to the head of its list; active: it becomes (or stays) an active page.

    Returns 0, the pages freed. The multi-gen LRU has isolated the page and sorts it itself.
    """
    if active:
        _reclaim_swap_space(k, fr, pt, i)
    if k.lru_gen and not fr[i].flags & PG_MLOCKED:
        if active:
            fr[i].flags |= PG_ACTIVE
        return 0
    if active and not fr[i].flags & PG_ACTIVE:
        fr[i].flags |= PG_ACTIVE
        k.vmstat[VM_PGACTIVATE] += fr[i].nr_pages
        age_nonresident(k, fr[i].memcg, fr[i].zone >> 2, fr[i].nr_pages)
    lru_move(k, fr, i)
    return 0


@jit
def _check_references(k, fr, i, touched):
    """KEEP, ACTIVATE, RECLAIM or RECLAIM_CLEAN (folio_check_references)."""
    page = fr[i]
    was_referenced = page.flags & PG_REFERENCED
    page.flags &= ~PG_REFERENCED
    is_file = not page.flags & PG_SWAPBACKED
    if touched and k.mapping[page.mapping].via_read:
        # accesses through read(2) since the last look, which the kernel marked as they came
        if was_referenced or touched > 1:
            return ACTIVATE
        return RECLAIM_CLEAN
    if touched:
        page.flags |= PG_REFERENCED
        if was_referenced or touched > 1:
            return ACTIVATE
        if is_file and page.flags & PG_EXEC:
            return ACTIVATE
        return KEEP
    if was_referenced and is_file:
        return RECLAIM_CLEAN
    return RECLAIM


@jit
def _writeback_case(k, fr, i):
    """The page is under writeback: whether it still is when we have dealt with it."""
    sc = k.sc
    page = fr[i]
    nr = page.nr_pages
    if sc.kswapd and page.flags & PG_RECLAIM and k.node[sc.node].flag_writeback:
        sc.immediate += nr
        return True
    sane = sc.target == 0 or not k.cgroup_v1
    if sane or not page.flags & PG_RECLAIM:
        page.flags |= PG_RECLAIM
        sc.writeback += nr
        return True
    plug_flush(k, fr, 0)
    plug_flush(k, fr, 1)
    wait = page.io_done_ns - local_ns(k)
    if wait > 0:
        k.wait_ns += wait
    complete_io(k, fr, local_ns(k))
    return page.flags & PG_WRITEBACK != 0


@jit
def _leave_mapping(k, fr, pt, i):
    """A page whose contents are elsewhere goes; its entry keeps a shadow (__remove_mapping)."""
    page = fr[i]
    e = page.pte
    m = page.mapping
    c = page.memcg
    nr = page.nr_pages
    kind = k.mapping[m].kind
    if k.lru_gen:
        lru_gen_eviction(k, fr, pt, i)
    else:
        workingset_eviction(k, fr, pt, i, k.sc.target)
    if page.flags & PG_SWAPCACHE:
        page.flags &= ~(PG_SWAPCACHE | PG_SWAP_CLEAN | PG_READAHEAD)
        if pt[e].in_zswap:
            pt[e].state = PTE_ZSWAP  # one that was read ahead, and not wanted
        k.nr_swapcached -= nr
        k.memcg[c].stat[ST_SWAPCACHED] -= nr
        if k.cgroup_v1:
            charge_swap(k, pt[e].owner, nr)  # mem_cgroup_swapout(): memsw's charge stays
        xa_store_swap(k, fr, pt, e, XA_SHADOW)
    else:
        pt[e].state = PTE_SHADOW
        xa_store(k, fr, pt, e, c, XA_SHADOW, 1)
        k.work_ns += k.cost.filemap_ns * nr
    pt[e].frame = -1
    try_to_free_buffers(k, fr, i)
    account_cache(k, c, kind, -nr)
    lru_del(k, fr, i)
    uncharge_memory(k, c, nr)
    if k.cgroup_v1 and not page.flags & PG_SWAPBACKED:
        uncharge_memsw(k, c, nr)


@jit
def _remove_mapping(k, fr, pt, i):
    """Free a page whose contents are elsewhere: its pages."""
    nr = fr[i].nr_pages
    _leave_mapping(k, fr, pt, i)
    k.work_ns += k.cost.free_ns * nr
    free_frame(k, fr, i)
    return nr


@jit
def _add_to_swap(k, fr, pt, i, at):
    """Page i gets slot ``at``, or one that is free (-1); False where swap is full (add_to_swap)."""
    e = fr[i].pte
    c = fr[i].memcg
    nr = fr[i].nr_pages
    got = get_swap_page(k, fr, pt, e, c, nr) if at < 0 else give_slot(k, pt, e, c, at, nr)
    if not got:
        return False
    pt[e].owner = c
    pt[e].nr_pages = nr
    add_to_swap_cache(k, fr, pt, i)
    return True


@jit
def _unmap_to_swap(k, fr, pt, i):
    """The page tables hold page i's slot now (try_to_unmap)."""
    m = fr[i].mapping
    nr = fr[i].nr_pages
    pt[fr[i].pte].state = PTE_SWAP
    unmap_page(k, fr, pt, i)
    add_swapents(k, pt, m, fr[i].pte, nr)
    granule_lost(k, pt, m, fr[i].pte, nr)


@rare
def place_in_swap(k, fr, pt, i):
    """Page i was in swap when the run began: it goes there without being written or waited for.

    zram and zswap store it; what zswap refuses is on the device. Where swap is full it stays in
    memory.
    """
    if not _add_to_swap(k, fr, pt, i, -1):
        return
    entry = pt[fr[i].pte]
    area = k.swap[entry.swap]
    mapping = k.mapping[fr[i].mapping]
    same = draw_below(k, mapping.stream, fr[i].pte, STREAM_FATE, mapping.same_filled)
    _unmap_to_swap(k, fr, pt, i)
    if same and k.zeromap:
        entry.length = 0
    elif area.zram:
        if zram_store(k, fr, pt, i, same) < 0:
            _take_back(k, fr, pt, i)
            drop_swap_cache(k, fr, pt, i)
            return
    elif k.zswap_enabled:
        zswap_store(k, fr, pt, i, same)
    _remove_mapping(k, fr, pt, i)


@jit
def _swap_out(k, fr, pt, i):
    """Give an anonymous or shmem page a slot, unmap and write it (add_to_swap, pageout)."""
    page = fr[i]
    e = page.pte
    nr = page.nr_pages
    if page.flags & PG_SWAP_CLEAN:
        return _remove_mapping(k, fr, pt, i)  # written, and nobody has touched it since
    if not page.flags & PG_SWAPCACHE:
        if not _add_to_swap(k, fr, pt, i, -1):
            return _putback(k, fr, pt, i, True)
    elif pt[e].in_zswap:
        zswap_drop(k, fr, pt, e)  # the older copy
    ahead = page.flags & PG_READAHEAD  # nobody has mapped it
    if not ahead:
        _unmap_to_swap(k, fr, pt, i)
        k.work_ns += k.cost.unmap_ns * nr
        flush_dirty(k, page.mapping, nr)
    result = swap_writepage(k, fr, pt, i)
    if result == 0:
        return _remove_mapping(k, fr, pt, i)
    if result < 0 and not ahead:
        _take_back(k, fr, pt, i)
        drop_swap_cache(k, fr, pt, i)
    if result < 0:
        return _putback(k, fr, pt, i, True)
    k.sc.pageout += nr
    page.flags |= PG_RECLAIM | PG_SWAP_CLEAN
    return _putback(k, fr, pt, i, False)


@jit
def _take_back(k, fr, pt, i):
    """Undo an unmap: nothing could store the page."""
    m = fr[i].mapping
    nr = fr[i].nr_pages
    pt[fr[i].pte].state = PTE_PRESENT
    add_swapents(k, pt, m, fr[i].pte, -nr)
    k.mapping[m].resident_pages += nr
    granule_found(k, pt, m, fr[i].pte)
    if k.mapping[m].kind == MAP_ANON:
        map_page(k, fr, pt, i)


@jit
def _putback_huge(k, fr, pt, first, active):
    """All of a huge page goes back to the head of its list (0, the pages freed)."""
    for i in range(first, first + huge_pages(k)):
        _putback(k, fr, pt, i, active)
    return 0


@rare
def _swap_out_huge(k, fr, pt, first, at):
    """Write a huge page to the cluster at slot ``at``, past zswap, which takes none (pageout).

    at : -1 where it has its slots
    """
    for i in range(first, first + huge_pages(k)):
        nr = fr[i].nr_pages
        if at >= 0:
            _add_to_swap(k, fr, pt, i, at + i - first)
        _unmap_to_swap(k, fr, pt, i)
        k.work_ns += k.cost.unmap_ns * nr
        flush_dirty(k, fr[i].mapping, nr)
        swap_write_device(k, fr, pt, i, False)
        k.sc.pageout += nr
        fr[i].flags |= PG_RECLAIM | PG_SWAP_CLEAN
    return _putback_huge(k, fr, pt, first, False)


@rare
def _shrink_huge(k, fr, pt, i):
    """Decide on the huge page that page i is of: the pages freed (shrink_folio_list)."""
    sc = k.sc
    first = huge_first(k, fr, i)
    last = first + huge_pages(k) - 1
    page = fr[first]
    k.work_ns += k.cost.scan_ns
    if page.flags & PG_MLOCKED or (page.flags & PG_MAPPED and not sc.may_unmap):
        return _putback_huge(k, fr, pt, first, False)
    if fr[last].flags & PG_WRITEBACK:  # the last that is written
        sc.dirty += HPAGE_PMD_NR
        before = sc.writeback
        if _writeback_case(k, fr, last):
            if sc.writeback > before:
                sc.writeback = before + HPAGE_PMD_NR
            return _putback_huge(k, fr, pt, first, True)
    if page.flags & PG_SWAP_CLEAN:
        for j in range(first, last + 1):
            _leave_mapping(k, fr, pt, j)
        k.work_ns += k.cost.free_ns
        free_huge_page(k, fr, first)
        return HPAGE_PMD_NR
    touched = 0
    for j in range(first, last + 1):
        touched = max(touched, referenced(k, fr, j))
    k.work_ns += k.cost.rmap_ns
    verdict = _check_references(k, fr, first, touched)
    if verdict == ACTIVATE or verdict == KEEP:
        return _putback_huge(k, fr, pt, first, verdict == ACTIVATE)
    if not (sc.may_swap and sc.may_writepage):
        return _putback_huge(k, fr, pt, first, False)
    at = -1
    if not page.flags & PG_SWAPCACHE:
        at = get_swap_cluster(k, fr, pt, page.memcg)
        if at < 0:
            split_huge_page(k, fr, i)
            return _swap_out(k, fr, pt, i)
    return _swap_out_huge(k, fr, pt, first, at)


@jit
def shrink_folio(k, fr, pt, i):
    """Decide on page i, which is on an inactive list (or isolated): the pages freed."""
    if fr[i].flags & PG_HUGE:
        if not k.lru_gen and is_uniform(k, fr, i):
            return _shrink_huge(k, fr, pt, i)
        split_huge_page(k, fr, i)
    return _shrink_page(k, fr, pt, i)


@jit
def _shrink_page(k, fr, pt, i):
    """The same for a page of one granule."""
    sc = k.sc
    page = fr[i]
    nr = page.nr_pages
    k.work_ns += k.cost.scan_ns * nr
    if page.flags & PG_MLOCKED or (page.flags & PG_MAPPED and not sc.may_unmap):
        return _putback(k, fr, pt, i, False)
    dirty = page.flags & PG_DIRTY
    writeback = page.flags & PG_WRITEBACK
    if dirty or writeback:
        sc.dirty += nr
    if dirty and not writeback:
        sc.unqueued_dirty += nr
    if writeback and page.flags & PG_RECLAIM:
        sc.congested += nr
    if writeback and _writeback_case(k, fr, i):
        return _putback(k, fr, pt, i, True)
    verdict = RECLAIM
    if not page.flags & (PG_SWAP_CLEAN | PG_READAHEAD):
        verdict = _check_references(k, fr, i, referenced(k, fr, i))
        if page.flags & PG_MAPPED:
            k.work_ns += k.cost.rmap_ns * nr
    if verdict == ACTIVATE:
        return _putback(k, fr, pt, i, True)
    if verdict == KEEP:
        return _putback(k, fr, pt, i, False)
    if page.flags & PG_SWAPBACKED:
        if not (sc.may_swap and sc.may_writepage) and not page.flags & PG_SWAP_CLEAN:
            return _putback(k, fr, pt, i, False)
        return _swap_out(k, fr, pt, i)
    if dirty:
        if not sc.kswapd or not page.flags & PG_RECLAIM or not k.node[sc.node].flag_dirty:
            page.flags |= PG_RECLAIM
            return _putback(k, fr, pt, i, True)
        if verdict == RECLAIM_CLEAN or not sc.may_writepage:
            return _putback(k, fr, pt, i, False)
        return _pageout_file(k, fr, pt, i)
    unmap_page(k, fr, pt, i)
    granule_lost(k, pt, page.mapping, page.pte, nr)
    return _remove_mapping(k, fr, pt, i)


@rare
def _pageout_file(k, fr, pt, i):
    """kswapd in distress writes a dirty file page itself (pageout)."""
    disk = k.mapping[fr[i].mapping].disk
    clean_page(k, fr, i)
    done = disk_write(k, disk, fr[i].nr_pages)
    start_writeback(k, fr, i, disk, done)
    fr[i].flags |= PG_RECLAIM
    k.sc.pageout += fr[i].nr_pages
    return _putback(k, fr, pt, i, False)
