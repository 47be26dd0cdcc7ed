"""The map of swap slots and their clusters (mm/swapfile.c: swap_map, struct swap_cluster_info).

    slot    -> the entry that has it; or free, held, not to be had
    cluster -> 512 slots: how many are in use, and the list that it is on

A slot holds a granule. ``pt`` has both behind the xarray nodes: a cell a slot, a record a cluster.
Lists by how full clusters are came with 6.12; before, there is that of the free ones only.

Departs from the kernel: clusters are not shuffled at swapon. Granules that are not full take a slot
as the others do; some slots more for each mapping make up for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from capplan.mm._jit import jit, prefetch
from capplan.mm.page_counter import uncharge_swap
from capplan.mm.state import CELLS, NR_CLUSTER_LISTS, SWAP_SLOTS_CACHE_SIZE, SWAPFILE_CLUSTER

__all__ = [
    "BAD",
    "COUNT",
    "FREE",
    "HELD",
    "HUGE",
    "ON_FRAG",
    "ON_FREE",
    "ON_FULL",
    "ON_NONFULL",
    "ON_NONFULL_HUGE",
    "area_of",
    "ask_for_slot",
    "by_lists",
    "cluster_of",
    "cluster_start",
    "entry_free",
    "hold",
    "holder",
    "list_move_tail",
    "mem_cgroup_nr_swap_pages",
    "mem_cgroup_swap_full",
    "nr_swap_pages",
    "range_alloc",
    "seeks",
    "swap_records",
    "swapon",
    "total_free_swap",
    "vm_swap_full",
]

# What the map says of a slot, beside the entry that has it: free; taken, and nobody's yet or any
# more (SWAP_HAS_CACHE without a page); not to be had (SWAP_MAP_BAD).
FREE, HELD, BAD = -1, -2, -3
# A cluster's record: links of its list, slots in use, which list, whether it was a huge page's.
PREV, NEXT, COUNT, LIST, HUGE = 0, 1, 2, 3, 4
ON_FREE, ON_NONFULL, ON_NONFULL_HUGE, ON_FRAG, ON_FULL, ON_NONE = 0, 1, 2, 3, 4, 5


def _cluster_slots(k: Any) -> int:
    return max(SWAPFILE_CLUSTER >> int(k.g), 1)


def _area_slots(k: Any, s: int) -> int:
    """Slots of area s with its header's; of a mapping up to three granules are not full."""
    spare = 3 * int(k.nr_mappings) if k.g else 0
    return ((int(k.swap[s].total) + 1) >> int(k.g)) + spare


