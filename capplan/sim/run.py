"""Run a scenario: build it, let the kernel act, take samples, give back what happened."""

from __future__ import annotations

import errno
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import capplan
from capplan.mm import state as s
from capplan.sim.build import Machine, build
from capplan.sim.changes import apply_change
from capplan.sim.ops import OP_GROW, OP_READ, OP_WRITE, TURN_PAGES
from capplan.sim.recorder import Recorder, zone_name
from capplan.sim.result import Event, Run, TaskTotals
from capplan.sim.scenario import Scenario
from capplan.sim.step import STOP_DONE, STOP_PANIC, advance

__all__ = ["run"]

TURNS_PER_SLICE = 200_000  # about 0.1 s: progress and Ctrl-C come between slices

_KINDS = {
    s.KIND_START: "start", s.KIND_EXIT: "exit", s.KIND_OOM_KILL: "oom_kill",
    s.KIND_PAUSED: "paused", s.KIND_RESUMED: "resumed", s.KIND_OOM_NO_VICTIM: "oom_no_victim",
    s.KIND_PANIC: "panic", s.KIND_ENOMEM: "enomem", s.KIND_KSWAPD_WAKE: "kswapd_wake",
    s.KIND_KSWAPD_SLEEP: "kswapd_sleep", s.KIND_DIRECT_RECLAIM: "direct_reclaim",
    s.KIND_SWAP_FULL: "swap_full", s.KIND_ZSWAP_FULL: "zswap_full", s.KIND_RESTART: "restart",
    s.KIND_THROTTLE_BEGIN: "throttle_begin", s.KIND_THROTTLE_END: "throttle_end",
    s.KIND_WRITE_FAILED: "write_failed",
}  # fmt: skip
_WRITES = {
    s.WRITE_V1_LIMIT: "memory.limit_in_bytes", s.WRITE_V1_MEMSW: "memory.memsw.limit_in_bytes",
    s.WRITE_RECLAIM: "memory.reclaim",
}  # fmt: skip


def run(
    scenario: Scenario,
    progress: Callable[[float], None] | None = None,
    replicate: int = 0,
    check: Callable[[Machine], None] | None = None,
) -> Run:
    """Simulate a scenario.

    Parameters
    ----------
    scenario : Scenario
    progress : called with the share that is done (0..1), about ten times a second
    replicate : number of the replicate; only the draws depend on it
    check : called with the machine at each sample (tests of invariants)

    Raises
    ------
    BuildError
        The scenario does not fit the engine.
    """
    begin = time.perf_counter()
    machine = build(scenario, replicate)
    recorder = Recorder(machine, _rows(scenario))
    events: list[Event] = []
    for until_ns, sample, changes in _stops(scenario):
        panicked = _advance(machine, max(until_ns, 1), events, scenario, progress)
        for change in changes:
            apply_change(machine, change)
        if sample:
            recorder.sample(until_ns)
            if check is not None:
                check(machine)
        if panicked:
            break  # the node is down: nothing more happens
    return Run(
        scenario=scenario,
        events=tuple(events),
        series=recorder.series(),
        totals=_totals(machine),
        wmarks=_wmarks(machine),
        version=capplan.__version__,
        seed=scenario.seed,
        granule_pages=int(machine.kernel[0].granule_pages),
        wall_s=time.perf_counter() - begin,
    )


