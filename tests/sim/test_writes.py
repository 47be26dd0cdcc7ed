"""Limits that are written during a run, as mm/memcontrol.c writes them."""

from __future__ import annotations

import pytest

from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Change, Disk, Mapping, Op, Task
from capplan.spec.node import Sysctl
from capplan.spec.timeline import SET_AT_BOOT
from tests.sim.engine_cases import MS, S, events, last, node, process, scenario

pytestmark = pytest.mark.small

HOLD = Op("hold", ns=10 * S)
AT = 300 * MS
PAGE = 4096


def current(found, path="a"):
    return last(found, f"cgroup.{path}.memory.current") // PAGE


def test_max_below_usage_kills_when_nothing_can_be_reclaimed() -> None:
    parts = [process("big", "a", 600, HOLD), process("small", "a", 200, HOLD)]
    change = Change(AT, "a", "memory.max", 500)
    found = run(scenario(parts, (Cgroup("a"),), (change,)))
    kill = events(found, "oom_kill")[0]  # one more may fall in the gap before its memory is free
    assert kill.name == "big"
    assert kill.detail["oom_cgroup"] == "a"
    assert 0.3 <= kill.t < 0.31  # in the writer's time, not at the next charge
    assert current(found) <= 500
    assert last(found, "cgroup.a.events.oom") >= 1


def test_max_below_usage_kills_until_it_fits() -> None:
    parts = [process(f"p{i}", "a", 200 + i, HOLD) for i in range(4)]
    found = run(scenario(parts, (Cgroup("a"),), (Change(AT, "a", "memory.max", 300),)))
    # 203, 202 and 201 pages go; one of 200 and what little it needs besides fits, but the
    # last victim's pages are freed after it counts as gone (MMF_OOM_SKIP)
    assert [event.name for event in events(found, "oom_kill")][:3] == ["p3", "p2", "p1"]
    assert current(found) <= 300


def test_max_below_usage_reclaims_where_it_can() -> None:
    parts = [process("big", "a", 600, HOLD)]
    change = Change(AT, "a", "memory.max", 400)
    found = run(scenario(parts, (Cgroup("a"),), (change,), node=node(swap=1024)))
    assert not events(found, "oom_kill")
    assert current(found) <= 400
    assert last(found, "cgroup.a.memory.swap.current") // PAGE >= 200
    assert last(found, "psi.memory.some.total_us") == 0  # no psi_memstall in the write


def test_max_at_usage_or_above_does_nothing() -> None:
    parts = [process("big", "a", 600, HOLD)]
    found = run(scenario(parts, (Cgroup("a", memory_max=1000),),
                         (Change(AT, "a", "memory.max", 900),)))  # fmt: skip
    assert not events(found, "oom_kill")
    assert last(found, "cgroup.a.events.max") == 0


def test_high_below_usage_reclaims_and_gives_up_without_a_kill() -> None:
    change = Change(AT, "a", "memory.high", 300)
    swapped = run(scenario([process("big", "a", 600, HOLD)], (Cgroup("a"),), (change,),
                           node=node(swap=1024)))  # fmt: skip
    assert current(swapped) <= 300
    stuck = run(scenario([process("big", "a", 600, HOLD)], (Cgroup("a"),), (change,)))
    assert current(stuck) >= 600
    assert not events(stuck, "oom_kill", "write_failed")


def test_growth_that_was_going_to_be_made_at_once_meets_the_new_limit() -> None:
    # a curve from 0 to 2000 pages in 1 s: at 300 ms about 600 are there, 500 may
    heap = Mapping("p.heap", "anon", 2000)
    one, _ = process("p", "a", 1)
    curve = Task((Op("target", "p.heap", pages=2000, at_ns=S),))
    parts = [(type(one)("p", "a", "p", mappings=("p.heap",), tasks=(curve,)), heap)]
    found = run(scenario(parts, (Cgroup("a"),), (Change(AT, "a", "memory.max", 500),)))
    assert 0.24 <= events(found, "oom_kill")[0].t <= 0.32


def test_memory_reclaim_takes_what_was_asked_for() -> None:
    log = Mapping("log", "file", 600, size_pages=600, via="read", disk="vda")
    reader = Task((Op("read", "log", pages=600, rate=50_000.0), HOLD))
    one, _ = process("p", "a", 1)
    parts = [(type(one)("p", "a", "p", mappings=("log",), tasks=(reader,)), log)]
    found = run(scenario(parts, (Cgroup("a"),), (Change(AT, "a", "memory.reclaim", 100),)))
    # a quarter of the rest at a time, 32 pages at least: 32 + 32 + 32 + 32
    assert last(found, "cgroup.a.stat.file") // PAGE == 600 - 128
    assert not events(found, "write_failed")


