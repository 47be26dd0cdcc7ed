"""Runtimes of a node file's profiles become regions and phases, when the file is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from capplan.errors import Problem
from capplan.spec.profile import Process
from capplan.spec.runtime import Live, Runtime
from capplan.spec.runtimes.common import Expansion, Facts
from capplan.spec.runtimes.go import expand_go
from capplan.spec.runtimes.jvm import expand_jvm
from capplan.spec.runtimes.nodejs import expand_nodejs
from capplan.spec.tree import shown_path
from capplan.units import UNLIMITED, format_bytes

if TYPE_CHECKING:
    from capplan.spec.loader import Source
    from capplan.spec.node import Container, NodeFile

__all__ = ["expand_runtimes"]


def expand_runtimes(file: NodeFile, name: str, source: Source) -> tuple[Source, list[Problem]]:
    """A container's profile with its runtimes written out.

    Parameters
    ----------
    file : NodeFile
    name : str
        The container's.
    source : Source
        Its profile.

    Returns
    -------
    Source
        With regions and phases in the runtimes' place, and the arithmetic in ``notes``.
    list of Problem
        What does not go together (errors), and what does not fit (warnings).
    """
    profile = source.profile
    if all(process.runtime is None for process in profile.processes.values()):
        return source, []
    facts = _facts(file, file.containers[name])
    processes, notes = dict(profile.processes), list(source.notes)
    problems: list[Problem] = []
    for key, process in profile.processes.items():
        if process.runtime is None:
            continue
        found = _expansion(process.runtime, facts)
        kind, _ = _body(process.runtime)
        path = ("processes", key, "runtime", kind)
        problems += _conflicts(source, path, process, found)
        processes[key] = _with(process, found)
        notes += [f"{name}/{key}: {note}" for note in found.notes]
        problems += [_warning(source, path, *said) for said in found.warnings]
        problems += _misfit(source, path, found, process.count, facts)
    expanded = profile.model_copy(update={"processes": processes})
    return replace(source, profile=expanded, notes=tuple(notes)), problems


def _body(runtime: Runtime) -> tuple[str, Live]:
    kind = next(name for name in type(runtime).model_fields if getattr(runtime, name) is not None)
    return kind, getattr(runtime, kind)


def _expansion(runtime: Runtime, facts: Facts) -> Expansion:
    if runtime.jvm is not None:
        return expand_jvm(runtime.jvm, facts)
    if runtime.go is not None:
        return expand_go(runtime.go, facts)
    assert runtime.nodejs is not None
    return expand_nodejs(runtime.nodejs, facts)


def _facts(file: NodeFile, container: Container) -> Facts:
    """What the container's programs can see: limits of its groups, memory and CPUs."""
    node = file.node
    zones = sum(zone.managed for zone in node.zones or ()) * 4096
    limits = [_hard(container)]
    above = container.group("x") if container.cgroup is None else container.cgroup.strip("/") + "/x"
    while "/" in above:
        above = above.rpartition("/")[0]
        group = file.cgroup.groups.get(above, file.cgroup.groups.get(f"/{above}"))
        limits.append(None if group is None else _hard(group))
    known = [limit for limit in limits if limit is not None]
    high = container.memory_high
    if file.cgroup.version == "v1":
        high = container.memory_soft_limit_in_bytes
    return Facts(
        memory=node.memory if node.memory is not None else zones,
        limit=min(known, default=None),
        high=None if high is None or high == UNLIMITED else int(high),
        cpus=node.cpus,
        version=file.cgroup.version,
    )


def _hard(files: object) -> int | None:
    values = (getattr(files, name) for name in ("memory_max", "memory_limit_in_bytes"))
    return next((int(v) for v in values if v is not None and v != UNLIMITED), None)


def _with(process: Process, found: Expansion) -> Process:
    """The process with a runtime's regions before its own, and the scans as its phases."""
    assert process.runtime is not None
    saved = _body(process.runtime)[1].compressibility
    regions = {
        name: region.model_copy(update={"compressibility": saved})
        for name, region in found.regions.items()
    }
    return process.model_copy(
        update={
            "runtime": None,
            "regions": regions | process.regions,
            "phases": process.phases or tuple(found.phases),
            "threads": found.threads if "threads" not in process.model_fields_set
            else process.threads,
        }
    )  # fmt: skip


def _conflicts(
    source: Source, path: tuple[str, ...], process: Process, found: Expansion
) -> Iterator[Problem]:
    for key in found.regions:
        if key in process.regions:
            at = (*path[:2], "regions", key)
            message = f"the runtime has a region '{key}' of its own"
            shown = shown_path((*source.prefix, *at))
            yield Problem(source.place(*at), shown, message, "another name", "", "C019")


def _warning(source: Source, path: tuple[str, ...], message: str, expected: str) -> Problem:
    place, shown = source.place(*path), shown_path((*source.prefix, *path))
    return Problem(place, shown, message, expected, "", "C035", "warning")


def _misfit(
    source: Source, path: tuple[str, ...], found: Expansion, count: int, facts: Facts
) -> Iterator[Problem]:
    """The settings allow more than the limit: sooner or later the container is OOM-killed."""
    if facts.limit is None or found.most * count <= facts.limit:
        return
    whole = " + ".join(found.parts)
    times = f"{count} times " if count > 1 else ""
    message = (
        f"the settings allow {times}{format_bytes(found.most)} ({whole}), the limit is "
        f"{format_bytes(facts.limit)}: OOMKilled when it gets there"
    )
    over = found.most * count - facts.limit
    yield _warning(source, path, message, f"{format_bytes(over)} less, or a higher limit")
