"""Invariants of runs: whatever the settings, the kernel's rules hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capplan.mm.state import EV_MAX, PROC_LIVE, new_kernel
from capplan.sim.run import run
from capplan.sim.scenario import (
    Access,
    Cgroup,
    Disk,
    Mapping,
    Node,
    Op,
    Process,
    Scenario,
    Swap,
    Task,
    Zone,
)
from tests.property import invariants

MS = 1_000_000
FORCED = (invariants.m3_usage_is_within_the_limit,)  # told of samples, with their slack


def state() -> Any:
    """A root, /a, /a/b and /c with a little of everything, all in order."""
    k = new_kernel()[0]
    k["nr_memcgs"], k["nr_procs"], k["nr_swaps"] = 4, 2, 1
    k["memcg"]["parent"][:4] = (-1, 0, 1, 0)
    k["memcg"]["memory"]["usage"][:4] = (0, 70, 50, 9)
    k["memcg"]["memory"]["peak"][:4] = (0, 80, 60, 9)
    k["memcg"]["memory"]["max"][3] = 9
    k["memcg"]["memory"]["emin"][:4] = (0, 20, 20, 0)
    k["memcg"]["events"][1, EV_MAX], k["memcg"]["events"][2, EV_MAX] = 3, 2
    k["memcg"]["events_local"][1, EV_MAX], k["memcg"]["events_local"][2, EV_MAX] = 1, 2
    k["swap"]["total"][0], k["swap"]["free"][0] = 100, 90
    k["memcg"]["swap"]["usage"][:4] = (0, 8, 3, 2)
    k["proc"]["state"][:2], k["proc"]["pid"][:2], k["proc"]["oom_score_adj"][1] = (
        PROC_LIVE,
        7,
        -1000,
    )
    k["memcg"]["psi"]["last_ns"][1], k["memcg"]["psi"]["some_ns"][1] = 10, 5
    return k


def test_violations_state_in_order_has_none() -> None:
    assert invariants.violations(state()) == []


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("memcg", "memory", "usage", 2), 71, "M1"),
        (("memcg", "swap", "usage", 1), -1, "M1"),
        (("memcg", "memory", "max", 3), 8, "M3"),
        (("memcg", "memory", "emin", 2), 22, "M4"),
        (("memcg", "events", (1, EV_MAX)), 2, "M5"),
        (("memcg", "swap", "usage", 3), 3, "M6"),
        (("memcg", "memory", "peak", 3), 8, "M7"),
        (("proc", "victim", 1), 1, "O4"),
        (("memcg", "psi", "full_ns", 1), 6, "PSI of 1"),
        (("psi", "nr_memstall_running"), 1, "PSI of node"),
    ],
)
def test_violations_each_is_found(path: tuple[Any, ...], value: int, told: str) -> None:
    k = state()
    place = k
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    assert any(sentence.startswith(told) for sentence in invariants.violations(k))


# --- whole runs -------------------------------------------------------------------------

limits = st.sampled_from((-1, 256, 500, 900))
adjs = st.sampled_from((-1000, -997, -300, 0, 0, 500, 1000))


@st.composite
def processes(draw: st.DrawFn, cgroup: str, name: str) -> tuple[Process, tuple[Mapping, ...]]:
    """One process: it grows, reads or writes, then holds and touches."""
    pages = draw(st.integers(16, 1000))
    heap, log = f"{name}-heap", f"{name}-log"
    pattern = draw(st.sampled_from(("idle", "cyclic", "uniform")))
    ops = [Op("grow", heap, pages=pages, rate=draw(st.sampled_from((2000.0, 20000.0))))]
    if draw(st.booleans()):
        ops.append(Op("read", log, pages=400, rate=8000.0))
    ops.append(Op("hold", ns=draw(st.integers(0, 200)) * MS))
    if draw(st.booleans()):
        ops.append(Op("exit"))
    task = Task(tuple(ops), heap, Access(pattern, 4000.0))
    process = Process(
        name,
        cgroup,
        name,
        start_ns=draw(st.integers(0, 200)) * MS,
        oom_score_adj=draw(adjs),
        mappings=(heap, log),
        tasks=(task,),
    )
    file = Mapping(log, "file", 400, size_pages=400, via="read", disk="vda")
    return process, (Mapping(heap, "anon", pages), file)


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """A node of 32 MiB with /a, /a/b and /c, each with one process."""
    paths = ("a", "a/b", "c")
    cgroups = [
        Cgroup(
            path,
            memory_max=draw(limits),
            memory_high=draw(limits),
            memory_min=draw(st.sampled_from((0, 0, 200))),
            oom_group=draw(st.booleans()),
        )
        for path in paths
    ]
    made = [draw(processes(path, f"p{i}")) for i, path in enumerate(paths)]
    disk = Disk("vda", 100_000, 100_000, 20_000.0, 20_000.0, 200_000.0)
    swap = draw(st.sampled_from((0, 512, 4096)))
    node = Node(
        zones=(Zone(0, "DMA32", 8192, 8192, 8192),),
        cpus=draw(st.integers(1, 3)),
        release=draw(st.sampled_from(("6.1", "6.12"))),
        disks=(disk,),
        swaps=(Swap("vda", swap, -2),) if swap else (),
        kernel_pages=512,
    )
    return Scenario(
        name="drawn",
        node=node,
        cgroup_version="v2",
        cgroups=tuple(cgroups),
        mappings=tuple(mapping for _, mappings in made for mapping in mappings),
        processes=tuple(process for process, _ in made),
        duration_ns=500 * MS,
        sample_ns=50 * MS,
        seed=draw(st.integers(1, 5)),
        granule_order=draw(st.sampled_from((0, 2))),
    )


def play(scenario: Scenario) -> Any:
    """Run it; what must hold of the state holds at each sample."""

    def check(machine: Any) -> None:
        assert invariants.violations(machine.kernel[0], but=FORCED) == []

    return run(scenario, check=check)


def spared_stay_alive(scenario: Scenario, found: Any) -> None:
    """O4."""
    killed = {event.name for event in found.events if event.event == "oom_kill"}
    assert not {p.name for p in scenario.processes if p.oom_score_adj == -1000} & killed


def kills_stay_in_their_domain(scenario: Scenario, found: Any) -> None:
    """O5."""
    home = {p.name: p.cgroup for p in scenario.processes}
    for event in found.events:
        if event.event == "oom_kill" and event.scope == "memcg":
            domain = str(event.detail["oom_cgroup"]).strip("/")
            assert f"{home[event.name]}/".startswith(f"{domain}/"), event


def usage_adds_up(scenario: Scenario, found: Any) -> None:
    """M1, M3 at every sample, in bytes."""
    current = {c.path: found.series[f"cgroup.{c.path}.memory.current"] for c in scenario.cgroups}
    assert (current["a"] >= current["a/b"]).all()
    slack = 64 * 4096 << (scenario.granule_order or 0)  # forced charges
    for group in scenario.cgroups:
        if group.memory_max >= 0:
            assert np.max(current[group.path]) <= group.memory_max * 4096 + slack, group.path


def events_go_up(scenario: Scenario, found: Any) -> None:
    """M5 at every sample; nothing that is counted goes down."""
    for event in ("low", "high", "max", "oom", "oom_kill"):
        inner, outer = (found.series[f"cgroup.{path}.events.{event}"] for path in ("a/b", "a"))
        assert (outer >= inner).all(), event
        assert (np.diff(outer) >= 0).all()
    kills = sum(event.event == "oom_kill" for event in found.events)
    assert found.series["vmstat.oom_kill"][-1] == kills


def pressure_is_time(scenario: Scenario, found: Any) -> None:
    some, full = (found.series[f"psi.memory.{s}.total_us"] for s in ("some", "full"))
    assert (full <= some + 1).all()
    assert (some <= found.series["t"] * 1e6 + 1).all()


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(scenario=scenarios())
def test_runs_keep_the_kernels_rules(scenario: Scenario) -> None:
    found = play(scenario)
    free = found.series["meminfo_kb.MemFree"]
    assert (free >= 0).all()
    assert (free <= found.series["meminfo_kb.MemTotal"]).all()
    for check in (
        spared_stay_alive,
        kills_stay_in_their_domain,
        usage_adds_up,
        events_go_up,
        pressure_is_time,
    ):
        check(scenario, found)


@pytest.mark.slow
@settings(max_examples=5, suppress_health_check=[HealthCheck.too_slow])
@given(scenario=scenarios())
def test_runs_repeat_themselves(scenario: Scenario) -> None:
    """P2."""
    first, second = play(scenario), play(scenario)
    assert first.events == second.events
    assert first.series.keys() == second.series.keys()
    for name, values in first.series.items():
        assert np.array_equal(values, second.series[name], equal_nan=True), name
