"""zswap: compressed pages in front of a swap device (mm/zswap.c, mm/zbud.c, mm/zsmalloc.c).

    store: allowed by zswap.max? pool under its limit (hysteresis)? -> compress -> pool page
           from the zone (before the victim is freed, may fail) -> charge bytes to the owner
    full:  reject to the device, and the shrink worker writes old entries back

A granule's fate (stored length, same-filled, rejected) is drawn as one page; pool bytes are
exact. Pool pages follow from the stored lengths: zbud pairs them best fit in 64-byte chunks,
zsmalloc packs 16-byte classes with an overhead of about 6 %.

Departs from the kernel: zbud's pairs are made anew at each store or free, as if its buddies
were always found; the shrink worker goes through entries in address order, not by age.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.events import tell_zswap_full
from capplan.mm.lruvec import draw
from capplan.mm.page_alloc import pool_alloc_pages, pool_free_pages
from capplan.mm.page_counter import charge_memory, uncharge_memory
from capplan.mm.state import (
    MT_MOVABLE,
    MT_UNMOVABLE,
    PTE_SWAP,
    PTE_ZSWAP,
    ST_KERNEL,
    ST_ZSWAPPED,
    ST_ZSWPOUT,
    VM_PSWPOUT,
    VM_ZSWPOUT,
    VM_ZSWPWB,
)

__all__ = [
    "stored_length",
    "zswap_drop",
    "zswap_max_pages",
    "zswap_pool_pages",
    "zswap_shrink",
    "zswap_store",
    "zswap_writeback_entry",
]

ZBUD, Z3FOLD, ZSMALLOC = 0, 1, 2
ZBUD_CHUNK_SHIFT = 6  # mm/zbud.c: 64-byte chunks
ZBUD_NCHUNKS = 63  # one chunk is the header
ZBUD_MAX_BYTES = 4096 - 64 - 64  # larger ones are rejected ("compress_poor")
ZBUD_HEADER_BYTES = 8  # struct zswap_header, stored with evictable zpools
ZSMALLOC_OVERHEAD_PERCENT = 6  # kernel-model section 12
STREAM_LENGTH = 0x1E46


@jit
def stored_length(k, m, e):
    """Bytes that entry e of mapping m compresses to, drawn once per entry (1..4096).

    Normal(length_mean, length_sd) from the sum of twelve uniform numbers (three draws of four
    times 13 bits), cut to [32, 4096].
    """
    mapping = k.mapping[m]
    if mapping.incompressible > 0.0:
        d = draw(k, mapping.stream, e, STREAM_LENGTH + 99)
        if d < mapping.incompressible * 9007199254740992.0:
            return 4096
    if mapping.length_sd <= 0.0:
        return min(max(int(mapping.length_mean), 32), 4096)
    total = 6  # twelve times half a step: each number stands for the middle of its step
    for ordinal in range(3):
        bits = draw(k, mapping.stream, e, STREAM_LENGTH + ordinal)
        total += (bits & 8191) + (bits >> 13 & 8191) + (bits >> 26 & 8191) + (bits >> 39 & 8191)
    deviation = total / 8192 - 6.0
    return min(max(int(mapping.length_mean + mapping.length_sd * deviation), 32), 4096)


@jit
def zswap_max_pages(k):
    """The pool's limit [pages]: totalram * max_pool_percent / 100."""
    return k.totalram * k.zswap_max_pool_percent // 100


