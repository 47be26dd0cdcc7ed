"""Writes to cgroup files that do work of their own (mm/memcontrol.c, mm/memcontrol-v1.c).

    memory.max      -> set; reclaim what is above, 16 fruitless tries, then kill until under
    memory.high     -> set; reclaim what is above, at most 16 fruitless tries
    memory.reclaim  -> reclaim that much, or EAGAIN
    v1 limits       -> reclaim until the usage fits, then set; EBUSY when nothing is left
    nr_hugepages    -> a block of order 9 to the pool, or back, at a time (mm/hugetlb.c)
    oom_control 0   -> the paused tasks try again
    a signal        -> the processes begin to exit (not a file, but what agents do: kill(2))
    a begin         -> a container's processes start (a pod that a controller has made)

:func:`capplan.sim.changes.apply_change` puts a write into ``k.write``; the writer is an actor
like any other and does one reclaim (or one kill) a turn, with its time on a CPU. Reclaim for
a write is no memory stall (no psi_memstall_enter() around it).
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.events import memcg_event, record
from capplan.mm.hugetlb import nr_huge_pages, set_max_huge_pages
from capplan.mm.memcg import drain_all_stock
from capplan.mm.oom_kill import out_of_memory
from capplan.mm.reclaim import try_to_free_mem_cgroup_pages
from capplan.mm.state import (
    EV_OOM,
    KIND_WRITE_FAILED,
    NEVER_NS,
    NS_PER_MS,
    PROC_LIVE,
    PROC_UNBORN,
    RESTART_NEVER,
    TASK_OOM_WAIT,
    TASK_READY,
    WRITE_BEGIN,
    WRITE_EVICT,
    WRITE_HIGH,
    WRITE_HUGEPAGES,
    WRITE_MAX,
    WRITE_OOM_RECOVER,
    WRITE_RECLAIM,
    WRITE_REPLAN,
    WRITE_SIGKILL,
    WRITE_SIGTERM,
    WRITE_V1_LIMIT,
    WRITE_V1_MEMSW,
)
from capplan.sim.exit import begin_exit
from capplan.sim.heap import heap_remove, heap_set
from capplan.sim.ops import OP_TARGET
from capplan.sim.restart import start_again

__all__ = ["EAGAIN", "EBUSY", "EINVAL", "ENOMEM", "memcg_oom_recover", "write_due", "write_turn"]

EAGAIN, ENOMEM, EBUSY, EINVAL = 11, 12, 16, 22  # include/uapi/asm-generic/errno-base.h
SIGKILL, SIGTERM = 9, 15


@jit
def memcg_oom_recover(k, c):
    """Wake the tasks that wait for memory of group c, its ancestors or descendants.

    Kernel: memcg_oom_wake_function().
    """
    for t in range(k.nr_tasks):
        if k.task[t].state != TASK_OOM_WAIT:
            continue
        waits_for = k.task[t].wait_memcg
        below = c <= waits_for and waits_for < k.memcg[c].subtree_end
        if below or (waits_for <= c and c < k.memcg[waits_for].subtree_end):
            heap_set(k, t, k.now_ns)


@jit
def _replan(k, pg, c):
    """Growth that was going to be done at once, for no limit was near, is looked at anew."""
    for t in range(k.nr_tasks):
        task = k.task[t]
        if task.state != TASK_READY or task.pc >= task.pc_end:
            continue
        own = k.proc[task.proc].memcg
        if c <= own and own < k.memcg[c].subtree_end and pg[task.pc].op == OP_TARGET:
            if task.op_cursor == 2 and task.due_ns < NEVER_NS:
                task.op_cursor = 1
                heap_set(k, t, max(k.now_ns, min(task.busy_ns, task.due_ns)))


@jit
def _fail(k, write, errno):
    record(k, KIND_WRITE_FAILED, -1, write.memcg, errno, write.kind, write.value, write.done, 0, 0)
    return True


@jit
def _drain(k, write):
    """Give the stocks of the subtree back, once in each write; whether this was the time."""
    if write.drained:
        return False
    drain_all_stock(k, write.memcg)
    write.drained = 1
    return True


@jit
def _memory_max(k, fr, pt, write):
    """A turn of memory_max_write(): True when the write returns.

    Departs from the kernel: while a victim dies the kernel's loop spins, and counts an
    ``oom`` event each time round; here it looks four times a millisecond.
    """
    c = write.memcg
    above = k.memcg[c].memory.usage - write.value
    if above > 0 and _drain(k, write):
        above = k.memcg[c].memory.usage - write.value
    if above <= 0:
        return True
    if write.retries > 0:
        if try_to_free_mem_cgroup_pages(k, fr, pt, c, above, 1) == 0:
            write.retries -= 1
        return False
    memcg_event(k, c, EV_OOM)
    killed = k.nr_killed
    if not out_of_memory(k, c, -1):
        return True
    if k.nr_killed == killed:
        k.wait_ns += NS_PER_MS // 4
    return False


@jit
def _memory_high(k, fr, pt, write):
    """A turn of memory_high_write(): True when the write returns."""
    c = write.memcg
    above = k.memcg[c].memory.usage - write.value
    if above > 0 and _drain(k, write):
        above = k.memcg[c].memory.usage - write.value
    if above <= 0 or k.memcg[c].memory.high != write.value:
        return True
    if try_to_free_mem_cgroup_pages(k, fr, pt, c, above, 1) > 0:
        return False
    write.retries -= 1
    return write.retries < 0


@jit
def _memory_reclaim(k, fr, pt, write):
    """A turn of memory_reclaim(): True when the write returns.

    A quarter of what is left is asked for at a time (feature ``proactive_reclaim_shift``).
    """
    left = write.value - write.done
    if left <= 0:
        return True
    part = left >> k.proactive_reclaim_shift
    got = try_to_free_mem_cgroup_pages(k, fr, pt, write.memcg, part, 1)
    write.done += got
    if got > 0:
        return False
    write.retries -= 1
    if write.retries < 0:
        return _fail(k, write, EAGAIN)
    return False


@jit
def _resize_max(k, fr, pt, write):
    """A turn of mem_cgroup_resize_max() (v1): True when the write returns."""
    c = write.memcg
    memcg = k.memcg[c]
    memsw = write.kind == WRITE_V1_MEMSW
    if write.value < memcg.memory.max if memsw else write.value > memcg.memsw.max:
        return _fail(k, write, EINVAL)
    if (memcg.memsw.usage if memsw else memcg.memory.usage) > write.value:
        if _drain(k, write):
            return False
        if try_to_free_mem_cgroup_pages(k, fr, pt, c, 1, 0 if memsw else 1) == 0:
            return _fail(k, write, EBUSY)
        return False
    before = memcg.memsw.max if memsw else memcg.memory.max
    if memsw:
        memcg.memsw.max = write.value
    else:
        memcg.memory.max = write.value
    if write.value > before:
        memcg_oom_recover(k, c)
    return True


@jit
def _nr_hugepages(k, fr, pt, write):
    """A turn of hugetlb_sysctl_handler(): one huge page more or less; True when it returns.

    The kernel's write succeeds though the pool stays smaller; here that is told (ENOMEM).
    """
    k.nr_hugepages = write.value
    if set_max_huge_pages(k, fr, pt, write.value):
        return False
    write.done = nr_huge_pages(k)
    return True if write.done == write.value else _fail(k, write, ENOMEM)


@jit
def _sleeps_killable(k, p):
    """Whether all tasks of process p sleep where only SIGKILL wakes them (v1's OOM wait)."""
    for t in range(k.nr_tasks):
        if k.task[t].proc == p and k.task[t].state == TASK_READY:
            return False
    return k.task[k.proc[p].first_task].state == TASK_OOM_WAIT


@jit
def _is_meant(k, write, p):
    own = k.proc[p].memcg
    below = write.memcg <= own and own < k.memcg[write.memcg].subtree_end
    return p == write.value or (write.value < 0 and below)


@jit
def _signal(k, write):
    """kill(2) to process ``value``, or (-1) to all of the group and of the groups below it.

    Process 0 stands for the node's own daemons.
    """
    for p in range(1, k.nr_procs):
        if k.proc[p].state != PROC_LIVE or not _is_meant(k, write, p):
            continue
        if write.kind == WRITE_SIGKILL:
            begin_exit(k, p, -SIGKILL, int(k.cost.kill_delay_ns))
        elif not _sleeps_killable(k, p):
            begin_exit(k, p, -SIGTERM, int(k.cost.kill_delay_ns))


@jit
def _never_again(k, write):
    """The processes of the group are not started again; who waits for a start waits no more.

    Later lives of the container, which the timeline starts, are pods of their own: a process
    of one is meant only by its number (a pod that is not admitted).
    """
    for p in range(1, k.nr_procs):
        proc = k.proc[p]
        main = k.proc[proc.container]
        begun = main.state != PROC_UNBORN or main.restarting
        if not _is_meant(k, write, p) or (write.value < 0 and not begun):
            continue
        proc.restart_policy = RESTART_NEVER
        if proc.state == PROC_UNBORN:
            for t in range(k.nr_tasks):
                if k.task[t].proc == p:
                    heap_remove(k, t)


@jit
def _begin(k, write):
    """The container of main process ``value`` starts, as that of a new pod."""
    for p in range(1, k.nr_procs):
        proc = k.proc[p]
        if proc.container != write.value:
            continue
        first = proc.state == PROC_UNBORN and not proc.restarting
        if proc.by_fork:
            proc.state = PROC_UNBORN  # its parent forks it
            continue
        start_again(k, p, k.now_ns + proc.start_offset_ns)
        if first:
            proc.restarting = 0


@jit
def _turn(k, fr, pt, pg, write):
    kind = write.kind
    if kind == WRITE_MAX:
        return _memory_max(k, fr, pt, write)
    if kind == WRITE_HIGH:
        return _memory_high(k, fr, pt, write)
    if kind == WRITE_RECLAIM:
        return _memory_reclaim(k, fr, pt, write)
    if kind == WRITE_V1_LIMIT or kind == WRITE_V1_MEMSW:
        return _resize_max(k, fr, pt, write)
    if kind == WRITE_OOM_RECOVER:
        memcg_oom_recover(k, write.memcg)
    elif kind == WRITE_HUGEPAGES:
        return _nr_hugepages(k, fr, pt, write)
    elif kind == WRITE_EVICT:
        _never_again(k, write)
    elif kind == WRITE_BEGIN:
        _begin(k, write)
    elif kind == WRITE_SIGTERM or kind == WRITE_SIGKILL:
        _signal(k, write)
    return True


@jit
def write_due(k):
    """The write that is due next, the earliest of equals; sets ``k.write_due_ns``."""
    first = 0
    k.write_due_ns = NEVER_NS
    for w in range(k.nr_writes):
        if k.write[w].due_ns < k.write_due_ns:
            k.write_due_ns = k.write[w].due_ns
            first = w
    return first


@jit
def write_turn(k, fr, pt, pg, w):
    """One turn of write w; True when it has returned to its writer."""
    write = k.write[w]
    if not write.begun:
        write.begun = 1
        if write.kind <= WRITE_REPLAN:
            _replan(k, pg, write.memcg)
    return _turn(k, fr, pt, pg, write)
