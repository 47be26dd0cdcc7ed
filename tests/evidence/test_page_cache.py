"""A real server's page cache, read and written by a chain of programs: times and trajectories.

The bars: operation times within 16 % on average; cache and used memory within 1 % of RAM on
average over the runs and 2 % in the worst. Dirty pages stand beside them: no bar, but the
figure is pinned so that a change shows.
"""

from __future__ import annotations

import functools
import pathlib
from typing import Any

import numpy as np
import pytest
import yaml

from capplan.validate.page_cache import (
    Comparison,
    Recorded,
    compare,
    load_all,
    missed,
    page_ns,
    to_scenario,
)
from capplan.validate.sensitivity import study_page_cache

pytestmark = pytest.mark.slow

LIST = pathlib.Path(__file__).with_name("page-cache-expected-failures.yaml")
DIRTY = 0.03  # of RAM: where the first write of a file to a device begins is not reproduced


@functools.cache
def _compared(folder: pathlib.Path) -> tuple[Comparison, ...]:
    runs = load_all(folder)
    assert runs
    return tuple(compare(run) for run in runs)


@pytest.fixture
def runs(shared: pathlib.Path) -> tuple[Comparison, ...]:
    folder = shared / "page-cache-runs"
    if not folder.is_dir():
        pytest.skip("no page cache runs in the evidence folder")
    return _compared(folder)


def expected_failures() -> set[tuple[str, str]]:
    loaded: dict[str, Any] = yaml.safe_load(LIST.read_text(encoding="utf-8"))
    entries = loaded["expected_failures"]
    assert all(set(entry) == {"run", "bar", "function", "reason"} for entry in entries)
    return {(entry["run"], entry["bar"]) for entry in entries}


def test_bars_are_met_unless_listed(runs: tuple[Comparison, ...]) -> None:
    found = missed(runs)
    found |= {(r.name, "dirty"): r.dirty_error for r in runs if not r.dirty_error <= DIRTY}
    assert set(found) == expected_failures(), found


def test_the_bars_can_be_missed(runs: tuple[Comparison, ...]) -> None:
    """A model that is 20 % slow, or two thirds of a percent of RAM off more, would not pass."""
    slow = tuple(
        Comparison(
            r.name,
            tuple((op, real, 1.2 * max(ours, real)) for op, real, ours in r.operations),
            r.cache_error + 0.0067,
            r.used_error,
            r.dirty_error,
            r.curves,
        )
        for r in runs
    )
    assert {("all", "operations"), ("all", "cache")} <= set(missed(slow))


def test_each_operation_is_nearer_than_the_best_published_simulator_at_its_worst(
    runs: tuple[Comparison, ...],
) -> None:
    """Published: worst single operation 55 %, mean 32 %."""
    worst = max(abs(ours / real - 1) for run in runs for _, real, ours in run.operations)
    assert worst < 0.25


def test_a_changed_cost_moves_what_it_is_paid_for() -> None:
    """A file that stays under every dirty limit: its write is a copy; nothing is compressed."""
    memory = {
        "total": 1_000_000, "free": 900_000, "cache": 40_000, "buffers": 0, "slab": 9000,
        "dirty": 0, "slab_reclaimable": 5000, "shmem": 0,
    }  # fmt: skip
    recorded = Recorded(
        "file", 60_000, np.array([0.0, 3.0]), np.array([2.0, 4.0]), np.array([0.0, 4.0]),
        {key: np.array([value, value]) for key, value in memory.items()},
    )  # fmt: skip
    costs = {"compress_ns": 3000.0, "write_copy_ns": 700.0}
    base, *cases = study_page_cache([recorded], costs)
    found = {(case.cost, case.factor): case for case in cases}
    assert set(costs) | {"disk.read_ns_per_page"} <= {cost for cost, _ in found}
    assert found["compress_ns", 1.2].operations == base.operations
    # the write takes 1 s here, the model's less: by as much nearer, in a mean of two operations
    copied = 60_000 * page_ns(2764.0) / 1e9
    nearer = base.operations - found["write_copy_ns", 1.2].operations
    assert nearer == pytest.approx(0.2 * copied / 2, rel=0.05)


def test_the_scenario_knows_only_what_was_given() -> None:
    memory = {
        "total": 1_000_001, "free": 900_000, "cache": 40_000, "buffers": 10, "slab": 9000,
        "dirty": 0, "slab_reclaimable": 5000, "shmem": 30_000,
    }  # fmt: skip
    recorded = Recorded(
        "1gb", 244_141, np.array([0.0, 10.0]), np.array([4.0, 12.5]), np.array([0.0, 1.0]),
        {key: np.array([value, value]) for key, value in memory.items()},
    )  # fmt: skip
    scenario = to_scenario(recorded)
    node = scenario.node
    assert [zone.managed for zone in node.zones] == [500_001, 500_000]
    assert sum(zone.free or 0 for zone in node.zones) == 900_000
    assert (node.daemon_shmem_pages, node.daemon_file_pages) == (30_000, 10_010)
    assert node.kernel_pages == 1_000_001 - 900_000 - 40_010 - 5000
    ops = scenario.processes[0].tasks[0].ops
    assert [op.op for op in ops] == ["read", "hold", "write", "free"]
    assert ops[1].ns == 6_000_000_000  # the computation, not the operations' times
    assert page_ns(510.0) == pytest.approx(8031.4, abs=0.1)
