"""What the containers' programs ask for, by their own plan: before any limit answers.

A run that a limit stopped shows how far a container came, not how far it would have gone. The
scenario knows: every growth, burst, leak and recorded curve stands in it as drawn. Walked at their
own rates, as if nothing were in the way, they give the memory that only swap or an exit takes back
(anonymous, shared, kernel); page cache is left out, reclaim takes it.

Departs: one life of each process (a later one asks for the same again).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from capplan.sim.scenario import PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping as Table

    from capplan.plan.outcome_series import Array
    from capplan.sim.scenario import Mapping, Op, Process, Scenario, Task

NS_PER_S = 1_000_000_000
PTES = 512  # entries of a page of page tables
LASTING = ("anon", "shmem", "kernel")
GROWING = ("grow", "write")


class _Store(NamedTuple):
    """Writes to a region, that copy what a fork left shared."""

    mapping: str
    begin: float  # [ns]
    rate: float  # pages a second; 0: as fast as it can
    pages: float  # inf: until the end


class _Life(NamedTuple):
    """What one process does to memory; it ends at ``end`` [ns]."""

    growth: dict[str, Knots]
    stores: list[_Store]
    end: float


Knots = list[tuple[float, float]]  # (time [ns], pages)


class Demand(NamedTuple):
    """The most a container asks for at once."""

    bytes: int
    t: float  # when it is first reached [s]


def demands(scenario: Scenario) -> dict[str, Demand]:
    """Peak demand by container.

    Parameters
    ----------
    scenario : Scenario
        With the programs of its processes.

    Returns
    -------
    dict of str to Demand
        In the order of the scenario.
    """
    initial = {m.name: m.size_pages for m in scenario.mappings if m.kind in LASTING}
    shared = {m.name: m for m in scenario.mappings}
    inside: dict[str, list[Process]] = defaultdict(list)
    for process in scenario.processes:
        inside[process.container or process.name].append(process)
    return {
        name: _peak(processes, initial, shared, scenario.duration_ns)
        for name, processes in inside.items()
    }


def _peak(
    processes: list[Process], initial: Table[str, int], mappings: Table[str, Mapping],
    duration_ns: int,
) -> Demand:  # fmt: skip
    curves: list[Knots] = []
    seen: set[str] = set()
    lives = {process.name: _process(process, initial) for process in processes}
    for process in processes:
        growth, _, end = lives[process.name]
        fixed: Knots = [(process.start_ns, process.kernel_pages), (end, process.kernel_pages)]
        curves.append(_ended(fixed, end))
        for mapping, knots in growth.items():
            curves.append(_ended(knots, end))
            if mapping not in seen:
                seen.add(mapping)
                held: Knots = [(process.start_ns, initial[mapping]), (end, initial[mapping])]
                curves.append(_ended(held, end))
    return _highest([*curves, *_copies(processes, lives, mappings)], duration_ns)


def _copies(
    processes: list[Process], lives: Table[str, _Life], mappings: Table[str, Mapping]
) -> Iterator[Knots]:
    """Pages written after a fork, copied while both have them: at most all of the region.

    Each store is taken to hit another page, in whatever order: with uniform stores fewer are
    copied in the same time.
    """

    def copies(of: str, by: Process) -> bool:
        return any(name in mappings and mappings[name].cow_of == of for name in by.mappings)

    for process in processes:
        for store in lives[process.name].stores:
            if copies(store.mapping, process):
                sharing = [process]
            else:
                children = (child for child in processes if child.parent == process.name)
                sharing = [child for child in children if copies(store.mapping, child)]
            for sharer in sharing:
                begin = max(store.begin, float(sharer.start_ns))
                pages = float(min(store.pages, mappings[store.mapping].max_pages))
                last = begin + (pages / store.rate * NS_PER_S if store.rate > 0 else 1.0)
                yield _cut([(begin, 0.0), (last, pages)], lives[sharer.name].end)


def _cut(knots: Knots, end: float) -> Knots:
    """A line that ends where its process does, at the height it has by then."""
    (begin, low), (last, high) = knots
    if end < last:
        high = low + (high - low) * max(end - begin, 0.0) / (last - begin)
        knots = [(begin, low), (max(end, begin), high)]
    return _ended(knots, max(end, begin))


def _highest(curves: list[Knots], duration_ns: int) -> Demand:
    """The highest sum of piecewise linear curves: it lies at a knot."""
    times = np.unique([float(duration_ns), *(t for knots in curves for t, _ in knots)])
    times = times[times <= duration_ns]
    total: Array = np.zeros(times.size)
    for knots in curves:
        t, pages = np.array(knots).T
        total += np.interp(times, t, pages, left=0.0)
    first = int(np.argmax(total >= total.max() - 0.5))
    tables = 1 + 1 / PTES
    return Demand(int(total.max() * tables) * PAGE_SIZE, float(times[first]) / NS_PER_S)


def _ended(knots: Knots, end: float) -> Knots:
    """The curve with its fall to nothing when the process ends."""
    if not np.isfinite(end):
        return [knot for knot in knots if np.isfinite(knot[0])]
    kept = [knot for knot in knots if knot[0] <= end]
    return [*kept, (end + 1, 0.0)]


def _process(process: Process, initial: Table[str, int]) -> _Life:
    """What its tasks add to each mapping, what they write to, and when it ends (inf: never)."""
    growth: dict[str, Knots] = {name: [] for name in process.mappings if name in initial}
    parts: dict[str, list[Knots]] = {name: [] for name in growth}
    end = np.inf
    stores: list[_Store] = []
    for task in process.tasks:
        walk = _Walk(process.start_ns, initial)
        walk.go(task)
        for name, knots in walk.knots.items():
            if name in parts:
                parts[name].append(knots)
        end = min(end, walk.end)
        stores += walk.stores
    for name, found in parts.items():
        growth[name] = _sum(found) if found else [(process.start_ns, 0.0)]
    return _Life(growth, stores, end)


def _sum(found: list[Knots]) -> Knots:
    if len(found) == 1:
        return found[0]
    times = np.unique([t for knots in found for t, _ in knots])
    total = np.zeros(times.size)
    for knots in found:
        t, pages = np.array(knots).T
        total += np.interp(times, t, pages)
    return list(zip(times.tolist(), total.tolist()))


class _Walk:
    """One task at its own pace: what it adds to each mapping."""

    def __init__(self, start_ns: int, initial: Table[str, int]) -> None:
        self.now, self.start, self.end = float(start_ns), float(start_ns), np.inf
        self.initial = initial
        self.level: dict[str, float] = defaultdict(float)
        self.knots: dict[str, Knots] = {}
        self.stores: list[_Store] = []

    def go(self, task: Task) -> None:
        """All its operations, the recorded curve first."""
        if task.trace is not None and task.trace.mapping in self.initial:
            for at, pages in zip(task.trace.at_ns.tolist(), task.trace.pages.tolist()):
                self._target(task.trace.mapping, pages, at)
        elif task.trace is not None and task.trace.at_ns.size:
            self.now = max(self.now, float(task.trace.at_ns[-1]))
        for op in task.ops:
            if op.op in ("exit", "restart"):
                self.end = self.now
                return
            self._step(op)
        if task.exit_at_end:
            self.end = self.now

    def _step(self, op: Op) -> None:
        if op.op == "target":
            self._target(op.mapping, op.pages, op.at_ns)
        elif op.op == "wait":
            self.now = max(self.now, float(op.at_ns))
        elif op.op == "free":
            self._to(op.mapping, self.level[op.mapping] - op.pages, 1.0)
        elif op.op in GROWING:
            self._to(op.mapping, self.level[op.mapping] + op.pages, _nominal(op))
        elif op.op == "store":
            self._store(op)
        elif op.into:
            self._to(op.into, self.level[op.into] + op.pages, _nominal(op))
        else:
            self.now += op.ns or _nominal(op)

    def _store(self, op: Op) -> None:
        pages = float(op.pages) if op.pages else op.rate * op.ns / NS_PER_S
        self.stores.append(_Store(op.mapping, self.now, op.rate, pages or np.inf))
        self.now += op.ns or _nominal(op)

    def _target(self, mapping: str, pages: float, at_ns: float) -> None:
        grown = pages - self.initial.get(mapping, 0)
        self._to(mapping, grown, max(float(at_ns) - self.now, 0.0))

    def _to(self, mapping: str, pages: float, ns: float) -> None:
        """Linear to a new level in ``ns``."""
        if mapping in self.initial:
            knots = self.knots.setdefault(mapping, [(self.start, 0.0)])
            knots.append((self.now, self.level[mapping]))
            knots.append((self.now + max(ns, 1.0), pages))
        self.level[mapping] = pages
        self.now += ns


def _nominal(op: Op) -> float:
    return op.pages / op.rate * NS_PER_S if op.rate > 0 else 0.0
