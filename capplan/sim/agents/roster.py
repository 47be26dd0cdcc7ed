"""The agents of a run: who looks when, between two stops of the engine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from capplan.mm.state import NEVER_NS, WATCH_AVERAGES
from capplan.sim.agents.base import Agent, Hands, Looks, View
from capplan.sim.agents.earlyoom import EarlyoomAgent
from capplan.sim.agents.hpa import HpaAgent
from capplan.sim.agents.kubelet import KubeletAgent
from capplan.sim.agents.lifecycle import Lifecycle
from capplan.sim.agents.metrics_server import MetricsServer
from capplan.sim.agents.model import Agent as Config
from capplan.sim.agents.model import Hpa, Kubelet, SystemdOomd, Vpa
from capplan.sim.agents.systemd_oomd import SystemdOomdAgent
from capplan.sim.agents.vpa import VpaAgent
from capplan.sim.build import Machine
from capplan.sim.result import Event

__all__ = ["Roster"]


class Roster:
    """The agents of one run."""

    def __init__(self, machine: Machine, replicate: int = 0) -> None:
        self.view = View(machine)
        self.hands = Hands(machine, self.view)
        self.k = machine.kernel[0]
        self.seed = (machine.scenario.seed, replicate)
        self.lifecycle = Lifecycle(self.view, self.hands)
        self.metrics = self._metrics(machine.scenario.agents)
        self.agents: Sequence[Agent] = [
            *([] if self.metrics is None else [self.metrics]),
            *(self._agent(config, machine) for config in machine.scenario.agents),
        ]
        reads = any(isinstance(c, SystemdOomd) for c in machine.scenario.agents)
        self._looks: Looks | None = None  # what the engine was told
        self._always = WATCH_AVERAGES if reads else 0
        self._set_watch()

    def _phase(self, name: str) -> float:
        """A clock's phase, 0 to 1: nobody knows when a daemon was started."""
        text = f"{self.seed[0]}/{self.seed[1]}/{name}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") / 2**64

    def _metrics(self, configs: Sequence[Config]) -> MetricsServer | None:
        """metrics-server, where anybody asks it."""
        scaled = [config.of for config in configs if isinstance(config, Vpa | Hpa)]
        if not scaled:
            return None
        paths = dict.fromkeys(pod.cgroups[0] for of in scaled for pod in of.replicas)
        phases = self._phase("metrics-server"), self._phase("cadvisor")
        return MetricsServer(tuple(paths), self.lifecycle, *phases)

    def _agent(self, config: Config, machine: Machine) -> Agent:
        if isinstance(config, Vpa | Hpa):
            assert self.metrics is not None
            name = f"{type(config).__name__.lower()}/{config.of.container}"
            phase = self._phase(name)
            if isinstance(config, Hpa):
                return HpaAgent(config, self.lifecycle, self.metrics, phase)
            phases = phase, self._phase(f"{name}/updater")
            return VpaAgent(config, self.lifecycle, self.metrics, phases)
        if isinstance(config, Kubelet):
            return KubeletAgent(config, self.view, self._phase("kubelet"), self._phase("cadvisor"))
        if isinstance(config, SystemdOomd):
            phase = self._phase("systemd-oomd")
            return SystemdOomdAgent(config, machine.scenario, self.view, phase)
        return EarlyoomAgent(config, self._phase("earlyoom"))

    @property
    def due_ns(self) -> int:
        """When an agent is due next."""
        return min(self.hands.due_ns, min(agent.due_ns for agent in self.agents))

    def act(self, events: list[Event]) -> None:
        """Let all look that are due; their events go to ``events``."""
        self.view.log = events
        self.hands.go_on()
        for agent in self.agents:
            if agent.due_ns <= self.view.now_ns:
                agent.look(self.view, self.hands)
        events += self.hands.events
        self.hands.events.clear()
        self._set_watch()

    def wake(self) -> None:
        """The engine stopped for what an agent watches for."""
        for agent in self.agents:
            if agent.watch.flags or agent.looks is not None:
                agent.wake(self.view)
        self._set_watch()

    def _set_watch(self) -> None:
        watches = [agent.watch for agent in self.agents if agent.watch.flags]
        flags = self._always
        for watch in watches:
            flags |= watch.flags
        self.k.watch = flags
        looks = next((agent.looks for agent in self.agents if agent.looks is not None), None)
        if looks is not self._looks:
            self._set_looks(looks)
        if watches:
            self.k.watch_available = max(watch.available for watch in watches)
            self.k.watch_swap = max(watch.swap for watch in watches)
            self.k.watch_usage = min(watch.usage for watch in watches)

    def _set_looks(self, looks: Looks | None) -> None:
        """Have the engine take these looks from now on; it moves their time itself."""
        self._looks = looks
        self.k.look_due_ns = NEVER_NS
        if looks is not None:
            self.k.look_due_ns, self.k.look_every_ns = looks.due_ns, looks.every_ns
            self.k.look_least, self.k.look_group_least = looks.least, looks.group_least
            self.k.look_group = self.view.index[looks.group] if looks.group else -1
