"""NUMA memory policies of containers and processes, by the names of numactl(8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema, model_validator

from capplan.errors import Place, Problem
from capplan.spec.cgroup import ancestry, parse_mems
from capplan.spec.check_files import major_minor, not_yet
from capplan.spec.common import Model, problem
from capplan.spec.tree import KeyPath, shown_path

if TYPE_CHECKING:
    from capplan.spec.loader import NodeSpec
    from capplan.spec.node import Container, Machine

ALL = "all"
SINCE = {"preferred-many": (5, 15), "weighted-interleave": (6, 9)}
"""The first release that set_mempolicy(2) takes a policy in."""

Policy = Literal[
    "default", "local", "bind", "preferred", "preferred-many", "interleave", "weighted-interleave"
]
WITHOUT_NODES = ("default", "local")


def _nodes(value: Any) -> Any:
    if value == ALL:
        return ALL
    listed = value if isinstance(value, list | tuple) else (value,)
    return parse_mems(",".join(map(str, listed)))


Nodes = Annotated[
    str | tuple[int, ...],
    BeforeValidator(_nodes),
    WithJsonSchema(
        {"title": "Nodes", "type": ["string", "integer", "array"],
         "description": "NUMA nodes, such as 0 or 0-1,3, or all."}
    ),
]  # fmt: skip


class Mempolicy(Model):
    """Where memory comes from, as ``numactl`` sets it for a process."""

    policy: Policy
    """default, local: the node of the CPU, then the others; bind: ``nodes`` and no other (when they
    are full, the OOM killer comes); preferred: its node first, then the others; preferred-many:
    all of ``nodes`` first; interleave: each of ``nodes`` in turn, page by page;
    weighted-interleave: the same, by ``node.numa``'s weights."""
    nodes: Nodes | None = None
    """Such as ``0``, ``0-1,3`` or ``all``. Needed by all policies but default and local."""

    @model_validator(mode="after")
    def _fits(self) -> Mempolicy:
        if self.policy in WITHOUT_NODES:
            if self.nodes is not None:
                raise problem("other", f"policy {self.policy} takes no nodes", "no nodes")
        elif self.nodes is None:
            raise problem("other", f"policy {self.policy} lacks nodes", "nodes: 0-1, or nodes: all")
        elif self.policy == "preferred" and (self.nodes == ALL or len(self.nodes) > 1):
            expected = "nodes: 0, or policy: preferred-many"
            raise problem("other", "policy preferred takes one node", expected)
        return self

    @property
    def listed(self) -> tuple[int, ...]:
        """The nodes by number; none for ``all``, and where the policy takes none."""
        return self.nodes if isinstance(self.nodes, tuple) else ()


def numa_nodes(machine: Machine) -> set[int]:
    """Numbers of the machine's NUMA nodes."""
    if machine.zones is not None:
        return {zone.node for zone in machine.zones}
    return set(range(max(len(machine.numa), 1)))


def check_mempolicies(spec: NodeSpec) -> Iterator[Problem]:
    """A policy's nodes must be there, some of them in the cpuset; the release must know it."""
    for name, container in spec.containers.items():
        source = spec.sources[name]
        allowed = _mems(spec, container)
        if container.numa is not None:
            path: KeyPath = ("containers", name, "numa")
            place = spec.place(*path, "nodes"), spec.place(*path, "policy")
            yield from _problems(spec, container.numa, path, place, allowed)
        for key, process in source.profile.processes.items():
            if process.numa is not None:
                own = ("processes", key, "numa")
                place = source.place(*own, "nodes"), source.place(*own, "policy")
                yield from _problems(spec, process.numa, (*source.prefix, *own), place, allowed)


def _problems(
    spec: NodeSpec, given: Mempolicy, path: KeyPath, places: tuple[Place, Place], allowed: set[int]
) -> Iterator[Problem]:
    nodes = set(given.listed)
    there = numa_nodes(spec.node)
    shown = shown_path((*path, "nodes"))
    for node in sorted(nodes - there):
        message = f"there is no NUMA node {node}"
        expected = f"some of {', '.join(map(str, sorted(there)))} (node.numa splits the memory)"
        yield Problem(places[0], shown, message, expected, "", "C029")
    if nodes and nodes <= there and not nodes & allowed:
        message = "none of these nodes is in cpuset.mems: set_mempolicy(2) would fail"
        expected = f"some of {', '.join(map(str, sorted(allowed)))}"
        yield Problem(places[0], shown, message, expected, "", "C029")
    version = major_minor(spec.node.kernel)
    since = SINCE.get(given.policy)
    if version is not None and since is not None and version < since:
        yield not_yet(places[1], (*path, "policy"), f"policy {given.policy}", since)


def _mems(spec: NodeSpec, container: Container) -> set[int]:
    """The nodes that a container's cpuset has."""
    allowed = numa_nodes(spec.node)
    above = reversed(ancestry(container.group("").strip("/")))
    for files in (*map(spec.cgroup.groups.get, above), container):
        if files is not None and files.cpuset_mems:
            allowed = allowed & set(files.cpuset_mems) or allowed
    return allowed
