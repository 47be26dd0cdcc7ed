"""A :class:`~capplan.sim.scenario.Scenario` becomes kernel state.

The only bridge from what people write to ``mm``: names become indices, limits become
counters, the kernel's own boot-time arithmetic (marks, reserves, per-cpu lists) is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from capplan import release
from capplan.mm import state as s
from capplan.mm.buddy import buddy_init
from capplan.mm.watermark import (
    calculate_totalreserve_pages,
    init_per_zone_wmark_min,
    node_thresholds,
    set_zone_wmarks,
    setup_per_zone_wmarks,
)
from capplan.mm.zone import setup_per_zone_lowmem_reserve
from capplan.sim.build_captured import capture_free_lists, capture_lru, zone_number
from capplan.sim.build_tasks import build_tasks
from capplan.sim.costs import COSTS
from capplan.sim.scenario import Cgroup, Node, Scenario

__all__ = ["BuildError", "Machine", "build", "choose_granule", "give_back"]

# A big node takes the smallest granule that keeps it under this many (design: idea 2).
MAX_GRANULES = 262_144
SPARE_FRAMES = 4096
TINY_ZONE_GRANULES = 256  # a zone with fewer is counted only

SYSCTLS = {
    "vm.watermark_scale_factor": "watermark_scale_factor",
    "vm.watermark_boost_factor": "watermark_boost_factor",
    "vm.swappiness": "swappiness",
    "vm.vfs_cache_pressure": "vfs_cache_pressure",
    "vm.page-cluster": "page_cluster",
    "vm.dirty_ratio": "dirty_ratio",
    "vm.dirty_background_ratio": "dirty_background_ratio",
    "vm.dirty_bytes": "dirty_bytes",
    "vm.dirty_background_bytes": "dirty_background_bytes",
    "vm.panic_on_oom": "panic_on_oom",
    "vm.oom_kill_allocating_task": "oom_kill_allocating_task",
    "vm.extfrag_threshold": "extfrag_threshold",
    "vm.zone_reclaim_mode": "zone_reclaim_mode",
    "vm.min_unmapped_ratio": "min_unmapped_ratio",
    "vm.min_slab_ratio": "min_slab_ratio",
    "vm.compaction_proactiveness": "compaction_proactiveness",
    "vm.nr_hugepages": "nr_hugepages",
}
ZPOOLS = {"zbud": 0, "z3fold": 1, "zsmalloc": 2}


class BuildError(ValueError):
    """The scenario does not fit the engine (too many of something, or it cannot boot)."""


@dataclass
class Machine:
    """Kernel state and what its indices mean."""

    kernel: np.ndarray[Any, Any]  # (1,) kernel_t
    frames: np.ndarray[Any, Any]
    entries: np.ndarray[Any, Any]
    program: np.ndarray[Any, Any]
    scenario: Scenario
    cgroup_index: dict[str, int]
    proc_names: list[str]
    notes: tuple[str, ...] = ()


def choose_granule(total_pages: int, wanted: int | None) -> int:
    """Granule order g: the smallest that keeps the node under MAX_GRANULES, at most 9."""
    if wanted is not None:
        return min(max(wanted, 0), s.PAGEBLOCK_ORDER)
    g = 0
    while (total_pages >> g) > MAX_GRANULES and g < s.PAGEBLOCK_ORDER:
        g += 1
    return g


def build(scenario: Scenario, replicate: int = 0) -> Machine:
    """Kernel state at t = 0.

    Raises
    ------
    BuildError
        More cgroups, processes or regions than the tables hold; marks above memory.
    """
    kernel, frames, index, notes = _empty_node(scenario, keep=replicate > 0)
    k = kernel[0]
    k.seed = np.uint64(scenario.seed)
    k.replicate = np.uint64(replicate)
    entries, program, names = build_tasks(k, scenario, index)
    return Machine(kernel, frames, entries, program, scenario, index, names, notes)


Empty = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], dict[str, int], tuple[str, ...]]


def _empty_node(scenario: Scenario, *, keep: bool) -> Empty:
    """The node and its groups before any process; of many runs a copy of the first one's."""
    node = scenario.node
    made_of = (node, scenario.cgroups, scenario.cgroup_version, scenario.granule_order)
    if not keep or node.captured:  # what was captured is part of the processes too
        return _boot(scenario)
    if not _KEPT or _KEPT[0][0] != made_of:
        _KEPT[:] = [(made_of, _boot(scenario))]
        _SPARE.clear()
    kernel, frames, index, notes = _KEPT[0][1]
    own = _SPARE.pop() if _SPARE else None
    if own is None:
        own, kept = (np.empty_like(kernel), np.empty_like(frames)), []
    else:
        kept = _unused(own[0])
    begins, ends = [0, *(end for _, end in kept)], [*(begin for begin, _ in kept), None]
    # as bytes: numpy copies records field by field, which takes eight times as long, and
    # leaves the bytes between fields as they were
    for begin, end in zip(begins, ends, strict=True):
        own[0].view(np.uint8)[begin:end] = kernel.view(np.uint8)[begin:end]
    own[1].view(np.uint8)[:] = frames.view(np.uint8)
    return *own, dict(index), notes


