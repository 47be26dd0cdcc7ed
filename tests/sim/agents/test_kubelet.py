"""The kubelet's eviction manager: the rules by hand, then whole runs."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from capplan.sim.agents.base import View, grid
from capplan.sim.agents.kubelet import (
    KubeletAgent,
    Observation,
    PodUsage,
    quantity,
    rank,
    threshold_met,
)
from capplan.sim.agents.model import (
    ALLOCATABLE_AVAILABLE,
    MEMORY_AVAILABLE,
    Kubelet,
    Pod,
    Threshold,
)
from capplan.sim.result import Run
from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Node, Op, Zone
from tests.sim.engine_cases import S, events, last, node, process, scenario

MIB = 256  # pages
HOLD = Op("hold", ns=10_000 * S)


def pod(name: str, request: int = 0, **more: Any) -> Pod:
    """A pod of one container; request in MiB."""
    return Pod(name, (name,), (name,), request << 20, **more)


def small(mib: int = 256, **more: Any) -> Node:
    """One zone; the kernel itself holds 8 MiB."""
    zone = Zone(0, "DMA32", mib * MIB, mib * MIB, mib * MIB)
    return node(zones=(zone,), kernel_pages=8 * MIB, **more)


def play(parts: list[Any], agent: Kubelet, *groups: Cgroup, **more: Any) -> Run:
    """Run processes, each in a group of its own name unless groups are given."""
    made = groups or tuple(Cgroup(p.cgroup) for p, _ in parts)
    settings: dict[str, Any] = {"node": small(), "duration_ns": 60 * S, "sample_ns": S}
    return run(scenario(parts, made, agents=(agent,), **(settings | more)))


def hard(mib: int, **more: Any) -> Threshold:
    return Threshold(MEMORY_AVAILABLE, mib << 20, **more)


def evicted(found: Run) -> list[str]:
    return [event.name for event in events(found, "evicted")]


# --- the rules ---------------------------------------------------------------------------


def ranked(*pods: tuple[str, int | None, int, int]) -> list[str]:
    """Names in order of eviction; (name, usage, request, priority) in MiB."""
    rows = [
        PodUsage(pod(name, request, priority=priority), None if usage is None else usage << 20)
        for name, usage, request, priority in pods
    ]
    return [one.pod.name for one in rank(rows)]


def test_rank_by_hand() -> None:
    # the docstring's example
    pods = (("a", 900, 512, 0), ("b", 400, 0, 0), ("c", 4000, 4096, 0), ("d", 700, 512, -1))
    assert ranked(*pods) == ["d", "b", "a", "c"]


def test_rank_puts_exceeding_pods_before_priority() -> None:
    # helpers.go, rankMemoryPressure: exceedMemoryRequests, priority, memory
    assert ranked(("within", 100, 200, -1000), ("over", 201, 200, 1000)) == ["over", "within"]


def test_rank_within_requests_goes_by_the_relative_usage_too() -> None:
    assert ranked(("far", 100, 1000, 0), ("near", 90, 100, 0)) == ["near", "far"]


def test_rank_a_pod_that_uses_just_its_request_does_not_exceed_it() -> None:
    assert ranked(("just", 200, 200, -5), ("more", 11, 10, 5)) == ["more", "just"]


def test_rank_a_pod_without_statistics_comes_first() -> None:
    assert ranked(("big", 500, 0, -7), ("new", None, 100, 9)) == ["new", "big"]


@pytest.mark.parametrize(
    ("available", "with_reclaim", "met"),
    [(100, False, False), (99, False, True), (149, True, True), (150, True, False)],
)
def test_threshold_is_strict_and_stays_met_for_the_minimum_reclaim(
    available: int, with_reclaim: bool, met: bool
) -> None:
    threshold = Threshold(MEMORY_AVAILABLE, 100, min_reclaim=50)
    assert threshold_met(threshold, Observation(available, 1000), with_reclaim=with_reclaim) is met


def test_percentages_are_of_the_capacity() -> None:
    assert quantity(0.1, 4_005) == 400
    assert quantity(500, 4_005) == 500


@pytest.mark.parametrize(("now", "tick"), [(0, 3), (3, 3), (4, 13), (13, 13), (14, 23)])
def test_grid(now: int, tick: int) -> None:
    assert grid(3, 10, now) == tick


# --- whole runs --------------------------------------------------------------------------


def leak(rate_mib: float, name: str = "leak", **more: Any) -> Any:
    return process(name, name, 500 * MIB, HOLD, rate=rate_mib * MIB, **more)


def test_slow_leak_is_evicted_before_the_kernel_kills() -> None:
    calm = process("calm", "calm", 50 * MIB, HOLD, rate=1e6)
    agent = Kubelet((hard(64),), (pod("leak", 10), pod("calm", 100)))
    found = play([leak(4), calm], agent)
    assert evicted(found) == ["leak"]
    assert not events(found, "oom_kill")
    (event,) = events(found, "evicted")
    seen = event.detail
    assert 20 << 20 < seen["available_bytes"] < 64 << 20
    assert seen["last_available_bytes"] >= 64 << 20
    assert event.t - seen["last_look_s"] == pytest.approx(10.0)
    assert 0 <= seen["stats_age_s"] <= 10
    assert [row["name"] for row in seen["candidates"]] == ["leak", "calm"]
    # the working set is older than the look: it is below what the pod holds by now
    assert seen["candidates"][0]["usage_bytes"] <= 4 * MIB * 4096 * event.t + (1 << 20)
    state = {row.process: row.state for row in found.totals}
    assert state == {"leak": "evicted", "calm": "live"}
    (gone,) = events(found, "exit")
    assert event.t < gone.t < event.t + 1
    assert last(found, "cgroup.leak.memory.current") == 0


@pytest.mark.small
def test_small_node_evicts() -> None:
    heap = process("leak", "leak", 8192, HOLD, rate=128.0)  # half a MiB a second
    found = play([heap], Kubelet((hard(6),), (pod("leak"),)), node=node(), duration_ns=75 * S)
    (event,) = events(found, "evicted")
    assert 1 << 20 < event.detail["available_bytes"] < 6 << 20
    assert not events(found, "oom_kill")


def test_burst_between_two_looks_is_the_kernels() -> None:
    calm = process("calm", "calm", 50 * MIB, HOLD, rate=1e6)
    burst = process("burst", "burst", 500 * MIB, HOLD, rate=200 * MIB, start_ns=12 * S)
    agent = Kubelet((hard(64),), (pod("burst"), pod("calm", 100)))
    found = play([calm, burst], agent)
    (kill,) = events(found, "oom_kill")
    assert (kill.name, kill.scope) == ("burst", "global")
    assert not evicted(found)
    assert kill.detail["kubelet_saw_bytes"] > 64 << 20
    assert kill.t - 10 < kill.detail["kubelet_looked_s"] < kill.t


def test_threshold_below_what_the_reserves_and_the_kernel_hold_never_fires() -> None:
    # 8 MiB of kernel memory and the min marks stay "available": 8 MiB is never reached
    agent = Kubelet((hard(8),), (pod("leak"),))
    found = play([leak(4)], agent, duration_ns=90 * S)
    assert [kill.name for kill in events(found, "oom_kill")] == ["leak"]
    assert not evicted(found)
    assert not events(found, "memory_pressure_begin")


def test_engine_takes_the_looks_that_find_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same events whether the engine or Python looks each ten seconds."""
    agent = Kubelet((hard(64),), (pod("leak"), pod("calm", 100)))
    calm = process("calm", "calm", 50 * MIB, HOLD, rate=1e6)
    by_engine = play([leak(4), calm], agent)
    stops = []

    def never(self: KubeletAgent, view: View) -> None:
        stops.append(view.now_ns)

    monkeypatch.setattr(KubeletAgent, "_leave_to_engine", never)
    by_python = play([leak(4), calm], agent)
    assert len(stops) > 5
    assert by_engine.events == by_python.events


