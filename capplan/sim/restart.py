"""Who is started again after an end that nobody planned, and when.

    the main process ends     -> the others of its container are killed (zap_pid_ns_processes)
    the whole container ended -> all of it starts again, by policy, after the back-off
    another process fails     -> who started it starts it again at once

The main process is the container's first. Three managers, three back-offs:

======= ================================= ================================================
kubelet 0, 10, 20, 40, ... 300 s          CrashLoopBackOff; begins anew after ten minutes
                                          (MaxContainerBackOff; flowcontrol.Backoff)
docker  100, 200, 400 ms, ... 1 min       begins anew after a run of 10 s (restartmanager)
systemd RestartSec= each time             fails for good at more than StartLimitBurst= starts
                                          in StartLimitIntervalSec=; OOMPolicy=stop
======= ================================= ================================================

Departs from kubelet: it notices an end at once, not at its next look at the runtime.
"""

from __future__ import annotations

from capplan.mm._jit import rare
from capplan.mm.memcg_offline import mem_cgroup_css_offline
from capplan.mm.state import (
    BACKOFF_DOCKER,
    BACKOFF_SYSTEMD,
    NS_PER_MS,
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

__all__ = [
    "BACKOFF_MAX_NS",
    "BACKOFF_NS",
    "crash_loop_delay",
    "docker_delay",
    "process_gone",
    "start_again",
    "systemd_delay",
]

SIGKILL, SIGTERM = 9, 15
BACKOFF_NS = 10 * NS_PER_S
BACKOFF_MAX_NS = 300 * NS_PER_S
# moby restartmanager: defaultTimeout, maxRestartTimeout, and the run that forgives
DOCKER_NS, DOCKER_MAX_NS, DOCKER_RUN_NS = 100 * NS_PER_MS, 60 * NS_PER_S, 10 * NS_PER_S


@rare
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


@rare
def docker_delay(k, main, now_ns):
    """Time until docker starts a container again that ended now [ns].

    Source: moby restartmanager, ShouldRestart(). Worked example: ends at once each time:
    100, 200, 400, ... 51200, 60000 ms; after a run of 10 s: 100 ms.
    """
    proc = k.proc[main]
    if now_ns - proc.start_ns >= DOCKER_RUN_NS:
        proc.backoff_ns = 0
    proc.backoff_ns = min(max(2 * proc.backoff_ns, DOCKER_NS), DOCKER_MAX_NS)
    return proc.backoff_ns


@rare
def systemd_delay(k, main, now_ns):
    """Time until systemd starts a unit again that ended now [ns]; -1: its start limit was hit.

    Source: systemd src/basic/ratelimit.c, ratelimit_below(), asked at each start.
    Worked example: RestartSec 100 ms, 5 starts in 10 s: a unit that ends at once starts at 0,
    0.1, 0.2, 0.3 and 0.4 s and then never again.
    """
    proc = k.proc[main]
    at = now_ns + proc.restart_sec_ns
    if proc.start_limit_ns == 0 or proc.start_limit_burst == 0:
        return proc.restart_sec_ns
    if proc.start_window_nr == 0:  # the first start
        proc.start_window_ns = proc.start_ns
        proc.start_window_nr = 1
    if proc.start_window_ns + proc.start_limit_ns < at:
        proc.start_window_ns = at
        proc.start_window_nr = 0
    if proc.start_window_nr >= proc.start_limit_burst:
        return -1
    proc.start_window_nr += 1
    return proc.restart_sec_ns


@rare
def _delay(k, main, now_ns):
    by = k.proc[main].restarts_by
    if by == BACKOFF_DOCKER:
        return docker_delay(k, main, now_ns)
    if by == BACKOFF_SYSTEMD:
        return systemd_delay(k, main, now_ns)
    return crash_loop_delay(k, main, now_ns)


@rare
def start_again(k, p, at_ns):
    """Process p is going to be born at ``at_ns``."""
    k.proc[p].state = PROC_UNBORN
    k.proc[p].restarting = 1
    for t in range(k.nr_tasks):
        if k.task[t].proc == p:
            k.task[t].state = TASK_UNBORN
            heap_set(k, t, at_ns)


@rare
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


@rare
def _is_empty(k, main):
    for p in range(k.nr_procs):
        if k.proc[p].container == main:
            if k.proc[p].state == PROC_LIVE or k.proc[p].state == PROC_EXITING:
                return False
    return True


@rare
def _is_populated(k, c):
    """Whether group c has a process (cgroup.events, populated)."""
    for p in range(k.nr_procs):
        if k.proc[p].memcg == c:
            if k.proc[p].state == PROC_LIVE or k.proc[p].state == PROC_EXITING:
                return True
    return False


@rare
def process_gone(k, fr, pt, p, now_ns):
    """Process p has ended and given back all it had: what becomes of its container.

    One that is through loses its group (the runtime removes it), whether it starts again or not.
    """
    proc = k.proc[p]
    if proc.asked_restart:
        proc.asked_restart = 0
        start_again(k, p, now_ns)
        return
    _next_life(k, p, now_ns)
    if k.memcg[proc.memcg].heir >= 0 and not _is_populated(k, proc.memcg):
        mem_cgroup_css_offline(k, fr, pt, proc.memcg)


@rare
def _next_life(k, p, now_ns):
    """What starts again after process p has ended, and when."""
    proc = k.proc[p]
    main = proc.container
    alone = k.proc[main].state != PROC_LIVE
    # one that a phase forked is started again by that alone; its container may wait for its end
    policy = k.proc[main].restart_policy if proc.by_fork and alone else proc.restart_policy
    if policy == RESTART_NEVER:
        return
    if not alone:
        if proc.victim and proc.restarts_by == BACKOFF_SYSTEMD:
            begin_exit(k, main, -SIGTERM, 0)  # DefaultOOMPolicy=stop
        elif proc.exit_code != 0:
            start_again(k, p, now_ns)
        return
    if p == main:
        _end_container(k, main)
    if not _is_empty(k, main) or k.proc[main].state == PROC_UNBORN:
        return
    if policy == RESTART_ALWAYS or k.proc[main].exit_code != 0:
        delay = _delay(k, main, now_ns)
        for q in range(k.nr_procs):
            if k.proc[q].container != main or delay < 0:
                continue
            if k.proc[q].by_fork:
                k.proc[q].state = PROC_UNBORN  # its parent forks it
            else:
                start_again(k, q, now_ns + delay + k.proc[q].start_offset_ns)
