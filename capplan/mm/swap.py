"""Block devices: queues, writeback, requests in a plug (mm/filemap.c, block/).

A device is a queue with a rate: an operation starts when the earlier ones are done. What
anonymous memory writes and reads is said by ``page_io``.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.huge_memory import huge_first, huge_pages
from capplan.mm.lruvec import lru_add_tail, lru_del
from capplan.mm.page_alloc import free_frame
from capplan.mm.state import (
    LRU_NONE,
    NEVER_NS,
    NS_PER_S,
    PG_ACTIVE,
    PG_DOOMED,
    PG_HUGE,
    PG_RECLAIM,
    PG_SWAPBACKED,
    PG_WRITEBACK,
    ST_FILE_WRITEBACK,
    SWAP_CLUSTER_MAX,
    VM_PGROTATED,
)

__all__ = [
    "complete_io",
    "disk_read",
    "disk_write",
    "isolate_begin",
    "isolate_end",
    "local_ns",
    "plug_add",
    "plug_finish",
    "plug_flush",
    "writeback_throttle_ns",
]

STREAM_FATE = 0x5A5A
BLK_PLUG_FLUSH_SIZE = 32  # block/blk.h: 128 KiB, in pages


@jit
def local_ns(k):
    """The actor's own time: what it has worked and waited since it was called."""
    return k.now_ns + int(k.work_ns + k.wait_ns)


@jit
def disk_write(k, d, nr):
    """Queue a write of nr pages; when it will be done. The actor waits where the queue is full."""
    disk = k.disk[d]
    now = local_ns(k)
    limit = now + int(disk.queue_depth * disk.write_ns_per_page)
    if disk.write_busy_ns > limit:
        k.wait_ns += disk.write_busy_ns - limit
        now = local_ns(k)
    disk.write_busy_ns = max(disk.write_busy_ns, now) + int(nr * disk.write_ns_per_page)
    return disk.write_busy_ns + disk.write_latency_ns


@jit
def disk_read(k, d, nr, sequential, asked_ns):
    """Read nr pages, asked for at ``asked_ns`` (readahead), and wait for them; the wait [ns].

    The actor may be ahead of the others' time: what it takes of the device counts from
    k.now_ns, or its last read would keep everybody else waiting until it is there too.
    """
    disk = k.disk[d]
    now = local_ns(k)
    start = max(asked_ns, disk.read_busy_ns)
    taken = int(nr * disk.read_ns_per_page)
    disk.read_busy_ns = max(disk.read_busy_ns, min(asked_ns, k.now_ns)) + taken
    done = start + (taken if sequential else int(disk.random_read_ns * nr))
    wait = max(done - now, 0)
    k.wait_ns += wait
    return wait


@jit
def start_writeback(k, fr, i, d, done_ns):
    """Page i is on its way to disk d; queued in order of completion."""
    _mark_writeback(k, fr, i)
    _queue_io(k, fr, i, d, done_ns)


@jit
def _mark_writeback(k, fr, i):
    page = fr[i]
    page.flags |= PG_WRITEBACK
    page.io_done_ns = NEVER_NS
    page.io_next = -1
    k.nr_writeback += page.nr_pages
    k.node[page.zone >> 2].nr_dirty += page.nr_pages
    if not page.flags & PG_SWAPBACKED:
        k.memcg[page.memcg].stat[ST_FILE_WRITEBACK] += page.nr_pages


@jit
def _queue_io(k, fr, i, d, done_ns):
    disk = k.disk[d]
    page = fr[i]
    page.io_done_ns = done_ns
    page.io_next = -1
    if disk.wb_tail >= 0:
        fr[disk.wb_tail].io_next = i
    else:
        disk.wb_head = i
    disk.wb_tail = i
    disk.wb_pages += page.nr_pages


@jit
def plug_flush(k, fr, which):
    """Send what plug ``which`` has gathered (blk_flush_plug); it ends as a whole."""
    i = k.plug_head[which]
    if i < 0:
        return
    d = k.plug_disk[which]
    done = disk_write(k, d, k.plug_pages[which])
    k.plug_head[which] = -1
    k.plug_pages[which] = 0
    k.plug_requests[which] = 0
    while i >= 0:
        after = fr[i].io_next
        _queue_io(k, fr, i, d, done)
        i = after


@jit
def plug_finish(k, fr, which):
    """Reclaim has done a list vector: its plug is sent, unless a read-ahead's lies around it.

    Kernel
    ------
    block/blk-core.c, blk_start_plug(): a plug inside another one of the task is none.
    """
    if which == 1 or not k.plug_outer:
        plug_flush(k, fr, which)


