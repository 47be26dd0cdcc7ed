"""What the kubelet makes of a pod's resources: class, OOM score, groups and their files.

Source: kubernetes/kubernetes, pkg/apis/core/v1/helper/qos (classes), pkg/kubelet/qos/policy.go
(scores), pkg/kubelet/cm (groups, node allocatable), kuberuntime_container_linux.go (oom.group,
MemoryQoS, swap).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from capplan.sources.kubernetes import Container, Pod

__all__ = [
    "Rules",
    "burstable_adj",
    "kubepods_limit",
    "memory_high",
    "oom_score_adj",
    "pod_limit",
    "qos",
    "swap_max",
]

GUARANTEED, BURSTABLE, BEST_EFFORT = "Guaranteed", "Burstable", "BestEffort"
GUARANTEED_ADJ = -997  # guaranteedOOMScoreAdj
BEST_EFFORT_ADJ = 1000
PAGE = 4096


@dataclass(frozen=True)
class Rules:
    """What the kubelet's configuration and version say.

    Attributes
    ----------
    version : tuple of int
        Of the kubelet: (1, 31).
    oom_group : bool
        A kill takes the whole container (cgroup v2, 1.28 and later, no singleProcessOOMKill).
    throttling_factor : float, optional
        memoryThrottlingFactor where MemoryQoS writes memory.high; None: it does not.
    tiered : bool
        memoryReservationPolicy: TieredReservation writes memory.min and memory.low.
    limited_swap : bool
        memorySwap.swapBehavior: LimitedSwap.
    """

    version: tuple[int, int] = (1, 31)
    oom_group: bool = True
    throttling_factor: float | None = None
    tiered: bool = False
    limited_swap: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any] | None, version: str, cgroup: str) -> Rules:
        """Read them from a KubeletConfiguration and the kubelet's version ("v1.31.0")."""
        config = config or {}
        parts = version.lstrip("v").split(".")
        known = len(parts) > 1 and parts[0].isdecimal() and parts[1].isdecimal()
        made = (int(parts[0]), int(parts[1])) if known else (1, 31)
        gates = config.get("featureGates") or {}
        swap = config.get("memorySwap") or {}
        enabled = bool(gates.get("MemoryQoS", made >= (1, 37)))
        default = 0.9 if made < (1, 37) else None
        factor = config.get("memoryThrottlingFactor", default) if enabled else None
        return cls(
            version=made,
            oom_group=cgroup == "v2" and made >= (1, 28)
            and not config.get("singleProcessOOMKill", False),
            throttling_factor=None if factor is None or cgroup == "v1" else float(factor),
            tiered=enabled and cgroup == "v2"
            and (made < (1, 36) or config.get("memoryReservationPolicy") == "TieredReservation"),
            limited_swap=swap.get("swapBehavior") == "LimitedSwap",
        )  # fmt: skip


def qos(pod: Pod) -> str:
    """Guaranteed, Burstable or BestEffort.

    Guaranteed: every container, init containers too, has limits of CPU and memory, and requests
    equal to them. BestEffort: nothing is requested or limited at all.
    """
    wanted = [(c.cpu_request, c.cpu_limit, c.request, c.limit) for c in pod.containers]
    if pod.request is not None or pod.limit is not None:
        wanted = [("pod", "pod", pod.request or pod.limit, pod.limit)]
    if not any(value is not None for one in wanted for value in one):
        return BEST_EFFORT
    whole = all(None not in one and one[0] == one[1] and one[2] == one[3] for one in wanted)
    return GUARANTEED if whole else BURSTABLE


def oom_score_adj(pod: Pod, container: Container, capacity: int) -> int:
    """The score adjustment that the kubelet gives a container's processes.

    Worked example
    --------------
    16 GiB, Burstable, request 1 GiB: 1000 - 1000 * 1 // 16 = 938; 1 MiB: 999; all of it: 3.
    """
    kind = qos(pod)
    if pod.critical or kind == GUARANTEED:
        return GUARANTEED_ADJ
    if kind == BEST_EFFORT:
        return BEST_EFFORT_ADJ
    own = burstable_adj(container.request or 0, capacity)
    if container.sidecar:
        regular = [burstable_adj(c.request or 0, capacity) for c in pod.running if not c.sidecar]
        own = min([own, *regular])
    return own


def burstable_adj(request: int, capacity: int) -> int:
    """The score adjustment of a Burstable container that requests so many bytes."""
    adj = 1000 - 1000 * request // capacity
    if adj < 1000 + GUARANTEED_ADJ:
        return 1000 + GUARANTEED_ADJ
    return 999 if adj == BEST_EFFORT_ADJ else adj


def memory_high(request: int, limit: int | None, allocatable: int, factor: float) -> int:
    """memory.high of a container under MemoryQoS [bytes].

    Worked example
    --------------
    >>> memory_high(128 << 20, 256 << 20, 0, 0.9)
    255012864
    """
    top = allocatable if limit is None else limit
    return int((request + factor * (top - request)) // PAGE * PAGE)


def swap_max(pod: Pod, container: Container, capacity: int, swap: int, rules: Rules) -> int:
    """memory.swap.max of a container [bytes].

    Burstable pods under LimitedSwap get the share of swap that their request has of the memory;
    nothing where request and limit are the same, or the pod is critical.
    """
    request = container.request or 0
    if not rules.limited_swap or qos(pod) != BURSTABLE or pod.critical:
        return 0
    if request == container.limit:
        return 0
    return request * swap // capacity // PAGE * PAGE


def pod_limit(pod: Pod) -> int | None:
    """The pod's own limit: the sum, where every container has one; None: none [bytes]."""
    if pod.limit is not None:
        return pod.limit
    limits = [c.limit for c in pod.running]
    if not limits or any(limit is None for limit in limits):
        return None
    return sum(limit or 0 for limit in limits)


def kubepods_limit(capacity: int, reserved: int) -> int:
    """The limit of kubepods: the capacity less what is reserved (eviction is not taken off)."""
    return max(capacity - reserved, 0)