def test_one_pod_at_a_time_and_no_restart() -> None:
    names = ("a", "b", "c")
    parts = [
        process(n, n, 50 * MIB, HOLD, rate=4 * MIB, restart="Always") for n in names
    ]  # fmt: skip
    agent = Kubelet((hard(180),), tuple(pod(n) for n in names))
    found = play(parts, agent, duration_ns=90 * S)
    assert sorted(evicted(found)) == ["a", "b"]
    times = [event.t for event in events(found, "evicted")]
    assert times[1] - times[0] >= 1.0  # the first has to be gone, and cleaned up
    assert not events(found, "restart")


def test_critical_pod_is_passed_over() -> None:
    agent = Kubelet((hard(64),), (pod("leak", critical=True), pod("calm", 100)))
    calm = process("calm", "calm", 50 * MIB, HOLD, rate=1e6)
    found = play([leak(4), calm], agent)
    assert evicted(found)[0] == "calm"
    (first, *_) = events(found, "evicted")
    assert [row["critical"] for row in first.detail["candidates"]] == [True, False]


def test_soft_threshold_waits_for_its_grace_period() -> None:
    soft = dataclasses.replace(hard(180), grace_ns=30 * S)
    agent = Kubelet((soft,), (pod("steady"),), max_pod_grace_s=7)
    steady = process("steady", "steady", 100 * MIB, HOLD, rate=1e6, sigterm_ns=None)
    found = play([steady], agent, duration_ns=90 * S)
    (begin,) = events(found, "memory_pressure_begin")
    (event,) = events(found, "evicted")
    assert event.t - begin.t == pytest.approx(30.0)
    assert event.detail["threshold"] == "evictionSoft"
    assert event.detail["grace_s"] == 7
    (gone,) = events(found, "exit")
    assert 7.0 <= gone.t - event.t < 7.5  # it ignores SIGTERM
    assert gone.detail == {"how": "signal", "value": 9}


