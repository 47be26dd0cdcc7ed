"""A node file from Prometheus' series: each container follows what was measured of it.

Groups, QoS classes and OOM scores are the kubelet's (:mod:`capplan.sources.kubernetes_node`), from
the limits and requests that kube-state-metrics or cAdvisor told.
"""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from capplan.errors import InputError, closest
from capplan.sources.draft import Draft, doubt
from capplan.sources.kubernetes import Container, KubeNode, Objects, Pod
from capplan.sources.kubernetes_node import draft_of as kubernetes_draft
from capplan.sources.kubernetes_stats import Usage
from capplan.sources.prometheus import Series, Store
from capplan.sources.prometheus_curve import Curve, Points, curve_of, merged
from capplan.spec.emit import Noted
from capplan.units import MIB, format_bytes, format_k8s

__all__ = ["Burst", "Given", "draft_of"]

CADVISOR = {
    "container_memory_working_set_bytes": "working_set", "container_memory_rss": "rss",
    "container_memory_cache": "cache", "container_memory_usage_bytes": "usage",
    "container_memory_max_usage_bytes": "max_usage", "container_memory_swap": "swap",
    "container_memory_failcnt": "failcnt", "container_memory_events_max_total": "failcnt",
    "container_oom_events_total": "oom_events", "container_spec_memory_limit_bytes": "limit",
    "container_start_time_seconds": "start_time", "container_cpu_usage_seconds_total": "cpu",
    "kube_pod_container_status_restarts_total": "restarts",
}  # fmt: skip
TERMINATED = "kube_pod_container_status_last_terminated_reason"
SIZES = {
    "kube_pod_container_resource_limits": "limit",
    "kube_pod_container_resource_requests": "request",
}
MOST_CONTAINERS = 2000
WIDTH = 92
LATE = 3  # so many intervals late: it was not there before; so many early: it went
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Burst:
    """Bursts that scrapes do not see, as the user states them."""

    factor: float
    every_s: float


@dataclass(frozen=True)
class Given:
    """What the command line says of the node; None: the series say it."""

    node: str | None = None
    memory: int | None = None
    cpus: int | None = None
    kernel: str | None = None
    cgroup: str = "v2"
    namespace: str | None = None
    burst: Burst | None = None


def draft_of(store: Store, given: Given | None = None) -> Draft:
    """Make a node file, profiles and traces of the containers of one node.

    Raises
    ------
    InputError
        No container's memory among the series, several nodes, or no size of the node.
    """
    given = Given() if given is None else given
    groups = _containers(store, given)
    owners = _owners(store)
    name = _one_node(groups, store, given)
    curves: dict[Key, Curve] = {}
    for key, series in groups.items():
        if _node_of(key, series, store) in (name, ""):
            curve = curve_of(_points(series))
            if curve is not None:
                curves[key] = curve
    if not curves:
        raise InputError(_nothing(store))
    objects = _objects(curves, groups, store, owners)
    node = _machine(store, name, given)
    usage = {key: Usage(*curve.last) for key, curve in curves.items()}
    draft = kubernetes_draft(objects, node=node, cgroup=given.cgroup, stats=usage)
    keys = [(p.namespace, p.name, c.name) for p in objects.pods for c in p.running]
    begin = min(float(c.time[0]) for c in curves.values())
    end = max(float(c.time[-1]) for c in curves.values())
    for (entry, made), key in zip(draft.node["containers"].items(), keys, strict=True):
        _follow(draft, entry, made, key, curves[key], (begin, end), owners, given.burst)
    seconds = max(math.ceil(end - begin), 1)
    draft.node["run"] = {
        "duration": Noted(f"{seconds}s", "as long as the series"), "start": "warm", "seed": 1,
    }  # fmt: skip
    _say_machine(draft, store, name, curves)
    return draft


# --- which series --------------------------------------------------------------------------


def _key(labels: Mapping[str, str]) -> Key | None:
    """namespace, pod and container; with the names they have behind a scrape that honours none."""
    found = tuple(
        next((labels[k] for k in (f"exported_{n}", n, f"{n}_name") if labels.get(k)), "")
        for n in ("namespace", "pod", "container")
    )
    # "" is a pod's or a slice's own group, POD the pause container
    if not found[1] or found[2] in ("", "POD"):
        return None
    return found[0] or "default", found[1], found[2]


def _containers(store: Store, given: Given) -> dict[Key, list[Series]]:
    found: dict[Key, list[Series]] = defaultdict(list)
    for one in store.named(*CADVISOR, *SIZES, TERMINATED):
        key = _key(one.labels)
        if key is None or (given.namespace is not None and key[0] != given.namespace):
            continue
        if one.name in SIZES and one.labels.get("resource", "memory") != "memory":
            continue
        if one.labels.get("cpu", "total") != "total":
            continue
        found[key].append(one)
        if len(found) > MOST_CONTAINERS:
            raise InputError(
                f"more than {MOST_CONTAINERS} containers\n    expected one node's: --node, "
                "or a query of it"
            )
    return dict(found)


