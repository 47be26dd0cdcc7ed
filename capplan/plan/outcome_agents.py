"""Incidents whose cause is a killer in user space: what it saw, its limit, its ranking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from capplan.plan import outcome_chain as link
from capplan.plan.eviction import MONITORING_S, EvictionWindow, eviction_window
from capplan.plan.outcome_context import Context
from capplan.plan.outcome_model import Ranking
from capplan.plan.outcome_series import PAGE_SIZE
from capplan.sim.agents.model import MEMORY_AVAILABLE, Kubelet
from capplan.units import format_bytes, format_duration, format_rate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from capplan.sim.result import Event

__all__ = [
    "AGENT_KINDS",
    "chain",
    "first_actor",
    "headline",
    "idle_thresholds",
    "missed",
    "ranking",
    "threshold_notes",
    "windows",
]

AGENT_KINDS = ("evicted", "oomd_kill", "earlyoom_kill")
NS_PER_S = 1_000_000_000
ACTORS = {
    "evicted": "the kubelet", "oomd_kill": "systemd-oomd", "earlyoom_kill": "earlyoom",
    "oom_kill": "the kernel's OOM killer", "panic": "the kernel",
}  # fmt: skip
KIB = 1024


def headline(event: Event) -> str:
    """What befell whom, and which limit it was."""
    d, when = event.detail, link.clock(event.t)
    if event.event == "evicted":
        pod = str(d.get("pod", event.name))
        whose = f" (pod {pod})" if pod != event.name else ""
        return (
            f"{event.name}{whose} is evicted by the kubelet at {when}: {d['signal']} "
            f"{format_bytes(d['available_bytes'])} is below {d['threshold']} "
            f"{format_bytes(d['threshold_bytes'])}"
        )
    if event.event == "oomd_kill":
        why = "memory and swap are used up"
        if d["rule"] == "pressure":
            why = f"memory pressure of {d['monitored']} is {d['avg10']:.4g} %"
        return f"{event.name} is killed by systemd-oomd at {when}: {why}"
    return (
        f"{event.name} gets {d['signal']} from earlyoom at {when}: "
        f"{d['memory_percent']:.3g} % of memory is available"
    )


def chain(context: Context, event: Event) -> list[str]:
    """The links: who grew, what the agent saw, its limit, whom it chose, how it ended."""
    found = link.grew(context, event.t, "")
    found += _SEEN[event.event](event.t, event.detail)
    found += _gone(context, event)
    return found


def _kubelet(t: float, d: dict[str, Any]) -> list[str]:
    used = d["capacity_bytes"] - d["available_bytes"]
    text = f"the kubelet looked at {link.clock(t)} and saw {d['signal']} "
    text += f"{format_bytes(d['available_bytes'])} (capacity {format_bytes(d['capacity_bytes'])} "
    text += f"less a working set of {format_bytes(used)})"
    if d.get("last_available_bytes") is not None:
        ago = format_duration((t - d["last_look_s"]) * NS_PER_S)
        text += f"; {ago} before it had been {format_bytes(d['last_available_bytes'])}"
    limit = f"{d['threshold']} {d['signal']} {format_bytes(d['threshold_bytes'])} is met"
    if d["threshold"] == "evictionSoft":
        limit += f", for {format_duration(d['met_s'] * NS_PER_S)} by now: its grace period is over"
    first, *rest = [c for c in d["candidates"] if not c["critical"]] or d["candidates"]
    choice = f"of {d['ranked']} pods {first['name']} ranks first ({_pod(first)})"
    if rest:
        choice += f", then {rest[0]['name']} ({_pod(rest[0])})"
    age = format_duration(d["stats_age_s"] * NS_PER_S)
    return [
        text, f"the kernel's MemAvailable was {format_bytes(d['MemAvailable_bytes'])} then", limit,
        f"{choice}; cAdvisor's figures were {age} old",
        f"SIGTERM, and SIGKILL after {d['grace_s']} s; the pod is not started again on this node",
    ]  # fmt: skip


def _pod(c: dict[str, Any]) -> str:
    if c["usage_bytes"] is None:
        return f"no statistics yet, priority {c['priority']}"
    over = c["usage_bytes"] - c["request_bytes"]
    relation = "above" if over > 0 else "within"
    return (
        f"{format_bytes(c['usage_bytes'])} used, {relation} its request of "
        f"{format_bytes(c['request_bytes'])}, priority {c['priority']}"
    )


def _oomd(t: float, d: dict[str, Any]) -> list[str]:
    if d["rule"] == "pressure":
        above = format_duration(d["above_s"] * NS_PER_S)
        needed = format_duration(d["duration_s"] * NS_PER_S)
        seen = f"systemd-oomd saw memory.pressure full avg10 of {d['monitored']} at "
        seen += f"{d['avg10']:.4g} %, above {d['limit']:g} % for {above} (it takes {needed})"
        basis = "most pages scanned by reclaim in the last second"
    else:
        used = 100 * (1 - d["SwapFree_bytes"] / d["SwapTotal_bytes"])
        seen = f"systemd-oomd saw swap {used:.3g} % used and "
        seen += f"{format_bytes(d['MemAvailable_bytes'])} of memory available: both beyond "
        seen += f"SwapUsedLimit={100 * d['swap_used_limit']:g}%"
        basis = f"most swap, of those with more than {format_bytes(d['least_swap_bytes'])}"
    return [seen, f"it kills all of {d['group']}, which has the {basis} ({d['ranked']} candidates)"]


def _earlyoom(t: float, d: dict[str, Any]) -> list[str]:
    seen = f"earlyoom saw {format_bytes(d['MemAvailable_bytes'])} available, "
    seen += f"{d['memory_percent']:.3g} % of that and anonymous memory (limit "
    seen += f"{d['memory_limit']:g} %)"
    if d["SwapTotal_bytes"]:
        seen += f", and {d['swap_percent']:.3g} % of swap free (limit {d['swap_limit']:g} %)"
    else:
        seen += "; there is no swap"
    first = d["candidates"][0]
    choice = f"highest oom_score of {d['ranked']} processes: {first['name']} {first['oom_score']}"
    return [seen, f"{choice} ({format_bytes(first['rss_bytes'])} resident)"]


_SEEN = {"evicted": _kubelet, "oomd_kill": _oomd, "earlyoom_kill": _earlyoom}


def _gone(context: Context, event: Event) -> list[str]:
    """When the last process of the container, or the one that was meant, had gone."""
    names = {event.name}
    if event.name not in context.processes:
        names = {row.process for row in context.totals.get(event.name, [])}
    ends = [e.t for e in context.events("exit") if e.name in names and e.t >= event.t]
    if not ends:
        return ["it is still there at the end of the run"]
    after = format_duration((ends[min(len(names), len(ends)) - 1] - event.t) * NS_PER_S)
    return [f"its memory was given back {after} after"]


def ranking(event: Event) -> Ranking | None:
    """The agent's ranking as a table."""
    d = event.detail
    rows = d.get("candidates", [])
    if event.event == "evicted":
        return Ranking(
            "How the kubelet ranked the pods",
            ("pod", "usage", "request", "above it", "priority", "QoS"),
            tuple(_pod_row(c) for c in rows),
        )
    if event.event == "oomd_kill":
        return Ranking(
            "How systemd-oomd ranked the groups",
            ("group", "scanned", "memory", "swap", "preference"),
            tuple(
                (c["name"], f"{c['pgscan']:,}", format_bytes(c["current_bytes"]),
                 format_bytes(c["swap_bytes"]), c["preference"])
                for c in rows
            ),
        )  # fmt: skip
    return Ranking(
        "How earlyoom ranked the processes",
        ("process", "oom_score", "resident", "oom_score_adj"),
        tuple(
            (c["name"], str(c["oom_score"]), format_bytes(c["rss_bytes"]), str(c["oom_score_adj"]))
            for c in rows
        ),
    )


