"""Which slot of swap a page gets, and who gives his back (mm/swapfile.c, mm/swap_slots.c).

    clusters are filled one after the other, those that are empty first
    none is empty and swap half full -> a slot is taken back whose page is in memory again
    while many slots are free they are taken and given back 64 at a time

A page that was read keeps its slot, which is *cache-only*: no page table holds it. Before 6.12
(``scan_swap_map_slots()``) the map is searched for the next slot that is free, and cache-only ones
that the search comes past are given back. Since 6.12 (``cluster_alloc_swap_entry()``) each call
that finds no free cluster has one of the full ones looked through.

Departs from the kernel: one CPU's cluster and slots cache serve all. A free cluster that the
search meets is not left for the one that is next.
"""

from __future__ import annotations

from capplan.mm._jit import jit, prefetch, rare
from capplan.mm.events import memcg_event, tell_swap_full
from capplan.mm.lruvec import draw
from capplan.mm.page_counter import try_charge_swap
from capplan.mm.state import (
    EV_SWAP_FAIL,
    EV_SWAP_MAX,
    HPAGE_PMD_NR,
    SWAP_SLOTS_CACHE_SIZE,
    SWAPFILE_CLUSTER,
)
from capplan.mm.swap_map import (
    COUNT,
    FREE,
    HUGE,
    ON_FRAG,
    ON_FREE,
    ON_FULL,
    ON_NONFULL,
    ON_NONFULL_HUGE,
    area_of,
    by_lists,
    cluster_of,
    cluster_start,
    entry_free,
    hold,
    holder,
    list_move_tail,
    mem_cgroup_nr_swap_pages,
    nr_swap_pages,
    range_alloc,
    seeks,
    total_free_swap,
    vm_swap_full,
)
from capplan.mm.swap_slots import drain_returned, free_swap_slot, try_to_reclaim_swap

__all__ = [
    "drain_slots_cache",
    "get_swap_cluster",
    "get_swap_page",
    "give_slot",
]

LATENCY_LIMIT = 256
SWAP_ADDRESS_SPACE_PAGES = 1 << 14
STREAM_TRUNK = 0x7252


@jit
def _cluster_slot(k, pt, s):
    """The next free slot of the cluster in use, or of the first free one; -1: there is none.

    Kernel
    ------
    mm/swapfile.c before 6.12, scan_swap_map_try_ssd_cluster().
    """
    area = k.swap[s]
    size = k.cluster_slots
    while True:
        if area.next < 0:
            if area.list_head[ON_FREE] < 0:
                return -1
            area.next = cluster_start(k, area, area.list_head[ON_FREE])
        at = area.next
        end = at - (at - area.first_slot) % size + size
        end = min(end, area.first_slot + area.nr_slots)
        while at < end and holder(k, pt, at) != FREE:
            at += 1
        area.next = at + 1 if at + 1 < end else -1
        if at < end:
            return at


@jit
def _empty_run(k, pt, s):
    """Where as many free slots as a cluster has lie side by side; the lowest if nowhere."""
    area = k.swap[s]
    size = k.cluster_slots
    at = area.lowest
    run = 0
    while at <= area.highest and run < size:
        if run == 0 and pt[cluster_of(k, area, at)].cells[COUNT] >= size:
            at = cluster_start(k, area, cluster_of(k, area, at) + 1)
            continue
        run = run + 1 if holder(k, pt, at) == FREE else 0
        at += 1
    return at - run if run == size else area.lowest


@jit
def _seek_slot(k, pt, s):
    """Where a disk with seeks begins to look: behind the last, or at an empty cluster after 512."""
    area = k.swap[s]
    at = area.cluster_next
    if area.cluster_nr > 0:
        area.cluster_nr -= 1
    else:
        area.cluster_nr = k.cluster_slots - 1
        if area.free >= SWAPFILE_CLUSTER:
            at = _empty_run(k, pt, s)
    return at


