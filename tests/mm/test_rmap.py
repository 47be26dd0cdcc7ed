"""Interrupts for pages whose owner runs on another CPU (try_to_unmap_flush_dirty)."""

from __future__ import annotations

from typing import Any

import pytest

from capplan.mm import state
from capplan.mm.rmap import flush_dirty

pytestmark = pytest.mark.small

SHOOTDOWN_NS = 2000.0
HERE, THERE = 0, 1


def machine(tasks: int = 1) -> Any:
    """One process, whose tasks ran last on CPU 1, 2, ...; the caller is on CPU 0."""
    k = state.new_kernel()[0]
    k.nr_cpus = 4
    k.nr_tasks = tasks
    k.now_ns = 1000
    k.cpu = HERE
    k.actor = -2
    k.cost.shootdown_ns = SHOOTDOWN_NS
    k.mapping[0].first_vma = 0
    k.vma[0].proc = 1
    k.vma[0].next_on_mapping = -1
    k.proc[1].first_task = 0
    for t in range(tasks):
        k.task[t].proc = 1
        k.task[t].wait = THERE + t
        k.cpu_actor[THERE + t] = t
    return k


def test_owner_that_runs_elsewhere_costs_an_interrupt_a_page() -> None:
    k = machine()
    k.cpu_free_ns[THERE] = 5000
    flush_dirty(k, 0, 3)
    assert k.work_ns == 3 * SHOOTDOWN_NS
    assert k.task[0].interrupt_ns == 3 * SHOOTDOWN_NS


def test_owner_that_sleeps_is_not_interrupted() -> None:
    k = machine()
    k.cpu_free_ns[THERE] = 1000  # its turn ended
    flush_dirty(k, 0, 1)
    assert k.work_ns == 0.0


def test_cpu_that_another_task_has_by_now_is_not_interrupted() -> None:
    k = machine()
    k.cpu_free_ns[THERE] = 5000
    k.cpu_actor[THERE] = 7
    flush_dirty(k, 0, 1)
    assert k.work_ns == 0.0


def test_who_reclaims_its_own_pages_flushes_only_itself() -> None:
    k = machine()
    k.cpu = THERE
    k.cpu_free_ns[THERE] = 5000
    flush_dirty(k, 0, 1)
    assert k.work_ns == 0.0


def test_each_cpu_of_the_process_is_asked() -> None:
    k = machine(tasks=3)
    k.cpu_free_ns[1:4] = 5000
    flush_dirty(k, 0, 1)
    assert k.work_ns == 3 * SHOOTDOWN_NS
    assert [k.task[t].interrupt_ns for t in range(3)] == [SHOOTDOWN_NS] * 3
