"""A task whose region lost a page begins to play, but not before its present wait is over."""

from __future__ import annotations

from typing import Any

import pytest

from capplan.mm import state
from capplan.sim.heap import heap_set
from capplan.sim.step import _wake_mapping
from tests.sim.engine_cases import MS

pytestmark = pytest.mark.small


def sleeper(due_ns: int, busy_ns: int) -> Any:
    """One task that accesses mapping 0 and is due at ``due_ns``."""
    k = state.new_kernel()[0]
    k.nr_tasks = 1
    k.nr_mappings = 1
    k.mapping[0].first_task = 0
    k.task[0].state = state.TASK_READY
    k.task[0].busy_ns = busy_ns
    k.task[0].access_vma = 0
    k.now_ns = 10 * MS
    heap_set(k, 0, due_ns)
    return k


@pytest.mark.parametrize(
    ("due", "busy", "woken"),
    [
        (500 * MS, 5 * MS, 11 * MS),  # it slept to its next op
        (50 * MS, 50 * MS, 50 * MS),  # it waits for a disk: that is not cut short
        (500 * MS, 50 * MS, 50 * MS),  # and sleeps afterwards
        (10 * MS, 5 * MS, 10 * MS),  # it is due before anyway
    ],
)
def test_wake_mapping_leaves_waits_as_long_as_they_are(due: int, busy: int, woken: int) -> None:
    k = sleeper(due, busy)
    _wake_mapping(k, 0)
    assert k.task[0].due_ns == woken
