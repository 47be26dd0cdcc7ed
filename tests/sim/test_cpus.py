"""Who has which CPU: the recorder's samples, and exits that free swap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Op, Zone
from tests.sim.engine_cases import MS, S, events, last, node, process, scenario

PAGES = 1000
GROUP = (Cgroup("a"),)


def _exit(limit: int, free_ns: float) -> tuple[float, float]:
    """How long the exit of a process takes [s], and the pages and slots that it held."""
    own = process("p", "a", PAGES, Op("wait", at_ns=S // 2), Op("exit"))
    machine = node(swap=4096, costs={"exit_free_ns": free_ns, "exit_unmap_ns": 0.0})
    found = run(scenario([own], (Cgroup("a", memory_max=limit),), node=machine))
    (gone,) = events(found, "exit")
    before = int(np.searchsorted(found.series["t"], 0.5)) - 1
    held = sum(
        float(found.series[f"cgroup.a.{name}"][before]) / 4096
        for name in ("memory.current", "memory.swap.current")
    )
    return gone.t - 0.5, held


@pytest.mark.parametrize("limit", [2 * PAGES, PAGES // 2])
def test_freeing_a_slot_at_exit_costs_as_much_as_freeing_a_page(limit: int) -> None:
    took, held = _exit(limit, 100_000.0)
    assert held >= PAGES
    assert took == pytest.approx(held * 1e-4, rel=0.05)


def _grown(sample_ns_cost: float, cpus: int) -> float:
    """Pages that a task without a pause gets while somebody samples every 50 ms."""
    own = process("p", "a", 7000, rate=1e9)
    machine = replace(node(costs={"sample_ns": sample_ns_cost, "fault_ns": 500_000.0}), cpus=cpus)
    return last(run(scenario([own], GROUP, node=machine)), "meminfo_kb.AnonPages") / 4


def test_a_recorder_takes_its_share_of_the_only_cpu() -> None:
    alone, beside = _grown(0.0, 1), _grown(10.0 * MS, 1)
    assert beside == pytest.approx(alone * 0.8, rel=0.03)  # 10 of 50 ms


def test_a_recorder_on_another_cpu_is_in_nobodys_way() -> None:
    assert _grown(10.0 * MS, 2) == pytest.approx(_grown(0.0, 2), rel=0.03)


@pytest.mark.parametrize(("cpus", "hidden"), [(1, False), (2, True)])
def test_parent_of_the_dead_frees_its_page_directory_where_there_is_one_cpu(
    cpus: int, hidden: bool
) -> None:
    """Up to 6.6 a block of order 1 to 3 that is freed takes the CPU's list with it (free_high)."""
    own = process("p", "a", PAGES, Op("exit"))
    machine = replace(node(release="6.1", sysctl={"vm.min_free_kbytes": 2048}), cpus=cpus)
    found = run(scenario([own], GROUP, node=machine))
    free = found.series["zone.DMA32.free"]
    assert bool(free[-1] < free[0] - 100) is hidden


@pytest.mark.parametrize(
    ("release", "held", "taken"), [("6.12", 1000, 1000 - 226), ("6.1", 60, 30)]
)
def test_lists_above_their_low_bound_hold_user_memory(release: str, held: int, taken: int) -> None:
    """At t = 0 half of a list is of other types, but no more than LOW (724 KiB and a quarter)."""
    zone = Zone(0, "DMA32", 8192, 8192, 8192, free=6000, pcp_pages=held)
    own = process("p", "a", held, Op("hold", ns=S))
    machine = replace(node(release=release, zones=(zone,), kernel_pages=0), cpus=1)
    found = run(scenario([own], GROUP, node=machine))
    free = found.series["zone.DMA32.free"]
    fell = float(free[0] - free[-1])
    assert held - fell == pytest.approx(taken, abs=63)  # a batch may be on the list
