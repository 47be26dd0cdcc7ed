"""The timeline, resolved: which file of which group, or which sysctl, each change sets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from capplan.errors import Place, Problem, closest, quoted
from capplan.spec.cgroup import MEMORY_FILES, CgroupFiles
from capplan.spec.node import NodeFile, Sysctl
from capplan.spec.settings import SHORTCUTS, Resolver, put
from capplan.spec.tree import Node, shown_path
from capplan.spec.validate import key_place, validate

RECLAIM = "memory.reclaim"
"""v2: writing a size to it reclaims that much; only a timeline can do that."""

SET_AT_BOOT = frozenset({
    "vm.lowmem_reserve_ratio", "vm.overcommit_memory", "vm.overcommit_ratio",
    "vm.percpu_pagelist_high_fraction",
})  # fmt: skip
"""Sysctls that a node file may state and a timeline may not write."""
Scope = Literal["container", "group", "sysctl"]
Value = int | bool | tuple[int, ...]


@dataclass(frozen=True)
class Setting:
    """One value that changes.

    Attributes
    ----------
    scope : str
        ``container``, ``group`` or ``sysctl``.
    name : str
        Which container or group; empty for a sysctl.
    key : str
        The kernel's name: ``memory.max``, ``vm.swappiness``.
    value : int, bool or tuple of int
        Sizes in bytes, -1 for max; others in the file's own unit.
    """

    scope: Scope
    name: str
    key: str
    value: Value
    place: Place = field(default=Place(""), compare=False)
    path: str = field(default="", compare=False)
    """Where the file says so."""


@dataclass(frozen=True)
class Step:
    """What happens at one time of the run."""

    at_ns: int
    settings: tuple[Setting, ...] = ()
    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()


def resolve(file: NodeFile, tree: Node) -> tuple[tuple[Step, ...], list[Problem]]:
    """Resolve the timeline of a node file, in the order of time.

    Returns
    -------
    tuple of Step, list of Problem
        The steps, and what is wrong with keys, values and names.
    """
    problems: list[Problem] = []
    steps = []
    for index, event in enumerate(file.timeline):
        node = _at(tree, ("timeline", index))
        settings = []
        for text in event.set:
            found = _setting(text, index, file, tree)
            if isinstance(found, Setting):
                settings.append(found)
            else:
                problems += found
        problems += _unknown_containers(index, node, file)
        steps.append(Step(event.at, tuple(settings), event.start, event.stop))
    return tuple(sorted(steps, key=lambda step: step.at_ns)), problems


def _at(tree: Node, path: tuple[str | int, ...]) -> Node:
    node = tree
    for key in path:
        node = node.child(key) or node
    return node


def _unknown_containers(index: int, node: Node, file: NodeFile) -> list[Problem]:
    event = file.timeline[index]
    problems = []
    for verb, names in (("start", event.start), ("stop", event.stop)):
        for name in names:
            if name not in file.containers:
                place = _at(node, (verb,)).place
                path = f"timeline[{index}].{verb}"
                message = f"no container is named {quoted(name)}"
                suggestion = closest(name, file.containers)
                problems.append(Problem(place, path, message, "", suggestion, "C029"))
    return problems


def _setting(text: str, index: int, file: NodeFile, tree: Node) -> Setting | list[Problem]:
    """Resolve one entry of ``set``; return it, or what is wrong."""
    above = ("timeline", index, "set")
    value = _at(tree, (*above, text))
    place, path = key_place(tree, (*above, text)), shown_path((*above, text))
    target = _target(text, file)
    if target is None:
        return [_no_target(text, place, path, file, tree)]
    scope, name, key = target
    if key in SET_AT_BOOT:
        return [_no_target(text, place, path, file, tree)]
    # a tree of one key, so that the value is judged as in its own place
    single = Node(value.place, {})
    judged_as = "memory.max" if key == RECLAIM else key
    put(single, (judged_as,), value)
    model: type[Sysctl] | type[CgroupFiles] = Sysctl if scope == "sysctl" else CgroupFiles
    files, problems = validate(model, single)
    if not isinstance(files, Sysctl | CgroupFiles):
        return [replace(p, path=path + p.path.removeprefix(judged_as)) for p in problems]
    written: dict[str, Any] = dict(files.written())
    if judged_as not in written:
        message, expected = "no value", "a value to set"
        return [Problem(place, path, message, expected, code="C016")]
    return Setting(scope, name, key, written[judged_as], place, path)


def _target(text: str, file: NodeFile) -> tuple[Scope, str, str] | None:
    """Split a dotted key into scope, name and kernel file; the longest file name wins."""
    sysctl = text.removeprefix("node.").removeprefix("sysctl.")
    if sysctl in {field.alias for field in Sysctl.model_fields.values()}:
        return "sysctl", "", sysctl
    files = sorted([*MEMORY_FILES, RECLAIM], key=len, reverse=True)
    for key in files:
        head = text.removesuffix("." + key)
        if head == text:
            continue
        scope, _, name = head.removeprefix("cgroup.").partition(".")
        if scope == "containers" and name in file.containers:
            return "container", name, key
        if scope == "groups" and name in file.cgroup.groups:
            return "group", name, key
    return None


def _no_target(text: str, place: Place, path: str, file: NodeFile, tree: Node) -> Problem:
    """Say that a key does not exist, or that it cannot change while the node runs."""
    expected = "a cgroup file of a container or group, or a sysctl"
    if any(Resolver(tree, NodeFile).resolve(text, start) for start in SHORTCUTS):
        return Problem(place, path, "this cannot change during a run", expected, "", "C030")
    suggestion = closest(text, _known(file))
    return Problem(place, path, "unknown key", "" if suggestion else expected, suggestion, "C010")


def _known(file: NodeFile) -> list[str]:
    """All keys that a timeline may set."""
    heads = [f"containers.{name}" for name in file.containers]
    heads += [f"groups.{name}" for name in file.cgroup.groups]
    files = [*MEMORY_FILES, RECLAIM]
    sysctls = [field.alias or "" for field in Sysctl.model_fields.values()]
    return [f"{head}.{key}" for head in heads for key in files] + sysctls