def _pod_row(c: dict[str, Any]) -> tuple[str, ...]:
    usage, request = c["usage_bytes"], c["request_bytes"]
    name = f"{c['name']} (critical: never)" if c["critical"] else c["name"]
    if usage is None:
        return name, "-", format_bytes(request), "-", str(c["priority"]), c["qos"]
    over = usage - request
    above = format_bytes(over) if over > 0 else "within"
    return (
        name, format_bytes(usage), format_bytes(request), above, str(c["priority"]), c["qos"]
    )  # fmt: skip


def _kernel_bytes(context: Context) -> float:
    """Memory that no working set shows and no shrinker takes, where free memory is least.

    What is neither free (nor on a per-cpu list) nor anonymous nor page cache.
    """
    names = ("MemTotal", "MemFree", "AnonPages", "Cached", "SReclaimable")
    found = [context.series.get(f"meminfo_kb.{name}") for name in names]
    total, *others = (np.nan_to_num(v) for v in found if v is not None)
    if len(others) < len(names) - 1:
        return 0.0
    at = int(np.argmin(others[0]))
    pcp = context.series.get("pcp.pages")
    hidden = 0.0 if pcp is None else float(np.nan_to_num(pcp)[at]) * PAGE_SIZE
    return max(float(total[at] - sum(v[at] for v in others)) * KIB - hidden, 0.0)