def _points(series: Iterable[Series]) -> dict[str, Points]:
    """Points by their short name; cAdvisor's limit before kube-state-metrics'."""
    named: dict[str, list[Series]] = defaultdict(list)
    told: list[Series] = []
    for one in series:
        if one.name in CADVISOR:
            named[CADVISOR[one.name]].append(one)
        elif SIZES.get(one.name) == "limit":
            told.append(one)
        elif one.name == TERMINATED:
            named["oom_killed"].append(_oom_killed(one))
    if told and "limit" not in named:
        named["limit"] = told
    made = {name: merged(group) for name, group in named.items()}
    return {name: points for name, points in made.items() if points is not None}


def _oom_killed(one: Series) -> Series:
    """1 while the last termination is an OOM kill, 0 while it is another.

    Newer kube-state-metrics has one series, of the reason that holds; older ones have all, the
    others at 0.
    """
    killed = one.labels.get("reason") == "OOMKilled"
    made = Series(one.name, one.labels)
    for time, value in zip(one.times, one.values, strict=True):
        if killed or value > 0:
            made.times.append(time)
            made.values.append(value if killed else 0.0)
    return made


def _node_of(key: Key, series: list[Series], store: Store) -> str:
    """The node a container is on: kube-state-metrics knows, else who was scraped."""
    for one in store.named("kube_pod_info"):
        if (one.labels.get("namespace"), one.labels.get("pod")) == key[:2]:
            return one.labels.get("node", "")
    for label in ("node", "kubernetes_node", "instance"):
        for one in series:
            if one.name in CADVISOR and one.name.startswith("container_") and label in one.labels:
                return one.labels[label]
    return ""


def _one_node(groups: Mapping[Key, list[Series]], store: Store, given: Given) -> str:
    """The node that is meant.

    Raises
    ------
    InputError
        There are several, or none of that name.
    """
    nodes = sorted({_node_of(key, series, store) for key, series in groups.items()} - {""})
    if given.node is not None:
        if nodes and given.node not in nodes:
            near = closest(given.node, nodes)
            meant = f"\n    did you mean '{near}'?" if near else ""
            raise InputError(f"no container is on node '{given.node}'{meant}")
        return given.node
    if len(nodes) > 1:
        shown = ", ".join(nodes[:10])
        raise InputError(f"the containers are on {len(nodes)} nodes: {shown}\n"
                         "    expected --node NAME")  # fmt: skip
    return nodes[0] if nodes else ""


def _nothing(store: Store) -> str:
    seen = sorted({one.name for one in store.series.values()} | store.skipped)[:6]
    there = f" (there are: {', '.join(seen)})" if seen else ""
    return (
        f"no container's memory is among the series{there}\n"
        "    expected container_memory_rss, _working_set_bytes or _usage_bytes with the labels "
        "namespace, pod and container; --metric NAME where a file has no names"
    )


# --- pods and the node ---------------------------------------------------------------------


def _last(series: Iterable[Series]) -> float | None:
    """The newest value of several series."""
    newest = max(
        ((max(zip(s.times, s.values, strict=True))) for s in series if s.times), default=None
    )
    return None if newest is None else newest[1]


def _objects(
    curves: Mapping[Key, Curve], groups: Mapping[Key, list[Series]], store: Store,
    owners: Mapping[tuple[str, str], tuple[str, str]],
) -> Objects:  # fmt: skip
    pods: dict[tuple[str, str], list[Container]] = defaultdict(list)
    problems = store.problems
    for key, curve in curves.items():
        size = {
            what: _last(s for s in groups[key] if SIZES.get(s.name) == what)
            for what in ("limit", "request")
        }
        limit = size["limit"] if size["limit"] is not None else curve.limit
        request = limit if size["request"] is None else size["request"]
        pods[key[:2]].append(
            Container(key[2], request=_whole(request), limit=_whole(limit))
        )  # fmt: skip
        told = f"{key[0]}/{key[1]}, {key[2]}"
        problems += [doubt("series", 0, f"{told}: {text}") for text in curve.warnings]
        if size["request"] is None:
            what = "its limit" if limit is not None else "none"
            problems.append(doubt("series", 0, f"{told}: no request known: taken as {what}"))
    made = [
        Pod(name, namespace, containers=tuple(inside), owner=owners.get((namespace, name)))
        for (namespace, name), inside in pods.items()
    ]
    return Objects(pods=made, problems=problems)


def _whole(size: float | None) -> int | None:
    return int(size) if size is not None and 0 < size < 2.0**60 else None


