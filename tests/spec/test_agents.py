"""Messages about killers in user space."""

from __future__ import annotations

from pathlib import Path

import pytest

import capplan
from capplan.errors import InputError

NODE = """
capplan: 1
node: {memory: 4Gi, cpus: 2}
cgroup: {version: %(version)s, groups: {kubepods.slice: {%(group)s}}}
%(agents)s
containers:
  web:
    profile: {capplan: 1, profile: x, processes: {a: {regions: {heap: {kind: anon, size: 1Mi}}}}}
    parent: kubepods.slice
    %(web)s
run: {duration: 60s}
"""


def load(
    tmp_path: Path, agents: str = "kubelet: {}", web: str = "priority: 0", group: str = "",
    version: str = "v2",
) -> str:  # fmt: skip
    """All that is said about the file: errors, or else warnings."""
    path = tmp_path / "node.yaml"
    given = {"agents": agents, "web": web, "group": group, "version": version}
    path.write_text(NODE % given)
    try:
        return "\n".join(str(warning) for warning in capplan.load(path).warnings)
    except InputError as error:
        return str(error)


@pytest.mark.parametrize(
    ("agents", "said"),
    [
        ("kubelet: {evictionHard: {memory.avaiable: 1Gi}}", "did you mean 'memory.available'?"),
        ("kubelet: {evictonHard: {}}", "did you mean 'evictionHard'?"),
        ("kubelet: {evictionHard: {memory.available: 10x}}", "'10x' is not a memory size"),
        ("kubelet: {evictionSoft: {memory.available: 1Gi}}", "has no grace period"),
        ("kubelet: {enforceNodeAllocatable: [pod]}", "'pod' is not known here"),
        ("systemd_oomd: {SwapUsedLimt: 80%}", "did you mean 'SwapUsedLimit'?"),
        ("systemd_oomd: {SwapUsedLimit: 180%}", "is not a share"),
        ('earlyoom: {-m: "5,10"}', "is out of range"),
        ("earlyoom: {-m: 100}", "is out of range"),
        ("earlyoom: {-m: much}", "is not a percentage"),
        ('earlyoom: {--prefer: "(java"}', "unterminated subpattern"),
        ("earlyoom: {--prefr: java}", "did you mean '--prefer'?"),
    ],
)
def test_wrong_keys_and_values_are_errors(tmp_path: Path, agents: str, said: str) -> None:
    assert said in load(tmp_path, agents)


@pytest.mark.parametrize(
    ("web", "said"),
    [
        ("sigterm: never", "'never' is not a duration"),
        ("ManagedOOMPreference: avod", "did you mean 'avoid'?"),
        ("request.memory: 1Gi", "did you mean 'requests.memory'?"),
        ("restart_by: podman", "'podman' is not known here"),
    ],
)
def test_wrong_words_of_containers_are_errors(tmp_path: Path, web: str, said: str) -> None:
    assert said in load(tmp_path, web=web)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"agents": "kubelet: {evictionHard: {pid.available: 10%}}"}, "the default of 100Mi does"),
        ({"agents": "kubelet: {kernelMemcgNotification: true}"}, "no such notification"),
        ({"agents": "systemd_oomd: {}"}, "no group or container says ManagedOOMSwap"),
        ({"group": "ManagedOOMMemoryPressure: kill"}, "systemd-oomd does not run"),
        ({"agents": "systemd_oomd: {}", "group": "ManagedOOMSwap: kill"}, "has no swap"),
        ({"agents": "systemd_oomd: {}", "version": "v1"}, "cgroup v1 does not have"),
        ({"web": "{requests.memory: 2Gi, memory.max: 1Gi}"}, "which the API server refuses"),
        ({"web": "RestartSec: 1s"}, "is restarted by kubelet"),
    ],
)
def test_what_has_no_effect_is_a_warning(tmp_path: Path, given: dict[str, str], said: str) -> None:
    given = {
        k: v.strip("{}").replace(", ", "\n    ") if k == "web" else v for k, v in given.items()
    }
    text = load(tmp_path, **given)
    assert said in text
    assert "warning" in text


def test_replicas_of_a_pods_containers_agree(tmp_path: Path) -> None:
    web = """pod: shop
  side:
    parent: kubepods.slice
    pod: shop
    replicas: 2
    profile: {capplan: 1, profile: x, processes: {a: {regions: {heap: {kind: anon, size: 1Mi}}}}}"""
    assert "shop has web 1 times and side 2 times" in load(tmp_path, web=web)


def test_a_file_as_it_is_on_a_node_loads_without_a_word(tmp_path: Path) -> None:
    agents = """
kubelet:
  evictionHard: {memory.available: 100Mi, nodefs.available: 10%, nodefs.inodesFree: 5%,
                 imagefs.available: 15%}
  evictionSoft: {memory.available: 10%}
  evictionSoftGracePeriod: {memory.available: 1m30s}
  evictionPressureTransitionPeriod: 5m
  evictionMaxPodGracePeriod: 30
  kubeReserved: {memory: 1Gi, cpu: 100m, ephemeral-storage: 1Gi, pid: 1000}
  systemReserved: {memory: 512Mi, cpu: 100m}
  enforceNodeAllocatable: [pods, kube-reserved]
earlyoom: {-m: "10,5", -s: 10, --prefer: "(^|/)java$", --avoid: "(^|/)(init|sshd)$"}"""
    assert load(tmp_path, agents) == ""


def test_resolved_input_loads_as_the_same(tmp_path: Path) -> None:
    import yaml

    path = tmp_path / "node.yaml"
    agents = "earlyoom: {-m: 20, -M: 102400}\nkubelet: {evictionHard: {memory.available: 5%}}"
    web = "sigterm: ignored\n    requests.memory: 64Mi"
    path.write_text(NODE % {"agents": agents, "web": web, "group": "", "version": "v2"})
    first = capplan.load(path)
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(first.resolved))
    assert capplan.expand(capplan.load(again)).agents == capplan.expand(first).agents
