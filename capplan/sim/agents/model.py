"""What the agents of a scenario are configured with: bytes, nanoseconds, names."""

from __future__ import annotations

from dataclasses import dataclass

MEMORY_AVAILABLE = "memory.available"
ALLOCATABLE_AVAILABLE = "allocatableMemory.available"

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


Agent = Kubelet | SystemdOomd | Earlyoom
