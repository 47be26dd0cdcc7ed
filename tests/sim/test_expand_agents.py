"""What a node file says of agents, of pods and of their containers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import capplan
from capplan.sim.agents.model import Earlyoom, Kubelet, ManagedOom, SystemdOomd, Threshold
from capplan.sim.scenario import Scenario

MIB = 1 << 20
NODE = """
capplan: 1
node: {memory: 4Gi, cpus: 2, swap: [{device: nvme, size: 1Gi}]}
cgroup:
  groups:
    kubepods.slice: {%(group)s}
    user.slice:
      ManagedOOMSwap: kill
      ManagedOOMMemoryPressure: kill
      ManagedOOMMemoryPressureLimit: 50%%
%(agents)s
containers:
  web:
    parent: kubepods.slice
    profile: {capplan: 1, profile: x, processes: {a: {regions: {heap: {kind: anon, size: 10Mi}}}}}
    %(web)s
  shell:
    parent: user.slice
    ManagedOOMPreference: avoid
    profile: {capplan: 1, profile: x, processes: {a: {regions: {heap: {kind: anon, size: 10Mi}}}}}
run: {duration: 60s}
"""


def expand(
    tmp_path: Path, agents: str = "kubelet: {}", web: str = "priority: 0", group: str = ""
) -> Scenario:
    path = tmp_path / "node.yaml"
    path.write_text(NODE % {"agents": agents, "web": web, "group": group})
    return capplan.expand(capplan.load(path))


def kubelet(made: Scenario) -> Kubelet:
    (agent,) = [a for a in made.agents if isinstance(a, Kubelet)]
    return agent


def memory(made: Scenario) -> int:
    return sum(zone.managed for zone in made.node.zones) * 4096


def adj(made: Scenario, container: str = "web") -> int:
    return next(p.oom_score_adj for p in made.processes if p.container == container)


def hard(value: int, **more: Any) -> tuple[Threshold, Threshold]:
    """evictionHard's threshold and its copy for kubepods."""
    return (
        Threshold("memory.available", value, **more),
        Threshold("allocatableMemory.available", value, **more),
    )


def test_without_a_key_nobody_runs(tmp_path: Path) -> None:
    made = expand(tmp_path, agents="")
    assert made.agents == ()
    assert adj(made) == 0


@pytest.mark.parametrize(
    ("text", "thresholds"),
    [
        ("{}", hard(100 * MIB)),
        ("{evictionHard: {memory.available: 5%}}", hard(0.05)),  # type: ignore[arg-type]
        ("{evictionHard: {nodefs.available: 10%}}", ()),
        ("{evictionHard: {nodefs.available: 10%}, mergeDefaultEvictionSettings: true}",
         hard(100 * MIB)),
        ("{evictionHard: {memory.available: 0}}", ()),
        ("{enforceNodeAllocatable: [none]}", hard(100 * MIB)[:1]),
        ("{evictionMinimumReclaim: {memory.available: 50Mi}}",
         hard(100 * MIB, min_reclaim=50 * MIB)),
        ("{evictionSoft: {memory.available: 1Gi}, "
         "evictionSoftGracePeriod: {memory.available: 1m30s}}",
         (hard(100 * MIB)[0], Threshold("memory.available", 1024 * MIB, 90 * 10**9),
          hard(100 * MIB)[1])),
    ],
)  # fmt: skip
def test_thresholds(tmp_path: Path, text: str, thresholds: tuple[Threshold, ...]) -> None:
    assert kubelet(expand(tmp_path, f"kubelet: {text}")).thresholds == thresholds


@pytest.mark.parametrize(
    ("web", "request_mib", "qos"),
    [
        ("priority: 0", 0, "BestEffort"),
        ("memory.max: 64Mi", 64, "Guaranteed"),  # a request left out is the limit
        ("requests.memory: 64Mi", 64, "Burstable"),
        ("{requests.memory: 32Mi, memory.max: 64Mi}", 32, "Burstable"),
        ("{requests.memory: 0, memory.max: 64Mi}", 0, "Burstable"),
    ],
)
def test_qos_follows_from_requests_and_limits(
    tmp_path: Path, web: str, request_mib: int, qos: str
) -> None:
    web = web.strip("{}").replace(", ", "\n    ")
    (pod,) = kubelet(expand(tmp_path, web=web)).pods
    assert (pod.name, pod.request, pod.qos) == ("web", request_mib * MIB, qos)