@jit
def zswap_pool_pages(k):
    """Pages that the pool needs for what it holds."""
    if k.zswap_zpool == ZSMALLOC:
        scaled = k.zswap_class_bytes * (100 + ZSMALLOC_OVERHEAD_PERCENT)
        return (scaled + 409599) // 409600
    hist = k.zswap_hist
    if k.zswap_zpool == Z3FOLD:
        by_count = (k.zswap_stored + 2) // 3
        return max(by_count, (k.zswap_bytes + 4095) // 4096)
    # zbud: beside each large object the largest small one that fits
    half = ZBUD_NCHUNKS // 2
    large = 0
    paired = 0
    fits = 0
    for chunks in range(ZBUD_NCHUNKS, half, -1):
        if ZBUD_NCHUNKS - chunks > 0:
            fits += hist[ZBUD_NCHUNKS - chunks]
        large += hist[chunks]
        paired = min(paired + hist[chunks], fits)
    return large + (fits - paired + 1) // 2


@jit
def _resize(k, fr):
    """Take or give pool pages to fit; 0 when no zone has a page left."""
    more = zswap_pool_pages(k) - k.zswap_pages
    mt = MT_MOVABLE if k.zswap_zpool == ZSMALLOC else MT_UNMOVABLE
    if more > 0:
        got = pool_alloc_pages(k, fr, more, mt)
        k.zswap_pages += got
        return 1 if got == more else 0
    if more < 0:
        pool_free_pages(k, fr, -more, mt)
        k.zswap_pages += more
    return 1


@jit
def _account(k, length, nr):
    """Add (or take, with negative nr) nr objects of a length to the pool's books."""
    k.zswap_stored += nr
    k.zswap_bytes += length * nr
    if length == 0:
        k.zswap_same_filled += nr
    elif k.zswap_zpool == ZSMALLOC:
        k.zswap_class_bytes += (length + 15) // 16 * 16 * nr
    else:
        chunks = (length + ZBUD_HEADER_BYTES + (1 << ZBUD_CHUNK_SHIFT) - 1) >> ZBUD_CHUNK_SHIFT
        k.zswap_hist[min(chunks, ZBUD_NCHUNKS)] += nr


@jit
def _charge(k, c, length, nr):
    """Charge compressed bytes to group c (obj_cgroup_charge_zswap): forced, in whole pages."""
    if k.cgroup_v1 or c <= 0:
        return
    before = (k.memcg[c].zswap_bytes + 4095) // 4096
    level = c
    while level > 0:
        k.memcg[level].zswap_bytes += length * nr
        level = k.memcg[level].parent
    delta = (k.memcg[c].zswap_bytes + 4095) // 4096 - before
    k.memcg[c].stat[ST_KERNEL] += delta
    if delta > 0:
        charge_memory(k, c, delta)
    elif delta < 0:
        uncharge_memory(k, c, -delta)


@jit
def _may_zswap(k, c):
    """Whether zswap.max of the group and its ancestors leaves room (obj_cgroup_may_zswap)."""
    while c > 0:
        memcg = k.memcg[c]
        if memcg.zswap_bytes // 4096 >= memcg.zswap_max:
            return False
        c = memcg.parent
    return True


@jit
def _pool_accepts(k, nr):
    """The pool's limit with its hysteresis (zswap_check_limits), for nr pages to store."""
    limit = zswap_max_pages(k)
    full = k.zswap_pages > limit if not k.zeromap else k.zswap_pages >= limit
    if full:
        tell_zswap_full(k)
        k.zswap_full = 1
    elif k.zswap_full and k.zswap_pages <= limit * k.zswap_accept_percent // 100:
        k.zswap_full = 0
    if k.zswap_full:
        k.zswap_shrink_pending = (
            min(k.zswap_shrink_pending + nr, 100) if full else k.zswap_shrink_pending
        )
        return False
    return True


@jit
def zswap_store(k, fr, pt, i, same_filled):
    """Store page i: 1 stored, 0 rejected (it goes to the device)."""
    e = fr[i].pte
    nr = fr[i].nr_pages
    c = fr[i].memcg
    if not _may_zswap(k, c) or not _pool_accepts(k, nr):
        return 0
    length = 0
    if not same_filled:
        length = stored_length(k, fr[i].mapping, e)
        k.work_ns += k.cost.compress_ns * nr
        if length > (ZBUD_MAX_BYTES if k.zswap_zpool != ZSMALLOC else 4096 - 1):
            return 0
    _account(k, length, nr)
    if _resize(k, fr) == 0:
        _account(k, length, -nr)
        _resize(k, fr)
        return 0
    entry = pt[e]
    entry.state = PTE_ZSWAP
    entry.in_zswap = 2
    entry.length = length
    _charge(k, c, length, nr)
    k.memcg[c].stat[ST_ZSWAPPED] += nr
    k.memcg[c].stat[ST_ZSWPOUT] += nr
    k.vmstat[VM_ZSWPOUT] += nr
    return 1


@jit
def zswap_drop(k, fr, pt, e):
    """Entry e leaves the pool: bytes, charge and pool pages go (zswap_entry_free)."""
    entry = pt[e]
    nr = entry.nr_pages
    entry.in_zswap = 0
    _account(k, entry.length, -nr)
    _resize(k, fr)
    _charge(k, entry.owner, entry.length, -nr)
    k.memcg[entry.owner].stat[ST_ZSWAPPED] -= nr


@jit
def zswap_shrink(k, fr, pt, limit):
    """Write up to ``limit`` pages back to their device (shrink_worker, zswap_writeback_entry).

    Stops when the pool accepts again. A page is decompressed and written; its slot stays.
    """
    total = k.nr_entries
    accept = zswap_max_pages(k) * k.zswap_accept_percent // 100
    looked = 0
    done = 0
    while done < limit and looked < total and k.zswap_pages > accept:
        e = k.zswap_cursor
        k.zswap_cursor = e + 1 if e + 1 < total else 0
        looked += 1
        entry = pt[e]
        if entry.state != PTE_ZSWAP:
            continue
        owner = entry.owner
        if owner > 0 and not k.memcg[owner].zswap_writeback:
            continue
        done += zswap_writeback_entry(k, fr, pt, e)
    return done


@jit
def zswap_writeback_entry(k, fr, pt, e):
    """Stored entry e goes to its device: decompressed and written; its pages."""
    entry = pt[e]
    nr = entry.nr_pages
    zswap_drop(k, fr, pt, e)
    entry.state = PTE_SWAP
    entry.length = 0
    k.work_ns += (k.cost.decompress_ns + k.cost.swap_setup_ns) * nr
    disk = k.disk[k.swap[entry.swap].disk]
    disk.write_busy_ns = max(disk.write_busy_ns, k.now_ns) + int(nr * disk.write_ns_per_page)
    k.vmstat[VM_ZSWPWB] += nr
    k.vmstat[VM_PSWPOUT] += nr
    return nr
