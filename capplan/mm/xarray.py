"""Nodes of the xarrays of page cache and swap cache (lib/xarray.c, mm/workingset.c).

    64 neighbours of a file, or of swap  -> one radix_tree_node, in slabs of 2^order pages
    a page goes, its shadow stays        -> the node stays too; only shadows in it: it is listed
    shrinker  of the nodes listed beyond an eighth of the pages half go, the oldest first

With a node go its shadows, and who misses their pages is no refault. A file's nodes are charged
to who read the first page, swap's to nobody. On kernels before swap_shadow_nodes those of swap
are on no list and stay until their slots are free.

Each entry says what its place in its node holds (``xa``), a node is a record behind the cells of
``pt``: one for 64 pages, or for a granule where that is larger, which then stands for several.

Departs from the kernel: the leaves only, those above them are 1/63 more. Swap's nodes are those of
the virtual side, not of slots. Tmpfs has nodes for its pages and their swap entries, none in swap.
Freed nodes leave whole slabs free as soon as they are enough. A node that leaves the list keeps its
place till the shrinker comes to it; if it is listed again then it goes to the end, where the kernel
has put it at once.
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import jit, prefetch
from capplan.mm.cpuset import numa_node_id
from capplan.mm.page_alloc import alloc_kernel_pages, free_kernel_pages
from capplan.mm.page_counter import (
    uncharge_memory,
    uncharge_memsw,
)
from capplan.mm.pcp import PCP_RECLAIMABLE
from capplan.mm.slab import charge_objects, do_shrink_slab, kept_slabs, object_pages
from capplan.mm.state import (
    CELLS,
    NR_LRU_LISTS,
    NS_PER_S,
    PAGE_SIZE,
    ST_KERNEL,
    ST_SLAB_RECLAIMABLE,
    VM_SLABS_SCANNED,
    XA_CHUNK_SHIFT,
    XA_NONE,
    XA_OBJECT_SIZE,
    XA_PAGE,
    XA_SHADOW,
    XA_SHMEM,
)

__all__ = [
    "ask_for_node",
    "calculate_order",
    "mem_cgroup_flush_stats",
    "reparent_shadow_nodes",
    "shrink_shadow_nodes",
    "xa_init",
    "xa_move",
    "xa_node_shift",
    "xa_store",
    "xa_store_file",
    "xa_store_swap",
]

FLUSH_TIME_NS = 2 * NS_PER_S  # mm/memcontrol.c, FLUSH_TIME
SLUB_MAX_ORDER = 3  # PAGE_ALLOC_COSTLY_ORDER
# A node's record: links of the list it is on, slots in use, those with shadows, group and node
# that it is of, the kernel's nodes that it stands for; LISTED: flags.
PREV, NEXT, COUNT, VALUES, MEMCG, NID, NODES, LISTED = 0, 1, 2, 3, 4, 5, 6, 7
# It can be listed; it is, and counted; it has a place; it left the list since it got that.
NEVER, CAN_BE, COUNTED, LINKED, AGAIN = 0, 1, 2, 4, 8


def calculate_order(size: int, nr_cpus: int) -> int:
    """Order of the slabs of a cache: 4 objects for each bit of the number of CPUs.

    Kernel
    ------
    mm/slub.c, calculate_order(), with at most 1/16 of a slab unused.

    Worked example
    --------------
    Objects of 584 bytes: order 1, 14 of them, with 1 to 3 CPUs; order 2, 28, with 4 to 63.
    """
    objects = min(4 * (nr_cpus.bit_length() + 1), (PAGE_SIZE << SLUB_MAX_ORDER) // size)
    order = (-(-objects * size // PAGE_SIZE) - 1).bit_length()
    while order < SLUB_MAX_ORDER and (PAGE_SIZE << order) % size > (PAGE_SIZE << order) // 16:
        order += 1
    return order


def xa_node_shift(g: int) -> int:
    """Granules of one node, as a power of two, where granules have 2^g pages."""
    return max(XA_CHUNK_SHIFT - g, 0)


def xa_init(k: Any) -> None:
    """Where the records of nodes are, and how many nodes a slab has."""
    k.xa_node_shift = xa_node_shift(int(k.g))
    k.first_xa_node = int(k.nr_entries) + -(-int(k.nr_entries) // CELLS)
    k.xa_slab_order = calculate_order(XA_OBJECT_SIZE, max(int(k.nr_cpus), 1))
    k.xa_slab_nodes = (PAGE_SIZE << int(k.xa_slab_order)) // XA_OBJECT_SIZE


@jit
def _grow(k: Any, fr: Any, nid: int, swap: bool) -> None:
    """Slabs for the nodes that there are (allocate_slab()).

    What was there when the run began is part of the slab that was seen then. Swap's nodes are
    asked for without __GFP_KSWAPD_RECLAIM (add_to_swap()).
    """
    node = k.node[nid]
    pages = 1 << k.xa_slab_order
    while node.xa_nodes > node.xa_slabs * k.xa_slab_nodes:
        free = k.nr_slab_reclaimable - k.nr_slab_pinned - k.nr_slab_memcg - k.nr_xa_pages
        if k.captured != 1 or free < pages:
            k.no_kswapd = 1 if swap else 0
            got = alloc_kernel_pages(k, fr, pages, PCP_RECLAIMABLE)
            k.no_kswapd = 0
            if got < pages:
                free_kernel_pages(k, fr, got, PCP_RECLAIMABLE)
                return
            k.nr_slab_reclaimable += pages
        k.nr_xa_pages += pages
        node.xa_slabs += 1


@jit
def _shrink(k: Any, fr: Any, nid: int) -> None:
    """Give slabs without a node back, but those that are kept (discard_slab())."""
    node = k.node[nid]
    pages = 1 << k.xa_slab_order
    kept = kept_slabs(k)
    while (node.xa_slabs - kept - 1) * k.xa_slab_nodes >= node.xa_nodes:
        node.xa_slabs -= 1
        k.nr_xa_pages -= pages
        k.nr_slab_reclaimable -= pages
        free_kernel_pages(k, fr, pages, PCP_RECLAIMABLE)


@jit
def _link(k: Any, pt: Any, x: int) -> None:
    """Node x goes to the end of its group's list."""
    node = pt[x].cells
    lruvec = k.memcg[node[MEMCG]].lruvec[node[NID]]
    last = lruvec.shadow_tail
    node[PREV] = last
    node[NEXT] = -1
    if last >= 0:
        pt[last].cells[NEXT] = x
    else:
        lruvec.shadow_head = x
    lruvec.shadow_tail = x
    node[LISTED] = node[LISTED] & ~AGAIN | LINKED


