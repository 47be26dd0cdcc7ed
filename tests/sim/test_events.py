"""What the log says: kills with their candidates, and what goes on for long."""

from __future__ import annotations

import dataclasses

import pytest

from capplan.mm.oom import rank
from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Change, Disk, Mapping, Op, Process, Task, Zone, Zswap
from tests.sim.engine_cases import MS, S, events, last, node, process, scenario

pytestmark = pytest.mark.small

HOLD = Op("hold", ns=1000 * S)


def test_oom_kill_tells_trigger_domain_and_candidates() -> None:
    parts = [
        process("small", "a/b", 100, HOLD),
        process("late", "a/c", 80, HOLD, start_ns=100 * MS),
        process("big", "a/b", 250, HOLD),
        process("spared", "a/c", 10, HOLD, oom_score_adj=-1000),
        process("outside", "d", 900, HOLD),
    ]
    groups = tuple(Cgroup(path) for path in ("a/b", "a/c", "d"))
    found = run(scenario(parts, (Cgroup("a", memory_max=400), *groups)))
    kill = events(found, "oom_kill")[0]
    assert kill.detail["oom_cgroup"] == "a"
    assert kill.detail["trigger"] == "late"
    assert kill.detail["totalpages"] == 400
    rows = kill.detail["candidates"]
    assert [row["name"] for row in rows] == ["big", "small", "late"]
    # 250 pages and one page of page tables
    assert rows[0]["points"] == kill.detail["points"] == 251
    assert rows[0]["anon_rss_kb"] == kill.detail["anon_rss_kb"] == 1000
    assert rows[0]["pgtables_kb"] == 4


def test_candidates_are_the_first_five_of_rank() -> None:
    parts = [process(f"p{i}", "a", 40 + 10 * (i * 3 % 7), HOLD, oom_score_adj=i) for i in range(7)]
    machines = []
    change = Change(500 * MS, "a", "memory.max", 100)
    found = run(
        scenario(parts, (Cgroup("a", memory_max=900),), (change,)),
        check=lambda machine: machines.append(
            [(machine.proc_names[c.proc], c.points)
             for c in rank(machine.kernel[0], machine.cgroup_index["a"])]
            if machine.kernel[0].now_ns <= 450 * MS else None
        ),
    )  # fmt: skip
    kill = events(found, "oom_kill")[0]
    rows = [(row["name"], row["points"]) for row in kill.detail["candidates"]]
    before = [ranked for ranked in machines if ranked][-1]
    # measured against another total: under 1000 pages oom_score_adj counts for nothing
    assert [name for name, _ in rows] == [name for name, _ in before]
    assert len(rows) == 5


def test_throttling_is_told_from_its_begin_to_its_end() -> None:
    ops = (Op("hold", ns=6 * S), Op("grow", pages=100, rate=50_000.0), HOLD)
    parts = [process("hog", "a", 600, *ops)]
    found = run(scenario(parts, (Cgroup("a", memory_high=500),), duration_ns=25 * S))
    told = [(event.event, event.name, event.cgroup) for event in
            events(found, "throttle_begin", "throttle_end")]  # fmt: skip
    assert told == [("throttle_begin", "hog", "a"), ("throttle_end", "hog", "a")] * 2
    begin, end, again, over = events(found, "throttle_begin", "throttle_end")
    assert begin.t < end.t < again.t < over.t
    assert again.t > end.t + 1
    assert begin.detail["high_cgroup"] == "a"
    assert begin.detail["high"] == 500
    assert end.t - begin.t + over.t - again.t == pytest.approx(found.totals[0].throttle_s, rel=0.1)
    assert list(found.events) == sorted(found.events, key=lambda event: event.t)


def test_node_under_pressure_tells_kswapd_and_direct_reclaim() -> None:
    log = Mapping("log", "file", 6000, size_pages=6000, via="read", disk="vda")
    reader = Task((Op("read", "log", pages=6000, rate=40_000.0), HOLD))
    parts = [
        (Process("r", "a", "r", mappings=("log",), tasks=(reader,)), log),
        process("hog", "b", 4000, HOLD, rate=40_000.0, start_ns=400 * MS),
    ]
    machine = node(sysctl={"vm.watermark_boost_factor": 0})  # else it is woken for a boost first
    groups = (Cgroup("a"), Cgroup("b"))
    found = run(scenario(parts, groups, node=machine, duration_ns=4 * S, sample_ns=S))
    wake = events(found, "kswapd_wake")[0]
    assert 0 < wake.detail["min"] < wake.detail["low"] < wake.detail["high"]
    assert wake.detail["free"] <= wake.detail["low"] + 32
    assert events(found, "kswapd_sleep")
    for event in events(found, "direct_reclaim"):
        assert event.detail["free"] <= event.detail["low"]
    lowest = found.series["zone.DMA32.free|min"]
    assert (lowest <= found.series["zone.DMA32.free"]).all()
    assert lowest.min() < found.series["zone.DMA32.free"].min()  # between the samples


def test_full_swap_is_told_once() -> None:
    parts = [process("hog", "a", 800, HOLD)]
    found = run(scenario(parts, (Cgroup("a", memory_max=400),), node=node(swap=100)))
    (full,) = events(found, "swap_full")
    assert full.cgroup == "a"
    assert full.t <= events(found, "oom_kill")[0].t


def test_full_zswap_pool_is_told() -> None:
    disk = Disk("vda", 100_000, 100_000, 20_000.0, 20_000.0, 200_000.0)
    hog, heap = process("hog", "a", 1500, HOLD)
    parts = [(hog, dataclasses.replace(heap, length_mean=2000.0))]
    crowded = node(swap=4096, disks=(disk,), zswap=Zswap(True, max_pool_percent=1))
    found = run(scenario(parts, (Cgroup("a", memory_max=400),), node=crowded))
    (full,) = events(found, "zswap_full")
    assert full.detail["pool_pages"] >= 81  # 1 % of 8192
    assert last(found, "vmstat.zswpout") > 0


def test_paused_tells_the_group_that_is_full() -> None:
    parts = [process("hog", "a/b", 600, HOLD)]
    groups = (Cgroup("a", memory_max=400, oom_kill_disable=True), Cgroup("a/b"))
    found = run(scenario(parts, groups, cgroup_version="v1"))
    (paused,) = events(found, "paused")
    assert (paused.name, paused.cgroup) == ("hog", "a/b")
    assert paused.detail == {"scope": "memcg", "oom_cgroup": "a"}


def test_node_out_of_memory_has_no_group() -> None:
    parts = [process("hog", "a", 9000, HOLD, rate=100_000.0)]
    small = node(zones=(Zone(0, "DMA32", 4096, 4096, 4096),), cpus=1)
    found = run(scenario(parts, (Cgroup("a"),), node=small))
    kill = events(found, "oom_kill")[0]
    assert kill.scope == "global"
    assert kill.detail["oom_cgroup"] == ""
    assert kill.detail["candidates"][0]["name"] == "hog"
