"""The HPA: the controller's arithmetic, and replicas that share a load on a node."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from capplan.mm.state import attributes, op_t
from capplan.plan.outcome import analyse
from capplan.plan.outcome_model import build
from capplan.sim.agents.hpa import desired_replicas, limited, stabilized
from capplan.sim.agents.load import scaled_ops
from capplan.sim.agents.model import (
    Agent,
    Earlyoom,
    Hpa,
    Kubelet,
    Pod,
    ScalingRules,
    SystemdOomd,
    Vpa,
    Workload,
)
from capplan.sim.expand import expand
from capplan.sim.ops import OP_FREE, OP_GROW, OP_HOLD
from capplan.sim.result import Run
from capplan.sim.run import run
from capplan.spec import load

S, MIB = 10**9, 1 << 20
HPA = Hpa(Workload("web", ()))


def hpa(request: int = 1000, **keys: object) -> Hpa:
    return Hpa(replace(HPA.of, request=request), **keys)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("usage", "running", "value", "desired"),
    [
        ({"a": 600, "b": 400}, "ab", 350, 3),
        ({"a": 600, "b": 400}, "abc", 350, 3),  # the third has no metrics yet: it counts 0
        ({"a": 900, "b": 900}, "abc", 350, 6),
        ({"a": 100, "b": 100}, "abc", 350, 2),  # on the way down it counts the target of 350
        ({"a": 100, "b": 100}, "ab", 350, 1),
        ({"a": 380, "b": 380}, "ab", 350, 2),  # within the tolerance
        ({}, "ab", 350, 2),
    ],
)
def test_desired_replicas(usage: dict[str, int], running: str, value: int, desired: int) -> None:
    assert desired_replicas(usage, list(running), hpa(value=value))[0] == desired


@pytest.mark.parametrize(
    ("usage", "running", "utilization", "desired", "ratio"),
    [
        # utilization.go: int32(total * 100 / requests), so 1557 of 2000 are 77 %, 1.1 of 70 %
        ({"a": 800, "b": 757}, "ab", 70, 2, 1.1),
        ({"a": 800, "b": 760}, "ab", 70, 3, 78 / 70),
        # a third without metrics counts 0: 52 % would go the other way
        ({"a": 800, "b": 760}, "abc", 70, 3, 52 / 70),
        # on the way down it counts its request: 1400 of 3000 are 46 %
        ({"a": 200, "b": 200}, "abc", 70, 2, 46 / 70),
        # or the target, where that is above the request: 400 + 1500 of 3000 are 63 % of 150 %
        ({"a": 200, "b": 200}, "abc", 150, 2, 63 / 150),
    ],
)
def test_a_utilization_is_in_whole_per_cent_of_the_requests(
    usage: dict[str, int], running: str, utilization: int, desired: int, ratio: float
) -> None:
    found = desired_replicas(usage, list(running), hpa(utilization=utilization))
    assert found == (desired, pytest.approx(ratio))


def test_pending_pods_count_nothing_on_the_way_up_only() -> None:
    config = hpa(value=100)
    assert desired_replicas({"a": 215, "b": 215}, ["a", "b"], config, 4)[0] == 4  # 1.07 of four
    assert desired_replicas({"a": 250, "b": 250}, ["a", "b"], config, 4)[0] == 5
    assert desired_replicas({"a": 40, "b": 40}, ["a", "b"], config, 4)[0] == 1


def test_each_direction_has_a_tolerance_of_its_own() -> None:
    down = replace(HPA.down, tolerance=0.5)
    config = hpa(value=100, tolerance=0.1, down=down)
    assert desired_replicas({"a": 55, "b": 55, "c": 55}, ["a", "b", "c"], config)[0] == 3
    assert desired_replicas({"a": 45, "b": 45, "c": 45}, ["a", "b", "c"], config)[0] == 2
    assert desired_replicas({"a": 115, "b": 115}, ["a", "b"], config)[0] == 3


def test_what_went_within_a_period_counts_where_replicas_come() -> None:
    """4 that were 10 five seconds ago: the period began with 10, twice as many are 20."""
    assert limited(30, 4, [(0, -6)], 5 * S, HPA) == 20
    assert limited(30, 4, [(0, -6)], 15 * S, HPA) == 8


def test_stabilization_keeps_what_was_desired_within_the_window() -> None:
    past = [(0, 5), (200 * S, 4)]
    assert stabilized(3, 5, past, 60 * S, HPA) == 5
    assert stabilized(3, 5, past, 310 * S, HPA) == 4
    assert stabilized(3, 5, past, 510 * S, HPA) == 3
    assert stabilized(9, 5, past, 310 * S, HPA) == 9  # no window on the way up
    slow = Hpa(Workload("web", ()), up=ScalingRules(60 * S, HPA.up.policies))
    assert stabilized(9, 5, [(0, 6)], 30 * S, slow) == 6


def test_rates_of_the_default_policies() -> None:
    assert limited(20, 2, [], 0, HPA) == 6  # four pods are more than 100 %
    assert limited(20, 6, [(0, 4)], 10 * S, HPA) == 6  # already, in these 15 s
    assert limited(20, 6, [(0, 4)], 15 * S, HPA) == 12
    assert limited(1, 6, [], 0, HPA) == 1
    careful = ScalingRules(0, (("Pods", 1, 60 * S), ("Percent", 50, 60 * S)), "Min")
    assert limited(1, 6, [], 0, Hpa(Workload("web", ()), down=careful)) == 5
    off = Hpa(Workload("web", ()), down=ScalingRules(0, careful.policies, "Disabled"))
    assert limited(1, 6, [], 0, off) == 6


def test_scaled_ops_worked_example() -> None:
    given = np.zeros(6, attributes(op_t))
    given["op"] = [OP_GROW, OP_HOLD, OP_FREE, OP_GROW, OP_HOLD, OP_FREE]
    given["pages"] = [100, 0, 100, 100, 0, 100]
    now = given.copy()
    scaled_ops(given, now, 2, 0.5, {}, {0: 50.0})
    assert now["op"].tolist() == given["op"].tolist()
    assert now["pages"].tolist() == [100, 0, 100, 50, 0, 50]
    up = given.copy()
    scaled_ops(given, up, 2, 2.0, {}, {0: -100.0})  # twice the load: what is there is too little
    assert up["op"][2] == OP_FREE
    assert up["pages"].tolist() == [100, 0, 100, 200, 0, 200]
    less = given.copy()
    scaled_ops(given, less, 3, 0.5, {}, {0: 80.0})  # more to give back than the growth takes
    assert (less["op"][3], less["pages"][3]) == (OP_FREE, 30)


NODE = """
capplan: 1
node: {memory: 4Gi, cpus: 4}
cgroup: {groups: {kubepods.slice: {}}}
kubelet: {}
containers:
  web:
    profile:
      capplan: 1
      profile: load
      processes:
        app:
          regions: {heap: {size: 100Mi}}
          phases:
            - hold: 1min
            - repeat:
                phases:
                  - grow: {region: heap, by: 300Mi, over: 5s}
                  - hold: 20s
                  - free: {region: heap, by: 300Mi}
    parent: kubepods.slice
    replicas: 2
    requests.memory: REQUEST
    memory.max: 1Gi
    restart: Always
