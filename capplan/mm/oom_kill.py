"""The kill itself: who dies with the victim, and how its memory comes back (mm/oom_kill.c).

    SIGKILL -> the process unmaps in batches of up to 10,000 pages (mmu_gather)
            -> MMF_OOM_SKIP when all is unmapped, before the last batch is freed
    so a charge that comes between sees no victim in flight and still no room

The stepping loop runs the exit (sim/exit); here the victims are marked. While a victim is in
flight nobody else of its domain is killed.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.events import memcg_event, record
from capplan.mm.oom import (
    NO_VICTIM,
    VICTIM_IN_FLIGHT,
    constrained_totalpages,
    oom_badness,
    oom_group_root,
    oom_kill_eligible,
    select_bad_process,
)
from capplan.mm.state import (
    EV_OOM_GROUP_KILL,
    EV_OOM_KILL,
    KIND_OOM_KILL,
    KIND_OOM_NO_VICTIM,
    KIND_PANIC,
    PROC_LIVE,
    VM_OOM_KILL,
)

__all__ = ["oom_kill_process", "out_of_memory"]


@jit
def _kill_one(k, p, domain, points, totalpages):
    """Mark process p and tell (__oom_kill_process)."""
    proc = k.proc[p]
    proc.victim = 1
    proc.kill_ns = k.now_ns + int(k.work_ns + k.wait_ns)
    k.nr_killed += 1
    memcg_event(k, proc.memcg, EV_OOM_KILL)
    k.vmstat[VM_OOM_KILL] += 1
    record(k, KIND_OOM_KILL, p, domain, proc.rss_anon, proc.rss_file, proc.rss_shmem,
           proc.swapents, points, totalpages)  # fmt: skip


@jit
def oom_kill_process(k, victim, domain):
    """Kill the victim and, where oom.group says so, everything in its group."""
    totalpages = constrained_totalpages(k, domain)
    group = -1
    if not k.cgroup_v1:
        group = oom_group_root(k, k.proc[victim].memcg, domain)
    _kill_one(k, victim, domain, oom_badness(k, victim, totalpages), totalpages)
    if group < 0:
        return
    memcg_event(k, group, EV_OOM_GROUP_KILL)
    for p in range(k.nr_procs):
        if p != victim and k.proc[p].state == PROC_LIVE and not k.proc[p].victim:
            if oom_kill_eligible(k, p, group):
                _kill_one(k, p, domain, oom_badness(k, p, totalpages), totalpages)


@jit
def out_of_memory(k, domain, p_current):
    """Pick and kill (out_of_memory): True when somebody was killed or is dying.

    domain : memcg index, or -1 when the node is out of memory. A node with nobody left to
    kill panics; a memcg without a victim returns False, and its charge fails.
    """
    k.work_ns += k.cost.oom_ns
    if p_current >= 0 and k.proc[p_current].victim:
        return True
    if domain < 0:
        if k.panic_on_oom:
            k.panicked = 1
            record(k, KIND_PANIC, p_current, 0, 0, 0, 0, 0, 0, 0)
            return True
        if (
            k.oom_kill_allocating_task
            and p_current >= 0
            and k.proc[p_current].oom_score_adj > -1000
        ):
            oom_kill_process(k, p_current, domain)
            return True
    chosen = select_bad_process(k, domain)
    if chosen == VICTIM_IN_FLIGHT:
        return True
    if chosen == NO_VICTIM:
        record(k, KIND_OOM_NO_VICTIM, p_current, max(domain, 0), 0, 0, 0, 0, 0, 0)
        if domain < 0:
            k.panicked = 1
            record(k, KIND_PANIC, p_current, 0, 0, 0, 0, 0, 0, 0)
        return False
    oom_kill_process(k, chosen, domain)
    return True
