"""Killers in user space: what a node file says of them, and what they know of the containers.

Pods: what is in kubepods (or, where no such group is declared, every container). Their QoS
class, and from it the oom_score_adj that the kubelet would write, follow from requests and
limits of memory; CPU is not part of a node file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from capplan.sim.agents import model
from capplan.sim.expand_autoscalers import autoscalers_of
from capplan.sim.scenario import PAGE_SIZE, UNLIMITED
from capplan.spec.agents import Kubelet, ManagedOOM, Signals
from capplan.spec.node import Container
from capplan.units import format_bytes

if TYPE_CHECKING:
    from capplan.sim.agents.model import Agent, Quantity, Threshold
    from capplan.sim.expand_world import World
    from capplan.spec import NodeSpec

__all__ = ["agents_of", "kubepods", "kubepods_limit", "oom_score_adj"]

KUBEPODS = ("kubepods.slice", "kubepods")  # cgroup drivers systemd and cgroupfs
DEFAULT_HARD = 100 << 20  # pkg/kubelet/eviction/defaults_linux.go
SYSTEM_CRITICAL, NODE_CRITICAL = 2_000_000_000, 2_000_001_000  # pkg/apis/scheduling
BEST_EFFORT_ADJ = 1000  # pkg/kubelet/qos/policy.go


class Instance(NamedTuple):
    """A replica of a container, and the group it has."""

    name: str
    cgroup: str


Instances = Mapping[str, list[Instance]]


def kubepods(spec: NodeSpec) -> str:
    """The group that holds all pods; "" where none is declared."""
    declared = {path.strip("/") for path in spec.cgroup.groups}
    return next((path for path in KUBEPODS if path in declared), "")


def _is_pod(spec: NodeSpec, name: str) -> bool:
    """Whether the kubelet manages a container: it is in kubepods; without one, in any group."""
    top, group = kubepods(spec), spec.containers[name].group(name)
    return f"{group}/".startswith(f"{top}/") if top else bool(group)


def _limit(container: Container) -> int | None:
    limits = (container.memory_max, container.memory_limit_in_bytes)
    return next((int(v) for v in limits if v is not None and v != UNLIMITED), None)


def _request(container: Container) -> int | None:
    """A request that is left out is the limit (Kubernetes' defaulting), and it is never above."""
    limit, request = _limit(container), container.requests_memory
    if limit is None or request is None:
        return limit if request is None else request
    return min(request, limit)


def _qos(containers: list[Container]) -> str:
    """GetPodQOS() by memory alone."""
    if all(not _request(c) and _limit(c) is None for c in containers):
        return "BestEffort"
    if all(_limit(c) is not None and _limit(c) == _request(c) for c in containers):
        return "Guaranteed"
    return "Burstable"


def _of_pod(spec: NodeSpec, name: str) -> list[Container]:
    """The containers of the pod that a container is in."""
    pod = spec.containers[name].pod
    return [c for n, c in spec.containers.items() if n == name or (pod and c.pod == pod)]


def oom_score_adj(spec: NodeSpec, name: str, world: World) -> int:
    """The container's oom_score_adj: as written, else the kubelet's (GetContainerOOMScoreAdjust).

    Worked example
    --------------
    16 GiB of capacity: a request of 1 GiB is 1000 - 62 = 938 (1000 / 16, rounded down), one of
    16 GiB 3, one of 1 MiB 999; Guaranteed -997, BestEffort 1000.
    """
    container = spec.containers[name]
    written = "oom_score_adj" in container.model_fields_set
    if spec.model.kubelet is None or written or not _is_pod(spec, name):
        return container.oom_score_adj
    capacity = sum(zone.managed for zone in world.node.zones) * PAGE_SIZE
    qos, request = _qos(_of_pod(spec, name)), _request(container) or 0
    adj = model.burstable_adj(request, capacity)
    if qos == "Guaranteed" or container.priority >= NODE_CRITICAL:
        adj = model.GUARANTEED_ADJ
    elif qos == "BestEffort":
        adj = BEST_EFFORT_ADJ
    world.note(f"{name}: oom_score_adj {adj}, as the kubelet sets it for a {qos} pod")
    return adj


def kubepods_limit(spec: NodeSpec, world: World) -> int | None:
    """The limit that the kubelet writes to kubepods [bytes]; None: it does not, or the file says.

    Capacity less kubeReserved and systemReserved (pkg/kubelet/cm, enforceNodeAllocatableCgroups);
    the eviction threshold is not taken off.
    """
    kubelet, path = spec.model.kubelet, kubepods(spec)
    if kubelet is None or not path or "pods" not in kubelet.enforce_node_allocatable:
        return None
    group = spec.cgroup.groups.get(path, spec.cgroup.groups.get(f"/{path}"))
    if group is not None and (group.memory_max, group.memory_limit_in_bytes) != (None, None):
        return None
    capacity = sum(zone.managed for zone in world.node.zones) * PAGE_SIZE
    limit = capacity - kubelet.kube_reserved.memory - kubelet.system_reserved.memory
    world.note(
        f"{path}: limit {format_bytes(limit)}, capacity less kubeReserved and systemReserved"
    )
    return max(limit, 0)


def agents_of(
    spec: NodeSpec, world: World, instances: Instances, running: Mapping[str, int]
) -> tuple[Agent, ...]:
    """The agents that run on the node; ``running``: replicas at the start that an HPA scales."""
    found: list[Agent] = []
    file = spec.model
    if file.kubelet is not None:
        found.append(_kubelet(spec, file.kubelet, instances))
    if file.systemd_oomd is not None:
        oomd = file.systemd_oomd
        found.append(
            model.SystemdOomd(
                _managed(spec, instances),
                oomd.swap_used_limit,
                oomd.default_memory_pressure_limit,
                oomd.default_memory_pressure_duration_sec,
            )
        )
    if file.earlyoom is not None:
        found.append(_earlyoom(spec, world))
    if not spec.vpas and not spec.hpas:
        return tuple(found)
    pods = {
        name: tuple(_pod(spec, (name, i), [(name, inst)]) for i, inst in enumerate(instances[name]))
        for name, container in spec.containers.items()
        if _is_pod(spec, name)
    }
    limits = {name: _limit(spec.containers[name]) for name in pods}
    found += autoscalers_of(spec, world, pods, limits, running)
    return tuple(found)


# --- the kubelet -------------------------------------------------------------------------


def _kubelet(spec: NodeSpec, kubelet: Kubelet, instances: Instances) -> model.Kubelet:
    return model.Kubelet(
        thresholds=_thresholds(kubelet),
        pods=_pods(spec, instances),
        pods_cgroup=kubepods(spec),
        max_pod_grace_s=kubelet.eviction_max_pod_grace_period,
        transition_ns=kubelet.eviction_pressure_transition_period,
        memcg_notification=kubelet.kernel_memcg_notification,
    )


def _quantity(value: int | float) -> Quantity:
    return value if isinstance(value, float) else int(value)


def _thresholds(kubelet: Kubelet) -> tuple[Threshold, ...]:
    """ParseThresholdConfig(): hard ones, soft ones, and the hard one of kubepods."""
    found = []
    hard = kubelet.eviction_hard or Signals()
    merged = kubelet.eviction_hard is None or kubelet.merge_default_eviction_settings
    if merged and hard.memory_available is None:
        hard = hard.model_copy(update={"memory_available": DEFAULT_HARD})
    fields = (
        (model.MEMORY_AVAILABLE, "memory_available"),
        (model.ALLOCATABLE_AVAILABLE, "allocatable_memory_available"),
    )
    for settings in (hard, kubelet.eviction_soft or Signals()):
        for signal, name in fields:
            value = getattr(settings, name)
            if value is not None and value != 0:  # 0 turns a threshold off
                grace = getattr(kubelet.eviction_soft_grace_period, name)
                reclaim = getattr(kubelet.eviction_minimum_reclaim, name) or 0
                found.append(
                    model.Threshold(
                        signal,
                        _quantity(value),
                        0 if settings is hard else int(grace),
                        _quantity(reclaim),
                    )
                )
    if "pods" in kubelet.enforce_node_allocatable:
        found += [
            model.Threshold(model.ALLOCATABLE_AVAILABLE, t.value, 0, t.min_reclaim)
            for t in found
            if t.signal == model.MEMORY_AVAILABLE and t.hard
        ]
    return tuple(found)


def _pods(spec: NodeSpec, instances: Instances) -> tuple[model.Pod, ...]:
    """Pods with their containers, in the order of the file."""
    members: dict[tuple[str, int], list[tuple[str, Instance]]] = {}
    for name, container in spec.containers.items():
        if _is_pod(spec, name):
            for replica, instance in enumerate(instances[name]):
                key = (container.pod or name, replica)
                members.setdefault(key, []).append((name, instance))
    return tuple(_pod(spec, key, found) for key, found in members.items())


def _pod(spec: NodeSpec, key: tuple[str, int], members: list[tuple[str, Instance]]) -> model.Pod:
    containers = [spec.containers[name] for name, _ in members]
    several = containers[0].replicas > 1 and containers[0].pod
    priority = max(c.priority for c in containers)
    return model.Pod(
        name=f"{key[0]}-{key[1]}" if several else containers[0].pod or members[0][1].name,
        cgroups=tuple(instance.cgroup for _, instance in members),
        containers=tuple(instance.name for _, instance in members),
        request=sum(_request(c) or 0 for c in containers),
        priority=priority,
        critical=any(c.static for c in containers) or priority >= SYSTEM_CRITICAL,
        qos=_qos(containers),
    )


# --- systemd-oomd and earlyoom -----------------------------------------------------------


def _managed(spec: NodeSpec, instances: Instances) -> tuple[model.ManagedOom, ...]:
    found = [
        _one(path.strip("/"), group) for path, group in spec.cgroup.groups.items() if group.managed
    ]
    for name, container in spec.containers.items():
        if container.managed:
            found += [_one(instance.cgroup, container) for instance in instances[name]]
    return tuple(found)


def _one(path: str, unit: ManagedOOM) -> model.ManagedOom:
    return model.ManagedOom(
        path,
        unit.managed_oom_swap == "kill",
        unit.managed_oom_memory_pressure == "kill",
        unit.managed_oom_memory_pressure_limit,
        unit.managed_oom_memory_pressure_duration_sec,
        unit.managed_oom_preference,
    )


def _earlyoom(spec: NodeSpec, world: World) -> model.Earlyoom:
    """Percentages and sizes together: the lower of both (main.c)."""
    options = spec.model.earlyoom
    assert options is not None
    total = sum(zone.managed for zone in world.node.zones) * PAGE_SIZE // 1024
    swap = sum(area.size_pages for area in world.node.swaps) * PAGE_SIZE // 1024
    mem_term, mem_kill = _lower(options.mem, options.mem_kib, total)
    swap_term, swap_kill = _lower(options.swap, options.swap_kib, swap)
    return model.Earlyoom(
        mem_term, mem_kill, swap_term, swap_kill, options.prefer, options.avoid, options.ignore,
        options.sort_by_rss,
    )  # fmt: skip


def _lower(
    percents: tuple[float, float] | None, sizes: tuple[float, float] | None, total_kib: int
) -> tuple[float, float]:
    if sizes is None or total_kib == 0:
        return percents or (10.0, 5.0)
    of_sizes = (100 * sizes[0] / total_kib, 100 * sizes[1] / total_kib)
    if percents is None:
        return of_sizes
    return min(percents[0], of_sizes[0]), min(percents[1], of_sizes[1])
