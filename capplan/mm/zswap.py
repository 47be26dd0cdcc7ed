"""zswap's pool: compressed pages in front of a swap device (mm/zswap.c, mm/zbud.c, mm/zsmalloc.c).

A granule's fate (stored length, same-filled, rejected) is drawn as one page; pool bytes are
exact. Pool pages follow from the stored lengths: zbud pairs them best fit in 64-byte chunks,
zsmalloc packs 16-byte classes with an overhead of about 6 %. What is stored is on its group's list,
oldest first (``zswap_lru``).

Departs from the kernel: zbud's pairs are made anew at each store or free, as if its buddies
were always found.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.lruvec import draw
from capplan.mm.page_alloc import pool_alloc_pages, pool_free_pages
from capplan.mm.page_counter import charge_memory, uncharge_memory
from capplan.mm.state import (
    MT_MOVABLE,
    MT_UNMOVABLE,
    ST_KERNEL,
    ST_ZSWAPPED,
)
from capplan.mm.zswap_lru import zswap_lru_add, zswap_lru_del

__all__ = [
    "stored_length",
    "zswap_accept_thr_pages",
    "zswap_drop",
    "zswap_keep",
    "zswap_max_pages",
    "zswap_pool_pages",
    "zswap_takes",
]

ZBUD, Z3FOLD, ZSMALLOC = 0, 1, 2
ZBUD_CHUNK_SHIFT = 6  # mm/zbud.c: 64-byte chunks
ZBUD_NCHUNKS = 63  # one chunk is the header
ZBUD_MAX_BYTES = 4096 - 64 - 64  # larger ones are rejected ("compress_poor")
ZBUD_HEADER_BYTES = 8  # struct zswap_header, before zswap had a list of its own (zswap_lru)
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
def zswap_accept_thr_pages(k):
    """A pool that was full takes pages again at so many, and fewer (zswap_accept_thr_pages)."""
    return zswap_max_pages(k) * k.zswap_accept_percent // 100


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
        header = 0 if k.zswap_lru else ZBUD_HEADER_BYTES
        chunks = (length + header + (1 << ZBUD_CHUNK_SHIFT) - 1) >> ZBUD_CHUNK_SHIFT
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
def zswap_takes(k, length):
    """Whether the pool has a place for so many bytes (zbud_alloc, zs_malloc)."""
    return length <= (ZBUD_MAX_BYTES if k.zswap_zpool != ZSMALLOC else 4096 - 1)


@jit
def zswap_keep(k, fr, pt, e, length):
    """Entry e's page is stored in so many bytes; False where there is no page for the pool."""
    entry = pt[e]
    nr = entry.nr_pages
    _account(k, length, nr)
    if _resize(k, fr) == 0:
        _account(k, length, -nr)
        _resize(k, fr)
        return False
    entry.in_zswap = 2
    entry.length = length
    _charge(k, entry.owner, length, nr)
    k.memcg[entry.owner].stat[ST_ZSWAPPED] += nr
    if length > 0:
        zswap_lru_add(k, pt, e)
    return True


@jit
def zswap_drop(k, fr, pt, e):
    """Entry e leaves the pool: bytes, charge and pool pages go (zswap_entry_free)."""
    entry = pt[e]
    nr = entry.nr_pages
    if entry.length > 0:
        zswap_lru_del(k, pt, e)
    entry.in_zswap = 0
    _account(k, entry.length, -nr)
    _resize(k, fr)
    _charge(k, entry.owner, entry.length, -nr)
    k.memcg[entry.owner].stat[ST_ZSWAPPED] -= nr
