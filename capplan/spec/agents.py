"""Killers in user space, configured as they are on a real node: the same keys, the same defaults.

``kubelet`` takes the keys of a KubeletConfiguration, ``systemd_oomd`` those of oomd.conf,
``earlyoom`` its options; what a unit says about systemd-oomd stands at its group or container.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from capplan.spec.common import Bytes, Duration, Model, Share, SizeOrShare, problem

Threshold = SizeOrShare | None
Kill = Literal["auto", "kill"]


class Signals(Model):
    """A value for each eviction signal; only memory's are simulated."""

    memory_available: Annotated[Threshold, Field(alias="memory.available")] = None
    """Capacity less the working set of the node."""
    allocatable_memory_available: Annotated[
        Threshold, Field(alias="allocatableMemory.available")
    ] = None
    """The limit of kubepods less its working set."""
    nodefs_available: Annotated[Threshold, Field(alias="nodefs.available")] = None
    nodefs_inodes_free: Annotated[Threshold, Field(alias="nodefs.inodesFree")] = None
    imagefs_available: Annotated[Threshold, Field(alias="imagefs.available")] = None
    imagefs_inodes_free: Annotated[Threshold, Field(alias="imagefs.inodesFree")] = None
    containerfs_available: Annotated[Threshold, Field(alias="containerfs.available")] = None
    containerfs_inodes_free: Annotated[Threshold, Field(alias="containerfs.inodesFree")] = None
    pid_available: Annotated[Threshold, Field(alias="pid.available")] = None


class GracePeriods(Model):
    """How long a soft threshold must be met before it evicts."""

    memory_available: Annotated[Duration | None, Field(alias="memory.available")] = None
    allocatable_memory_available: Annotated[
        Duration | None, Field(alias="allocatableMemory.available")
    ] = None
    nodefs_available: Annotated[Duration | None, Field(alias="nodefs.available")] = None
    nodefs_inodes_free: Annotated[Duration | None, Field(alias="nodefs.inodesFree")] = None
    imagefs_available: Annotated[Duration | None, Field(alias="imagefs.available")] = None
    imagefs_inodes_free: Annotated[Duration | None, Field(alias="imagefs.inodesFree")] = None
    containerfs_available: Annotated[Duration | None, Field(alias="containerfs.available")] = None
    containerfs_inodes_free: Annotated[Duration | None, Field(alias="containerfs.inodesFree")] = (
        None
    )
    pid_available: Annotated[Duration | None, Field(alias="pid.available")] = None


class Reserved(Model):
    """Resources kept for the system; only memory counts here."""

    memory: Bytes = 0
    cpu: str | int | float | None = None
    ephemeral_storage: Annotated[str | int | None, Field(alias="ephemeral-storage")] = None
    pid: str | int | None = None


class Kubelet(Model):
    """The kubelet: keys and defaults of KubeletConfiguration (kubelet.config.k8s.io/v1beta1)."""

    eviction_hard: Annotated[Signals | None, Field(alias="evictionHard")] = None
    """Thresholds that evict at once. Left out: memory.available 100Mi. Written, it replaces all
    defaults, unless mergeDefaultEvictionSettings."""
    eviction_soft: Annotated[Signals | None, Field(alias="evictionSoft")] = None
    """Thresholds that evict after their evictionSoftGracePeriod."""
    eviction_soft_grace_period: Annotated[GracePeriods, Field(alias="evictionSoftGracePeriod")] = (
        GracePeriods()
    )
    eviction_minimum_reclaim: Annotated[Signals, Field(alias="evictionMinimumReclaim")] = Signals()
    """A threshold that was met stays met until this much more is available."""
    eviction_pressure_transition_period: Annotated[
        Duration, Field(alias="evictionPressureTransitionPeriod")
    ] = 300 * 10**9
    """How long MemoryPressure lasts after the last look that met a threshold."""
    eviction_max_pod_grace_period: Annotated[
        Annotated[int, Field(ge=0)], Field(alias="evictionMaxPodGracePeriod")
    ] = 0
    """Grace period of a soft eviction; the kubelet gives at least 1. [s]"""
    merge_default_eviction_settings: Annotated[
        bool, Field(alias="mergeDefaultEvictionSettings")
    ] = False
    kernel_memcg_notification: Annotated[bool, Field(alias="kernelMemcgNotification")] = False
    """cgroup v1: look as soon as the node's usage crosses a threshold."""
    system_reserved: Annotated[Reserved, Field(alias="systemReserved")] = Reserved()
    kube_reserved: Annotated[Reserved, Field(alias="kubeReserved")] = Reserved()
    enforce_node_allocatable: Annotated[
        tuple[Literal["pods", "system-reserved", "kube-reserved", "none"], ...],
        Field(alias="enforceNodeAllocatable"),
    ] = ("pods",)
    """pods: kubepods is limited to the capacity less what is reserved."""

    @model_validator(mode="after")
    def _graces(self) -> Kubelet:
        for name in Signals.model_fields:
            soft = getattr(self.eviction_soft, name, None)
            if soft is not None and getattr(self.eviction_soft_grace_period, name) is None:
                signal = Signals.model_fields[name].alias
                message = f"evictionSoft {signal} has no grace period: the kubelet does not start"
                expected = f"evictionSoftGracePeriod: {{{signal}: 1m30s}}, for instance"
                raise problem("grace", message, expected)
        return self


