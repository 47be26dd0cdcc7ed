"""What controllers of a cluster do to pods on this node: end them, make them anew, resize them.

Departs from Kubernetes: a pod that replaces another starts when that one is gone, in its place
and group (a ReplicaSet makes it at once, and the scheduler may choose another node).
"""

from __future__ import annotations

from collections.abc import Callable

from capplan.mm import state as s
from capplan.sim.agents.base import Hands, View
from capplan.sim.build_tasks import RESTARTS
from capplan.sim.changes import apply_change, push_write
from capplan.sim.scenario import PAGE_SIZE, Change

__all__ = ["Lifecycle"]

POLL_NS = 100 * s.NS_PER_MS  # how finely the end of a pod is noticed


class Lifecycle:
    """Starts and ends of the pods that have one container in a group each."""

    def __init__(self, view: View, hands: Hands) -> None:
        self.view = view
        self.hands = hands
        names = view.machine.proc_names
        policies = {p.name: RESTARTS[p.restart] for p in view.machine.scenario.processes}
        self.policy = {p: policies[name] for p, name in enumerate(names) if name in policies}

    def main(self, path: str) -> int:
        """The group's first container: its main process; -1: there is none."""
        k, c = self.view.k, self.view.index[path]
        for p in range(1, int(k.nr_procs)):
            if k.proc[p].memcg == c and k.proc[p].container == p:
                return p
        return -1

    def members(self, main: int) -> list[int]:
        """Processes of a container."""
        k = self.view.k
        return [p for p in range(1, int(k.nr_procs)) if k.proc[p].container == main]

    def running(self, path: str) -> bool:
        """Whether the container runs."""
        main = self.main(path)
        return main >= 0 and int(self.view.k.proc[main].state) == s.PROC_LIVE

    def started_ns(self, path: str) -> int:
        """When its present life began."""
        return int(self.view.k.proc[self.main(path)].start_ns)

    def end(self, path: str, grace_ns: int, then: Callable[[], None]) -> None:
        """Delete a pod; ``then`` is called when it is gone."""
        self.hands.delete(path, grace_ns)
        self._wait(path, then)

    def _wait(self, path: str, then: Callable[[], None]) -> None:
        def again() -> None:
            if self.view.processes(path):
                self._wait(path, then)
            else:
                then()

        self.hands.at(self.view.now_ns + POLL_NS, again)

    def begin(self, path: str) -> None:
        """Start the container's processes as those of a new pod: no back-off, no history."""
        k, main = self.view.k, self.main(path)
        for p in self.members(main):
            k.proc[p].restart_policy = self.policy[p]
            k.proc[p].backoff_ns = k.proc[p].backoff_set_ns = 0
        push_write(k, s.WRITE_BEGIN, self.view.index[path], main)

    def set_limit(self, path: str, limit: int) -> None:
        """Write the group's hard limit."""
        key = "memory.limit_in_bytes" if self.view.k.cgroup_v1 else "memory.max"
        apply_change(self.view.machine, Change(self.view.now_ns, path, key, limit // PAGE_SIZE))

    def set_oom_score_adj(self, path: str, adj: int) -> None:
        """What the kubelet writes for a new container."""
        for p in self.members(self.main(path)):
            self.view.k.proc[p].oom_score_adj = adj
