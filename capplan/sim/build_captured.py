"""Free lists of a node whose state was captured: what is in use is worked out from what is free.

The engine places what processes, caches and slab held in the pages that were in use
(:mod:`capplan.mm.captured`). Here they are counted beforehand, so that they fit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from capplan.mm import state as s
from capplan.mm.freelists import buddy_init, buddy_init_captured
from capplan.sim.scenario import LruLists, Scenario, Zone

__all__ = ["capture_free_lists", "capture_lru", "zone_number"]

MIGRATETYPES = {
    "Unmovable": s.MT_UNMOVABLE, "Movable": s.MT_MOVABLE, "Reclaimable": s.MT_RECLAIMABLE,
    "HighAtomic": s.MT_HIGHATOMIC,
}  # fmt: skip
PTES_PER_TABLE = 512
PCP_BATCH_SCALE_MAX = 5  # CONFIG_PCP_BATCH_SCALE_MAX: a refill takes up to batch << 5 pages


def zone_number(zone: Zone) -> int:
    """Index of a zone in ``k.zone``."""
    return zone.node * s.ZONES_PER_NODE + s.ZONE_NAMES.index(zone.name)


def held_pages(scenario: Scenario) -> int:
    """Pages that are placed before t = 0, page tables estimated from above. [pages]"""
    node = scenario.node
    pages = node.daemon_anon_pages + node.daemon_file_pages + node.daemon_shmem_pages
    pages += node.slab_reclaimable_pages
    pages += sum(group.slab_reclaimable_pages for group in scenario.cgroups)
    pages += sum(mapping.resident_pages for mapping in scenario.mappings)
    extents = {m.name: m.resident_pages + m.swapped_pages for m in scenario.mappings}
    for process in scenario.processes:
        if process.start_ns == 0:
            tables = (extents.get(name, 0) // PTES_PER_TABLE + 1 for name in process.mappings)
            pages += process.kernel_pages + process.sparse_tables + sum(tables)
    return pages


def capture_free_lists(k: Any, frames: np.ndarray[Any, Any], scenario: Scenario) -> tuple[str, ...]:
    """Put the captured free blocks by, and leave what was in use to be placed in.

    Where more is to be placed than was in use (a report that left something out), the largest
    zone has fewer free pages than were seen; the note says so.
    """
    node = scenario.node
    k.captured = 1
    k.nr_slab_reclaimable = node.slab_reclaimable_pages
    k.nr_slab_pinned = node.slab_pinned_pages
    k.nr_anon += node.daemon_locked_pages
    k.nr_mlocked += node.daemon_locked_pages
    k.nr_slab_unreclaimable -= node.daemon_locked_pages  # they are among what nobody placed
    framed = [zone for zone in node.zones if not k.zone[zone_number(zone)].counters_only]
    free = {id(zone): min(zone.free or 0, zone.managed) for zone in node.zones}
    # what rounding to granules takes, and a refill of the per-cpu list may leave over
    batches = sum(int(k.zone[zone_number(zone)].pcp_batch) for zone in framed)
    spare = (batches << PCP_BATCH_SCALE_MAX) + len(framed) * int(k.granule_pages)
    used = sum(zone.managed - free[id(zone)] for zone in framed)
    short = held_pages(scenario) + spare - used
    for zone in sorted(framed, key=lambda zone: -free[id(zone)]):
        taken = min(max(short, 0), free[id(zone)])
        free[id(zone)] -= taken
        short -= taken
    for zone in node.zones:
        _one_zone(k, frames, zone, free[id(zone)])
    gone = sum((zone.free or 0) - free[id(zone)] for zone in framed)
    note = (
        f"what is captured adds up to {gone * 4} KiB more than was in use: so much less is free "
        "at the start than was seen"
    )
    return (note,) if gone > 0 else ()


def _one_zone(k: Any, frames: np.ndarray[Any, Any], zone: Zone, free: int) -> None:
    z = zone_number(zone)
    record = k.zone[z]
    record.pcp_boot = zone.pcp_pages
    record.boost_boot = zone.boost
    if record.counters_only:
        buddy_init(k, frames, z, free, zone.buddyinfo)
        k.nr_slab_unreclaimable += zone.managed - free
        return
    blocks = {s.MT_MOVABLE: zone.buddyinfo or ()}
    if zone.pagetypeinfo is not None:
        blocks = {MIGRATETYPES[name]: counts for name, counts in zone.pagetypeinfo.items()}
    used = zone.managed - free
    buddy_init_captured(k, frames, z, free, used, blocks)
    k.nr_slab_unreclaimable += used - int(record.free)


def capture_lru(k: Any, scenario: Scenario, index: dict[str, int]) -> None:
    """Note how old what each captured group holds is, for the lists that this kernel has."""
    for path, lists in scenario.lru:
        if path not in index or not scenario.node.captured:
            continue
        memcg = k.memcg[index[path]]
        parts = generations(lists) if k.lru_gen else inactive_and_active(lists)
        memcg.seen_lists = len(parts.anon)
        for d, (anon, file) in enumerate(zip(parts.anon, parts.file, strict=True)):
            memcg.seen_pages[d] = (anon, file)
        for d, age_ns in enumerate(parts.age_ns):
            memcg.seen_age_ns[d] = age_ns


def generations(lists: LruLists) -> LruLists:
    """Lists as generations: a page that comes in inactive goes to the second of four, an active
    one to the youngest (lru_gen_add_folio()).
    """
    if lists.age_ns:
        return lists
    (cold_anon, warm_anon), (cold_file, warm_file) = lists.anon, lists.file
    return LruLists((0, cold_anon, 0, warm_anon), (0, cold_file, 0, warm_file), (0, 0, 0, 0))


def inactive_and_active(lists: LruLists) -> LruLists:
    """Generations as two lists: the two youngest are what is reported as active
    (lru_gen_is_active()).
    """
    anon, file = lists.anon, lists.file
    if not lists.age_ns:
        return lists
    return LruLists((sum(anon[:-2]), sum(anon[-2:])), (sum(file[:-2]), sum(file[-2:])))
