"""How a process begins: attached to its regions, charged for its kernel memory (kernel/fork.c)."""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.events import record
from capplan.mm.memcg import charge_forced
from capplan.mm.page_alloc import alloc_kernel_pages
from capplan.mm.state import (
    KIND_START,
    MAP_ANON,
    MAP_FILE,
    PROC_LIVE,
    PROC_UNBORN,
    ST_KERNEL,
    TASK_READY,
)
from capplan.sim.access import access_begin

__all__ = ["born"]


@jit
def _attach(k, v):
    """A vma joins its mapping: what others have mapped of it counts in this process's RSS too."""
    vma = k.vma[v]
    mapping = k.mapping[vma.mapping]
    shared = mapping.first_vma >= 0
    vma.next_on_mapping = mapping.first_vma
    mapping.first_vma = v
    vma.mapped_pages = 0
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


@jit
def _start_process(k, fr, p):
    proc = k.proc[p]
    proc.state = PROC_LIVE
    proc.victim = 0
    proc.oom_skip = 0
    proc.start_ns = k.now_ns
    v = proc.first_vma
    while v >= 0:
        _attach(k, v)
        v = k.vma[v].next
    if proc.kernel_wanted > 0:
        got = alloc_kernel_pages(k, fr, proc.kernel_wanted)
        proc.kernel_pages = got
        k.nr_kernel += got
        k.memcg[proc.memcg].stat[ST_KERNEL] += got
        charge_forced(k, proc.memcg, got)
    record(k, KIND_START, p, proc.memcg, 0, 0, 0, 0, 0, 0)


@jit
def born(k, fr, t):
    """Task t begins its program; with its first task the process starts."""
    task = k.task[t]
    if k.proc[task.proc].state == PROC_UNBORN:
        _start_process(k, fr, task.proc)
    task.state = TASK_READY
    task.nominal_ns = k.now_ns
    task.pc = task.pc_begin
    task.stage = 0
    if task.access_vma >= 0:
        v = task.access_vma
        task.access_vma = -1
        access_begin(k, t, v, task.access_pattern, task.access_rate)