hpa: {web: {maxReplicas: 8, minReplicas: 2, averageUtilization: 70, shares_load: SHARES}}
run: {duration: 20min, start: warm}
"""


def simulate(folder: Path, shares: str, request: str = "300Mi") -> Run:
    path = folder / "node.yaml"
    path.write_text(NODE.replace("SHARES", shares).replace("REQUEST", request))
    return run(expand(load(path)))


def replicas(result: Run) -> list[int]:
    return [e.detail["replicas"] for e in result.events if e.event == "hpa_scale"]


def peak(result: Run, number: int, begin_s: float) -> float:
    late = result.series["t"] > begin_s
    return float(result.series[f"cgroup.kubepods.slice/web-{number}.memory.current"][late].max())


def test_more_replicas_do_less_each_and_the_loop_settles(tmp_path: Path) -> None:
    result = simulate(tmp_path, "true")
    steps = replicas(result)
    assert 3 <= steps[-1] <= 6
    assert "the HPA of web settled" in analyse(result).verdict
    # 100 MiB of its own, and two replicas' load shared out (kernel memory besides)
    expected = 100 + 300 * 2 / steps[-1]
    for number in (0, 2):
        assert peak(result, number, 900) / MIB == pytest.approx(expected, abs=8)
    assert max(p.restarts for p in result.totals) == 0


def test_a_load_that_is_not_shared_goes_to_the_maximum(tmp_path: Path) -> None:
    result = simulate(tmp_path, "false")
    assert replicas(result)[-1] == 8
    assert "2 to 8 replicas, its maxReplicas" in analyse(result).verdict
    assert peak(result, 0, 900) / MIB == pytest.approx(400, abs=8)


def test_what_the_node_cannot_hold_stays_pending(tmp_path: Path) -> None:
    text = NODE.replace("averageUtilization: 70", "averageUtilization: 20")
    path = tmp_path / "node.yaml"
    path.write_text(text.replace("SHARES", "false").replace("REQUEST", "800Mi"))
    result = run(expand(load(path)))
    told = [e.detail for e in result.events if e.event == "hpa_pending"]
    # 3.76 GiB less the eviction threshold of 100 MiB hold four of 800 MiB
    assert told[-1]["allocatable_bytes"] // (800 * MIB) == 4
    assert told[-1]["pending"] == 4
    assert sum(p.state == "live" for p in result.totals) == 4
    assert "4 of them Pending for want of room" in analyse(result).verdict


def test_the_first_pods_start_when_they_are_begun(tmp_path: Path) -> None:
    result = simulate(tmp_path, "true")
    starts = {e.name: e.t for e in result.events if e.event == "start"}
    scaled = [e.t for e in result.events if e.event == "hpa_scale"]
    assert starts["web-0/app"] == starts["web-1/app"] == 0
    assert starts["web-2/app"] == pytest.approx(scaled[0], abs=0.01)


@pytest.mark.parametrize(
    "agent",
    [
        HPA,
        Vpa(Workload("web", (Pod("web-0", ("k/web-0",), ("web-0",)),), limit=5)),
        SystemdOomd(()),
        Earlyoom(),
        Kubelet((), ()),
    ],
)
def test_a_recorded_agent_is_read_back(agent: Agent) -> None:
    written = json.loads(json.dumps(asdict(agent)))
    assert build(Agent, written) == agent
