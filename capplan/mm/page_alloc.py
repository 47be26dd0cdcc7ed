"""The page allocator's fast path and freeing (mm/page_alloc.c).

    get_page_from_freelist: zones of the zonelist in order, first that keeps its mark gives
    free_frame:             to the per-cpu list of the CPU that frees

User memory asks with highest_zoneidx = Movable (3), kernel memory with Normal (2). The slow
path is in ``page_alloc_slowpath``; what lies below a granule comes from the zone's bag.
"""

from __future__ import annotations

from capplan.mm._jit import jit, rare
from capplan.mm.captured import placing_pages, placing_zone
from capplan.mm.cpuset import node_allowed
from capplan.mm.huge_memory import huge_pages, split_huge_page
from capplan.mm.mempolicy import kernel_node
from capplan.mm.pcp import (
    pcp_alloc,
    pcp_alloc_huge,
    pcp_alloc_kernel,
    pcp_alloc_movable,
    pcp_free,
    pcp_free_huge,
    pcp_free_kernel,
    pcp_free_movable,
    pcp_put,
)
from capplan.mm.singles import alloc_scattered, free_scattered
from capplan.mm.state import (
    LRU_NONE,
    MT_MOVABLE,
    MT_UNMOVABLE,
    PAGEBLOCK_ORDER,
    PCP_CPUS,
    PG_HUGE,
    PG_SCATTERED,
    VM_PGALLOC,
    VM_PGFREE,
    WMARK_HIGH,
    WMARK_LOW,
    WMARK_MIN,
    ZONE_NORMAL,
    ZONES_PER_NODE,
)
from capplan.mm.watermark import ALLOC_NOFRAGMENT, zone_watermark_ok_free

__all__ = [
    "alloc_flags_nofragment",
    "alloc_huge_page",
    "alloc_kernel_pages",
    "free_frame",
    "free_huge_page",
    "free_kernel_pages",
    "get_page_from_freelist",
    "global_dirtyable",
    "global_free",
    "node_dirty_ok",
    "pool_alloc_pages",
    "pool_free_pages",
    "put_back_frame",
    "rmqueue",
    "zonelist_zone",
]

HZ_MOVABLE, HZ_NORMAL = 3, 2


@jit
def _take_spare(k, fr):
    i = k.frames_free_spare
    if i >= 0:
        k.frames_free_spare = fr[i].next
    return i


@jit
def rmqueue(k, fr, z, nr_pages):
    """One frame of nr_pages from zone z: its index, or -1.

    A whole granule comes through the per-cpu list; a short one, and anything from a zone
    that is counted only, from single pages, with a spare frame record.
    """
    if nr_pages == k.granule_pages and not k.zone[z].counters_only:
        i = pcp_alloc(k, fr, z, k.cpu % PCP_CPUS)
        if i < 0:
            return -1
        fr[i].flags = 0
        fr[i].order = k.g  # it may have been the head of a huge page
    else:
        i = _take_spare(k, fr)
        if i < 0:
            return -1
        got = alloc_scattered(k, fr, z, nr_pages, MT_MOVABLE)
        if got < nr_pages:
            if got > 0:
                free_scattered(k, fr, z, got, MT_MOVABLE)
            fr[i].next = k.frames_free_spare
            k.frames_free_spare = i
            return -1
        k.zone[z].bag_lru += nr_pages
        fr[i].flags = PG_SCATTERED
        fr[i].zone = z
    fr[i].nr_pages = nr_pages
    fr[i].next = -1
    fr[i].prev = -1
    fr[i].lru = LRU_NONE
    fr[i].refs = 0
    fr[i].swap = -1
    k.vmstat[VM_PGALLOC] += nr_pages
    return i


@jit
def zonelist_zone(k, node, step):
    """Zone number ``step`` of the zonelist of a node: itself first, then the others in order."""
    rank = step // ZONES_PER_NODE
    n = node if rank == 0 else (rank - 1 if rank <= node else rank)
    return n * ZONES_PER_NODE + (ZONES_PER_NODE - 1 - step % ZONES_PER_NODE)


