"""First touches of a region, in order: one granule as the kernel does it, or many at once.

    touch_next   the next granule, by way of a fault
    touch_many   as many of them as nothing can hinder: what all have in common is done once

A day's curve and what is there at t = 0 are thousands of anonymous granules that meet free memory
above every mark and groups below every limit. For these each test of a fault has one outcome;
it is asked for once. The frames, their order and every count are those of single faults.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.cpuset import node_allowed
from capplan.mm.lruvec import count_pages, link_head, progress_now
from capplan.mm.memcg import charge_forced, pages_below_limits, reset_charge
from capplan.mm.page_alloc import alloc_flags_nofragment, zonelist_zone
from capplan.mm.page_alloc_slowpath import wake_if_mixed
from capplan.mm.pcp import SINGLE, pcp_alloc
from capplan.mm.rmap import add_mapped
from capplan.mm.state import (
    LRU_ACTIVE_ANON,
    LRU_INACTIVE_ANON,
    MAP_ANON,
    MAX_PAGE_ORDER,
    MEMCG_CHARGE_BATCH,
    MT_MOVABLE,
    PCP_CPUS,
    PG_ACTIVE,
    PG_MAPPED,
    PTE_NONE,
    PTE_PRESENT,
    ST_PGFAULT,
    VM_PGALLOC,
    VM_PGFAULT,
    WMARK_HIGH,
)
from capplan.sim.fault import FAULT_OK, fault, first_flags, page_tables
from capplan.sim.thp import thp_fault

__all__ = ["touch_many", "touch_next"]

HZ_MOVABLE = 3


@jit
def touch_next(k, fr, pt, t, v, left, per_page_ns):
    """First touch of the mapping's next granule: pages touched, or -1 - status."""
    mapping = k.mapping[k.vma[v].mapping]
    if mapping.thp_spare > 0:
        nr = min(mapping.thp_spare, min(k.granule_pages, left))
        mapping.thp_spare -= nr
        k.work_ns += per_page_ns * nr
        return nr
    if mapping.used >= mapping.nr_ptes:
        return 0
    nr = min(k.granule_pages, left)
    if mapping.thp and thp_fault(k, fr, pt, t, v):
        mapping.thp_spare -= nr
        k.work_ns += per_page_ns * nr
        return nr
    e = mapping.first_pte + mapping.used
    status = fault(k, fr, pt, t, v, e, nr, True)
    if status != FAULT_OK:
        return -1 - status
    mapping.used += 1
    mapping.size_pages += nr
    k.work_ns += per_page_ns * nr
    return nr


@jit
def _is_plain(k, t, v):
    """Whether all first touches of a region are plain faults of task t, whole granules in v2."""
    mapping = k.mapping[k.vma[v].mapping]
    task = k.task[t]
    if mapping.kind != MAP_ANON or mapping.via_read or mapping.thp or mapping.forks:
        return False
    if mapping.locked or k.vma[v].locked or task.over_high or task.oom_memcg:
        return False
    if k.nr_nodes > 1 or k.lru_gen or k.cgroup_v1 or k.captured == 1 or k.nr_reads:
        return False
    return k.granule_pages >= MEMCG_CHARGE_BATCH and not k.zone_reclaim_mode


@jit
def _granules_below_limits(k, c):
    """Granules, with the tables they need, that group c may be charged before a max or high."""
    return pages_below_limits(k, c) // (k.granule_pages + k.granule_pages // 512 + 1)


@jit
def _first_zone(k):
    """The zone that an only node's zonelist begins with; -1: none whose granules have frames."""
    for step in range(k.nr_zones):
        z = zonelist_zone(k, 0, step)
        if k.zone[z].managed > 0:
            return -1 if k.zone[z].counters_only or not node_allowed(k, 0) else z
    return -1


@jit
def _floor(k, z):
    """Free pages above which zone z gives a granule by every mark, its boost left out."""
    zone = k.zone[z]
    held = max(zone.nr_free_highatomic, zone.nr_reserved_highatomic)
    return zone.wmark[WMARK_HIGH] + zone.reserve[HZ_MOVABLE] + held + k.granule_pages