@jit
def _unlink(k: Any, pt: Any, x: int) -> None:
    node = pt[x].cells
    lruvec = k.memcg[node[MEMCG]].lruvec[node[NID]]
    before, after = node[PREV], node[NEXT]
    if before >= 0:
        pt[before].cells[NEXT] = after
    else:
        lruvec.shadow_head = after
    if after >= 0:
        pt[after].cells[PREV] = before
    else:
        lruvec.shadow_tail = before
    node[LISTED] &= ~LINKED


@jit
def _update_node(k: Any, pt: Any, x: int) -> None:
    """Node x is listed if there is nothing but shadows in it (workingset_update_node())."""
    node = pt[x].cells
    listed = node[LISTED]
    alone = node[COUNT] == node[VALUES] and node[COUNT] > 0
    if listed == NEVER or alone == (listed & COUNTED != 0):
        return
    lruvec = k.memcg[node[MEMCG]].lruvec[node[NID]]
    if not alone:
        lruvec.shadow_nodes -= node[NODES]
        node[LISTED] = listed & ~COUNTED
        return
    lruvec.shadow_nodes += node[NODES]
    node[LISTED] = listed | COUNTED | AGAIN
    if not listed & LINKED:
        _link(k, pt, x)  # its first place is its right one


@jit
def _new_node(k: Any, fr: Any, pt: Any, x: int, c: int, pages: int, listed: int) -> None:
    node = pt[x].cells
    c = max(c, 0)
    nid = numa_node_id(k)
    if node[LISTED] & LINKED and (node[MEMCG] != c or node[NID] != nid or listed == NEVER):
        _unlink(k, pt, x)
    node[MEMCG] = c
    node[NID] = nid
    node[NODES] = max((pages + (1 << XA_CHUNK_SHIFT) - 1) >> XA_CHUNK_SHIFT, 1)
    node[LISTED] = listed | node[LISTED] & LINKED
    k.node[node[NID]].xa_nodes += node[NODES]
    _grow(k, fr, nid, c == 0)
    charge_objects(k, c, node[NODES], 0)