@jit
def node_dirty_ok(k, n):
    """Whether node n may take another page that is going to be dirty (node_dirty_ok).

    Kernel
    ------
    mm/page-writeback.c: dirty and written pages within vm.dirty_ratio of the node's dirtyable
    memory (vm.dirty_bytes: the node's share of it). Only the fast path asks: where no node is
    left, the slow path wakes kswapd on nodes below their marks, and takes what they have.

    Worked example
    --------------
    1,000,000 pages free beyond the reserve and no file cache, 20 %: ok up to 200,000.
    """
    free = 0
    file = 0
    for z in range(n * ZONES_PER_NODE, (n + 1) * ZONES_PER_NODE):
        free += k.zone[z].free
        file += k.zone[z].lru_pages[2] + k.zone[z].lru_pages[3]
    node_memory = free - min(free, k.node[n].totalreserve) + file
    limit = k.dirty_ratio * node_memory // 100
    if k.dirty_bytes:
        limit = (k.dirty_bytes + 4095) // 4096 * node_memory // global_dirtyable(k)
    return k.node[n].nr_dirty <= limit


@jit
def alloc_huge_page(k, fr, node, this_node, wmark):
    """The first frame of an order-9 block from a zone that stays above a mark, -1: none has one.

    ``this_node`` 1: zones of no other node (__GFP_THISNODE).

    Kernel: get_page_from_freelist() of order 9; GFP_TRANSHUGE_LIGHT asks for no more. The mark
    wants a block among the free ones, whatever waits on the per-cpu lists.
    """
    for step in range(ZONES_PER_NODE if this_node else k.nr_zones):
        z = zonelist_zone(k, node, step)
        zone = k.zone[z]
        if zone.managed == 0 or zone.counters_only or not node_allowed(k, z // ZONES_PER_NODE):
            continue
        mark = zone.wmark[wmark] + zone.boost
        if not zone_watermark_ok_free(k, z, PAGEBLOCK_ORDER, mark, HZ_MOVABLE, 0, zone.free):
            continue
        first = pcp_alloc_huge(k, fr, z, k.cpu % PCP_CPUS)
        if first < 0:
            continue
        for i in range(first, first + huge_pages(k)):
            _prepare_frame(fr, i, k.granule_pages)
            fr[i].order = k.g
        fr[first].order = PAGEBLOCK_ORDER
        k.vmstat[VM_PGALLOC] += 1 << PAGEBLOCK_ORDER
        return first
    return -1


@jit
def _prepare_frame(fr, i, nr_pages):
    fr[i].flags = 0
    fr[i].nr_pages = nr_pages
    fr[i].next = -1
    fr[i].prev = -1
    fr[i].lru = LRU_NONE
    fr[i].refs = 0
    fr[i].swap = -1


@rare
def _place_frame(k, fr, node, nr_pages):
    """A frame for what a captured node held: from the pages that were in use, without marks."""
    for step in range(k.nr_zones):
        z = zonelist_zone(k, node, step)
        if placing_zone(k, z):
            i = rmqueue(k, fr, z, nr_pages)
            if i >= 0:
                return i
    return -1


@jit
def alloc_flags_nofragment(k, node):
    """ALLOC_NOFRAGMENT where a request can go to DMA32 before it mixes pageblocks in Normal.

    Kernel
    ------
    mm/page_alloc.c, alloc_flags_nofragment(): the zonelist begins with Normal, and the node has
    a DMA32 (an only node always has one). Only the fast path has the flag.
    """
    normal = node * ZONES_PER_NODE + ZONE_NORMAL
    if k.zone[normal].managed == 0 or k.zone[normal + 1].managed > 0:
        return 0
    if k.nr_nodes > 1 and k.zone[normal - 1].managed == 0:
        return 0
    return ALLOC_NOFRAGMENT


@jit
def _take_from_zonelist(k, fr, node, nr_pages, mark, flags):
    """One walk of :func:`get_page_from_freelist` through the zonelist: a frame, or -1."""
    for step in range(k.nr_zones):
        z = zonelist_zone(k, node, step)
        zone = k.zone[z]
        if zone.managed == 0 or not node_allowed(k, z // ZONES_PER_NODE):
            continue
        if k.nofragment and z // ZONES_PER_NODE != node:
            return -1  # a local pageblock is rather mixed
        if k.spread_dirty and not node_dirty_ok(k, z // ZONES_PER_NODE):
            continue
        left = zone.free - (nr_pages - 1)  # when the last of them is asked for
        high = zone.wmark[WMARK_HIGH] + zone.boost
        if (
            k.pcp_auto
            and not zone.below_high
            and not zone_watermark_ok_free(k, z, 0, high, HZ_MOVABLE, flags, left)
        ):
            zone.below_high = 1
        asked = zone.wmark[mark] + zone.boost
        if not zone_watermark_ok_free(k, z, 0, asked, HZ_MOVABLE, flags, left):
            continue
        i = rmqueue(k, fr, z, nr_pages)
        if i >= 0:
            return i
    return -1


@jit
def get_page_from_freelist(k, fr, node, nr_pages, mark, flags):
    """A frame for user memory from the first zone that stays above ``mark``; -1 if none does.

    mark : WMARK_MIN, WMARK_LOW or WMARK_HIGH; boost is added as everywhere. A granule stands
    for as many single pages: the last of them must leave the mark too.
    """
    if k.captured == 1:
        return _place_frame(k, fr, node, nr_pages)
    if flags & ALLOC_NOFRAGMENT:
        k.nofragment = 1
        i = _take_from_zonelist(k, fr, node, nr_pages, mark, flags)
        k.nofragment = 0
        if i >= 0:
            return i
    return _take_from_zonelist(k, fr, node, nr_pages, mark, flags)


@jit
def free_frame(k, fr, i):
    """Give the pages of frame i back (free_unref_page). It must be on no list and uncharged."""
    z = fr[i].zone
    nr = fr[i].nr_pages
    k.vmstat[VM_PGFREE] += nr
    fr[i].mapping = -1
    fr[i].pte = -1
    fr[i].memcg = -1
    flags = fr[i].flags
    if flags & PG_HUGE:
        split_huge_page(k, fr, i)
    fr[i].flags = 0
    if flags & PG_SCATTERED:
        k.zone[z].bag_lru -= nr
        free_scattered(k, fr, z, nr, MT_MOVABLE)
        fr[i].next = k.frames_free_spare
        k.frames_free_spare = i
        return
    pcp_free(k, fr, z, k.cpu % PCP_CPUS, i)


@jit
def free_huge_page(k, fr, i):
    """Give the block back whose first frame is i, as a whole (destroy_large_folio).

    All of it must be on no list and uncharged.
    """
    k.vmstat[VM_PGFREE] += 1 << PAGEBLOCK_ORDER
    for j in range(i, i + huge_pages(k)):
        fr[j].mapping = -1
        fr[j].pte = -1
        fr[j].memcg = -1
        fr[j].flags = 0
    pcp_free_huge(k, fr, fr[i].zone, k.cpu % PCP_CPUS, i)


@jit
def put_back_frame(k, fr, i):
    """Undo the allocation of frame i, which nobody has used yet."""
    if fr[i].flags & PG_SCATTERED:
        free_frame(k, fr, i)
        return
    k.vmstat[VM_PGALLOC] -= fr[i].nr_pages
    fr[i].memcg = -1
    pcp_put(k, fr, fr[i].zone, k.cpu % PCP_CPUS, i)


_ATTEMPTS = 4  # LOW without mixing pageblocks, LOW, MIN, whatever is left


@jit
def _zones_to_try(k, node, attempt):
    """Zones of the zonelist that an attempt at single kernel pages looks at."""
    if attempt > 0:
        return k.nr_zones
    return ZONES_PER_NODE if alloc_flags_nofragment(k, node) else 0


@jit
def _room(k, z, attempt):
    """Single pages for the kernel that an attempt leaves to zone z: above its mark, or all.

    What a policy binds to some nodes stays there, but for the last (nodemask is reset).
    """
    zone = k.zone[z]
    if zone.managed == 0:
        return 0
    if attempt == _ATTEMPTS - 1:
        return zone.managed
    if not k.nodemask >> (z // ZONES_PER_NODE) & 1:
        return 0
    mark = zone.wmark[WMARK_MIN] if attempt == _ATTEMPTS - 2 else zone.wmark[WMARK_LOW]
    return zone.free - 1 - (mark + zone.boost + zone.reserve[HZ_NORMAL])


@jit
def alloc_kernel_pages(k, fr, nr, kind):
    """Take nr single pages for the kernel (page tables, slab, stacks); the pages obtained.

    kind : PCP_UNMOVABLE or PCP_RECLAIMABLE, whose per-cpu list they come through

    Zones from Normal down, to LOW first, then MIN, then whatever is left: these callers do
    not fail before the user page beside them does.
    """
    if k.captured == 1:
        return placing_pages(k, fr, nr, kind << 1)
    got = 0
    local = kernel_node(k)
    for attempt in range(_ATTEMPTS):
        for step in range(_zones_to_try(k, local, attempt)):
            if got >= nr:
                return got
            z = zonelist_zone(k, local, step)
            zone = k.zone[z]
            if step % ZONES_PER_NODE == 0 or _room(k, z, attempt) < nr - got:
                continue
            if zone.counters_only:
                got += alloc_scattered(k, fr, z, nr - got, MT_UNMOVABLE)
            else:
                k.nofragment = 1 if attempt == 0 else 0
                got += pcp_alloc_kernel(k, fr, z, k.cpu % PCP_CPUS, nr - got, kind)
                k.nofragment = 0
    return got


@jit
def _held_singly(k, z, mt):
    """Single pages of zone z and a type that are in use (those on per-cpu lists are nobody's)."""
    zone = k.zone[z]
    held = zone.bag_used[mt]
    if mt != MT_MOVABLE:
        held -= zone.pcp_kernel[mt >> 1].sum()
    if mt == (MT_UNMOVABLE if zone.counters_only else MT_MOVABLE):
        held -= zone.bag_lru
    return held


@jit
def free_kernel_pages(k, fr, nr, kind):
    """Give nr single kernel pages to the per-cpu lists of the zones they are counted in."""
    for step in range(k.nr_zones):
        if nr <= 0:
            return
        z = zonelist_zone(k, 0, step)
        counted = k.zone[z].counters_only
        part = min(nr, _held_singly(k, z, MT_UNMOVABLE if counted else kind << 1))
        if part > 0:
            if counted:
                free_scattered(k, fr, z, part, MT_UNMOVABLE)
            else:
                pcp_free_kernel(k, fr, z, k.cpu % PCP_CPUS, part, kind)
            nr -= part


@jit
def pool_free_pages(k, fr, nr, mt):
    """Give nr pages of a compressed pool back to the zones they are counted in."""
    for step in range(k.nr_zones):
        if nr <= 0:
            return
        z = zonelist_zone(k, 0, step)
        part = min(nr, _held_singly(k, z, MT_UNMOVABLE if k.zone[z].counters_only else mt))
        if part > 0:
            if mt == MT_MOVABLE and not k.zone[z].counters_only:
                pcp_free_movable(k, fr, z, k.cpu % PCP_CPUS, part)
            else:
                free_scattered(k, fr, z, part, mt)
            nr -= part


@jit
def pool_alloc_pages(k, fr, nr, mt):
    """Single pages for a compressed pool from within reclaim: those obtained, nr at most.

    mt : MT_MOVABLE for zsmalloc, whose pages can be migrated; MT_UNMOVABLE for zbud and z3fold
    (zpool_malloc_support_movable())

    As nr calls of :func:`alloc_kernel_pages` for one page: the marks are tried first, in all
    zones; the reclaimer runs with PF_MEMALLOC, so when every zone is below MIN none holds it
    back (ALLOC_NO_WATERMARKS).
    """
    if k.captured == 1:
        return placing_pages(k, fr, nr, mt)
    got = 0
    local = kernel_node(k)
    for attempt in range(_ATTEMPTS):
        for step in range(_zones_to_try(k, local, attempt)):
            if got >= nr:
                return got
            z = zonelist_zone(k, local, step)
            room = min(nr - got, _room(k, z, attempt))
            if step % ZONES_PER_NODE > 0 and room > 0:
                k.nofragment = 1 if attempt == 0 else 0
                if mt == MT_MOVABLE and not k.zone[z].counters_only:
                    got += pcp_alloc_movable(k, fr, z, k.cpu % PCP_CPUS, room)
                else:
                    got += alloc_scattered(k, fr, z, room, mt)
                k.nofragment = 0
    return got


@jit
def global_dirtyable(k):
    """Pages that may become dirty (mm/page-writeback.c, global_dirtyable_memory)."""
    free = global_free(k)
    total = free - min(free, k.total_reserve) + 1
    for z in range(k.nr_zones):
        total += k.zone[z].lru_pages[2] + k.zone[z].lru_pages[3]
    return total


@jit
def global_free(k):
    """NR_FREE_PAGES: free pages of all zones."""
    total = 0
    for z in range(k.nr_zones):
        total += k.zone[z].free
    return total