def _unused(kernel: np.ndarray[Any, Any]) -> list[tuple[int, int]]:
    """Where the parts of its tables stand that a run had no use for, in bytes: two thirds of all.

    All groups, processes and regions are there from the start, so nothing was written there.
    """
    found = []
    for table in ("memcg", "proc", "task", "vma", "mapping"):  # in the order of kernel_t
        records = kernel[table]
        offset, size = records.ctypes.data - kernel.ctypes.data, records.strides[1]
        used = int(kernel[0][f"nr_{table}s"])
        found.append((offset + used * size, offset + records.shape[1] * size))
    return found


_KEPT: list[tuple[tuple[Any, ...], Empty]] = []  # the latest, if any
_SPARE: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []  # memory of its size, unused


def give_back(machine: Machine) -> None:
    """Let the next of many runs have the memory of a machine that nobody looks at any more.

    Fresh memory costs more than the copy into it: the kernel clears it page by page.
    """
    if _KEPT and not _SPARE and machine.frames.shape == _KEPT[0][1][1].shape:
        _SPARE.append((machine.kernel, machine.frames))


def _boot(scenario: Scenario) -> Empty:
    kernel = s.new_kernel()
    k = kernel[0]
    node = scenario.node
    total = sum(zone.managed for zone in node.zones)
    k.g = choose_granule(total, scenario.granule_order)
    k.granule_pages = 1 << int(k.g)
    notes = _features(k, node, scenario.cgroup_version)
    _sysctls(k, node)
    _costs(k, node)
    _devices(k, node)
    frames = _zones(k, node, total)
    if node.captured:
        notes += capture_free_lists(k, frames, scenario)
    else:
        _free_lists(k, frames, node)
    index = _cgroups(k, scenario.cgroups)
    capture_lru(k, scenario, index)
    return kernel, frames, index, notes


def _features(k: Any, node: Node, cgroup_version: str) -> tuple[str, ...]:
    known = release.resolve(node.release)
    for name, value in known.features.kernel_fields().items():
        k[name] = value
    if node.lru_gen is not None:
        k.lru_gen = int(node.lru_gen)
    k.cgroup_v1 = int(cgroup_version == "v1")
    k.zswap_exclusive_load = k.zeromap  # both came with 6.12's reading path
    k.watermark_scale_factor = known.features.watermark_scale_factor
    k.watermark_boost_factor = known.features.watermark_boost_factor
    k.compaction_proactiveness = known.features.compaction_proactiveness
    k.hz = node.hz
    k.nr_cpus = node.cpus
    k.thp_enabled = int(node.thp) << int(node.thp_compact)
    return (known.note,) if known.note else ()


