"""Containers that cpuset.mems or a memory policy binds to some of the NUMA nodes: the whole node's
figures hide how little is left where they may go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from capplan.plan.outcome_context import NS_PER_S
from capplan.plan.outcome_series import PAGE_SIZE
from capplan.spec.cgroup import ancestry
from capplan.units import format_bytes, format_duration

if TYPE_CHECKING:
    from capplan.plan.outcome_context import Context
    from capplan.plan.outcome_model import ContainerOutcome
    from capplan.sim.result import Event

SHARE = 0.5  # of what is available on the whole node: less on their own nodes is worth a note


def notes(context: Context, found: Iterable[ContainerOutcome]) -> list[str]:
    """A sentence for each set of nodes that containers are bound to and that runs low."""
    bound: dict[tuple[tuple[int, ...], str], list[str]] = {}
    for container in found:
        mems, how = _policy_nodes(context, container.name), "numactl --membind"
        if mems is None:
            mems, how = _mems(context, container.cgroup), "cpuset.mems"
        if mems is not None:
            bound.setdefault((mems, how), []).append(container.name)
    return [text for held, names in bound.items() if (text := _note(context, *held, names))]


def _policy_nodes(context: Context, container: str) -> tuple[int, ...] | None:
    """The nodes that policies bind all of a container's processes to; None: some go elsewhere."""
    given = [p.mempolicy for p in context.scenario.processes if p.container == container]
    nodes: set[int] = set()
    for policy in given:
        if policy is None or policy.mode != "bind" or not policy.nodes:
            return None
        nodes |= set(policy.nodes)
    everywhere = {zone.node for zone in context.scenario.node.zones}
    return tuple(sorted(nodes)) if nodes and not nodes >= everywhere else None


def bound_to(context: Context, event: Event, nodes: str) -> tuple[list[str], str]:
    """What bound the allocation that ended in a kill, and where memory was out."""
    asked = str(event.detail.get("trigger", "")) or event.name
    where = f"NUMA node {nodes} is out of memory, and it may use no other"
    if event.detail.get("constraint") != "CONSTRAINT_MEMORY_POLICY":
        return [f"cpuset.mems of its group: memory may come from NUMA node {nodes} only"], where
    chain = [f"numactl --membind of {asked}: memory may come from NUMA node {nodes} only"]
    victim = context.processes.get(event.name)
    policy = None if victim is None else victim.mempolicy
    if policy is None or policy.mode != "bind":
        chain.append(
            f"{event.name} is bound to no node, so it is weighed with all its memory, wherever"
            " that lies"
        )
    if asked != event.name:
        where = f"NUMA node {nodes} is out of memory, and {asked} may use no other"
    return chain, where


def _mems(context: Context, path: str) -> tuple[int, ...] | None:
    """The nodes that a cgroup may use; None: all of the machine's."""
    groups = (context.cgroups.get(step) for step in ancestry(path))
    mems = next((group.mems for group in groups if group is not None and group.mems), None)
    everywhere = {zone.node for zone in context.scenario.node.zones}
    return None if mems is None or set(mems) >= everywhere else mems


def _note(context: Context, mems: tuple[int, ...], how: str, names: list[str]) -> str:
    zones = [context.zone_name(z) for z in context.scenario.node.zones if z.node in mems]
    parts = [context.series.get(f"zone.{name}.free") for name in zones]
    free = sum(part for part in parts if part is not None)
    available = context.series.get("meminfo_kb.MemAvailable")
    if isinstance(free, int) or available is None:
        return ""
    at = int(free.argmin())
    left, whole = int(free[at]) * PAGE_SIZE, int(available[at]) * 1024
    if left > SHARE * whole:
        return ""
    who = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    where = "node" if len(mems) == 1 else "nodes"
    when = format_duration(float(context.series.t[at]) * NS_PER_S)
    return (
        f"{who} may use NUMA {where} {', '.join(map(str, mems))} only ({how}): at {when}"
        f" {format_bytes(left)} were free there, with {format_bytes(whole)} available on the whole"
        " machine"
    )