def test_memory_reclaim_says_eagain_when_nothing_is_left() -> None:
    parts = [process("big", "a", 600, HOLD)]
    found = run(scenario(parts, (Cgroup("a"),), (Change(AT, "a", "memory.reclaim", 100),)))
    (failed,) = events(found, "write_failed")
    assert failed.name == failed.cgroup == "a"
    assert failed.detail == {"errno": "EAGAIN", "key": "memory.reclaim", "pages": 100,
                             "reclaimed": 0}  # fmt: skip


# --- v1 ---------------------------------------------------------------------------------


def test_v1_limit_below_usage_is_busy_and_stays_as_it_was() -> None:
    parts = [process("big", "a", 600, HOLD, Op("grow", pages=200, rate=50_000.0), HOLD)]
    change = Change(AT, "a", "memory.limit_in_bytes", 400)
    found = run(scenario(parts, (Cgroup("a", memory_max=1000),), (change,), cgroup_version="v1"))
    (failed,) = events(found, "write_failed")
    assert failed.detail["errno"] == "EBUSY"
    assert not events(found, "oom_kill", "paused")


def test_v1_limit_below_usage_reclaims_then_holds() -> None:
    parts = [process("big", "a", 600, HOLD)]
    change = Change(AT, "a", "memory.limit_in_bytes", 400)
    found = run(scenario(parts, (Cgroup("a", memory_max=1000),), (change,), cgroup_version="v1",
                         node=node(swap=1024)))  # fmt: skip
    assert not events(found, "write_failed")
    assert last(found, "cgroup.a.memory.usage_in_bytes") // PAGE <= 400


def test_v1_limit_above_memsw_is_invalid() -> None:
    parts = [process("big", "a", 100, HOLD)]
    group = Cgroup("a", memory_max=300, memsw_max=300)
    change = Change(AT, "a", "memory.limit_in_bytes", 400)
    found = run(scenario(parts, (group,), (change,), cgroup_version="v1"))
    (failed,) = events(found, "write_failed")
    assert failed.detail["errno"] == "EINVAL"


@pytest.mark.parametrize(
    ("key", "value", "killed"),
    [("memory.limit_in_bytes", 1000, 0), ("memory.oom_control", 0, 1)],
)
def test_v1_paused_task_goes_on_at_once(key: str, value: int, killed: int) -> None:
    parts = [process("big", "a", 600, HOLD)]
    group = Cgroup("a", memory_max=400, oom_kill_disable=True)
    # the write comes between two looks of the paused task, which are 250 ms apart by then
    found = run(scenario(parts, (group,), (Change(1733 * MS, "a", key, value),),
                         cgroup_version="v1", duration_ns=2 * S))  # fmt: skip
    (paused,), (resumed,) = events(found, "paused"), events(found, "resumed")
    assert paused.t < 0.1
    assert resumed.t == pytest.approx(1.733, abs=5e-3)
    assert len(events(found, "oom_kill")) == killed


def test_sysctl_of_dirty_times_can_be_written() -> None:
    parts = [process("big", "a", 100, HOLD)]
    disk = Disk("vda", 100_000, 100_000, 20_000.0, 20_000.0, 200_000.0)
    change = Change(AT, "", "vm.dirty_expire_centisecs", 100)
    found = run(scenario(parts, (Cgroup("a"),), (change,), node=node(disks=(disk,))))
    assert not events(found, "write_failed")


def test_every_sysctl_that_a_timeline_may_set_can_be_written() -> None:
    """What the engine cannot write is refused as the file is read (SET_AT_BOOT), never here."""
    known = {field.alias for field in Sysctl.model_fields.values()}
    assert known > SET_AT_BOOT
    parts = [process("p", "a", 10, HOLD)]
    for key in sorted(known - SET_AT_BOOT):
        found = run(scenario(parts, (Cgroup("a"),), (Change(AT, "", key, 10),)))
        assert found.series["t"][-1] > 0.3
    for key in sorted(SET_AT_BOOT):
        with pytest.raises(ValueError, match="cannot be written during a run"):
            run(scenario(parts, (Cgroup("a"),), (Change(AT, "", key, 10),)))