def test_soft_threshold_that_is_met_only_now_and_then_never_evicts() -> None:
    soft = dataclasses.replace(hard(180), grace_ns=60 * S)
    ops = [op for _ in range(6) for op in (
        Op("hold", ns=15 * S), Op("free", pages=100 * MIB), Op("hold", ns=15 * S),
        Op("grow", pages=100 * MIB, rate=1e6),
    )]  # fmt: skip
    wave = process("wave", "wave", 100 * MIB, *ops)
    found = play([wave], Kubelet((soft,), (pod("wave"),)), duration_ns=180 * S)
    assert events(found, "memory_pressure_begin")
    assert not evicted(found)


def test_sigterm_lets_a_container_shut_down_within_its_grace() -> None:
    soft = dataclasses.replace(hard(180), grace_ns=1)
    agent = Kubelet((soft,), (pod("steady"),), max_pod_grace_s=7)
    steady = process("steady", "steady", 100 * MIB, HOLD, rate=1e6, sigterm_ns=3 * S)
    found = play([steady], agent)
    (event,), (gone,) = events(found, "evicted"), events(found, "exit")
    assert 3.0 <= gone.t - event.t < 3.5
    assert gone.detail == {"how": "signal", "value": 15}


def test_memory_pressure_lasts_for_the_transition_period() -> None:
    agent = Kubelet((hard(64),), (pod("leak"),), transition_ns=20 * S)
    found = play([leak(6)], agent, duration_ns=90 * S)
    (begin,), (end,) = events(found, "memory_pressure_begin"), events(found, "memory_pressure_end")
    assert 20 <= end.t - begin.t <= 32


def test_minimum_reclaim_evicts_on() -> None:
    parts = [leak(4), process("calm", "calm", 50 * MIB, HOLD, rate=1e6)]
    pods = (pod("leak"), pod("calm", 100))
    alone = play(parts, Kubelet((hard(64),), pods))
    more = play(parts, Kubelet((hard(64, min_reclaim=170 << 20),), pods))
    assert evicted(alone) == ["leak"]
    assert evicted(more) == ["leak", "calm"]


def test_allocatable_signal_is_kubepods_limit_less_its_working_set() -> None:
    groups = (Cgroup("kubepods", memory_max=100 * MIB), Cgroup("kubepods/leak"))
    grows = process("leak", "kubepods/leak", 90 * MIB, HOLD, rate=4 * MIB)
    one = Pod("leak", ("kubepods/leak",), ("leak",))
    threshold = Threshold(ALLOCATABLE_AVAILABLE, 20 << 20)
    found = play([grows], Kubelet((threshold,), (one,), "kubepods"), *groups)
    (event,) = events(found, "evicted")
    assert event.detail["signal"] == ALLOCATABLE_AVAILABLE
    assert event.detail["capacity_bytes"] == 100 << 20
    assert event.detail["available_bytes"] < 20 << 20
    assert event.t > 20  # 80 MiB at 4 MiB/s


def test_page_cache_that_is_inactive_counts_as_available() -> None:
    from capplan.sim.scenario import Mapping

    file = Mapping("data", "file", 150 * MIB, size_pages=150 * MIB, via="read")
    reader, heap = process("reader", "reader", 10, Op("read", "data", pages=150 * MIB), HOLD)
    reader = dataclasses.replace(reader, mappings=(*reader.mappings, "data"))
    agent = Kubelet((hard(180),), (pod("reader"),))
    found = play([(reader, heap)], agent, files=(file,))
    assert last(found, "meminfo_kb.Cached") > 140 * 1024
    assert not evicted(found)


def test_best_effort_pod_is_not_admitted_under_pressure() -> None:
    late = {"start_ns": 40 * S}
    parts = [
        leak(6),
        process("batch", "batch", 10, HOLD, **late),
        process("web", "web", 10, HOLD, **late),
    ]
    pods = (pod("leak"), pod("batch", qos="BestEffort"), pod("web", 1))
    found = play(parts, Kubelet((hard(64),), pods))
    assert [event.name for event in events(found, "admission_rejected")] == ["batch"]
    started = [event.name for event in events(found, "start")]
    assert "web" in started
    assert "batch" not in started


def test_notification_of_cgroup_v1_looks_at_once() -> None:
    burst = process("burst", "burst", 500 * MIB, HOLD, rate=60 * MIB, start_ns=12 * S)
    groups = (Cgroup("burst"),)
    agent = Kubelet((hard(64),), (pod("burst"),), memcg_notification=True)
    v1 = {"cgroup_version": "v1", "duration_ns": 30 * S}
    notified = play([burst], agent, *groups, **v1)
    polled = play([burst], dataclasses.replace(agent, memcg_notification=False), *groups, **v1)
    assert evicted(notified) == ["burst"]
    assert not events(notified, "oom_kill")
    assert [kill.name for kill in events(polled, "oom_kill")] == ["burst"]


def test_phase_is_drawn_for_each_replicate() -> None:
    made = scenario([leak(4)], (Cgroup("leak"),), node=small(), duration_ns=60 * S,
                    agents=(Kubelet((hard(64),), (pod("leak"),)),))  # fmt: skip
    times = [events(run(made, replicate=n), "evicted")[0].t for n in range(4)]
    assert len(set(times)) == 4
    assert events(run(made, replicate=2), "evicted")[0].t == times[2]
    assert max(times) - min(times) < 10
