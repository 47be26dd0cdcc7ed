"""Runs made by hand: every figure in them is known, so every sentence can be checked.

The node has 1 GiB in one zone; containers are piecewise linear curves of anonymous memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from capplan.sim.result import Event, Run, TaskTotals
from capplan.sim.scenario import Cgroup, Change, Node, Op, Process, Scenario, Swap, Task, Zone

MIB = 1 << 20
GIB = 1 << 30
PAGE = 4096
NS = 1_000_000_000
MANAGED = GIB // PAGE
WMARKS = (2816, 3520, 4224)  # 11, 13.75 and 16.5 MiB

Knots = Sequence[tuple[float, float]]  # (time [s], MiB)


def pages(mib: float) -> int:
    return int(mib * MIB) // PAGE


def curve(knots: Knots, t: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A piecewise linear curve [bytes]."""
    times, values = zip(*knots)
    return np.interp(t, times, np.array(values) * MIB)


class Maker:
    """Builds a Run piece by piece."""

    def __init__(self, duration: float = 100.0, version: str = "v2", swap_mib: float = 0) -> None:
        self.duration, self.version, self.swap_mib = duration, version, swap_mib
        self.t = np.arange(0.0, duration + 0.5, 1.0)
        self.series: dict[str, np.ndarray[Any, Any]] = {"t": self.t}
        self.events: list[Event] = []
        self.totals: list[TaskTotals] = []
        self.processes: list[Process] = []
        self.cgroups: list[Cgroup] = []
        self.changes: list[Change] = []
        self.assumptions: tuple[str, ...] = ()
        self.held = np.zeros_like(self.t)
        self.cached = np.zeros_like(self.t)

    def container(
        self,
        name: str,
        anon: Knots,
        *,
        cache: Knots = ((0, 0),),
        limits: dict[str, Any] | None = None,
        adj: int = 0,
        ops: tuple[Op, ...] = (),
        **totals: Any,
    ) -> Maker:
        """Add a container with one process of the same name, in a cgroup of the same name."""
        a, c = curve(anon, self.t), curve(cache, self.t)
        usage = "memory.current" if self.version == "v2" else "memory.usage_in_bytes"
        prefix = f"cgroup.{name}."
        self.series[prefix + usage] = a + c
        self.series[prefix + ("stat.anon" if self.version == "v2" else "stat.rss")] = a
        self.series[prefix + "stat.inactive_file"] = c
        self.series[prefix + "stat.active_file"] = np.zeros_like(c)
        self.series[f"process.{name}.rss_pages"] = a / PAGE
        self.held, self.cached = self.held + a, self.cached + c
        tasks = (Task(ops, exit_at_end=bool(ops)),)
        self.processes.append(Process(name, name, name, oom_score_adj=adj, tasks=tasks))
        self.cgroups.append(Cgroup(name, **(limits or {})))
        row = TaskTotals(name, name, name, 0, 0, 0, 0, 0, 0, 0, "live", 0)
        self.totals.append(replace(row, **totals))
        self.event(0.0, "start", name)
        return self

    def event(self, t: float, event: str, name: str, scope: str = "", **detail: Any) -> Maker:
        """Add an event of a process."""
        self.events.append(Event(t, event, name, name, scope, detail))
        return self

    def put(self, name: str, values: Any) -> Maker:
        """Set a series."""
        self.series[name] = np.broadcast_to(np.asarray(values, dtype=float), self.t.shape)
        return self

    def run(self, **changes: Any) -> Run:
        """The run as built so far."""
        free = GIB - self.held - self.cached
        defaults = {
            "meminfo_kb.MemTotal": np.full_like(self.t, GIB / 1024),
            "meminfo_kb.MemFree": free / 1024,
            "meminfo_kb.MemAvailable": (free + self.cached) / 1024,
            "meminfo_kb.Active(anon)": self.held / 1024,
            "meminfo_kb.Inactive(file)": self.cached / 1024,
            "zone.Normal.free": free / PAGE,
        }
        swaps = (Swap("disk", pages(self.swap_mib), 0),) if self.swap_mib else ()
        zone = Zone(0, "Normal", MANAGED, MANAGED, MANAGED, protection=(0, 0, 0, 0))
        scenario = Scenario(
            name="hand-made",
            node=Node((zone,), cpus=2, release="6.1", swaps=swaps),
            cgroup_version=self.version,
            cgroups=tuple(self.cgroups),
            mappings=(),
            processes=tuple(self.processes),
            changes=tuple(self.changes),
            duration_ns=int(self.duration * NS),
            sample_ns=NS,
            assumptions=self.assumptions,
        )
        return Run(
            scenario=scenario,
            events=tuple(sorted(self.events, key=lambda e: e.t)),
            series=defaults | self.series,
            totals=tuple(self.totals),
            wmarks={"Normal": WMARKS},
            version="0.1.0",
            seed=1,
            granule_pages=1,
            wall_s=0.5,
            **changes,
        )


