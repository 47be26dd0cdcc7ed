"""zram: a swap device in compressed memory (drivers/block/zram).

Pool pages are kernel memory that no memcg pays for; same-filled pages are stored as a word,
pages that do not compress below zsmalloc's huge class are stored raw.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.page_alloc import pool_alloc_pages, pool_free_pages
from capplan.mm.state import MT_MOVABLE
from capplan.mm.zsmalloc import zs_huge_class_bytes, zs_object_bytes
from capplan.mm.zswap import stored_length

__all__ = ["zram_free", "zram_store"]


@jit
def _resize(k, fr, area):
    """Grow or shrink the pool to what its bytes need; 0 when memory or mem_limit is exhausted."""
    more = (area.zram_bytes + 4095) // 4096 - area.zram_pages
    if more < 0:
        pool_free_pages(k, fr, -more, MT_MOVABLE)
        area.zram_pages += more
        k.nr_kernel += more
    if more <= 0:
        return 1
    allowed = more
    if area.zram_limit > 0:
        allowed = max(min(more, area.zram_limit - area.zram_pages), 0)
    got = pool_alloc_pages(k, fr, allowed, MT_MOVABLE)
    area.zram_pages += got
    k.nr_kernel += got
    return 1 if got == more else 0


@jit
def zram_store(k, fr, pt, i, same_filled):
    """Store page i: 0 done, -1 no room (the page stays)."""
    entry = pt[fr[i].pte]
    area = k.swap[entry.swap]
    nr = fr[i].nr_pages
    length = 0
    if not same_filled:
        length = stored_length(k, fr[i].mapping, fr[i].pte)
        if length >= zs_huge_class_bytes(k.zsmalloc_chain):
            length = 4096
    k.work_ns += k.cost.compress_ns * nr
    entry.length = length
    taken = zs_object_bytes(length, k.zsmalloc_chain) * nr
    area.zram_bytes += taken
    if _resize(k, fr, area) == 0:
        area.zram_bytes -= taken
        entry.length = 0  # the slot goes, and holds nothing
        _resize(k, fr, area)
        return -1
    return 0


@jit
def zram_free(k, fr, area, entry):
    """A slot was freed: its compressed bytes go."""
    area.zram_bytes -= zs_object_bytes(entry.length, k.zsmalloc_chain) * entry.nr_pages
    _resize(k, fr, area)
