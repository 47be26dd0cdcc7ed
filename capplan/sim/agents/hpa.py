"""The Horizontal Pod Autoscaler on memory (pkg/controller/podautoscaler).

Each 15 seconds: horizontal.go, replica_calculator.go (GetResourceReplicas)::

    ratio = usage of the pods in whole per cent of their requests / target;  0.9 to 1.1: nothing
    desired = ceil(ratio * pods with metrics)
    pods without metrics count 0 on the way up, on the way down their request, or the target if
    that is more (averageValue: the target)
    down: the highest of what was desired within 5 min;   then the behavior's rates, min and max
    (what there is when it begins counts as desired then: recordInitialRecommendation())

A pod whose request the node cannot hold stays Pending.

Departs from Kubernetes: a pod runs when it is begun (no pulling, no probes); all pods come to this
node; when pods go, the newest go first (kube-controller-manager takes those not yet ready, then by
age and spread).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from capplan.mm.state import NS_PER_S
from capplan.sim.agents.base import Agent, Hands, View
from capplan.sim.agents.lifecycle import Lifecycle
from capplan.sim.agents.load import Load
from capplan.sim.agents.model import Hpa, Pod

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from capplan.sim.agents.metrics_server import MetricsServer

__all__ = ["HpaAgent", "desired_replicas", "limited", "stabilized"]

SYNC_NS = 15 * NS_PER_S  # --horizontal-pod-autoscaler-sync-period


def desired_replicas(
    usage: Mapping[str, int], running: Sequence[str], hpa: Hpa, now: int | None = None
) -> tuple[int, float]:
    """What the metric asks for, and the ratio it came from.

    Parameters
    ----------
    usage : mapping
        Bytes of each pod that has metrics.
    running : sequence of str
        Pods that run.
    hpa : Hpa
        With its target: a utilization, or a value for each pod.
    now : int, optional
        Replicas that are wanted; left out: those that run. Pending ones count 0 on the way up, and
        not at all on the way down.

    Kernel
    ------
    Kubernetes, replica_calculator.go, GetResourceReplicas() and calcPlainMetricReplicas();
    metrics/utilization.go: a utilization is a whole number of per cent, rounded down.

    Worked example
    --------------
    Two pods of 1000 each use 1557 together, target 70 %: 77 % (not 77.85), ratio 1.1, which is
    within the tolerance: two. At 1560: 78 %, 1.114, so 3. A third pod without metrics counts 0:
    1560 of 3000 are 52 %, 0.74, the other way: as many as there are.
    """
    now = len(running) if now is None else now
    known = [usage[path] for path in running if path in usage]
    if not known:
        return now, 1.0
    ratio = _ratio(sum(known), len(known), hpa)
    missing = len(running) - len(known)
    pending = now - len(running) if ratio > 1 else 0
    if not missing and not pending:
        return (now if _within(ratio, hpa) else math.ceil(ratio * len(running))), ratio
    filled = sum(known) + (missing * _assumed(hpa) if ratio < 1 else 0)
    pods = len(running) + pending
    again = _ratio(filled, pods, hpa)
    wanted = math.ceil(again * pods)
    turned = (ratio < 1 < again) or (again < 1 < ratio)
    against = (again < 1 and wanted > now) or (again > 1 and wanted < now)
    return (now if _within(again, hpa) or turned or against else wanted), again


def _ratio(usage: int, pods: int, hpa: Hpa) -> float:
    if hpa.value is not None:
        return usage // pods / hpa.value
    assert hpa.utilization is not None
    return usage * 100 // (pods * hpa.of.request) / hpa.utilization


def _within(ratio: float, hpa: Hpa) -> bool:
    """Tolerances.isWithin(): each direction has its own."""
    up = hpa.tolerance if hpa.up.tolerance is None else hpa.up.tolerance
    down = hpa.tolerance if hpa.down.tolerance is None else hpa.down.tolerance
    return 1.0 - down <= ratio <= 1.0 + up


def _assumed(hpa: Hpa) -> int:
    """What a pod without metrics is taken to use on the way down. [bytes]"""
    if hpa.value is not None:
        return hpa.value
    assert hpa.utilization is not None
    return hpa.of.request * max(100, hpa.utilization) // 100


def stabilized(
    desired: int, now: int, past: Sequence[tuple[int, int]], at_ns: int, hpa: Hpa
) -> int:
    """What the stabilization windows leave of it (stabilizeRecommendationWithBehaviors()).

    Worked example
    --------------
    5 replicas, 3 are desired, 5 were a minute ago: with a window of five minutes it stays at 5.
    """
    up = [d for t, d in past if at_ns - t < hpa.up.window_ns]
    down = [d for t, d in past if at_ns - t < hpa.down.window_ns]
    low, high = min([desired, *up]), max([desired, *down])
    return min(max(now, low), high)


def limited(wanted: int, now: int, changes: Sequence[tuple[int, int]], at_ns: int, hpa: Hpa) -> int:
    """What the policies' rates allow (calculateScaleUpLimitWithScalingRules() and its twin).

    Worked example
    --------------
    2 replicas, 20 wanted, default policies: the larger of 100 % and 4 pods in 15 s: 6. At 6 fifteen
    seconds later: 12. What went within the period counts too: at 4 that were 10 five seconds ago
    the period began with 10, so 20.
    """
    up = wanted > now
    rules = hpa.up if up else hpa.down
    if wanted == now or rules.select == "Disabled":
        return now
    found = []
    for kind, value, period_ns in rules.policies:
        recent = sum(c for t, c in changes if at_ns - t < period_ns)
        begun = now - recent  # replicas at the period's start
        if kind == "Pods":
            found.append(begun + value if up else begun - value)
        else:
            share = begun * (1 + value / 100) if up else begun * (1 - value / 100)
            found.append(math.ceil(share) if up else int(share))
    if not found:
        return wanted
    widest = rules.select == "Max"
    if up:
        return max(now, min(wanted, max(found) if widest else min(found)))
    return min(now, max(wanted, min(found) if widest else max(found)))


@dataclass
class _Replica:
    pod: Pod
    path: str
    wanted: bool
    pending: bool = False
    leaving: bool = False


class HpaAgent(Agent):
    """One HorizontalPodAutoscaler."""

    def __init__(
        self, config: Hpa, lifecycle: Lifecycle, metrics: MetricsServer, phase: float
    ) -> None:
        """Begin its clock at a share (0 to 1) of the sync period."""
        self.config = config
        self.name = f"hpa/{config.of.container}"
        self.lifecycle = lifecycle
        self.metrics = metrics
        self.due_ns = 1 + int(phase * SYNC_NS)
        self.past: list[tuple[int, int]] = []  # what was desired, and when
        self.changes: list[tuple[int, int]] = []  # replicas that were added (or taken)
        self.replicas = [
            _Replica(pod, pod.cgroups[0], number < config.of.running)
            for number, pod in enumerate(config.of.replicas)
        ]
        self.load = Load(lifecycle) if config.shares_load else None
        self.waiting = 0  # Pending pods, as told last

    @property
    def target(self) -> float:
        """What each pod should use [bytes]."""
        if self.config.value is not None:
            return float(self.config.value)
        assert self.config.utilization is not None
        return self.config.of.request * self.config.utilization / 100

    def look(self, view: View, hands: Hands) -> None:
        """Synchronize (reconcileAutoscaler()), then see what Pending pods fit by now."""
        self.due_ns = view.now_ns + SYNC_NS
        now = sum(r.wanted for r in self.replicas)
        running = [r.path for r in self.replicas if r.wanted and self.lifecycle.running(r.path)]
        desired, ratio = desired_replicas(self.metrics.usage, running, self.config, now)
        if not self.past:
            self.past.append((view.now_ns, now))
        self.past = [(t, d) for t, d in self.past if view.now_ns - t < 3600 * NS_PER_S]
        wanted = stabilized(desired, now, self.past, view.now_ns, self.config)
        self.past.append((view.now_ns, desired))
        wanted = limited(wanted, now, self.changes, view.now_ns, self.config)
        wanted = min(max(wanted, self.config.least), self.config.most)
        if wanted != now:
            self._scale(view, hands, now, wanted, {"desired": desired, "ratio": round(ratio, 4)})
        self._start_pending(view, hands)
        self._share(view)

    def wake(self, view: View) -> None:
        """Only the clock brings a look."""

    def _scale(self, view: View, hands: Hands, now: int, wanted: int, seen: dict[str, Any]) -> None:
        """Set the replicas of the workload."""
        self.changes.append((view.now_ns, wanted - now))
        hands.tell("hpa_scale", self.config.of.container, "", {
            "agent": "hpa", "replicas": wanted, "old_replicas": now, "target_bytes": self.target,
            **seen,
        })  # fmt: skip
        if wanted > now:
            idle = [r for r in self.replicas if not r.wanted and not r.leaving]
            for replica in idle[: wanted - now]:
                replica.wanted = replica.pending = True
            return
        for replica in [r for r in self.replicas if r.wanted][wanted:]:
            replica.wanted, replica.leaving = False, True
            was_pending, replica.pending = replica.pending, False

            def gone(replica: _Replica = replica) -> None:
                replica.leaving = False

            if was_pending:
                gone()
            else:
                self.lifecycle.end(replica.path, self.config.grace_ns, gone)

    def _start_pending(self, view: View, hands: Hands) -> None:
        """Bind pods whose request the node has left."""
        of = self.config.of
        for replica in self.replicas:
            if not replica.pending:
                continue
            bound = sum((r.wanted and not r.pending) or r.leaving for r in self.replicas)
            if of.others + (bound + 1) * of.request > of.allocatable:
                continue
            replica.pending = False
            self.lifecycle.begin(replica.path)
        waiting = sum(r.pending for r in self.replicas)
        if waiting != self.waiting:
            self.waiting = waiting
            hands.tell("hpa_pending", of.container, "", {
                "agent": "hpa", "pending": waiting, "request_bytes": of.request,
                "allocatable_bytes": of.allocatable,
            })  # fmt: skip

    def _share(self, view: View) -> None:
        """Share the load out among those that run."""
        if self.load is None:
            return
        running = [r.path for r in self.replicas if r.wanted and self.lifecycle.running(r.path)]
        if running:
            share = self.config.of.running / len(running)
            for path in running:
                self.load.set_share(path, share)
