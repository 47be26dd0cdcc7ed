"""Autoscalers of the node file, and the replicas that wait for one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from capplan.sim.agents import model
from capplan.sim.scenario import PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from capplan.sim.expand_world import World
    from capplan.spec import NodeSpec
    from capplan.spec.autoscalers import Hpa, Rules, Vpa

__all__ = ["autoscalers_of", "running_replicas", "with_room"]

NS_PER_S = 1_000_000_000


def running_replicas(spec: NodeSpec) -> dict[str, int]:
    """How many replicas of each container that an HPA scales run at the start."""
    return {
        name: min(max(spec.containers[name].replicas, hpa.min_replicas), hpa.max_replicas)
        for name, hpa in spec.hpas.items()
    }


def with_room(spec: NodeSpec) -> NodeSpec:
    """The node file with as many replicas as the autoscalers may ever start."""
    if not spec.hpas:
        return spec
    containers = dict(spec.containers)
    for name, hpa in spec.hpas.items():
        containers[name] = containers[name].model_copy(update={"replicas": hpa.max_replicas})
    return replace(spec, model=spec.model.model_copy(update={"containers": containers}))


def autoscalers_of(
    spec: NodeSpec, world: World, pods: Mapping[str, tuple[model.Pod, ...]],
    limits: Mapping[str, int | None], running: Mapping[str, int],
) -> list[model.Vpa | model.Hpa]:  # fmt: skip
    """The autoscalers' configurations.

    Parameters
    ----------
    spec, world
    pods : mapping
        Every container's pods; of those an HPA scales, all that it may start.
    limits : mapping
        Hard limits. [bytes]
    running : mapping
        Replicas at the start, where an HPA scales them.
    """
    if not spec.vpas and not spec.hpas:
        return []
    bound = {
        name: sum(pod.request for pod in found[: running.get(name, len(found))])
        for name, found in pods.items()
    }
    capacity = sum(zone.managed for zone in world.node.zones) * PAGE_SIZE
    allocatable = capacity - _held_back(spec, capacity)

    def workload(name: str) -> model.Workload:
        written = "oom_score_adj" in spec.containers[name].model_fields_set
        sets_adj = spec.model.kubelet is not None and not written
        return model.Workload(
            container=name, replicas=pods[name],
            request=pods[name][0].request if pods[name] else 0, limit=limits[name],
            allocatable=allocatable, others=sum(bound.values()) - bound[name],
            capacity=capacity if sets_adj else 0, running=running.get(name, len(pods[name])),
        )  # fmt: skip

    found: list[model.Vpa | model.Hpa] = []
    for name, vpa in spec.vpas.items():
        world.note(f"the VPA of {name} has seen nothing before the run")
        found.append(_vpa(vpa, workload(name)))
    for name, hpa in spec.hpas.items():
        world.note(f"all pods that the HPA of {name} starts come to this node")
        found.append(_hpa(hpa, workload(name)))
    return found


def _vpa(vpa: Vpa, of: model.Workload) -> model.Vpa:
    return model.Vpa(
        of=of,
        mode="Recreate" if vpa.update_mode == "Auto" else vpa.update_mode,
        limits=vpa.controlled_values == "RequestsAndLimits",
        min_allowed=0 if vpa.min_allowed is None else vpa.min_allowed.memory,
        max_allowed=None if vpa.max_allowed is None else vpa.max_allowed.memory,
        min_replicas=vpa.min_replicas,
        tolerance=vpa.eviction_tolerance,
        threshold=vpa.update_threshold,
        quick_oom_ns=vpa.evict_after_oom,
        lifetime_ns=vpa.lifetime,
        oom_ratio=vpa.oom_bump_up_ratio,
        oom_min_bump=vpa.oom_min_bump_up,
        percentile=vpa.percentile,
        margin=vpa.margin,
        least=vpa.min_memory_mb << 20,
        aggregation_ns=vpa.aggregation,
        half_life_ns=vpa.half_life,
        grace_ns=vpa.grace * NS_PER_S,
    )


def _hpa(hpa: Hpa, of: model.Workload) -> model.Hpa:
    default = model.Hpa(of)
    return replace(
        default,
        least=hpa.min_replicas,
        most=hpa.max_replicas,
        utilization=hpa.utilization,
        value=hpa.value,
        tolerance=hpa.tolerance,
        up=_rules(hpa.behavior.up, default.up),
        down=_rules(hpa.behavior.down, default.down),
        grace_ns=hpa.grace * NS_PER_S,
        shares_load=hpa.shares_load,
    )


def _held_back(spec: NodeSpec, capacity: int) -> int:
    """What the scheduler does not hand out: reserved memory and the hard eviction threshold."""
    kubelet = spec.model.kubelet
    if kubelet is None:
        return 0
    hard = kubelet.eviction_hard
    threshold = 100 << 20 if hard is None else (hard.memory_available or 0)
    if isinstance(threshold, float):
        threshold = int(threshold * capacity)
    return int(kubelet.kube_reserved.memory + kubelet.system_reserved.memory + threshold)


def _rules(given: Rules, default: model.ScalingRules) -> model.ScalingRules:
    policies = default.policies
    if given.policies is not None:
        policies = tuple((p.type, p.value, p.period_seconds * NS_PER_S) for p in given.policies)
    window = default.window_ns if given.window is None else given.window * NS_PER_S
    return model.ScalingRules(window, policies, given.select, given.tolerance)
