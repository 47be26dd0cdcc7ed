"""Candidates put on a node's containers: the settings that make each of them a column.

A request is more than a figure to the kubelet: with it change the OOM score, memory.min or low,
memory.high, the share of swap, the pod's own limit and, where requests and limits part or first
appear, the QoS class with its group. What the node file has as the kubelet computes it is computed
anew; what somebody wrote otherwise stays, and is told.
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from capplan.errors import InputError, Problem
from capplan.sources.candidates import KEEP, NONE, Candidate, Wish
from capplan.sources.draft import doubt
from capplan.sources.kubernetes_qos import BEST_EFFORT_ADJ, GUARANTEED_ADJ, burstable_adj
from capplan.spec.loader import NodeSpec
from capplan.spec.node import Container
from capplan.units import UNLIMITED, format_k8s

__all__ = ["settings_of"]

KUBEPODS = "kubepods.slice"
BURSTABLE_SLICE, BEST_EFFORT_SLICE = "kubepods-burstable.slice", "kubepods-besteffort.slice"
SHOWN = 12
LIMIT = {"v1": "memory.limit_in_bytes", "v2": "memory.max"}


@dataclass(frozen=True)
class _Change:
    """What a container has and would have [bytes]; None: none."""

    name: str
    container: Container
    request: int | None
    limit: int | None
    new_request: int | None
    new_limit: int | None


def settings_of(candidate: Candidate, spec: NodeSpec) -> tuple[dict[str, str], list[Problem]]:
    """The settings that put a candidate on a node.

    Parameters
    ----------
    candidate : Candidate
    spec : NodeSpec
        The node; containers are found by their ``workload``, by the pods that KRR names, or by
        name (``web``, ``web.app``, ``web-0.app``, ``web-6d4cf56db6-x2x7q.app``).

    Returns
    -------
    dict of str to str
        As after ``--set``.
    list of Problem
        What names no container of the node, several workloads that name the same, containers that
        the candidate does not name.

    Raises
    ------
    InputError
        It names no container of the node at all.
    """
    problems: list[Problem] = []
    wanted: dict[str, list[Wish]] = defaultdict(list)
    for wish in candidate.wishes:
        names = [name for name, one in spec.containers.items() if _is_of(wish, name, one)]
        if not names:
            message = f"{wish.told} is no container of this node: left out"
            expected = _meant(wish, spec)
            problems.append(doubt(candidate.file, 0, f"{candidate.name}: {message}", expected))
        for name in names:
            wanted[name].append(wish)
    if not wanted:
        asked = _some(
            [f"{wish.told}: {_meant(wish, spec)}" for wish in candidate.wishes], "\n      "
        )
        here = [
            f"{name} ({one.workload or 'no workload'})" for name, one in spec.containers.items()
        ]
        raise InputError(
            f"{candidate.file}: {candidate.name} names no container of this node\n"
            f"    it names\n      {asked or 'nothing'}\n"
            f"    here are {_some(here) or 'no containers'}\n"
            "    expected the same namespace/Kind/name/container: write it as the container's "
            "workload in the node file"
        )
    changes = list(_changes(wanted, candidate, spec, problems))
    silent = [name for name in spec.containers if name not in wanted]
    if silent:
        message = f"{candidate.name} says nothing of {', '.join(silent)}: as written"
        problems.append(doubt(candidate.file, 0, message))
    made: dict[str, str] = {}
    capacity = _capacity(spec)
    for change in changes:
        made |= _settings(change, spec.cgroup.version, capacity, candidate, problems)
    made |= _pod_limits(changes, spec)
    return made, problems


def _meant(wish: Wish, spec: NodeSpec) -> str:
    """Which container here a wish that fits none may have meant, and what to write there."""
    write = f"workload: {wish.told} in the node file, at the container that is meant"
    parts = wish.told.split("/")
    for name, one in spec.containers.items():
        own = (one.workload or "").split("/")
        if len(own) != 4 or len(parts) != 4 or own[2] != parts[2]:
            continue
        for at, what in enumerate(("namespace", "kind", "name", "container")):
            if own[at].removeprefix("init:") != parts[at]:
                there, asked = own[at] or "(none)", parts[at] or "(none)"
                return f"{what} '{there}', as {name} has, not '{asked}'; or {write}"
    close = difflib.get_close_matches(wish.workload, list(spec.containers), n=1)
    return (f"{close[0]} perhaps: " if close else "") + write


def _some(texts: Sequence[str], between: str = ", ") -> str:
    """The first of many, and how many more there are."""
    more = f"{between}and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return between.join(texts[:SHOWN]) + more


def _is_of(wish: Wish, name: str, container: Container) -> bool:
    """Whether a wish is for this container of the node."""
    if container.workload is not None:
        namespace, kind, workload, own = container.workload.split("/")
        same_kind = kind == wish.kind or kind == "Pod"
        by_pod = kind == "Pod" and workload in wish.pods
        named = (workload == wish.workload and same_kind) or by_pod
        return named and (namespace, own.removeprefix("init:")) == (wish.namespace, wish.container)
    pod, dot, own = name.partition(".")
    of_it = pod in wish.pods or re.fullmatch(rf"{re.escape(wish.workload)}(-[a-z0-9]+){{0,2}}", pod)
    return bool(of_it) and own == (wish.container if dot else "")


def _changes(
    wanted: Mapping[str, list[Wish]], candidate: Candidate, spec: NodeSpec, problems: list[Problem]
) -> Iterator[_Change]:
    for name, wishes in wanted.items():
        if len(set(wishes)) > 1:
            told = " and ".join(wish.told for wish in wishes)
            message = f"{candidate.name}: {told} both name {name}: as written"
            expected = "a workload: namespace/Kind/name/container in the node file"
            problems.append(doubt(candidate.file, 0, message, expected))
            continue
        container = spec.containers[name]
        limit = container.written().get(LIMIT[spec.cgroup.version])
        held = None if limit in (None, UNLIMITED) else int(limit)
        request = container.requests_memory if container.requests_memory is not None else held
        yield _change(name, container, wishes[0], request, held)


def _change(
    name: str, container: Container, wish: Wish, request: int | None, limit: int | None
) -> _Change:
    """Worked example: request 256Mi, limit 512Mi, a VPA's target of 300Mi: limit 600Mi."""

    def put(value: int, present: int | None) -> int | None:
        return present if value == KEEP else None if value == NONE else value

    new_request, new_limit = put(wish.request, request), put(wish.limit, limit)
    if wish.scaled and limit is not None and new_request is not None:
        new_limit = new_request * limit // request if request else new_request
    return _Change(name, container, request, limit, new_request, new_limit)


