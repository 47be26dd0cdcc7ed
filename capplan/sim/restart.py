"""Who is started again after an end that nobody planned (kubelet's restart policy).

    the main process ends     -> the others of its container are killed (zap_pid_ns_processes)
    the whole container ended -> all of it starts again, by policy, after the back-off
    another process fails     -> who started it starts it again at once

The back-off is CrashLoopBackOff: the first restart comes at once, the next after 10 s, then
20, 40, ... 300 s; a container that ran for ten minutes begins anew (pkg/kubelet:
MaxContainerBackOff, backOffPeriod; client-go flowcontrol.Backoff). The main process is the
container's first.

Departs from kubelet: it notices an end at once, not at its next look at the runtime.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.state import (
    NEVER_NS,
    NS_PER_S,
    PROC_EXITING,
    PROC_LIVE,
    PROC_UNBORN,
    RESTART_ALWAYS,
    RESTART_NEVER,
    TASK_UNBORN,
)
from capplan.sim.exit import begin_exit
from capplan.sim.heap import heap_remove, heap_set

__all__ = ["BACKOFF_MAX_NS", "BACKOFF_NS", "crash_loop_delay", "process_gone"]

SIGKILL = 9
BACKOFF_NS = 10 * NS_PER_S
BACKOFF_MAX_NS = 300 * NS_PER_S


@jit
def crash_loop_delay(k, main, now_ns):
    """Time until a container that ended now may start again [ns].

    Worked example: ends at 0, 5, 20 and 45 s: delays 0, 10, 20 and 40 s; after a run of more
    than 600 s: 0.
    """
    proc = k.proc[main]
    if proc.backoff_ns > 0 and now_ns - proc.backoff_set_ns > 2 * BACKOFF_MAX_NS:
        proc.backoff_ns = 0
    delay = proc.backoff_ns
    proc.backoff_ns = min(max(2 * delay, BACKOFF_NS), BACKOFF_MAX_NS)
    proc.backoff_set_ns = now_ns + delay
    return delay


@jit
def _start_again(k, p, at_ns):
    """Process p is going to be born at ``at_ns``."""
    k.proc[p].state = PROC_UNBORN
    k.proc[p].restarting = 1
    for t in range(k.nr_tasks):
        if k.task[t].proc == p:
            k.task[t].state = TASK_UNBORN
            heap_set(k, t, at_ns)


@jit
def _end_container(k, main):
    """SIGKILL to all others of the container; who was still to start does not."""
    for p in range(k.nr_procs):
        if k.proc[p].container != main or p == main:
            continue
        if k.proc[p].state == PROC_LIVE:
            begin_exit(k, p, -SIGKILL, 0)
        elif k.proc[p].state == PROC_UNBORN:
            for t in range(k.nr_tasks):
                if k.task[t].proc == p:
                    heap_remove(k, t)


@jit
def _is_empty(k, main):
    for p in range(k.nr_procs):
        if k.proc[p].container == main:
            if k.proc[p].state == PROC_LIVE or k.proc[p].state == PROC_EXITING:
                return False
    return True


@jit
def process_gone(k, p, now_ns):
    """Process p has ended and given back all it had: what starts again, and when."""
    proc = k.proc[p]
    if proc.asked_restart:
        proc.asked_restart = 0
        _start_again(k, p, now_ns)
        return
    policy = proc.restart_policy
    if policy == RESTART_NEVER:
        return
    main = proc.container
    if k.proc[main].state == PROC_LIVE:
        if proc.exit_code != 0:
            _start_again(k, p, now_ns)
        return
    if p == main:
        _end_container(k, main)
    if not _is_empty(k, main) or k.proc[main].state == PROC_UNBORN:
        return
    if policy == RESTART_ALWAYS or k.proc[main].exit_code != 0:
        at = now_ns + crash_loop_delay(k, main, now_ns)
        for q in range(k.nr_procs):
            if k.proc[q].container == main and at < NEVER_NS:
                _start_again(k, q, at + k.proc[q].start_offset_ns)
