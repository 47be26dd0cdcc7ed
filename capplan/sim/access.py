"""Accesses to what is already there, and the faults they cause.

While all of a mapping is resident its accesses cost nothing: the mapping's progress runs by
rate ("lazy"), and reclaim asks for it. With a page missing, they are played from the last
position to now: a cyclic pointer meets the next missing granule in order, random accesses
fault by the share that is missing.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.lruvec import progress_now
from capplan.mm.nonresident import ask_for_missing, missing_share, pick_missing
from capplan.mm.state import (
    ACCESS_CYCLIC,
    NS_PER_MS,
    NS_PER_S,
    PTE_COW,
    PTE_NONE,
    PTE_PRESENT,
)
from capplan.sim.fault import FAULT_OK, fault

__all__ = [
    "access_begin",
    "access_end",
    "access_play",
    "access_resume",
    "settle",
    "turn_is_over",
    "wake_accessors",
]

FAULTS_PER_TURN_PAGES = 64
LONGEST_TURN_NS = 50 * NS_PER_MS
# A coarse granule is one sample page for many: its faults are rarer, and so are the looks.
COARSE_GRANULE_PAGES = 4
LONGEST_COARSE_NS = 5 * NS_PER_S
SHORTEST_TURN_NS = NS_PER_MS
# A task that has spent so much lets the others act: kswapd, which it may have woken, first.
TURN_NS = NS_PER_MS


@jit
def turn_is_over(k):
    """Whether the actor has worked and waited for as long as a turn may last, or woke kswapd.

    Kernel: kernel/sched/fair.c, check_preempt_wakeup(): kswapd has slept and is behind, so it
    takes the CPU at once (or another one), and not when the task has had its time.
    """
    return k.need_resched != 0 or k.work_ns + k.wait_ns >= TURN_NS


@jit
def settle(k, m):
    """Bring the progress of mapping m up to now."""
    k.mapping[m].progress = progress_now(k, m)
    k.mapping[m].progress_ns = k.now_ns


@jit
def _go_lazy(k, t):
    task = k.task[t]
    m = k.vma[task.access_vma].mapping
    settle(k, m)
    k.mapping[m].rate += task.access_rate
    task.lazy = 1


@jit
def _leave_lazy(k, t):
    task = k.task[t]
    if not task.lazy:
        return
    m = k.vma[task.access_vma].mapping
    settle(k, m)
    k.mapping[m].rate = max(k.mapping[m].rate - task.access_rate, 0.0)
    task.lazy = 0
    task.access_ns = k.now_ns


@jit
def access_begin(k, t, v, pattern, rate):
    """Task t starts to access the whole mapping of vma v at ``rate`` [pages/s]."""
    task = k.task[t]
    m = k.vma[v].mapping
    task.access_vma = v
    task.access_rate = rate
    task.access_pattern = pattern
    task.access_credit = 0.0
    task.access_ns = k.now_ns
    settle(k, m)
    k.mapping[m].pattern = pattern
    task.next_on_mapping = k.mapping[m].first_task
    k.mapping[m].first_task = t
    if k.mapping[m].nonresident == 0:
        _go_lazy(k, t)


@jit
def access_end(k, t):
    """Task t stops accessing."""
    task = k.task[t]
    if task.access_vma < 0:
        return
    _leave_lazy(k, t)
    m = k.vma[task.access_vma].mapping
    at = k.mapping[m].first_task
    if at == t:
        k.mapping[m].first_task = task.next_on_mapping
    else:
        while at >= 0:
            after = k.task[at].next_on_mapping
            if after == t:
                k.task[at].next_on_mapping = task.next_on_mapping
                break
            at = after
    task.next_on_mapping = -1
    task.access_vma = -1
    task.access_rate = 0.0


@jit
def access_resume(k, t):
    """End the accesses of a touch op; the task's own, which rested meanwhile, go on."""
    task = k.task[t]
    access_end(k, t)
    if task.own_vma >= 0:
        access_begin(k, t, task.own_vma, task.own_pattern, task.own_rate)


