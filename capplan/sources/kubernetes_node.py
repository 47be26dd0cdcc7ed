"""Pods and a node as a node file: groups, limits and scores as the kubelet writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from capplan.errors import InputError, Problem
from capplan.sources.draft import Draft, doubt, legal_name
from capplan.sources.kubernetes import Container, KubeNode, Objects, Pod, size_of
from capplan.sources.kubernetes_qos import (
    BEST_EFFORT,
    BURSTABLE,
    GUARANTEED,
    Rules,
    kubepods_limit,
    memory_high,
    oom_score_adj,
    pod_limit,
    qos,
    swap_max,
)
from capplan.sources.kubernetes_stats import NodeUsage, Usage
from capplan.spec.emit import Noted
from capplan.spec.node import WORKLOAD
from capplan.units import GIB, MIB, Dialect, UnitError, format_k8s, parse_size

__all__ = ["draft_of"]

KUBEPODS = "kubepods.slice"
SLICES = {
    GUARANTEED: KUBEPODS,
    BURSTABLE: f"{KUBEPODS}/kubepods-burstable.slice",
    BEST_EFFORT: f"{KUBEPODS}/kubepods-besteffort.slice",
}
LIMIT = {"v1": "memory.limit_in_bytes", "v2": "memory.max"}
KUBELET_KEYS = (
    "evictionHard", "evictionSoft", "evictionSoftGracePeriod", "evictionMinimumReclaim",
    "evictionPressureTransitionPeriod", "evictionMaxPodGracePeriod", "mergeDefaultEvictionSettings",
    "kernelMemcgNotification", "enforceNodeAllocatable",
)  # fmt: skip
UNMEASURED = 64 * MIB  # a container of which nothing is known: see `_assumed`
Stats = Mapping[tuple[str, str, str], Usage]


@dataclass(frozen=True)
class _World:
    """What every container's entry needs."""

    node: KubeNode
    rules: Rules
    cgroup: str
    allocatable: int
    stats: Stats


def draft_of(
    objects: Objects, *, node: KubeNode, cgroup: str = "v2", stats: Stats | None = None,
    whole: NodeUsage | None = None,
) -> Draft:  # fmt: skip
    """A node file of the pods that run on a node.

    Parameters
    ----------
    objects : Objects
        Pods that are on another node are left out; those on none are all put on this one.
    node : KubeNode
        Capacity, CPUs, kernel and the kubelet's version.
    cgroup : str
        ``v1`` or ``v2``.
    stats : mapping, optional
        Measured usage; containers without are assumed to use what they request.
    whole : NodeUsage, optional
        What was measured of the node: what its containers do not hold is the system's.

    Raises
    ------
    InputError
        There is no pod.
    """
    here = [pod for pod in objects.pods if pod.node in ("", node.name)]
    pods = [pod for pod in here if pod.phase in ("", "Running")]
    objects.problems += [
        doubt("pods", 0, f"{pod.name} is {pod.phase}: left out") for pod in here if pod not in pods
    ]
    if not pods:
        raise InputError(_nothing(objects, node))
    config = objects.kubelet
    reserved = _reserved(config)
    rules = Rules.of(config, node.kubelet, cgroup)
    allocatable = node.allocatable or kubepods_limit(node.memory, reserved)
    world = _World(node, rules, cgroup, allocatable, stats or {})
    draft = Draft(node={}, problems=objects.problems)
    groups: dict[str, Any] = {
        KUBEPODS: {LIMIT[cgroup]: format_k8s(kubepods_limit(node.memory, reserved))},
        SLICES[BURSTABLE]: {},
        SLICES[BEST_EFFORT]: {},
    }
    containers: dict[str, Any] = {}
    for pod in _spread(pods):
        _add(pod, world, groups, containers, draft)
    draft.node.update(
        {
            "capplan": 1,
            "name": legal_name(node.name),
            "node": _machine(node) | _system(world.stats, whole),
            "cgroup": {"version": cgroup, "groups": groups},
            "kubelet": _kubelet(config, draft.problems),
            "containers": containers,
            "run": {"duration": "1h", "start": "warm", "seed": 1},
        }
    )
    draft.header = _header(node, pods, world)
    _note_requests(pods, world, draft.problems)
    return draft


def _spread(pods: list[Pod]) -> Iterator[Pod]:
    """Pods with several containers have a group of their own: each replica one by one."""
    for pod in pods:
        if pod.replicas > 1 and len(pod.running) > 1:
            yield from (
                replace(pod, name=f"{pod.name}-{n}", replicas=1, owner=pod.workload)
                for n in range(pod.replicas)
            )
        else:
            yield pod


# --- the node ------------------------------------------------------------------------------


