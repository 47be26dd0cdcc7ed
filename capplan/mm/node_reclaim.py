"""vm.zone_reclaim_mode: a node gives up its page cache before its tasks spill to another node.

    LOW (or MIN) of a zone of the local node fails -> node_reclaim() of 32 pages -> the zone again
    not worth it: page cache beyond vm.min_unmapped_ratio (1 %), or slab beyond vm.min_slab_ratio

mm/vmscan.c, node_reclaim(); mm/page_alloc.c, get_page_from_freelist(). Off by default. Mode 1 takes
clean page cache that nobody has mapped; 2 writes dirty pages too; 4 takes what is mapped, so that
anonymous pages are swapped. Since the multi-gen LRU does not look for unmapped clean pages
(lru_gen_shrink_node()), there only all bits together take anything.

Departs from the kernel: no node is further than RECLAIM_DISTANCE (30; two sockets are at 20 or
21), and every node has CPUs, so that only the local node is reclaimed. Pages of a node under
writeback count as dirty. Slab is thought to be spread over the nodes as their memory is.
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import jit
from capplan.mm.cpuset import node_allowed, numa_node_id
from capplan.mm.page_alloc import (
    get_page_from_freelist,
    node_dirty_ok,
    rmqueue,
    zonelist_zone,
)
from capplan.mm.reclaim import init_scan_control
from capplan.mm.state import (
    LRU_ACTIVE_FILE,
    LRU_INACTIVE_FILE,
    SWAP_CLUSTER_MAX,
    VM_ZONE_RECLAIM_FAILED,
    VM_ZONE_RECLAIM_SUCCESS,
    ZONES_PER_NODE,
)
from capplan.mm.swap import complete_io, local_ns
from capplan.mm.vmscan import shrink_node
from capplan.mm.watermark import ALLOC_NOFRAGMENT, zone_watermark_ok_free

__all__ = ["get_page", "node_pagecache_reclaimable", "node_reclaim"]

RECLAIM_WRITE, RECLAIM_UNMAP = 2, 4
NODE_RECLAIM_PRIORITY = 4
PERCENT = 100
HZ_MOVABLE = 3


@jit
def node_pagecache_reclaimable(k: Any, n: int) -> int:
    """Page cache of a node that the mode lets go.

    Worked example
    --------------
    1000 pages on the file lists, 300 mapped, 200 dirty: mode 1 500, mode 3 700, mode 7 1000.
    """
    file = 0
    for z in range(n * ZONES_PER_NODE, (n + 1) * ZONES_PER_NODE):
        file += k.zone[z].lru_pages[LRU_INACTIVE_FILE] + k.zone[z].lru_pages[LRU_ACTIVE_FILE]
    if not k.zone_reclaim_mode & RECLAIM_UNMAP:
        file = max(file - k.node[n].nr_file_mapped, 0)
    if not k.zone_reclaim_mode & RECLAIM_WRITE:
        file = max(file - k.node[n].nr_dirty, 0)
    return file


@jit
def _ratio_pages(k: Any, n: int, percent: int) -> int:
    """A share of a node's managed pages, zone by zone (setup_min_unmapped_ratio)."""
    total = 0
    for z in range(n * ZONES_PER_NODE, (n + 1) * ZONES_PER_NODE):
        total += k.zone[z].managed * percent // PERCENT
    return total


@jit
def _is_worth_it(k: Any, n: int) -> bool:
    if node_pagecache_reclaimable(k, n) > _ratio_pages(k, n, k.min_unmapped_ratio):
        return True
    managed = _ratio_pages(k, n, PERCENT)
    slab = k.nr_slab_reclaimable * managed // max(k.totalram, 1)
    return bool(slab > _ratio_pages(k, n, k.min_slab_ratio))


@jit
def node_reclaim(k: Any, fr: Any, pt: Any, n: int) -> bool:
    """Free some pages of the local node; whether it did.

    Kernel
    ------
    mm/vmscan.c, node_reclaim(), __node_reclaim(): from a sixteenth of the lists on, until
    one page is free.
    """
    if not _is_worth_it(k, n):
        return False
    begin = k.work_ns + k.wait_ns
    init_scan_control(k, 0, SWAP_CLUSTER_MAX, 1)
    sc = k.sc
    sc.priority = NODE_RECLAIM_PRIORITY
    sc.may_writepage = 1 if k.zone_reclaim_mode & RECLAIM_WRITE else 0
    sc.may_unmap = 1 if k.zone_reclaim_mode & RECLAIM_UNMAP else 0
    while True:
        shrink_node(k, fr, pt, n)
        sc.priority -= 1
        if sc.nr_reclaimed > 0 or sc.priority < 0:
            break
    complete_io(k, fr, local_ns(k))
    k.memstall_ns += k.work_ns + k.wait_ns - begin
    success = sc.nr_reclaimed > 0
    k.vmstat[VM_ZONE_RECLAIM_SUCCESS if success else VM_ZONE_RECLAIM_FAILED] += 1
    return bool(success)


@jit
def _zone_ok(k: Any, z: int, nr_pages: int, mark: int, flags: int) -> bool:
    zone = k.zone[z]
    left = zone.free - (nr_pages - 1)  # when the last page of the granule is asked for
    asked = zone.wmark[mark] + zone.boost
    return bool(zone_watermark_ok_free(k, z, 0, asked, HZ_MOVABLE, flags, left))


@jit
def _from_local_zones(
    k: Any, fr: Any, pt: Any, n: int, nr_pages: int, mark: int, flags: int
) -> int:
    """A frame of the local node, each of its zones tried once more after a reclaim; -1: none."""
    for step in range(ZONES_PER_NODE):
        z = zonelist_zone(k, n, step)
        if k.zone[z].managed == 0:
            continue
        ok = _zone_ok(k, z, nr_pages, mark, flags)
        if not ok and node_reclaim(k, fr, pt, n):
            ok = _zone_ok(k, z, nr_pages, mark, flags)
        i = rmqueue(k, fr, z, nr_pages) if ok else -1
        if i >= 0:
            return i
    return -1


@jit
def get_page(k: Any, fr: Any, pt: Any, node: int, nr_pages: int, mark: int, flags: int) -> int:
    """A frame for user memory from the first zone that stays above its mark, -1: none does.

    With vm.zone_reclaim_mode the local node is reclaimed before another one is asked.
    """
    local = numa_node_id(k)
    near = k.zone_reclaim_mode != 0 and node == local and node_allowed(k, local)
    if near and k.captured != 1 and not (k.spread_dirty and not node_dirty_ok(k, local)):
        k.nofragment = 1 if flags & ALLOC_NOFRAGMENT else 0
        i = _from_local_zones(k, fr, pt, local, nr_pages, mark, flags)
        k.nofragment = 0
        if i >= 0:
            return i
    return get_page_from_freelist(k, fr, node, nr_pages, mark, flags)  # type: ignore[no-any-return]