def _of_node(store: Store, name: str, *metrics: str, **labels: str) -> list[Series]:
    """Series about the node: by its name or its address; all where there is one instance."""
    found = [
        one
        for one in store.named(*metrics)
        if all(one.labels.get(k) == v for k, v in labels.items())
    ]
    # kube-state-metrics is one instance for all nodes; node-exporter's node is a NUMA node
    told_by = {one.labels.get("node" if one.name[:5] == "kube_" else "instance") for one in found}
    if len(told_by) <= 1:
        return found
    known = {name, name.rpartition(":")[0]} - {""}
    for one in store.named("node_uname_info", "kube_node_info"):
        if name in (one.labels.get("nodename"), one.labels.get("node")):
            told = "instance" if one.name == "node_uname_info" else "internal_ip"
            address = one.labels.get(told, "")
            known |= {address, address.rpartition(":")[0]} - {""}

    def is_mine(labels: Mapping[str, str]) -> bool:
        names = {labels.get(k, "") for k in ("node", "nodename", "kubernetes_node", "instance")}
        return bool(known & (names | {labels.get("instance", "").rpartition(":")[0]}))

    return [one for one in found if is_mine(one.labels)]


def _machine(store: Store, name: str, given: Given) -> KubeNode:
    """The node's capacity, CPUs and kernel.

    Raises
    ------
    InputError
        Nothing says how much memory it has.
    """

    def value(*metrics: str, **labels: str) -> int | None:
        return next(
            (size for m in metrics if (size := _whole(_last(_of_node(store, name, m, **labels))))),
            None,
        )

    def label(metric: str, key: str) -> str:
        return next((s.labels.get(key, "") for s in _of_node(store, name, metric)), "")

    memory = given.memory or value("node_memory_MemTotal_bytes", "machine_memory_bytes")
    memory = memory or value("kube_node_status_capacity", resource="memory")
    if memory is None or memory < 16 * MIB:
        raise InputError(
            "no series says how much memory the node has\n"
            "    expected node_memory_MemTotal_bytes, machine_memory_bytes or --memory 16Gi"
        )
    kernel = label("node_uname_info", "release") or label("kube_node_info", "kernel_version")
    cpus = value("machine_cpu_cores") or value("kube_node_status_capacity", resource="cpu")
    allocatable = value("kube_node_status_allocatable", resource="memory")
    return KubeNode(
        name or "node",
        memory,
        min(given.cpus or cpus or 4, 4096),
        kernel=given.kernel or kernel,
        kubelet=label("kube_node_info", "kubelet_version"),
        allocatable=None if given.memory else allocatable,
        swap=value("node_memory_SwapTotal_bytes") or 0,
    )  # fmt: skip


def _say_machine(draft: Draft, store: Store, name: str, curves: Mapping[Key, Curve]) -> None:
    """Sysctls, what the rest of the node uses, and the header."""
    machine = draft.node["node"]
    reserve = _last(_of_node(store, name, "node_sysctl_vm_min_free_kbytes"))
    if reserve is not None and 0 <= reserve < 2**31:
        machine["sysctl"] = {"vm.min_free_kbytes": Noted(int(reserve), "node-exporter's")}
    else:
        marks = [_last([s]) or 0.0 for s in _of_node(store, name, "node_zoneinfo_min_pages")]
        if 0 < sum(marks) < 2**29:
            note = "the sum of the zones' min marks (node_zoneinfo_min_pages)"
            machine["sysctl"] = {"vm.min_free_kbytes": Noted(int(sum(marks)) * 4, note)}
    said = f"From Prometheus: {len(curves)} containers of node {name or 'node'}, each as measured."
    lines = [said, "The comment above each trace says what was measured, and what is modelled."]
    rest = _rest(store, name, curves)
    if rest is not None:
        lines += [
            "",
            f"Besides its containers the node used {format_bytes(rest)}: the median of MemTotal",
            "less MemAvailable less what the containers held. node.system holds it.",
        ]
        kernel = min(rest, 300 * MIB)
        machine["system"] = {
            "kernel": Noted(format_k8s(kernel), "ASSUMED share of the rest"),
            "daemons": {"memory": Noted(format_k8s(rest - kernel), "what is left of the rest")},
        }
    draft.header = tuple(lines)


def _rest(store: Store, name: str, curves: Mapping[Key, Curve]) -> int | None:
    """What the node uses besides its containers [bytes]; None where it is not known."""
    total = _last(_of_node(store, name, "node_memory_MemTotal_bytes"))
    free = merged(_of_node(store, name, "node_memory_MemAvailable_bytes"))
    if total is None or free is None:
        return None
    held = np.zeros(free[0].size)
    for curve in curves.values():
        there = (free[0] >= curve.time[0]) & (free[0] <= curve.time[-1])
        held += np.where(there, np.interp(free[0], curve.time, curve.value), 0.0) + curve.kernel
    rest = float(np.median(total - free[1] - held))
    return int(rest) // MIB * MIB if rest >= MIB else None


