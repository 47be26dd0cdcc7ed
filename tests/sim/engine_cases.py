"""Small scenarios for tests of what the engine does: a node of 32 MiB without draws."""

from __future__ import annotations

from typing import Any

from capplan.sim.result import Event, Run
from capplan.sim.scenario import (
    Cgroup,
    Change,
    Disk,
    Mapping,
    Node,
    Op,
    Process,
    Scenario,
    Swap,
    Task,
    Zone,
)

MS = 1_000_000
S = 1_000_000_000


def node(swap: int = 0, **more: Any) -> Node:
    """8192 pages in one zone, two CPUs, one disk."""
    settings: dict[str, Any] = {
        "zones": (Zone(0, "DMA32", 8192, 8192, 8192),),
        "cpus": 2,
        "release": "6.12",
        "lru_gen": False,
        "disks": (Disk("vda", 100_000, 100_000, 20_000.0, 20_000.0, 200_000.0),),
        "swaps": (Swap("vda", swap, -2),) if swap else (),
        "kernel_pages": 512,
    }
    return Node(**(settings | more))


def process(
    name: str, cgroup: str, pages: int, *after: Op, rate: float = 50_000.0, **more: Any
) -> tuple[Process, Mapping]:
    """A process that grows its heap by ``pages``, then does ``after``."""
    heap = f"{name}.heap"
    own = tuple(
        op if op.mapping or op.op in ("hold", "wait", "exit") else _on(op, heap) for op in after
    )
    ops = (Op("grow", heap, pages=pages, rate=rate), *own)
    settings: dict[str, Any] = {"container": name, "mappings": (heap,), "tasks": (Task(ops),)}
    return Process(name, cgroup, **(settings | more)), Mapping(heap, "anon", 1000 + pages)


def _on(op: Op, mapping: str) -> Op:
    return Op(op.op, mapping, op.pages, op.rate, op.ns, op.at_ns, op.pattern, op.code, op.proc)


def scenario(
    parts: list[tuple[Process, Mapping]],
    cgroups: tuple[Cgroup, ...],
    changes: tuple[Change, ...] = (),
    files: tuple[Mapping, ...] = (),
    **more: Any,
) -> Scenario:
    """Put processes, groups and changes together."""
    settings: dict[str, Any] = {
        "name": "case",
        "node": node(),
        "cgroup_version": "v2",
        "cgroups": cgroups,
        "mappings": (*(mapping for _, mapping in parts), *files),
        "processes": tuple(process for process, _ in parts),
        "changes": changes,
        "duration_ns": S,
        "sample_ns": 50 * MS,
        "granule_order": 0,
    }
    return Scenario(**(settings | more))


def events(found: Run, *kinds: str) -> list[Event]:
    """The run's events of some kinds."""
    return [event for event in found.events if event.event in kinds]


def last(found: Run, name: str) -> float:
    """A series' last value."""
    return float(found.series[name][-1])
