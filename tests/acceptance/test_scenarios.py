"""The acceptance scenarios of kernel-model 17.5: what the kernel does, played from end to end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from capplan.sim.result import Run
from capplan.sim.run import run
from capplan.sim.scenario import (
    Access,
    Cgroup,
    Change,
    Disk,
    Mapping,
    Node,
    Op,
    Process,
    Scenario,
    Swap,
    Task,
    Zone,
    Zswap,
)
from tests.sim.engine_cases import MS, S, events, last, process, scenario

MIB = 256  # pages
DISK = Disk("vda", 100_000, 100_000, 20_000.0, 20_000.0, 200_000.0)


def big_node(mib: int = 1024, **more: Any) -> Node:
    """One zone, two CPUs, a disk of 200 MB/s; the kernel itself holds 16 MiB."""
    settings: dict[str, Any] = {
        "zones": (Zone(0, "DMA32", mib * MIB, mib * MIB, mib * MIB),),
        "cpus": 2,
        "release": "6.12",
        "lru_gen": False,
        "disks": (DISK,),
        "kernel_pages": 16 * MIB,
    }
    return Node(**(settings | more))


def play(*args: Any, **more: Any) -> Run:
    """Run what :func:`tests.sim.engine_cases.scenario` puts together."""
    settings: dict[str, Any] = {"node": big_node()}
    built: Scenario = scenario(*args, **(settings | more))
    return run(built)


def kills(found: Run) -> list[str]:
    """Names of the killed, in order."""
    return [event.name for event in events(found, "oom_kill")]


# --- 1, 2: memory.max ------------------------------------------------------------------


@pytest.mark.parametrize("g", [0, 6, 9])
def test_anon_above_max_is_one_kill_after_eighteen_reclaims(g: int) -> None:
    limit = 512 * MIB
    hog = process("hog", "c", 600 * MIB, rate=1e6)
    found = play([hog], (Cgroup("c", memory_max=limit),), granule_order=g)
    (kill,) = events(found, "oom_kill")
    assert (kill.name, kill.scope) == ("hog", "memcg")
    peak = int(np.max(found.series["cgroup.c.memory.current|max"])) // 4096
    assert limit - (1 << g) <= peak <= limit
    assert last(found, "cgroup.c.events.oom") == 1
    assert last(found, "cgroup.c.events.oom_kill") == 1
    # with nothing to reclaim 18 before the kill, and 17 more by the hog, which was chosen itself
    assert last(found, "cgroup.c.events.max") == 35
    # page tables are charged too: 1 page in 512
    held = kill.detail["anon_rss_kb"] + kill.detail["pgtables_kb"]
    assert abs(held - 4 * limit) <= 4 * ((1 << g) + 64)
    assert 0.99 < kill.detail["pgtables_kb"] / (kill.detail["anon_rss_kb"] / 512) < 1.02
    assert found.totals[-1].state == "killed"


def test_anon_above_max_leaves_the_node_untouched() -> None:
    hog = process("hog", "c", 600 * MIB, rate=1e6)
    found = play([hog], (Cgroup("c", memory_max=512 * MIB),))
    assert last(found, "vmstat.pgscan_kswapd") == last(found, "vmstat.pgscan_direct") == 0
    assert np.min(found.series["meminfo_kb.MemFree"]) > 400 * 1024
    assert last(found, "cgroup.c.memory.current") == 0


def test_reading_a_file_larger_than_max_reclaims_and_never_kills() -> None:
    limit, file = 512 * MIB, 10 * 1024 * MIB
    log = Mapping("log", "file", file, size_pages=file, via="read", disk="vda")
    reader = Process(
        "reader", "c", "reader", mappings=("log",), tasks=(Task((Op("read", "log", pages=file),)),)
    )
    found = play(
        [], (Cgroup("c", memory_max=limit),), files=(log,), processes=(reader,),
        granule_order=4, duration_ns=60 * S, sample_ns=S,
    )  # fmt: skip
    current = found.series["cgroup.c.memory.current"]
    assert kills(found) == []
    half = len(current) // 4
    assert np.max(current) <= limit * 4096
    assert np.min(current[half:]) >= 0.99 * limit * 4096
    grown = found.series["cgroup.c.events.max"]
    assert grown[-1] > grown[half] > 0
    assert last(found, "cgroup.c.stat.pgsteal") >= 0.9 * (file - limit)
    assert last(found, "cgroup.c.events.oom") == 0


# --- 3: memory.high --------------------------------------------------------------------


@pytest.mark.parametrize("g", [0, 6, 9])
def test_high_without_anything_to_reclaim_grows_by_128_kib_a_second(g: int) -> None:
    high = 100 * MIB
    hog = process("hog", "c", 400 * MIB, rate=1e5)
    found = play([hog], (Cgroup("c", memory_high=high),), granule_order=g,
                 duration_ns=260 * S, sample_ns=S)  # fmt: skip
    assert kills(found) == []
    pages = found.series["cgroup.c.memory.current"] / 4096
    # the sleep is 2 s for 64 pages once the overage is 17.68 %: 117.68 MiB
    first = int(np.argmax(pages > 1.1768 * high))
    assert 0 < first < 60
    span = len(pages) - 1 - first
    grown = pages[-1] - pages[first]
    assert abs(grown - 32 * span) <= (1 << g) + 0.01 * grown + 64
    assert last(found, "cgroup.c.throttle_us") / 1e6 > 0.95 * span
    assert last(found, "cgroup.c.events.high") > span / 2


# --- 4, 5: the node --------------------------------------------------------------------


def test_node_full_of_anon_kills_soon_after_min() -> None:
    hog = process("hog", "c", 1100 * MIB, rate=1e6)
    found = play([hog], (Cgroup("c"),), duration_ns=4 * S, sample_ns=5 * MS)
    (kill,) = events(found, "oom_kill")
    assert (kill.name, kill.scope) == ("hog", "global")
    free = found.series["meminfo_kb.MemFree"] / 4
    low_mark = found.wmarks["DMA32"][0]
    t = found.series["t"]
    below = t[int(np.argmax(free <= low_mark + 64))]
    assert kill.t - below < 0.2
    before = free[t <= kill.t][-1]
    assert before <= low_mark + 64
    assert last(found, "vmstat.oom_kill") == 1


def test_node_with_hot_code_thrashes_before_it_kills() -> None:
    code = 400 * MIB
    text = Mapping("code", "file", code, size_pages=code, resident_pages=code,
                   via="mmap", exec=True, disk="vda")  # fmt: skip
    web = Process(
        "web", "web", "web", mappings=("code",), tasks=(
            Task((Op("hold", ns=600 * S),), "code", Access("uniform", 300_000.0)),
            Task((Op("hold", ns=600 * S),), "code", Access("uniform", 300_000.0)),
        ),
    )  # fmt: skip
    hog = process("hog", "hog", 720 * MIB, rate=40_000.0)
    found = play(
        [hog], (Cgroup("web"), Cgroup("hog")), files=(text,), processes=(hog[0], web),
        granule_order=4, duration_ns=100 * S, sample_ns=S,
    )  # fmt: skip
    full = np.diff(found.series["psi.memory.full.total_us"]) / 1e6
    thrash = np.flatnonzero(full > 0.3)
    assert len(thrash) > 40  # what systemd-oomd waits for: 30 s above its limit and 10 s more
    first = events(found, "oom_kill")
    assert not first or first[0].t - thrash[0] > 40


# --- 6: cgroup v1 ----------------------------------------------------------------------


def test_v1_without_killing_pauses_until_the_limit_is_raised() -> None:
    hog = process("hog", "c", 100 * MIB, rate=1e6)
    found = play(
        [hog], (Cgroup("c", memory_max=64 * MIB, oom_kill_disable=True),),
        changes=(Change(2 * S, "c", "memory.limit_in_bytes", 128 * MIB),),
        cgroup_version="v1", duration_ns=4 * S,
    )  # fmt: skip
    (paused,), (resumed,) = events(found, "paused"), events(found, "resumed")
    assert kills(found) == []
    assert paused.t < 1
    assert 2 <= resumed.t < 2.3
    assert resumed.detail["paused_s"] == pytest.approx(resumed.t - paused.t, abs=0.01)
    usage = found.series["cgroup.c.memory.usage_in_bytes"]
    t = found.series["t"]
    assert (usage[(t > paused.t + 0.1) & (t < 1.99)] == 64 * MIB * 4096).all()
    assert usage[-1] > 100 * MIB * 4096
    (total,) = found.totals
    assert total.state == "live"
    assert total.pause_s == pytest.approx(resumed.t - paused.t, abs=0.01)


def test_v1_without_killing_pauses_for_ever_when_nobody_helps() -> None:
    hog = process("hog", "c", 100 * MIB, rate=1e6)
    found = play([hog], (Cgroup("c", memory_max=64 * MIB, oom_kill_disable=True),),
                 cgroup_version="v1", duration_ns=4 * S)  # fmt: skip
    assert [event.event for event in events(found, "paused", "resumed", "oom_kill")] == ["paused"]
    assert found.totals[-1].state == "paused"
    assert found.totals[-1].pause_s > 3


def test_v1_with_killing_kills() -> None:
    hog = process("hog", "c", 100 * MIB, rate=1e6)
    found = play([hog], (Cgroup("c", memory_max=64 * MIB),), cgroup_version="v1")
    assert kills(found) == ["hog"]
    assert events(found, "paused") == []


# --- 7: tmpfs --------------------------------------------------------------------------


def test_tmpfs_stays_when_its_writers_are_killed() -> None:
    limit = 64 * MIB
    shm = Mapping("shm", "shmem", 100 * MIB)
    writers = tuple(
        Process(
            f"w{i}", "c", "c", start_ns=i * S, mappings=("shm",),
            tasks=(Task((Op("write", "shm", pages=80 * MIB, rate=1e6),)),),
        )
        for i in range(3)
    )  # fmt: skip
    found = play([], (Cgroup("c", memory_max=limit),), files=(shm,), processes=writers,
                 duration_ns=4 * S)  # fmt: skip
    assert kills(found) == ["w0", "w1", "w2"]
    t, current = found.series["t"], found.series["cgroup.c.memory.current"]
    assert np.min(current[t > 0.5]) >= 0.99 * limit * 4096
    assert last(found, "cgroup.c.stat.shmem") == pytest.approx(limit * 4096, rel=0.01)
    assert last(found, "cgroup.c.events.oom_kill") == 3


# --- 8: memory.low ---------------------------------------------------------------------


def _reader(name: str, pages: int, rate: float, resident: int = 0) -> tuple[Process, Mapping]:
    file = Mapping(f"{name}.file", "file", pages, size_pages=pages, resident_pages=resident,
                   via="read", disk="vda")  # fmt: skip
    ops = (Op("read", file.name, pages=pages, rate=rate),) if rate else (Op("hold", ns=S),)
    return Process(name, name, name, mappings=(file.name,), tasks=(Task(ops),)), file


def _overrun(low: int, lru_gen: bool) -> Run:
    """80 MiB of idle cache, while another group reads 600 MiB on a node of 256."""
    idle, cache = _reader("idle", 80 * MIB, 0.0, resident=80 * MIB)
    busy, stream = _reader("busy", 600 * MIB, 40_000.0)
    return play(
        [], (Cgroup("idle", memory_low=low), Cgroup("busy")), files=(cache, stream),
        processes=(idle, busy), node=big_node(256, lru_gen=lru_gen), granule_order=2,
        duration_ns=6 * S,
    )  # fmt: skip


@pytest.mark.parametrize("low", [0, 100 * MIB])
def test_low_keeps_an_idle_groups_cache_while_another_overruns_the_node(low: int) -> None:
    found = _overrun(low, lru_gen=False)
    held = found.series["cgroup.idle.stat.file"] / 4096
    if low:
        assert np.min(held) == 80 * MIB
    else:
        assert held[-1] < 40 * MIB
    assert last(found, "cgroup.busy.stat.pgsteal") > 200 * MIB
    assert kills(found) == []


def test_low_is_weak_where_the_multi_gen_lru_meets_a_group_twice() -> None:
    """shrink_one(): the first meeting only sends a group to the tail of its generation."""
    without, with_low = _overrun(0, lru_gen=True), _overrun(100 * MIB, lru_gen=True)
    held = with_low.series["cgroup.idle.stat.file"]
    assert (held >= without.series["cgroup.idle.stat.file"]).all()
    assert held[-1] > 1.2 * last(without, "cgroup.idle.stat.file")
    assert held[-1] < 80 * MIB * 4096
    assert last(with_low, "cgroup.idle.events.low") > 0


def test_low_gives_way_when_only_protected_memory_remains() -> None:
    idle, cache = _reader("idle", 80 * MIB, 0.0, resident=80 * MIB)
    hog = process("hog", "hog", 200 * MIB, rate=40_000.0)
    found = play(
        [hog], (Cgroup("idle", memory_low=100 * MIB), Cgroup("hog")), files=(cache,),
        processes=(idle, hog[0]), node=big_node(256), granule_order=2, duration_ns=4 * S,
    )  # fmt: skip
    assert last(found, "cgroup.idle.stat.file") < 60 * MIB * 4096
    assert last(found, "cgroup.idle.events.low") > 0
    assert kills(found) == []


# --- 9: zswap --------------------------------------------------------------------------


def _swapping(
    incompressible: float, writeback: bool, percent: int = 20, swap: int = 256 * MIB
) -> Run:
    hog = process("hog", "c", 100 * MIB, rate=20_000.0)
    heap = Mapping("hog.heap", "anon", 200 * MIB, length_mean=1000.0, incompressible=incompressible)
    node = big_node(
        256, swaps=(Swap("vda", swap, -2),),
        zswap=Zswap(True, max_pool_percent=percent, zpool="zsmalloc"),
    )  # fmt: skip
    group = Cgroup("c", memory_max=64 * MIB, zswap_writeback=writeback)
    return play([(hog[0], heap)], (group,), node=node, duration_ns=4 * S)


def test_zswap_takes_what_compresses() -> None:
    found = _swapping(0.0, True)
    assert last(found, "vmstat.zswpout") > 30 * MIB
    assert last(found, "vmstat.pswpout") == 0
    assert kills(found) == []


def test_zswap_rejects_of_incompressible_pages_go_to_the_disk() -> None:
    found = _swapping(1.0, True)
    assert last(found, "vmstat.zswpout") == 0
    assert last(found, "vmstat.pswpout") > 30 * MIB
    assert kills(found) == []


def test_zswap_full_goes_to_the_disk() -> None:
    found = _swapping(0.0, True, percent=1)
    pool = found.series["meminfo_kb.Zswap"] / 4
    assert 0 < np.max(pool) <= 256 * MIB // 100 + 2
    assert last(found, "vmstat.pswpout") > 20 * MIB
    assert kills(found) == []


def test_zswap_without_writeback_and_nothing_compresses_is_oom() -> None:
    found = _swapping(1.0, False)
    assert last(found, "vmstat.pswpout") == 0
    assert kills(found) == ["hog"]
    kept = last(found, "meminfo_kb.SwapTotal") - last(found, "meminfo_kb.SwapFree")
    assert kept in (64 * 4, 128 * 4)  # of the slots cache: taken ahead, and given back


# --- 10: who dies ----------------------------------------------------------------------


def test_best_effort_dies_first_and_kills_go_on_if_it_does_not_help() -> None:
    tiny = process("tiny", "besteffort", 1 * MIB, oom_score_adj=1000)
    huge = process("huge", "guaranteed", 300 * MIB, rate=200_000.0, oom_score_adj=-997)
    burst = process("burst", "burstable", 20 * MIB, oom_score_adj=500)
    groups = (Cgroup("besteffort"), Cgroup("guaranteed"), Cgroup("burstable"))
    found = play([tiny, huge, burst], groups, node=big_node(256), duration_ns=4 * S)
    assert kills(found) == ["tiny", "burst", "huge"]
    assert {event.scope for event in events(found, "oom_kill")} == {"global"}
    points = [event.detail["points"] for event in events(found, "oom_kill")]
    assert points == sorted(points, reverse=True)