def _rows(scenario: Scenario) -> int:
    return int(scenario.duration_ns // scenario.sample_ns) + 2


def _stops(scenario: Scenario) -> Iterator[tuple[int, bool, list[Any]]]:
    """Times at which the engine stops: samples and changes, in order."""
    samples = set(range(0, scenario.duration_ns, scenario.sample_ns)) | {scenario.duration_ns}
    changes: dict[int, list[Any]] = {}
    for change in scenario.changes:
        changes.setdefault(change.at_ns, []).append(change)
    for at in sorted(samples | {t for t in changes if t <= scenario.duration_ns}):
        yield at, at in samples, changes.get(at, [])


def _advance(
    machine: Machine,
    until_ns: int,
    events: list[Event],
    scenario: Scenario,
    progress: Callable[[float], None] | None,
) -> bool:
    """Bring the machine to ``until_ns``; whether it panicked."""
    while True:
        with warnings.catch_warnings(), np.errstate(over="ignore"):
            stop = advance(machine.kernel, machine.frames, machine.entries, machine.program,
                           until_ns, TURNS_PER_SLICE)  # fmt: skip
        _read_events(machine, events)
        if progress is not None:
            progress(float(machine.kernel[0].now_ns) / scenario.duration_ns)
        if stop in (STOP_DONE, STOP_PANIC):
            return bool(stop == STOP_PANIC)


def _read_events(machine: Machine, events: list[Event]) -> None:
    k = machine.kernel[0]
    paths = {c: path for path, c in machine.cgroup_index.items()}
    for i in range(int(k.nr_events)):
        record = k.event[i]
        if record.proc > 0:
            events.append(_event(k, record, machine.proc_names[int(record.proc)], paths))
        elif record.kind not in (s.KIND_START, s.KIND_EXIT):
            events.append(_event(k, record, "", paths))
    k.nr_events = 0


def _pgtables(k: Any, record: Any) -> int:
    """Page tables of an OOM victim when it was chosen: the rest of its badness (oom_badness)."""
    proc = k.proc[int(record.proc)]
    if k.badness_per_mille or proc.cap_sys_admin:
        return int(proc.pgtables)
    memory = int(record.a) + int(record.b) + int(record.c) + int(record.d)
    return max(int(record.e) - memory - int(proc.oom_score_adj) * (int(record.f) // 1000), 0)


def _event(k: Any, record: Any, name: str, paths: dict[int, str]) -> Event:
    kind = _KINDS[int(record.kind)]
    cgroup = paths[int(k.proc[int(record.proc)].memcg)] if record.proc > 0 else ""
    detail: dict[str, Any] = {}
    scope = ""
    if kind == "oom_kill":
        scope = "memcg" if record.memcg > 0 else "global"
        detail = {
            "scope": scope,
            "oom_cgroup": paths[int(record.memcg)] if record.memcg > 0 else "",
            "anon_rss_kb": int(record.a) * 4,
            "file_rss_kb": int(record.b) * 4,
            "shmem_rss_kb": int(record.c) * 4,
            "swap_kb": int(record.d) * 4,
            "pgtables_kb": _pgtables(k, record) * 4,
            "oom_score_adj": int(k.proc[int(record.proc)].oom_score_adj),
            "points": int(record.e),
            "totalpages": int(record.f),
            "constraint": "CONSTRAINT_MEMCG" if record.memcg > 0 else "CONSTRAINT_NONE",
        }
    elif kind == "exit":
        code = int(record.a)
        detail = {"how": "signal" if code < 0 else "code", "value": abs(code)}
    elif kind == "resumed":
        detail = {"paused_s": int(record.a) / 1e9}
    elif kind == "restart":
        detail = {"restarts": int(record.a)}
    elif kind == "write_failed":
        name = cgroup = paths[int(record.memcg)]
        detail = {
            "errno": errno.errorcode[int(record.a)],
            "key": _WRITES[int(record.b)],
            "pages": int(record.c),
            "reclaimed": int(record.d),
        }
    return Event(int(record.t_ns) / 1e9, kind, name, cgroup, scope, detail)


def _totals(machine: Machine) -> tuple[TaskTotals, ...]:
    k = machine.kernel[0]
    out = []
    by_name = {process.name: process for process in machine.scenario.processes}
    tasks = k.task[: int(k.nr_tasks)]
    for p, name in enumerate(machine.proc_names):
        if p == 0:
            continue
        own = tasks[tasks["proc"] == p]
        process = by_name[name]
        late = _lateness(machine, p, own)
        out.append(
            TaskTotals(
                process=name,
                container=process.container,
                cgroup=process.cgroup,
                late_s=late,
                late_max_s=max(float(own["late_max_ns"].max()) / 1e9, late),
                stall_s=float(own["stall_ns"].sum()) / 1e9,
                throttle_s=float(own["throttle_ns"].sum()) / 1e9,
                pause_s=_paused(k, own),
                io_s=float(own["io_ns"].sum()) / 1e9,
                majfaults=int(own["majfaults"].sum()),
                state=_state(k, p, own),
                restarts=int(k.proc[p].restarts),
            )
        )
    return tuple(out)


def _paused(k: Any, own: Any) -> float:
    total = float(own["pause_ns"].sum())
    waiting = own[own["state"] == s.TASK_OOM_WAIT]
    return (total + float((int(k.now_ns) - waiting["stall_begin_ns"]).sum())) / 1e9


def _lateness(machine: Machine, p: int, own: Any) -> float:
    """How far behind its schedule the latest task of process p is [s]."""
    late = float(own["late_ns"].max())
    if machine.kernel[0].proc[p].state == s.PROC_LIVE:
        late = max([late, *(_behind(machine, task) for task in own)])
    return late / 1e9


def _behind(machine: Machine, task: Any) -> float:
    """How late a task is in the op it is at: one at a rate comes every 64 pages [ns]."""
    if task["stage"] != 1 or task["pc"] >= task["pc_end"]:
        return 0.0
    op = machine.program[int(task["pc"])]
    if op["rate"] <= 0.0 or op["op"] not in (OP_GROW, OP_READ, OP_WRITE):
        return 0.0
    step = max(TURN_PAGES, int(machine.kernel[0].granule_pages))
    due_pages = min(float(task["op_done"]) + step, float(op["pages"]))
    due = float(task["op_start_ns"]) + due_pages / float(op["rate"]) * 1e9
    return max(float(machine.kernel[0].now_ns) - due, 0.0)


def _state(k: Any, p: int, own: Any) -> str:
    proc = k.proc[p]
    if proc.victim:
        return "killed"
    if proc.restarting:
        return "exited"  # waits for its restart
    if proc.state == s.PROC_UNBORN:
        return "unborn"
    if proc.state == s.PROC_LIVE:
        return "paused" if (own["state"] == s.TASK_OOM_WAIT).any() else "live"
    return "exited"


def _wmarks(machine: Machine) -> dict[str, tuple[int, int, int]]:
    k = machine.kernel[0]
    marks = {}
    for z in range(int(k.nr_zones)):
        if k.zone[z].managed > 0:
            low, mid, high = (int(k.zone[z].wmark[i]) for i in range(3))
            marks[zone_name(k, z)] = (low, mid, high)
    return marks
