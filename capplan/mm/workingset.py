"""Refault distance: was an evicted page missed soon? (mm/workingset.c)

    eviction: age += n (whole ancestry); shadow = (reclaim target, age, workingset flag)
    refault:  distance = age_now - age_then of the evicting group;
              distance <= working set -> activate, count, and a restored page is a memory stall

A shadow lives in the entry of the virtual side (``entry_t``), so it needs no memory of its
own; shadows older than one node's size of evictions can never activate anything.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.lruvec import age_nonresident
from capplan.mm.state import (
    LRU_ACTIVE_ANON,
    LRU_ACTIVE_FILE,
    LRU_INACTIVE_ANON,
    LRU_INACTIVE_FILE,
    PG_ACTIVE,
    PG_REFERENCED,
    PG_SWAPBACKED,
    PG_WORKINGSET,
    ST_ACTIVATE_ANON,
    ST_ACTIVATE_FILE,
    ST_REFAULT_ANON,
    ST_REFAULT_FILE,
    ST_RESTORE_ANON,
    ST_RESTORE_FILE,
    VM_ACTIVATE_ANON,
    VM_ACTIVATE_FILE,
    VM_REFAULT_ANON,
    VM_REFAULT_FILE,
)

EVICTION_MASK = (1 << 31) - 1  # what an entry holds of an age: the kernel's has 36 bits

__all__ = ["lru_note_cost", "lruvec_pages", "workingset_eviction", "workingset_refault"]


@jit
def lruvec_pages(k, c, n, lru):
    """Pages on one list of a node, of group c and all below it (lruvec_page_state)."""
    if not k.lru_gen:
        return k.memcg[c].lruvec[n].tree_pages[lru]
    total = 0
    if c == 0:
        for z in range(4 * n, 4 * n + 4):
            total += k.zone[z].lru_pages[lru]
        return total
    for d in range(c, k.memcg[c].subtree_end):
        total += k.memcg[d].lruvec[n].pages[lru]
    return total


@jit
def workingset_eviction(k, fr, pt, i, target):
    """Leave a shadow of page i in its entry (workingset_eviction)."""
    n = fr[i].zone >> 2
    entry = pt[fr[i].pte]
    entry.shadow = k.memcg[target].lruvec[n].nonresident_age & EVICTION_MASK
    entry.memcg = target
    entry.evicted = n << 1 | (1 if fr[i].flags & PG_WORKINGSET else 0)
    age_nonresident(k, target, n, fr[i].nr_pages)


@jit
def lru_note_cost(k, c, n, is_file, nr_io, nr_rotated):
    """Add reclaim's cost to the group and its ancestors, halving old cost (lru_note_cost).

    Rotations count since "vmscan: account rotations" (feature ``cost_rotations``); before,
    the cost is the I/O alone.
    """
    cost = nr_io * 32 + nr_rotated if k.cost_rotations else nr_io
    if cost == 0:
        return
    while c >= 0:
        lruvec = k.memcg[c].lruvec[n]
        if is_file:
            lruvec.file_cost += cost
        else:
            lruvec.anon_cost += cost
        total = 0
        for lru in range(4):
            total += lruvec_pages(k, c, n, lru)
        if lruvec.file_cost + lruvec.anon_cost > total // 4:
            lruvec.file_cost //= 2
            lruvec.anon_cost //= 2
        c = k.memcg[c].parent


@jit
def workingset_refault(k, fr, pt, i, swap_left):
    """Page i came back: activate it if it was evicted too early; whether it is a restore.

    ``swap_left`` : whether any swap slot is free, which makes anon part of the competition.
    Returns 1 when the page was Workingset before (its read is a memory stall), else 0.
    """
    entry = pt[fr[i].pte]
    n = entry.evicted >> 1
    is_file = not fr[i].flags & PG_SWAPBACKED
    nr = fr[i].nr_pages
    owner = fr[i].memcg
    k.memcg[owner].stat[ST_REFAULT_FILE if is_file else ST_REFAULT_ANON] += nr
    k.vmstat[VM_REFAULT_FILE if is_file else VM_REFAULT_ANON] += nr
    evicter = entry.memcg
    distance = (k.memcg[evicter].lruvec[n].nonresident_age - entry.shadow) & EVICTION_MASK
    size = lruvec_pages(k, evicter, n, LRU_ACTIVE_FILE)
    if not is_file:
        size += lruvec_pages(k, evicter, n, LRU_INACTIVE_FILE)
    if swap_left:
        size += lruvec_pages(k, evicter, n, LRU_ACTIVE_ANON)
        if is_file:
            size += lruvec_pages(k, evicter, n, LRU_INACTIVE_ANON)
    if distance > size:
        return 0
    fr[i].flags |= PG_ACTIVE
    fr[i].flags &= ~PG_REFERENCED
    age_nonresident(k, owner, n, nr)
    k.memcg[owner].stat[ST_ACTIVATE_FILE if is_file else ST_ACTIVATE_ANON] += nr
    k.vmstat[VM_ACTIVATE_FILE if is_file else VM_ACTIVATE_ANON] += nr
    _count_activation(k, owner, n, is_file, nr)
    if not entry.evicted & 1:
        return 0
    fr[i].flags |= PG_WORKINGSET
    lru_note_cost(k, owner, n, is_file, nr, 0)
    k.memcg[owner].stat[ST_RESTORE_FILE if is_file else ST_RESTORE_ANON] += nr
    return 1


@jit
def _count_activation(k, c, n, is_file, nr):
    while c >= 0:
        if is_file:
            k.memcg[c].lruvec[n].activate_file += nr
        else:
            k.memcg[c].lruvec[n].activate_anon += nr
        c = k.memcg[c].parent