@jit
def _free_node(k: Any, fr: Any, pt: Any, x: int) -> None:
    node = pt[x].cells
    k.node[node[NID]].xa_nodes -= node[NODES]
    charge_objects(k, node[MEMCG], -node[NODES], 0)
    _shrink(k, fr, node[NID])


@jit
def ask_for_node(k: Any, pt: Any, e: int) -> None:
    """Entry e is stored to soon: ask memory for its node's record."""
    prefetch(pt, k.first_xa_node + (e >> k.xa_node_shift))


@jit
def xa_store(k: Any, fr: Any, pt: Any, e: int, c: int, what: int, listed: int) -> None:
    """The place of entry e in its node holds ``what`` from now on, one of XA_*.

    Parameters
    ----------
    c : int
        Group that a new node is charged to.
    listed : int
        Whether a new node can be on the list of those with shadows only.

    Kernel
    ------
    lib/xarray.c, xas_store(), xas_create(), xas_delete_node(); mm/workingset.c,
    workingset_update_node().

    Worked example
    --------------
    Single pages: page 0 of a file makes a node, pages 1 to 63 are in it too. When 63 of the 64
    are shadows it is on no list, with the last one it is; when all are gone it is free.
    """
    entry = pt[e]
    was = entry.xa
    if was == what or k.first_xa_node == 0:
        return
    entry.xa = what
    x = k.first_xa_node + (e >> k.xa_node_shift)
    node = pt[x].cells
    if was == XA_NONE:
        if node[COUNT] == 0:
            _new_node(k, fr, pt, x, c, entry.nr_pages, listed)
        node[COUNT] += 1
    elif what == XA_NONE:
        node[COUNT] -= 1
    if was == XA_SHADOW:
        node[VALUES] -= 1
    elif what == XA_SHADOW:
        node[VALUES] += 1
    _update_node(k, pt, x)
    if node[COUNT] == 0:
        _free_node(k, fr, pt, x)


@jit
def xa_store_file(k: Any, fr: Any, pt: Any, e: int, c: int, shmem: bool) -> None:
    """Entry e of a file, or of tmpfs, has a page that group c pays for (filemap_add_folio())."""
    xa_store(k, fr, pt, e, c, XA_SHMEM if shmem else XA_PAGE, NEVER if shmem else CAN_BE)


@jit
def xa_store_swap(k: Any, fr: Any, pt: Any, e: int, what: int) -> None:
    """The same for the swap cache (add_to_swap_cache(), __delete_from_swap_cache())."""
    if pt[e].xa != XA_SHMEM:
        xa_store(k, fr, pt, e, 0, what, CAN_BE if k.swap_shadow_nodes else NEVER)


@jit
def xa_move(k: Any, fr: Any, pt: Any, e: int, f: int) -> None:
    """What entry e has in swap is entry f's."""
    what = pt[e].xa
    xa_store_swap(k, fr, pt, e, XA_NONE)
    xa_store_swap(k, fr, pt, f, what)


@jit
def _drop_shadows(k: Any, fr: Any, pt: Any, x: int) -> None:
    """Free node x, and forget the shadows in it (shadow_lru_isolate())."""
    node = pt[x].cells
    first = (x - k.first_xa_node) << k.xa_node_shift
    for e in range(first, min(first + (1 << k.xa_node_shift), k.nr_entries)):
        if pt[e].xa == XA_SHADOW:
            pt[e].xa = XA_NONE
            pt[e].memcg = -1
    node[COUNT] = 0
    node[VALUES] = 0
    _update_node(k, pt, x)
    _free_node(k, fr, pt, x)


@jit
def _local_pages(lruvec: Any) -> int:
    """LRU pages of a group itself (lruvec_page_state_local())."""
    pages = 0
    for lru in range(NR_LRU_LISTS):
        pages += lruvec.pages[lru]
    return pages


@jit
def mem_cgroup_flush_stats(k: Any) -> None:
    """Sum up the groups' LRU pages, for those who look at the sums (mm/memcontrol.c)."""
    k.flushed_ns = k.now_ns
    for c in range(k.nr_memcgs):
        for n in range(k.nr_nodes):
            lruvec = k.memcg[c].lruvec[n]
            lruvec.flushed_pages = _local_pages(lruvec)


