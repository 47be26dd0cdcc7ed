"""earlyoom: percentages, sleep and choice by hand, then whole runs."""

from __future__ import annotations

from typing import Any

import pytest

from capplan.sim.agents.base import MemInfo
from capplan.sim.agents.earlyoom import Victim, largest, mem_percent, sleep_ms, swap_percent
from capplan.sim.agents.model import Earlyoom
from capplan.sim.result import Run
from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Op, Zone
from tests.sim.engine_cases import S, events, node, process, scenario

MIB = 256  # pages
GIB = 1 << 30
HOLD = Op("hold", ns=10_000 * S)


def seen(available: int, anon: int, swap_free: int = 0, swap_total: int = 0) -> MemInfo:
    return MemInfo(available + anon, available, anon, swap_total, swap_free)


def test_percentages_are_of_user_memory() -> None:
    assert mem_percent(seen(1 * GIB, 3 * GIB)) == 25.0
    assert swap_percent(seen(GIB, GIB)) == 0.0  # no swap counts as used up
    assert swap_percent(seen(GIB, GIB, GIB, 4 * GIB)) == 25.0


@pytest.mark.parametrize(
    ("available", "ms"),
    [
        (8 * GIB, 1000),  # 6.4 GiB above 10 % at 6000 MiB/s: 1118 ms, but at most 1 s
        (4 * GIB, 409),  # 2.4 GiB: 2516582 KiB // 6000 = 419; of 16 GiB exactly: see below
        (1 * GIB, 100),
    ],
)
def test_sleep_is_the_time_to_the_limit_at_the_fill_rate(available: int, ms: int) -> None:
    found = sleep_ms(Earlyoom(), seen(available, 16 * GIB - available))
    room_kib = (available / GIB / 16 * 100 - 10) * (16 << 20) / 100
    assert found == min(max(int(room_kib) // 6000, 100), 1000)
    assert found == pytest.approx(ms, abs=11)


def test_sleep_adds_the_time_that_swap_takes() -> None:
    # 40 % of 1 GiB of swap at 800 KiB/ms: 524 ms more than the least
    assert sleep_ms(Earlyoom(), seen(0, GIB, GIB // 2, GIB)) == 524


def victims(*rows: tuple[str, int, int]) -> list[Victim]:
    return [Victim(name, p, score, rss, 0) for p, (name, score, rss) in enumerate(rows)]


def test_largest_by_hand() -> None:
    found = victims(("a", 700, 100), ("b", 710, 10), ("c", 700, 300))
    assert [v.name for v in largest(found)] == ["b", "c", "a"]
    assert [v.name for v in largest(found, sort_by_rss=True)] == ["c", "a", "b"]


def test_largest_of_equals_is_the_first_seen() -> None:
    assert [v.name for v in largest(victims(("x", 1, 1), ("y", 1, 1)))] == ["x", "y"]


# --- whole runs --------------------------------------------------------------------------


def play(parts: list[Any], config: Earlyoom, **more: Any) -> Run:
    zone = Zone(0, "DMA32", 256 * MIB, 256 * MIB, 256 * MIB)
    settings: dict[str, Any] = {
        "node": node(zones=(zone,), kernel_pages=8 * MIB), "duration_ns": 90 * S, "sample_ns": S,
        "agents": (config,),
    }  # fmt: skip
    groups = tuple(Cgroup(p.cgroup) for p, _ in parts)
    return run(scenario(parts, groups, **(settings | more)))


def leak(name: str, rate_mib: float, **more: Any) -> Any:
    return process(name, name, 500 * MIB, HOLD, rate=rate_mib * MIB, **more)


def test_leak_gets_sigterm_at_ten_percent() -> None:
    calm = process("calm", "calm", 40 * MIB, HOLD, rate=1e6)
    found = play([leak("leak", 4), calm], Earlyoom())
    (kill,) = events(found, "earlyoom_kill")
    detail = kill.detail
    assert (kill.name, detail["signal"]) == ("leak", "SIGTERM")
    assert 9.0 < detail["memory_percent"] <= 10.0  # it looks each 100 ms there
    (gone,) = [event for event in events(found, "exit") if event.name == "leak"]
    assert gone.detail == {"how": "signal", "value": 15}
    assert gone.t - kill.t < 1.0
    assert not events(found, "oom_kill")


def test_sigterm_becomes_sigkill_when_memory_falls_on() -> None:
    deaf = leak("deaf", 4, sigterm_ns=None)
    found = play([deaf], Earlyoom())
    (kill,) = events(found, "earlyoom_kill")
    (gone,) = [event for event in events(found, "exit") if event.name == "deaf"]
    assert gone.detail == {"how": "signal", "value": 9}
    assert gone.t - kill.t > 1.0  # 5 % of 240 MiB are 12 MiB: 3 s at 4 MiB/s


def test_equal_limits_kill_at_once() -> None:
    found = play([leak("leak", 4)], Earlyoom(mem_kill=10.0, swap_kill=10.0))
    assert events(found, "earlyoom_kill")[0].detail["signal"] == "SIGKILL"


def test_oom_score_adj_weighs_as_the_kernel_weighs_it() -> None:
    spared = process("calm", "calm", 20 * MIB, HOLD, rate=1e6, oom_score_adj=900)
    found = play([leak("leak", 4), spared], Earlyoom())
    assert events(found, "earlyoom_kill")[0].name == "calm"


@pytest.mark.parametrize(
    ("config", "first"),
    [
        (Earlyoom(), "leak"),
        (Earlyoom(prefer="^calm$"), "calm"),
        (Earlyoom(avoid="^leak$"), "calm"),
        (Earlyoom(ignore="^leak$"), "calm"),
        (Earlyoom(prefer="^calm$", sort_by_rss=True), "calm"),
        (Earlyoom(sort_by_rss=True), "leak"),
    ],
)
def test_options_turn_the_choice(config: Earlyoom, first: str) -> None:
    calm = process("calm", "calm", 60 * MIB, HOLD, rate=1e6)
    found = play([leak("leak", 4), calm], config)
    assert events(found, "earlyoom_kill")[0].name == first


def test_burst_faster_than_its_poll_is_the_kernels() -> None:
    calm = process("calm", "calm", 40 * MIB, HOLD, rate=1e6)
    burst = process("burst", "burst", 500 * MIB, HOLD, rate=2000 * MIB, start_ns=12 * S)
    found = play([calm, burst], Earlyoom(), duration_ns=20 * S)
    assert events(found, "oom_kill")[0].t < 12.5
    assert not events(found, "earlyoom_kill")


def test_free_swap_keeps_it_from_acting() -> None:
    from capplan.sim.scenario import Swap

    zone = Zone(0, "DMA32", 256 * MIB, 256 * MIB, 256 * MIB)
    machine = node(zones=(zone,), kernel_pages=8 * MIB, swaps=(Swap("vda", 1000 * MIB, -2),))
    grows = process("leak", "leak", 300 * MIB, HOLD, rate=8 * MIB)
    found = play([grows], Earlyoom(), node=machine)
    assert not events(found, "earlyoom_kill")
    assert events(play([grows], Earlyoom(swap_term=100.0, swap_kill=100.0), node=machine),
                  "earlyoom_kill")  # fmt: skip
