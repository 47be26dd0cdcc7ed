"""Incidents: what went wrong, each with its cause as a chain and the signs before it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from capplan.plan import outcome_agents as agents
from capplan.plan import outcome_badness as badness
from capplan.plan import outcome_bound
from capplan.plan import outcome_chain as link
from capplan.plan.outcome_context import NS_PER_S, Context
from capplan.plan.outcome_gate import Bars, beyond
from capplan.plan.outcome_hugepages import short_pools
from capplan.plan.outcome_model import Candidate, ContainerOutcome, Incident
from capplan.plan.outcome_signs import signs
from capplan.spec.cgroup import ancestry
from capplan.units import format_bytes, format_duration

if TYPE_CHECKING:
    from capplan.sim.result import Event

# Worst first: what the verdict names.
SEVERITY = (
    "panic", "oom_kill", "oom_no_victim", "oomd_kill", "earlyoom_kill", "paused", "evicted",
    "enomem", "hugepages_short", "unfinished", "throttled",
    "late", "tight", "swap_full", "zswap_full",
)  # fmt: skip

PAUSES_NAMED = 3


def incidents(
    context: Context, found: tuple[ContainerOutcome, ...], bars: Bars
) -> tuple[Incident, ...]:
    """All incidents in the order of time, alike ones folded, numbered from 1."""
    raw = [_of_event(context, e) for e in _fold(context)]
    raw += short_pools(context)
    raw += [i for c in found for i in _throttled(context, c, bars.max_throttle_share)]
    throttled = {i.container for i in raw if i.kind == "throttled" and i.breaks}
    raw += [i for c in found if c.name not in throttled for i in _unfinished(context, c)]
    troubled = {i.container for i in raw if i.breaks}
    raw += beyond(context, tuple(c for c in found if c.name not in troubled), bars)
    raw.sort(key=lambda i: (i.t, SEVERITY.index(i.kind), i.name))
    return tuple(_numbered(incident, n) for n, incident in enumerate(raw, 1))


def _numbered(incident: Incident, number: int) -> Incident:
    return replace(incident, number=number)


class _Folded:
    """Events alike: the first is told, the others are counted."""

    def __init__(self, event: Event, container: str) -> None:
        self.first, self.container, self.events = event, container, [event]

    @property
    def more(self) -> list[str]:
        """The link that says how often it came again."""
        if len(self.events) == 1:
            return []
        times = list(dict.fromkeys(e.t for e in self.events))
        names = sorted({e.name for e in self.events if e.t == self.first.t})
        links = [f"together: {', '.join(names)}"] if len(names) > 1 else []
        if len(times) > 1:
            links.append(f"it came {len(times)} times in all, last at {link.clock(times[-1])}")
        return links


def _fold(context: Context) -> list[_Folded]:
    kinds = (
        "oom_kill", "paused", *agents.AGENT_KINDS, "panic", "oom_no_victim", "enomem", "swap_full",
        "zswap_full",
    )  # fmt: skip
    folded: dict[tuple[str, str, str], _Folded] = {}
    for event in context.events(*kinds):
        container = context.container_of(event)
        scope = event.scope or str(event.detail.get("scope", ""))
        key = (event.event, container or event.name, scope)
        if key in folded:
            folded[key].events.append(event)
        else:
            folded[key] = _Folded(event, container)
    return list(folded.values())


def _of_event(context: Context, folded: _Folded) -> Incident:
    event = folded.first
    if event.event == "oom_kill":
        return _oom_kill(context, folded)
    if event.event == "paused":
        return _paused(context, folded)
    if event.event in agents.AGENT_KINDS:
        return _of_agent(context, folded)
    return _other(context, folded)


def oom_domain(context: Context, event: Event) -> str:
    """The cgroup that was out of memory; "" for the node."""
    scope = event.scope or str(event.detail.get("scope", ""))
    if scope == "global":
        return ""
    given = str(event.detail.get("oom_cgroup", "")).strip("/")
    own = context.cgroup_of(event)
    return given or context.limiting(own, context.limit_key) or own


def _oom_kill(context: Context, folded: _Folded) -> Incident:
    event = folded.first
    domain = oom_domain(context, event)
    t = event.t
    if domain:
        chain = link.grew(context, t, domain)
        chain += link.limit_hit(context, t, domain, context.limit_key)
        chain += link.reclaim_in_group(context, t, domain)
        where = _where(context, t, domain)
    else:
        chain = link.grew(context, t, "")
        nodes = ", ".join(str(n) for n in event.detail.get("nodes", ()))
        if nodes:
            lines, where = outcome_bound.bound_to(context, event, nodes)
            chain += lines
        else:
            chain += link.marks_hit(context, t)
            where = "the node is out of memory"
        chain += link.reclaim_in_node(context, t) + agents.missed(event)
    who = badness.victim(context, event)
    others = badness.runners_up(context, event, domain)
    chain += _choice(event, who, others)
    return Incident(
        number=0, kind="oom_kill", t=t, end=None, name=event.name, container=folded.container,
        cgroup=context.cgroup_of(event),
        title=f"{event.name} is OOM-killed at {link.clock(t)}: {where}",
        chain=tuple(chain + folded.more), signs=signs(context, t, domain), victim=who,
        runners_up=others, count=len(folded.events),
    )  # fmt: skip


def _of_agent(context: Context, folded: _Folded) -> Incident:
    event = folded.first
    return Incident(
        number=0, kind=event.event, t=event.t, end=None, name=event.name,
        container=folded.container, cgroup=context.cgroup_of(event),
        title=agents.headline(event), chain=tuple(agents.chain(context, event) + folded.more),
        signs=signs(context, event.t, ""), count=len(folded.events),
        ranking=agents.ranking(event),
    )  # fmt: skip


def _where(context: Context, t: float, domain: str) -> str:
    limit, name = context.limit(domain, context.limit_key, t), context.called(domain)
    size = "" if limit is None else f" of {format_bytes(limit)}"
    return f"{name} is at its {context.limit_key}{size}"


def _choice(event: Event, who: Candidate, others: tuple[Candidate, ...]) -> list[str]:
    trigger = str(event.detail.get("trigger", ""))
    asked = f"{trigger} asked for memory; " if trigger and trigger != event.name else ""
    text = f"{asked}the OOM killer chose {event.name} ({badness.weighed(who)})"
    if others:
        rest = "; ".join(f"{c.process} ({badness.weighed(c)})" for c in others)
        return [text, f"next would have been {rest}"]
    return [text + "; nobody else could be killed"] if event.detail else [text]


def assumed(context: Context, cgroup: str) -> bool:
    """Whether oom_kill_disable was capplan's assumption for this cgroup or an ancestor."""
    return any(
        context.cgroups[p].oom_kill_disable_assumed
        for p in ancestry(cgroup)
        if p in context.cgroups
    )


