"""Dirty page cache at a cgroup's limit; how late a task is that is held up."""

from __future__ import annotations

import pytest

from capplan.sim.result import Run
from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Mapping, Op, Process, Task
from tests.sim.engine_cases import MS, S, events, node, process, scenario

pytestmark = pytest.mark.small

DIRTY, HEAP, LIMIT = 600, 700, 1000  # pages


def writer_then_heap(version: str) -> Run:
    """600 dirty pages, then a heap of 700 pages, under a limit of 1000: cache must give way.

    The flusher would write by itself after 30 s; the run is over before.
    """
    group = Cgroup("a", memory_max=LIMIT, oom_kill_disable=version == "v1")
    dump = Process(
        "dump", "a", "app", mappings=("f",), tasks=(Task((Op("write", "f", pages=DIRTY),)),)
    )
    hold = Op("hold", ns=60 * S)
    heap, mapping = process("heap", "a", HEAP, hold, rate=2000.0, start_ns=500 * MS)
    machine = node(lru_gen=False, release="6.1")
    case = scenario([(heap, mapping)], (group,), node=machine, cgroup_version=version)
    file = Mapping("f", "file", DIRTY, via="read", disk="vda")
    return run(
        type(case)(
            **{
                **vars(case),
                "processes": (dump, *case.processes),
                "mappings": (file, *case.mappings),
                "duration_ns": 5 * S,
            }
        )
    )


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_dirty_cache_is_written_before_anybody_is_paused_or_killed(version: str) -> None:
    found = writer_then_heap(version)
    assert events(found, "paused", "oom_kill") == []
    assert found.series["process.heap.rss_pages"][-1] == HEAP
    assert found.series["cgroup.a.stat.file"][-1] <= (LIMIT - HEAP) * 4096


def test_paused_task_is_late_by_the_time_it_waits() -> None:
    # 400 pages at 100 a second, paused at its limit after some 2 s of the 8 s
    group = Cgroup("a", memory_max=256, oom_kill_disable=True)
    part = process("app", "a", 400, Op("hold", ns=60 * S), rate=100.0)
    found = run(scenario([part], (group,), cgroup_version="v1", duration_ns=8 * S))
    (pause,) = events(found, "paused")
    (total,) = found.totals
    assert total.state == "paused"
    assert total.late_s == pytest.approx(8 - pause.t, abs=64 / 100 + 0.01)  # comes every 64 pages
    assert total.late_max_s == total.late_s


def test_task_in_time_is_not_late() -> None:
    part = process("app", "a", 400, Op("hold", ns=60 * S), rate=100.0)
    (total,) = run(scenario([part], (Cgroup("a"),), duration_ns=3 * S)).totals
    assert total.late_max_s < 0.01
