"""From a finished run to a verdict that a person understands.

"Fits" means: no OOM kill, no pause, no eviction, no unfinished work, and no process asleep
in a throttle for more than the gate's share of its life.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from capplan.plan import outcome_bound
from capplan.plan.outcome_agents import first_actor, idle_thresholds
from capplan.plan.outcome_containers import containers
from capplan.plan.outcome_context import NS_PER_S, Context
from capplan.plan.outcome_fidelity import fidelity_of
from capplan.plan.outcome_gate import Bars
from capplan.plan.outcome_incidents import SEVERITY, assumed, incidents
from capplan.plan.outcome_loops import Loop, loops
from capplan.plan.outcome_model import (
    DEFAULT_THROTTLE_SHARE,
    Candidate,
    ContainerOutcome,
    GateLike,
    Incident,
    NodeOutcome,
    Outcome,
    Sign,
    Span,
    ZoneOutcome,
)
from capplan.plan.outcome_node import node
from capplan.units import format_bytes, format_duration

if TYPE_CHECKING:
    from capplan.sim.result import Run

DISK_BOUND_SHARE = 0.1  # of a process's life: worth a note
CHARGE_BATCH_BYTES = 64 * 4096  # MEMCG_CHARGE_BATCH: closer to a limit than this is at it

__all__ = [
    "DEFAULT_THROTTLE_SHARE",
    "Candidate",
    "ContainerOutcome",
    "GateLike",
    "Incident",
    "NodeOutcome",
    "Outcome",
    "Sign",
    "Span",
    "ZoneOutcome",
    "analyse",
]


def analyse(run: Run, gate: GateLike | None = None, stock: Run | None = None) -> Outcome:
    """What ``run`` means.

    Parameters
    ----------
    run : Run
        A finished simulation.
    gate : GateLike, optional
        Anything with ``max_throttle_share`` (None: 1 %) and, if it likes, ``max_lateness`` [ns]
        and ``min_headroom`` (int: bytes, float: share of the limit).
    stock : Run, optional
        The same scenario with ``oom_kill_disable: 0``, where the file left it out (v1).

    Returns
    -------
    Outcome
        The verdict and its evidence.
    """
    bars = Bars.of(gate)
    context = Context(run)
    found = containers(context, bars.max_throttle_share)
    events = incidents(context, found, bars)
    of_node = node(context)
    breaking = tuple(i for i in events if i.breaks)
    stock_verdict = _stock_verdict(context, breaking, stock)
    first_killer, who_first = first_actor(context)
    return Outcome(
        fits=not breaking,
        verdict=_with_loops(
            _verdict(context, found, of_node, breaking, stock_verdict, who_first), loops(context)
        ),
        name=run.scenario.name,
        duration_s=context.duration,
        throttle_share=max((c.throttle_share for c in found), default=0.0),
        max_throttle_share=bars.max_throttle_share,
        containers=found,
        node=of_node,
        incidents=events,
        assumptions=run.scenario.assumptions,
        notes=(*_notes(context, found), *outcome_bound.notes(context, found)),
        first_killer=first_killer,
        stock_verdict=stock_verdict,
        fidelity=fidelity_of(run),
    )


def _verdict(
    context: Context,
    found: tuple[ContainerOutcome, ...],
    of_node: NodeOutcome,
    breaking: tuple[Incident, ...],
    stock_verdict: str,
    who_first: str,
) -> str:
    if not breaking:
        return _fits(context, found, of_node)
    worst = min(breaking, key=lambda i: (SEVERITY.index(i.kind), i.t))
    text = worst.title
    if worst.kind == "paused" and stock_verdict:
        text = text.replace("is paused", "pauses (assumed)", 1) + f"; {stock_verdict}"
    elif worst.chain:
        text += f"; {worst.chain[0]}"
    others = _others([i for i in breaking if i is not worst])
    return f"Does not fit: {text}{others}{f'; {who_first}' if who_first else ''}."


def _with_loops(verdict: str, found: tuple[Loop, ...]) -> str:
    """The verdict, and whether each autoscaler settled."""
    said = "; ".join(loop.text for loop in found)
    return f"{verdict[:-1]}; {said}." if said else verdict


def _others(rest: list[Incident]) -> str:
    """How many more containers, by what befell them."""
    if not rest:
        return ""
    words = {
        "oom_kill": "OOM-killed", "paused": "paused", "evicted": "evicted", "tight": "too tight",
        "oomd_kill": "killed by systemd-oomd", "earlyoom_kill": "killed by earlyoom",
        "throttled": "throttled", "unfinished": "unfinished", "enomem": "refused memory (ENOMEM)",
        "hugepages_short": "short of huge pages", "panic": "ended by the panic",
        "oom_no_victim": "out of memory with nobody to kill",
    }  # fmt: skip
    counts: dict[str, set[str]] = {}
    for incident in rest:
        word = words.get(incident.kind, incident.kind)
        counts.setdefault(word, set()).add(incident.container or incident.name)
    said = ", ".join(f"{len(names)} {word}" for word, names in counts.items())
    return f" (also: {said})"


LITTLE = 0.01
"""MemAvailable below this share of the memory is no room that one "always had"."""


def _fits(context: Context, found: tuple[ContainerOutcome, ...], of_node: NodeOutcome) -> str:
    many = f"{len(found)} containers ran" if len(found) != 1 else f"{found[0].name} ran"
    text = f"Fits: {many} {format_duration(context.duration * NS_PER_S)} with nobody killed, paused"
    text += " or left behind"
    text += _tightest(context, found)
    if of_node.lowest_available_bytes is not None:
        low = format_bytes(of_node.lowest_available_bytes)
        if of_node.lowest_available_bytes < LITTLE * of_node.memory_bytes:
            text += f"; the node was down to {low} available"
        else:
            text += f"; the node always had {low} available"
    return text + "."


def _tightest(context: Context, found: tuple[ContainerOutcome, ...]) -> str:
    limited = [c for c in found if c.headroom_share is not None]
    if not limited:
        return ""
    tight = min(limited, key=lambda c: (c.headroom_share or 0.0, c.name))
    limit = f"its {tight.limit_key} of {format_bytes(tight.limit_bytes or 0)}"
    room = tight.headroom_bytes or 0
    if room >= CHARGE_BATCH_BYTES:
        left = f"{format_bytes(room)} ({100 * (tight.headroom_share or 0.0):.3g} %)"
        return f"; the tightest is {tight.name} with {left} below {limit}"
    text = f"; the tightest is {tight.name}, which fills {limit}"
    swapped = context.series.get(f"cgroup.{tight.limit_cgroup}.memory.swap.current")
    if swapped is not None and swapped.max() > 0:
        text += f" (up to {format_bytes(float(swapped.max()))} of it in swap)"
    return text


def _stock_verdict(context: Context, breaking: tuple[Incident, ...], stock: Run | None) -> str:
    """What a stock kernel would do where a pause rests on an assumption; "" elsewhere."""
    paused = [i for i in breaking if i.kind == "paused" and assumed(context, i.cgroup)]
    if not paused:
        return ""
    if stock is None:
        return "a stock kernel (oom_kill_disable 0) would kill a process there instead"
    kill = next((e for e in stock.events if e.event == "oom_kill"), None)
    if kill is None:
        return "a stock kernel (oom_kill_disable 0) would kill nobody"
    when = format_duration(kill.t * NS_PER_S)
    return f"a stock kernel (oom_kill_disable 0) would kill {kill.name} at {when}"


def _notes(context: Context, found: tuple[ContainerOutcome, ...]) -> tuple[str, ...]:
    """What a reader should know besides: stalls without an incident, page cache at a limit."""
    notes = idle_thresholds(context)
    for c in found:
        if c.stall_share > DEFAULT_THROTTLE_SHARE and not c.troubled:
            share = f"{100 * c.stall_share:.3g} %"
            notes.append(f"{c.name} is slowed by memory stalls for {share} of its time")
        notes += _disk_bound(context, c)
    return tuple(notes)


def _disk_bound(context: Context, c: ContainerOutcome) -> list[str]:
    """A process that waits for what was reclaimed and is read back: no incident, but slow."""
    for row in context.totals[c.name]:
        lived = context.life(row.process)
        if lived and row.io_s > DISK_BOUND_SHARE * lived and row.majfaults:
            share = f"{100 * row.io_s / lived:.3g} %"
            faults = f"{row.majfaults:,} major faults"
            why = f"what it uses does not fit into memory ({faults})"
            return [f"{row.process} waits for the disk {share} of its time: {why}"]
    return []
