"""Planned demand: worked examples of what programs ask for."""

from __future__ import annotations

import numpy as np
import pytest

from capplan.plan.demand import PTES, demands
from capplan.sim.scenario import (
    Cgroup,
    Mapping,
    Node,
    Op,
    Process,
    Scenario,
    Task,
    TracePoints,
    Zone,
)

NS = 1_000_000_000
PAGE = 4096


def _scenario(*processes: Process, mappings: tuple[Mapping, ...], seconds: int = 100) -> Scenario:
    zone = Zone(0, "Normal", 1 << 18, 1 << 18, 1 << 18)
    return Scenario(
        "hand-made", Node((zone,), 1, "6.1"), "v2", (Cgroup("a"),), mappings, processes,
        duration_ns=seconds * NS,
    )  # fmt: skip


def _anon(name: str, size: int = 0) -> Mapping:
    return Mapping(name, "anon", 1 << 18, size_pages=size)


def _process(*tasks: Task, name: str = "p", mappings: tuple[str, ...] = ("m",), start: int = 0,
             kernel: int = 0) -> Process:  # fmt: skip
    return Process(name, "a", "a", start * NS, mappings=mappings, tasks=tasks, kernel_pages=kernel)


def _pages(bytes_: int) -> float:
    """Pages without the page tables that map them."""
    return bytes_ / PAGE / (1 + 1 / PTES)


def test_growth_counts_from_the_first_extent() -> None:
    # 5120 pages at the start, 100 a second for 50 s
    task = Task((Op("grow", "m", 5000, 100.0),))
    found = demands(_scenario(_process(task), mappings=(_anon("m", 5120),)))["a"]
    assert _pages(found.bytes) == pytest.approx(10120, abs=1)
    assert found.t == pytest.approx(50)


def test_growth_beyond_the_run_ends_with_it() -> None:
    task = Task((Op("grow", "m", 50_000, 100.0),))
    found = demands(_scenario(_process(task), mappings=(_anon("m"),)))["a"]
    assert _pages(found.bytes) == pytest.approx(10_000, abs=1)
    assert found.t == 100


def test_bursts_that_do_not_meet_are_not_added() -> None:
    one = Task((Op("grow", "m", 1000, 0.0), Op("hold", ns=10 * NS), Op("free", "m", 1000)))
    two = Task((Op("hold", ns=20 * NS), Op("grow", "n", 1500, 0.0)))
    process = _process(one, two, mappings=("m", "n"))
    found = demands(_scenario(process, mappings=(_anon("m"), _anon("n"))))["a"]
    assert _pages(found.bytes) == pytest.approx(1500, abs=2)
    assert found.t == pytest.approx(20, abs=1e-6)


def test_bursts_that_meet_are_added() -> None:
    one = Task((Op("grow", "m", 1000, 0.0), Op("hold", ns=30 * NS), Op("free", "m", 1000)))
    two = Task((Op("hold", ns=20 * NS), Op("grow", "n", 1500, 0.0)))
    process = _process(one, two, mappings=("m", "n"))
    found = demands(_scenario(process, mappings=(_anon("m"), _anon("n"))))["a"]
    assert _pages(found.bytes) == pytest.approx(2500, abs=2)


def test_shared_memory_counts_once_and_ends_with_nobody() -> None:
    shared = Mapping("m", "shmem", 1 << 18, size_pages=700)
    task = Task((Op("hold", ns=NS),))
    processes = (_process(task, name="p"), _process(task, name="q"))
    found = demands(_scenario(*processes, mappings=(shared,)))["a"]
    assert _pages(found.bytes) == pytest.approx(700, abs=1)


def test_files_are_left_out() -> None:
    file = Mapping("m", "file", 1 << 18, size_pages=9000)
    task = Task((Op("read", "m", 9000, 100.0),))
    found = demands(_scenario(_process(task, kernel=16), mappings=(file,)))["a"]
    assert _pages(found.bytes) == pytest.approx(16, abs=1)


def test_exit_gives_all_back() -> None:
    early = _process(Task((Op("grow", "m", 3000, 0.0), Op("hold", ns=5 * NS), Op("exit"))))
    late = _process(Task((Op("grow", "n", 2000, 0.0),)), name="q", mappings=("n",), start=10)
    found = demands(_scenario(early, late, mappings=(_anon("m"), _anon("n"))))["a"]
    assert _pages(found.bytes) == pytest.approx(3000, abs=2)


def test_targets_and_curves_set_the_extent() -> None:
    points = TracePoints("m", np.array([10, 40]) * NS, np.array([4000, 1000]))
    task = Task((Op("target", "n", 500, at_ns=40 * NS),))
    followed = Task((), trace=points)
    process = _process(followed, task, mappings=("m", "n"))
    found = demands(_scenario(process, mappings=(_anon("m", 800), _anon("n", 100))))["a"]
    # at 10 s the curve is at 4000, the target a quarter of the way from 100 to 500
    assert _pages(found.bytes) == pytest.approx(4200, abs=2)
    assert found.t == pytest.approx(10)


def _forked(task: Task, *, writer: str) -> Scenario:
    """A parent with 1000 pages and a child from 10 to 30 s; ``writer`` does the task."""
    cow = Mapping("c", "anon", 1000, cow_of="m")
    parent = _process(*([task] if writer == "parent" else []))
    stop = Task((Op("wait", at_ns=30 * NS), Op("exit")))
    tasks = (task, stop) if writer == "child" else (stop,)
    child = Process(
        "q", "a", "a", 10 * NS, mappings=("m", "c"), tasks=tasks, parent="p",
    )  # fmt: skip
    return _scenario(parent, child, mappings=(Mapping("m", "anon", 1000, size_pages=1000), cow))


@pytest.mark.parametrize("writer", ["parent", "child"])
@pytest.mark.parametrize(
    ("rate", "copied"),
    [
        (20.0, 400),  # 20 a second while both live, from 10 to 30 s
        (900.0, 1000),  # no more than there is
    ],
)
def test_pages_written_after_a_fork_are_copied(writer: str, rate: float, copied: int) -> None:
    task = Task((Op("store", "m", rate=rate, pattern="uniform"),))
    found = demands(_forked(task, writer=writer))["a"]
    assert _pages(found.bytes) == pytest.approx(1000 + copied, abs=2)


def test_stores_without_a_fork_copy_nothing() -> None:
    task = Task((Op("store", "m", rate=50.0),))
    found = demands(_scenario(_process(task), mappings=(_anon("m", 1000),)))["a"]
    assert _pages(found.bytes) == pytest.approx(1000, abs=1)