def _machine(node: KubeNode) -> dict[str, Any]:
    ram = -(-node.memory // GIB)
    note = f"capacity {format_k8s(node.memory)}: MemTotal, what boot took already taken off"
    made: dict[str, Any] = {
        "memory": Noted(f"{ram}Gi", note),
        "cpus": node.cpus,
        "kernel": node.kernel or Noted("6.12", "assumed"),
    }
    if node.swap:
        made["swap"] = [{"device": "ssd", "size": format_k8s(node.swap)}]
    return made


def _nothing(objects: Objects, node: KubeNode) -> str:
    """Why there is no pod: what the files hold instead, or where their pods are."""
    elsewhere = sorted({pod.node for pod in objects.pods if pod.node != node.name} - {""})
    told = [str(problem) for problem in objects.problems]
    if elsewhere:
        told.append(f"the pods are on {', '.join(elsewhere[:8])}, not on {node.name}: see --node")
    told += [f"what is there: {what}" for what in dict.fromkeys(objects.others)]
    return "\n    ".join(
        ["there are no pods in these files", *told,
         "expected manifests, or what kubectl get pods -o yaml prints"]
    )  # fmt: skip


def _system(stats: Stats, whole: NodeUsage | None) -> dict[str, Any]:
    """What the node holds beside its containers, where both were measured."""
    if whole is None or not stats:
        return {}
    own = {
        key: max(getattr(whole, key) - sum(getattr(one, key) for one in stats.values()), 0)
        for key in ("usage", "working_set", "rss")
    }
    cold = max(own["usage"] - own["working_set"], 0)
    kernel = max(own["working_set"] - own["rss"], 0)
    return {
        "system": {
            "kernel": Noted(_size(kernel), "the node's working set less its containers' and rss"),
            "slab_reclaimable": Noted("0", "in the line above: the summary does not tell it"),
            "daemons": {
                "memory": Noted(_size(own["rss"]), "rss less its containers'"),
                "file": Noted(_size(cold), "inactive file pages less its containers'"),
            },
        }
    }


def _reserved(config: Mapping[str, Any] | None) -> int:
    """kubeReserved and systemReserved [bytes]."""
    problems: list[Problem] = []
    return sum(
        size_of(((config or {}).get(key) or {}).get("memory"), key, "kubelet", problems) or 0
        for key in ("kubeReserved", "systemReserved")
    )


def _kubelet(config: Mapping[str, Any] | None, problems: list[Problem]) -> dict[str, Any]:
    """The keys that the simulated kubelet has, as they are written."""
    config = config or {}
    made: dict[str, Any] = {}
    for key in KUBELET_KEYS:
        value = config.get(key)
        if value is not None and value != {} and value != []:
            made[key] = list(value) if isinstance(value, tuple) else value
    for key in ("kubeReserved", "systemReserved"):
        size = (config.get(key) or {}).get("memory")
        if size is None:
            continue
        try:
            parse_size(size, Dialect.K8S)
        except UnitError as error:
            problems.append(doubt("kubelet", 0, f"{key}.memory: {error}: left out"))
        else:
            made[key] = {"memory": size}
    return made


def _header(node: KubeNode, pods: list[Pod], world: _World) -> tuple[str, ...]:
    count = sum(pod.replicas for pod in pods)
    lines = [
        f"Kubernetes node {node.name}: {count} pods of {len(pods)} objects.",
        "",
        "Groups, limits and oom_score_adj are what the kubelet writes. A pod of one container has",
        "no group of its own here.",
    ]
    if not world.stats:
        lines += [
            "",
            "NOBODY MEASURED what the containers use: each is assumed to hold what it requests in",
            "anonymous memory (half of its limit where that is less). Put measured figures",
            "in (capplan import prometheus, capplan record, --stats) before you trust a verdict.",
        ]
    return tuple(lines)


def _note_requests(pods: list[Pod], world: _World, problems: list[Problem]) -> None:
    total = sum((c.request or 0) * pod.replicas for pod in pods for c in pod.running)
    if total > world.allocatable:
        problems.append(
            doubt(
                "node",
                0,
                f"the pods request {format_k8s(total)}, the node can allocate "
                f"{format_k8s(world.allocatable)}: the scheduler would not put them all here",
                "fewer replicas, or --memory of a larger node",
            )
        )


# --- containers ----------------------------------------------------------------------------


def _add(
    pod: Pod, world: _World, groups: dict[str, Any], containers: dict[str, Any], draft: Draft
) -> None:
    kind = qos(pod)
    parent = SLICES[kind]
    limit = pod_limit(pod)
    if len(pod.running) > 1 or (pod.limit is not None):
        name = legal_name(pod.name)
        parent = (
            f"{parent}/pod-{name}"
            if pod.namespace == "default"
            else (f"{parent}/pod-{legal_name(pod.namespace)}-{name}")
        )
        groups[parent] = {} if limit is None else {LIMIT[world.cgroup]: format_k8s(limit)}
    for container in pod.running:
        several = len(pod.running) > 1
        wanted = f"{pod.name}.{container.name}" if several else pod.name
        name = legal_name(wanted, containers)
        file = f"profiles/{name}.yaml"
        usage = _usage(pod, container, world.stats)
        if world.stats and usage is None:
            message = f"{pod.name}: {container.name} is not among the measured: left out"
            draft.problems.append(doubt("stats", 0, message))
            continue
        draft.profiles[file] = _profile(name, container, usage)
        containers[name] = _entry(pod, container, parent, file, world)
    for container in pod.containers:
        if container.init:
            draft.problems.append(
                doubt("pods", 0, f"{pod.name}: the init container {container.name} is left out: "
                      "it has ended when the others start")
            )  # fmt: skip


def _entry(pod: Pod, container: Container, parent: str, file: str, world: _World) -> dict[str, Any]:
    kind = qos(pod)
    made: dict[str, Any] = {"profile": file, "parent": parent}
    own = f"init:{container.name}" if container.sidecar else container.name
    workload = "/".join((pod.namespace, *pod.workload, own))
    if re.fullmatch(WORKLOAD, workload):
        made["workload"] = workload
    made["oom_score_adj"] = Noted(oom_score_adj(pod, container, world.node.memory), kind)
    if pod.replicas != 1:
        made["replicas"] = pod.replicas
    if container.request is not None:
        made["requests.memory"] = format_k8s(container.request)
    if container.limit is not None:
        made[LIMIT[world.cgroup]] = format_k8s(container.limit)
    made |= _v2_files(pod, container, world) if world.cgroup == "v2" else {"memory.oom_control": 0}
    if pod.priority:
        made["priority"] = pod.priority
    if pod.static or pod.critical:
        made["static"] = Noted(True, "never evicted")
    if len(pod.running) > 1:
        made["pod"] = legal_name(pod.name)
    made["restart"] = pod.restart
    return made


def _v2_files(pod: Pod, container: Container, world: _World) -> dict[str, Any]:
    """memory.high, min and low under MemoryQoS, swap.max, oom.group."""
    rules = world.rules
    made: dict[str, Any] = {}
    request, limit = container.request or 0, container.limit
    guaranteed = request == limit and limit is not None
    if rules.throttling_factor is not None and not guaranteed and qos(pod) != BEST_EFFORT:
        high = memory_high(request, limit, world.allocatable, rules.throttling_factor)
        made["memory.high"] = format_k8s(high)
    if rules.tiered and request:
        low = rules.version >= (1, 36) and qos(pod) == BURSTABLE
        made["memory.low" if low else "memory.min"] = format_k8s(request)
    if world.node.swap:
        size = swap_max(pod, container, world.node.memory, world.node.swap, rules)
        made["memory.swap.max"] = format_k8s(size)
    if rules.oom_group:
        made["memory.oom.group"] = True
    return made


# --- profiles ------------------------------------------------------------------------------


def _usage(pod: Pod, container: Container, stats: Stats) -> Usage | None:
    """Measured usage: of this pod, or of the largest pod that its owner made."""
    exact = stats.get((pod.namespace, pod.name, container.name))
    if exact is not None:
        return exact
    alike = [
        usage
        for (namespace, name, of), usage in stats.items()
        if namespace == pod.namespace and of == container.name and name.startswith(f"{pod.name}-")
    ]
    return max(alike, key=lambda usage: usage.usage, default=None)


def _profile(name: str, container: Container, usage: Usage | None) -> dict[str, Any]:
    regions: dict[str, Any] = {}
    if usage is None:
        size, why = _assumed(container)
        regions["heap"] = {"kind": "anon", "size": Noted(format_k8s(size), why)}
    else:
        regions["heap"] = {"kind": "anon", "size": Noted(_size(usage.rss), "rss, measured")}
        cache = max(usage.usage - usage.rss, 0)
        if cache >= MIB:
            active = max(usage.working_set - usage.rss, 0)
            note = f"usage less rss, measured; {format_k8s(active)} of it in the working set"
            regions["cache"] = {"kind": "file", "via": "read", "size": Noted(_size(cache), note)}
    for volume, limit in container.tmpfs:
        note = "an emptyDir in memory: it counts when it fills, "
        note += "without bound" if limit is None else f"up to {format_k8s(limit)}"
        regions[legal_name(f"tmpfs-{volume}")] = {
            "kind": "shmem", "size": Noted("0", note),
        }  # fmt: skip
    about = f"{name}: {container.image or 'no image named'}"
    return {
        "capplan": 1,
        "profile": legal_name(name),
        "description": about,
        "processes": {"main": {"regions": regions}},
    }


def _size(size: int) -> str:
    return format_k8s(max(size // 4096, 1) * 4096)


def _assumed(container: Container) -> tuple[int, str]:
    """What a container holds of which nobody measured anything."""
    request, limit = container.request, container.limit
    if request and (limit is None or request <= limit // 2):
        return request, "ASSUMED: its request; nobody measured"
    if limit:
        return limit // 2, "ASSUMED: half of its limit; nobody measured"
    return UNMEASURED, "ASSUMED: nothing is known of it; nobody measured"
