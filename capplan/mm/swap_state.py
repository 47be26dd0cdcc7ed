"""Swap read-ahead: which pages come along with one that is missing (mm/swap_state.c).

    random faults          -> one page
    a neighbour of the last -> two; each page read ahead that is touched counts as a hit
    hits + 2               -> rounded up to a power of two, at most 2^vm.page-cluster
    never less than half of the window before

The window lies around the address (swap_vma_readahead()); where a rotating disk holds swap, and
for shmem, it is the aligned cluster of slots (swap_cluster_readahead()), whoever has them. Pages
read ahead are charged, wait in the swap cache on an LRU list, and go again if nobody touches them.
zram is read without (SWP_SYNCHRONOUS_IO).

Departs from the kernel: in granules of 2^g pages a window of up to 2^g lies inside the granule that
is read: it makes its reading cheaper.
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import jit
from capplan.mm.state import MAP_ANON, VM_SWAP_RA_HIT

__all__ = [
    "swap_cluster_window",
    "swap_ra_hit",
    "swap_ra_init",
    "swap_ra_window",
    "swap_use_vma_readahead",
    "swapin_nr_pages",
]

SWAP_RA_ORDER_CEILING = 5
SWAP_RA_HITS_MAX = 63  # SWAP_RA_HITS_MASK: PAGE_SHIFT / 2 bits
PMD_PAGES = 512


@jit
def swapin_nr_pages(prev: int, at: int, hits: int, max_pages: int, prev_win: int) -> int:
    """Pages to read around a fault at ``at``, the last one having been at ``prev``.

    Kernel
    ------
    mm/swap_state.c, __swapin_nr_pages().

    Worked example
    --------------
    At most 8. No hits: apart 1, adjacent 2. 1 hit: 4, 3 hits: 8. No hits after a window of
    8: 4.
    """
    pages = hits + 2
    if pages == 2:
        if at != prev + 1 and at != prev - 1:
            pages = 1
    else:
        roundup = 4
        while roundup < pages:
            roundup <<= 1
        pages = roundup
    return max(min(pages, max_pages), prev_win // 2)


@jit
def swap_ra_init(vma: Any) -> None:
    """A new region: no fault yet, and 4 hits (GET_SWAP_RA_VAL())."""
    vma.ra_index = -2
    vma.ra_win = 0
    vma.ra_hits = 4


@jit
def swap_use_vma_readahead(k: Any, m: int) -> bool:
    """Whether the window lies around the address (swap_use_vma_readahead)."""
    return bool(k.vma_readahead) and k.nr_rotate_swap == 0 and k.mapping[m].kind == MAP_ANON


@jit
def _vma_window(k: Any, vma: Any, at: int) -> tuple[int, int]:
    """(pages, first granule) of the window around granule ``at`` (swap_vma_ra_win)."""
    max_win = 1 << min(k.page_cluster, SWAP_RA_ORDER_CEILING)
    if max_win == 1 or at == vma.ra_index:  # the same fault goes on
        return 1, at
    prev = vma.ra_index
    win = swapin_nr_pages(prev, at, vma.ra_hits, max_win, vma.ra_win)
    vma.ra_index = at
    vma.ra_win = win
    vma.ra_hits = 0
    granules = max(win >> k.g, 1)
    if at == prev + 1:
        return win, at
    if prev == at + 1:
        return win, at - granules + 1
    return win, at - (granules - 1) // 2


@jit
def swap_cluster_window(k: Any, pt: Any, e: int) -> tuple[int, int, int]:
    """What a fault at entry e reads of its area: an aligned cluster of slots.

    Returns
    -------
    win, first, end : int
        Pages that one read brings; the slots [first, end) to look at.

    Kernel
    ------
    mm/swap_state.c, swapin_nr_pages(), swap_cluster_readahead(). The history is the whole node's.
    """
    area = k.swap[pt[e].swap]
    at = pt[e].slot - area.first_slot
    max_win = 1 << k.page_cluster
    if max_win == 1:
        return 1, 0, 0
    hits = k.swapin_readahead_hits
    k.swapin_readahead_hits = 0
    win = swapin_nr_pages(k.swapin_prev, at, hits, max_win, k.swapin_last_pages)
    if hits == 0:
        k.swapin_prev = at
    k.swapin_last_pages = win
    granules = win >> k.g
    if granules <= 1:
        return win, 0, 0
    first = at - at % granules
    return win, area.first_slot + first, area.first_slot + min(first + granules, area.nr_slots)


@jit
def swap_ra_window(k: Any, v: int, e: int) -> tuple[int, int, int]:
    """What a fault at entry e through vma v reads.

    Returns
    -------
    win, first, end : int
        Pages that one read brings; the entries [first, end) to look at.

    Kernel
    ------
    mm/swap_state.c, swap_vma_ra_win(). Cut to the region and to the 2 MiB of the page table.

    Worked example
    --------------
    page-cluster 3, a reader in order from page 0 of a new region (its history says 4 hits): 8
    pages around 0, so 0 to 4; then 5 to 12, 13 to 20.
    """
    m = k.vma[v].mapping
    mapping = k.mapping[m]
    at = e - mapping.first_pte
    win, left = _vma_window(k, k.vma[v], at)
    granules = win >> k.g
    if granules <= 1:
        return win, e, e
    table = max(PMD_PAGES >> k.g, 1)
    first = max(left, 0, at - at % table)
    end = min(left + granules, mapping.used, at - at % table + table)
    return win, mapping.first_pte + first, mapping.first_pte + end


@jit
def swap_ra_hit(k: Any, v: int, e: int, hits: int) -> None:
    """A page was found in the swap cache; ``hits`` of them had been read ahead.

    Kernel
    ------
    mm/swap_state.c, swap_cache_get_folio().
    """
    m = k.vma[v].mapping
    vma = k.vma[v]
    k.vmstat[VM_SWAP_RA_HIT] += hits
    if swap_use_vma_readahead(k, m):
        vma.ra_index = e - k.mapping[m].first_pte
        vma.ra_hits = min(vma.ra_hits + hits, SWAP_RA_HITS_MAX)
    else:
        k.swapin_readahead_hits += hits
