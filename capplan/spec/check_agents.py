"""Named checks of killers in user space and of what containers say to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from capplan.errors import Problem
from capplan.spec.agents import ManagedOOM
from capplan.spec.tree import KeyPath, shown_path
from capplan.units import UNLIMITED, format_bytes

if TYPE_CHECKING:
    from capplan.spec.loader import NodeSpec

__all__ = [
    "check_kubelet",
    "check_managed_oom",
    "check_pods",
    "check_requests",
    "check_restart_keys",
]


def _no_effect(spec: NodeSpec, path: KeyPath, message: str, expected: str) -> Problem:
    place = spec.key_place(*path)
    return Problem(place, shown_path(path), message, expected, "", "C032", "warning")


def check_kubelet(spec: NodeSpec) -> Iterator[Problem]:
    """evictionHard replaces all defaults; the memcg notifier is one of cgroup v1."""
    kubelet = spec.model.kubelet
    if kubelet is None:
        return
    hard = kubelet.eviction_hard
    replaced = hard is not None and not kubelet.merge_default_eviction_settings
    if replaced and hard is not None and hard.memory_available is None:
        message = "no memory.available: the default of 100Mi does not hold when this is written"
        expected = "memory.available: 100Mi, or mergeDefaultEvictionSettings: true"
        yield _no_effect(spec, ("kubelet", "evictionHard"), message, expected)
    if kubelet.kernel_memcg_notification and spec.cgroup.version == "v2":
        message = "cgroup v2 has no such notification: the kubelet only looks each 10 s"
        path = ("kubelet", "kernelMemcgNotification")
        yield _no_effect(spec, path, message, "cgroup.version: v1, or false")


def _units(spec: NodeSpec) -> Iterator[tuple[KeyPath, ManagedOOM]]:
    for name, group in spec.cgroup.groups.items():
        yield ("cgroup", "groups", name), group
    for name, container in spec.containers.items():
        yield ("containers", name), container


def check_managed_oom(spec: NodeSpec) -> Iterator[Problem]:
    """ManagedOOM* keys and systemd_oomd need each other, cgroup v2, and (one rule) swap."""
    oomd = spec.model.systemd_oomd
    managed = [(path, unit) for path, unit in _units(spec) if unit.managed]
    kills = [u for _, u in managed if "kill" in (u.managed_oom_swap, u.managed_oom_memory_pressure)]
    if oomd is not None and spec.cgroup.version == "v1":
        message = "systemd-oomd reads memory.pressure, which cgroup v1 does not have"
        yield _no_effect(spec, ("systemd_oomd",), message, "cgroup.version: v2")
    elif oomd is not None and not kills:
        message = "no group or container says ManagedOOMSwap or ManagedOOMMemoryPressure: kill"
        expected = "cgroup.groups.user.slice.ManagedOOMMemoryPressure: kill, for instance"
        yield _no_effect(spec, ("systemd_oomd",), message, expected)
    for path, unit in managed:
        key = "ManagedOOMSwap" if unit.managed_oom_swap == "kill" else "ManagedOOMMemoryPressure"
        if oomd is None:
            message = "systemd-oomd does not run on this node"
            yield _no_effect(spec, (*path, key), message, "systemd_oomd: {} in the node file")
        if unit.managed_oom_swap == "kill" and not spec.node.swap:
            message = "the node has no swap, so systemd-oomd's swap rule never acts"
            expected = "node.swap, or ManagedOOMMemoryPressure: kill"
            yield _no_effect(spec, (*path, "ManagedOOMSwap"), message, expected)


def check_pods(spec: NodeSpec) -> Iterator[Problem]:
    """Containers of one pod have as many replicas."""
    first: dict[str, str] = {}
    for name, container in spec.containers.items():
        if not container.pod:
            continue
        other = first.setdefault(container.pod, name)
        replicas = spec.containers[other].replicas
        if container.replicas != replicas:
            path = ("containers", name, "pod")
            message = f"{container.pod} has {other} {replicas} times and {name} "
            message += f"{container.replicas} times"
            expected = f"replicas: {replicas}, as {other} has"
            yield Problem(spec.place(*path), shown_path(path), message, expected, "", "C019")


def check_requests(spec: NodeSpec) -> Iterator[Problem]:
    """The API server refuses a request above the limit; here it counts as the limit."""
    for name, container in spec.containers.items():
        limits = (container.memory_max, container.memory_limit_in_bytes)
        limit = next((v for v in limits if v is not None and v != UNLIMITED), None)
        request = container.requests_memory
        if limit is not None and request is not None and request > limit:
            path = ("containers", name, "requests.memory")
            message = f"{format_bytes(request)} is above the limit of {format_bytes(limit)}, "
            message += "which the API server refuses; the limit is taken"
            place, expected = spec.place(*path), "at most the limit"
            yield Problem(place, shown_path(path), message, expected, "", "C022", "warning")


def check_restart_keys(spec: NodeSpec) -> Iterator[Problem]:
    """Keys of systemd's restarts do nothing where another manager restarts."""
    keys = {
        "restart_sec": "RestartSec", "start_limit_interval_sec": "StartLimitIntervalSec",
        "start_limit_burst": "StartLimitBurst",
    }  # fmt: skip
    for name, container in spec.containers.items():
        for field, key in keys.items():
            if field in container.model_fields_set and container.restart_by != "systemd":
                message = f"this container is restarted by {container.restart_by}"
                path = ("containers", name, key)
                yield _no_effect(spec, path, message, "restart_by: systemd")
