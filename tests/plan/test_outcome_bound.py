"""What is said of containers that cpuset.mems binds to some of the nodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from capplan.plan.outcome import analyse
from capplan.sim.scenario import Cgroup, Zone
from tests.plan.synthetic import MANAGED, MIB, PAGE, Maker


def _notes(mems: dict[str, tuple[int, ...] | None], free_mib: tuple[float, float]) -> list[str]:
    made = Maker()
    for name in ("web", "db"):
        made.container(name, [(0, 100)])
    made.cgroups = [Cgroup(name, mems=mems.get(name)) for name in ("web", "db")]
    for node, free in enumerate(free_mib):
        low = np.where(made.t == 60, free, 900.0)
        made.put(f"zone.N{node}.Normal.free", low * MIB / PAGE)
    run = made.put("meminfo_kb.MemAvailable", 500 * 1024).run()
    zones = tuple(Zone(n, "Normal", MANAGED, MANAGED, MANAGED) for n in (0, 1))
    node = replace(run.scenario.node, zones=zones)
    marks = {"N0.Normal": (1, 2, 3), "N1.Normal": (1, 2, 3)}
    run = replace(run, scenario=replace(run.scenario, node=node), wmarks=marks)
    return [note for note in analyse(run).notes if "cpuset.mems" in note]


def test_a_bound_container_is_told_what_was_free_on_its_node() -> None:
    assert _notes({"web": (0,)}, (80, 700)) == [
        "web may use NUMA node 0 only (cpuset.mems): at 1 min 80 MiB were free there, with 500 MiB"
        " available on the whole machine"
    ]


def test_containers_with_the_same_nodes_share_the_note() -> None:
    (note,) = _notes({"web": (0,), "db": (0,)}, (80, 700))
    assert note.startswith("web and 1 more may use NUMA node 0 only")


@pytest.mark.parametrize("mems", [{}, {"web": (0, 1)}, {"web": (1,)}])
def test_nothing_is_said_where_there_is_room_or_no_bond(
    mems: dict[str, tuple[int, ...] | None],
) -> None:
    assert _notes(mems, (80, 700)) == []
