"""Checks of names in profiles: regions, parents of forks, shared regions and disks must exist."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from capplan.errors import Problem, closest, quoted
from capplan.spec.tree import KeyPath, shown_path
from capplan.spec.validate import key_place

if TYPE_CHECKING:
    from capplan.spec.loader import NodeSpec, Source

__all__ = ["check_profile_names"]


def check_profile_names(spec: NodeSpec) -> Iterator[Problem]:
    """Regions, parents of forks, shared regions and disks must exist."""
    for source in spec.sources.values():
        yield from _profile_names(source, spec)


def _profile_names(source: Source, spec: NodeSpec) -> Iterator[Problem]:
    profile = source.profile
    for name, process in profile.processes.items():
        head: KeyPath = ("processes", name)
        if process.fork_of is not None:
            others = [other for other in profile.processes if other != name]
            yield from _known(source, (*head, "fork_of"), process.fork_of, others, "process")
        for index, used in enumerate(process.uses):
            shared = profile.shared.regions
            yield from _known(source, (*head, "uses", index), used, shared, "shared region")
        inherited = _regions_of(source, process.fork_of)
        for copied in process.cow:
            yield from _known(source, (*head, "cow", copied), copied, inherited, "region")
        own = [*process.regions, *process.uses, *inherited]
        for path, body in _bodies(process.phases, (*head, "phases")):
            if path[-1] == "fork":
                yield from _forked(source, path, body.process, name)
                continue
            yield from _known(source, (*path, "region"), body.region, own, "region")
        for key, region in process.regions.items():
            if region.swapped and not spec.node.swap:
                path = (*head, "regions", key, "swapped")
                yield Problem(
                    source.place(*path),
                    shown_path((*source.prefix, *path)),
                    "the node has no swap that it could be in",
                    "node.swap: [{device: nvme, size: 4Gi}], for instance",
                    code="C024",
                )
            if region.disk is not None:
                path = (*head, "regions", key, "disk")
                yield from _known(source, path, region.disk, spec.node.disks, "disk of the node")


def _regions_of(source: Source, name: str | None) -> list[str]:
    """Regions a process inherits by fork, through all generations."""
    found: list[str] = []
    seen: set[str] = set()
    while name in source.profile.processes and name not in seen:
        assert name is not None
        seen.add(name)
        parent = source.profile.processes[name]
        found += [*parent.regions, *parent.uses]
        name = parent.fork_of
    return found


def _bodies(phases: Any, head: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """All phase bodies that name a region or a process, with their paths."""
    for index, phase in enumerate(phases):
        path = (*head, index, phase.kind)
        if phase.repeat is not None:
            yield from _bodies(phase.repeat.phases, (*path, "phases"))
        elif phase.fork is not None or hasattr(phase.body, "region"):
            yield path, phase.body


def _forked(source: Source, path: KeyPath, name: str, parent: str) -> Iterator[Problem]:
    """A phase forks a child of its process, which then has no time of its own to start at."""
    processes = source.profile.processes
    yield from _known(source, (*path, "process"), name, processes, "process")
    if name not in processes:
        return
    child = processes[name]
    checks = (
        (child.fork_of != parent, f"{quoted(name)} is not forked from this process",
         f"fork_of: {parent} in processes.{name}"),
        (processes[parent].count > 1, f"there are {processes[parent].count} of this process",
         "a process with count 1 to fork from"),
        (child.trace is not None, f"{quoted(name)} follows a trace, at times of its own",
         "a process with phases"),
        (child.start.constant != 0, f"{quoted(name)} has a start of its own",
         f"no start in processes.{name}, or no fork"),
    )  # fmt: skip
    for wrong, message, expected in checks:
        if wrong:
            yield Problem(
                source.place(*path), shown_path((*source.prefix, *path)), message, expected,
                "", "C029",
            )  # fmt: skip


def _known(source: Source, path: KeyPath, name: str, known: Any, what: str) -> Iterator[Problem]:
    if name in known:
        return
    listed = ", ".join(dict.fromkeys(known))
    expected = f"one of {listed}" if listed else f"a {what}; there is none"
    key_is_name = path[-1] == name
    place = key_place(source.tree, path) if key_is_name else source.place(*path)
    message = f"no {what} is named {quoted(name)}"
    shown = shown_path((*source.prefix, *path))
    yield Problem(place, shown, message, expected, closest(name, known), "C029")
