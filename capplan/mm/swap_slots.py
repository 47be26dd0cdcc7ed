"""Slots of swap that are given back (mm/swap_slots.c: free_swap_slot; mm/swapfile.c).

    a page is freed, or swap half full when it comes back -> its slot is free, or kept till 64 are

A page that was read keeps its slot otherwise. It is *cache-only* then, no page table holds it, and
who looks for a slot may take it back (``mm/swapfile``).

Departs from the kernel: one CPU's slots cache serves all. What zswap holds of a slot goes at once,
before 6.8 it goes with the slot. Under cgroup v1 the charge goes at once.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.page_counter import uncharge_memsw, uncharge_swap
from capplan.mm.state import (
    PG_HUGE,
    PG_READAHEAD,
    PG_SWAP_CLEAN,
    PG_SWAPCACHE,
    PG_WRITEBACK,
    PTE_PRESENT,
    ST_SWAPCACHED,
    XA_NONE,
    XA_PAGE,
)
from capplan.mm.swap_map import HELD, entry_free, hold, holder
from capplan.mm.xarray import xa_store_swap
from capplan.mm.zram import zram_free
from capplan.mm.zswap import zswap_drop

__all__ = [
    "add_to_swap_cache",
    "drain_returned",
    "drop_swap_cache",
    "free_swap_entry",
    "free_swap_slot",
    "move_slot",
    "try_to_reclaim_swap",
]


@jit
def drain_returned(k, pt):
    """Free the slots that were given back and kept (drain_slots_cache_cpu)."""
    for n in range(k.nr_returned_slots):
        entry_free(k, pt, k.returned_slot[n], k.returned_pages[n], k.returned_owner[n])
    k.nr_returned_slots = 0


@jit
def free_swap_slot(k, pt, at, nr, owner):
    """Give slot ``at`` back: kept until 64 are, while the slots cache is on (free_swap_slot)."""
    if not k.slot_cache_active:
        entry_free(k, pt, at, nr, owner)
        return
    if k.nr_returned_slots >= k.swap_slots_max:
        drain_returned(k, pt)
    n = k.nr_returned_slots
    k.nr_returned_slots = n + 1
    k.returned_slot[n] = at
    k.returned_pages[n] = nr
    k.returned_owner[n] = owner
    hold(k, pt, at, HELD)


@jit
def _release(k, fr, pt, e, direct):
    """Entry e's slot is given back, with what zswap or zram holds of it; direct: past the cache."""
    entry = pt[e]
    nr = entry.nr_pages
    if entry.swap < 0:
        return
    area = k.swap[entry.swap]
    if entry.in_zswap:
        zswap_drop(k, fr, pt, e)
    elif area.zram:
        zram_free(k, fr, area, entry)
    owner = int(entry.owner)
    if k.cgroup_v1:
        if entry.state != PTE_PRESENT and entry.frame < 0:
            uncharge_swap(k, owner, nr)
            uncharge_memsw(k, owner, nr)  # else the resident page carries the charge
        owner = -1
    if direct:
        entry_free(k, pt, entry.slot, nr, owner)
    else:
        free_swap_slot(k, pt, entry.slot, nr, owner)
    entry.slot = -1
    entry.swap = -1
    entry.owner = -1
    entry.length = 0
    xa_store_swap(k, fr, pt, e, XA_NONE)


@jit
def free_swap_entry(k, fr, pt, e):
    """Give the slot of entry e back (swap_free), with what zswap or zram holds of it."""
    _release(k, fr, pt, e, False)


@jit
def add_to_swap_cache(k, fr, pt, i):
    """Page i, whose entry has a slot, is in the swap cache (add_to_swap_cache)."""
    nr = fr[i].nr_pages
    fr[i].flags |= PG_SWAPCACHE
    k.nr_swapcached += nr
    k.memcg[fr[i].memcg].stat[ST_SWAPCACHED] += nr
    xa_store_swap(k, fr, pt, fr[i].pte, XA_PAGE)


@jit
def _delete_from_swap_cache(k, fr, pt, i, direct):
    fr[i].flags &= ~(PG_SWAPCACHE | PG_SWAP_CLEAN | PG_READAHEAD)
    k.nr_swapcached -= fr[i].nr_pages
    k.memcg[fr[i].memcg].stat[ST_SWAPCACHED] -= fr[i].nr_pages
    _release(k, fr, pt, fr[i].pte, direct)


@jit
def drop_swap_cache(k, fr, pt, i):
    """Page i leaves the swap cache, its slot is given back (folio_free_swap)."""
    _delete_from_swap_cache(k, fr, pt, i, False)


@jit
def move_slot(k, pt, e, f):
    """Entry f has entry e's slot from now on."""
    pt[f].slot = pt[e].slot
    if pt[e].slot >= 0:
        hold(k, pt, pt[e].slot, f)
    pt[e].slot = -1


@jit
def try_to_reclaim_swap(k, fr, pt, at, direct):
    """Take slot ``at`` from a page that is in memory and needs it no more; whether it was.

    Kernel
    ------
    mm/swapfile.c, __try_to_reclaim_swap(TTRS_ANYWAY), folio_free_swap().
    """
    e = holder(k, pt, at)
    if e < 0 or pt[e].state != PTE_PRESENT:
        return False
    i = pt[e].frame
    if i < 0 or not fr[i].flags & PG_SWAPCACHE or fr[i].flags & (PG_WRITEBACK | PG_HUGE):
        return False
    _delete_from_swap_cache(k, fr, pt, i, direct)
    return True
