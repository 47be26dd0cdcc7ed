"""zram: a swap device in compressed memory (drivers/block/zram).

Pool pages are kernel memory that no memcg pays for; same-filled pages are stored as a word,
pages that do not compress below zsmalloc's huge class are stored raw.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.page_alloc import pool_alloc_page, pool_free_page
from capplan.mm.zswap import stored_length

__all__ = ["zram_free", "zram_store"]

# zsmalloc's huge class: above it a page is stored raw (mm/zsmalloc.c, huge_class_size()).
HUGE_CLASS_BYTES = 3264


@jit
def _resize(k, fr, area):
    """Grow or shrink the pool to what its bytes need; 0 when memory or mem_limit is exhausted."""
    wanted = (area.zram_bytes + 4095) // 4096
    while area.zram_pages < wanted:
        if area.zram_limit > 0 and area.zram_pages >= area.zram_limit:
            return 0
        if pool_alloc_page(k, fr) == 0:
            return 0
        area.zram_pages += 1
        k.nr_kernel += 1
    while area.zram_pages > wanted:
        pool_free_page(k, fr)
        area.zram_pages -= 1
        k.nr_kernel -= 1
    return 1


@jit
def zram_store(k, fr, pt, i, same_filled):
    """Store page i: 0 done, -1 no room (the page stays)."""
    entry = pt[fr[i].pte]
    area = k.swap[entry.swap]
    nr = fr[i].nr_pages
    length = 0
    if not same_filled:
        length = stored_length(k, fr[i].mapping, fr[i].pte)
        if length >= HUGE_CLASS_BYTES:
            length = 4096
    k.work_ns += k.cost.compress_ns * nr
    entry.length = length
    area.zram_bytes += length * nr
    if _resize(k, fr, area) == 0:
        area.zram_bytes -= length * nr
        entry.length = 0  # the slot goes, and holds nothing
        _resize(k, fr, area)
        return -1
    return 0


@jit
def zram_free(k, fr, area, entry):
    """A slot was freed: its compressed bytes go."""
    area.zram_bytes -= entry.length * entry.nr_pages
    _resize(k, fr, area)