def _sysctls(k: Any, node: Node) -> None:
    k.swappiness = 60
    k.vfs_cache_pressure = 100
    k.page_cluster = 3
    k.dirty_ratio = 20
    k.dirty_background_ratio = 10
    k.dirty_expire_ns = 30 * s.NS_PER_S
    k.dirty_writeback_ns = 5 * s.NS_PER_S
    k.extfrag_threshold = 500
    k.min_unmapped_ratio = 1
    k.min_slab_ratio = 5
    k.user_min_free_kbytes = -1
    for key, value in node.sysctl.items():
        if key in SYSCTLS:
            k[SYSCTLS[key]] = value
    k.proactive_due_ns = 0 if k.compaction_proactiveness else s.NEVER_NS
    if "vm.dirty_expire_centisecs" in node.sysctl:
        k.dirty_expire_ns = node.sysctl["vm.dirty_expire_centisecs"] * 10 * s.NS_PER_MS
    if "vm.dirty_writeback_centisecs" in node.sysctl:
        k.dirty_writeback_ns = node.sysctl["vm.dirty_writeback_centisecs"] * 10 * s.NS_PER_MS


def _costs(k: Any, node: Node) -> None:
    for name, cost in COSTS.items():
        k.cost[name] = node.costs.get(name, cost.value)
    unknown = sorted(set(node.costs) - set(COSTS))
    if unknown:
        msg = f"unknown costs {', '.join(unknown)}: expected some of {', '.join(COSTS)}"
        raise BuildError(msg)


def _devices(k: Any, node: Node) -> None:
    _limit("disks", len(node.disks), s.MAX_DISKS)
    _limit("swap areas", len(node.swaps), s.MAX_SWAPS)
    k.nr_disks = len(node.disks)
    k.nr_swaps = len(node.swaps)
    names = {disk.name: d for d, disk in enumerate(node.disks)}
    for d, disk in enumerate(node.disks):
        record = k.disk[d]
        for field in ("read_latency_ns", "write_latency_ns", "read_ns_per_page",
                      "write_ns_per_page", "random_read_ns"):  # fmt: skip
            record[field] = getattr(disk, field)
        record.rotational = int(disk.rotational)
        record.buffer_heads = int(disk.buffer_heads)
        record.max_request_pages = disk.max_request_pages
        record.max_plug_requests = disk.max_plug_requests
        record.queue_depth = 256  # nr_requests of a block queue
    for i, area in enumerate(node.swaps):
        record = k.swap[i]
        record.priority = area.priority
        record.disk = names.get(area.disk, 0)
        record.total = record.free = area.size_pages
        record.zram = int(area.zram)
        record.zram_limit = area.zram_limit_pages
    k.nr_rotate_swap = sum(
        int(k.disk[int(k.swap[i].disk)].rotational) for i in range(len(node.swaps))
    )
    k.totalswap = sum(area.size_pages for area in node.swaps)
    if node.zswap is not None:
        k.zswap_enabled = int(node.zswap.enabled)
        k.zswap_shrinker_enabled = int(k.zswap_shrinker and node.zswap.shrinker_enabled)
        k.zswap_zpool = ZPOOLS[node.zswap.zpool]
        k.zswap_max_pool_percent = node.zswap.max_pool_percent
        k.zswap_accept_percent = node.zswap.accept_threshold_percent


def _zones(k: Any, node: Node, total: int) -> np.ndarray[Any, Any]:
    k.nr_nodes = max(zone.node for zone in node.zones) + 1
    _limit("NUMA nodes", int(k.nr_nodes), s.MAX_NODES)
    k.nr_zones = int(k.nr_nodes) * s.ZONES_PER_NODE
    k.node["il_weight"][: int(k.nr_nodes)] = node.interleave_weights or 1
    k.totalram = total
    first = 0
    for zone in node.zones:
        record = k.zone[zone_number(zone)]
        record.managed = zone.managed
        record.present = zone.present
        record.spanned = zone.spanned
        granules = zone.managed >> int(k.g)
        record.counters_only = int(granules < TINY_ZONE_GRANULES)
        record.first_frame = first
        # room to lay captured blocks out apart from their buddies
        record.nr_frames = 0 if record.counters_only else _round_up(zone.spanned, 10) >> int(k.g)
        first += int(record.nr_frames)
    frames = s.new_frames(first + SPARE_FRAMES)
    _spares(k, frames, first)
    _marks(k, node)
    return frames


