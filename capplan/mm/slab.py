"""Slab shrinkers: dentries and inodes under pressure (mm/shrinker.c, do_shrink_slab()).

    delta = ((freeable >> priority) * 4) / seeks; scan in batches of 128 objects, the rest waits

Objects are counted as dentries of 192 bytes, 21 to a page. One that was looked up once goes at the
first look (``slab_once`` pages of them, fs/dcache.c: dentry_lru_isolate); of the others half does:
a used dentry has its referenced bit and survives one look, which is what DEFAULT_SEEKS stands for.
Only unused objects are on a shrinker's list (list_lru_shrink_count()); what is in use,
``k.nr_slab_pinned``, counts as SReclaimable and is never freed. Freed pages count as progress of
global reclaim, of a memcg's up to 6.3 (feature ``memcg_slab_counts``): later it goes on, through
all priorities, until the LRU lists have given what was asked for (flush_reclaim_state).
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.page_alloc import free_kernel_pages
from capplan.mm.page_counter import (
    charge_memory,
    charge_memsw,
    uncharge_memory,
    uncharge_memsw,
)
from capplan.mm.pcp import PCP_RECLAIMABLE
from capplan.mm.state import (
    BUFFER_HEAD_SIZE,
    PAGE_SIZE,
    ST_KERNEL,
    ST_SLAB_RECLAIMABLE,
    VM_SLABS_SCANNED,
    XA_NODE_SIZE,
)

__all__ = ["charge_objects", "do_shrink_slab", "kept_slabs", "object_pages", "shrink_slab"]

SHRINK_BATCH = 128
MIN_PARTIAL = 5  # mm/slub.c: empty slabs that a node keeps
SEEKS = 2
OBJECTS_PER_PAGE = 21


@jit
def do_shrink_slab(freeable, delta, deferred, priority):
    """(Objects to scan now, those that wait), of ``freeable`` where ``delta`` more are due.

    Worked example: 300 freeable, 150 due: 128 now, 22 wait. 100 freeable, 50 due: 50 wait.
    """
    total = min((deferred >> priority) + delta, 2 * freeable)
    scanned = 0
    while total >= SHRINK_BATCH or total >= freeable > 0:
        part = min(SHRINK_BATCH, total)
        scanned += part
        total -= part
        if total <= 0:
            break
    return scanned, min(max(deferred + delta - scanned, 0), 2 * freeable)


@jit
def kept_slabs(k):
    """Slabs of a cache that stay without an object: a node's few, and one of each CPU's own."""
    return MIN_PARTIAL + k.nr_cpus


@jit
def object_pages(memcg):
    """Of a group's reclaimable slab what its page cache takes: index and buffers."""
    objects = memcg.xa_nodes * XA_NODE_SIZE + memcg.buffer_heads * BUFFER_HEAD_SIZE
    return (objects + PAGE_SIZE - 1) // PAGE_SIZE


@jit
def charge_objects(k, c, nr_nodes, nr_heads):
    """Group c has so many xarray nodes and buffer heads more: it pays for their bytes.

    Kernel
    ------
    mm/memcontrol.c, obj_cgroup_charge(): pages, of which the rest is kept for the next object.
    """
    if c <= 0:
        return
    memcg = k.memcg[c]
    before = object_pages(memcg)
    memcg.xa_nodes += nr_nodes
    memcg.buffer_heads += nr_heads
    nr = object_pages(memcg) - before
    if nr > 0 and k.captured == 1 and memcg.stat[ST_SLAB_RECLAIMABLE] >= before + nr:
        k.nr_slab_memcg -= nr  # among what it was charged for then
        return
    memcg.stat[ST_SLAB_RECLAIMABLE] += nr
    memcg.stat[ST_KERNEL] += nr
    if nr > 0:
        charge_memory(k, c, nr)
        if k.cgroup_v1:
            charge_memsw(k, c, nr)
    elif nr < 0:
        uncharge_memory(k, c, -nr)
        if k.cgroup_v1:
            uncharge_memsw(k, c, -nr)


@jit
def shrink_slab(k, fr, c):
    """Scan the reclaimable slab of group c (0: what no group pays for) at k.sc.priority."""
    sc = k.sc
    memcg = k.memcg[c]
    pages = memcg.stat[ST_SLAB_RECLAIMABLE] - object_pages(memcg)
    if c == 0:
        pages = k.nr_slab_reclaimable - k.nr_slab_pinned - k.nr_slab_memcg - k.nr_xa_pages
    if pages <= 0:
        return
    freeable = pages * OBJECTS_PER_PAGE * k.vfs_cache_pressure // 100
    delta = ((freeable >> sc.priority) * 4) // SEEKS
    scanned, memcg.slab_deferred = do_shrink_slab(freeable, delta, memcg.slab_deferred, sc.priority)
    k.vmstat[VM_SLABS_SCANNED] += scanned
    k.work_ns += k.cost.slab_scan_ns * scanned
    once = min(memcg.slab_once, scanned // OBJECTS_PER_PAGE)
    memcg.slab_once -= once
    freed = min(once + (scanned // OBJECTS_PER_PAGE - once) // 2, pages)
    if freed <= 0:
        return
    k.nr_slab_reclaimable -= freed
    if c > 0:
        k.nr_slab_memcg -= freed
        memcg.stat[ST_SLAB_RECLAIMABLE] -= freed
        memcg.stat[ST_KERNEL] -= freed
        uncharge_memory(k, c, freed)
        if k.cgroup_v1:
            uncharge_memsw(k, c, freed)
    free_kernel_pages(k, fr, freed, PCP_RECLAIMABLE)
    if sc.target == 0 or k.memcg_slab_counts:
        sc.nr_reclaimed += freed