@jit
def _search(k, fr, pt, s, at):
    """Look through the map from slot ``at`` on for a free one: (slot, steps); -1: there is none.

    What is cache-only is taken back. It goes to the slots cache, and the search goes on, unless
    that is off (scan_swap_map_slots() from ``checks:`` and ``scan:`` on).
    """
    area = k.swap[s]
    if at > area.highest:
        at = area.lowest
    base = at
    wrapped = False
    steps = 0
    while at < base if wrapped else at <= area.highest:
        if at + 4 <= area.highest:
            prefetch(pt, holder(k, pt, at + 4))  # whose state is looked at then
        if holder(k, pt, at) >= 0 and vm_swap_full(k):
            try_to_reclaim_swap(k, fr, pt, at, False)
        if holder(k, pt, at) == FREE:
            return at, steps
        at += 1
        steps += 1
        if at > area.highest and not wrapped:
            at = area.lowest
            wrapped = True
    return -1, steps


@jit
def _set_cluster_next(k, s, at):
    """The next search begins at ``at``; a device without seeks changes the trunk of 64 MiB."""
    area = k.swap[s]
    trunk = max(SWAP_ADDRESS_SPACE_PAGES >> k.g, 1)
    before = area.cluster_next - area.first_slot
    after = at - area.first_slot
    if not seeks(k, s) and before // trunk != after // trunk:
        if area.highest <= area.lowest:
            return
        area.trunks += 1
        after = area.lowest - area.first_slot
        after += draw(k, STREAM_TRUNK, s, area.trunks) % (area.highest - area.lowest + 1)
        after = max(after - after % trunk, area.lowest - area.first_slot)
    area.cluster_next = area.first_slot + after


@jit
def _first_slot(k, fr, pt, s):
    """The first of the slots that one call takes: (slot, where the search began, its steps)."""
    area = k.swap[s]
    if seeks(k, s):
        base = _seek_slot(k, pt, s)
    else:
        at = _cluster_slot(k, pt, s)
        if at >= 0:
            return at, at, 0
        base = area.cluster_next + 1
    at, steps = _search(k, fr, pt, s, base)
    return at, base, steps


@jit
def _next_slot(k, pt, s, at):
    """One more of the cluster that slot ``at`` was taken from, -1: there is none."""
    area = k.swap[s]
    if not seeks(k, s):
        return _cluster_slot(k, pt, s)
    at += 1
    if area.cluster_nr == 0 or at > area.highest or holder(k, pt, at) != FREE:
        return -1
    area.cluster_nr -= 1
    return at


@jit
def _scan_swap_map_slots(k, fr, pt, s, want):
    """Take up to ``want`` slots of area s into ``k.cached_slot``: how many (before 6.12)."""
    area = k.swap[s]
    ration = max(LATENCY_LIMIT >> k.g, 1)
    at, base, steps = _first_slot(k, fr, pt, s)
    scanned_many = steps > ration
    ration -= steps % ration
    n = 0
    last = at
    while at >= 0:
        range_alloc(k, pt, s, at)
        k.cached_slot[n] = at
        n += 1
        ration -= 1
        last = at
        if n == want or ration < 0 or at >= area.highest:
            break
        at = _next_slot(k, pt, s, at)
        if at < 0 and not scanned_many:
            at = last
            limit = base if at < base else area.highest
            while at <= limit and ration > 0 and holder(k, pt, at) != FREE:
                at += 1
                ration -= 1
            if at > limit or holder(k, pt, at) != FREE:
                at = -1
    if n:
        _set_cluster_next(k, s, last + 1)
    return n


@jit
def _reclaim_full_clusters(k, fr, pt, s, to_scan):
    """Take back what is cache-only in ``to_scan`` full clusters, the oldest first."""
    area = k.swap[s]
    size = k.cluster_slots
    while area.list_head[ON_FULL] >= 0:
        x = area.list_head[ON_FULL]
        list_move_tail(pt, area, x, ON_FULL)
        start = cluster_start(k, area, x)
        for at in range(start, min(start + size, area.first_slot + area.nr_slots)):
            try_to_reclaim_swap(k, fr, pt, at, True)
        to_scan -= 1
        if to_scan <= 0:
            return