def _capacity(spec: NodeSpec) -> int:
    """The node's capacity as the kubelet sees it: kubepods' limit and what is reserved [bytes]."""
    group = spec.cgroup.groups.get(KUBEPODS)
    limit = None if group is None else group.written().get(LIMIT[spec.cgroup.version])
    if limit is None or limit == UNLIMITED:
        zones = sum(zone.managed for zone in spec.node.zones or ()) * 4096
        return spec.node.memory or zones
    kubelet = spec.model.kubelet
    reserved = (
        kubelet.system_reserved.memory + kubelet.kube_reserved.memory if kubelet is not None else 0
    )
    return int(limit) + reserved


def _settings(
    change: _Change, version: str, capacity: int, candidate: Candidate, problems: list[Problem]
) -> Iterator[tuple[str, str]]:
    """One container's settings."""
    key = f"containers.{change.name}"
    files = change.container.written()
    yield f"{key}.{LIMIT[version]}", _size(change.new_limit)
    if change.new_request is not None:
        yield f"{key}.requests.memory", _size(change.new_request)
    elif change.container.requests_memory is not None:
        yield f"{key}.requests.memory", "0"
    swap = files.get("memory.memsw.limit_in_bytes")
    if swap is not None and swap != UNLIMITED and (change.new_limit or UNLIMITED) > swap:
        yield f"{key}.memory.memsw.limit_in_bytes", _size(change.new_limit)
    yield from _class(change, key, capacity)
    for file in ("memory.min", "memory.low"):
        if files.get(file) and files[file] == change.request:
            yield f"{key}.{file}", _size(change.new_request or 0)
    yield from _derived(change, key, candidate, problems)