@jit
def _plug_request(k, fr, which, slot, nr, d):
    """Make room for the page at a slot: in the last request, or in one more.

    Kernel
    ------
    block/blk-merge.c, blk_attempt_plug_merge(); block/blk-mq.c, blk_add_rq_to_plug();
    block/blk-wbt.c, wbt_wait(): who has to sleep for a request sends what he has gathered.
    """
    last = k.plug_last[which]
    merges = k.plug_requests[which] > 0 and slot == k.plug_slot[which]
    most = k.disk[d].max_request_pages
    if not merges or last + nr > most:
        if k.plug_requests[which] >= k.disk[d].max_plug_requests or last >= BLK_PLUG_FLUSH_SIZE:
            plug_flush(k, fr, which)
        pieces = (nr + most - 1) // most  # bio_split_to_limits()
        k.plug_requests[which] += pieces
        last = -(pieces - 1) * most
    k.plug_last[which] = last + nr
    k.plug_slot[which] = slot + 1


@jit
def plug_add(k, fr, pt, i, d):
    """Add page i to the reclaimer's plug."""
    which = 1 if k.sc.kswapd else 0
    if k.plug_head[which] >= 0 and k.plug_disk[which] != d:
        plug_flush(k, fr, which)
    _plug_request(k, fr, which, pt[fr[i].pte].slot, fr[i].nr_pages, d)
    _mark_writeback(k, fr, i)
    if k.plug_head[which] < 0:
        k.plug_head[which] = i
    else:
        fr[k.plug_tail[which]].io_next = i
    k.plug_tail[which] = i
    k.plug_disk[which] = d
    k.plug_pages[which] += fr[i].nr_pages


@jit
def isolate_begin(k):
    """A batch of pages is taken off its list."""
    k.nr_isolated = 0


@jit
def isolate_end(k, fr):
    """The batch is back on its list.

    A write that ended before found the page on no list, and did not rotate it
    (folio_rotate_reclaimable() wants PG_lru): it waits at the head, clean.
    """
    now = local_ns(k)
    for index in range(k.nr_isolated):
        i = k.isolated[index]
        if fr[i].flags & PG_WRITEBACK and fr[i].io_done_ns <= now:
            fr[i].flags &= ~PG_RECLAIM
    k.nr_isolated = 0


@jit
def _writeout_inc(k, disk, nr):
    """Count file pages that reached a device (__wb_writeout_inc)."""
    disk.written += nr
    disk.completions += nr
    k.completions += nr


@jit
def complete_io(k, fr, until_ns):
    """End the writeback of pages whose I/O is done (folio_end_writeback).

    A page that reclaim waits for (PG_reclaim) is rotated to the tail of its list.
    """
    if k.nr_writeback:  # asked for all the time, and mostly in vain
        _complete_io(k, fr, until_ns)


@jit
def _rotate_huge(k, fr, i):
    """Page i of a huge page is written: with the last of it all go to the tail of their list."""
    first = huge_first(k, fr, i)
    last = first + huge_pages(k) - 1
    if i < last or not fr[i].flags & PG_RECLAIM:
        return
    for j in range(first, last + 1):
        fr[j].flags &= ~PG_RECLAIM
        if not fr[j].flags & PG_ACTIVE and fr[j].lru != LRU_NONE:
            lru_del(k, fr, j)
            lru_add_tail(k, fr, j)
            k.vmstat[VM_PGROTATED] += fr[j].nr_pages


@jit
def _complete_io(k, fr, until_ns):
    for d in range(k.nr_disks):
        disk = k.disk[d]
        i = disk.wb_head
        while i >= 0 and fr[i].io_done_ns <= until_ns:
            page = fr[i]
            after = page.io_next
            page.io_next = -1
            page.flags &= ~PG_WRITEBACK
            disk.wb_pages -= page.nr_pages
            k.nr_writeback -= page.nr_pages
            k.node[page.zone >> 2].nr_dirty -= page.nr_pages
            if page.flags & PG_DOOMED:
                page.flags &= ~PG_DOOMED
                free_frame(k, fr, i)
                i = after
                continue
            if not page.flags & PG_SWAPBACKED:
                k.memcg[page.memcg].stat[ST_FILE_WRITEBACK] -= page.nr_pages
                _writeout_inc(k, disk, page.nr_pages)
            if page.flags & PG_HUGE:
                _rotate_huge(k, fr, i)
            elif page.flags & PG_RECLAIM:
                page.flags &= ~PG_RECLAIM
                if not page.flags & PG_ACTIVE and page.lru != LRU_NONE:
                    lru_del(k, fr, i)
                    lru_add_tail(k, fr, i)
                    k.vmstat[VM_PGROTATED] += page.nr_pages
            i = after
        disk.wb_head = i
        if i < 0:
            disk.wb_tail = -1


@jit
def writeback_throttle_ns(k, fr):
    """Sleep of reclaim_throttle(VMSCAN_THROTTLE_WRITEBACK): until 33 pages are written [ns].

    Kernel: __acct_reclaim_writeback() wakes the one who waits once more than SWAP_CLUSTER_MAX
    pages ended; the timeout is HZ / 10.
    """
    now = local_ns(k)
    until = now + NS_PER_S // 10 if k.nr_writeback > 0 else now
    for d in range(k.nr_disks):
        i = k.disk[d].wb_head
        written = 0
        while i >= 0:
            written += fr[i].nr_pages
            if written > SWAP_CLUSTER_MAX:
                until = min(until, max(now, fr[i].io_done_ns))
                break
            i = fr[i].io_next
    return until - now
