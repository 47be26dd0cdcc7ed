"""The kubelet's eviction manager (pkg/kubelet/eviction): eviction_manager.go, helpers.go.

Each ten seconds::

    memory.available = capacity - working set of the root group   (anon + file - inactive_file)
    allocatableMemory.available = kubepods' limit - its working set
    a threshold is met while available < value; from then on, until value + minimum reclaim
    soft: only after its grace period        MemoryPressure: until the transition period is over
    rank the pods: usage above request before not; lower priority; larger usage - request
    evict the first that is not critical; wait until it is gone; look again

The two signals are read anew at each look. What ranks the pods is cAdvisor's last sample of
each, up to ten seconds old.

Departs from the kubelet: where a hard and a soft threshold are met at once it takes either
(Go's map order), here the hard one; cAdvisor samples all pods at one moment, not each at its
own; statistics of disks, inodes and process ids are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from capplan.mm.state import NEVER_NS, NS_PER_MS, NS_PER_S, PAGE_SIZE, WATCH_USAGE
from capplan.sim.agents.base import LISTED, Agent, Hands, Looks, View, Watch
from capplan.sim.agents.model import ALLOCATABLE_AVAILABLE, MEMORY_AVAILABLE, Kubelet, Pod
from capplan.sim.agents.model import Threshold as ThresholdConfig

__all__ = ["KubeletAgent", "Observation", "PodUsage", "quantity", "rank", "threshold_met"]

MONITORING_NS = 10 * NS_PER_S  # pkg/kubelet/kubelet.go, evictionMonitoringPeriod
HOUSEKEEPING_NS = 10 * NS_PER_S  # cAdvisor's housekeeping_interval under the kubelet
CLEANUP_NS, CLEANUP_POLL_NS = 30 * NS_PER_S, NS_PER_S  # podCleanupTimeout, podCleanupPollFreq
HARD_GRACE_S = 1  # immediateEvictionGracePeriodSeconds; no pod is ever given less
KILL_TIMEOUT_S = 10  # pod_workers.go: at least this, or 1.5 times the grace period
KILL_POLL_NS = 100 * NS_PER_MS  # how finely the end of a killed pod is noticed here


class Observation(NamedTuple):
    """A signal's value at a look [bytes]."""

    available: int
    capacity: int


class PodUsage(NamedTuple):
    """A pod as it is ranked; usage None: no statistics [bytes]."""

    pod: Pod
    usage: int | None

    @property
    def over(self) -> int:
        """Usage less request."""
        return (self.usage or 0) - self.pod.request


def quantity(value: int | float, capacity: int) -> int:
    """A threshold's value in bytes: percentages are of the capacity."""
    return int(value * capacity) if isinstance(value, float) else value


def threshold_met(
    threshold: ThresholdConfig, seen: Observation, *, with_reclaim: bool = False
) -> bool:
    """Whether a signal is below a threshold.

    Parameters
    ----------
    threshold
    seen : Observation
    with_reclaim : bool
        Whether the minimum reclaim is added: a threshold that was met stays so until then.

    Worked example
    --------------
    100Mi with minimum reclaim 50Mi: met first at 99Mi, no more at 150Mi.
    """
    value = quantity(threshold.value, seen.capacity)
    if with_reclaim:
        value += quantity(threshold.min_reclaim, seen.capacity)
    return seen.available < value


def rank(pods: list[PodUsage]) -> list[PodUsage]:
    """Pods in the order in which they are evicted (helpers.go, rankMemoryPressure()).

    Worked example
    --------------
    Usage and request in MiB: a 900/512, b 400/none, c 4000/4096, d 700/512 with priority -1:
    c is within its request and last; of the others d has the lowest priority, then b is 400
    above its request and a 388: d, b, a, c.
    """

    def key(one: PodUsage) -> tuple[bool, bool, int, int]:
        if one.usage is None:  # no statistics: first
            return False, False, one.pod.priority, 0
        return True, one.over <= 0, one.pod.priority, -one.over

    return sorted(pods, key=key)


@dataclass
class _Wait:
    """An eviction that is under way."""

    pod: Pod
    killed_by_ns: int  # the kill is waited for until then
    cleaned_by_ns: int = NEVER_NS  # then the clean-up, until then


