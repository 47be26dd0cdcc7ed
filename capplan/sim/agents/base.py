"""What an agent is, what it can see, and what it can do.

An agent sees numbers of files: /proc/meminfo, /proc/PID/oom_score, memory.current,
memory.stat, memory.swap.current, memory.pressure; at the moment at which it looks, never
before. It does what a program can do: kill(2), and what the kubelet does to a pod.
"""

from __future__ import annotations

import heapq
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from capplan.mm import state as s
from capplan.mm.oom import oom_scores
from capplan.mm.psi import psi_percent
from capplan.mm.watermark import si_mem_available
from capplan.sim.build import Machine
from capplan.sim.changes import push_write
from capplan.sim.result import Event

__all__ = ["LISTED", "Agent", "Hands", "Looks", "MemInfo", "View", "Watch", "grid"]

PAGE = s.PAGE_SIZE
LISTED = 5  # candidates of a choice that an event tells


class MemInfo(NamedTuple):
    """Lines of /proc/meminfo [bytes]."""

    total: int
    available: int
    anon: int
    swap_total: int
    swap_free: int


@dataclass(frozen=True)
class Watch:
    """What has to come before another look can show anything (see ``kernel_t.watch``) [pages]."""

    flags: int = 0
    available: int = 0
    swap: int = 0
    usage: int = 1 << 62


@dataclass(frozen=True)
class Looks:
    """Looks that the engine takes in the kubelet's place, while none shows anything.

    It stops at the one that finds less than ``least`` pages of memory available, or less than
    ``group_least`` in kubepods.
    """

    due_ns: int
    every_ns: int
    least: int
    group: str = ""
    group_least: int = 0


