"""Charges that fail: the v1 pause and its release, and ENOMEM of system calls.

A user fault in a group with oom_kill_disable sleeps until memory is uncharged or the limit is
raised (mem_cgroup_oom_synchronize); a system call gets ENOMEM at once.
"""

from __future__ import annotations

from capplan.mm._jit import rare
from capplan.mm.events import record
from capplan.mm.memcg import mem_cgroup_margin
from capplan.mm.psi import psi_task_set
from capplan.mm.state import (
    KIND_ENOMEM,
    KIND_PAUSED,
    KIND_RESUMED,
    NS_PER_MS,
    NS_PER_S,
    TASK_OOM_WAIT,
    TASK_READY,
)
from capplan.sim.access import wake_accessors
from capplan.sim.heap import heap_set

__all__ = ["enomem", "leave_oom_wait", "may_leave_oom_wait", "oom_wait"]

ENOMEM_RETRY_NS = 10 * NS_PER_MS  # a program that retries at once would only spin


@rare
def oom_wait(k, t):
    """Sleep on the memcg's OOM wait queue (v1, oom_kill_disable); looked at with back-off."""
    task = k.task[t]
    if task.state != TASK_OOM_WAIT:
        task.state = TASK_OOM_WAIT
        task.stall_begin_ns = k.now_ns
        task.backoff_ns = 10 * NS_PER_MS
        _stop_accesses(k, t)
        psi_task_set(k, t, 0, 0, k.now_ns)  # schedule() outside of any memstall section
        record(k, KIND_PAUSED, task.proc, task.wait_memcg, 0, 0, 0, 0, 0, 0)
    else:
        task.backoff_ns = min(2 * task.backoff_ns, NS_PER_S // 4)
    heap_set(k, t, k.now_ns + task.backoff_ns)


@rare
def _stop_accesses(k, t):
    """A paused task's running accesses stop; they go on when it resumes."""
    task = k.task[t]
    if task.access_vma >= 0 and task.lazy:
        wake_accessors(k, k.vma[task.access_vma].mapping)


@rare
def may_leave_oom_wait(k, t):
    """Whether a paused task tries again: somebody uncharged, or the limit was raised."""
    c = k.proc[k.task[t].proc].memcg
    while c > 0:
        if k.memcg[c].oom_kill_disable and mem_cgroup_margin(k, c) < k.granule_pages:
            return False
        c = k.memcg[c].parent
    return True


@rare
def leave_oom_wait(k, t):
    """A paused task's charge has succeeded: it goes on."""
    task = k.task[t]
    paused = k.now_ns - task.stall_begin_ns
    task.pause_ns += paused
    k.memcg[k.proc[task.proc].memcg].pause_ns += paused
    task.state = TASK_READY
    record(k, KIND_RESUMED, task.proc, task.wait_memcg, paused, 0, 0, 0, 0, 0)


@rare
def enomem(k, t, end):
    """A charge of a system call failed: the caller sees ENOMEM and tries again later."""
    task = k.task[t]
    if k.now_ns >= task.enomem_ns:
        record(k, KIND_ENOMEM, task.proc, k.proc[task.proc].memcg, 0, 0, 0, 0, 0, 0)
        task.enomem_ns = k.now_ns + NS_PER_S
    return max(end, k.now_ns + ENOMEM_RETRY_NS)