def _size(size: int | None) -> str:
    return "max" if size is None else format_k8s(size)


def _class(change: _Change, key: str, capacity: int) -> Iterator[tuple[str, str]]:
    """OOM score and group, where they are the kubelet's: a class may be won or lost.

    Guaranteed needs limits equal to the requests of memory (and of CPU, which no candidate here
    changes); BestEffort ends with the first request.
    """
    parent, adj = change.container.parent, change.container.oom_score_adj
    if KUBEPODS not in parent.split("/"):
        return
    asks = change.new_request or 0
    if adj == GUARANTEED_ADJ and change.new_request != change.new_limit:
        yield f"{key}.oom_score_adj", str(burstable_adj(asks, capacity))
        yield f"{key}.parent", parent.replace(KUBEPODS, f"{KUBEPODS}/{BURSTABLE_SLICE}", 1)
    elif adj == BEST_EFFORT_ADJ and (asks or change.new_limit):
        yield f"{key}.oom_score_adj", str(burstable_adj(asks, capacity))
        yield f"{key}.parent", parent.replace(BEST_EFFORT_SLICE, BURSTABLE_SLICE)
    elif adj == burstable_adj(change.request or 0, capacity):
        yield f"{key}.oom_score_adj", str(burstable_adj(asks, capacity))


def _derived(
    change: _Change, key: str, candidate: Candidate, problems: list[Problem]
) -> Iterator[tuple[str, str]]:
    """memory.high and memory.swap.max: both shares, kept as the shares they are."""
    files = change.container.written()
    high, swap = files.get("memory.high"), files.get("memory.swap.max")
    told = f"{candidate.name}: {change.name}"
    if high not in (None, UNLIMITED):
        if change.limit and change.new_limit and change.request is not None:
            span = change.limit - change.request
            factor = (int(high) - change.request) / span if span > 0 else 1.0
            asks = change.new_request or 0
            made = int((asks + factor * (change.new_limit - asks)) // 4096 * 4096)
            yield f"{key}.memory.high", _size(max(made, 0))
        else:
            problems.append(doubt(candidate.file, 0, f"{told}: memory.high stays as written"))
    if swap and swap != UNLIMITED and change.request and change.new_request:
        made = 0 if change.new_request == change.new_limit else (
            int(swap) * change.new_request // change.request // 4096 * 4096
        )  # fmt: skip
        yield f"{key}.memory.swap.max", format_k8s(made)


def _pod_limits(changes: Sequence[_Change], spec: NodeSpec) -> Iterator[tuple[str, str]]:
    """The limits of pods' own groups, where they are the sums of their containers' limits."""
    file = LIMIT[spec.cgroup.version]
    by_name = {change.name: change for change in changes}
    below: dict[str, list[str]] = defaultdict(list)
    for name, container in spec.containers.items():
        below[container.parent].append(name)
    for path, group in spec.cgroup.groups.items():
        held = group.written().get(file)
        names = below.get(path, [])
        if "/pod-" not in path or not held or not by_name.keys() & set(names):
            continue
        old = [spec.containers[name].written().get(file, UNLIMITED) for name in names]
        if UNLIMITED in old or sum(old) != held:
            continue
        new = [
            by_name[name].new_limit if name in by_name else limit for name, limit in zip(names, old)
        ]
        total = None if None in new else sum(size or 0 for size in new)
        yield f"cgroup.groups.{path}.{file}", _size(total)
