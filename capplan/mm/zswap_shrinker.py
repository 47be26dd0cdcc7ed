"""zswap's shrinker: cold stored pages go to their device under pressure (mm/zswap.c).

    freeable = stored pages - recent swap-ins from disk, times (pool bytes / stored bytes)
    delta = ((freeable >> priority) * 4) / seeks; in batches of 128 of the group's oldest

Off unless ``shrinker_enabled``; exists since 6.8 (feature ``zswap_shrinker``). What is written back
takes a page first (``zswap_writeback``).

Departs from the kernel: from 6.8 to 6.11 stores and swap-ins protect a part of the list, and what
is protected halves as it grows; here swap-ins from disk alone are taken off, as in 6.12.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.state import ST_ZSWAPPED, VM_SLABS_SCANNED
from capplan.mm.zswap_writeback import (
    lru_add_drain,
    shrink_memcg_cb,
    writeback_enabled,
    zswap_writeback_memalloc,
)

__all__ = ["shrink_zswap", "zswap_shrinker_count"]

SHRINK_BATCH = 128
SEEKS = 2  # DEFAULT_SEEKS


@jit
def _stored(k, c):
    """Pages that the group and those below it have in the pool (MEMCG_ZSWAPPED)."""
    total = 0
    for d in range(c, k.memcg[c].subtree_end):
        total += k.memcg[d].stat[ST_ZSWAPPED]
    return total


@jit
def zswap_shrinker_count(k, c):
    """Pages that may be written back, scaled by how well they compress. [pages]

    Kernel
    ------
    mm/zswap.c, zswap_shrinker_count(). Swap-ins from disk since the last count are taken off:
    too much was written back.

    Worked example
    --------------
    1000 stored in 250 pages, 200 swap-ins from disk: (1000 - 200) * 250 / 1000 = 200.
    """
    memcg = k.memcg[c]
    freeable = memcg.stat[ST_ZSWAPPED]
    stored = _stored(k, c)
    if not k.zswap_shrinker_enabled or freeable <= 0 or not writeback_enabled(k, c):
        return 0
    taken = min(memcg.zswap_disk_swapins, freeable)
    memcg.zswap_disk_swapins -= taken
    pool = memcg.zswap_bytes // 4096 if c > 0 else k.zswap_pages
    return (freeable - taken) * pool // stored


@jit
def _scan(k, fr, pt, c, nr):
    """Look at the nr oldest pages of group c's list (zswap_shrinker_scan): pages written back."""
    done = 0
    while nr > 0 and k.memcg[c].zswap_head >= 0:
        e = k.memcg[c].zswap_head
        nr -= pt[e].nr_pages
        if shrink_memcg_cb(k, pt, e):
            done += zswap_writeback_memalloc(k, fr, pt, e)
        elif pt[e].frame >= 0:
            break  # in the swap cache: this is where it is warm (LRU_STOP)
    return done


@jit
def shrink_zswap(k, fr, pt, c):
    """Run the shrinker for group c at k.sc.priority (do_shrink_slab).

    A batch in which nothing was written back ends it (SHRINK_STOP), and counts as not looked at.
    """
    if not k.zswap_shrinker_enabled or not k.memcg[c].online:
        return
    freeable = zswap_shrinker_count(k, c)
    if freeable <= 0:
        return
    memcg = k.memcg[c]
    delta = ((freeable >> k.sc.priority) * 4) // SEEKS
    total = min((memcg.zswap_deferred >> k.sc.priority) + delta, 2 * freeable)
    scanned = 0
    while total >= SHRINK_BATCH or total >= freeable:
        part = min(SHRINK_BATCH, total)
        if _scan(k, fr, pt, c, part) == 0:
            break
        scanned += part
        total -= part
    lru_add_drain(k, fr)
    k.vmstat[VM_SLABS_SCANNED] += scanned
    memcg.zswap_deferred = min(max(memcg.zswap_deferred + delta - scanned, 0), 2 * freeable)
