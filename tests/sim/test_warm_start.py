"""What is in memory at t = 0, and what a run says of it."""

from __future__ import annotations

import numpy as np

from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Mapping, Op, Process, Task
from tests.sim.engine_cases import S, scenario

FILE = 6000  # pages, of a node of 8,192


def reader(group: str) -> tuple[Process, Mapping]:
    """A process whose whole file is in the page cache when it starts."""
    name = f"{group}.file"
    task = Task((Op("hold", ns=S),))
    settings = {"container": group, "mappings": (name,), "tasks": (task,)}
    return Process(group, group, **settings), Mapping(
        name, "file", FILE, size_pages=FILE, resident_pages=FILE
    )


def test_what_filled_the_node_before_the_run_is_no_peak_of_it() -> None:
    groups = ("a", "b", "c")
    found = run(scenario([reader(g) for g in groups], tuple(Cgroup(g) for g in groups)))
    current = np.array([found.series[f"cgroup.{g}.memory.current"] for g in groups])
    highest = np.array([found.series[f"cgroup.{g}.memory.current|max"] for g in groups])
    assert current[:, 0].sum() < 8192 * 4096 < 3 * FILE * 4096  # reclaim took of the first
    assert np.array_equal(highest[:, 0], current[:, 0])
