"""The stepping loop: who acts next, and what its action costs.

One turn of :func:`advance`: the next of tasks, kswapds and the flusher in order of time;
I/O that has ended is completed; the actor does one bounded piece of work; CPU time, waits and
stalls decide when it is due again. CPUs are servers: a piece of work takes the first CPU that
is free, so runnable tasks, kswapd and the flusher share them fairly.
"""

from __future__ import annotations

from capplan.mm._jit import entry, jit, rare
from capplan.mm.kcompactd import kcompactd_run, proactive_look
from capplan.mm.kswapd import kswapd_run
from capplan.mm.lruvec import draw_below
from capplan.mm.mempolicy import get_task_policy
from capplan.mm.page_io import complete_reads
from capplan.mm.pcp import decay_pcp_high, pcp_free_high_order
from capplan.mm.psi import psi_task_change, psi_task_set
from capplan.mm.state import (
    MAX_EVENTS,
    MAX_OOM_DUMPS,
    NEVER_NS,
    NS_PER_MS,
    NS_PER_S,
    PCP_CPUS,
    PROC_LIVE,
    TASK_DEAD,
    TASK_EXITING,
    TASK_OOM_WAIT,
    TASK_READY,
    TASK_UNBORN,
)
from capplan.mm.swap import complete_io
from capplan.mm.writeback import flusher_run
from capplan.mm.xarray import mem_cgroup_flush_stats
from capplan.mm.zswap_worker import zswap_worker
from capplan.sim.access import access_play, wake_accessors
from capplan.sim.birth import born
from capplan.sim.boot import boot, placed
from capplan.sim.exit import begin_exit, exit_run, last_reference
from capplan.sim.heap import heap_remove, heap_set
from capplan.sim.look import kubelet_look, sample_working_sets, worth_a_look
from capplan.sim.ops import (
    AGAIN,
    DONE,
    FAILED,
    LATER,
    OOM_WAIT,
    OP_EXIT,
    OP_RESTART,
    OP_TARGET,
    OP_WAIT,
    begin_op,
    run_op,
)
from capplan.sim.pause import enomem, leave_oom_wait, may_leave_oom_wait, oom_wait
from capplan.sim.restart import process_gone
from capplan.sim.sample import sample_row, settle_pressure
from capplan.sim.writes import write_due, write_turn

__all__ = ["advance"]

STOP_DONE, STOP_EVENTS_FULL, STOP_PANIC, STOP_SLICE, STOP_AGENT = 0, 1, 2, 3, 4
SIGKILL = 9
OPS_PER_TURN = 64
ACTOR_WRITER = -10  # who writes to cgroup files; -1 is the flusher, -2 - node a kswapd
ACTOR_RECORDER = -11  # who reads the counters at each sample
ACTOR_KCOMPACTD = -20  # less the node's number
STREAM_RECORDER = 1 << 41  # stream of draws, far from those of mappings
# How often a recorder's process does not wake on the CPU that it usually has, but on the next,
# and drives away who has that one: in 3 of 20 samples of global-adj-victim after the first kill
# (steps of one sample's growth in what per-cpu lists hold). Of 24 runs of a single task 14 took
# from the full lists at once, 9 after 0.8 to 5.5 s, one not within 13 s.
RECORDER_MOVES = 1 / 8


@jit
def _pick_cpu(k, preferred):
    """The CPU that the actor runs on: its last one if free, else the one that is free first."""
    if k.cpu_free_ns[preferred] <= k.now_ns:
        return preferred
    best = preferred
    for cpu in range(k.nr_cpus):
        if k.cpu_free_ns[cpu] < k.cpu_free_ns[best]:
            best = cpu
            if k.cpu_free_ns[cpu] <= k.now_ns:
                break
    return best


@jit
def _begin_actor(k, actor, preferred):
    k.actor, k.need_resched = actor, 0
    k.cpu = _pick_cpu(k, preferred if preferred < k.nr_cpus else preferred % k.nr_cpus)
    k.mems_allowed = k.memcg[k.proc[k.task[actor].proc].memcg].mems_allowed if actor >= 0 else -1
    if k.mempolicies:
        get_task_policy(k, actor)
    k.work_ns = k.wait_ns = 0.0
    k.memstall_ns = 0.0


@jit
def _end_actor(k):
    """Book the CPU time of the actor; when it is through with work and waits [ns]."""
    start = max(k.now_ns, k.cpu_free_ns[k.cpu])
    work = k.work_ns
    if k.cost.contention != 1.0:
        for cpu in range(k.nr_cpus):
            if cpu != k.cpu and k.cpu_free_ns[cpu] > k.now_ns:
                work *= k.cost.contention
                break
    k.cpu_free_ns[k.cpu] = start + int(work)
    k.cpu_actor[k.cpu] = k.actor
    return start + int(work + k.wait_ns)


