"""metrics-server: what the autoscalers know of pods, a scrape of the kubelet each 15 seconds.

kubernetes-sigs/metrics-server, --metric-resolution=15s (its own manifests). The kubelet's answer
has cAdvisor's last sample of each container, up to ten seconds old by then.

Departs from metrics-server: a container appears with the first scrape that finds it sampled in
its present life; there it takes two, for the CPU's rate.
"""

from __future__ import annotations

from capplan.mm.state import NS_PER_S
from capplan.sim.agents.base import Agent, Hands, View
from capplan.sim.agents.lifecycle import Lifecycle

__all__ = ["MetricsServer"]

RESOLUTION_NS = 15 * NS_PER_S
HOUSEKEEPING_NS = 10 * NS_PER_S  # cAdvisor's, under the kubelet


class MetricsServer(Agent):
    """Working sets of pods' containers, as of the last scrape."""

    name = "metrics-server"

    def __init__(
        self, paths: tuple[str, ...], lifecycle: Lifecycle, phase: float, stats_phase: float
    ) -> None:
        """Begin at a share (0 to 1) of the intervals; cAdvisor samples on this node from now on."""
        self.paths = paths
        self.lifecycle = lifecycle
        self.due_ns = 1 + int(phase * RESOLUTION_NS)
        self.usage: dict[str, int] = {}
        k = lifecycle.view.k
        k.stats_every_ns = HOUSEKEEPING_NS
        k.stats_due_ns = 1 + int(stats_phase * HOUSEKEEPING_NS)

    def look(self, view: View, hands: Hands) -> None:
        """Scrape."""
        self.due_ns = view.now_ns + RESOLUTION_NS
        self.usage = {
            path: view.sampled_working_set(path)
            for path in self.paths
            if self.lifecycle.running(path)
            and self.lifecycle.started_ns(path) < view.sampled_ns
            and view.sampled_working_set(path) > 0
        }

    def wake(self, view: View) -> None:
        """Only the clock brings a scrape."""