@jit
def _play_cyclic(k, fr, pt, t, dp):
    """Move the pointer by up to dp pages, faulting what is missing: (pages moved, status)."""
    task = k.task[t]
    v = task.access_vma
    m = k.vma[v].mapping
    mapping = k.mapping[m]
    size = float(mapping.size_pages)
    moved = 0.0
    faulted = 0
    while moved < dp and faulted < FAULTS_PER_TURN_PAGES and not turn_is_over(k):
        if mapping.nonresident == 0:
            mapping.progress += dp - moved
            return dp, FAULT_OK
        position = mapping.progress % size
        index = min(int(position / k.granule_pages), mapping.used - 1)
        e = mapping.first_pte + index
        if pt[e].state != PTE_PRESENT and pt[e].state != PTE_NONE and pt[e].state != PTE_COW:
            nr = pt[e].nr_pages
            status = fault(k, fr, pt, t, v, e, nr, True)
            if status != FAULT_OK:
                return moved, status
            faulted += nr
        step = (index + 1) * k.granule_pages - position
        if step <= 0.0 or index == mapping.used - 1:
            step = max(size - position, 1e-6)
        step = min(step, dp - moved)
        mapping.progress += step
        moved += step
    return moved, FAULT_OK


@jit
def _play_random(k, fr, pt, t, dp):
    """Play dp random accesses: (accesses played, status). Fractions of a fault are carried."""
    task = k.task[t]
    v = task.access_vma
    m = k.vma[v].mapping
    mapping = k.mapping[m]
    share = missing_share(k, pt, m)
    task.access_credit += dp * share
    faulted = 0
    cut = False
    least = min(k.granule_pages, mapping.size_pages)
    while mapping.nonresident > 0 and task.access_credit >= least and not cut:
        e = pick_missing(k, pt, t, m)
        if e < 0:
            break
        nr = pt[e].nr_pages
        status = fault(k, fr, pt, t, v, e, nr, False)
        if status != FAULT_OK:
            mapping.progress += dp  # played; the fault that failed is still owed (credit)
            return dp, status
        task.access_credit -= nr
        faulted += nr
        cut = faulted >= FAULTS_PER_TURN_PAGES or turn_is_over(k)
    if cut and task.access_credit >= least and share > 0.0:
        # what is left over waits: those accesses have not happened yet
        left = min(task.access_credit / share, dp)
        task.access_credit -= left * share
        mapping.progress += dp - left
        return dp - left, FAULT_OK
    mapping.progress += dp
    return dp, FAULT_OK


@jit
def access_play(k, fr, pt, t):
    """Play the accesses of task t up to now: one of FAULT_*; task.next_ns is the next turn."""
    task = k.task[t]
    if task.access_vma < 0 or task.lazy:
        return FAULT_OK
    m = k.vma[task.access_vma].mapping
    mapping = k.mapping[m]
    dp = task.access_rate * (k.now_ns - task.access_ns) / NS_PER_S
    if mapping.size_pages <= 0 or dp <= 0.0 or mapping.used == 0:
        played, status = dp, FAULT_OK  # nothing there to be touched
    elif mapping.pattern == ACCESS_CYCLIC:
        played, status = _play_cyclic(k, fr, pt, t, dp)
    else:
        played, status = _play_random(k, fr, pt, t, dp)
    mapping.progress_ns = k.now_ns
    if dp > 0.0:
        task.access_ns += int((k.now_ns - task.access_ns) * (played / dp))
        k.work_ns += k.cost.touch_ns * played
    if status != FAULT_OK:
        return status
    if mapping.nonresident == 0 and played >= dp:
        _go_lazy(k, t)
        return FAULT_OK
    if played < dp:
        task.next_ns = k.now_ns
        return FAULT_OK
    rate = max(task.access_rate, 1e-9)
    if mapping.pattern != ACCESS_CYCLIC:
        # until the next granule is due at the present share, but not so long that it changes
        share = max(missing_share(k, pt, m), 1e-9)
        longest = 5.0 * LONGEST_TURN_NS * max(k.granule_pages / COARSE_GRANULE_PAGES, 1.0)
        missing = min(k.granule_pages, mapping.size_pages) - task.access_credit
        turn = missing / rate / share * NS_PER_S + 1.0
        longest = min(longest, 1.0 * LONGEST_COARSE_NS)
        if turn <= longest:  # then it faults, most likely
            ask_for_missing(k, pt, t, m)
        turn = min(turn, longest)
    else:
        turn = min(FAULTS_PER_TURN_PAGES / rate * NS_PER_S, 1.0 * LONGEST_TURN_NS)
    task.next_ns = min(task.next_ns, k.now_ns + int(max(turn, 1.0 * SHORTEST_TURN_NS)))
    return FAULT_OK


@jit
def wake_accessors(k, m):
    """Mapping m lost its first granule: its accessors play their accesses from now on."""
    settle(k, m)
    t = k.mapping[m].first_task
    while t >= 0:
        _leave_lazy(k, t)
        t = k.task[t].next_on_mapping
    k.mapping[m].rate = 0.0
    return k.mapping[m].first_task
