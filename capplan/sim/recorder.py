"""Samples of the kernel's own counters, under the names of the files they mirror."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from capplan.mm import state as s
from capplan.sim.build import Machine
from capplan.sim.sample import MEMCG_WIDTH, NODE_COUNTERS, NODE_WIDTH, ZONE_WIDTH
from capplan.sim.series import Array, Layout, LazySeries, Place

__all__ = ["Recorder"]

# memory.stat items in bytes; the rest of MEMCG_STATS are counts
_BYTES = {
    "anon", "file", "shmem", "kernel", "pagetables", "slab_reclaimable", "slab_unreclaimable",
    "file_mapped", "file_dirty", "file_writeback", "swapcached", "zswapped", "kernel_stack",
}  # fmt: skip
_LISTS = ("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable")
_EVENTS = ("low", "high", "max", "oom", "oom_kill", "oom_group_kill")


class Recorder:
    """The log that the engine writes its samples to, and what stands where in it."""

    def __init__(self, machine: Machine, rows: int) -> None:
        self.k = machine.kernel[0]
        self.machine = machine
        k = self.k
        self.memcgs = int(k.nr_memcgs)
        self.procs = int(k.nr_procs)
        zones = k.zone[: int(k.nr_zones)]
        self.zones = np.flatnonzero(zones["managed"] > 0).tolist()
        self.ends = k.memcg["subtree_end"][: self.memcgs].tolist()
        width = NODE_WIDTH + len(self.zones) * ZONE_WIDTH + self.memcgs * MEMCG_WIDTH + self.procs
        zones["free_min"][self.zones] = zones["free"][self.zones]
        self.log = np.empty(rows * width, np.int64)  # a row that counts is written whole
        k.log_width = width

    def _blocks(self) -> dict[str, Array]:
        """Blocks of the rows that were written, by name (see capplan.sim.sample)."""
        k, c = self.k, self.memcgs
        width = int(k.log_width)
        table = self.log[: int(k.log_row) * width].reshape(-1, width)
        label, node, vmstat, node_psi, zones, memcgs, rss = np.split(
            table,
            np.cumsum([1, NODE_COUNTERS, s.NR_VMSTAT, 2, len(self.zones) * ZONE_WIDTH,
                       c * MEMCG_WIDTH]),
            axis=1,
        )  # fmt: skip
        parts = np.split(
            memcgs.reshape(-1, c, MEMCG_WIDTH),
            np.cumsum([3, 1, 1, s.NR_MEMCG_STATS, s.NR_LRU_LISTS, s.NR_MEMCG_EVENTS, 2]),
            axis=2,
        )
        of_groups = ("usage", "swap", "zswap", "stat", "lists", "events", "psi", "times")
        return {
            "t": label / 1e9,
            "node": node.astype(np.float64),
            "vmstat": vmstat,
            "node_psi": node_psi,
            "zones": zones.reshape(-1, len(self.zones), ZONE_WIDTH),
            "rss": np.where(rss < 0, np.nan, rss),
            **dict(zip(of_groups, parts, strict=True)),
        }

    def series(self) -> LazySeries:
        """All series by name (see capplan.sim.result)."""
        groups = tuple((path, c, self.ends[c]) for path, c in self.machine.cgroup_index.items())
        zones = tuple(zone_name(self.k, z) for z in self.zones)
        layout = _layout(zones, groups, tuple(self.machine.proc_names), bool(self.k.cgroup_v1))
        return LazySeries(layout, self._blocks())


@functools.lru_cache(maxsize=4)
def _layout(
    zones: tuple[str, ...],
    groups: tuple[tuple[str, int, int], ...],
    processes: tuple[str, ...],
    v1: bool,
) -> Layout:
    out: dict[str, Place] = {"t": ("t", (0,), 1)}
    out |= {f"meminfo_kb.{name}": ("node", (j,), 4) for j, name in enumerate(_MEMINFO)}
    out["meminfo_kb.HugePages_Total"] = ("node", (24,), 1)  # a count
    out["meminfo_kb.Hugetlb"] = ("node", (24,), 2048)
    out["pcp.pages"] = ("node", (21,), 1)
    out["zram.mem_used_total"] = ("node", (25,), 4096)  # of all devices, as in their mm_stat
    out["kswapd.cpu_us"] = ("node", (22,), 1 / 1000)
    out |= {f"vmstat.{name}": ("vmstat", (j,), 1) for j, name in enumerate(s.VMSTAT)}
    for kind, name in enumerate(("some", "full")):
        out[f"psi.memory.{name}.total_us"] = ("node_psi", (kind,), 1 / 1000)
    for j, name in enumerate(zones):
        columns = ("free", "free|min", *(f"order{order}" for order in range(s.NR_ORDERS)))
        out |= {f"zone.{name}.{what}": ("zones", (j, i), 1) for i, what in enumerate(columns)}
    for path, c, end in groups:
        if c > 0:
            out |= _places_of_group(f"cgroup.{path}", c, end, v1)
    for p, name in enumerate(processes):
        if p > 0:
            out[f"process.{name}.rss_pages"] = ("rss", (p,), 1)
    return Layout(out)


def _places_of_group(head: str, c: int, end: int, v1: bool) -> dict[str, Place]:
    out: dict[str, Place] = {}
    current = f"{head}.memory.usage_in_bytes" if v1 else f"{head}.memory.current"
    for j, suffix in enumerate(("", "|min", "|max")):
        out[current + suffix] = ("usage", (c, j), 4096)
    # memory.stat is hierarchical: a group and all below it
    whole = c if end == c + 1 else slice(c, end)
    for j, name in enumerate(s.MEMCG_STATS):
        out[f"{head}.stat.{name}"] = ("stat", (whole, j), 4096 if name in _BYTES else 1)
    for j, name in enumerate(_LISTS):
        out[f"{head}.stat.{name}"] = ("lists", (whole, j), 4096)
    out[f"{head}.stat.zswap"] = ("zswap", (c, 0), 1)
    for j, name in enumerate(_EVENTS):
        out[f"{head}.events.{name}"] = ("events", (c, j), 1)
    out[f"{head}.memory.swap.current"] = ("swap", (c, 0), 4096)
    out[f"{head}.memory.zswap.current"] = ("zswap", (c, 0), 1)
    for kind, name in enumerate(("some", "full")):
        out[f"{head}.psi.{name}"] = ("psi", (c, kind), 1 / 1000)
    for j, name in enumerate(("throttle_us", "stall_us", "pause_us")):
        out[f"{head}.{name}"] = ("times", (whole, j), 1 / 1000)
    return out


_MEMINFO = (
    "MemTotal", "MemFree", "MemAvailable", "Cached", "Active(anon)", "Inactive(anon)",
    "Active(file)", "Inactive(file)", "Unevictable", "Mlocked", "SwapTotal", "SwapFree", "Zswap",
    "Zswapped", "Dirty", "Writeback", "AnonPages", "Shmem", "SReclaimable", "SUnreclaim",
    "PageTables",
)  # fmt: skip


def zone_name(k: Any, z: int) -> str:
    """DMA32, or N1.Normal where there are several nodes."""
    name = s.ZONE_NAMES[z % s.ZONES_PER_NODE]
    return name if k.nr_nodes == 1 else f"N{z // s.ZONES_PER_NODE}.{name}"