@jit
def touch_many(k, fr, pt, t, v, nr, per_page_ns):
    """First touches of whole granules, ``nr`` pages at most, that nothing can hinder: the pages.

    The same as :func:`touch_next` for each of them. Where it stops short of ``nr`` a fault has
    to look: at a limit, a mark, a pageblock of another type, a swapped entry.
    """
    mapping = k.mapping[k.vma[v].mapping]
    c = mapping.owner if mapping.owner >= 0 else k.proc[k.task[t].proc].memcg
    z = _first_zone(k)
    if nr < k.granule_pages or c <= 0 or z < 0 or not _is_plain(k, t, v):
        return 0
    most = min(nr >> k.g, min(_granules_below_limits(k, c), mapping.nr_ptes - mapping.used))
    floor = _floor(k, z)
    touched = 0
    while touched < most and k.zone[z].free - k.zone[z].boost > floor:
        entry = pt[mapping.first_pte + mapping.used]
        if entry.state != PTE_NONE or entry.swap >= 0 or not _place_next(k, fr, pt, v, z, c):
            break
        for _ in range(k.granule_pages // MEMCG_CHARGE_BATCH):
            k.work_ns += k.cost.charge_ns
        k.work_ns += k.cost.fault_ns * k.granule_pages
        k.work_ns += per_page_ns * k.granule_pages
        touched += 1
    if touched:
        _count_touched(k, pt, t, v, z, c, touched << k.g)
    return touched << k.g


@jit
def _has_granule(k, z, cpu):
    """Whether a zone has a granule at hand: on the list of a CPU, or in a Movable block."""
    zone = k.zone[z]
    order = k.g
    while order <= MAX_PAGE_ORDER and zone.head[order, MT_MOVABLE] < 0:
        order += 1
    return order <= MAX_PAGE_ORDER or zone.pcp_head[SINGLE, cpu] >= 0


@jit
def _place_next(k, fr, pt, v, z, c):
    """Put a frame of zone z under the region's next granule; false: no list has one at hand."""
    cpu = k.cpu % PCP_CPUS
    if not _has_granule(k, z, cpu):
        return False
    k.nofragment = 1 if alloc_flags_nofragment(k, 0) else 0
    i = pcp_alloc(k, fr, z, cpu)
    k.nofragment = 0
    wake_if_mixed(k, z)
    m = k.vma[v].mapping
    mapping = k.mapping[m]
    e = mapping.first_pte + mapping.used
    page = fr[i]
    page.flags = first_flags(k, mapping) | PG_MAPPED
    page.order = k.g
    page.nr_pages = k.granule_pages
    page.refs = 0
    page.swap = -1
    page.mapping = m
    page.pte = e
    page.memcg = c
    page.seen = progress_now(k, m)
    lru = LRU_ACTIVE_ANON if page.flags & PG_ACTIVE else LRU_INACTIVE_ANON
    link_head(k.memcg[c].lruvec[0], fr, i, lru)
    pt[e].nr_pages = k.granule_pages
    pt[e].frame = i
    pt[e].state = PTE_PRESENT
    page_tables(k, fr, v, mapping.used * k.granule_pages, k.granule_pages)
    mapping.used += 1
    return True


@jit
def _count_touched(k, pt, t, v, z, c, nr):
    """The books of nr pages that were placed."""
    m = k.vma[v].mapping
    mapping = k.mapping[m]
    mapping.size_pages += nr
    mapping.resident_pages += nr
    charge_forced(k, c, nr)
    reset_charge(k, t)
    k.vmstat[VM_PGALLOC] += nr
    k.vmstat[VM_PGFAULT] += nr
    k.memcg[c].stat[ST_PGFAULT] += nr
    add_mapped(k, pt, m, c, nr)
    flags = first_flags(k, mapping)
    count_pages(k, z, c, LRU_ACTIVE_ANON if flags & PG_ACTIVE else LRU_INACTIVE_ANON, nr)
