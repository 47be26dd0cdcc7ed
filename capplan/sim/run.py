"""Run a scenario: build it, let the kernel act, take samples, give back what happened."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

import capplan
from capplan.mm import state as s
from capplan.sim.agents.roster import Roster
from capplan.sim.build import Machine, build, give_back
from capplan.sim.changes import apply_change
from capplan.sim.log import end_open, read_events
from capplan.sim.ops import OP_GROW, OP_READ, OP_WRITE, TURN_PAGES
from capplan.sim.recorder import Recorder, zone_name
from capplan.sim.result import Event, Run, TaskTotals
from capplan.sim.scenario import Scenario
from capplan.sim.step import STOP_AGENT, STOP_DONE, STOP_PANIC, advance

__all__ = ["run"]

TURNS_PER_SLICE = 50_000  # 0.02 to 0.2 s: progress and Ctrl-C come between slices
PROGRESS_S = 0.1


def run(
    scenario: Scenario,
    progress: Callable[[float], None] | None = None,
    replicate: int = 0,
    check: Callable[[Machine], None] | None = None,
    stop: Callable[[Sequence[Event]], object] | None = None,
) -> Run:
    """Simulate a scenario.

    Parameters
    ----------
    scenario : Scenario
    progress : called with the share that is done (0..1), about ten times a second
    replicate : number of the replicate; only the draws depend on it
    check : called with the machine at each sample (tests of invariants)
    stop : called with the events so far, some ten times a second; true ends the run

    Raises
    ------
    BuildError
        The scenario does not fit the engine.
    """
    begin = time.perf_counter()
    machine = build(scenario, replicate)
    recorder = Recorder(machine, _rows(scenario))
    events: list[Event] = []
    machine.kernel[0].sample_ns = scenario.sample_ns
    roster = Roster(machine, replicate) if scenario.agents else None
    tell = _teller(machine, progress)
    for until_ns, sample, changes in _stops(scenario, every_sample=check is not None):
        ended = _advance(machine, recorder.log, max(until_ns, 1), events, roster, tell, stop)
        for change in changes:
            apply_change(machine, change)
        if sample or ended:
            _sample(machine, recorder.log, until_ns)
            if check is not None:
                check(machine)
        if ended:
            break  # the node is down, or enough was seen
    if progress is not None:
        progress(float(machine.kernel[0].now_ns) / scenario.duration_ns)
    end_open(machine, events)
    events.sort(key=attrgetter("t"))  # some are told later than they were
    run = Run(
        scenario=scenario,
        events=tuple(events),
        series=recorder.series(),
        totals=_totals(machine, {} if roster is None else roster.hands.ended_by),
        wmarks=_wmarks(machine),
        version=capplan.__version__,
        seed=scenario.seed,
        granule_pages=int(machine.kernel[0].granule_pages),
        wall_s=time.perf_counter() - begin,
    )
    if replicate > 0 and check is None:
        give_back(machine)
    return run


def _rows(scenario: Scenario) -> int:
    return int(scenario.duration_ns // scenario.sample_ns) + 2


def _stops(scenario: Scenario, every_sample: bool) -> Iterator[tuple[int, bool, list[Any]]]:
    """Times at which the engine stops, in order: the ends, changes, samples that are looked at.

    It takes the other samples itself.
    """
    end = scenario.duration_ns
    samples = {0, end} | (set(range(0, end, scenario.sample_ns)) if every_sample else set())
    changes: dict[int, list[Any]] = {}
    for change in scenario.changes:
        changes.setdefault(change.at_ns, []).append(change)
    for at in sorted(samples | {t for t in changes if t <= end}):
        yield at, at in samples or at % scenario.sample_ns == 0, changes.get(at, [])


def _sample(machine: Machine, log: Any, at_ns: int) -> None:
    """Take the sample that is due, after what was changed at the same moment."""
    k = machine.kernel[0]
    k.sample_due_ns = min(int(k.sample_due_ns), at_ns)
    _engine(machine, log, at_ns, 0)


def _engine(machine: Machine, log: Any, until_ns: int, turns: int) -> int:
    return int(advance(machine.kernel, machine.frames, machine.entries, machine.program,
                       log, until_ns, turns))  # fmt: skip


def _teller(
    machine: Machine, progress: Callable[[float], None] | None
) -> Callable[[], None] | None:
    """Tells progress, at most ten times a second (agents stop the engine more often)."""
    if progress is None:
        return None
    told = [0.0]

    def tell() -> None:
        now = time.monotonic()
        if now - told[0] >= PROGRESS_S:
            told[0] = now
            progress(float(machine.kernel[0].now_ns) / machine.scenario.duration_ns)

    return tell


def _advance(
    machine: Machine,
    log: Any,
    until_ns: int,
    events: list[Event],
    roster: Roster | None,
    tell: Callable[[], None] | None,
    stop: Callable[[Sequence[Event]], object] | None,
) -> bool:
    """Bring the machine to ``until_ns``; whether the run is over: a panic, or ``stop``."""
    while True:
        stop_ns = until_ns if roster is None else min(until_ns, roster.due_ns)
        why = _engine(machine, log, stop_ns, TURNS_PER_SLICE)
        read_events(machine, events)
        if tell is not None:
            tell()
        if roster is not None and why == STOP_AGENT:
            roster.wake()
        elif roster is not None and why == STOP_DONE and roster.due_ns <= stop_ns:
            roster.act(events)
        if why == STOP_PANIC or (stop is not None and stop(events)):
            return True
        if why == STOP_DONE and stop_ns == until_ns:
            return False


def _totals(machine: Machine, ended_by: dict[int, str]) -> tuple[TaskTotals, ...]:
    k = machine.kernel[0]
    procs, tasks = k.proc[: int(k.nr_procs)], k.task[: int(k.nr_tasks)]
    # a process's tasks stand in a row, in the order of the processes; each has one at least
    starts = np.searchsorted(tasks["proc"], np.arange(len(procs)))
    summed = {
        field: np.add.reduceat(tasks[field], starts).tolist()
        for field in ("stall_ns", "throttle_ns", "pause_ns", "io_ns", "majfaults")
    }
    late_max = np.maximum.reduceat(tasks["late_max_ns"], starts).tolist()
    late = np.maximum.reduceat(tasks["late_ns"], starts).astype(np.float64)
    live = procs["state"] == s.PROC_LIVE
    late[live] = np.maximum(late, np.maximum.reduceat(_behind(machine, tasks), starts))[live]
    waiting = tasks["state"] == s.TASK_OOM_WAIT
    pausing = np.where(waiting, int(k.now_ns) - tasks["stall_begin_ns"], 0)
    pausing_ns = np.add.reduceat(pausing, starts).tolist()
    paused = np.logical_or.reduceat(waiting, starts).tolist()
    restarts, states = procs["restarts"].tolist(), procs["state"].tolist()
    killed, restarting = (procs["victim"] != 0).tolist(), (procs["restarting"] != 0).tolist()
    out = []
    for p, process in enumerate(machine.scenario.processes, start=1):
        late_s = float(late[p]) / 1e9
        out.append(
            TaskTotals(
                process=process.name,
                container=process.container,
                cgroup=process.cgroup,
                late_s=late_s,
                late_max_s=max(late_max[p] / 1e9, late_s),
                stall_s=summed["stall_ns"][p] / 1e9,
                throttle_s=summed["throttle_ns"][p] / 1e9,
                pause_s=(summed["pause_ns"][p] + pausing_ns[p]) / 1e9,
                io_s=summed["io_ns"][p] / 1e9,
                majfaults=int(summed["majfaults"][p]),
                state=_state(states[p], killed[p], restarting[p], paused[p], ended_by.get(p)),
                restarts=restarts[p],
            )
        )
    return tuple(out)


def _behind(machine: Machine, tasks: Any) -> Any:
    """How late each task is in the op it is at: one at a rate comes every 64 pages [ns]."""
    late = np.zeros(len(tasks))
    at_one = np.flatnonzero((tasks["stage"] == 1) & (tasks["pc"] < tasks["pc_end"]))
    op = machine.program[tasks["pc"][at_one]]
    timed = (op["rate"] > 0.0) & np.isin(op["op"], (OP_GROW, OP_READ, OP_WRITE))
    at_one, op = at_one[timed], op[timed]
    step = max(TURN_PAGES, int(machine.kernel[0].granule_pages))
    done = tasks["op_done"][at_one].astype(np.float64) + step
    due_pages = np.minimum(done, op["pages"].astype(np.float64))
    due = tasks["op_start_ns"][at_one].astype(np.float64) + due_pages / op["rate"] * 1e9
    late[at_one] = np.maximum(float(machine.kernel[0].now_ns) - due, 0.0)
    return late


def _state(state: int, killed: bool, restarting: bool, paused: bool, ended_by: str | None) -> str:
    if killed:
        return "killed"
    if ended_by is not None and state in (s.PROC_EXITING, s.PROC_DEAD):
        return ended_by
    if restarting:
        return "exited"  # waits for its restart
    if state == s.PROC_UNBORN:
        return "unborn"
    if state == s.PROC_LIVE:
        return "paused" if paused else "live"
    return "exited"


def _wmarks(machine: Machine) -> dict[str, tuple[int, int, int]]:
    k = machine.kernel[0]
    zones = k.zone[: int(k.nr_zones)]
    marks = zones["wmark"][:, :3].tolist()
    return {
        zone_name(k, z): (marks[z][0], marks[z][1], marks[z][2])
        for z in np.flatnonzero(zones["managed"] > 0).tolist()
    }
