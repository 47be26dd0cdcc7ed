"""Per container: lateness, stalls, what befell it, and its sizes (outcome_sizes)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from capplan.plan.outcome_agents import AGENT_KINDS
from capplan.plan.outcome_context import NS_PER_S, Context
from capplan.plan.outcome_model import ContainerOutcome, Span
from capplan.plan.outcome_sizes import sizes
from capplan.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from capplan.sim.result import TaskTotals
    from capplan.sim.scenario import Op, Process


def containers(context: Context, max_throttle_share: float) -> tuple[ContainerOutcome, ...]:
    """Every container of the run, in the order of the scenario."""
    befallen: dict[str, Mapping[str, Sequence[Any]]] = {
        "throttled": _throttled(context),
        "paused": _spans(context, "paused", "resumed"),
        "killed": _times(context, "oom_kill"),
        "evicted": _times(context, *AGENT_KINDS),
    }
    return tuple(
        _container(
            context, name, rows, max_throttle_share,
            size | {what: tuple(found.get(name, ())) for what, found in befallen.items()},
        )
        for (name, rows), size in zip(context.totals.items(), sizes(context))
    )  # fmt: skip


def _container(
    context: Context,
    name: str,
    rows: list[TaskTotals],
    max_throttle_share: float,
    others: dict[str, Any],
) -> ContainerOutcome:
    lives = {row.process: context.life(row.process) for row in rows}
    lived = sum(lives.values())
    return ContainerOutcome(
        name=name,
        cgroup=rows[0].cgroup,
        processes=len(lives),
        late_s=max(row.late_s for row in rows),
        late_max_s=max(row.late_max_s for row in rows),
        throttle_s=sum(row.throttle_s for row in rows),
        throttle_share=max(_share(row.throttle_s, lives[row.process]) for row in rows),
        pause_s=sum(row.pause_s for row in rows),
        stall_s=sum(row.stall_s for row in rows),
        stall_share=_share(sum(row.stall_s for row in rows), lived),
        majfaults=sum(row.majfaults for row in rows),
        restarts=sum(row.restarts for row in rows),
        unfinished=_unfinished(context, rows, lives, max_throttle_share),
        **others,
    )


def _share(part: float, whole: float) -> float:
    return min(part / whole, 1.0) if whole > 0 else 0.0


def _times(context: Context, *kinds: str) -> dict[str, list[float]]:
    """When something of these kinds befell each container."""
    found: dict[str, list[float]] = {}
    for event in context.events(*kinds):
        found.setdefault(context.container_of(event), []).append(event.t)
    return found


def _spans(context: Context, begin: str, end: str) -> dict[str, list[Span]]:
    """Stretches per container; those of its processes that overlap are one."""
    open_since: dict[tuple[str, str], float] = {}
    found: dict[str, list[Span]] = {}
    for event in context.events(begin, end, "exit", "oom_kill"):
        key = (context.container_of(event), event.name)
        if event.event == begin:
            open_since.setdefault(key, event.t)
        elif key in open_since:
            found.setdefault(key[0], []).append(Span(open_since.pop(key), event.t))
    for (container, _), since in open_since.items():
        found.setdefault(container, []).append(Span(since, None))
    return {container: _merge(spans) for container, spans in found.items()}


def _throttled(context: Context) -> dict[str, list[Span]]:
    """Stretches in which memory.high's throttle slept: from events, else from the counters."""
    found = _spans(context, "throttle_begin", "throttle_end")
    own = [
        (name, f"cgroup.{path}.throttle_us") for name, path in context.container_cgroup.items()
        if name not in found and context.sharing[path] == 1
    ]  # fmt: skip
    slept = np.nan_to_num(context.series.table([series for _, series in own]))
    for i in np.flatnonzero(slept.any(axis=1)):
        stretches = context.series.stretches(context.series.rises(slept[i]))
        if stretches:
            found[own[i][0]] = [Span(begin, end) for begin, end in stretches]
    return found


def _merge(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for span in sorted(spans, key=lambda s: s.begin):
        last = merged[-1] if merged else None
        if last is not None and (last.end is None or span.begin <= last.end):
            ends = (last.end, span.end)
            end = None if None in ends else max(e for e in ends if e is not None)
            merged[-1] = Span(last.begin, end)
        else:
            merged.append(span)
    return merged


# --- unfinished work ---------------------------------------------------------------------


def _unfinished(
    context: Context,
    rows: list[TaskTotals],
    lives: dict[str, float],
    max_share: float,
) -> tuple[str, ...]:
    """Why a container's work was not done, a sentence per process; empty when it was."""
    said = []
    for row in rows:
        process = context.processes.get(row.process)
        why = None if process is None else _left_over(context, process, row)
        behind = row.late_s > max(max_share * lives[row.process], context.sample_s)
        if why is None and row.state in ("live", "paused") and behind:
            late = format_duration(row.late_s * NS_PER_S)
            why = f"{row.process} is {late} behind its schedule at the end of the run"
        if why is not None:
            said.append(why)
    return tuple(dict.fromkeys(said))


def _left_over(context: Context, process: Process, row: TaskTotals) -> str | None:
    if row.state == "unborn":
        start = process.start_ns / NS_PER_S
        if process.parent or start >= context.duration or _stopped(context, process.name):
            return None
        return f"{row.process} was to start at {format_duration(process.start_ns)} and never did"
    if row.state == "paused":
        return f"{row.process} is still paused at the end of the run"
    planned = _planned_end(process)
    if row.state != "live" or planned is None or planned > context.duration:
        return None
    due = format_duration(planned * NS_PER_S)
    return f"{row.process} was to end at {due} and is still at work at the end of the run"


def _stopped(context: Context, process: str) -> bool:
    """Whether something was seen of it: then "unborn" only means between two lives."""
    return any(True for _ in context.events("start", "exit", "oom_kill", name=process))


def _planned_end(process: Process) -> float | None:
    """When the process would end were nothing in its way [s]; None: it does not end."""
    ends = [
        _walk(task.ops, process.start_ns)
        for task in process.tasks
        if task.exit_at_end or any(op.op == "exit" for op in task.ops)
    ]
    return min(ends) / NS_PER_S if ends else None


def _walk(ops: tuple[Op, ...], start_ns: int) -> float:
    """The time at which these ops would be done at their own rates [ns]."""
    now = float(start_ns)
    for op in ops:
        if op.op in ("wait", "target"):
            now = max(now, float(op.at_ns))
        elif op.ns:
            now += op.ns
        elif op.pages and op.rate > 0:
            now += op.pages / op.rate * NS_PER_S
        if op.op == "exit":
            break
    return now
