"""Slab that nothing holds: who pays for it, and what gives it back."""

from __future__ import annotations

import pytest

from capplan.sim.result import Run
from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Op, Process, Task
from tests.sim.engine_cases import S, events, last, process, scenario


def found_of(pages: int, limit: int = -1, grow: int = 10, **more: object) -> Run:
    """One process makes slab, then another of its group grows."""
    finder = Process(
        "finder",
        "a",
        "finder",
        tasks=(Task((Op("slab", pages=pages, rate=50_000.0), Op("hold", ns=1000 * S))),),
    )
    one, heap = process("p", "a", grow, Op("hold", ns=1000 * S), start_ns=S // 2)
    case = scenario([(one, heap)], (Cgroup("a", memory_max=limit),), **more)
    return run(case.__class__(**(vars(case) | {"processes": (finder, one)})))


@pytest.mark.small
def test_slab_is_charged_to_the_group_and_shown_by_the_node() -> None:
    found = found_of(500)
    before = found.series["meminfo_kb.SReclaimable"][0] / 4
    assert last(found, "meminfo_kb.SReclaimable") / 4 - before == 500
    assert last(found, "cgroup.a.stat.slab_reclaimable") / 4096 == 500
    assert last(found, "cgroup.a.memory.current") / 4096 >= 510


def test_slab_keeps_its_pace() -> None:
    found = found_of(20_000)
    at = list(found.series["t"]).index(0.1)
    assert found.series["cgroup.a.stat.slab_reclaimable"][at] / 4096 == pytest.approx(5000, abs=64)


@pytest.mark.small
def test_limit_frees_slab_before_it_kills() -> None:
    found = found_of(900, limit=1000, grow=400)
    assert events(found, "oom_kill") == []
    assert last(found, "cgroup.a.stat.slab_reclaimable") / 4096 < 700
    assert last(found, "cgroup.a.memory.current") / 4096 <= 1000


def test_node_frees_a_groups_slab_under_pressure() -> None:
    found = found_of(5000, grow=3500)
    assert events(found, "oom_kill") == []
    assert last(found, "process.p.rss_pages") == 3500
    assert last(found, "meminfo_kb.SReclaimable") / 4 < 4500
