"""What the containers' programs ask for, by their own plan: before any limit answers.

A run that a limit stopped shows how far a container came, not how far it would have gone. The
scenario knows: every growth, burst, leak and recorded curve stands in it as drawn. Walked at their
own rates, as if nothing were in the way, they give the memory that only swap or an exit takes back
(anonymous, shared, kernel); page cache is left out, reclaim takes it.

Departs: one life of each process (a later one asks for the same again); a child's copies count
from its own start.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from capplan.sim.scenario import PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Mapping as Table

    from capplan.plan.outcome_series import Array
    from capplan.sim.scenario import Op, Process, Scenario, Task

NS_PER_S = 1_000_000_000
PTES = 512  # entries of a page of page tables
LASTING = ("anon", "shmem", "kernel")
GROWING = ("grow", "write")

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
    inside: dict[str, list[Process]] = defaultdict(list)
    for process in scenario.processes:
        inside[process.container or process.name].append(process)
    return {
        name: _peak(processes, initial, scenario.duration_ns) for name, processes in inside.items()
    }


def _peak(processes: list[Process], initial: Table[str, int], duration_ns: int) -> Demand:
    curves: list[Knots] = []
    seen: set[str] = set()
    for process in processes:
        growth, end = _process(process, initial)
        fixed: Knots = [(process.start_ns, process.kernel_pages), (end, process.kernel_pages)]
        curves.append(_ended(fixed, end))
        for mapping, knots in growth.items():
            curves.append(_ended(knots, end))
            if mapping not in seen:
                seen.add(mapping)
                held: Knots = [(process.start_ns, initial[mapping]), (end, initial[mapping])]
                curves.append(_ended(held, end))
    return _highest(curves, duration_ns)


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


def _process(process: Process, initial: Table[str, int]) -> tuple[dict[str, Knots], float]:
    """What its tasks add to each mapping, and when it ends (inf: never)."""
    growth: dict[str, Knots] = {name: [] for name in process.mappings if name in initial}
    parts: dict[str, list[Knots]] = {name: [] for name in growth}
    end = np.inf
    for task in process.tasks:
        walk = _Walk(process.start_ns, initial)
        walk.go(task)
        for name, knots in walk.knots.items():
            if name in parts:
                parts[name].append(knots)
        end = min(end, walk.end)
    for name, found in parts.items():
        growth[name] = _sum(found) if found else [(process.start_ns, 0.0)]
    return growth, end


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
        elif op.into:
            self._to(op.into, self.level[op.into] + op.pages, _nominal(op))
        else:
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
