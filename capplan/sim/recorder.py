"""Samples of the kernel's own counters, under the names of the files they mirror."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from capplan.mm import state as s
from capplan.sim.build import Machine
from capplan.sim.sample import MEMCG_WIDTH, NODE_COUNTERS, NODE_WIDTH, ZONE_WIDTH

__all__ = ["LazySeries", "Recorder"]

Array = np.ndarray[Any, Any]

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
        self.zones = [z for z in range(int(k.nr_zones)) if k.zone[z].managed > 0]
        self.ends = k.memcg["subtree_end"][: self.memcgs].tolist()
        width = NODE_WIDTH + len(self.zones) * ZONE_WIDTH + self.memcgs * MEMCG_WIDTH + self.procs
        for z in self.zones:
            k.zone[z].free_min = k.zone[z].free
        self.log = np.zeros(rows * width, np.int64)
        k.log_width = width

    def _read(self) -> None:
        """Name the blocks of the rows that were written (see capplan.sim.sample)."""
        k, c = self.k, self.memcgs
        width = int(k.log_width)
        table = self.log[: int(k.log_row) * width].reshape(-1, width)
        blocks = np.split(
            table,
            np.cumsum([1, NODE_COUNTERS, s.NR_VMSTAT, 2, len(self.zones) * ZONE_WIDTH,
                       c * MEMCG_WIDTH]),
            axis=1,
        )  # fmt: skip
        label, node, self.vmstat, self.node_psi, zones, memcgs, rss = blocks
        self.t = label[:, 0] / 1e9
        self.node = node.astype(np.float64)
        zones = zones.reshape(-1, len(self.zones), ZONE_WIDTH)
        self.zone_free, self.zone_free_min = zones[:, :, 0], zones[:, :, 1]
        self.zone_orders = zones[:, :, 2:]
        parts = np.split(
            memcgs.reshape(-1, c, MEMCG_WIDTH),
            np.cumsum([3, 1, 1, s.NR_MEMCG_STATS, s.NR_LRU_LISTS, s.NR_MEMCG_EVENTS, 2]),
            axis=2,
        )
        self.usage, swap, zswap, self.stat, self.lists, self.events, self.psi, self.times = parts
        self.swap, self.zswap = swap[:, :, 0], zswap[:, :, 0]
        self.rss = np.where(rss < 0, np.nan, rss)

    def series(self) -> LazySeries:
        """All series by name (see capplan.sim.result)."""
        self._read()
        out = LazySeries()
        out.add("t", self.t)
        for j, name in enumerate(_MEMINFO):
            out.add(f"meminfo_kb.{name}", self.node[:, j], 4)
        out.add("meminfo_kb.HugePages_Total", self.node[:, 24])  # a count
        out.add("meminfo_kb.Hugetlb", self.node[:, 24], 2048)
        out.add("pcp.pages", self.node[:, 21])
        out.add("kswapd.cpu_us", self.node[:, 22], 1 / 1000)
        for j, name in enumerate(s.VMSTAT):
            out.add(f"vmstat.{name}", self.vmstat[:, j])
        for kind, name in enumerate(("some", "full")):
            out.add(f"psi.memory.{name}.total_us", self.node_psi[:, kind], 1 / 1000)
        for j, z in enumerate(self.zones):
            name = zone_name(self.k, z)
            out.add(f"zone.{name}.free", self.zone_free[:, j])
            out.add(f"zone.{name}.free|min", self.zone_free_min[:, j])
            for order in range(s.NR_ORDERS):
                out.add(f"zone.{name}.order{order}", self.zone_orders[:, j, order])
        for path, c in self.machine.cgroup_index.items():
            if c > 0:
                self._cgroup(out, path, c)
        for p, name in enumerate(self.machine.proc_names):
            if p > 0:
                out.add(f"process.{name}.rss_pages", self.rss[:, p])
        return out

    def _cgroup(self, out: LazySeries, path: str, c: int) -> None:
        head = f"cgroup.{path}"
        v1 = bool(self.k.cgroup_v1)
        current = f"{head}.memory.usage_in_bytes" if v1 else f"{head}.memory.current"
        for j, suffix in enumerate(("", "|min", "|max")):
            out.add(current + suffix, self.usage[:, c, j], 4096)
        # memory.stat is hierarchical: a group and all below it
        whole = slice(c, self.ends[c])
        for j, name in enumerate(s.MEMCG_STATS):
            out.add(f"{head}.stat.{name}", self.stat[:, whole, j], 4096 if name in _BYTES else 1)
        for j, name in enumerate(_LISTS):
            out.add(f"{head}.stat.{name}", self.lists[:, whole, j], 4096)
        out.add(f"{head}.stat.zswap", self.zswap[:, c])
        for j, name in enumerate(_EVENTS):
            out.add(f"{head}.events.{name}", self.events[:, c, j])
        out.add(f"{head}.memory.swap.current", self.swap[:, c], 4096)
        out.add(f"{head}.memory.zswap.current", self.zswap[:, c])
        for kind, name in enumerate(("some", "full")):
            out.add(f"{head}.psi.{name}", self.psi[:, c, kind], 1 / 1000)
        for j, name in enumerate(("throttle_us", "stall_us", "pause_us")):
            out.add(f"{head}.{name}", self.times[:, whole, j], 1 / 1000)


class LazySeries(Mapping[str, Array]):
    """Series by name, each worked out of the samples when it is first asked for.

    A run of many asks for a few dozen of some thousand.
    """

    def __init__(self) -> None:
        self._raw: dict[str, tuple[Array, float]] = {}
        self._made: dict[str, Array] = {}

    def add(self, name: str, samples: Array, factor: float = 1) -> None:
        """Name a series: samples of one thing, or (two dimensions) of several to be added up."""
        self._raw[name] = (samples, factor)

    def __getitem__(self, name: str) -> Array:
        if name not in self._made:
            samples, factor = self._raw[name]
            whole = samples if samples.ndim == 1 else samples.sum(axis=1)
            if factor == 1:
                self._made[name] = whole
            else:
                self._made[name] = whole * factor if factor > 1 else whole / round(1 / factor)
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)


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