def test_oom_score_adj_is_the_kubelets(tmp_path: Path) -> None:
    assert adj(expand(tmp_path)) == 1000
    assert adj(expand(tmp_path, web="memory.max: 64Mi")) == -997
    burstable = expand(tmp_path, web="requests.memory: 1Gi")
    assert adj(burstable) == 1000 - 1000 * (1 << 30) // memory(burstable)
    assert adj(expand(tmp_path, web="requests.memory: 1Mi")) == 999
    assert adj(expand(tmp_path, web="requests.memory: 4Gi")) == 3
    assert adj(expand(tmp_path, web="oom_score_adj: 7")) == 7
    assert adj(expand(tmp_path), "shell") == 0  # no pod


def test_kubepods_limit_is_capacity_less_what_is_reserved(tmp_path: Path) -> None:
    text = "kubelet: {kubeReserved: {memory: 256Mi}, systemReserved: {memory: 128Mi}}"
    made = expand(tmp_path, text)
    limits = {group.path: group.memory_max for group in made.cgroups}
    assert limits["kubepods.slice"] * 4096 == memory(made) - 384 * MIB
    written = expand(tmp_path, text, group="memory.max: 2Gi")
    assert {g.path: g.memory_max for g in written.cgroups}["kubepods.slice"] == 2**31 // 4096
    off = expand(tmp_path, "kubelet: {enforceNodeAllocatable: [none]}")
    assert {g.path: g.memory_max for g in off.cgroups}["kubepods.slice"] == -1


def test_replicas_are_pods_and_containers_of_a_pod_are_one(tmp_path: Path) -> None:
    many = kubelet(expand(tmp_path, web="replicas: 2")).pods
    assert [(pod.name, pod.cgroups) for pod in many] == [
        ("web-0", ("kubepods.slice/web-0",)), ("web-1", ("kubepods.slice/web-1",)),
    ]  # fmt: skip
    side = """pod: shop
    requests.memory: 16Mi
  side:
    parent: kubepods.slice
    pod: shop
    requests.memory: 8Mi
    priority: 5
    profile: {capplan: 1, profile: x, processes: {a: {regions: {heap: {kind: anon, size: 1Mi}}}}}"""
    (pod,) = kubelet(expand(tmp_path, web=side)).pods
    assert (pod.name, pod.containers) == ("shop", ("web", "side"))
    assert (pod.request, pod.priority) == (24 * MIB, 5)


@pytest.mark.parametrize(
    ("web", "critical"),
    [("static: true", True), ("priority: 2000000000", True), ("priority: 1999999999", False)],
)
def test_static_and_system_priority_pods_are_critical(
    tmp_path: Path, web: str, critical: bool
) -> None:
    assert kubelet(expand(tmp_path, web=web)).pods[0].critical is critical


def test_systemd_oomd_and_its_units(tmp_path: Path) -> None:
    made = expand(tmp_path, "systemd_oomd: {SwapUsedLimit: 80%}")
    (agent,) = made.agents
    assert agent == SystemdOomd(
        (ManagedOom("user.slice", True, True, 0.5), ManagedOom("user.slice/shell",
                                                             preference="avoid")), 0.8
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", Earlyoom()),
        ("{-m: 20}", Earlyoom(20.0, 10.0)),
        ('{-m: "20,18", -s: 100}', Earlyoom(20.0, 18.0, 100.0, 50.0)),
        ('{--prefer: "^web$", --sort-by-rss: true}', Earlyoom(prefer="^web$", sort_by_rss=True)),
    ],
)
def test_earlyoom_options(tmp_path: Path, text: str, expected: Earlyoom) -> None:
    assert expand(tmp_path, f"earlyoom: {text}").agents == (expected,)


def test_earlyoom_takes_the_lower_of_size_and_percentage(tmp_path: Path) -> None:
    made = expand(tmp_path, "earlyoom: {-m: 10, -M: 102400}")
    (agent,) = made.agents
    assert isinstance(agent, Earlyoom)
    assert agent.mem_term == pytest.approx(100 * 102400 * 1024 / memory(made))
    assert agent.mem_kill == pytest.approx(agent.mem_term / 2)
    (large,) = expand(tmp_path, "earlyoom: {-m: 10, -M: 1024000}").agents
    assert large == Earlyoom()


def test_sigterm_and_restart_reach_the_processes(tmp_path: Path) -> None:
    web = "sigterm: 2s\n    restart: Always\n    restart_by: systemd\n    RestartSec: 3s"
    process = next(p for p in expand(tmp_path, web=web).processes if p.container == "web")
    assert (process.sigterm_ns, process.restart_by) == (2 * 10**9, "systemd")
    assert (process.restart_sec_ns, process.start_limit_burst) == (3 * 10**9, 5)
    deaf = next(p for p in expand(tmp_path, web="sigterm: ignored").processes)
    assert deaf.sigterm_ns is None
