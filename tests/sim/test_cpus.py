"""Who has which CPU: the recorder's samples, and exits that free swap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Op
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