@jit
def _nominal(op, task):
    """When the op should be over by its own measure [ns]."""
    if op.op == OP_TARGET or op.op == OP_WAIT:  # absolute; a later life's is due at its birth
        return max(op.t_ns, task.nominal_ns)
    span = op.t_ns
    if op.t_ns == 0 and op.rate > 0.0:
        span = int(op.pages / op.rate * NS_PER_S)
    return task.op_start_ns + span


@jit
def _run_program(k, fr, pt, pg, t):
    """Run the task's ops until one has to wait: the status of the last."""
    task = k.task[t]
    for _ in range(OPS_PER_TURN):
        if task.pc >= task.pc_end:
            return DONE
        op = pg[task.pc]
        if task.stage == 0:
            begin_op(k, t, op)
            task.stage = 1
        status = run_op(k, fr, pt, t, op)
        if status != DONE:
            return status
        due = _nominal(op, task)
        late = k.now_ns - due
        if late > task.late_max_ns and op.op != OP_EXIT:
            task.late_max_ns = late
        task.late_ns = max(late, 0)
        task.nominal_ns = due
        task.stage = 0
        if op.op == OP_EXIT or op.op == OP_RESTART:
            if op.op == OP_RESTART:
                k.proc[task.proc].asked_restart = 1
            begin_exit(k, task.proc, int(op.arg), 0)
            return LATER
        task.pc += 1
    task.next_ns = k.now_ns
    return LATER


@jit
def _task_turn(k, fr, pt, pg, t):
    """One turn of a live task."""
    task = k.task[t]
    waiting = task.state == TASK_OOM_WAIT
    if waiting:
        task.access_ns = k.now_ns  # it touched nothing meanwhile
        if not may_leave_oom_wait(k, t):
            oom_wait(k, t)
            return
    _begin_actor(k, t, k.task[t].wait)
    if k.cpu_lazy_mm[k.cpu % PCP_CPUS]:
        k.cpu_lazy_mm[k.cpu % PCP_CPUS] = 0
        pcp_free_high_order(k, fr, k.cpu % PCP_CPUS)
    task.next_ns = NEVER_NS
    k.work_ns = task.interrupt_ns
    task.interrupt_ns = 0.0
    status = _run_program(k, fr, pt, pg, t)
    if k.proc[task.proc].state != PROC_LIVE:
        return
    finished = status == DONE
    if status == DONE or status == LATER:
        played = access_play(k, fr, pt, t)
        if played != 0:
            status = OOM_WAIT if played == 3 else (FAILED if played == 2 else AGAIN)
    end = _end_actor(k)
    task.wait = k.cpu
    if status == OOM_WAIT:
        oom_wait(k, t)
        return
    if waiting:
        leave_oom_wait(k, t)
    if status == FAILED:
        end = enomem(k, t, end)
    _schedule(k, t, end, status, finished)


@jit
def _schedule(k, t, end, status, finished):
    """Set when the task is due again, and what it is meanwhile for PSI and the totals."""
    task = k.task[t]
    if k.memstall_ns > 0.0:
        task.stall_ns += int(k.memstall_ns)
        k.memcg[k.proc[task.proc].memcg].stall_ns += int(k.memstall_ns)
    task.io_ns += int(max(k.wait_ns - k.memstall_ns, 0.0))
    task.busy_ns = end
    due = end
    if status == DONE or status == LATER:
        due = max(end, task.next_ns)
    if k.memstall_ns > 0.0:
        # reclaim holds a CPU, a throttle or a read does not: what most of the turn was
        psi_task_set(k, t, 1 if k.work_ns > k.wait_ns else 0, 1, k.now_ns)
        task.stall_begin_ns = end
        due = max(min(due, end), k.now_ns + 1)
    else:
        psi_task_set(k, t, 0 if due > end else 1, 0, k.now_ns)
    if finished and task.next_ns >= NEVER_NS and k.memstall_ns == 0.0:
        if task.exit_at_end:
            begin_exit(k, task.proc, 0, 0)
            return
        heap_remove(k, t)
        return
    heap_set(k, t, max(due, k.now_ns + 1))


@rare
def _exit_turn(k, fr, pt, t):
    _begin_actor(k, t, k.task[t].wait)
    psi_task_set(k, t, 1, 0, k.now_ns)
    begin = max(k.now_ns, k.cpu_free_ns[k.cpu])
    gone, unmapped = exit_run(k, fr, pt, t)
    work = max(k.work_ns, 1.0)
    end = _end_actor(k)
    if unmapped >= 0.0:
        k.proc[k.task[t].proc].oom_skip_ns = begin + int((end - begin) * min(unmapped / work, 1.0))
    k.task[t].wait = k.cpu
    if gone:
        psi_task_set(k, t, 0, 0, k.now_ns)
        k.proc[k.task[t].proc].exit_cpu = k.cpu % PCP_CPUS
        last_reference(k, fr, t)
        process_gone(k, fr, pt, k.task[t].proc, end)
    else:
        heap_set(k, t, max(end, k.now_ns + 1))


