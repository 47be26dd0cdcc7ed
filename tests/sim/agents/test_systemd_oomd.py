"""systemd-oomd: both rankings by hand, then whole runs."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest

from capplan.sim.agents.model import ManagedOom, SystemdOomd
from capplan.sim.agents.systemd_oomd import Candidate, SystemdOomdAgent, by_pgscan, by_swap
from capplan.sim.result import Run
from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Disk, Node, Op, Swap, Zone
from tests.sim.engine_cases import S, events, node, process, scenario

MIB = 256  # pages
HOLD = Op("hold", ns=10_000 * S)
SLOW = Disk("vda", 8_000_000, 8_000_000, 400_000.0, 2_000_000.0, 8_000_000.0)


# --- rankings ----------------------------------------------------------------------------


def test_by_swap_by_hand() -> None:
    found = [Candidate("a", swap_bytes=300), Candidate("b", "avoid", 400), Candidate("c", "", 50)]
    assert [c.path for c in by_swap(found[:2], 51)] == ["a", "b"]
    assert by_swap([Candidate("c", swap_bytes=50)], 50) == []  # not more than 5 %
    assert by_swap([Candidate("o", "omit", 500)], 50) == []


def test_by_pgscan_by_hand() -> None:
    found = [
        Candidate("a", pgscan=100, current_bytes=50),
        Candidate("b", pgscan=100, current_bytes=70),
        Candidate("c", "avoid", pgscan=900, current_bytes=10),
        Candidate("d", "omit", pgscan=9000, current_bytes=10),
    ]
    assert [c.path for c in by_pgscan(found)] == ["b", "a", "c"]


def test_by_pgscan_counts_since_the_last_second() -> None:
    old = Candidate("old", pgscan=1_000_000, last_pgscan=999_999, current_bytes=1)
    new = Candidate("new", pgscan=10, last_pgscan=0, current_bytes=1)
    assert [c.path for c in by_pgscan([old, new])] == ["new", "old"]


def test_by_pgscan_a_group_made_anew_counts_from_zero() -> None:
    assert Candidate("a", pgscan=5, last_pgscan=100).scanned == 5


def test_by_pgscan_skips_who_holds_and_scanned_nothing() -> None:
    assert by_pgscan([Candidate("idle")]) == []


# --- whole runs --------------------------------------------------------------------------


def machine(swap_mib: int, disk: Disk = SLOW) -> Node:
    zone = Zone(0, "DMA32", 128 * MIB, 128 * MIB, 128 * MIB)
    swaps = (Swap("vda", swap_mib * MIB, -2),) if swap_mib else ()
    return node(zones=(zone,), kernel_pages=4 * MIB, disks=(disk,), swaps=swaps)


def thrash(name: str, mib: int, **more: Any) -> Any:
    """Touches all of its memory in circles, forever."""
    touch = Op("touch", pages=mib * MIB, rate=1e6, ns=1000 * S)
    return process(name.rpartition("/")[2], name, mib * MIB, touch, rate=1e5, **more)


def hog(name: str, mib: int = 300, **more: Any) -> Any:
    """Grows as fast as its memory.high and a slow disk let it: it reclaims all the time."""
    return process(name.rpartition("/")[2], name, mib * MIB, HOLD, rate=1e5, **more)


def play(parts: list[Any], agent: SystemdOomd, *groups: Cgroup, **more: Any) -> Run:
    """Each process in a group with a memory.high of 10 MiB, unless groups are given."""
    made = groups or tuple(Cgroup(p.cgroup, memory_high=10 * MIB) for p, _ in parts)
    settings: dict[str, Any] = {
        "node": machine(400), "duration_ns": 90 * S, "sample_ns": S, "agents": (agent,),
        "granule_order": 2,
    }  # fmt: skip
    return run(scenario(parts, made, **(settings | more)))


def pressure(*paths: str, **more: Any) -> SystemdOomd:
    return SystemdOomd(tuple(ManagedOom(path, pressure=True, **more) for path in paths))


def test_standing_pressure_is_killed_after_forty_seconds() -> None:
    found = play([hog("user/a")], pressure("user"))
    kill = events(found, "oomd_kill")[0]
    seen = kill.detail
    assert kill.name == "a"
    assert seen["rule"] == "pressure"
    assert seen["monitored"] == "user"
    assert seen["avg10"] > 60.0
    assert seen["above_s"] >= 30.0
    # from nothing to an average above 60 takes at least five periods of 2 s
    assert 40.0 < kill.t < 50.0
    assert not events(found, "oom_kill")
    (gone,) = [event for event in events(found, "exit") if event.name == "a"]
    assert gone.detail == {"how": "signal", "value": 9}
    assert {row.process: row.state for row in found.totals} == {"a": "killed"}


def test_swap_thrash_is_killed_for_pressure() -> None:
    groups = (Cgroup("user"), Cgroup("user/a"))
    agent = pressure("user", limit=0.3, duration_ns=20 * S)
    thrashing = dataclasses.replace(machine(400), lru_gen=True)
    found = play([thrash("user/a", 160)], agent, *groups, node=thrashing)
    kill = events(found, "oomd_kill")[0]
    assert kill.detail["above_s"] >= 20.0
    assert found.series["vmstat.workingset_refault_anon"][int(kill.t)] > 0
    assert not events(found, "oom_kill")


def test_pressure_below_the_limit_kills_nobody() -> None:
    found = play([hog("user/a", 9)], pressure("user"), duration_ns=60 * S)
    assert not events(found, "oomd_kill")


def test_limit_and_duration_of_the_unit_go_before_the_daemons() -> None:
    found = play([hog("user/a")], pressure("user", limit=0.2, duration_ns=5 * S))
    kill = events(found, "oomd_kill")[0]
    assert kill.detail["limit"] == 20.0
    assert 5.0 <= kill.detail["above_s"] < 7.0
    assert kill.t < 15.0


def test_preference_turns_the_choice_round() -> None:
    parts = [hog("user/a"), hog("user/b")]
    watch = ManagedOom("user", pressure=True, limit=0.2, duration_ns=5 * S)
    first = events(play(parts, SystemdOomd((watch,))), "oomd_kill")[0].name
    other = {"a": "b", "b": "a"}[first]
    avoided = ManagedOom(f"user/{first}", preference="avoid")
    assert events(play(parts, SystemdOomd((watch, avoided))), "oomd_kill")[0].name == other
    omitted = ManagedOom(f"user/{other}", preference="omit")
    found = play(parts, SystemdOomd((watch, avoided, omitted)))
    assert {kill.name for kill in events(found, "oomd_kill")} == {first}


def test_group_with_oom_group_is_killed_whole() -> None:
    parts = [hog("user/app/a"), hog("user/app/b")]
    groups = (Cgroup("user"), Cgroup("user/app", oom_group=True, memory_high=10 * MIB),
              Cgroup("user/app/a"), Cgroup("user/app/b"))  # fmt: skip
    found = play(parts, pressure("user", limit=0.2, duration_ns=5 * S), *groups)
    kills = events(found, "oomd_kill")[:2]
    assert {kill.name for kill in kills} == {"a", "b"}
    assert {kill.detail["group"] for kill in kills} == {"user/app"}
    assert kills[0].t == kills[1].t


def test_nobody_is_killed_for_fifteen_seconds_after_a_kill() -> None:
    parts = [hog(f"user/{n}") for n in ("a", "b", "c")]
    found = play(parts, pressure("user", limit=0.05, duration_ns=2 * S))
    times = [kill.t for kill in events(found, "oomd_kill")]
    assert len(times) == 3
    assert all(later - before >= 15.0 for before, later in itertools.pairwise(times))


def test_killed_unit_is_started_again_by_systemd() -> None:
    unit = {"restart": "OnFailure", "restart_by": "systemd", "restart_sec_ns": 2 * S}
    found = play([hog("user/a", **unit)], pressure("user", limit=0.2, duration_ns=5 * S))
    kill, again = events(found, "oomd_kill")[0], events(found, "restart")[0]
    assert 2.0 <= again.t - kill.t < 3.0


def test_full_swap_kills_the_group_with_the_most() -> None:
    fast = dataclasses.replace(SLOW, write_ns_per_page=10_000.0, read_latency_ns=100_000,
                               write_latency_ns=100_000, random_read_ns=200_000.0)  # fmt: skip
    groups = (Cgroup("user"), Cgroup("user/a"), Cgroup("user/b"))
    agent = SystemdOomd((ManagedOom("user", swap=True),))
    parts = [thrash("user/a", 108), thrash("user/b", 68)]
    found = play(parts, agent, *groups, node=machine(60, fast))
    kill = events(found, "oomd_kill")[0]
    seen = kill.detail
    assert seen["rule"] == "swap"
    assert seen["SwapFree_bytes"] < 0.1 * seen["SwapTotal_bytes"]
    assert seen["MemAvailable_bytes"] < 0.1 * seen["MemTotal_bytes"]
    rows = seen["candidates"]
    assert [row["swap_bytes"] for row in rows] == sorted(
        (row["swap_bytes"] for row in rows), reverse=True
    )
    assert kill.name == rows[0]["name"].rpartition("/")[2]


def test_without_swap_the_swap_rule_never_acts() -> None:
    agent = SystemdOomd((ManagedOom("user", swap=True),))
    groups = (Cgroup("user"), Cgroup("user/a"))
    found = play([hog("user/a", 200)], agent, *groups, node=machine(0), duration_ns=20 * S)
    assert events(found, "oom_kill")
    assert not events(found, "oomd_kill")


def test_sleeping_until_something_stalls_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [hog("user/a", start_ns=20 * S)]
    agent = SystemdOomd((ManagedOom("user", True, True, 0.2, 5 * S),))
    asleep = play(parts, agent)
    assert events(asleep, "oomd_kill")
    looks = []
    sound = SystemdOomdAgent._apply_pressure

    def awake(self: SystemdOomdAgent, view: Any, hands: Any) -> bool:
        looks.append(view.now_ns)
        sound(self, view, hands)
        return False

    monkeypatch.setattr(SystemdOomdAgent, "_apply_pressure", awake)
    assert play(parts, agent).events == asleep.events
    assert len(looks) > 80  # each second of the run
