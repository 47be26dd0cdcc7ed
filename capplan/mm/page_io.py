"""Reading from swap and writing to it: pool, zero page or device (mm/page_io.c, mm/memory.c).

    write      -> zero-filled? a bit (zeromap) -> zswap -> device, or zram
    fault      -> contents at once (zswap, zram, zero page) or from the device; mapped, the slot
                  is kept while swap is less than half full
    read ahead -> the same, but the page waits in the swap cache and nobody maps it

Which slot a page gets is said by ``swapfile``, which pages come along by ``swap_state``.

Departs from the kernel: a page that comes back is written to, so its next way out is a new
write to the slot it kept.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.lruvec import draw_below
from capplan.mm.page_counter import uncharge_memsw, uncharge_swap
from capplan.mm.state import (
    PG_READAHEAD,
    PG_SWAP_CLEAN,
    PG_SWAPCACHE,
    PG_WRITEBACK,
    PTE_PRESENT,
    PTE_SWAP,
    ST_PSWPIN,
    ST_PSWPOUT,
    ST_ZSWPIN,
    VM_PSWPIN,
    VM_PSWPOUT,
    VM_SWAP_RA,
    VM_ZSWPIN,
)
from capplan.mm.swap import STREAM_FATE, local_ns, plug_add
from capplan.mm.swap_map import mem_cgroup_swap_full
from capplan.mm.swap_slots import add_to_swap_cache, drop_swap_cache
from capplan.mm.zram import zram_store
from capplan.mm.zswap import zswap_drop
from capplan.mm.zswap_store import zswap_store
from capplan.mm.zswap_writeback import writeback_enabled

__all__ = ["complete_reads", "swap_in", "swap_in_ahead", "swap_write_device", "swap_writepage"]


@jit
def _read(k, d, nr, reads, ahead):
    """Read nr pages in ``reads`` requests, and ``ahead`` more along with them; the wait [ns].

    The first page of a request takes as long as one alone, those behind it come at the
    device's rate.
    """
    disk = k.disk[d]
    now = local_ns(k)
    start = max(now, disk.read_busy_ns)
    behind = nr - reads + ahead
    disk.read_busy_ns = max(disk.read_busy_ns, k.now_ns) + int((nr + ahead) * disk.read_ns_per_page)
    done = start + int(reads * disk.random_read_ns + behind * disk.read_ns_per_page)
    wait = max(done - now, 0)
    k.wait_ns += wait
    return wait


@jit
def _load(k, fr, pt, i):
    """Contents of page i from its slot: 1 where the device is to be read (swap_read_folio)."""
    e = fr[i].pte
    entry = pt[e]
    nr = entry.nr_pages
    area = k.swap[entry.swap]
    owner = entry.owner
    k.work_ns += k.cost.swapin_setup_ns * nr
    if k.cgroup_v1:  # the resident page has its own charge (mem_cgroup_swapin_uncharge_swap)
        uncharge_swap(k, owner, nr)
        uncharge_memsw(k, owner, nr)
    if entry.in_zswap:
        k.work_ns += k.cost.decompress_ns * nr
        k.vmstat[VM_ZSWPIN] += nr
        k.memcg[owner].stat[ST_ZSWPIN] += nr
        if k.zswap_exclusive_load:
            zswap_drop(k, fr, pt, e)
        return 0
    zero = k.mapping[fr[i].mapping].same_filled
    if k.zeromap and draw_below(k, k.mapping[fr[i].mapping].stream, e, STREAM_FATE, zero):
        return 0  # swap_read_folio_zeromap()
    k.vmstat[VM_PSWPIN] += nr
    k.memcg[owner].stat[ST_PSWPIN] += nr
    if area.zram:
        k.work_ns += k.cost.decompress_ns * nr
        return 0
    if k.zswap_shrinker_enabled:
        k.memcg[owner].zswap_disk_swapins += nr  # zswap_folio_swapin()
    return 1


@jit
def _await_read(k, e, done_ns):
    """Entry e's page is being read; False where too many are to keep them all in mind."""
    n = k.nr_reads
    if n == k.read_pte.size:
        return False
    k.read_pte[n] = e
    k.read_done_ns[n] = done_ns
    k.reads_due_ns = min(k.reads_due_ns, done_ns) if n else done_ns
    k.nr_reads = n + 1
    return True


@jit
def complete_reads(k, fr, pt, until_ns):
    """Pages whose reading has ended give their slots up where swap is half full."""
    if k.nr_reads and k.reads_due_ns <= until_ns:  # asked for all the time, and mostly in vain
        _complete_reads(k, fr, pt, until_ns)


