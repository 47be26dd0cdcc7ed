"""Containers that cpuset.mems binds to some of the NUMA nodes: the whole node's figures hide how
little is left where they may go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from capplan.plan.outcome_context import NS_PER_S, ancestry
from capplan.plan.outcome_series import PAGE_SIZE
from capplan.units import format_bytes, format_duration

if TYPE_CHECKING:
    from capplan.plan.outcome_context import Context
    from capplan.plan.outcome_model import ContainerOutcome

SHARE = 0.5  # of what is available on the whole node: less on their own nodes is worth a note


def notes(context: Context, found: Iterable[ContainerOutcome]) -> list[str]:
    """A sentence for each set of nodes that containers are bound to and that runs low."""
    bound: dict[tuple[int, ...], list[str]] = {}
    for container in found:
        mems = _mems(context, container.cgroup)
        if mems is not None:
            bound.setdefault(mems, []).append(container.name)
    return [text for mems, names in bound.items() if (text := _note(context, mems, names))]


def _mems(context: Context, path: str) -> tuple[int, ...] | None:
    """The nodes that a cgroup may use; None: all of the machine's."""
    groups = (context.cgroups.get(step) for step in ancestry(path))
    mems = next((group.mems for group in groups if group is not None and group.mems), None)
    everywhere = {zone.node for zone in context.scenario.node.zones}
    return None if mems is None or set(mems) >= everywhere else mems


def _note(context: Context, mems: tuple[int, ...], names: list[str]) -> str:
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
        f"{who} may use NUMA {where} {', '.join(map(str, mems))} only (cpuset.mems): at {when}"
        f" {format_bytes(left)} were free there, with {format_bytes(whole)} available on the whole"
        " machine"
    )