def windows(context: Context) -> Iterator[tuple[str, EvictionWindow]]:
    """The kubelet's hard memory thresholds in words, each with what it can catch."""
    kubelet = next((a for a in context.scenario.agents if isinstance(a, Kubelet)), None)
    if kubelet is None:
        return
    least = link.thresholds(context)[1] * PAGE_SIZE
    kernel = int(_kernel_bytes(context))
    for threshold in kubelet.thresholds:
        if threshold.signal != MEMORY_AVAILABLE or not threshold.hard:
            continue
        value = threshold.value
        value = int(value * context.memory) if isinstance(value, float) else value
        called = f"{threshold.called} {threshold.signal} {format_bytes(value)}"
        yield called, eviction_window(value, least, kernel)


def idle_thresholds(context: Context) -> list[str]:
    """A sentence for each hard threshold that cannot fire before the OOM killer."""
    least = link.thresholds(context)[1] * PAGE_SIZE
    return [
        f"{called} cannot evict before the OOM killer comes: with {format_bytes(least)} free "
        f"allocations fail, and the kubelet then still sees {format_bytes(window.floor_bytes)} "
        f"available ({format_bytes(window.floor_bytes - least)} of kernel memory are in no "
        "working set)"
        for called, window in windows(context)
        if not window.fires
    ]


def threshold_notes(context: Context) -> list[str]:
    """A sentence for each hard threshold: that it cannot fire, or how fast a growth it catches."""
    return idle_thresholds(context) + [
        f"{called} always catches growth of up to {format_rate(window.max_rate)}; the kubelet "
        f"looks each {MONITORING_S:.0f} s"
        for called, window in windows(context)
        if window.fires
    ]


def missed(event: Event) -> list[str]:
    """Of a kill of the kernel's for the node: why the kubelet did not come first."""
    d = event.detail
    if "kubelet_looked_s" not in d:
        return []
    at = d["kubelet_looked_s"]
    text = f"the kubelet looked last at {link.clock(at)} and saw memory.available "
    text += f"{format_bytes(d['kubelet_saw_bytes'])}; its next look would have been at "
    return [text + link.clock(at + MONITORING_S)]


def first_actor(context: Context) -> tuple[str, str]:
    """Who killed first on this node, and a sentence on it; empty without agents or kills.

    Kills at a group's own limit are no race between the kernel and an agent.
    """
    if not context.scenario.agents:
        return "", ""
    kinds = (*AGENT_KINDS, "oom_kill", "panic")
    acts = [
        e for e in context.events(*kinds)
        if e.event != "oom_kill" or (e.scope or e.detail.get("scope")) == "global"
    ]  # fmt: skip
    if not acts:
        return "", ""
    first = ACTORS[acts[0].event]
    other = next((e for e in acts if ACTORS[e.event] != first), None)
    text = f"{first} acted first"
    if other is not None:
        after = format_duration((other.t - acts[0].t) * NS_PER_S)
        text += f", {ACTORS[other.event]} {after} later"
    return first.removeprefix("the "), text
