"""Samples of the kernel's own counters, under the names of the files they mirror."""

from __future__ import annotations

from typing import Any

import numpy as np

from capplan.mm import state as s
from capplan.mm.watermark import si_mem_available
from capplan.sim.build import Machine

__all__ = ["Recorder"]

# memory.stat items in bytes; the rest of MEMCG_STATS are counts
_BYTES = {
    "anon", "file", "shmem", "kernel", "pagetables", "slab_reclaimable", "slab_unreclaimable",
    "file_mapped", "file_dirty", "file_writeback", "swapcached", "zswapped", "kernel_stack",
}  # fmt: skip
_LISTS = ("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable")
_EVENTS = ("low", "high", "max", "oom", "oom_kill", "oom_group_kill")


class Recorder:
    """Copies counters into preallocated arrays, one row per sample."""

    def __init__(self, machine: Machine, rows: int) -> None:
        self.k = machine.kernel[0]
        self.machine = machine
        k = self.k
        self.row = 0
        self.t = np.zeros(rows)
        self.memcgs = int(k.nr_memcgs)
        self.procs = int(k.nr_procs)
        self.zones = [z for z in range(int(k.nr_zones)) if k.zone[z].managed > 0]
        self.ends = np.array([int(k.memcg[c].subtree_end) for c in range(self.memcgs)])
        c = self.memcgs
        self.node = np.zeros((rows, 24))
        self.vmstat = np.zeros((rows, s.NR_VMSTAT), np.int64)
        self.zone_free = np.zeros((rows, len(self.zones)), np.int64)
        self.zone_free_min = np.zeros((rows, len(self.zones)), np.int64)
        for z in self.zones:
            k.zone[z].free_min = k.zone[z].free
        self.zone_order9 = np.zeros((rows, len(self.zones), s.NR_ORDERS), np.int64)
        self.usage = np.zeros((rows, c, 3), np.int64)  # now, min, max
        self.swap = np.zeros((rows, c), np.int64)
        self.zswap = np.zeros((rows, c), np.int64)
        self.stat = np.zeros((rows, c, s.NR_MEMCG_STATS), np.int64)
        self.lists = np.zeros((rows, c, s.NR_LRU_LISTS), np.int64)
        self.events = np.zeros((rows, c, s.NR_MEMCG_EVENTS), np.int64)
        self.psi = np.zeros((rows, c + 1, 2), np.int64)
        self.times = np.zeros((rows, c, 3), np.int64)  # throttle, stall, pause
        self.rss = np.full((rows, self.procs), np.nan)

    def sample(self, at_ns: int) -> None:
        """Add a row, said to be of run time ``at_ns``, and begin a new bin."""
        k, i, c = self.k, self.row, self.memcgs
        self.row += 1
        self.t[i] = at_ns / 1e9
        memcg = k.memcg[:c]
        counter = memcg["memory"]
        self.usage[i, :, 0] = counter["usage"]
        self.usage[i, :, 1] = memcg["usage_min"]
        self.usage[i, :, 2] = memcg["usage_max"]
        memcg["usage_min"] = counter["usage"]
        memcg["usage_max"] = counter["usage"]
        self.swap[i] = memcg["swap"]["usage"]
        self.zswap[i] = memcg["zswap_bytes"]
        self.stat[i] = memcg["stat"]
        self.lists[i] = self._lists(memcg)
        self.events[i] = memcg["events"]
        self.psi[i, :c, 0] = memcg["psi"]["some_ns"]
        self.psi[i, :c, 1] = memcg["psi"]["full_ns"]
        self.psi[i, c] = (k.psi.some_ns, k.psi.full_ns)
        self.times[i, :, 0] = memcg["throttle_ns"]
        self.times[i, :, 1] = memcg["stall_ns"]
        self.times[i, :, 2] = memcg["pause_ns"]
        self.vmstat[i] = k.vmstat
        for j, z in enumerate(self.zones):
            self.zone_free[i, j] = k.zone[z].free
            self.zone_free_min[i, j] = k.zone[z].free_min
            k.zone[z].free_min = k.zone[z].free
            self.zone_order9[i, j] = k.zone[z].nr_free.sum(axis=1)
        live = k.proc[: self.procs]
        rss = live["rss_anon"] + live["rss_file"] + live["rss_shmem"]
        self.rss[i] = np.where(np.isin(live["state"], (1, 2)), rss, np.nan)
        self.node[i] = self._node(memcg)

    def _lists(self, memcg: Any) -> Any:
        """Pages per list, all nodes; the multi-gen LRU counts its own as active or inactive."""
        return memcg["lruvec"][:, : int(self.k.nr_nodes)]["pages"].sum(axis=1)

    def _node(self, memcg: Any) -> tuple[float, ...]:
        """meminfo in pages, in the order of _MEMINFO."""
        k = self.k
        lists = self.lists[self.row - 1].sum(axis=0)
        free = int(self.zone_free[self.row - 1].sum())
        file = int(lists[2] + lists[3])
        available = si_mem_available(k, free, file, int(k.nr_slab_reclaimable))
        swap_free = int(sum(int(k.swap[i].free) for i in range(int(k.nr_swaps))))
        return (
            int(k.totalram), free, available, int(k.nr_file), int(lists[1]), int(lists[0]),
            int(lists[3]), int(lists[2]), int(lists[4]), int(k.nr_mlocked), int(k.totalswap),
            swap_free, int(k.zswap_pages), int(k.zswap_stored), int(k.nr_dirty),
            int(k.nr_writeback), int(k.nr_anon), int(k.nr_shmem), int(k.nr_slab_reclaimable),
            int(k.nr_slab_unreclaimable), int(k.nr_pagetables),
            int(sum(int(k.zone[z].pcp_count.sum()) for z in self.zones)),
            int(sum(int(k.node[n].kswapd_ns) for n in range(int(k.nr_nodes)))),
            int(k.nr_swapcached),
        )  # fmt: skip

    def series(self) -> dict[str, np.ndarray[Any, Any]]:
        """All series by name (see capplan.sim.result)."""
        rows = slice(0, self.row)
        out: dict[str, np.ndarray[Any, Any]] = {"t": self.t[rows]}
        for j, name in enumerate(_MEMINFO):
            out[f"meminfo_kb.{name}"] = self.node[rows, j] * 4
        out["pcp.pages"] = self.node[rows, 21]
        out["kswapd.cpu_us"] = self.node[rows, 22] / 1000
        for j, name in enumerate(s.VMSTAT):
            out[f"vmstat.{name}"] = self.vmstat[rows, j]
        for kind, name in enumerate(("some", "full")):
            out[f"psi.memory.{name}.total_us"] = self.psi[rows, self.memcgs, kind] / 1000
        for j, z in enumerate(self.zones):
            name = zone_name(self.k, z)
            out[f"zone.{name}.free"] = self.zone_free[rows, j]
            out[f"zone.{name}.free|min"] = self.zone_free_min[rows, j]
            for order in range(s.NR_ORDERS):
                out[f"zone.{name}.order{order}"] = self.zone_order9[rows, j, order]
        for path, c in self.machine.cgroup_index.items():
            if c > 0:
                self._cgroup(out, rows, path, c)
        for p, name in enumerate(self.machine.proc_names):
            if p > 0:
                out[f"process.{name}.rss_pages"] = self.rss[rows, p]
        return out

    def _cgroup(self, out: dict[str, Any], rows: slice, path: str, c: int) -> None:
        head = f"cgroup.{path}"
        v1 = bool(self.k.cgroup_v1)
        current = f"{head}.memory.usage_in_bytes" if v1 else f"{head}.memory.current"
        for j, suffix in enumerate(("", "|min", "|max")):
            out[current + suffix] = self.usage[rows, c, j] * 4096
        # memory.stat is hierarchical
        whole = slice(c, int(self.ends[c]))
        stat = self.stat[rows, whole].sum(axis=1)
        for j, name in enumerate(s.MEMCG_STATS):
            out[f"{head}.stat.{name}"] = stat[:, j] * (4096 if name in _BYTES else 1)
        lists = self.lists[rows, whole].sum(axis=1)
        for j, name in enumerate(_LISTS):
            out[f"{head}.stat.{name}"] = lists[:, j] * 4096
        out[f"{head}.stat.zswap"] = self.zswap[rows, c]
        for j, name in enumerate(_EVENTS):
            out[f"{head}.events.{name}"] = self.events[rows, c, j]
        out[f"{head}.memory.swap.current"] = self.swap[rows, c] * 4096
        out[f"{head}.memory.zswap.current"] = self.zswap[rows, c]
        for kind, name in enumerate(("some", "full")):
            out[f"{head}.psi.{name}"] = self.psi[rows, c, kind] / 1000
        for j, name in enumerate(("throttle_us", "stall_us", "pause_us")):
            out[f"{head}.{name}"] = self.times[rows, whole, j].sum(axis=1) / 1000


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
