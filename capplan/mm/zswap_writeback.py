"""What zswap gives up goes to its device, through the swap cache (mm/zswap.c, writeback code).

    the oldest entry -> stored since the last look? a second chance (6.12, zswap_second_chance)
                     -> a page of its own, charged to its group, in the swap cache, on an LRU list
                     -> decompressed and written; its place in the pool is free
    written          -> to the tail of its list, if it is on one by then: clean, to be freed next

So writing back takes a page before it gives any: the group's limit and the node's reclaim pay, and
the page stays till a scan meets it. It comes to its list with a batch of ``pagevec_size``; the
device has mostly written it before that, and then it waits among the others.

Departs from the kernel: a batch is the writer's own, faults do not fill it; what is left of it
comes to the lists at once, as if written by then.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.cpuset import numa_node_id
from capplan.mm.lru_gen_lists import lru_gen_refault
from capplan.mm.lruvec import lru_add, progress_now
from capplan.mm.page_alloc import get_page_from_freelist
from capplan.mm.page_counter import charge_memory, charge_memsw, uncharge_memsw, uncharge_swap
from capplan.mm.rmap import account_cache, mapping_of
from capplan.mm.state import (
    PG_READAHEAD,
    PG_RECLAIM,
    PG_SWAP_CLEAN,
    PG_SWAPBACKED,
    PTE_SWAP,
    ST_PSWPOUT,
    VM_PSWPOUT,
    VM_ZSWPWB,
    WMARK_LOW,
    WMARK_MIN,
)
from capplan.mm.swap import complete_io, disk_write, local_ns, start_writeback
from capplan.mm.swap_map import total_free_swap
from capplan.mm.swap_slots import add_to_swap_cache
from capplan.mm.watermark import ALLOC_NO_WATERMARKS
from capplan.mm.workingset import workingset_refault
from capplan.mm.zswap import zswap_drop
from capplan.mm.zswap_lru import zswap_lru_rotate

__all__ = [
    "lru_add_drain",
    "owner_to_charge",
    "shrink_memcg",
    "shrink_memcg_cb",
    "writeback_enabled",
    "zswap_writeback_entry",
    "zswap_writeback_memalloc",
]


@jit
def writeback_enabled(k, c):
    """Whether no group from c up says memory.zswap.writeback 0."""
    while c >= 0:
        if not k.memcg[c].zswap_writeback:
            return False
        c = k.memcg[c].parent
    return True


@jit
def owner_to_charge(k, pt, e):
    """Group that pays for entry e's page: its owner, the root where that is gone."""
    c = max(pt[e].owner, 0)
    return c if k.memcg[c].online else 0


@jit
def _drain(k, fr):
    """The batch goes to its lists; what was written before has PG_reclaim no more."""
    complete_io(k, fr, local_ns(k))
    for n in range(k.nr_lru_add):
        lru_add(k, fr, k.lru_add_batch[n])
    k.nr_lru_add = 0


@jit
def lru_add_drain(k, fr):
    """The writer is through: what is left of the batch comes to its lists later, all written."""
    for n in range(k.nr_lru_add):
        fr[k.lru_add_batch[n]].flags &= ~PG_RECLAIM
    _drain(k, fr)


@jit
def _folio_add_lru(k, fr, i):
    k.lru_add_batch[k.nr_lru_add] = i
    k.nr_lru_add += 1


@jit
def _to_swap_cache(k, fr, pt, e, i, c):
    """Frame i, charged to group c, is entry e's page (__read_swap_cache_async)."""
    entry = pt[e]
    m = mapping_of(k, e)
    page = fr[i]
    page.mapping = m
    page.pte = e
    page.memcg = c
    page.seen = progress_now(k, m)
    page.flags |= PG_SWAPBACKED | PG_READAHEAD | PG_SWAP_CLEAN
    if k.cgroup_v1:  # mem_cgroup_swapin_uncharge_swap()
        uncharge_swap(k, entry.owner, entry.nr_pages)
        uncharge_memsw(k, entry.owner, entry.nr_pages)
    refault = entry.memcg >= 0
    add_to_swap_cache(k, fr, pt, i)
    if refault and k.lru_gen:
        lru_gen_refault(k, fr, pt, i, False)
    elif refault:
        workingset_refault(k, fr, pt, i, total_free_swap(k) > 0)
    entry.frame = i
    entry.state = PTE_SWAP
    account_cache(k, c, k.mapping[m].kind, entry.nr_pages)


@jit
def zswap_writeback_entry(k, fr, pt, e, i, c):
    """Entry e goes to its device by way of frame i, which is charged to group c; its pages."""
    entry = pt[e]
    nr = entry.nr_pages
    _to_swap_cache(k, fr, pt, e, i, c)
    _folio_add_lru(k, fr, i)
    k.work_ns += (k.cost.swapin_setup_ns + k.cost.decompress_ns + k.cost.swap_setup_ns) * nr
    zswap_drop(k, fr, pt, e)
    entry.length = 0
    d = k.swap[entry.swap].disk
    fr[i].flags |= PG_RECLAIM
    start_writeback(k, fr, i, d, disk_write(k, d, nr))
    if k.nr_lru_add == k.pagevec_size:
        _drain(k, fr)
    k.vmstat[VM_ZSWPWB] += nr
    k.vmstat[VM_PSWPOUT] += nr
    k.memcg[c].stat[ST_PSWPOUT] += nr
    return nr


@jit
def shrink_memcg_cb(k, pt, e):
    """Look at entry e, which goes to the tail: whether it is to be written back.

    Kernel: shrink_memcg_cb(); one that is in the swap cache (before 6.12 it is in both) is not
    cold: -EEXIST.
    """
    zswap_lru_rotate(k, pt, e)
    if k.zswap_second_chance and pt[e].in_zswap == 2:
        pt[e].in_zswap = 1
        return False
    return pt[e].frame < 0


@jit
def _charge_memalloc(k, c, nr):
    """Charge nr pages to group c, whatever its limit says (try_charge_memcg, PF_MEMALLOC)."""
    if c <= 0:
        return
    if k.memcg[c].stock >= nr:
        k.memcg[c].stock -= nr
        return
    charge_memory(k, c, nr)
    if k.cgroup_v1:
        charge_memsw(k, c, nr)


@jit
def zswap_writeback_memalloc(k, fr, pt, e):
    """Write entry e back from within reclaim: its pages, 0 where no memory is left for it.

    Reclaim runs with PF_MEMALLOC: it takes of the reserves and is not held back by limits.
    """
    nr = pt[e].nr_pages
    node = numa_node_id(k)
    i = get_page_from_freelist(k, fr, node, nr, WMARK_LOW, 0)
    if i < 0:
        i = get_page_from_freelist(k, fr, node, nr, WMARK_MIN, ALLOC_NO_WATERMARKS)
    if i < 0:
        return 0
    c = owner_to_charge(k, pt, e)
    _charge_memalloc(k, c, nr)
    return zswap_writeback_entry(k, fr, pt, e, i, c)


@jit
def shrink_memcg(k, fr, pt, c):
    """Write group c's oldest page back from within reclaim; whether it went (shrink_memcg)."""
    e = k.memcg[c].zswap_head
    if e < 0 or not writeback_enabled(k, c) or not k.memcg[c].online:
        return False
    if not shrink_memcg_cb(k, pt, e):
        return False
    done = zswap_writeback_memalloc(k, fr, pt, e)
    lru_add_drain(k, fr)
    return done > 0