@jit
def _scan_cluster(k, fr, pt, s, at):
    """A slot at ``at`` or behind it in its cluster, free or cache-only: taken; -1 there is none.

    Kernel
    ------
    mm/swapfile.c since 6.12, alloc_swap_scan_cluster().
    """
    area = k.swap[s]
    size = k.cluster_slots
    x = cluster_of(k, area, at)
    end = min(cluster_start(k, area, x) + size, area.first_slot + area.nr_slots)
    area.next = -1
    if pt[x].cells[COUNT] >= size:
        return -1
    while at < end:
        if holder(k, pt, at) >= 0 and vm_swap_full(k):
            try_to_reclaim_swap(k, fr, pt, at, True)
        if holder(k, pt, at) == FREE:
            range_alloc(k, pt, s, at)
            if pt[x].cells[COUNT] < size and at + 1 < end:
                area.next = at + 1
            return at
        at += 1
    return -1


@jit
def _scan_list(k, fr, pt, s, which, to, scans):
    """Look for a slot in up to ``scans`` clusters of a list, each of which goes to list ``to``."""
    area = k.swap[s]
    while scans > 0 and area.list_head[which] >= 0:
        x = area.list_head[which]
        list_move_tail(pt, area, x, to)
        at = _scan_cluster(k, fr, pt, s, cluster_start(k, area, x))
        if at >= 0:
            return at
        scans -= 1
    return -1


@jit
def _cluster_alloc_swap_entry(k, fr, pt, s):
    """Take a slot of area s: it, or -1 (since 6.12)."""
    area = k.swap[s]
    if area.next >= 0:
        at = _scan_cluster(k, fr, pt, s, area.next)
        if at >= 0:
            return at
    if area.list_head[ON_FREE] >= 0:
        return _scan_cluster(k, fr, pt, s, cluster_start(k, area, area.list_head[ON_FREE]))
    if vm_swap_full(k):
        _reclaim_full_clusters(k, fr, pt, s, 1)
    frags = area.nr_frag
    at = _scan_list(k, fr, pt, s, ON_NONFULL, ON_FRAG, area.nr_slots)
    if at < 0:
        at = _scan_list(k, fr, pt, s, ON_FRAG, ON_FRAG, frags)
    if at < 0 and area.list_head[ON_NONFULL_HUGE] >= 0:
        huge = cluster_start(k, area, area.list_head[ON_NONFULL_HUGE])
        at = _scan_cluster(k, fr, pt, s, huge)
    return at


@jit
def _take_slots(k, fr, pt, s, want):
    """Take up to ``want`` slots of area s into ``k.cached_slot``: how many."""
    if not by_lists(k, s):
        return _scan_swap_map_slots(k, fr, pt, s, want)
    n = 0
    while n < want:
        at = _cluster_alloc_swap_entry(k, fr, pt, s)
        if at < 0:
            break
        k.cached_slot[n] = at
        n += 1
    return n


@jit
def _next_area(k, nr, tried):
    """The area of the highest priority with nr free pages that was not tried, -1: none.

    Of equal ones the emptier: they alternate.
    """
    best = -1
    for s in range(k.nr_swaps):
        area = k.swap[s]
        if area.free < nr or tried >> s & 1:
            continue
        if (
            best < 0
            or area.priority > k.swap[best].priority
            or (area.priority == k.swap[best].priority and area.free > k.swap[best].free)
        ):
            best = s
    return best