def quiet() -> Maker:
    """Two containers, nothing happens: web peaks at 200 of 256 MiB, 40 of them page cache."""
    made = Maker()
    limits = {"memory_max": pages(256)}
    made.container("web", [(0, 100), (50, 160), (100, 120)], cache=[(0, 40)], limits=limits)
    return made.container("db", [(0, 300)])


def memcg_kill() -> Maker:
    """Web grows by 2 MiB/s from 20 s on and dies at 80 s at 140 MiB; swap.max is 0."""
    made = Maker(swap_mib=100)
    anon = [(0, 20), (20, 20), (79, 138), (80, 0), (100, 0)]
    limits = {"memory_max": pages(140), "swap_max": 0}
    made.container("web", anon, limits=limits, state="killed")
    made.container("db", [(0, 300)])
    made.put("meminfo_kb.SwapTotal", 100 * 1024).put("meminfo_kb.SwapFree", 100 * 1024)
    made.put("cgroup.web.events.max", np.maximum(made.t - 75, 0))
    made.event(
        80.0, "oom_kill", "web", "memcg", oom_cgroup="web", trigger="web", anon_rss_kb=141312,
        file_rss_kb=2048, swap_kb=0, pgtables_kb=300, oom_score_adj=0, points=35915,
        totalpages=35840,
    )  # fmt: skip
    return made


def global_kill() -> Maker:
    """Leaker grows by 9 MiB/s until the node is full at 90 s; victim has the higher adj."""
    made = Maker()
    made.container("leaker", [(0, 0), (10, 0), (89, 711), (100, 711)])
    made.container("victim", [(0, 248), (89, 248), (90, 0), (100, 0)], adj=500, state="killed")
    made.container("guarded", [(0, 60)], adj=-1000)
    made.put("vmstat.allocstall", np.maximum(made.t - 87, 0) * 5)
    made.event(
        90.0, "oom_kill", "victim", "global", trigger="leaker", anon_rss_kb=253952,
        pgtables_kb=500, oom_score_adj=500, points=194613, totalpages=MANAGED,
    )  # fmt: skip
    return made


def throttled(seconds: float = 20.0) -> Maker:
    """Web stands at memory.high of 100 MiB from 40 s on, asleep for ``seconds`` in all."""
    made = Maker()
    anon = [(0, 20), (40, 100), (100, 101)]
    made.container("web", anon, limits={"memory_high": pages(100)}, throttle_s=seconds)
    made.event(40.0, "throttle_begin", "web").event(70.0, "throttle_end", "web")
    return made


def paused(*, assumed: bool) -> Maker:
    """A v1 container stands at 50 MiB from 30 s on and waits to the end."""
    made = Maker(version="v1")
    limits = {
        "memory_max": pages(50),
        "oom_kill_disable": True,
        "oom_kill_disable_assumed": assumed,
    }
    anon = [(0, 20), (30, 50), (100, 50)]
    made.container("app", anon, limits=limits, pause_s=70.0, state="paused")
    return made.event(30.0, "paused", "app")
