"""One row of counters at a sample, written by the engine itself.

A row is a piece of one int64 array, ``log``: the label, then blocks of fixed order, for the
node, each zone, each group and each process. :class:`capplan.sim.recorder.Recorder` knows
the same widths and reads the array when the run is over; so a quiet hour of samples costs
microseconds and no return to Python.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.hugetlb import nr_huge_pages
from capplan.mm.psi import psi_update_averages
from capplan.mm.state import (
    NR_LRU_LISTS,
    NR_MEMCG_EVENTS,
    NR_MEMCG_STATS,
    NR_MIGRATETYPES,
    NR_ORDERS,
    NR_VMSTAT,
    PROC_EXITING,
    PROC_LIVE,
    WATCH_AVERAGES,
    WMARK_LOW,
)
from capplan.mm.swap_map import nr_swap_pages

__all__ = [
    "MEMCG_WIDTH",
    "NODE_COUNTERS",
    "NODE_WIDTH",
    "ZONE_WIDTH",
    "sample_row",
    "settle_pressure",
]

NODE_COUNTERS = 26
NODE_WIDTH = 1 + NODE_COUNTERS + NR_VMSTAT + 2  # label, counters, vmstat, psi
ZONE_WIDTH = 2 + NR_ORDERS
MEMCG_WIDTH = 5 + NR_MEMCG_STATS + NR_LRU_LISTS + NR_MEMCG_EVENTS + 5


@jit
def settle_pressure(k):
    """Bring PSI totals up to now, as whoever reads the files would (psi_show()).

    Where nobody is stalled they stand still (the averages decay, where somebody reads them).
    """
    read = k.watch & WATCH_AVERAGES
    if k.psi.nr_memstall > 0 or read:
        psi_update_averages(k, k.psi, k.now_ns)
    for c in range(1, k.nr_memcgs):
        if k.memcg[c].psi.nr_memstall > 0 or read:
            psi_update_averages(k, k.memcg[c].psi, k.now_ns)


@jit
def _available(k, free, file):
    """MemAvailable [pages], as :func:`capplan.mm.watermark.si_mem_available` works it out."""
    low = 0
    for z in range(k.nr_zones):
        low += k.zone[z].wmark[WMARK_LOW] + k.zone[z].boost
    slab = k.nr_slab_reclaimable
    available = free - k.total_reserve + file - min(file // 2, low) + slab - min(slab // 2, low)
    return max(available, 0)


@jit
def _node_lists(k, log, at):
    """Pages per list of the whole node, in meminfo's order."""
    for c in range(k.nr_memcgs):
        for n in range(k.nr_nodes):
            pages = k.memcg[c].lruvec[n].pages
            log[at] += pages[1]
            log[at + 1] += pages[0]
            log[at + 2] += pages[3]
            log[at + 3] += pages[2]
            log[at + 4] += pages[4]


@jit
def _node(k, log, at):
    """Meminfo and what goes with it, in the order of the recorder's _MEMINFO."""
    free = 0
    hidden = 0
    for z in range(k.nr_zones):
        zone = k.zone[z]
        if zone.managed > 0:
            free += zone.free
            for cpu in range(zone.pcp_count.size):
                hidden += zone.pcp_count[cpu]
    for i in range(4, 9):
        log[at + i] = 0
    _node_lists(k, log, at + 4)
    log[at] = k.totalram
    log[at + 1] = free
    log[at + 2] = _available(k, free, log[at + 6] + log[at + 7])
    log[at + 3] = k.nr_file
    log[at + 9] = k.nr_mlocked
    log[at + 10] = k.totalswap
    log[at + 11] = nr_swap_pages(k)
    log[at + 12] = k.zswap_pages
    log[at + 13] = k.zswap_stored
    log[at + 14] = k.nr_dirty
    log[at + 15] = k.nr_writeback
    log[at + 16] = k.nr_anon
    log[at + 17] = k.nr_shmem
    log[at + 18] = k.nr_slab_reclaimable
    log[at + 19] = k.nr_slab_unreclaimable
    log[at + 20] = k.nr_pagetables
    log[at + 21] = hidden
    log[at + 22] = 0
    for n in range(k.nr_nodes):
        log[at + 22] += k.node[n].kswapd_ns
    log[at + 23] = k.nr_swapcached
    log[at + 24] = nr_huge_pages(k)
    log[at + 25] = 0
    for i in range(k.nr_swaps):
        log[at + 25] += k.swap[i].zram_pages


@jit
def _zone(k, log, at, z):
    """Free pages now and at least since the last sample, free blocks of each order."""
    zone = k.zone[z]
    log[at] = zone.free
    log[at + 1] = zone.free_min
    zone.free_min = zone.free
    for order in range(NR_ORDERS):
        blocks = 0
        for mt in range(NR_MIGRATETYPES):
            blocks += zone.nr_free[order, mt]
        log[at + 2 + order] = blocks


@jit
def _memcg(k, log, at, c):
    """One group: usage and its extremes (a new bin begins), swap, statistics, pressure."""
    memcg = k.memcg[c]
    usage = memcg.memory.usage
    log[at] = usage
    log[at + 1] = memcg.usage_min
    log[at + 2] = memcg.usage_max
    memcg.usage_min = usage
    memcg.usage_max = usage
    log[at + 3] = memcg.swap.usage
    log[at + 4] = memcg.zswap_bytes
    at += 5
    for j in range(NR_MEMCG_STATS):
        log[at + j] = memcg.stat[j]
    at += NR_MEMCG_STATS
    for j in range(NR_LRU_LISTS):
        pages = 0
        for n in range(k.nr_nodes):
            pages += memcg.lruvec[n].pages[j]
        log[at + j] = pages
    at += NR_LRU_LISTS
    for j in range(NR_MEMCG_EVENTS):
        log[at + j] = memcg.events[j]
    at += NR_MEMCG_EVENTS
    log[at] = memcg.psi.some_ns
    log[at + 1] = memcg.psi.full_ns
    log[at + 2] = memcg.throttle_ns
    log[at + 3] = memcg.stall_ns
    log[at + 4] = memcg.pause_ns


@jit
def sample_row(k, log):
    """Add a row for now to ``log``, said to be of run time ``k.sample_due_ns``."""
    at = k.log_row * k.log_width
    if at + k.log_width > log.size:
        return
    k.log_row += 1
    log[at] = k.sample_due_ns
    _node(k, log, at + 1)
    at += 1 + NODE_COUNTERS
    for j in range(NR_VMSTAT):
        log[at + j] = k.vmstat[j]
    at += NR_VMSTAT
    log[at] = k.psi.some_ns
    log[at + 1] = k.psi.full_ns
    at += 2
    for z in range(k.nr_zones):
        if k.zone[z].managed > 0:
            _zone(k, log, at, z)
            at += ZONE_WIDTH
    for c in range(k.nr_memcgs):
        _memcg(k, log, at, c)
        at += MEMCG_WIDTH
    for p in range(k.nr_procs):
        proc = k.proc[p]
        there = proc.state == PROC_LIVE or proc.state == PROC_EXITING
        log[at + p] = proc.rss_anon + proc.rss_file + proc.rss_shmem if there else -1