def _round_up(pages: int, order: int) -> int:
    return (pages + (1 << order) - 1) >> order << order


def _spares(k: Any, frames: np.ndarray[Any, Any], first: int) -> None:
    frames["next"][first:-1] = np.arange(first + 1, len(frames))
    k.frames_free_spare = first


def _marks(k: Any, node: Node) -> None:
    setup_per_zone_lowmem_reserve(k)
    for zone in node.zones:
        if zone.protection is not None:
            for j in range(min(4, len(zone.protection))):
                k.zone[zone_number(zone)].reserve[j] = zone.protection[j]
    wanted = node.sysctl.get("vm.min_free_kbytes")
    if wanted is not None:
        k.min_free_kbytes = k.user_min_free_kbytes = wanted
        setup_per_zone_wmarks(k)
    elif node.min_free_kbytes_in_force is not None:
        k.min_free_kbytes = node.min_free_kbytes_in_force
        setup_per_zone_wmarks(k)
    else:
        init_per_zone_wmark_min(k, node.thp, _ceiling(node))
    for zone in node.zones:
        if zone.wmark is not None:
            set_zone_wmarks(k, zone_number(zone), *zone.wmark, zone.boost)
    calculate_totalreserve_pages(k)
    k.wake_mark = node_thresholds(k).wake_kswapd
    largest = max(node.zones, key=lambda zone: zone.managed)
    mark = int(k.zone[zone_number(largest)].wmark[s.WMARK_HIGH])
    if mark >= largest.managed:
        msg = (
            f"this node cannot boot: zone {largest.name} has {largest.managed} pages and its "
            f"high watermark is {mark}; lower vm.min_free_kbytes or watermark_scale_factor"
        )
        raise BuildError(msg)
    for z in range(int(k.nr_zones)):
        _per_cpu_lists(k, k.zone[z])


def _ceiling(node: Node) -> int:
    return release.features(node.release).min_free_kbytes_max


