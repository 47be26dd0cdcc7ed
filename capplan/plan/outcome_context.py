"""What every part of an analysis looks up: who belongs where, what was set when."""

from __future__ import annotations

from collections import Counter
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from capplan.plan.outcome_series import PAGE_SIZE, Array, Group, Series
from capplan.sim.scenario import UNLIMITED
from capplan.spec.cgroup import ancestry

if TYPE_CHECKING:
    from capplan.sim.result import Event, Run, TaskTotals
    from capplan.sim.scenario import Cgroup, Process, Zone

NS_PER_S = 1_000_000_000


class Context:
    """A run with its lookups; all parts of the analysis share one."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.scenario = run.scenario
        self.series = Series(run)
        self.v1 = run.scenario.cgroup_version == "v1"
        self.duration = run.scenario.duration_ns / NS_PER_S
        self.sample_s = run.scenario.sample_ns / NS_PER_S
        self.cgroups: dict[str, Cgroup] = {c.path: c for c in run.scenario.cgroups}
        self.processes: dict[str, Process] = {p.name: p for p in run.scenario.processes}
        self.totals: dict[str, list[TaskTotals]] = {}
        for total in run.totals:
            self.totals.setdefault(total.container or total.process, []).append(total)
        self.container_cgroup = {name: rows[0].cgroup for name, rows in self.totals.items()}
        # tasks run on clocks of their own: the engine's order is not quite the order of time
        self._events = sorted(run.events, key=attrgetter("t"))
        # places in it, by kind: kswapd has tens of thousands, most questions are about others
        self._places: dict[str, list[int]] = {}
        self._events_of: dict[str, list[Event]] = {}
        for place, event in enumerate(self._events):
            self._places.setdefault(event.event, []).append(place)
            self._events_of.setdefault(event.name, []).append(event)
        self._limits: dict[tuple[str, str], Array] = {}
        self._changed: dict[tuple[str, str], list[tuple[float, int]]] = {}
        for change in sorted(run.scenario.changes, key=lambda c: (c.at_ns / NS_PER_S, c.value)):
            where = self._changed.setdefault((change.cgroup, change.key), [])
            where.append((change.at_ns / NS_PER_S, change.value))
        self.sharing = Counter(self.container_cgroup.values())  # containers per cgroup
        self._groups: dict[str, Group] = {}
        self.swap_total = sum(s.size_pages for s in run.scenario.node.swaps) * PAGE_SIZE
        self.memory = self._memory()

    def _memory(self) -> int:
        """MemTotal [bytes]: as recorded, else what the zones manage."""
        total = self.series.get("meminfo_kb.MemTotal")
        if total is not None:
            return int(np.nanmax(total)) * 1024
        return sum(z.managed for z in self.scenario.node.zones) * PAGE_SIZE

    def group(self, path: str) -> Group:
        """The series of one cgroup."""
        if path not in self._groups:
            self._groups[path] = Group(self.series, path)
        return self._groups[path]

    def container_of(self, event: Event) -> str:
        """The container an event befell; the cgroup's only one where no process is meant."""
        process = self.processes.get(event.name)
        if process is not None:
            return process.container or process.name
        path = event.cgroup or event.name
        inside = self.containers_in(path)
        return inside[0] if len(inside) == 1 else ""

    def containers_in(self, path: str) -> list[str]:
        """The containers whose cgroup is ``path`` or below it ("" is the root)."""
        return [
            name for name, own in self.container_cgroup.items() if not path or path in ancestry(own)
        ]

    def cgroup_of(self, event: Event) -> str:
        """The cgroup an event befell."""
        if event.cgroup:
            return event.cgroup
        process = self.processes.get(event.name)
        return process.cgroup if process is not None else event.name

    def called(self, path: str) -> str:
        """A cgroup's name for people: its only container's, else the last part of its path."""
        inside = [name for name, own in self.container_cgroup.items() if own == path]
        return inside[0] if len(inside) == 1 else path.rsplit("/", 1)[-1]

    @property
    def limit_key(self) -> str:
        """What the hard limit is called in this cgroup version."""
        return "memory.limit_in_bytes" if self.v1 else "memory.max"

    def limit(self, path: str, key: str, t: float) -> int | None:
        """A limit in force at ``t`` [bytes]: memory.max (or v1's name) or memory.high."""
        group = self.cgroups.get(path)
        if group is None:
            return None
        pages = group.memory_high if key == "memory.high" else group.memory_max
        for change in self._changes(path, key):
            if change[0] <= t:
                pages = change[1]
        return None if pages == UNLIMITED else pages * PAGE_SIZE

    def limit_series(self, path: str, key: str) -> Array:
        """A limit at every sample [bytes]; inf where there is none."""
        if (path, key) not in self._limits:
            self._limits[path, key] = self._limit_series(path, key)
        return self._limits[path, key]

    def _limit_series(self, path: str, key: str) -> Array:
        changes = self._changes(path, key)
        if not changes:
            never = self.limit(path, key, 0.0)
            return np.full(self.series.t.size, np.inf if never is None else float(never))
        times = [0.0, *(t for t, _ in changes)]
        values = [self.limit(path, key, t) for t in times]
        numbers = np.array([np.inf if v is None else v for v in values], dtype=np.float64)
        index = np.searchsorted(np.array(times), self.series.t, side="right") - 1
        return np.asarray(numbers[np.maximum(index, 0)])

    def _changes(self, path: str, key: str) -> list[tuple[float, int]]:
        return self._changed.get((path, key), [])

    def limiting(self, path: str, key: str) -> str | None:
        """The nearest cgroup on the way to the root that ever has such a limit."""
        return next((group for group in ancestry(path) if self._is_limited(group, key)), None)

    def _is_limited(self, path: str, key: str) -> bool:
        if self._changes(path, key):
            return bool(np.isfinite(self.limit_series(path, key)).any())
        return self.limit(path, key, 0.0) is not None

    def life(self, process: str) -> float:
        """How long a process lived [s], restarts included."""
        born, lived = None, 0.0
        for event in self.events("start", "restart", "exit", "oom_kill", name=process):
            if event.event in ("start", "restart"):
                born = event.t if born is None else born
            elif born is not None:
                lived += event.t - born
                born = None
        if born is not None:
            lived += self.duration - born
        declared = self.processes.get(process)
        if lived == 0.0 and declared is not None and not self._has(process):
            lived = self.duration - declared.start_ns / NS_PER_S
        return max(lived, 0.0)

    def _has(self, process: str) -> bool:
        return any(True for _ in self.events("start", "exit", "oom_kill", name=process))

    def zone_name(self, zone: Zone) -> str:
        """A zone's name in series and marks: N1.Normal where there are several nodes."""
        several = len({z.node for z in self.scenario.node.zones}) > 1
        return f"N{zone.node}.{zone.name}" if several else zone.name

    def events(self, *kinds: str, name: str | None = None) -> list[Event]:
        """Events of these kinds, in the order of time."""
        if name is not None:
            return [event for event in self._events_of.get(name, ()) if event.event in kinds]
        places = sorted(place for kind in kinds for place in self._places.get(kind, ()))
        return [self._events[place] for place in places]