@jit
def _reap_killed(k, seen):
    """Processes that the OOM killer marked since ``seen`` begin to exit."""
    if k.nr_killed == seen:
        return
    for p in range(k.nr_procs):
        if k.proc[p].victim and k.proc[p].state == PROC_LIVE:
            begin_exit(k, p, -SIGKILL, int(k.cost.kill_delay_ns))


@jit
def _wake_lost(k):
    """Mappings lost their first granule: their accessors play from now on."""
    if k.nr_lost > 256:
        for m in range(k.nr_mappings):
            _wake_mapping(k, m)
    else:
        for index in range(k.nr_lost):
            _wake_mapping(k, k.lost[index])
    k.nr_lost = 0


@jit
def _wake_mapping(k, m):
    t = wake_accessors(k, m)
    while t >= 0:
        task = k.task[t]
        at = max(k.now_ns + NS_PER_MS, task.busy_ns)  # what it works on or waits for goes first
        if task.state == TASK_READY and task.due_ns > at:
            heap_set(k, t, at)
        t = task.next_on_mapping


@jit
def _next_due(k):
    """(time, actor): a task's number, -2 - node for a kswapd, -1 the flusher, or the writer."""
    due = NEVER_NS
    actor = -100
    if k.heap_len > 0:
        actor = k.heap[0]
        due = k.heap_due[0]
    for n in range(k.nr_nodes):
        if k.node[n].kswapd_due_ns < due:
            due = k.node[n].kswapd_due_ns
            actor = -2 - n
        if k.node[n].kcompactd_due_ns < due:
            due = k.node[n].kcompactd_due_ns
            actor = ACTOR_KCOMPACTD - n
    if k.flusher_due_ns < due:
        due = k.flusher_due_ns
        actor = -1
    if k.write_due_ns < due:
        due = k.write_due_ns
        actor = ACTOR_WRITER
    return due, actor


@rare
def _writer_turn(k, fr, pt, pg):
    w = write_due(k)
    _begin_actor(k, ACTOR_WRITER, w)
    over = write_turn(k, fr, pt, pg, w)
    end = _end_actor(k)
    k.write[w].due_ns = NEVER_NS if over else max(end, k.now_ns + 1)
    write_due(k)


@jit
def _kswapd_turn(k, fr, pt, n):
    _begin_actor(k, -2 - n, k.nr_cpus - 1)
    kswapd_run(k, fr, pt, n)
    end = _end_actor(k)
    running = 1 if k.node[n].kswapd_awake == 1 else 0
    if running != k.node[n].kswapd_psi:  # a task in memstall, of the system's group alone
        change = running - k.node[n].kswapd_psi
        psi_task_change(k, -1, k.now_ns, change, change, change)
        k.node[n].kswapd_psi = running
    if k.node[n].kswapd_due_ns < NEVER_NS:
        nap = k.node[n].kswapd_awake == 2
        k.node[n].kswapd_due_ns = max(end + (100 * NS_PER_MS if nap else 0), k.now_ns + 1000)


@rare
def _kcompactd_turn(k, fr, pt, n):
    _begin_actor(k, ACTOR_KCOMPACTD - n, k.nr_cpus - 1)
    kcompactd_run(k, fr, pt, n)
    end = _end_actor(k)
    node = k.node[n]
    awake = node.kcompactd_due_ns < NEVER_NS
    stalled = 1 if awake and not node.kcompactd_proactive else 0
    if stalled != node.kcompactd_psi:  # psi_memstall_enter() around kcompactd_do_work() alone
        change = stalled - node.kcompactd_psi
        psi_task_change(k, -1, k.now_ns, change, change, change)
        node.kcompactd_psi = stalled
    if awake:
        node.kcompactd_due_ns = max(end, k.now_ns + 1000)


@rare
def _zswap_worker(k, fr, pt):
    share_ns = k.zswap_rejected_ns - k.zswap_woken_ns
    _begin_actor(k, -1, 0)
    zswap_worker(k, fr, pt, share_ns)
    _end_actor(k)


@jit
def _vmstat_update(k, fr):
    """The per-cpu vmstat workers, once a second (vm.stat_interval)."""
    while k.vmstat_due_ns <= k.now_ns:
        k.vmstat_due_ns += NS_PER_S
        if not decay_pcp_high(k, fr):
            k.vmstat_due_ns = k.now_ns + NS_PER_S


@jit
def _let_pass(k, fr, until_ns):
    """Nobody acts before ``until_ns``: it is that late now."""
    k.now_ns = until_ns
    complete_io(k, fr, until_ns)
    if k.pcp_auto and k.vmstat_due_ns <= until_ns:
        _vmstat_update(k, fr)
    if k.proactive_due_ns <= until_ns:
        proactive_look(k)