@jit
def _complete_reads(k, fr, pt, until_ns):
    left = 0
    for n in range(k.nr_reads):
        e = k.read_pte[n]
        if k.read_done_ns[n] > until_ns:
            due = k.read_done_ns[n]
            k.reads_due_ns = min(k.reads_due_ns, due) if left else due
            k.read_pte[left] = e
            k.read_done_ns[left] = due
            left += 1
            continue
        i = pt[e].frame
        if pt[e].state != PTE_PRESENT or i < 0 or not fr[i].flags & PG_SWAPCACHE:
            continue  # unmapped, or reclaim has met it before
        if not fr[i].flags & PG_WRITEBACK and mem_cgroup_swap_full(k, pt[e].owner):
            drop_swap_cache(k, fr, pt, i)
    k.nr_reads = left


@jit
def swap_in(k, fr, pt, i, reads, ahead):
    """Bring the contents of page i's entry from its slot: waits for I/O; the device reads it took.

    reads : requests that the granule is read in; ahead : pages asked for along with it

    Kernel
    ------
    mm/memory.c, do_swap_page(): the slot is kept, the page stays in the swap cache, unless
    swap is half full when the page has been read (folio_lock() waits for that). (A write fault
    of the only owner would free it, but the page that has just been read is still referenced by
    the LRU's add batch, should_try_to_free_swap().)
    """
    entry = pt[fr[i].pte]
    area = k.swap[entry.swap]
    owner = entry.owner
    device = _load(k, fr, pt, i)
    if device:
        _read(k, area.disk, entry.nr_pages, reads, ahead)
    elif ahead:
        disk = k.disk[area.disk]
        disk.read_busy_ns = max(disk.read_busy_ns, k.now_ns) + int(ahead * disk.read_ns_per_page)
    entry.state = PTE_PRESENT
    add_to_swap_cache(k, fr, pt, i)
    if area.zram:
        drop_swap_cache(k, fr, pt, i)
    elif mem_cgroup_swap_full(k, owner) and not (device and _await_read(k, fr[i].pte, local_ns(k))):
        drop_swap_cache(k, fr, pt, i)
    return reads if device else 0


@jit
def swap_in_ahead(k, fr, pt, i):
    """Bring page i into the swap cache before anybody asks: the pages its device has to read.

    What the pool gave up (6.12: an exclusive load) has no copy any more and is dirty.
    """
    entry = pt[fr[i].pte]
    device = _load(k, fr, pt, i)
    fr[i].flags |= PG_READAHEAD
    if device or entry.in_zswap or not k.zswap_exclusive_load:
        fr[i].flags |= PG_SWAP_CLEAN
    entry.state = PTE_SWAP
    add_to_swap_cache(k, fr, pt, i)
    k.vmstat[VM_SWAP_RA] += entry.nr_pages
    return entry.nr_pages if device else 0


@jit
def swap_writepage(k, fr, pt, i):
    """Write page i, which has a slot: 0 done, 1 under writeback, -1 stays in memory.

    Kernel: swap_writepage(): zero-filled pages (zeromap), zswap, then the device.
    """
    e = fr[i].pte
    entry = pt[e]
    area = k.swap[entry.swap]
    mapping = k.mapping[fr[i].mapping]
    zero = draw_below(k, mapping.stream, e, STREAM_FATE, mapping.same_filled)
    if zero and k.zeromap:
        entry.length = 0
        return 0
    if k.zswap_enabled and not area.zram:
        if zswap_store(k, fr, pt, i, zero):
            return 0
        if not writeback_enabled(k, fr[i].memcg):
            return -1
    return swap_write_device(k, fr, pt, i, zero)


@jit
def swap_write_device(k, fr, pt, i, zero):
    """Write page i to its area: 0 done, 1 under writeback, -1 stays (__swap_writepage)."""
    area = k.swap[pt[fr[i].pte].swap]
    nr = fr[i].nr_pages
    c = fr[i].memcg
    k.vmstat[VM_PSWPOUT] += nr
    k.memcg[c].stat[ST_PSWPOUT] += nr
    k.work_ns += k.cost.swap_setup_ns * nr
    if area.zram:
        return zram_store(k, fr, pt, i, zero)
    plug_add(k, fr, pt, i, area.disk)
    if not k.lru_gen and k.nr_isolated < k.isolated.size:
        k.isolated[k.nr_isolated] = i
        k.nr_isolated += 1
    return 1
