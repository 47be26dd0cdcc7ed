"""The Vertical Pod Autoscaler: a recommender that learns, an updater that evicts or resizes.

kubernetes/autoscaler, vertical-pod-autoscaler/pkg/updater: priority/update_priority_calculator.go,
restriction/pods_restriction_factory.go; pkg/utils/vpa/limit_and_request_scaling.go. Each of the two
runs once a minute::

    a pod is updated if its request is outside the bounds; or it was OOM-killed within ten minutes
    of its start and the target differs; or it is 12 h old and the target is 10 % away
    at least two replicas; half of them at a time
    limit: in the proportion to the request that it had

An updated pod has the target as its request. A request that no node can hold leaves it Pending.

Departs from the autoscaler: no checkpoints (it has seen nothing before the run); CPU is not looked
at; in place, a limit below the usage waits for the next loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from capplan.mm.state import NS_PER_S
from capplan.sim.agents.base import Agent, Hands, View
from capplan.sim.agents.lifecycle import Lifecycle
from capplan.sim.agents.model import Pod, Vpa, burstable_adj
from capplan.sim.agents.vpa_recommender import (
    Bounds,
    ContainerPeaks,
    Histogram,
    History,
    recommend,
)

if TYPE_CHECKING:
    from capplan.sim.agents.metrics_server import MetricsServer

__all__ = ["VpaAgent"]

LOOP_NS = 60 * NS_PER_S  # --recommender-interval, --updater-interval


@dataclass
class _Replica:
    """A pod as the autoscaler sees it."""

    pod: Pod
    path: str
    request: int
    limit: int | None
    peaks: ContainerPeaks
    oom_started_ns: int = -1  # the last termination, if it was an OOM kill: begun, ended
    oom_ended_ns: int = -1
    created_ns: int = 0
    updating: bool = False
    pending: bool = False
    failed: bool = False  # evicted by the kubelet: its successor is on another node


class VpaAgent(Agent):
    """One VerticalPodAutoscaler."""

    def __init__(
        self, config: Vpa, lifecycle: Lifecycle, metrics: MetricsServer, phases: tuple[float, float]
    ) -> None:
        """Begin both loops at a share (0 to 1) of a minute."""
        self.config = config
        self.name = f"vpa/{config.of.container}"
        self.lifecycle = lifecycle
        self.metrics = metrics
        self.history = History(histogram=Histogram(config.half_life_ns))
        self.bounds: Bounds | None = None
        self.recommend_ns, self.update_ns = (1 + int(phase * LOOP_NS) for phase in phases)
        self.due_ns = min(self.recommend_ns, self.update_ns)
        self.read = 0  # events of the log that were read
        self.replicas = [
            _Replica(pod, pod.cgroups[0], config.of.request, config.of.limit,
                     ContainerPeaks(config, self.history.histogram))
            for pod in config.of.replicas
        ]  # fmt: skip

    def look(self, view: View, hands: Hands) -> None:
        """Run the loop that is due."""
        self._observe(view)
        if self.recommend_ns <= view.now_ns:
            self.recommend_ns += LOOP_NS
            self._recommend(view, hands)
        if self.update_ns <= view.now_ns:
            self.update_ns += LOOP_NS
            self._update(view, hands)
        self.due_ns = min(self.recommend_ns, self.update_ns)

    def wake(self, view: View) -> None:
        """Only the clock brings a loop."""

    # --- the recommender ----------------------------------------------------------------

    def _observe(self, view: View) -> None:
        """Container statuses that say OOMKilled (the main process was killed), and evictions."""
        begun = {r.pod.containers[0]: r for r in self.replicas}
        for event in view.log[self.read :]:
            container, _, _ = event.name.partition("/")
            replica = begun.get(container)
            if replica is None or event.event not in ("oom_kill", "evicted"):
                continue
            if event.event == "evicted":  # the observer takes it for an OOM of what it used
                replica.failed = True
                ranked = event.detail["candidates"]
                used = [c["usage_bytes"] for c in ranked if c["name"] == event.detail["pod"]]
                replica.peaks.record_oom((used or [0])[0] or 0, round(event.t * NS_PER_S))
                continue
            main = self.lifecycle.main(replica.path)
            if event.name != view.machine.proc_names[main]:
                continue
            at = round(event.t * NS_PER_S)
            replica.oom_ended_ns = at
            replica.oom_started_ns = self._start_before(view, event.name, at)
            replica.peaks.record_oom(replica.request, at)
        self.read = len(view.log)

    def _start_before(self, view: View, name: str, at_ns: int) -> int:
        """When the life that ended then had begun."""
        starts = [e.t for e in view.log if e.name == name and e.event in ("start", "restart")]
        return max((round(t * NS_PER_S) for t in starts if t * NS_PER_S <= at_ns), default=0)

    def _recommend(self, view: View, hands: Hands) -> None:
        """RunOnce(): samples of the metrics API, then a new recommendation."""
        history = self.history
        for replica in self.replicas:
            usage = self.metrics.usage.get(replica.path)
            if usage is None:
                continue
            replica.peaks.sample(usage, view.now_ns)
            # the CPU's samples are what is counted: one for each container and loop
            history.first_ns = view.now_ns if history.first_ns is None else history.first_ns
            history.last_ns, history.samples = view.now_ns, history.samples + 1
        if not history.histogram.weight:
            return
        before, self.bounds = self.bounds, recommend(self.config, history)
        if before is None or before.target != self.bounds.target:
            detail = {"agent": "vpa", "target_bytes": self.bounds.target,
                      "lower_bytes": self.bounds.lower, "upper_bytes": self.bounds.upper,
                      "before_bytes": None if before is None else before.target}  # fmt: skip
            hands.tell("vpa_recommendation", self.config.of.container, "", detail)

    # --- the updater --------------------------------------------------------------------

    def _update(self, view: View, hands: Hands) -> None:
        bounds, config = self.bounds, self.config
        if bounds is None or config.mode in ("Off", "Initial"):
            return
        if len(self.replicas) < config.min_replicas:
            return
        live = [r for r in self.replicas if not r.updating and not r.failed]
        chosen = [(r, why) for r in live if (why := self._why(view, r, bounds))]
        chosen.sort(key=lambda one: -abs(bounds.target - one[0].request) / max(one[0].request, 1))
        resized = 0
        for replica, why in chosen:
            if self._disruptable(resized):
                resized += self._renew(view, hands, replica, bounds.target, why)

    def _why(self, view: View, replica: _Replica, bounds: Bounds) -> str:
        """Why a pod is updated; empty: it is not (AddPod())."""
        config, request = self.config, replica.request
        difference = abs(bounds.target - request) / max(request, 1)
        lasted = replica.oom_ended_ns - replica.oom_started_ns
        quick = replica.oom_ended_ns >= 0 and lasted < config.quick_oom_ns
        if quick and difference > 0:
            return "OOM-killed soon after its start"
        if quick:
            return ""
        if not bounds.lower <= request <= bounds.upper:
            return "its request is outside the bounds"
        old = view.now_ns - replica.created_ns >= config.lifetime_ns
        return (
            "its request is far from the target" if old and difference >= config.threshold else ""
        )

    def _disruptable(self, resized: int) -> bool:
        """Whether one more may be disturbed in this loop (isPodDisruptable())."""
        configured = len(self.replicas)
        tolerated = int(configured * self.config.tolerance)
        away = sum(r.updating for r in self.replicas) + resized
        alive = configured - away
        return alive > configured - tolerated or (tolerated == 0 and away == 0)

    def _renew(self, view: View, hands: Hands, replica: _Replica, target: int, why: str) -> bool:
        """Resize a pod in place, or evict it so that admission gives its successor the target.

        Returns whether it was resized.
        """
        config, detail = self.config, self._detail(replica, target, why)
        limit = detail["limit_bytes"]
        fits = target + self._requested(replica) + config.of.others <= config.of.allocatable
        if config.mode == "InPlaceOrRecreate" and fits:
            if limit is not None and view.current(replica.path) > limit:
                return False  # the kubelet does not shrink a limit below the usage
            hands.tell("vpa_update", replica.pod.containers[0], replica.path,
                       detail | {"how": "resized"})  # fmt: skip
            self._take(replica, target, limit)
            return True
        hands.tell("vpa_update", replica.pod.containers[0], replica.path,
                   detail | {"how": "evicted"})  # fmt: skip
        replica.updating = True

        def begin() -> None:
            replica.peaks = ContainerPeaks(config, self.history.histogram)
            replica.oom_ended_ns = replica.oom_started_ns = -1
            replica.created_ns = view.now_ns
            if not fits:
                replica.pending = True
                hands.tell("vpa_pending", replica.pod.containers[0], replica.path,
                           detail | {"allocatable_bytes": config.of.allocatable})  # fmt: skip
                return
            replica.updating = False
            self._take(replica, target, limit)
            if config.of.capacity and replica.pod.qos == "Burstable":
                adj = burstable_adj(target, config.of.capacity)
                self.lifecycle.set_oom_score_adj(replica.path, adj)
            self.lifecycle.begin(replica.path)

        self.lifecycle.end(replica.path, config.grace_ns, begin)
        return False

    def _requested(self, but: _Replica) -> int:
        return sum(r.request for r in self.replicas if r is not but and not r.pending)

    def _take(self, replica: _Replica, target: int, limit: int | None) -> None:
        replica.request, replica.limit = target, limit
        self.lifecycle.view.requests[replica.path] = target
        if limit is not None:
            self.lifecycle.set_limit(replica.path, limit)

    def _detail(self, replica: _Replica, target: int, why: str) -> dict[str, Any]:
        """What changes (getProportionalResourceLimit())."""
        limit, request = self.config.of.limit, self.config.of.request
        new = limit
        if limit is not None and self.config.limits:
            new = target if limit == request or request == 0 else limit * target // request
        return {
            "agent": "vpa", "why": why, "request_bytes": target, "limit_bytes": new,
            "old_request_bytes": replica.request, "old_limit_bytes": replica.limit,
        }  # fmt: skip