def _paused(context: Context, folded: _Folded) -> Incident:
    event = folded.first
    t, own = event.t, context.cgroup_of(event)
    domain = oom_domain(context, event)
    end = next((e.t for e in context.events("resumed", name=event.name) if e.t >= t), None)
    gone = next(
        (e.t for e in context.events("exit", "oom_kill", name=event.name) if e.t >= t), None
    )
    end = min((x for x in (end, gone) if x is not None), default=None)
    note = " (assumed: the file does not say)" if assumed(context, own) else ""
    chain = link.grew(context, t, domain)
    chain += link.limit_hit(context, t, domain, context.limit_key)
    chain += link.reclaim_in_group(context, t, domain)
    chain.append(f"oom_kill_disable is 1{note}: nobody is killed, the fault waits for memory")
    how = "to the end of the run" if end is None else f"for {link.clock(end - t)}"
    chain.append(f"{event.name} waits {how}")
    chain += _paused_again(context, folded)
    when = f"at {link.clock(t)} {how}" if end is not None else f"from {link.clock(t)} {how}"
    return Incident(
        number=0, kind="paused", t=t, end=end, name=event.name, container=folded.container,
        cgroup=own, title=f"{event.name} is paused {when}: {_where(context, t, domain)}",
        chain=tuple(chain), signs=signs(context, t, domain), count=len(folded.events),
    )  # fmt: skip


def _paused_again(context: Context, folded: _Folded) -> list[str]:
    """When the container's processes were paused after the first time."""
    rest = folded.events[1:]
    if not rest:
        return []
    names = ", ".join(dict.fromkeys(e.name for e in rest))
    when = ", ".join(dict.fromkeys(link.clock(e.t) for e in rest[:PAUSES_NAMED]))
    more = f" and {len(rest) - PAUSES_NAMED:,} more times" if len(rest) > PAUSES_NAMED else ""
    resumed = {e.name: e.t for e in context.events("resumed", "exit", "oom_kill")}
    last = rest[-1]
    left = " to the end of the run" if resumed.get(last.name, -1.0) < last.t else ""
    return [f"then {names} is paused at {when}{more}{left}"]


