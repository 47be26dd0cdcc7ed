"""The flusher: which dirty files are written, and when (fs/fs-writeback.c).

    wake:        5 s after the first dirty page, every 5 s while there are any, or by a writer
    old data:    files whose first dirty page is older than 30 s, oldest first; at most as
                 many pages as were dirty when the work began
    background:  any file, oldest first, while over the background limit
    all:         for reclaim that meets only dirty pages: as much as was dirty when it asked
    each:        half a second of the device's bandwidth of one file, then the next in turn

Departs from the kernel: one flusher for all devices; pages of a file are written in the order
of their offsets, queued no further ahead than the device writes.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.page_alloc import global_dirtyable
from capplan.mm.page_writeback import (
    bandwidth_estimate_start,
    dirty_limits,
    over_background,
    update_bandwidth,
    wakeup_flusher,
)
from capplan.mm.shrink_folio import clean_page
from capplan.mm.state import (
    MAP_FILE,
    NEVER_NS,
    NS_PER_MS,
    NS_PER_S,
    PG_DIRTY,
    PG_WRITEBACK,
    PTE_PRESENT,
    SWAP_CLUSTER_MAX,
)
from capplan.mm.swap import complete_io, local_ns, start_writeback

__all__ = ["flusher_run", "nudge_flusher", "wakeup_flusher"]

WORK_NONE, WORK_OLD, WORK_BACKGROUND, WORK_ALL = 0, 1, 2, 3
MIN_WRITEBACK_PAGES = 1024  # 4 MiB
DIRTY_SCOPE = 8
BIO_MAX_VECS = 256
QUEUE_PAGES = 1024  # queued in one turn


@jit
def _write_mapping(k, fr, pt, m, budget):
    """Start writing dirty pages of mapping m from its cursor on: pages queued."""
    mapping = k.mapping[m]
    disk = k.disk[mapping.disk]
    queued = 0
    looked = 0
    while looked < mapping.nr_ptes and queued < budget and mapping.dirty_pages > 0:
        e = mapping.first_pte + mapping.wb_cursor
        mapping.wb_cursor += 1
        if mapping.wb_cursor >= mapping.nr_ptes:
            mapping.wb_cursor = 0
        looked += 1
        if pt[e].state != PTE_PRESENT:
            continue
        i = pt[e].frame
        if not fr[i].flags & PG_DIRTY or fr[i].flags & PG_WRITEBACK:
            continue
        nr = fr[i].nr_pages
        clean_page(k, fr, i)
        disk.write_busy_ns = max(disk.write_busy_ns, k.now_ns) + int(nr * disk.write_ns_per_page)
        start_writeback(k, fr, i, mapping.disk, disk.write_busy_ns + disk.write_latency_ns)
        # looked up and locked one by one, submitted up to 256 in a bio
        k.work_ns += (k.cost.scan_ns + k.cost.swap_setup_ns / BIO_MAX_VECS) * nr
        queued += nr
    return queued


@jit
def _over_any(k):
    """Whether background writing is due on any device that has dirty pages."""
    for d in range(k.nr_disks):
        if k.disk[d].nr_dirty > 0 and over_background(k, d):
            return True
    return False


@jit
def _oldest(k, before_ns, turn):
    """The file with the oldest dirty data that has not had its turn yet, -1: none."""
    best = -1
    for m in range(k.nr_mappings):
        mapping = k.mapping[m]
        if mapping.kind != MAP_FILE or mapping.dirty_pages <= 0:
            continue
        if mapping.dirtied_ns > before_ns or mapping.wb_turn >= turn:
            continue
        if best < 0 or mapping.dirtied_ns < k.mapping[best].dirtied_ns:
            best = m
    return best


@jit
def _next_file(k, before_ns):
    """The file to write now: each in turn, oldest first (queue_io, b_more_io); -1: none."""
    m = _oldest(k, before_ns, k.flusher_turn)
    if m < 0:
        k.flusher_turn += 1
        m = _oldest(k, before_ns, k.flusher_turn)
    return m


@jit
def _chunk_pages(k, d):
    """How much of one file is written before the next has its turn (writeback_chunk_size)."""
    thresh, _ = dirty_limits(k, global_dirtyable(k))
    pages = min(int(k.disk[d].avg_write_bandwidth) // 2, thresh // DIRTY_SCOPE)
    return (pages + MIN_WRITEBACK_PAGES) // MIN_WRITEBACK_PAGES * MIN_WRITEBACK_PAGES


@jit
def _begin_work(k):
    """Choose what to do on a wake (wb_do_writeback): old data, background, or nothing."""
    k.flusher_left = k.nr_dirty
    if not k.flusher_on and _next_file(k, k.now_ns - k.dirty_expire_ns) >= 0:
        k.flusher_work = WORK_OLD
    elif _over_any(k):
        k.flusher_work = WORK_BACKGROUND
    k.flusher_on = 0


@jit
def _work_over(k):
    """Whether the present work has reached its end."""
    if k.flusher_work != WORK_BACKGROUND:
        return k.flusher_left <= 0
    return not _over_any(k)


@jit
def _sleep(k):
    k.flusher_work = WORK_NONE
    k.flusher_file = -1
    k.flusher_due_ns = k.now_ns + k.dirty_writeback_ns if k.nr_dirty > 0 else NEVER_NS


@jit
def _choose_file(k):
    """The file of this turn, -1: the work is over. A new file gets a new chunk."""
    if k.flusher_file >= 0 and k.flusher_chunk > 0 and k.mapping[k.flusher_file].dirty_pages > 0:
        return k.flusher_file
    if k.flusher_file >= 0:
        k.mapping[k.flusher_file].wb_turn = k.flusher_turn
    if _work_over(k):
        return -1
    before = k.now_ns
    if k.flusher_work == WORK_OLD:
        before = k.now_ns - k.dirty_expire_ns
    m = _next_file(k, before)
    if m >= 0:
        k.flusher_chunk = _chunk_pages(k, k.mapping[m].disk)
    return m


@jit
def flusher_run(k, fr, pt):
    """One turn of the flusher (wb_workfn): queues some pages, sets when it is due again."""
    if k.flusher_work == WORK_NONE:
        _begin_work(k)
    m = -1
    if k.flusher_work != WORK_NONE:
        m = _choose_file(k)
        if m < 0 and k.flusher_work != WORK_BACKGROUND and _over_any(k):
            k.flusher_work = WORK_BACKGROUND
            m = _choose_file(k)
    if m < 0:
        _sleep(k)
        return
    k.flusher_file = m
    d = k.mapping[m].disk
    bandwidth_estimate_start(k, d)
    queued = _write_mapping(k, fr, pt, m, QUEUE_PAGES)
    k.flusher_chunk -= queued
    k.flusher_left -= queued
    update_bandwidth(k, d, -1.0, 0, 0)
    # the next when these are on their way
    busy = max(int(queued * k.disk[d].write_ns_per_page), int(k.work_ns))
    if queued == 0:  # all that is dirty is under writeback as well
        k.flusher_chunk = 0
        busy = NS_PER_MS
    k.flusher_due_ns = k.now_ns + max(busy, 1)


@jit
def nudge_flusher(k, fr, pt):
    """Reclaim met nothing but dirty pages that nobody writes: have them written.

    Kernel
    ------
    mm/vmscan.c, shrink_inactive_list(), try_to_shrink_lruvec(): wakeup_flusher_threads(), which
    writes what is dirty at that moment, old or not. A v1 group's reclaim then sleeps until 32
    pages are written, for at most 100 ms (reclaim_throttle(), VMSCAN_THROTTLE_WRITEBACK).

    The flusher runs beside whoever reclaims, so its first chunk is queued here, at no cost.
    """
    k.flusher_work = WORK_ALL
    k.flusher_left = k.nr_dirty
    k.flusher_file = -1
    work = k.work_ns
    flusher_run(k, fr, pt)
    k.work_ns = work
    if k.sc.target > 0 and k.cgroup_v1:
        k.wait_ns += _written_in(k, fr, SWAP_CLUSTER_MAX)
        complete_io(k, fr, local_ns(k))


@jit
def _written_in(k, fr, nr):
    """Time until nr pages are written on some disk, at most 100 ms. [ns]"""
    soonest = local_ns(k) + NS_PER_S // 10
    for d in range(k.nr_disks):
        i = k.disk[d].wb_head
        left = nr
        while i >= 0 and left > 0:
            left -= fr[i].nr_pages
            if left <= 0:
                soonest = min(soonest, fr[i].io_done_ns)
            i = fr[i].io_next
    return max(soonest - local_ns(k), 0)