def grid(phase_ns: int, interval_ns: int, now_ns: int) -> int:
    """The first tick of a clock at or after now.

    Worked example
    --------------
    Phase 3, interval 10: at 3 it is 3, at 4 and at 13 it is 13.
    """
    return phase_ns + -(-max(now_ns - phase_ns, 0) // interval_ns) * interval_ns


class View:
    """The numbers that files show, now. Sizes in bytes."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.k = machine.kernel[0]
        k, n = machine.kernel, int(self.k.nr_memcgs)
        nodes, zones = int(self.k.nr_nodes), int(self.k.nr_zones)
        self.index = machine.cgroup_index
        self.log: Sequence[Event] = ()  # what has happened, where the API server tells of it
        self.requests: dict[str, int] = {}  # of groups whose request has changed [bytes]
        self._ends = k["memcg"]["subtree_end"][0, :n].copy()
        # views of the record: reading one costs a tenth of a microsecond
        self._one = {name: k[name] for name in ("now_ns", "nr_anon", "nr_file", "nr_shmem")}
        self._free = k["zone"]["free"][0, :zones]
        self._swap_free = k["swap"]["free"][0, : int(self.k.nr_swaps)]
        memcg = k["memcg"]
        self._usage = memcg["memory"]["usage"][0, :n]
        self._swap = memcg["swap"]["usage"][0, :n]
        self._pgscan = memcg["stat"][0, :n, s.ST_PGSCAN]
        self._lists = memcg["lruvec"]["pages"][0, :n, :nodes]
        self._states = k["proc"]["state"][0, : int(self.k.nr_procs)]
        self._groups = k["proc"]["memcg"][0, : int(self.k.nr_procs)]

    # --- the node ---------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        """Run time."""
        return int(self._one["now_ns"][0])

    @property
    def memory_total(self) -> int:
        """MemTotal."""
        return int(self.k.totalram) * PAGE

    def takeable_pages(self) -> int:
        """Free pages and page cache, which MemAvailable is at least, less reserves [pages]."""
        one = self._one
        return int(one["nr_file"][0]) - int(one["nr_shmem"][0]) + int(self._free.sum())

    def swap_free_pages(self) -> int:
        """SwapFree [pages]."""
        return int(self._swap_free.sum())

    def meminfo(self) -> MemInfo:
        """What /proc/meminfo shows."""
        k = self.k
        file = int(self._lists[:, :, s.LRU_INACTIVE_FILE : s.LRU_ACTIVE_FILE + 1].sum())
        slab = int(k.nr_slab_reclaimable)
        available = si_mem_available(k, int(self._free.sum()), file, slab)
        return MemInfo(
            self.memory_total,
            available * PAGE,
            int(self._one["nr_anon"][0]) * PAGE,
            int(k.totalswap) * PAGE,
            self.swap_free_pages() * PAGE,
        )

    def unavailable_pages(self) -> int:
        """Most by which MemAvailable may be below :meth:`takeable_pages` [pages].

        si_mem_available() takes off the reserves and up to the low marks; of the page cache,
        what is mlocked is on no file list.
        """
        k = self.k
        low = sum(
            int(k.zone[z].wmark[s.WMARK_LOW]) + int(k.zone[z].boost) for z in range(int(k.nr_zones))
        )
        return int(k.total_reserve) + low + int(k.nr_mlocked)

    def stalled(self) -> bool:
        """Whether any task (or kswapd) is in a memory stall now."""
        return bool(self.k.psi.nr_memstall > 0)

    # --- groups -----------------------------------------------------------------------

    def root_usage_pages(self) -> int:
        """Usage of the root group: v1's usage_in_bytes, v2's anon + file [pages]."""
        return int(self._one["nr_anon"][0]) + int(self._one["nr_file"][0])

    def _below(self, path: str) -> slice:
        c = self.index[path]
        return slice(c, int(self._ends[c]))

    def inactive_file(self, path: str = "") -> int:
        """memory.stat's inactive_file (v1: total_inactive_file)."""
        return int(self._lists[self._below(path), :, s.LRU_INACTIVE_FILE].sum()) * PAGE

    def current(self, path: str) -> int:
        """memory.current (v1: usage_in_bytes)."""
        return int(self._usage[self.index[path]]) * PAGE

    def working_set(self, path: str) -> int:
        """cAdvisor's working set: usage less inactive_file, at least 0."""
        usage = self.current(path) if path else self.root_usage_pages() * PAGE
        return max(usage - self.inactive_file(path), 0)

    def sampled_working_set(self, path: str) -> int:
        """The working set when cAdvisor sampled it last."""
        return int(self.k.memcg[self.index[path]].working_set) * PAGE

    @property
    def sampled_ns(self) -> int:
        """When cAdvisor sampled all groups last."""
        return int(self.k.stats_ns)

    @property
    def last_look(self) -> tuple[int, int, int]:
        """The engine's last look for the kubelet before now: time [ns], its two signals [bytes].

        Time 0: there was none.
        """
        k = self.k
        i = 0 if k.looked_ns[0] < k.now_ns else 1
        return int(k.looked_ns[i]), int(k.looked[i, 0]) * PAGE, int(k.looked[i, 1]) * PAGE

    def note_look(self, available: int, allocatable: int) -> None:
        """Remember a look that the kubelet took itself beside those the engine takes."""
        k = self.k
        if k.looked_ns[0] < k.now_ns:
            k.looked_ns[1], k.looked[1] = k.looked_ns[0], k.looked[0]
        k.looked_ns[0] = k.now_ns
        k.looked[0, 0], k.looked[0, 1] = available // PAGE, allocatable // PAGE

    @property
    def look_found_something(self) -> bool:
        """Whether the engine's looks have ended at one that found too little available."""
        return bool(self.k.look_due_ns == s.NEVER_NS)

    def limit(self, path: str) -> int | None:
        """memory.max (v1: limit_in_bytes); None: no limit."""
        pages = int(self.k.memcg[self.index[path]].memory.max)
        return None if pages >= s.UNLIMITED else pages * PAGE

    def swap_current(self, path: str) -> int:
        """memory.swap.current."""
        return int(self._swap[self.index[path]]) * PAGE

    def pgscan(self, path: str) -> int:
        """memory.stat's pgscan."""
        return int(self._pgscan[self._below(path)].sum())

    def full_avg10(self, path: str) -> float:
        """memory.pressure, full avg10 [percent]."""
        psi = self.k.memcg[self.index[path]].psi if path else self.k.psi
        return psi_percent(int(psi.avg_full[0]))

    # --- processes --------------------------------------------------------------------

    def processes(self, path: str) -> list[int]:
        """cgroup.procs of the group and of those below it: who has not yet gone."""
        c = self._below(path)
        there = (self._states == s.PROC_LIVE) | (self._states == s.PROC_EXITING)
        inside = (self._groups >= c.start) & (self._groups < c.stop)
        return [int(p) for p in np.nonzero(there & inside)[0] if p > 0]

    def exists(self, p: int) -> bool:
        """Whether /proc/PID is there."""
        return int(self._states[p]) in (s.PROC_LIVE, s.PROC_EXITING)

    def oom_scores(self) -> dict[int, int]:
        """/proc/PID/oom_score of everybody who lives, less what the OOM killer spares."""
        return oom_scores(self.k)

    def rss(self, p: int) -> int:
        """VmRSS."""
        proc = self.k.proc[p]
        return int(proc.rss_anon + proc.rss_file + proc.rss_shmem) * PAGE

    def comm(self, p: int) -> str:
        """/proc/PID/comm: the process's name without its container's, 15 characters."""
        return self.machine.proc_names[p].rpartition("/")[2].partition("#")[0][:15]

    def starts_by(self, path: str, until_ns: int) -> list[int]:
        """Processes of a group whose container is going to start for the first time by then."""
        k = self.k
        found = []
        for p in range(1, int(k.nr_procs)):
            proc = k.proc[p]
            main = k.proc[int(proc.container)]
            waits = main.state == s.PROC_UNBORN and not main.restarting
            if waits and self.index[path] == proc.memcg:
                due = int(k.task[int(k.proc[int(proc.container)].first_task)].due_ns)
                if due < until_ns:
                    found.append(p)
        return found


class Hands:
    """What agents do to the node, and what is told of it."""

    def __init__(self, machine: Machine, view: View) -> None:
        self.machine = machine
        self.view = view
        self.events: list[Event] = []
        self.ended_by: dict[int, str] = {}  # process -> "killed" or "evicted"
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._paths = {c: path for path, c in machine.cgroup_index.items()}
        self._sigterm = {p.name: p.sigterm_ns for p in machine.scenario.processes}

    # --- time -------------------------------------------------------------------------

    @property
    def due_ns(self) -> int:
        """When the next thing that was begun goes on."""
        return self._timers[0][0] if self._timers else s.NEVER_NS

    def at(self, due_ns: int, action: Callable[[], None]) -> None:
        """Do something at a time; at once when it has come."""
        if due_ns <= self.view.now_ns:
            action()
        else:
            heapq.heappush(self._timers, (due_ns, next(self._numbers), action))

    def go_on(self) -> None:
        """Do what is due."""
        while self.due_ns <= self.view.now_ns:
            heapq.heappop(self._timers)[2]()

    # --- signals ----------------------------------------------------------------------

    def kill_group(self, path: str, how: str = "killed") -> None:
        """SIGKILL to all processes of a group and of those below it."""
        self._signal(path, -1, s.WRITE_SIGKILL, how)

    def kill(self, p: int) -> None:
        """SIGKILL to one process."""
        self._signal(self.path_of(p), p, s.WRITE_SIGKILL, "killed")

    def terminate(self, p: int) -> None:
        """SIGTERM to one process: it exits when it has shut down, or never."""
        wait = self._shutdown(p)
        if wait is None:
            return
        start = int(self.view.k.proc[p].start_ns)

        def end() -> None:
            if int(self.view.k.proc[p].start_ns) == start:  # not its next life
                self._signal(self.path_of(p), p, s.WRITE_SIGTERM, "killed")

        self.at(self.view.now_ns + wait, end)

    def evict(self, cgroups: Sequence[str], grace_ns: int) -> None:
        """End a pod's containers for good: SIGTERM, and SIGKILL after the grace period."""
        now = self.view.now_ns
        for path in cgroups:
            push_write(self.view.k, s.WRITE_EVICT, self.view.index[path], -1)
            waits = [self._shutdown(p) for p in self.view.processes(path)[:1]]
            if waits and waits[0] is not None and waits[0] < grace_ns:
                # the main process's end is the container's
                self.at(now + waits[0], self._later(path, s.WRITE_SIGTERM))
            self.at(now + grace_ns, self._later(path, s.WRITE_SIGKILL))

    def delete(self, path: str, grace_ns: int) -> None:
        """End a container for good, as :meth:`evict` does, and spare whoever comes after it."""
        now, lives = self.view.now_ns, self.view.processes(path)
        push_write(self.view.k, s.WRITE_EVICT, self.view.index[path], -1)
        if not lives:
            return
        start = int(self.view.k.proc[lives[0]].start_ns)

        def signal(kind: int) -> Callable[[], None]:
            def send() -> None:
                if int(self.view.k.proc[lives[0]].start_ns) == start:
                    self._signal(path, -1, kind, "evicted")

            return send

        wait = self._shutdown(lives[0])
        if wait is not None and wait < grace_ns:
            self.at(now + wait, signal(s.WRITE_SIGTERM))
        self.at(now + grace_ns, signal(s.WRITE_SIGKILL))

    def forbid(self, p: int) -> None:
        """A process that was to start does not."""
        push_write(self.view.k, s.WRITE_EVICT, int(self.view.k.proc[p].memcg), p)

    def _later(self, path: str, kind: int) -> Callable[[], None]:
        return lambda: self._signal(path, -1, kind, "evicted")

    def _shutdown(self, p: int) -> int | None:
        return self._sigterm.get(self.machine.proc_names[p])

    def path_of(self, p: int) -> str:
        return self._paths[int(self.view.k.proc[p].memcg)]

    def _signal(self, path: str, p: int, kind: int, how: str) -> None:
        for victim in self.view.processes(path) if p < 0 else [p]:
            if self.view.k.proc[victim].state == s.PROC_LIVE:
                self.ended_by[victim] = how
        push_write(self.view.k, kind, self.view.index[path], p)

    # --- the log ----------------------------------------------------------------------

    def tell(self, event: str, name: str, cgroup: str, detail: dict[str, Any]) -> None:
        """Add an event, now."""
        self.events.append(Event(self.view.now_ns / s.NS_PER_S, event, name, cgroup, "", detail))


class Agent(ABC):
    """A program that looks at the node when it is due."""

    name: str
    due_ns: int = 0
    watch: Watch = Watch()  # while it sleeps: what wakes it; flags 0: only the clock
    looks: Looks | None = None  # while it sleeps: what is looked at for it

    @abstractmethod
    def look(self, view: View, hands: Hands) -> None:
        """Look, act, and set when to look again."""

    @abstractmethod
    def wake(self, view: View) -> None:
        """What somebody's ``watch`` or ``looks`` names has come."""
