"""Evictions and agents' kills in the verdict, in the incidents and in their stories."""

from __future__ import annotations

import json

import pytest

from capplan.plan.outcome import Outcome, analyse
from capplan.report.story import tell
from capplan.sim.agents.model import (
    MEMORY_AVAILABLE,
    Earlyoom,
    Kubelet,
    ManagedOom,
    Pod,
    SystemdOomd,
    Threshold,
)
from capplan.sim.agents.model import Agent as Config
from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Disk, Op, Swap, Zone
from tests.sim.engine_cases import S, node, process, scenario

MIB = 256  # pages
HOLD = Op("hold", ns=10_000 * S)
PODS = (Pod("leak", ("leak",), ("leak",), 10 << 20), Pod("calm", ("calm",), ("calm",), 100 << 20))
KUBELET = Kubelet((Threshold(MEMORY_AVAILABLE, 64 << 20),), PODS)


def outcome(agent: Config | None, rate_mib: float = 4, **more: int) -> Outcome:
    zone = Zone(0, "DMA32", 256 * MIB, 256 * MIB, 256 * MIB)
    parts = [
        process("leak", "leak", 500 * MIB, HOLD, rate=rate_mib * MIB, **more),
        process("calm", "calm", 50 * MIB, HOLD, rate=1e6),
    ]
    made = scenario(
        parts, (Cgroup("leak"), Cgroup("calm")), node=node(zones=(zone,), kernel_pages=8 * MIB),
        duration_ns=60 * S, sample_ns=S, agents=() if agent is None else (agent,),
    )  # fmt: skip
    return analyse(run(made))


def test_eviction_is_an_incident_with_what_was_seen_and_the_ranking() -> None:
    found = outcome(KUBELET)
    assert not found.fits
    assert found.first_killer == "kubelet"
    assert found.verdict.startswith("Does not fit: leak is evicted by the kubelet at ")
    assert "the kubelet acted first" in found.verdict
    (incident,) = [i for i in found.incidents if i.kind == "evicted"]
    chain = " | ".join(incident.chain)
    assert "leak grew from" in chain
    assert "saw memory.available" in chain
    assert "10 s before it had been" in chain
    assert "evictionHard memory.available 64 MiB is met" in chain
    assert "of 2 pods leak ranks first" in chain
    assert incident.ranking is not None
    assert [row[0] for row in incident.ranking.rows] == ["leak", "calm"]
    assert incident.ranking.rows[1][3] == "within"
    by_name = {c.name: c for c in found.containers}
    assert len(by_name["leak"].evicted) == 1
    assert by_name["leak"].killed == ()
    assert not by_name["leak"].unfinished


def test_story_shows_the_ranking() -> None:
    text = tell(outcome(KUBELET), "evicted")
    assert "How the kubelet ranked the pods" in text
    assert "within" in text


def test_outcome_with_a_ranking_survives_json() -> None:
    found = outcome(KUBELET)
    assert Outcome.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_kernel_first_says_what_the_kubelet_had_seen() -> None:
    found = outcome(KUBELET, 200, start_ns=12 * S)
    assert found.first_killer == "kernel's OOM killer"
    assert "the kernel's OOM killer acted first" in found.verdict
    (incident,) = [i for i in found.incidents if i.kind == "oom_kill"]
    assert any("the kubelet looked last at" in link for link in incident.chain)


def test_without_agents_nobody_is_said_to_be_first() -> None:
    found = outcome(None, 200)
    assert found.first_killer == ""
    assert "acted first" not in found.verdict


def test_earlyoom_kill_is_an_incident() -> None:
    found = outcome(Earlyoom())
    assert found.first_killer == "earlyoom"
    assert "leak gets SIGTERM from earlyoom" in found.verdict
    (incident,) = [i for i in found.incidents if i.kind == "earlyoom_kill"]
    assert incident.ranking is not None
    assert incident.ranking.headers[1] == "oom_score"
    assert any("there is no swap" in link for link in incident.chain)
    assert {c.name: len(c.evicted) for c in found.containers} == {"leak": 1, "calm": 0}


@pytest.mark.parametrize("rule", ["pressure", "swap"])
def test_oomd_kill_is_an_incident(rule: str) -> None:
    disk = Disk("vda", 8_000_000, 8_000_000, 400_000.0, 2_000_000.0, 8_000_000.0)
    zone = Zone(0, "DMA32", 128 * MIB, 128 * MIB, 128 * MIB)
    high, swap = (10, 400) if rule == "pressure" else (-1, 40)
    parts = [process("a", "user/a", 170 * MIB, HOLD, rate=1e5)]
    watch = ManagedOom("user", rule == "swap", rule == "pressure", 0.3, 5 * S)
    made = scenario(
        parts, (Cgroup("user"), Cgroup("user/a", memory_high=high * MIB if high > 0 else -1)),
        node=node(zones=(zone,), kernel_pages=4 * MIB, disks=(disk,),
                  swaps=(Swap("vda", swap * MIB, -2),)),
        duration_ns=90 * S, sample_ns=S, granule_order=2, agents=(SystemdOomd((watch,)),),
    )  # fmt: skip
    found = analyse(run(made))
    (incident,) = [i for i in found.incidents if i.kind == "oomd_kill"]
    assert incident.title.startswith("a is killed by systemd-oomd at ")
    wanted = "full avg10 of user" if rule == "pressure" else "SwapUsedLimit=90%"
    assert any(wanted in link for link in incident.chain)
    assert incident.ranking is not None
    assert incident.ranking.rows[0][0] == "user/a"
    assert found.first_killer == "systemd-oomd"
