"""A Go program: the heap goal under GOGC and GOMEMLIMIT, the scavenger, the collector's CPU.

Sources, in Go's src/runtime: mgcpacer.go (commit, memoryLimitHeapGoal), mgcscavenge.go
(retainExtraPercent, reduceExtraPercent), mgclimit.go (the CPU limiter).
"""

from __future__ import annotations

from typing import NamedTuple

from capplan.spec.common import Dist
from capplan.spec.runtime import Go
from capplan.spec.runtimes.common import Expansion, Facts, busy, region, scans
from capplan.units import format_bytes

__all__ = ["Pace", "expand_go", "heap_goal", "pace_of"]

MIB = 1 << 20
NS_PER_S = 1_000_000_000
HEAP_MINIMUM = 4 * MIB  # defaultHeapMinimum, at GOGC=100
HEADROOM_PERCENT, LEAST_HEADROOM = 3, 1 * MIB  # memoryLimitHeapGoalHeadroomPercent, ...Min...
RETAIN_EXTRA, REDUCE_EXTRA = 0.10, 0.05  # what the scavenger keeps above the goal; below a limit
CPU_LIMIT = 0.5  # mgclimit.go: share of GOMAXPROCS that the collector may take


class Pace(NamedTuple):
    """How the collector runs."""

    goal: int  # heap at which a cycle is over [bytes]
    peak: int  # heap that there is at the end of a cycle [bytes]
    every_ns: int  # from cycle to cycle
    cpu: float  # share of GOMAXPROCS that it takes
    limited: bool  # the CPU limiter acts: the goal cannot be held