def swap_records(k: Any) -> int:
    """Records of ``pt`` that the maps and clusters of all areas take."""
    cluster = _cluster_slots(k)
    slots = [_area_slots(k, s) for s in range(int(k.nr_swaps))]
    return -(-sum(slots) // CELLS) + sum(-(-n // cluster) for n in slots)


def swapon(k: Any, pt: Any, first: int) -> None:
    """Lay out the areas from record ``first`` of ``pt`` on; all slots but the header's are free.

    Kernel
    ------
    mm/swapfile.c, setup_swap_map(), setup_clusters(): a cluster that is not whole is on no free
    list.
    """
    cluster = _cluster_slots(k)
    k.first_slot, k.cluster_slots = first, cluster
    k.swap_slots_max = SWAP_SLOTS_CACHE_SIZE >> int(k.g)
    slots = [_area_slots(k, s) for s in range(int(k.nr_swaps))]
    at, record = 0, first + -(-sum(slots) // CELLS)
    cells = pt["cells"]
    cells[first:record] = FREE
    for s, count in enumerate(slots):
        area = k.swap[s]
        area.first_slot, area.nr_slots, area.first_cluster = at, count, record
        area.next = -1
        area.cluster_next = area.lowest = at
        area.highest = at + count - 1
        for which in range(NR_CLUSTER_LISTS):
            area.list_head[which] = area.list_tail[which] = -1
        number = -(-count // cluster)
        cells[record : record + number] = 0
        cells[record : record + number, LIST] = ON_NONE
        cells[record + number - 1, COUNT] = number * cluster - count
        if k.g == 0 and count > 0:
            cells[first + at // CELLS, at % CELLS] = BAD
            cells[record, COUNT] += 1
            area.lowest += 1
        whole = cells[record : record + number, COUNT] == 0
        _link(cells, area, np.flatnonzero(whole) + record, ON_FREE)
        if k.swap_cluster_lists:
            _link(cells, area, np.flatnonzero(~whole) + record, ON_NONFULL)
        at += count
        record += number


def _link(cells: Any, area: Any, records: Any, which: int) -> None:
    """Put the clusters of ``records`` on list ``which``, in this order."""
    if not len(records):
        return
    cells[records, LIST] = which
    cells[records, PREV] = np.append(-1, records[:-1])
    cells[records, NEXT] = np.append(records[1:], -1)
    area.list_head[which], area.list_tail[which] = records[0], records[-1]


@jit
def _list_add_tail(pt, area, x, which):
    cluster = pt[x].cells
    cluster[LIST] = which
    cluster[NEXT] = -1
    last = area.list_tail[which]
    cluster[PREV] = last
    if last >= 0:
        pt[last].cells[NEXT] = x
    else:
        area.list_head[which] = x
    area.list_tail[which] = x
    if which == ON_FRAG:
        area.nr_frag += 1


@jit
def list_move_tail(pt, area, x, which):
    """Cluster x goes to the end of list ``which``, off the one that it is on."""
    cluster = pt[x].cells
    old = cluster[LIST]
    if old != ON_NONE:
        before = cluster[PREV]
        after = cluster[NEXT]
        if before >= 0:
            pt[before].cells[NEXT] = after
        else:
            area.list_head[old] = after
        if after >= 0:
            pt[after].cells[PREV] = before
        else:
            area.list_tail[old] = before
        if old == ON_FRAG:
            area.nr_frag -= 1
    if which == ON_NONE:
        cluster[LIST] = ON_NONE
    else:
        _list_add_tail(pt, area, x, which)


@jit
def holder(k, pt, at):
    """The entry that has slot ``at``, or FREE, HELD, BAD."""
    return pt[k.first_slot + at // CELLS].cells[at % CELLS]


@jit
def hold(k, pt, at, what):
    """Write what the map says of slot ``at``."""
    pt[k.first_slot + at // CELLS].cells[at % CELLS] = what


@jit
def ask_for_slot(k, pt, e):
    """Entry e's slot is given back soon: ask memory for what the map and its cluster say of it."""
    at = pt[e].slot
    prefetch(pt, k.first_slot + at // CELLS)
    prefetch(pt, cluster_of(k, k.swap[pt[e].swap], at))


@jit
def cluster_of(k, area, at):
    """Record of the cluster that slot ``at`` is in."""
    return area.first_cluster + (at - area.first_slot) // k.cluster_slots


@jit
def cluster_start(k, area, x):
    """First slot of the cluster whose record is x."""
    return area.first_slot + (x - area.first_cluster) * k.cluster_slots


@jit
def seeks(k, s):
    """Whether area s is on a rotating disk: it has no clusters of its own."""
    return k.swap[s].zram == 0 and k.disk[k.swap[s].disk].rotational != 0


@jit
def by_lists(k, s):
    """Whether area s keeps its clusters on lists."""
    return k.swap_cluster_lists != 0 and not seeks(k, s)


@jit
def range_alloc(k, pt, s, at):
    """Slot ``at`` of area s is taken (inc_cluster_info_page, cluster_alloc_range)."""
    area = k.swap[s]
    x = cluster_of(k, area, at)
    cluster = pt[x].cells
    hold(k, pt, at, HELD)
    cluster[COUNT] += 1
    if at == area.lowest:
        area.lowest += 1
    if at == area.highest:
        area.highest -= 1
    if not by_lists(k, s):
        if cluster[LIST] == ON_FREE:
            list_move_tail(pt, area, x, ON_NONE)
    elif cluster[COUNT] == k.cluster_slots:
        list_move_tail(pt, area, x, ON_FULL)
    elif cluster[LIST] == ON_FREE:
        list_move_tail(pt, area, x, ON_NONFULL)


@jit
def _range_free(k, pt, s, at):
    """Slot ``at`` of area s is free again (swap_range_free, dec_cluster_info_page)."""
    area = k.swap[s]
    x = cluster_of(k, area, at)
    cluster = pt[x].cells
    hold(k, pt, at, FREE)
    cluster[COUNT] -= 1
    area.lowest = min(area.lowest, at)
    area.highest = max(area.highest, at)
    if cluster[COUNT] == 0:
        cluster[HUGE] = 0
        list_move_tail(pt, area, x, ON_FREE)
    elif by_lists(k, s):
        nonfull = ON_NONFULL_HUGE if cluster[HUGE] else ON_NONFULL
        if cluster[LIST] != nonfull:
            list_move_tail(pt, area, x, nonfull)


@jit
def nr_swap_pages(k):
    """Free slots of all areas, in pages."""
    total = 0
    for s in range(k.nr_swaps):
        total += k.swap[s].free
    return total


@jit
def total_free_swap(k):
    """Free slots of all areas (nr_swap_pages), in pages.

    Fewer than a granule's are none: reclaim would go on scanning for pages that nothing can
    take, and the OOM killer would wait for it.
    """
    total = 0
    for s in range(k.nr_swaps):
        if k.swap[s].free >= k.granule_pages:
            total += k.swap[s].free
    return total


@jit
def mem_cgroup_nr_swap_pages(k, c):
    """Slots that group c may still take, in pages: its limits' room (v1: the global room)."""
    room = total_free_swap(k)
    if k.cgroup_v1:
        return room
    while c > 0:
        room = min(room, k.memcg[c].swap.max - k.memcg[c].swap.usage)
        c = k.memcg[c].parent
    return room if room >= k.granule_pages else 0


@jit
def vm_swap_full(k):
    """Whether more than half of all slots are taken."""
    return nr_swap_pages(k) * 2 < k.totalswap


@jit
def mem_cgroup_swap_full(k, c):
    """Whether a page of group c that comes back gives its slot up."""
    if vm_swap_full(k):
        return True
    if k.cgroup_v1:
        return False
    while c > 0:
        counter = k.memcg[c].swap
        if counter.usage * 2 >= counter.max or counter.usage * 2 >= counter.high:
            return True
        c = k.memcg[c].parent
    return False


@jit
def area_of(k, at):
    """The area that slot ``at`` lies in."""
    s = 0
    while at >= k.swap[s].first_slot + k.swap[s].nr_slots:
        s += 1
    return s


@jit
def entry_free(k, pt, at, nr, owner):
    """Slot ``at``, nr pages charged to ``owner`` (-1: nobody), is free (swap_entry_free)."""
    s = area_of(k, at)
    _range_free(k, pt, s, at)
    k.swap[s].free += nr
    if owner >= 0:
        uncharge_swap(k, owner, nr)