@jit
def _recorder_turn(k):
    """Reading the kernel's files keeps a CPU busy; who wakes meanwhile takes another.

    Kernel: kernel/sched/fair.c, select_idle_sibling(): the last CPU if idle, else an idle one.
    """
    if k.cost.sample_ns <= 0.0:
        return
    moved = draw_below(k, STREAM_RECORDER, 0, k.log_row, RECORDER_MOVES)
    _begin_actor(k, ACTOR_RECORDER, 1 if moved else 0)
    k.work_ns = k.cost.sample_ns
    mem_cgroup_flush_stats(k)
    _end_actor(k)


@rare
def _sample(k, log):
    settle_pressure(k)
    sample_row(k, log)
    _recorder_turn(k)
    k.sample_due_ns += k.sample_ns


@jit
def _next_tick(k):
    return min(k.sample_due_ns, min(k.stats_due_ns, k.look_due_ns))


@jit
def _clocks(k, fr, log, due, until_ns):
    """Samples and looks that come before the next actor's turn: whether a look found something."""
    while True:
        tick = _next_tick(k)
        if tick >= until_ns or due < tick or k.proactive_woken:
            return False
        _let_pass(k, fr, tick)
        if tick == k.sample_due_ns:
            _sample(k, log)
        elif tick == k.stats_due_ns:
            sample_working_sets(k)
        elif kubelet_look(k):
            return True


@jit
def _act(k, fr, pt, pg, actor):
    """The actor's turn, and what follows from it at once: exits of the killed, wake-ups."""
    killed = k.nr_killed
    if actor >= 0:
        state = k.task[actor].state
        if state == TASK_UNBORN:
            born(k, fr, pt, pg, actor)
        if state == TASK_EXITING:
            _exit_turn(k, fr, pt, actor)
        elif state == TASK_DEAD:
            last_reference(k, fr, actor)
        else:
            _task_turn(k, fr, pt, pg, actor)
    elif actor == -1:
        _begin_actor(k, -1, 0)
        flusher_run(k, fr, pt)
        _end_actor(k)
    elif actor == ACTOR_WRITER:
        _writer_turn(k, fr, pt, pg)
    elif actor <= ACTOR_KCOMPACTD:
        _kcompactd_turn(k, fr, pt, ACTOR_KCOMPACTD - actor)
    else:
        _kswapd_turn(k, fr, pt, -2 - actor)
    _reap_killed(k, killed)
    if k.nr_lost:
        _wake_lost(k)
    if k.zswap_shrink_pending:
        _zswap_worker(k, fr, pt)


@entry
def advance(kernel, fr, pt, pg, log, until_ns, max_turns):
    """Run until ``until_ns``, taking the samples before it; why it stopped: STOP_*.

    Parameters
    ----------
    kernel : (1,) kernel_t; fr : (F,) frame_t; pt : (E,) entry_t; pg : (P,) op_t
    log : int64, rows of samples
    until_ns : run time to stop at [ns]
    max_turns : turns after which the caller gets a look in (progress, Ctrl-C); 0: take one
        sample now, whatever stands at ``k.sample_due_ns``

    Returns STOP_DONE (until_ns reached), STOP_EVENTS_FULL (read k.event, reset nr_events),
    STOP_PANIC (nothing left to kill), STOP_SLICE, STOP_AGENT (what an agent waits for
    has come: ``k.watch``, ``k.look_least``). Re-entrant: call again to go on.
    """
    k = kernel[0]
    if not k.booted:
        boot(k, fr, pt)
    if max_turns == 0:
        _sample(k, log)
        return STOP_SLICE
    turns = 0
    while True:
        due, actor = _next_due(k)
        if k.booted == 1 and due > 0:
            placed(k, fr, pt)
        if due >= _next_tick(k) and _clocks(k, fr, log, due, until_ns):
            return STOP_AGENT
        if k.proactive_woken:
            k.proactive_woken = 0
            continue
        if due >= until_ns:
            _let_pass(k, fr, until_ns)
            settle_pressure(k)
            return STOP_DONE
        if k.nr_events > MAX_EVENTS - 256 or k.nr_oom_dumps >= MAX_OOM_DUMPS - 8:
            return STOP_EVENTS_FULL
        if turns >= max_turns:
            return STOP_SLICE
        turns += 1
        k.steps += 1
        _let_pass(k, fr, max(due, k.now_ns))
        if k.nr_reads:
            complete_reads(k, fr, pt, k.now_ns)
        _act(k, fr, pt, pg, actor)
        if k.panicked:
            return STOP_PANIC
        if k.watch and worth_a_look(k):
            return STOP_AGENT
