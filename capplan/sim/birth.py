"""How a process begins: attached to its regions, charged for its kernel memory (kernel/fork.c)."""

from __future__ import annotations

from capplan.mm._jit import rare
from capplan.mm.events import record
from capplan.mm.khugepaged import khugepaged_enter
from capplan.mm.memcg import charge_forced
from capplan.mm.page_alloc import alloc_kernel_pages
from capplan.mm.pcp import PCP_UNMOVABLE
from capplan.mm.state import (
    KIND_RESTART,
    KIND_START,
    MAP_ANON,
    MAP_FILE,
    MAX_RECLAIM_RETRIES,
    PROC_LIVE,
    PROC_UNBORN,
    ST_KERNEL,
    ST_PAGETABLES,
    TASK_READY,
)
from capplan.mm.swap_state import swap_ra_init
from capplan.sim.access import access_begin
from capplan.sim.fork import attach_fork
from capplan.sim.ops import OP_POPULATE, OP_TARGET

__all__ = ["born"]


@rare
def _attach(k, fr, pt, v):
    """A vma joins its mapping: what others have mapped of it counts in this process's RSS too."""
    vma = k.vma[v]
    mapping = k.mapping[vma.mapping]
    shared = mapping.first_vma >= 0
    vma.next_on_mapping = mapping.first_vma
    mapping.first_vma = v
    vma.mapped_pages = 0
    swap_ra_init(vma)
    if vma.copy >= 0:
        attach_fork(k, fr, pt, v)
        return
    if not shared or vma.via_read:
        return
    nr = k.vma[vma.next_on_mapping].mapped_pages
    vma.mapped_pages = nr
    proc = k.proc[vma.proc]
    if mapping.kind == MAP_ANON:
        proc.rss_anon += nr
        proc.swapents += mapping.swapped_pages
    elif mapping.kind == MAP_FILE:
        proc.rss_file += nr
    else:
        proc.rss_shmem += nr


@rare
def _start_process(k, fr, pt, p):
    proc = k.proc[p]
    proc.state = PROC_LIVE
    proc.victim = 0
    proc.oom_skip = 0
    proc.oom_skip_ns = 0
    proc.start_ns = k.now_ns
    v = proc.first_vma
    while v >= 0:
        _attach(k, fr, pt, v)
        v = k.vma[v].next
    khugepaged_enter(k, p)
    if proc.kernel_wanted > 0:
        got = alloc_kernel_pages(k, fr, proc.kernel_wanted, PCP_UNMOVABLE)
        proc.kernel_pages = got
        k.nr_kernel += got
        k.memcg[proc.memcg].stat[ST_KERNEL] += got
        charge_forced(k, proc.memcg, got)
    if proc.tables_wanted > 0 and not proc.restarting:
        got = alloc_kernel_pages(k, fr, proc.tables_wanted, PCP_UNMOVABLE)
        proc.pgtables += got
        k.nr_pagetables += got
        k.memcg[proc.memcg].stat[ST_PAGETABLES] += got
        k.memcg[proc.memcg].stat[ST_KERNEL] += got
        charge_forced(k, proc.memcg, got)
    if proc.restarting:
        proc.restarting = 0
        proc.restarts += 1
        record(k, KIND_RESTART, p, proc.memcg, proc.restarts, 0, 0, 0, 0, 0)
    else:
        record(k, KIND_START, p, proc.memcg, 0, 0, 0, 0, 0, 0)


@rare
def _first_op(k, pg, t):
    """Where a life's program begins.

    What was in memory at boot is not placed again, and a curve that is followed goes on at
    the present time.
    """
    task = k.task[t]
    pc = task.pc_begin
    if k.proc[task.proc].restarts == 0:
        return pc
    while pc < task.pc_end and pg[pc].op == OP_POPULATE:
        pc += 1
    while pc + 1 < task.pc_end and pg[pc + 1].op == OP_TARGET and pg[pc].op == OP_TARGET:
        if pg[pc + 1].vma != pg[pc].vma or pg[pc + 1].t_ns > k.now_ns:
            break
        pc += 1
    return pc


@rare
def _reset_task(k, t):
    """A task of a new life: nothing of the last one goes on."""
    task = k.task[t]
    task.retries = MAX_RECLAIM_RETRIES
    task.drained = 0
    task.oom_memcg = 0
    task.no_progress = 0
    task.over_high = 0
    task.stage = 0
    task.lazy = 0
    task.store_vma = -1


@rare
def born(k, fr, pt, pg, t):
    """Task t begins its program; with its first task the process starts."""
    task = k.task[t]
    if k.proc[task.proc].state == PROC_UNBORN:
        _start_process(k, fr, pt, task.proc)
    task.state = TASK_READY
    task.nominal_ns = k.now_ns
    task.pc = _first_op(k, pg, t)
    _reset_task(k, t)
    if task.own_vma >= 0:
        access_begin(k, t, task.own_vma, task.own_pattern, task.own_rate)
