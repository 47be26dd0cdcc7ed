"""Pressure stall information (memory): shares of time lost, and their decaying averages.

::

    threads = min(nonidle, cpus)                      nonidle = running + stalled sleepers
    SOME    = min(stalled / threads, 1)
    FULL    = (threads - on_cpu) / threads            on_cpu: productive tasks that hold a CPU
    each 2 s + 1 jiffy:  avg = avg * E + percent * (1 - E)    fixed point, FSHIFT 11

A group is settled (time since the last change is booked under the old counts) and then
changed, at the begin and the end of each stall and nowhere else. So overlapping stalls need
no list of intervals: two tasks that stall together raise ``nr_memstall`` to two, and the
share of the time is taken from the counts. An interval whose end is already known is begun
now and ended when its task is resumed; the loop calls in order of time.

A stalled task counts in ``nr_memstall``; while it also uses a CPU (reclaim) it counts in
``nr_running`` and ``nr_memstall_running`` as well, asleep (throttle, I/O) in neither.
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import jit
from capplan.mm.state import NS_PER_S

__all__ = [
    "psi_memstall_enter",
    "psi_memstall_leave",
    "psi_percent",
    "psi_task_change",
    "psi_task_set",
    "psi_update_averages",
]

# include/linux/sched/loadavg.h; kernel/sched/psi.c EXP_10s, EXP_60s, EXP_300s
FSHIFT = 11
FIXED_1 = 1 << FSHIFT
EXP_10S, EXP_60S, EXP_300S = 1677, 1981, 2034


@jit
def calc_load(load: int, exp: int, active: int) -> int:
    """Decay an average by one step (include/linux/sched/loadavg.h)."""
    new = load * exp + active * (FIXED_1 - exp)
    if active >= load:
        new += FIXED_1 - 1
    return new >> FSHIFT


@jit
def fixed_power_int(x: int, n: int) -> int:
    """``x ** n`` in fixed point, each product rounded (kernel/sched/loadavg.c)."""
    result = FIXED_1
    half = 1 << (FSHIFT - 1)
    while n > 0:
        if n & 1:
            result = (result * x + half) >> FSHIFT
        n >>= 1
        x = (x * x + half) >> FSHIFT
    return result


@jit
def calc_avgs(avg: Any, missed_periods: int, time_ns: int, period_ns: int) -> None:
    """Decay three averages over idle periods, then sample one active period.

    Parameters
    ----------
    avg : (3,) int64
        Averages over 10, 60 and 300 s, changed in place. [percent << 11]
    missed_periods : int
        Whole periods without any activity before the sampled one.
    time_ns : int
        Stall time within the sampled period. [ns]
    period_ns : int
        Length of the sampled period. [ns]

    Kernel
    ------
    kernel/sched/psi.c, calc_avgs(). The percentage is an integer: stalls under 1 % of the
    period (20 ms) leave the averages alone, though not the totals.

    Worked example
    --------------
    From 0 with 100 %: 18.11, 3.27, 0.68 after one period; 95.01, 39.28, 9.78 after fifteen.
    """
    if missed_periods > 0:
        avg[0] = calc_load(avg[0], fixed_power_int(EXP_10S, missed_periods), 0)
        avg[1] = calc_load(avg[1], fixed_power_int(EXP_60S, missed_periods), 0)
        avg[2] = calc_load(avg[2], fixed_power_int(EXP_300S, missed_periods), 0)
    active = (time_ns * 100 // period_ns) << FSHIFT
    avg[0] = calc_load(avg[0], EXP_10S, active)
    avg[1] = calc_load(avg[1], EXP_60S, active)
    avg[2] = calc_load(avg[2], EXP_300S, active)


@jit
def _share_ns(delta_ns: int, part: int, whole: int) -> int:
    """``delta_ns * part / whole`` to the nearest nanosecond; halves go up."""
    return (2 * delta_ns * part + whole) // (2 * whole)


@jit
def _book(psi: Any, nr_cpus: int, now_ns: int) -> None:
    """Book the time since the last change under the present counts."""
    delta = now_ns - psi.last_ns
    if delta <= 0:
        return
    psi.last_ns = now_ns
    stalled = int(psi.nr_memstall)
    if stalled <= 0:
        return
    running = int(psi.nr_running)
    stalled_running = int(psi.nr_memstall_running)
    threads = min(running + stalled - stalled_running, nr_cpus)
    psi.some_ns += _share_ns(delta, min(stalled, threads), threads)
    # Productive tasks hold a CPU for their share of the time if more run than fit.
    productive = running - stalled_running
    if running <= nr_cpus:
        psi.full_ns += _share_ns(delta, threads - min(productive, threads), threads)
    else:
        psi.full_ns += _share_ns(delta, running - productive, running)


@jit
def _all_zero(psi: Any) -> bool:
    for i in range(3):
        if psi.avg_some[i] != 0 or psi.avg_full[i] != 0:
            return False
    return True


@jit
def _end_period(psi: Any, missed: int, period_ns: int) -> None:
    """Sample one period into the averages (update_averages())."""
    some = psi.some_ns - psi.period_some_ns
    full = psi.full_ns - psi.period_full_ns
    psi.period_some_ns = psi.some_ns
    psi.period_full_ns = psi.full_ns
    psi.period_ns += (missed + 1) * period_ns
    calc_avgs(psi.avg_some, missed, min(some, period_ns), period_ns)
    calc_avgs(psi.avg_full, missed, min(full, period_ns), period_ns)


@jit
def _settle(psi: Any, nr_cpus: int, hz: int, now_ns: int) -> None:
    """Book all time up to now, ending each averaging period on the way."""
    if now_ns - psi.period_ns <= 2 * NS_PER_S:  # less than a period, whatever hz is
        _book(psi, nr_cpus, now_ns)
        return
    period = (2 * hz + 1) * NS_PER_S // hz
    while now_ns - psi.period_ns >= period:
        _book(psi, nr_cpus, psi.period_ns + period)
        unsampled = psi.some_ns != psi.period_some_ns
        missed = 0
        if psi.nr_memstall <= 0 and not unsampled:
            whole = (now_ns - psi.period_ns) // period
            if _all_zero(psi):
                psi.period_ns += whole * period
                break
            # The kernel's clock stops while a group is idle and decays in one go; a busy
            # group takes each period on its own, which differs by rounding.
            if psi.nr_running <= 0:
                missed = whole - 1
        _end_period(psi, missed, period)
    _book(psi, nr_cpus, now_ns)


@jit
def psi_update_averages(k: Any, psi: Any, now_ns: int) -> None:
    """Bring totals and averages of one group up to now, for a reader.

    Parameters
    ----------
    k : kernel_t
        Read: ``nr_cpus``, ``hz``.
    psi : psi_t
        ``k.psi`` or ``k.memcg[c].psi``; changed in place.
    now_ns : int
        The reader's time; a time before the last change alters nothing. [ns]

    Kernel
    ------
    kernel/sched/psi.c, psi_show(), update_averages(). Period 2 * HZ + 1 jiffies (PSI_FREQ).

    Departs from the kernel
    -----------------------
    Periods of all groups begin at time 0 and end exactly on time; the kernel's begin when a
    group is made, and end when its delayed work runs.
    """
    _settle(psi, k.nr_cpus, k.hz, now_ns)


@jit
def _group_change(
    k: Any, psi: Any, now_ns: int, d_running: int, d_memstall: int, d_memstall_running: int
) -> None:
    _settle(psi, k.nr_cpus, k.hz, now_ns)
    psi.nr_running += d_running
    psi.nr_memstall += d_memstall
    psi.nr_memstall_running += d_memstall_running


@jit
def psi_task_change(
    k: Any, c: int, now_ns: int, d_running: int, d_memstall: int, d_memstall_running: int
) -> None:
    """Change the counts of a group, of its ancestors and of the system, from now on.

    Parameters
    ----------
    k : kernel_t
        Changed: ``psi`` (the root's) and ``memcg[].psi``. Read: ``nr_cpus``, ``hz``.
    c : int
        The task's memcg; 0 or -1 changes the system alone (kswapd).
    now_ns : int
        When. Calls come in order of time; one dated before the last change of a group takes
        effect at that change. [ns]
    d_running, d_memstall, d_memstall_running : int
        Differences: (1, 0, 0) a task starts to run, (0, 1, 1) it begins to reclaim,
        (-1, 1, 0) it begins to sleep in a stall, (-1, 0, -1) a reclaimer falls asleep.

    Kernel
    ------
    kernel/sched/psi.c, psi_task_change(), psi_group_change(), test_states(), record_times().

    Departs from the kernel
    -----------------------
    The kernel keeps counts per CPU and weighs the CPUs by their time that is not idle. Here
    stand the formulas of the comment at the head of psi.c for all CPUs together. Where more
    tasks run than there are CPUs, reclaimers hold their share of them, which the kernel counts
    as FULL (psi_group_change(): the task on the CPU is in memstall). Each booking is rounded
    to the nearest nanosecond.

    Worked example
    --------------
    4 CPUs, 4 tasks, 1 of them stalled for 1 s: SOME 0.25 s, FULL 0.25 s.
    """
    _group_change(k, k.psi, now_ns, d_running, d_memstall, d_memstall_running)
    while c > 0:  # memcg 0 is the root: k.psi is its group
        _group_change(k, k.memcg[c].psi, now_ns, d_running, d_memstall, d_memstall_running)
        c = int(k.memcg[c].parent)


@jit
def psi_task_set(k: Any, t: int, running: int, memstall: int, now_ns: int) -> None:
    """Say what task t is from now on; both: it reclaims on a CPU."""
    task = k.task[t]
    if task.psi_running == running and task.psi_memstall == memstall:
        return
    both = running * memstall - task.psi_running * task.psi_memstall
    c = k.proc[task.proc].memcg
    running_before, memstall_before = task.psi_running, task.psi_memstall
    task.psi_running = running
    task.psi_memstall = memstall
    psi_task_change(k, c, now_ns, running - running_before, memstall - memstall_before, both)


@jit
def psi_memstall_enter(k: Any, c: int, now_ns: int, asleep: bool) -> None:
    """Begin the stall of a task that was running: asleep (throttle, I/O) or on a CPU (reclaim).

    Kernel
    ------
    kernel/sched/psi.c, psi_memstall_enter(); asleep adds the sleep of psi_task_switch().
    """
    if asleep:
        psi_task_change(k, c, now_ns, -1, 1, 0)
    else:
        psi_task_change(k, c, now_ns, 0, 1, 1)


@jit
def psi_memstall_leave(k: Any, c: int, now_ns: int, asleep: bool) -> None:
    """End a stall begun by :func:`psi_memstall_enter`; the task runs on.

    ``asleep`` says in which of the two ways the task was stalled until now.
    """
    if asleep:
        psi_task_change(k, c, now_ns, 1, -1, 0)
    else:
        psi_task_change(k, c, now_ns, 0, -1, -1)


def psi_percent(avg: int) -> float:
    """An average as /proc/pressure/memory prints it: two digits, truncated.

    Kernel
    ------
    kernel/sched/psi.c, psi_show(): LOAD_INT, LOAD_FRAC.

    Worked example
    --------------
    37100 prints as 18.11.
    """
    return (avg >> FSHIFT) + (((avg & (FIXED_1 - 1)) * 100) >> FSHIFT) / 100
