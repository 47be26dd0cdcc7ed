"""zswap's shrinker: cold stored pages go to their device under pressure (mm/zswap.c).

    freeable = stored pages - recent swap-ins from disk, times (pool bytes / stored bytes)
    delta = ((freeable >> priority) * 4) / seeks; in batches of 128; a page that was stored
    since the last look gets a second chance

Off unless ``shrinker_enabled``; exists since 6.8 (feature ``zswap_shrinker``).

Departs from the kernel: pages are met in the order of the entries, not in that of a list per
group; the second chance (6.12) holds for all releases.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.state import PTE_ZSWAP, ST_ZSWAPPED
from capplan.mm.zswap import zswap_writeback_entry

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
    if not k.zswap_shrinker_enabled or not memcg.zswap_writeback or freeable <= 0:
        return 0
    taken = min(memcg.zswap_disk_swapins, freeable)
    memcg.zswap_disk_swapins -= taken
    pool = memcg.zswap_bytes // 4096 if c > 0 else k.zswap_pages
    return (freeable - taken) * pool // stored


@jit
def _scan(k, fr, pt, c, nr):
    """Look at nr stored pages of group c (shrink_memcg_cb): pages written back."""
    done = 0
    looked = 0
    for _ in range(k.nr_entries):
        if looked >= nr:
            break
        e = k.zswap_cursor
        k.zswap_cursor = e + 1 if e + 1 < k.nr_entries else 0
        if pt[e].state != PTE_ZSWAP or max(pt[e].owner, 0) != c:
            continue
        looked += pt[e].nr_pages
        if pt[e].in_zswap == 2:
            pt[e].in_zswap = 1
            continue
        done += zswap_writeback_entry(k, fr, pt, e)
    return done


@jit
def shrink_zswap(k, fr, pt, c):
    """Run the shrinker for group c at k.sc.priority (do_shrink_slab)."""
    if not k.zswap_shrinker_enabled:
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
        _scan(k, fr, pt, c, part)
        scanned += part
        total -= part
        if total <= 0:
            break
    memcg.zswap_deferred = min(max(memcg.zswap_deferred + delta - scanned, 0), 2 * freeable)