@jit
def _get_swap_pages(k, fr, pt, want, nr):
    """Take up to ``want`` slots (of nr pages each) of one area: how many (get_swap_pages)."""
    tried = 0
    s = _next_area(k, nr, tried)
    while s >= 0:
        area = k.swap[s]
        goal = max(min(want, area.free // nr), 1)
        area.free -= goal * nr
        n = _take_slots(k, fr, pt, s, goal)
        area.free += (goal - n) * nr
        if n:
            if area.free < k.granule_pages:  # nothing is left to look through
                area.lowest = area.first_slot + area.nr_slots
                area.highest = area.first_slot
                if by_lists(k, s) and vm_swap_full(k):
                    _reclaim_full_clusters(k, fr, pt, s, area.nr_slots)  # swap_reclaim_work
            return n
        tried |= 1 << s
        s = _next_area(k, nr, tried)
    return 0


@rare
def drain_slots_cache(k, pt):
    """Switch the slots cache off: what it holds is free (deactivate_swap_slots_cache)."""
    k.slot_cache_active = 0
    while k.nr_cached_slots > 0:
        k.nr_cached_slots -= 1
        at = k.cached_slot[k.cached_at + k.nr_cached_slots]
        entry_free(k, pt, at, k.granule_pages, -1)
    drain_returned(k, pt)


@jit
def _check_cache_active(k, pt):
    """Whether slots are taken 64 at a time: not where they run short (check_cache_active)."""
    if k.swap_slots_max < 2:
        return False
    pages = nr_swap_pages(k)
    if not k.slot_cache_active:
        k.slot_cache_active = int(pages > k.nr_cpus * 5 * SWAP_SLOTS_CACHE_SIZE)
    elif pages < k.nr_cpus * 2 * SWAP_SLOTS_CACHE_SIZE:
        drain_slots_cache(k, pt)
    return k.slot_cache_active != 0


@jit
def _folio_alloc_swap(k, fr, pt, nr):
    """Take one slot for nr pages: it, or -1."""
    if _check_cache_active(k, pt):
        if k.nr_cached_slots == 0:
            k.nr_cached_slots = _get_swap_pages(k, fr, pt, k.swap_slots_max, k.granule_pages)
            k.cached_at = 0
        if k.nr_cached_slots > 0:
            at = k.cached_slot[k.cached_at]
            k.cached_at += 1
            k.nr_cached_slots -= 1
            k.swap[area_of(k, at)].free += k.granule_pages - nr
            return at
    if _get_swap_pages(k, fr, pt, 1, nr) == 0:
        return -1
    return k.cached_slot[0]


@jit
def _swap_event(k, c, event):
    """Count a memory.swap.events item; v1 has none (do_memsw_account)."""
    if not k.cgroup_v1:
        memcg_event(k, c, event)


@jit
def give_slot(k, pt, e, c, at, nr):
    """Entry e gets slot ``at``, charged to group c; False where swap.max is reached."""
    over = -1 if k.cgroup_v1 else try_charge_swap(k, c, nr)
    if over >= 0:
        free_swap_slot(k, pt, at, nr, -1)
        _swap_event(k, over, EV_SWAP_MAX)
        _swap_event(k, over, EV_SWAP_FAIL)
        return False
    pt[e].swap = area_of(k, at)
    pt[e].slot = at
    hold(k, pt, at, e)
    if total_free_swap(k) == 0:
        tell_swap_full(k, c)
    return True


@jit
def get_swap_page(k, fr, pt, e, c, nr):
    """Give entry e, nr pages of group c, a slot; False when swap or swap.max is full.

    Kernel
    ------
    mm/swap_slots.c, folio_alloc_swap().
    """
    at = _folio_alloc_swap(k, fr, pt, nr)
    if at < 0:
        if k.nr_swaps > 0:
            tell_swap_full(k, c)
            _swap_event(k, c, EV_SWAP_FAIL)
        return False
    return give_slot(k, pt, e, c, at, nr)


@jit
def get_swap_cluster(k, fr, pt, c):
    """Take a cluster for a huge page of group c: its first slot, -1: the page has to be split.

    Kernel
    ------
    mm/swapfile.c, swap_alloc_cluster(), since 6.12 cluster_alloc_swap_entry(PMD_ORDER). A device
    without seeks has clusters; zram stores page by page whatever it is given.
    """
    s = _next_area(k, 1, 0)
    if s < 0 or k.swap[s].zram or seeks(k, s):
        return -1
    area = k.swap[s]
    if area.free < HPAGE_PMD_NR or mem_cgroup_nr_swap_pages(k, c) < HPAGE_PMD_NR:
        return -1
    x = area.list_head[ON_FREE]
    if x < 0:
        if by_lists(k, s) and vm_swap_full(k):
            _reclaim_full_clusters(k, fr, pt, s, 1)
        return -1
    start = cluster_start(k, area, x)
    for at in range(start, start + k.cluster_slots):
        range_alloc(k, pt, s, at)
    pt[x].cells[HUGE] = 1
    area.free -= HPAGE_PMD_NR
    return start