class SystemdOomd(Model):
    """systemd-oomd: keys and defaults of oomd.conf. Who is watched is said by ManagedOOM* keys."""

    swap_used_limit: Annotated[Share, Field(alias="SwapUsedLimit")] = 0.9
    """Memory and swap both used beyond this share: the swap rule acts."""
    default_memory_pressure_limit: Annotated[Share, Field(alias="DefaultMemoryPressureLimit")] = 0.6
    """PSI memory full avg10 above which a group is over its limit."""
    default_memory_pressure_duration_sec: Annotated[
        Duration, Field(alias="DefaultMemoryPressureDurationSec")
    ] = 30 * 10**9


class ManagedOOM(Model):
    """What a unit or slice asks of systemd-oomd (systemd.resource-control)."""

    managed_oom_swap: Annotated[Kill, Field(alias="ManagedOOMSwap")] = "auto"
    """kill: a group below it may be killed when swap is full."""
    managed_oom_memory_pressure: Annotated[Kill, Field(alias="ManagedOOMMemoryPressure")] = "auto"
    """kill: a group below it is killed when its pressure is above the limit for long."""
    managed_oom_memory_pressure_limit: Annotated[
        Share | None, Field(alias="ManagedOOMMemoryPressureLimit")
    ] = None
    managed_oom_memory_pressure_duration_sec: Annotated[
        Duration | None, Field(alias="ManagedOOMMemoryPressureDurationSec")
    ] = None
    managed_oom_preference: Annotated[
        Literal["none", "avoid", "omit"], Field(alias="ManagedOOMPreference")
    ] = "none"
    """avoid: killed only when nobody else is left; omit: never."""

    @property
    def managed(self) -> bool:
        """Whether systemd-oomd has anything to do with it."""
        preferred = self.managed_oom_preference != "none"
        return "kill" in (self.managed_oom_swap, self.managed_oom_memory_pressure) or preferred


def _pair(upper: float, what: str) -> BeforeValidator:
    """Read ``10`` or ``10,5`` (main.c, parse_term_kill_tuple()): the second is half the first."""

    def read(value: Any) -> Any:
        expected = f"{what} up to {upper:g}, or two: for SIGTERM, for SIGKILL, such as 10,5"
        try:
            parts = [float(part) for part in str(value).split(",")]
            first, second = (parts[0], parts[0] / 2) if len(parts) == 1 else parts
        except ValueError as error:
            raise problem("pair", f"{value!r} is not {what}", expected) from error
        if isinstance(value, bool) or not 0 <= second <= first <= upper or first == 0:
            raise problem("pair", f"{value!r} is out of range", expected)
        return first, second

    return BeforeValidator(lambda value: value if isinstance(value, tuple) else read(value))


def _regex(value: Any) -> Any:
    try:
        re.compile(str(value))
    except re.error as error:
        expected = "a regular expression on process names, such as (^|/)java$"
        raise problem("regex", f"{value!r}: {error}", expected) from error
    return value


Pair = tuple[float, float]
Percents = Annotated[Pair, _pair(100, "a percentage")]
MemoryPercents = Annotated[Pair, _pair(99, "a percentage")]
Kibibytes = Annotated[Pair, _pair(2**53, "a size in KiB")]
Regex = Annotated[str, BeforeValidator(_regex)]


class Earlyoom(Model):
    """earlyoom, by the options of its command line."""

    mem: Annotated[MemoryPercents | None, Field(alias="-m")] = None
    """Available memory at which it acts, and half of it or the second: SIGKILL. [percent]"""
    swap: Annotated[Percents | None, Field(alias="-s")] = None
    """Free swap below which it acts; both must be low. 100 ignores swap. [percent]"""
    mem_kib: Annotated[Kibibytes | None, Field(alias="-M")] = None
    """The same as a size; with -m the lower of both. [KiB]"""
    swap_kib: Annotated[Kibibytes | None, Field(alias="-S")] = None
    prefer: Annotated[Regex, Field(alias="--prefer")] = ""
    """Names of processes to kill first."""
    avoid: Annotated[Regex, Field(alias="--avoid")] = ""
    ignore: Annotated[Regex, Field(alias="--ignore")] = ""
    sort_by_rss: Annotated[bool, Field(alias="--sort-by-rss")] = False
    """Kill the largest process instead of the one with the highest oom_score."""