def _per_cpu_lists(k: Any, zone: Any) -> None:
    """Batch and high of per-cpu lists (zone_batchsize, zone_highsize)."""
    batch = max(min(int(zone.managed) >> 10, 256) // 4, 1)
    batch += batch // 2
    batch = (1 << (batch.bit_length() - 1)) - 1
    zone.pcp_batch = max(batch, 1)
    cpus = int(k.nr_cpus)
    low = int(zone.wmark[s.WMARK_LOW])
    zone.pcp_high_min = max(low // cpus, 4 * int(zone.pcp_batch))
    zone.pcp_high_max = max(int(zone.managed) // 8 // cpus, 4 * int(zone.pcp_batch))
    if not k.pcp_auto:
        zone.pcp_high_max = zone.pcp_high_min
    zone.pcp_high[:] = zone.pcp_high_min


def _free_lists(k: Any, frames: np.ndarray[Any, Any], node: Node) -> None:
    """Free memory at t = 0, before what the system and the containers hold is placed."""
    used = node.kernel_pages + node.daemon_locked_pages
    placed = (
        node.daemon_anon_pages - node.daemon_locked_pages
        + node.daemon_file_pages + node.daemon_shmem_pages + node.slab_reclaimable_pages
    )  # fmt: skip
    largest = max(node.zones, key=lambda zone: zone.managed)
    for zone in node.zones:
        record = k.zone[zone_number(zone)]
        if zone.free is not None:
            record.pcp_boot = zone.pcp_pages
            free = zone.free + zone.pcp_pages + (placed if zone is largest else 0)
        else:
            free = zone.managed - (used if zone is largest else 0)
        if free <= 0 or free > zone.managed:
            free = min(max(free, 0), zone.managed)
        if zone.free is None and free == 0:
            msg = f"the system's {used * 4096 >> 20} MiB do not fit into zone {zone.name}"
            raise BuildError(msg)
        buddyinfo = zone.buddyinfo
        buddy_init(k, frames, zone_number(zone), free, buddyinfo)
    k.nr_slab_reclaimable = node.slab_reclaimable_pages
    k.nr_slab_pinned = node.slab_pinned_pages
    k.nr_slab_unreclaimable = node.kernel_pages
    k.nr_anon += node.daemon_locked_pages
    k.nr_mlocked += node.daemon_locked_pages


def _cgroups(k: Any, cgroups: tuple[Cgroup, ...]) -> dict[str, int]:
    """Number the groups in pre-order, 0 the root; parents that nobody declared are added."""
    declared = {group.path.strip("/"): group for group in cgroups}
    for path in list(declared):
        parts = path.split("/")
        for depth in range(1, len(parts)):
            declared.setdefault("/".join(parts[:depth]), Cgroup("/".join(parts[:depth])))
    heirs = {_heir(path): Cgroup(_heir(path)) for path in declared if declared[path].of_container}
    declared |= heirs
    order = sorted(declared, key=lambda path: _position(path, declared))
    _limit("cgroups", len(order) + 1, s.MAX_MEMCGS)
    index = {"": 0}
    k.nr_memcgs = len(order) + 1
    k.memcg[0].online = 1
    k.memcg[0].subtree_end = len(order) + 1
    for c, path in enumerate(order, 1):
        index[path] = c
        _one_cgroup(k, c, index[path.rpartition("/")[0]], declared[path])
        if path in heirs:
            k.memcg[c].online = 0
    for c in range(int(k.nr_memcgs) - 1, 0, -1):
        k.memcg[c].subtree_end = max(int(k.memcg[c].subtree_end), c + 1)
        parent = k.memcg[int(k.memcg[c].parent)]
        parent.subtree_end = max(int(parent.subtree_end), int(k.memcg[c].subtree_end))
    for path, group in declared.items():
        if group.of_container:
            k.memcg[index[path]].heir = index[_heir(path)]
    return {path: c for path, c in index.items() if path not in heirs}


def _heir(path: str) -> str:
    """Where what a removed group leaves is charged: one for all that have the same parent."""
    return f"{path.rpartition('/')[0]}/(removed)".lstrip("/")


def _position(path: str, declared: dict[str, Cgroup]) -> tuple[int, ...]:
    """Sort key: pre-order, children in the order in which they were declared."""
    numbers = {name: i for i, name in enumerate(declared)}
    parts = path.split("/")
    return tuple(numbers["/".join(parts[:depth])] for depth in range(1, len(parts) + 1))


def _pages(limit: int) -> int:
    return s.UNLIMITED if limit < 0 else limit


def _one_cgroup(k: Any, c: int, parent: int, group: Cgroup) -> None:
    memcg = k.memcg[c]
    memcg.parent = parent
    memcg.depth = k.memcg[parent].depth + 1
    memcg.online = 1
    memcg.mems_allowed = k.memcg[parent].mems_allowed
    if group.mems is not None:  # none of the parent's: the parent's (cpuset_hotplug_update)
        own = sum(1 << n for n in set(group.mems)) & int(memcg.mems_allowed)
        memcg.mems_allowed = own or memcg.mems_allowed
    memcg.memory.max = _pages(group.memory_max)
    memcg.memory.high = _pages(group.memory_high)
    memcg.memory.min = group.memory_min
    memcg.memory.low = group.memory_low
    memcg.swap.max = _pages(group.swap_max)
    memcg.swap.high = _pages(group.swap_high)
    memcg.memsw.max = _pages(group.memsw_max)
    memcg.zswap_max = _pages(group.zswap_max)
    memcg.zswap_writeback = int(group.zswap_writeback)
    memcg.oom_group = int(group.oom_group)
    memcg.oom_kill_disable = int(group.oom_kill_disable)
    memcg.soft_limit = _pages(group.soft_limit)
    memcg.stat[s.ST_SLAB_RECLAIMABLE] = group.slab_reclaimable_pages
    memcg.swappiness = int(k.swappiness) if group.swappiness is None else group.swappiness


def _limit(what: str, wanted: int, most: int) -> None:
    if wanted > most:
        msg = f"{wanted} {what} are more than the engine's tables hold ({most})"
        raise BuildError(msg)