def heap_goal(go: Go, *, nonheap: int) -> int:
    """The next heap goal [bytes].

    ::

        live + (live + stacks + globals) * GOGC / 100, at least 4 MiB * GOGC / 100
        with GOMEMLIMIT at most limit - nonheap, less 3 % of that (at least 1 MiB)
        never below live

    Parameters
    ----------
    go : Go
    nonheap : int
        What counts towards GOMEMLIMIT besides the heap: stacks and the runtime. [bytes]

    Worked example
    --------------
    Live 100 MiB, stacks 8 MiB, globals 2 MiB, GOGC 100: 210 MiB. With GOMEMLIMIT 200 MiB and 18
    MiB outside the heap: 182 MiB less 5.46 MiB, 176.5 MiB.
    """
    live = int(go.live)
    goal = 1 << 62
    if go.gogc >= 0:
        roots = go.goroutines * go.stack + go.globals
        goal = max(live + (live + roots) * go.gogc // 100, HEAP_MINIMUM * go.gogc // 100)
    if go.gomemlimit is not None:
        room = max(go.gomemlimit - nonheap, 0)
        room -= max(room * HEADROOM_PERCENT // 100, LEAST_HEADROOM)
        goal = min(goal, room)
    return max(goal, live)


def pace_of(go: Go, goal: int, procs: int) -> Pace:
    """How often a cycle comes and what it costs.

    A cycle marks live data, stacks and globals; the next begins when allocation has reached the
    goal. Where that would take more than half of GOMAXPROCS, the limiter holds the collector to
    half: cycles follow each other without a pause, and what is allocated in one is freed only by
    the next, so the heap has two cycles' allocation above the live data.

    Worked example
    --------------
    Live 400 MiB, goal 420 MiB, 100 MiB/s, 1 GiB/s and CPU, GOMAXPROCS 1: a cycle each 0.2 s would
    take 0.39 CPU seconds. At half a CPU one takes 0.78 s, so the peak is 400 + 2 * 78 MiB.
    """
    work = int(go.live) + go.goroutines * go.stack + go.globals
    seconds = work / go.scan_rate  # CPU seconds of a cycle
    if go.allocation_rate <= 0:
        return Pace(goal, goal, 0, 0.0, False)
    every = (goal - go.live) / go.allocation_rate
    cpu = seconds / (every * procs) if every > 0 else 2 * CPU_LIMIT
    if cpu <= CPU_LIMIT:
        return Pace(goal, goal, round(every * NS_PER_S), cpu, False)
    every = seconds / (CPU_LIMIT * procs)
    peak = max(goal, int(go.live + 2 * go.allocation_rate * every))
    return Pace(goal, peak, round(every * NS_PER_S), CPU_LIMIT, True)


def expand_go(go: Go, facts: Facts) -> Expansion:
    """Regions, scans and sums of a Go program."""
    stacks, procs = go.goroutines * go.stack, go.gomaxprocs or facts.cpus
    nonheap = stacks + go.runtime
    out = Expansion(threads=procs + 4)  # Ms that run goroutines; sysmon and three in system calls
    goal = heap_goal(go, nonheap=nonheap)
    if goal >= facts.memory + (1 << 50):
        goal = facts.memory  # GOGC=off and no limit: it never collects
        out.warnings.append(("GOGC=off without GOMEMLIMIT: it never collects", "GOMEMLIMIT=450MiB"))
    pace = pace_of(go, goal, procs)
    heap = _resident(go, pace, nonheap)
    _notes(go, pace, heap, nonheap, facts, out)
    live, access = int(go.live), go.access_rate
    rate = busy(go.allocation_rate if access is None else access)
    out.regions["live"] = region(live, rate, growth=go.growth)
    if pace.peak > live:
        out.regions["allocated"] = region(pace.peak - live, busy(go.allocation_rate, "cyclic"))
    if heap > pace.peak:
        out.regions["retained"] = region(heap - pace.peak)
    out.most += heap
    out.parts.append(f"heap {format_bytes(heap)}")
    out.add("stacks", stacks)
    out.add("runtime", go.runtime + go.globals)
    if pace.every_ns > 0 and live > 0:
        out.phases = scans("live", live, Dist[int](constant=pace.every_ns), go.scan_rate)
    out.note_access(go)
    return out


def _resident(go: Go, pace: Pace, nonheap: int) -> int:
    """Heap that stays mapped [bytes]: the scavenger returns what is above its goal.

    Without a limit it keeps 10 % above the heap goal; with one it works towards 95 % of the
    limit, and what is in use it cannot return.
    """
    kept = int(pace.peak * (1 + RETAIN_EXTRA))
    if go.gomemlimit is not None:
        kept = min(kept, int(go.gomemlimit * (1 - REDUCE_EXTRA)) - nonheap)
    return max(kept, pace.peak)


def _notes(go: Go, pace: Pace, heap: int, nonheap: int, facts: Facts, out: Expansion) -> None:
    gogc = "off" if go.gogc < 0 else str(go.gogc)
    limit = "none" if go.gomemlimit is None else format_bytes(go.gomemlimit)
    out.notes.append(
        f"heap goal {format_bytes(pace.goal)}: live data of {format_bytes(go.live)}, GOGC {gogc}, "
        f"GOMEMLIMIT {limit}; {format_bytes(heap)} stay mapped"
    )
    if pace.every_ns:
        cpu = f"{100 * pace.cpu:.0f} % of GOMAXPROCS"
        out.notes.append(f"a collection each {pace.every_ns / NS_PER_S:.3g} s, {cpu}")
    if pace.limited:
        what = f"the collector is held to half the CPUs and the heap reaches {format_bytes(heap)}"
        if go.gomemlimit is not None and heap + nonheap > go.gomemlimit:
            what += f", above the GOMEMLIMIT of {limit}"
        out.warnings.append((what, "a higher GOMEMLIMIT or GOGC, or less live data"))
    if go.gomemlimit is None and facts.limit is not None:
        out.notes.append("no GOMEMLIMIT: Go does not look at the container's limit")
    elif go.gomemlimit is not None and facts.limit is not None and go.gomemlimit > facts.limit:
        message = f"GOMEMLIMIT {limit} is above the limit of {format_bytes(facts.limit)}"
        out.warnings.append((message, "about 90 % of the limit"))
