"""The kill itself: who dies with the victim, and how its memory comes back (mm/oom_kill.c).

    SIGKILL -> the process unmaps in batches of up to 10,000 pages (mmu_gather)
            -> MMF_OOM_SKIP when all is unmapped, before the last batch is freed
    so a charge that comes between sees no victim in flight and still no room

The stepping loop runs the exit (sim/exit); here the victims are marked. While a victim is in
flight nobody else of its domain is killed.
"""

from __future__ import annotations

from capplan.mm._jit import rare
from capplan.mm.cpuset import constrained_nodes
from capplan.mm.events import memcg_event, record
from capplan.mm.mempolicy import oom_nodemask
from capplan.mm.oom import (
    LONG_MIN,
    NO_VICTIM,
    VICTIM_IN_FLIGHT,
    beats,
    constrained_totalpages,
    in_domain,
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
    MAX_OOM_DUMPS,
    NS_PER_S,
    OOM_CANDIDATES,
    PROC_LIVE,
    VM_OOM_KILL,
)

__all__ = ["oom_kill_process", "out_of_memory"]

PANIC_ALWAYS = 2  # vm.panic_on_oom: 1 spares what a memcg, a cpuset or a policy ran out of


@rare
def _dump_candidates(k, domain, totalpages):
    """Keep the likeliest victims for the log: number of the list, or -1 when there is no room.

    Kernel: dump_tasks() lists all; here the first OOM_CANDIDATES, in the order of choice.
    """
    if k.nr_oom_dumps >= MAX_OOM_DUMPS:
        return -1
    dump = k.oom_dump[k.nr_oom_dumps]
    dump.nr = 0
    for p in range(k.nr_procs):
        if not in_domain(k, p, domain):
            continue
        points = oom_badness(k, p, totalpages)
        if points == LONG_MIN:
            continue
        at = dump.nr
        while at > 0:
            above = dump.candidate[at - 1]
            if not beats(k, p, points, above.proc, above.points, domain >= 0):
                break
            if at < OOM_CANDIDATES:
                _copy_candidate(dump.candidate[at], above)
            at -= 1
        if at < OOM_CANDIDATES:
            _note_candidate(k, dump.candidate[at], p, points)
            dump.nr = min(dump.nr + 1, OOM_CANDIDATES)
    k.nr_oom_dumps += 1
    return k.nr_oom_dumps - 1


@rare
def _copy_candidate(to, source):
    to.proc = source.proc
    to.points = source.points
    to.rss_anon = source.rss_anon
    to.rss_file = source.rss_file
    to.rss_shmem = source.rss_shmem
    to.swapents = source.swapents
    to.pgtables = source.pgtables


@rare
def _note_candidate(k, to, p, points):
    proc = k.proc[p]
    to.proc = p
    to.points = points
    to.rss_anon = proc.rss_anon
    to.rss_file = proc.rss_file
    to.rss_shmem = proc.rss_shmem
    to.swapents = proc.swapents
    to.pgtables = proc.pgtables


@rare
def _kill_one(k, p, domain, points, totalpages, dump, trigger):
    """Mark process p and tell (__oom_kill_process)."""
    proc = k.proc[p]
    proc.victim = 1
    proc.kill_ns = k.now_ns + int(k.work_ns + k.wait_ns)
    k.nr_killed += 1
    memcg_event(k, proc.memcg, EV_OOM_KILL)
    k.vmstat[VM_OOM_KILL] += 1
    told = k.nr_events
    record(k, KIND_OOM_KILL, p, domain, proc.rss_anon, proc.rss_file, proc.rss_shmem,
           proc.swapents, points, totalpages)  # fmt: skip
    if k.nr_events > told:
        k.event[told].pgtables = proc.pgtables
        k.event[told].dump = dump
        k.event[told].trigger = trigger
        k.event[told].nodes = k.oom_nodes
        k.event[told].oom_mpol = k.oom_mpol
        k.event[told].looked_ns = k.looked_ns[0]
        k.event[told].looked = k.looked[0, 0]