_TITLES = {
    "panic": "the kernel panics: out of memory and nobody to kill",
    "oom_no_victim": "is out of memory with nobody to kill",
    "enomem": "gets ENOMEM from a system call",
    "swap_full": "swap is full",
    "zswap_full": "the zswap pool is full",
}


def _other(context: Context, folded: _Folded) -> Incident:
    event = folded.first
    kind, t = event.event, event.t
    whole_node = kind in ("panic", "swap_full", "zswap_full")
    domain = "" if whole_node else oom_domain(context, event)
    chain = link.grew(context, t, domain)
    if domain:
        chain += link.limit_hit(context, t, domain, context.limit_key)
        chain += link.reclaim_in_group(context, t, domain)
    else:
        chain += link.marks_hit(context, t) + link.reclaim_in_node(context, t)
    said = str(event.detail.get("text", event.detail.get("reason", "")))
    subject = "" if kind in ("panic", "swap_full", "zswap_full") else f"{event.name} "
    return Incident(
        number=0, kind=kind, t=t, end=None, name=event.name, container=folded.container,
        cgroup=context.cgroup_of(event), title=f"{subject}{_TITLES[kind]} at {link.clock(t)}",
        chain=tuple(chain + ([said] if said else []) + folded.more),
        signs=signs(context, t, domain), count=len(folded.events),
        breaks=kind not in ("swap_full", "zswap_full"),
    )  # fmt: skip


def _throttled(context: Context, c: ContainerOutcome, max_share: float) -> list[Incident]:
    """One incident for all a container's throttling."""
    if c.throttle_s <= 0:
        return []
    domain = context.limiting(c.cgroup, "memory.high") or c.cgroup
    t = c.throttled[0].begin if c.throttled else _first_high(context, domain)
    limit = context.limit(domain, "memory.high", t)
    size = "" if limit is None else f" of {format_bytes(limit)}"
    share = f"{100 * c.throttle_share:.3g} % of its time"
    chain = link.grew(context, t, domain, cache=True)
    chain += link.limit_hit(context, t, domain, "memory.high")
    chain += link.reclaim_in_group(context, t, domain)
    slept = format_duration(c.throttle_s * NS_PER_S)
    chain.append(f"above memory.high{size} each allocation sleeps: {slept} in all, {share}")
    over = c.throttle_share > max_share
    chain += c.unfinished
    chain.append(f"the gate allows {100 * max_share:.3g} %: {'exceeded' if over else 'kept'}")
    return [
        Incident(
            number=0, kind="throttled", t=t, end=c.throttled[-1].end if c.throttled else None,
            name=c.name, container=c.name, cgroup=c.cgroup,
            title=f"{c.name} is throttled at memory.high from {link.clock(t)}: {share}",
            chain=tuple(chain), signs=signs(context, t, domain), breaks=over,
            count=max(len(c.throttled), 1),
        )
    ]  # fmt: skip


def _first_high(context: Context, domain: str) -> float:
    """When the counters first show it: several containers share the cgroup."""
    rises = context.series.rises(context.group(domain).file("events.high"))
    return float(context.series.t[rises.argmax()]) if rises.any() else 0.0


def _unfinished(context: Context, c: ContainerOutcome) -> list[Incident]:
    """Work left over that no kill or pause already explains."""
    if not c.unfinished or c.killed or c.paused or c.evicted:
        return []
    t = context.duration
    chain = list(c.unfinished)
    if c.throttle_s:
        chain.append(f"asleep in memory.high's throttle: {link.clock(c.throttle_s)}")
    if c.stall_s:
        share = f"{100 * c.stall_share:.3g} % of its time"
        chain.append(
            f"stalled for memory (reclaim, reading back): {link.clock(c.stall_s)}, {share}"
        )
    chain.append(f"major faults: {c.majfaults:,}")
    domain = context.limiting(c.cgroup, context.limit_key) or ""
    return [
        Incident(
            number=0, kind="unfinished", t=t, end=None, name=c.name, container=c.name,
            cgroup=c.cgroup, title=f"{c.name} did not finish its work",
            chain=tuple(chain), signs=signs(context, t, domain),
        )
    ]  # fmt: skip