@jit
def _freeable(k: Any, c: int, n: int) -> int:
    """Nodes with shadows only that group c has too many on node n (count_shadow_nodes()).

    The pages are those of the last sum: the classic LRU sums up before it scans
    (prepare_scan_control()), the multi-gen LRU does not, and sees what a timer, or who reads
    memory.stat, has summed up. A group's slab is taken to be spread evenly over the nodes.
    """
    lruvec = k.memcg[c].lruvec[n]
    if not k.lru_gen:
        pages = _local_pages(lruvec)
    else:
        if k.now_ns >= k.flushed_ns + FLUSH_TIME_NS:
            mem_cgroup_flush_stats(k)
        pages = lruvec.flushed_pages
    pages += k.memcg[c].stat[ST_SLAB_RECLAIMABLE] // k.nr_nodes
    return lruvec.shadow_nodes - (pages >> (XA_CHUNK_SHIFT - 3))  # type: ignore[no-any-return]


@jit
def shrink_shadow_nodes(k: Any, fr: Any, pt: Any, c: int, n: int) -> None:
    """Run the shrinker for group c (0: what no group pays for) on node n at k.sc.priority.

    Kernel
    ------
    mm/workingset.c, count_shadow_nodes(), scan_shadow_nodes().

    Worked example
    --------------
    A group with 800 pages on node 0 keeps 100 nodes. It has 400: 300 are too many, 150 of them
    are put up, 128 of these are freed at once and 22 wait.
    """
    lruvec = k.memcg[c].lruvec[n]
    if lruvec.shadow_nodes == 0:
        return
    freeable = _freeable(k, c, n)
    if freeable <= 0:
        return
    left, lruvec.shadow_deferred = do_shrink_slab(
        freeable, freeable // 2, lruvec.shadow_deferred, k.sc.priority
    )
    before = k.nr_xa_pages
    k.vmstat[VM_SLABS_SCANNED] += left
    k.work_ns += k.cost.slab_scan_ns * left
    while left > 0 and lruvec.shadow_head >= 0:
        x = lruvec.shadow_head
        listed = pt[x].cells[LISTED]
        _unlink(k, pt, x)
        if listed & COUNTED and listed & AGAIN:
            _link(k, pt, x)
        elif listed & COUNTED:
            left -= pt[x].cells[NODES]
            _drop_shadows(k, fr, pt, x)
    if k.sc.target == 0 or k.memcg_slab_counts:
        k.sc.nr_reclaimed += before - k.nr_xa_pages


@jit
def reparent_shadow_nodes(k: Any, pt: Any, c: int) -> None:
    """The nodes and buffer heads of group c, which is removed, are its parent's.

    Kernel: mm/list_lru.c, memcg_reparent_list_lrus(); mm/memcontrol.c, memcg_reparent_objcgs().
    """
    if k.first_xa_node == 0:
        return
    memcg = k.memcg[c]
    above = memcg.parent
    last = k.first_xa_node + ((k.nr_entries - 1) >> k.xa_node_shift)
    for x in range(k.first_xa_node, last + 1):
        node = pt[x].cells
        listed = node[LISTED]
        if node[MEMCG] != c or (node[COUNT] == 0 and not listed & LINKED):
            continue
        if listed & LINKED:
            _unlink(k, pt, x)
        if listed & COUNTED:
            k.memcg[c].lruvec[node[NID]].shadow_nodes -= node[NODES]
            k.memcg[above].lruvec[node[NID]].shadow_nodes += node[NODES]
        node[MEMCG] = above
        if listed & COUNTED:
            _link(k, pt, x)
    pages = object_pages(memcg)
    memcg.memory.usage -= pages
    if k.cgroup_v1:
        memcg.memsw.usage -= pages
    memcg.stat[ST_SLAB_RECLAIMABLE] -= pages
    memcg.stat[ST_KERNEL] -= pages
    nodes, heads = memcg.xa_nodes, memcg.buffer_heads
    memcg.xa_nodes = 0
    memcg.buffer_heads = 0
    if above > 0:
        heir = k.memcg[above]
        more = -object_pages(heir)
        heir.xa_nodes += nodes
        heir.buffer_heads += heads
        more += object_pages(heir)
        heir.stat[ST_SLAB_RECLAIMABLE] += more
        heir.stat[ST_KERNEL] += more
        uncharge_memory(k, above, pages - more)
        if k.cgroup_v1:
            uncharge_memsw(k, above, pages - more)