@rare
def oom_kill_process(k, victim, domain, trigger):
    """Kill the victim and, where oom.group says so, everything in its group.

    trigger : process whose allocation or charge failed; -1 when there is none
    """
    k.work_ns += k.cost.oom_ns  # dump_header() comes before the signal
    totalpages = constrained_totalpages(k, domain)
    group = -1
    if not k.cgroup_v1:
        group = oom_group_root(k, k.proc[victim].memcg, domain)
    dump = _dump_candidates(k, domain, totalpages)
    _kill_one(k, victim, domain, oom_badness(k, victim, totalpages), totalpages, dump, trigger)
    if group < 0:
        return
    memcg_event(k, group, EV_OOM_GROUP_KILL)
    for p in range(k.nr_procs):
        if p != victim and k.proc[p].state == PROC_LIVE and not k.proc[p].victim:
            if oom_kill_eligible(k, p, group):
                points = oom_badness(k, p, totalpages)
                _kill_one(k, p, domain, points, totalpages, dump, trigger)


@rare
def _tell_no_victim(k, c, p_current):
    """Record that nobody can be killed: at most once a second and group, repeats counted.

    Each page fault of a task that may not be killed runs into it again.
    """
    memcg = k.memcg[c]
    now = k.now_ns + int(k.work_ns + k.wait_ns)
    if now < memcg.no_victim_until_ns:
        memcg.no_victims += 1
        return
    record(k, KIND_OOM_NO_VICTIM, p_current, c, memcg.no_victims, 0, 0, 0, 0, 0)
    memcg.no_victim_until_ns = now + NS_PER_S
    memcg.no_victims = 0


@rare
def _out_of_memory(k, domain, p_current):
    """Pick and kill (out_of_memory): True when somebody was killed or is dying.

    domain : memcg index, or -1 when the node is out of memory. A node with nobody left to
    kill panics; a memcg without a victim returns False, and its charge fails. vm.panic_on_oom
    is asked first (check_panic_on_oom()), then, for the node alone, oom_kill_allocating_task;
    that one does not kill what select_bad_process() would not.
    """
    if p_current >= 0 and k.proc[p_current].victim:
        return True
    if k.panic_on_oom == PANIC_ALWAYS or (k.panic_on_oom and domain < 0 and not k.oom_nodes):
        k.panicked = 1
        record(k, KIND_PANIC, p_current, max(domain, 0), 0, 0, 0, 0, 0, 0)
        return True
    if domain < 0 and k.oom_kill_allocating_task and p_current >= 0:
        if oom_badness(k, p_current, constrained_totalpages(k, domain)) != LONG_MIN:
            oom_kill_process(k, p_current, domain, p_current)
            return True
    chosen = select_bad_process(k, domain)
    if chosen == VICTIM_IN_FLIGHT:
        return True
    if chosen == NO_VICTIM:
        _tell_no_victim(k, max(domain, 0), p_current)
        if domain < 0:
            k.panicked = 1
            record(k, KIND_PANIC, p_current, 0, 0, 0, 0, 0, 0, 0)
        return False
    oom_kill_process(k, chosen, domain, p_current)
    return True


@rare
def out_of_memory(k, domain, p_current):
    """Pick and kill (out_of_memory): True when somebody was killed or is dying.

    An allocation that a policy or a cpuset binds to some nodes (constrained_alloc()) reaches only
    processes that may use one of them. See :func:`_out_of_memory`.
    """
    k.oom_nodes = 0
    if domain < 0 and p_current >= 0:
        k.oom_nodes = oom_nodemask(k, p_current)
        k.oom_mpol = 1 if k.oom_nodes else 0
        if not k.oom_mpol:
            k.oom_nodes = constrained_nodes(k, k.proc[p_current].memcg)
    done = _out_of_memory(k, domain, p_current)
    k.oom_nodes = 0
    k.oom_mpol = 0
    return done
