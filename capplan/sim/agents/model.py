"""What the agents of a scenario are configured with: bytes, nanoseconds, names."""

from __future__ import annotations

from dataclasses import dataclass

MEMORY_AVAILABLE = "memory.available"
ALLOCATABLE_AVAILABLE = "allocatableMemory.available"

GUARANTEED_ADJ = -997  # pkg/kubelet/qos/policy.go

Quantity = int | float
"""Bytes (int), or a share of the signal's capacity (float)."""


@dataclass(frozen=True)
class Threshold:
    """An eviction threshold: met while the signal is below the value."""

    signal: str  # memory.available or allocatableMemory.available
    value: Quantity
    grace_ns: int = 0  # 0: hard
    min_reclaim: Quantity = 0

    @property
    def hard(self) -> bool:
        """Whether it evicts at once."""
        return self.grace_ns == 0

    @property
    def called(self) -> str:
        """The setting that it is."""
        return "evictionHard" if self.hard else "evictionSoft"


@dataclass(frozen=True)
class Pod:
    """What the kubelet knows of a pod."""

    name: str
    cgroups: tuple[str, ...]  # its containers' groups
    containers: tuple[str, ...]  # their names, in the same order
    request: int = 0  # sum of its containers' memory requests [bytes]
    priority: int = 0
    critical: bool = False  # static, or of a system priority: never evicted
    qos: str = "Burstable"  # Guaranteed, Burstable, BestEffort


@dataclass(frozen=True)
class Kubelet:
    """The kubelet's eviction manager."""

    thresholds: tuple[Threshold, ...]
    pods: tuple[Pod, ...]
    pods_cgroup: str = ""  # kubepods; "": there is none, so no allocatable signal
    max_pod_grace_s: int = 0  # evictionMaxPodGracePeriod
    transition_ns: int = 300 * 10**9  # evictionPressureTransitionPeriod
    memcg_notification: bool = False  # kernelMemcgNotification (cgroup v1 alone)


@dataclass(frozen=True)
class ManagedOom:
    """What a unit asks of systemd-oomd."""

    cgroup: str
    swap: bool = False  # ManagedOOMSwap=kill
    pressure: bool = False  # ManagedOOMMemoryPressure=kill
    limit: float | None = None  # share; None: the daemon's default
    duration_ns: int | None = None  # None: the daemon's default
    preference: str = "none"  # none, avoid, omit


@dataclass(frozen=True)
class SystemdOomd:
    """systemd-oomd, as oomd.conf sets it."""

    managed: tuple[ManagedOom, ...]
    swap_used_limit: float = 0.9
    pressure_limit: float = 0.6
    pressure_duration_ns: int = 30 * 10**9


@dataclass(frozen=True)
class Earlyoom:
    """earlyoom, as its command line sets it; percentages."""

    mem_term: float = 10.0
    mem_kill: float = 5.0
    swap_term: float = 10.0
    swap_kill: float = 5.0
    prefer: str = ""  # regular expressions on the process's name
    avoid: str = ""
    ignore: str = ""
    sort_by_rss: bool = False


def burstable_adj(request: int, capacity: int) -> int:
    """oom_score_adj of a Burstable container (pkg/kubelet/qos/policy.go).

    Worked example
    --------------
    16 GiB of capacity: a request of 1 GiB is 1000 - 62 = 938 (1000 / 16, rounded down), one of
    16 GiB 3, one of 1 MiB 999.
    """
    adj = 1000 - 1000 * request // capacity
    return min(max(adj, 1000 + GUARANTEED_ADJ), 999)


@dataclass(frozen=True)
class Workload:
    """Replicas of a container, as controllers of the cluster know them."""

    container: str
    replicas: tuple[Pod, ...]  # each with one container
    request: int = 0  # of each [bytes]
    limit: int | None = None
    allocatable: int = 0  # what the node has for pods' requests [bytes]
    others: int = 0  # what the other pods request [bytes]
    capacity: int = 0  # the node's memory, where the kubelet sets oom_score_adj; else 0
    running: int = 1  # replicas at the start; the rest wait for an autoscaler


@dataclass(frozen=True)
class Vpa:
    """A VerticalPodAutoscaler, with the flags of its recommender and updater."""

    of: Workload
    mode: str = "Recreate"  # Off, Initial, Recreate, InPlaceOrRecreate
    limits: bool = True  # controlledValues: RequestsAndLimits
    min_allowed: int = 0
    max_allowed: int | None = None
    min_replicas: int = 2
    tolerance: float = 0.5  # eviction-tolerance
    threshold: float = 0.1  # pod-update-threshold
    quick_oom_ns: int = 600 * 10**9  # evict-after-oom-threshold
    lifetime_ns: int = 12 * 3600 * 10**9  # in-recommendation-bounds-eviction-lifetime-threshold
    oom_ratio: float = 1.2  # oom-bump-up-ratio
    oom_min_bump: int = 100 << 20  # oom-min-bump-up-bytes
    percentile: float = 0.9  # target-memory-percentile
    margin: float = 0.15  # recommendation-margin-fraction
    least: int = 250 << 20  # pod-recommendation-min-memory-mb
    containers: int = 1  # of the pod, among which the least is shared
    aggregation_ns: int = 86_400 * 10**9  # memory-aggregation-interval
    half_life_ns: int = 86_400 * 10**9  # memory-histogram-decay-half-life
    grace_ns: int = 30 * 10**9  # terminationGracePeriodSeconds


@dataclass(frozen=True)
class ScalingRules:
    """One direction of an HPA's behavior."""

    window_ns: int = 0  # stabilizationWindowSeconds
    policies: tuple[tuple[str, int, int], ...] = ()  # (Percent or Pods, value, period [ns])
    select: str = "Max"  # Max, Min, Disabled
    tolerance: float | None = None  # None: the HPA's


@dataclass(frozen=True)
class Hpa:
    """A HorizontalPodAutoscaler on memory."""

    of: Workload
    least: int = 1  # minReplicas
    most: int = 10  # maxReplicas
    utilization: int | None = None  # averageUtilization: percent of the request
    value: int | None = None  # averageValue [bytes]
    tolerance: float = 0.1
    up: ScalingRules = ScalingRules(0, (("Percent", 100, 15 * 10**9), ("Pods", 4, 15 * 10**9)))
    down: ScalingRules = ScalingRules(300 * 10**9, (("Percent", 100, 15 * 10**9),))
    grace_ns: int = 30 * 10**9  # terminationGracePeriodSeconds
    shares_load: bool = True


Agent = Kubelet | SystemdOomd | Earlyoom | Vpa | Hpa
