"""Processes and containers that start again."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from capplan.mm.state import NS_PER_MS, NS_PER_S, new_kernel
from capplan.sim.restart import crash_loop_delay, docker_delay, systemd_delay
from capplan.sim.run import run
from capplan.sim.scenario import Access, Cgroup, Mapping, Op, Process, Task, TracePoints
from tests.sim.engine_cases import MS, S, events, last, process, scenario

pytestmark = pytest.mark.small

HOLD = Op("hold", ns=1000 * S)
LIMIT = Cgroup("a", memory_max=400)


def times(found: Any, kind: str, name: str) -> list[float]:
    return [round(event.t, 1) for event in events(found, kind) if event.name == name]


def test_crash_loop_delay_doubles_to_five_minutes() -> None:
    k = new_kernel()[0]
    now, delays = 0, []
    for _ in range(8):
        delay = crash_loop_delay(k, 3, now)
        delays.append(delay // NS_PER_S)
        now += delay + NS_PER_S  # it runs for a second
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300]


@pytest.mark.parametrize(("run_s", "delay_s"), [(600, 10), (601, 0)])
def test_crash_loop_delay_is_forgotten_after_ten_minutes(run_s: int, delay_s: int) -> None:
    k = new_kernel()[0]
    crash_loop_delay(k, 0, 0)
    assert crash_loop_delay(k, 0, run_s * NS_PER_S) == delay_s * NS_PER_S


def test_docker_delay_doubles_to_a_minute() -> None:
    k = new_kernel()[0]
    now, delays = 0, []
    for _ in range(12):
        k.proc[3].start_ns = now
        delay = docker_delay(k, 3, now + NS_PER_S)  # it runs for a second
        delays.append(delay // NS_PER_MS)
        now += NS_PER_S + delay
    expected = [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]
    assert delays == expected


@pytest.mark.parametrize(("run_ms", "delay_ms"), [(9_999, 400), (10_000, 100)])
def test_docker_delay_is_forgotten_after_a_run_of_ten_seconds(run_ms: int, delay_ms: int) -> None:
    k = new_kernel()[0]
    for _ in range(2):
        docker_delay(k, 0, 0)
    assert docker_delay(k, 0, run_ms * NS_PER_MS) == delay_ms * NS_PER_MS


def _unit(limit_ns: int = 10 * NS_PER_S, burst: int = 5) -> Any:
    k = new_kernel()[0]
    proc = k.proc[0]
    proc.restart_sec_ns, proc.start_limit_ns, proc.start_limit_burst = 100 * MS, limit_ns, burst
    return k


def test_systemd_gives_up_at_the_start_limit() -> None:
    k = _unit()
    # it ends at once: starts at 0, 0.1, 0.2, 0.3, 0.4 s, and the sixth is refused
    found = [systemd_delay(k, 0, n * 100 * MS) for n in range(5)]
    assert found == [100 * MS] * 4 + [-1]


def test_systemd_counts_starts_of_ten_seconds() -> None:
    k = _unit()
    # each runs for 3 s: a new window begins before five starts are in one
    assert -1 not in [systemd_delay(k, 0, 3 * (n + 1) * NS_PER_S) for n in range(50)]


def test_systemd_without_a_start_limit_never_gives_up() -> None:
    k = _unit(burst=0)
    assert [systemd_delay(k, 0, n) for n in range(20)] == [100 * MS] * 20


@pytest.mark.parametrize(
    ("by", "more", "restarts"),
    [
        ("kubelet", {}, [0.0, 10.0, 30.0]),
        ("docker", {}, [0.1, 0.3, 0.7, 1.5, 3.1, 6.3, 12.7, 25.5]),
        ("systemd", {"start_limit_ns": 10 * S, "start_limit_burst": 5}, [0.1, 0.2, 0.3, 0.4]),
        ("systemd", {"restart_sec_ns": 8 * S}, [8.0, 16.0, 24.0, 32.0]),
    ],
)
def test_who_restarts_decides_when(by: str, more: dict[str, int], restarts: list[float]) -> None:
    settings = {"restart_sec_ns": 100 * MS} | more
    parts = [process("big", "a", 600, HOLD, restart="OnFailure", restart_by=by, **settings)]
    found = run(scenario(parts, (LIMIT,), duration_ns=35 * S, sample_ns=S))
    # each life ends within some 10 ms
    seen = [event.t for event in events(found, "restart")]
    assert seen == pytest.approx(restarts, abs=0.12)


def test_systemd_stops_a_unit_of_which_a_process_was_killed() -> None:
    unit: dict[str, Any] = {
        "container": "web", "restart": "Always", "restart_by": "systemd", "restart_sec_ns": S,
    }  # fmt: skip
    parts = [
        process("master", "a", 100, HOLD, **unit),
        process("worker", "a", 250, Op("hold", ns=S), Op("grow", pages=100, rate=50_000.0), HOLD,
                oom_score_adj=500, parent="master", **unit),
    ]  # fmt: skip
    found = run(scenario(parts, (LIMIT,), duration_ns=3 * S, sample_ns=S))
    assert times(found, "oom_kill", "worker") == [1.0]
    (ended,) = [e for e in events(found, "exit") if e.name == "master"]
    assert ended.detail == {"how": "signal", "value": 15}
    assert times(found, "restart", "master") == [2.0]
    assert times(found, "restart", "worker") == [2.0]


def test_killed_process_is_started_again_ever_later() -> None:
    parts = [process("big", "a", 600, HOLD, restart="OnFailure")]
    found = run(scenario(parts, (LIMIT,), duration_ns=35 * S, sample_ns=S))
    assert times(found, "oom_kill", "big") == [0.0, 0.0, 10.0, 30.0]
    assert times(found, "restart", "big") == [0.0, 10.0, 30.0]
    assert [event.detail["restarts"] for event in events(found, "restart")] == [1, 2, 3]
    assert len(events(found, "start")) == 1
    assert found.totals[0].restarts == 3
    assert last(found, "cgroup.a.memory.current") < 64 * 4096  # all it had came back


@pytest.mark.parametrize(
    ("policy", "code", "restarts"),
    [("Never", 1, 0), ("OnFailure", 0, 0), ("OnFailure", 1, 1), ("Always", 0, 1)],
)
def test_policy_decides_after_an_exit(policy: str, code: int, restarts: int) -> None:
    done = (Op("hold", ns=50 * MS), Op("exit", code=code))
    parts = [process("job", "a", 100, *done, restart=policy)]
    found = run(scenario(parts, (LIMIT,), duration_ns=5 * S, sample_ns=S))
    assert found.totals[0].restarts == restarts
    assert found.totals[0].state == "exited"


def test_worker_that_is_killed_is_started_again_by_its_parent() -> None:
    parts = [
        process("master", "a", 100, HOLD, container="web", restart="Always"),
        process("worker", "a", 250, Op("hold", ns=S), Op("grow", pages=100, rate=50_000.0), HOLD,
                container="web", restart="Always", oom_score_adj=500, parent="master"),
    ]  # fmt: skip
    found = run(scenario(parts, (LIMIT,), duration_ns=4 * S, sample_ns=S))
    assert times(found, "oom_kill", "worker") == [1.0, 2.0, 3.0]  # no back-off
    assert times(found, "restart", "worker") == [1.0, 2.0, 3.0]
    assert not times(found, "restart", "master")


@pytest.mark.parametrize("oom_group", [False, True])
def test_container_whose_main_process_is_killed_starts_again_as_a_whole(oom_group: bool) -> None:
    parts = [
        process("main", "a", 100, Op("hold", ns=S), Op("grow", pages=350, rate=50_000.0), HOLD,
                container="web", restart="OnFailure"),
        process("side", "a", 100, HOLD, container="web", restart="OnFailure",
                start_ns=200 * MS),
        process("other", "a", 10, HOLD, restart="OnFailure", oom_score_adj=-1000),
    ]  # fmt: skip
    group = dataclasses.replace(LIMIT, oom_group=oom_group)
    found = run(scenario(parts, (group,), duration_ns=15 * S, sample_ns=S))
    # 1 s after each start, which comes at once, then after 10 s
    kills = [event for event in events(found, "oom_kill") if event.name == "main"]
    assert [round(event.t, 1) for event in kills] == [1.0, 2.0, 13.0]
    ends = [e for e in events(found, "exit") if e.name == "side"]
    assert [e.detail["value"] for e in ends] == [9, 9, 9]
    assert times(found, "restart", "main") == [1.0, 12.0]
    assert times(found, "restart", "side") == [1.2, 12.2]  # as long after it as the first time
    assert not times(found, "exit", "other")


def test_lives_of_a_container_are_apart() -> None:
    parts = [
        process("web", "a", 50, Op("hold", ns=S), Op("exit"), container="web", restart="OnFailure"),
        process("web#2", "a", 600, HOLD, container="web", restart="OnFailure", start_ns=2 * S),
    ]
    found = run(scenario(parts, (LIMIT,), duration_ns=5 * S, sample_ns=S))
    assert times(found, "restart", "web#2") == [2.0]
    assert not times(found, "restart", "web")


def test_restart_op_begins_the_program_again_at_once() -> None:
    again = (Op("hold", ns=S), Op("restart"))
    found = run(scenario([process("gc", "a", 100, *again)], (LIMIT,), duration_ns=4 * S))
    assert times(found, "restart", "gc") == [1.0, 2.0, 3.0]
    assert last(found, "process.gc.rss_pages") == 100


def test_curve_goes_on_at_the_present_time() -> None:
    # 300 pages at 0.5 s, 60 at 1 s, 80 at 30 s; a neighbour has it killed at about 1.2 s
    at = np.array([0.5, 1, 30]) * S
    trace = TracePoints("t.heap", at.astype(np.int64), np.array([300, 60, 80]))
    task = Task((), "t.heap", Access("cyclic", 100.0), trace=trace, clock="schedule")
    one = Process("t", "a", "t", mappings=("t.heap",), tasks=(task,), restart="OnFailure")
    done = (Op("hold", ns=100 * MS), Op("exit"))
    late = process("late", "a", 350, *done, start_ns=1200 * MS, oom_score_adj=-1000)
    parts = [(one, Mapping("t.heap", "anon", 300)), late]
    found = run(scenario(parts, (LIMIT,), duration_ns=13 * S))
    kills = times(found, "oom_kill", "t")
    assert kills[0] == 1.2
    rss = found.series["process.t.rss_pages"]
    assert np.nanmax(rss) >= 295
    assert np.nanmax(rss[found.series["t"] > 1.3]) <= 80  # not through 300 again
    assert 60 <= rss[-1] <= 70