# --- profiles ------------------------------------------------------------------------------


def _owners(store: Store) -> dict[tuple[str, str], tuple[str, str]]:
    """Kind and name of what made each pod: its Deployment where a ReplicaSet stands between."""
    above = {
        (s.labels.get("namespace"), s.labels.get("replicaset")): s.labels
        for s in store.named("kube_replicaset_owner")
    }
    found = {}
    for one in store.named("kube_pod_owner"):
        kind, name = (one.labels.get(k, "") for k in ("owner_kind", "owner_name"))
        namespace = one.labels.get("namespace", "default")
        if kind == "ReplicaSet" and (namespace, name) in above:
            kind, name = (above[namespace, name].get(k, "") for k in ("owner_kind", "owner_name"))
        if kind and name and kind != "Node":
            found[namespace, one.labels.get("pod", "")] = (kind, name)
    return found


def _follow(
    draft: Draft, name: str, entry: dict[str, Any], key: Key, curve: Curve,
    span: tuple[float, float], owners: Mapping[tuple[str, str], tuple[str, str]],
    burst: Burst | None,
) -> None:  # fmt: skip
    """Let a container follow its curve."""
    profile = draft.profiles[entry["profile"]]
    path = f"traces/{name}.csv"
    draft.files[path] = _csv(curve)
    columns = {"time": "time", "value": curve.measures}
    if curve.file is not None:
        columns = {"time": "time", "anon": "anon", "file": "file"}
    trace: dict[str, Any] = {
        "file": f"../{path}", "measures": curve.measures, "columns": columns, "time_unit": "s",
    }  # fmt: skip
    if curve.limit is not None:
        trace["limit"] = Noted(format_k8s(curve.limit), "that it ran under")
    if curve.time.size > 1:
        trace["max_gap"] = f"{float(np.diff(curve.time).max()) + 1:.3f}s"
    late, early = float(curve.time[0]) - span[0], span[1] - float(curve.time[-1])
    if early > LATE * curve.interval:
        trace["at_end"] = Noted("exit", "its series ends")
        entry["restart"] = "Never"
    if late > LATE * curve.interval:
        entry["start"] = Noted(f"{late:.3f}s", "when its series begins")
    process: dict[str, Any] = {"trace": trace}
    if curve.kernel:
        process["regions"] = {"kernel": {"kind": "kernel", "size": format_k8s(curve.kernel)}}
    notes = list(curve.notes)
    processes = {"main": Noted(process)}
    if burst is not None:
        notes.append(_burst(processes, curve, burst))
    size = max(float(curve.value.max()), 0.0)
    seconds = curve.time[-1] - curve.time[0]
    said = (
        f"{curve.time.size} points over {seconds:.0f} s, one every {curve.interval:g} s; "
        f"{'anonymous memory' if curve.file is not None else curve.measures} "
        f"{format_bytes(int(curve.value.mean()))} on average, {format_bytes(int(size))} at most"
    )
    above = tuple(line for text in (said, *notes) for line in textwrap.wrap(text, WIDTH))
    processes["main"] = Noted(process, above=above)
    owner = " ".join(owners.get(key[:2], ()))
    profile["description"] = f"{key[0]}/{key[1]}, {key[2]}" + (f", of {owner}" if owner else "")
    profile["processes"] = processes


def _burst(processes: dict[str, Any], curve: Curve, burst: Burst) -> str:
    """Add a process that bursts as stated; return what is said of it."""
    by = int(float(curve.value.mean()) * (burst.factor - 1)) // 4096 * 4096
    # a scrape sees a burst of half an interval every other time
    held = max(curve.interval, 1.0) / 2
    if by > 0:
        processes["burst"] = {
            "regions": {"burst": {"kind": "anon"}},
            "phases": [{"burst": {
                "region": "burst", "by": format_k8s(by),
                "every": {"exponential": {"mean": f"{burst.every_s:g}s"}}, "for": f"{held:g}s",
            }}],
        }  # fmt: skip
    return (
        f"STATED, not measured: bursts to {burst.factor:g} times its mean, {format_bytes(by)} for "
        f"{held:g} s about every {burst.every_s:g} s (process burst)"
    )


def _csv(curve: Curve) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("time", curve.measures) if curve.file is None else ("time", "anon", "file"))
    writer.writerows(_rows(curve))
    return out.getvalue()


def _rows(curve: Curve) -> Iterator[tuple[str, ...]]:
    files = curve.file if curve.file is not None else np.empty(0)
    for i, (time, value) in enumerate(zip(curve.time, curve.value, strict=True)):
        row = (f"{time:.3f}", str(round(value)))
        yield (*row, str(round(files[i]))) if curve.file is not None else row
