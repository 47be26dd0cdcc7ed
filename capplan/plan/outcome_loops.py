"""Whether the loops around a node settle: what a VPA or an HPA changed, and when it stopped.

A loop has settled when it changed nothing for longer than ever between two changes (and for five
minutes at least, the longest of the controllers' own memories), and nobody it scales was OOM-killed
in that time. Otherwise it diverges (each change went further the same way), oscillates (they went
to and fro), is stuck (it changes nothing more, and OOM kills go on), or had not yet settled when
the run ended.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from capplan.plan import outcome_chain as link
from capplan.sim.agents.model import Hpa, Vpa
from capplan.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capplan.plan.outcome_context import Context
    from capplan.sim.agents.model import Workload
    from capplan.sim.result import Event

__all__ = ["QUIET_S", "Loop", "judge", "loops"]

QUIET_S = 300.0  # the HPA's window on the way down
MANY = 3  # changes that make a direction


class Loop(NamedTuple):
    """What became of one loop."""

    state: str  # idle, settled, diverges, oscillates, stuck, open
    text: str


def judge(steps: Sequence[tuple[float, float]], last_kill: float, end: float) -> str:
    """The state of a loop.

    Parameters
    ----------
    steps : sequence of (float, float)
        When it changed something [s], and to what; the first is what it began with.
    last_kill : float
        When somebody it scales was OOM-killed last [s]; negative: never.
    end : float
        The run's end. [s]

    Worked example
    --------------
    300 at 0, 488 at 157 s, 683 at 337 s; killed last at 362 s, the run ends at 2400 s: settled.
    With an end at 600 s the five minutes are not over: open. With a kill at 2300 s: stuck. With a
    third step up at 2250 s: diverges.
    """
    if len(steps) < 2:
        return "idle"
    gaps = [b[0] - a[0] for a, b in pairwise(steps[1:])]
    quiet = end - max(steps[-1][0], last_kill)
    needed = max([QUIET_S, *gaps])
    if quiet >= needed:
        return "settled"
    if last_kill > steps[-1][0] and end - steps[-1][0] >= needed:
        return "stuck"
    moves = [b[1] - a[1] for a, b in pairwise(steps)]
    turns = sum((a > 0) != (b > 0) for a, b in pairwise(moves))
    if turns >= MANY - 1:
        return "oscillates"
    if len(moves) >= MANY and turns == 0:
        return "diverges"
    return "open"


def loops(context: Context) -> tuple[Loop, ...]:
    """Each autoscaler of the run, in the order of the file."""
    found = []
    for agent in context.scenario.agents:
        if isinstance(agent, Vpa):
            found.append(_vpa(context, agent.of))
        elif isinstance(agent, Hpa):
            found.append(_hpa(context, agent.of, agent.most))
    return tuple(found)


def _last_kill(context: Context, of: Workload) -> float:
    names = {pod.containers[0] for pod in of.replicas}
    kills = (e for e in context.run.events if e.event == "oom_kill")
    return max((e.t for e in kills if e.name.partition("/")[0] in names), default=-1.0)


def _own(context: Context, of: Workload, event: str) -> list[Event]:
    names = {of.container, *(pod.containers[0] for pod in of.replicas)}
    return [e for e in context.run.events if e.event == event and e.name in names]


def _vpa(context: Context, of: Workload) -> Loop:
    updates = _own(context, of, "vpa_update")
    first = float(of.request)
    # several replicas that get the same target are one step
    steps = [(0.0, first)]
    for event in updates:
        target = float(event.detail["request_bytes"])
        steps = [*steps[:-1], (event.t, target)] if (
            len(steps) > 1 and target == steps[-1][1]) else [*steps, (event.t, target)]  # fmt: skip
    state = judge(steps, _last_kill(context, of), context.duration)
    who = f"the VPA of {of.container}"
    pending = _own(context, of, "vpa_pending")
    if pending:
        asked = format_bytes(pending[-1].detail["request_bytes"])
        room = format_bytes(pending[-1].detail["allocatable_bytes"])
        text = (
            f"{who} asks for {asked}, which does not fit the node's {room}: the pod stays Pending"
        )
        return Loop("diverges", text)
    if state == "idle":
        return Loop(state, f"{who} changed nothing")
    requests = f"request {format_bytes(int(first))} to {format_bytes(int(steps[-1][1]))}"
    old, new = updates[0].detail["old_limit_bytes"], updates[-1].detail["limit_bytes"]
    if old is not None and (old, new) != (int(first), int(steps[-1][1])):
        requests += f", limit {format_bytes(old)} to {format_bytes(new)}"
    return Loop(state, _said(who, state, len(updates), "update", requests, updates[-1].t))


def _hpa(context: Context, of: Workload, most: int) -> Loop:
    scales = _own(context, of, "hpa_scale")
    steps = [(0.0, float(of.running))]
    steps += [(event.t, float(event.detail["replicas"])) for event in scales]
    state = judge(steps, _last_kill(context, of), context.duration)
    who = f"the HPA of {of.container}"
    if state == "idle":
        return Loop(state, f"{who} stayed at {of.running} replicas")
    shown = f"{of.running} to {int(steps[-1][1])} replicas"
    if steps[-1][1] == most:
        shown += ", its maxReplicas"
    pending = _own(context, of, "hpa_pending")
    if pending and pending[-1].detail["pending"]:
        shown += f", {pending[-1].detail['pending']} of them Pending for want of room"
    return Loop(state, _said(who, state, len(scales), "change", shown, scales[-1].t))


def _said(who: str, state: str, count: int, noun: str, what: str, last: float) -> str:
    times = f"{count} {noun}{'s' if count > 1 else ''}"
    at = link.clock(last)
    if state == "settled":
        return f"{who} settled: {times}, the last at {at} ({what})"
    if state == "stuck":
        return f"{who} is stuck, and OOM kills go on: {times}, the last at {at} ({what})"
    if state == "open":
        return f"{who} had not settled at the run's end: {times}, the last at {at} ({what})"
    return f"{who} {state}: {times}, the last at {at} ({what})"