class KubeletAgent(Agent):
    """One node's eviction manager."""

    name = "kubelet"

    def __init__(self, config: Kubelet, view: View, phase: float, stats_phase: float) -> None:
        """Begin its clocks at a share (0 to 1) of their intervals."""
        self.config = config
        self.due_ns = 1 + int(phase * MONITORING_NS)
        view.k.stats_every_ns = HOUSEKEEPING_NS
        view.k.stats_due_ns = 1 + int(stats_phase * HOUSEKEEPING_NS)
        self.first_met: dict[ThresholdConfig, int] = {}
        self.met: list[ThresholdConfig] = []
        self.last_met_ns: int | None = None
        self.pressure = False
        self.waiting: _Wait | None = None
        self.notifies = config.memcg_notification and bool(view.k.cgroup_v1)

    def look(self, view: View, hands: Hands) -> None:
        """Synchronize, or see whether an evicted pod is gone."""
        self.due_ns = self._loop(view, hands)
        self.looks = self._leave_to_engine(view)
        if self.looks is not None:
            self.due_ns = NEVER_NS

    def wake(self, view: View) -> None:
        """A look of the engine's, or the notifier (cgroup v1), found something: synchronize."""
        crossed = self.watch.flags and view.root_usage_pages() > self.watch.usage
        found = self.looks is not None and view.look_found_something
        if self.waiting is None and (found or crossed):
            self.due_ns = view.now_ns
            self.watch = Watch()

    def _leave_to_engine(self, view: View) -> Looks | None:
        """The looks to come, as long as nothing is met: each would find nothing and end there."""
        if self.waiting is not None or self.first_met or self.pressure or self.notifies:
            return None
        least = {
            signal: max(
                (-(-quantity(t.value, capacity) // PAGE_SIZE) for t in self.config.thresholds
                 if t.signal == signal),
                default=0,
            )
            for signal, capacity in self._capacities(view).items()
        }  # fmt: skip
        group = self.config.pods_cgroup if ALLOCATABLE_AVAILABLE in least else ""
        return Looks(
            self.due_ns, MONITORING_NS, least[MEMORY_AVAILABLE], group,
            least.get(ALLOCATABLE_AVAILABLE, 0),
        )  # fmt: skip

    def _loop(self, view: View, hands: Hands) -> int:
        """One turn of the manager's goroutine: when the next is due."""
        if self.waiting is not None:
            due = self._wait(view, self.waiting)
            if self.waiting is not None:
                return due
        self.waiting = self._synchronize(view, hands)
        if self.waiting is not None:
            self.watch = Watch()
            return view.now_ns + KILL_POLL_NS
        return view.now_ns + MONITORING_NS

    def _wait(self, view: View, waiting: _Wait) -> int:
        """Wait for the kill, then for the clean-up, with their timeouts."""
        now = view.now_ns
        gone = not any(view.processes(path) for path in waiting.pod.cgroups)
        if waiting.cleaned_by_ns == NEVER_NS:
            if not gone and now < waiting.killed_by_ns:
                return now + KILL_POLL_NS
            waiting.cleaned_by_ns = now + CLEANUP_NS
            return now + CLEANUP_POLL_NS
        if gone or now >= waiting.cleaned_by_ns:
            self.waiting = None
            return now
        return now + CLEANUP_POLL_NS

    # --- synchronize() ------------------------------------------------------------------

    def _capacities(self, view: View) -> dict[str, int]:
        """What each signal is measured against; without a limit kubepods has no signal."""
        found = {MEMORY_AVAILABLE: view.memory_total}
        limit = view.limit(self.config.pods_cgroup) if self.config.pods_cgroup else None
        return found if limit is None else found | {ALLOCATABLE_AVAILABLE: limit}

    def _observe(self, view: View) -> dict[str, Observation]:
        """makeSignalObservations(): both are sampled for this look."""
        paths = {MEMORY_AVAILABLE: "", ALLOCATABLE_AVAILABLE: self.config.pods_cgroup}
        return {
            signal: Observation(capacity - view.working_set(paths[signal]), capacity)
            for signal, capacity in self._capacities(view).items()
        }

    def _synchronize(self, view: View, hands: Hands) -> _Wait | None:
        now = view.now_ns
        seen = self._observe(view)
        due = self._due(seen, now)
        self._condition(now, seen, hands)
        if self.pressure:
            self._admit(view, hands)
        self._notifier(view, seen)
        others = seen.get(ALLOCATABLE_AVAILABLE, Observation(0, 0))
        view.note_look(seen[MEMORY_AVAILABLE].available, others.available)
        return self._evict(view, hands, due[0], seen) if due else None

    def _due(self, seen: dict[str, Observation], now: int) -> list[ThresholdConfig]:
        """Thresholds that are met and whose grace period is over."""
        known = [t for t in self.config.thresholds if t.signal in seen]
        met = [t for t in known if threshold_met(t, seen[t.signal])]
        met += [
            t for t in self.met
            if t not in met and threshold_met(t, seen[t.signal], with_reclaim=True)
        ]  # fmt: skip
        self.first_met = {t: self.first_met.get(t, now) for t in met}
        if met:
            self.last_met_ns = now
        self.met = [t for t, at in self.first_met.items() if now - at >= t.grace_ns]
        return sorted(self.met, key=lambda t: t.grace_ns)

    def _condition(self, now: int, seen: dict[str, Observation], hands: Hands) -> None:
        """MemoryPressure: true from a look that met a threshold to the transition period's end."""
        last = self.last_met_ns
        pressure = last is not None and now - last < self.config.transition_ns
        if pressure != self.pressure:
            self.pressure = pressure
            event = "memory_pressure_begin" if pressure else "memory_pressure_end"
            detail: dict[str, Any] = {"agent": self.name}
            for t in self.first_met:
                detail |= self._told(t, seen[t.signal])
            hands.tell(event, "node", "", detail)

    def _admit(self, view: View, hands: Hands) -> None:
        """Admit(): BestEffort pods that come while the condition holds are rejected."""
        until = view.now_ns + MONITORING_NS
        for pod in self.config.pods:
            if pod.qos != "BestEffort" or pod.critical:
                continue
            for path, name in zip(pod.cgroups, pod.containers):
                coming = view.starts_by(path, until)
                for p in coming:
                    hands.forbid(p)
                if coming:
                    detail = {"agent": self.name, "qos": pod.qos, "condition": "MemoryPressure"}
                    hands.tell("admission_rejected", name, path, detail)

    def _notifier(self, view: View, seen: dict[str, Observation]) -> None:
        """Set the root group's threshold anew (memory_threshold_notifier.go, UpdateThreshold).

        usage_in_bytes at capacity - value + inactive_file. Departs from the kernel: that looks
        each 128 page events of a CPU, here after each turn of a task.
        """
        if not self.notifies:
            return
        hard = [t for t in self.config.thresholds if t.signal == MEMORY_AVAILABLE]
        capacity = seen[MEMORY_AVAILABLE].capacity
        idle = view.inactive_file()
        marks = [(capacity - quantity(t.value, capacity) + idle) // PAGE_SIZE for t in hard]
        above = [mark for mark in marks if mark > view.root_usage_pages()]
        self.watch = Watch(WATCH_USAGE, usage=min(above)) if above else Watch()

    # --- the choice ---------------------------------------------------------------------

    def _evict(
        self, view: View, hands: Hands, threshold: ThresholdConfig, seen: dict[str, Observation]
    ) -> _Wait | None:
        """Evict the first pod in the ranking that may be evicted."""
        active = [pod for pod in self.config.pods if self._active(view, pod)]
        ranked = rank([PodUsage(_requesting(view, pod), self._usage(view, pod)) for pod in active])
        chosen = next((one for one in ranked if not one.pod.critical), None)
        if chosen is None:
            return None
        grace = HARD_GRACE_S
        if not threshold.hard:
            # not the pod's own period, nor the lesser of the two: kubernetes issue 64530
            grace = max(self.config.max_pod_grace_s, HARD_GRACE_S)
        self._tell(view, hands, threshold, seen, chosen, ranked, grace)
        hands.evict(chosen.pod.cgroups, grace * NS_PER_S)
        timeout = max(grace + grace // 2, KILL_TIMEOUT_S) * NS_PER_S
        return _Wait(chosen.pod, view.now_ns + timeout)

    def _active(self, view: View, pod: Pod) -> bool:
        return any(view.processes(path) for path in pod.cgroups)

    def _usage(self, view: View, pod: Pod) -> int | None:
        """What cAdvisor sampled last of the pod; None: nothing yet."""
        known = [view.sampled_working_set(path) for path in pod.cgroups]
        return sum(known) if any(known) else None

    def _told(self, threshold: ThresholdConfig, seen: Observation) -> dict[str, Any]:
        return {
            "signal": threshold.signal,
            "threshold": threshold.called,
            "threshold_bytes": quantity(threshold.value, seen.capacity),
            "available_bytes": seen.available,
            "capacity_bytes": seen.capacity,
        }

    def _tell(
        self, view: View, hands: Hands, threshold: ThresholdConfig, seen: dict[str, Observation],
        chosen: PodUsage, ranked: list[PodUsage], grace: int,
    ) -> None:  # fmt: skip
        """One event for each container of the pod: what was seen, and the ranking."""
        pod = chosen.pod
        detail = self._told(threshold, seen[threshold.signal]) | {
            "agent": self.name,
            "pod": pod.name,
            "grace_s": grace,
            "met_s": (view.now_ns - self.first_met[threshold]) / NS_PER_S,
            "MemAvailable_bytes": view.meminfo().available,
            "stats_age_s": (view.now_ns - view.sampled_ns) / NS_PER_S,
            "candidates": [_row(one) for one in ranked[:LISTED]],
            "ranked": len(ranked),
        }
        at, *before = view.last_look
        if at:
            detail["last_look_s"] = at / NS_PER_S
            which = 0 if threshold.signal == MEMORY_AVAILABLE else 1
            detail["last_available_bytes"] = before[which]
        for path, name in zip(pod.cgroups, pod.containers):
            hands.tell("evicted", name, path, detail)


def _requesting(view: View, pod: Pod) -> Pod:
    """The pod with the request that it has now: an autoscaler may have changed it."""
    if len(pod.cgroups) != 1 or pod.cgroups[0] not in view.requests:
        return pod
    return replace(pod, request=view.requests[pod.cgroups[0]])


def _row(one: PodUsage) -> dict[str, Any]:
    return {
        "name": one.pod.name,
        "usage_bytes": one.usage,
        "request_bytes": one.pod.request,
        "priority": one.pod.priority,
        "qos": one.pod.qos,
        "critical": one.pod.critical,
    }
