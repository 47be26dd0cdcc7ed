"""Dirty page cache: limits, the flusher, and the pause of writers (mm/page-writeback.c).

    dirtyable = free - reserve + file LRU;  thresh, bg = 20 %, 10 % of it (node, and v2 memcg)
    flusher:   every 5 s what is older than 30 s; at once while dirty > bg
    writer:    free below (thresh + bg) / 2; above, paused towards the device's rate

Departs from the kernel: pages of a file are written in the order of their offsets, and the
age of dirty data is that of the file's oldest dirty page since its last full write-out. A
writer's pause follows the linear position ratio of kernel-model section 8.1 instead of the
cubic control line and its bandwidth estimates.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.page_alloc import global_free
from capplan.mm.shrink_folio import clean_page
from capplan.mm.state import (
    MAP_FILE,
    NEVER_NS,
    NS_PER_S,
    PG_DIRTY,
    PG_WRITEBACK,
    PTE_PRESENT,
    ST_FILE,
    ST_FILE_DIRTY,
    ST_FILE_WRITEBACK,
    ST_SHMEM,
    SWAP_CLUSTER_MAX,
)
from capplan.mm.swap import complete_io, local_ns, start_writeback

__all__ = [
    "balance_dirty_pages",
    "dirty_limits",
    "flusher_run",
    "global_dirtyable",
    "nudge_flusher",
    "wakeup_flusher",
]

WRITE_CHUNK_PAGES = 1024  # MAX_WRITEBACK_PAGES
MAX_PAUSE_NS = NS_PER_S // 5  # fs/mm: MAX_PAUSE, HZ / 5


@jit
def global_dirtyable(k):
    """Pages that may become dirty (global_dirtyable_memory)."""
    free = global_free(k)
    total = free - min(free, k.total_reserve) + 1
    for z in range(k.nr_zones):
        total += k.zone[z].lru_pages[2] + k.zone[z].lru_pages[3]
    return total


@jit
def dirty_limits(k, available):
    """(thresh, background) of a domain with ``available`` dirtyable pages (domain_dirty_limits).

    Worked example: 1,000,000 pages at 20 % and 10 %: 199951 and 99853.
    """
    if k.dirty_bytes:
        thresh = (k.dirty_bytes + 4095) // 4096
    else:
        thresh = (k.dirty_ratio * 4096 // 100) * available // 4096
    if k.dirty_background_bytes:
        background = (k.dirty_background_bytes + 4095) // 4096
    else:
        background = (k.dirty_background_ratio * 4096 // 100) * available // 4096
    if background >= thresh:
        background = thresh // 2
    return thresh, background


@jit
def _memcg_domain(k, c):
    """(available, dirty) of a v2 group's own domain (mem_cgroup_wb_stats)."""
    memcg = k.memcg[c]
    file = memcg.stat[ST_FILE] - memcg.stat[ST_SHMEM]
    dirty = memcg.stat[ST_FILE_DIRTY] + memcg.stat[ST_FILE_WRITEBACK]
    headroom = NEVER_NS
    level = c
    while level > 0:
        counter = k.memcg[level].memory
        ceiling = min(counter.max, counter.high)
        headroom = min(headroom, ceiling - min(ceiling, counter.usage))
        level = k.memcg[level].parent
    clean = file - min(file, memcg.stat[ST_FILE_DIRTY])
    all_clean = global_dirtyable(k) - min(global_dirtyable(k), k.nr_dirty)
    other = all_clean - min(all_clean, clean)
    return file + min(headroom, other), dirty


@jit
def wakeup_flusher(k):
    """Have the flusher run now (wakeup_flusher_threads)."""
    k.flusher_on = max(k.flusher_on, 1)
    if k.flusher_due_ns > k.now_ns:
        k.flusher_due_ns = k.now_ns


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
    k.flusher_on = 2
    k.flusher_left = k.nr_dirty
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


@jit
def _pause(k, dirty, thresh, background, nr, write_ns_per_page):
    """Pause of a writer that dirtied nr pages [ns] (section 8.1's position ratio)."""
    freerun = (thresh + background) // 2
    if dirty <= freerun:
        return 0
    middle = (freerun + thresh) // 2
    base = nr * write_ns_per_page
    if dirty >= thresh:
        return MAX_PAUSE_NS
    if dirty <= middle:
        return min(int(base * (dirty - freerun) / max(middle - freerun, 1)), MAX_PAUSE_NS)
    return min(int(base * (thresh - middle) / max(thresh - dirty, 1)), MAX_PAUSE_NS)


@jit
def balance_dirty_pages(k, c, disk, nr):
    """After group c dirtied nr pages of a file on ``disk``: the pause of the writer [ns]."""
    dirty = k.nr_dirty + k.nr_writeback
    thresh, background = dirty_limits(k, global_dirtyable(k))
    if k.nr_dirty > background:
        wakeup_flusher(k)
    per_page = k.disk[disk].write_ns_per_page
    pause = _pause(k, dirty, thresh, background, nr, per_page)
    if c > 0 and not k.cgroup_v1:
        available, dirty = _memcg_domain(k, c)
        thresh, background = dirty_limits(k, available)
        if dirty > background:
            wakeup_flusher(k)
        pause = max(pause, _pause(k, dirty, thresh, background, nr, per_page))
    return pause


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
        k.work_ns += k.cost.swap_setup_ns * nr
        queued += nr
    return queued


@jit
def _over_background(k):
    """Whether the node or any v2 group holds more dirty pages than its background limit."""
    _, background = dirty_limits(k, global_dirtyable(k))
    if k.nr_dirty > background:
        return True
    if k.cgroup_v1:
        return False
    for c in range(1, k.nr_memcgs):
        if k.memcg[c].stat[ST_FILE_DIRTY] > 0:
            available, dirty = _memcg_domain(k, c)
            _, background = dirty_limits(k, available)
            if dirty > background:
                return True
    return False


@jit
def flusher_run(k, fr, pt):
    """One turn of the flusher (wb_workfn): queues up to a chunk, sets when it is due again.

    Periodic: files whose oldest dirty page is older than dirty_expire; background: any file
    until below the limit; for reclaim: as much as was dirty when it asked.
    """
    urgent = k.flusher_on == 2 or (k.flusher_on == 1 and _over_background(k))
    queued = 0
    oldest_left = False
    for step in range(k.nr_mappings):
        m = (k.flusher_cursor + step) % k.nr_mappings
        mapping = k.mapping[m]
        if mapping.kind != MAP_FILE or mapping.dirty_pages <= 0:
            mapping.dirtied_ns = NEVER_NS
            continue
        if not urgent and mapping.dirtied_ns + k.dirty_expire_ns > k.now_ns:
            oldest_left = True
            continue
        queued += _write_mapping(k, fr, pt, m, WRITE_CHUNK_PAGES - queued)
        if queued >= WRITE_CHUNK_PAGES:
            k.flusher_cursor = m
            break
        if mapping.dirty_pages <= 0:
            mapping.dirtied_ns = NEVER_NS
    k.flusher_left -= queued
    if k.flusher_on == 2 and k.flusher_left <= 0:
        k.flusher_on = 1
    if queued > 0:
        # the next chunk when this one is on its way
        k.flusher_due_ns = k.now_ns + int(
            queued * k.disk[k.mapping[k.flusher_cursor].disk].write_ns_per_page
        )
        return
    k.flusher_on = 0
    k.flusher_due_ns = (
        k.now_ns + k.dirty_writeback_ns if oldest_left or k.nr_dirty > 0 else NEVER_NS
    )
