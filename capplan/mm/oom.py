"""The OOM killer's choice: badness, selection, and how far a kill reaches.

::

    points = rss + swapents + pgtables + oom_score_adj * (totalpages // 1000)
    victim = the eligible process with the most points; ties go to the later one
    a victim still in flight ends the search: nobody else is killed meanwhile

Releases differ by features in ``k``: ``root_bonus``, ``badness_clamped`` (before 5.9),
``oom_ties_to_first`` (before 5.3) and ``badness_per_mille`` (RHEL 6).
The kill itself (signal, exit, reaper) is the stepping loop's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from capplan.mm._jit import rare
from capplan.mm.cpuset import node_present_pages
from capplan.mm.mempolicy import mempolicy_in_oom_domain
from capplan.mm.state import PROC_EXITING, PROC_LIVE

__all__ = [
    "LONG_MIN",
    "NO_VICTIM",
    "VICTIM_IN_FLIGHT",
    "Candidate",
    "beats",
    "constrained_totalpages",
    "in_domain",
    "mem_cgroup_get_max",
    "oom_badness",
    "oom_group_root",
    "oom_kill_eligible",
    "oom_scores",
    "proc_oom_score",
    "rank",
    "select_bad_process",
]

LONG_MIN = -(1 << 63)
OOM_SCORE_ADJ_MIN = -1000  # include/uapi/linux/oom.h
NO_VICTIM, VICTIM_IN_FLIGHT = -1, -2
PID_INIT = 1

# k.root_bonus: how CAP_SYS_ADMIN was favoured
ROOT_BONUS_NONE, ROOT_BONUS_OF_POINTS, ROOT_BONUS_OF_TOTAL = 0, 1, 2


@rare
def oom_badness(k: Any, p: int, totalpages: int) -> int:
    """Points of one process: what its death would free, shifted by oom_score_adj.

    Parameters
    ----------
    k : kernel_t
        Read: ``proc``, features.
    p : int
        Index of the process.
    totalpages : int
        What oom_score_adj is a per mille of. [pages]

    Returns
    -------
    int
        Points, LONG_MIN if the process cannot be killed. [pages]

    Kernel
    ------
    mm/oom_kill.c, oom_badness(). ``root_bonus`` 1: tasks with CAP_SYS_ADMIN are spared 3 % of
    their points (3.14 to 4.16 and RHEL 7), 2: 30 of their oom_score_adj (before).
    ``badness_clamped``: an eligible task has at least 1 point (before 5.9), so ones that were
    adjusted below are told apart no more. ``badness_per_mille``: points are whole thousandths
    of totalpages, at most 1000 (RHEL 6).

    Departs from the kernel
    -----------------------
    No vfork, no kernel threads among the processes. A process that exits has no mm.

    Worked example
    --------------
    totalpages 4081408, rss 500000, page tables 4 MiB, adj 0: 501024 points; rss 100,
    adj 1000: 4081100; rss 2000000, page tables 8 MiB, adj -997: -2066709.
    """
    proc = k.proc[p]
    adj = int(proc.oom_score_adj)
    unkillable = proc.state != PROC_LIVE or proc.pid == PID_INIT or proc.oom_skip != 0
    if unkillable or adj == OOM_SCORE_ADJ_MIN:
        return LONG_MIN
    points = int(proc.rss_anon + proc.rss_file + proc.rss_shmem + proc.swapents + proc.pgtables)
    if proc.cap_sys_admin != 0:
        if k.root_bonus == ROOT_BONUS_OF_POINTS:
            points -= points * 3 // 100
        elif k.root_bonus == ROOT_BONUS_OF_TOTAL:
            adj -= 30
    if k.badness_per_mille != 0:
        points = min(points * 1000 // totalpages + adj, 1000)
    else:
        points += adj * (totalpages // 1000)
    if k.badness_clamped != 0 and points < 1:
        return 1
    return points


@rare
def mem_cgroup_get_max(k: Any, c: int) -> int:
    """Most memory and swap that a memcg may use [pages].

    Kernel
    ------
    mm/memcontrol.c, mem_cgroup_get_max(), mem_cgroup_swappiness(): v2 has no swappiness of
    its own, v1's root neither.

    Worked example
    --------------
    v2, memory.max 512 MiB, memory.swap.max "max", 1 GiB of swap: 393216; without swap 131072.
    """
    memcg = k.memcg[c]
    limit = int(memcg.memory.max)
    swappiness = int(k.swappiness)
    if k.cgroup_v1 != 0 and memcg.parent >= 0:
        swappiness = int(memcg.swappiness)
    if swappiness == 0:
        return limit
    if k.cgroup_v1 != 0:
        return limit + min(int(memcg.memsw.max) - limit, int(k.totalswap))
    return limit + min(int(memcg.swap.max), int(k.totalswap))


@rare
def constrained_totalpages(k: Any, domain: int) -> int:
    """What the points are measured against: of a memcg, or of the machine (domain -1) [pages].

    Kernel
    ------
    mm/oom_kill.c, constrained_alloc(). Of an allocation that a cpuset or a policy binds to the
    nodes of ``k.oom_nodes`` (CONSTRAINT_CPUSET, CONSTRAINT_MEMORY_POLICY) it is their present,
    not managed, pages and all swap.
    """
    if domain < 0 and k.oom_nodes:
        total = int(k.totalswap)
        for n in range(k.nr_nodes):
            if k.oom_nodes >> n & 1:
                total += node_present_pages(k, n)
        return total
    if domain < 0:
        return int(k.totalram) + int(k.totalswap)
    return max(mem_cgroup_get_max(k, domain), 1)


@rare
def in_domain(k: Any, p: int, domain: int) -> bool:
    """Whether process p lives in the group or below it; -1 is the machine.

    A process that may use none of the nodes that ran out (``k.oom_nodes``) is not in the domain:
    by its policy where a policy bound who asked, else by its cpuset (oom_cpuset_eligible).
    """
    c = int(k.proc[p].memcg)
    if domain < 0 and k.oom_mpol:
        return bool(mempolicy_in_oom_domain(k, p, k.oom_nodes))
    if domain < 0:
        return bool(k.oom_nodes == 0 or k.memcg[c].mems_allowed & k.oom_nodes != 0)
    return domain <= c and c < int(k.memcg[domain].subtree_end)


@rare
def beats(k: Any, p: int, points: int, chosen: int, chosen_points: int, in_memcg: bool) -> bool:
    """Whether p is preferred to the process chosen so far, whatever the order of the search."""
    if chosen < 0 or points != chosen_points:
        return chosen < 0 or points > chosen_points
    if in_memcg and k.proc[p].memcg != k.proc[chosen].memcg:
        later = int(k.proc[p].memcg) > int(k.proc[chosen].memcg)
    else:
        later = p > chosen
    if k.oom_ties_to_first != 0:
        return not later
    return later


@rare
def select_bad_process(k: Any, domain: int) -> int:
    """Index of the process to kill.

    Parameters
    ----------
    k : kernel_t
        Read: ``proc``, ``memcg``, features.
    domain : int
        The memcg at its limit; -1 when the node is out of memory.

    Returns
    -------
    int
        The process, NO_VICTIM (-1) when none can be killed, VICTIM_IN_FLIGHT (-2) when one
        was killed in this domain and is neither gone nor given up (oom_skip).

    Kernel
    ------
    mm/oom_kill.c, select_bad_process(), oom_evaluate_task(); mm/memcontrol.c,
    mem_cgroup_scan_tasks(). Global: processes as they were created; memcg: groups of the
    subtree in pre-order, processes within each as created. Of equals the last seen is
    chosen; the first where ``oom_ties_to_first`` (3.x compares with >, 3.14 to 5.2 keep a
    chosen thread group leader).

    Departs from the kernel
    -----------------------
    No oom_task_origin (swapoff, KSM).
    """
    totalpages = constrained_totalpages(k, domain)
    chosen = NO_VICTIM
    chosen_points = LONG_MIN
    for p in range(k.nr_procs):
        if not in_domain(k, p, domain):
            continue
        if k.proc[p].victim != 0 and k.proc[p].pid != PID_INIT:
            live = k.proc[p].state == PROC_LIVE or k.proc[p].state == PROC_EXITING
            if live and (k.proc[p].oom_skip == 0 or k.now_ns < k.proc[p].oom_skip_ns):
                return VICTIM_IN_FLIGHT
            continue
        points = oom_badness(k, p, totalpages)
        if points == LONG_MIN:
            continue
        if beats(k, p, points, chosen, chosen_points, domain >= 0):
            chosen = p
            chosen_points = points
    return chosen


@rare
def oom_group_root(k: Any, c: int, domain: int) -> int:
    """Memcg to be killed as a whole with a victim, -1 for the victim alone.

    Parameters
    ----------
    k : kernel_t
        Read: ``memcg``, ``cgroup_v1``.
    c : int
        The victim's memcg.
    domain : int
        The memcg at its limit; -1 when the node is out of memory.

    Kernel
    ------
    mm/memcontrol.c, mem_cgroup_get_oom_group(): the highest level with memory.oom.group = 1
    from the victim's memcg up to the domain; v2 only.
    """
    group = -1
    if k.cgroup_v1 != 0 or c < 0 or k.memcg[c].parent < 0:
        return group
    if domain >= 0 and not domain <= c < k.memcg[domain].subtree_end:
        return group
    while c >= 0:
        if k.memcg[c].oom_group != 0:
            group = c
        if c == domain:
            break
        c = int(k.memcg[c].parent)
    return group


@rare
def oom_kill_eligible(k: Any, p: int, group: int) -> bool:
    """Whether a process dies with its group (mm/oom_kill.c, oom_kill_memcg_member())."""
    proc = k.proc[p]
    killable = proc.oom_score_adj != OOM_SCORE_ADJ_MIN and proc.pid != PID_INIT
    return proc.state == PROC_LIVE and killable and in_domain(k, p, group)


@rare
def _oom_score_of(k: Any, points: int, totalpages: int) -> int:
    """/proc/PID/oom_score of a process with these points (C divides towards zero)."""
    if points == LONG_MIN:
        return 0
    if k.badness_per_mille != 0:
        return points
    if k.badness_clamped != 0:
        return points * 1000 // totalpages
    per_mille = points * 1000 // totalpages if points >= 0 else -(-points * 1000 // totalpages)
    score = (1000 + per_mille) * 2
    return score // 3 if score >= 0 else -(-score // 3)


@rare
def proc_oom_score(k: Any, p: int) -> int:
    """What /proc/PID/oom_score shows: points of the whole node's memory, 0 to 2000.

    Kernel
    ------
    fs/proc/base.c, proc_oom_score(): since 5.9 moved and scaled so that nothing is negative;
    with ``badness_clamped`` the per mille itself.

    Worked example
    --------------
    totalpages 4081408: 501024 points are 748, 4081100 are 1333 - 1 = 1332, -2066709 are 329.
    """
    totalpages = constrained_totalpages(k, -1)
    return _oom_score_of(k, oom_badness(k, p, totalpages), totalpages)


def oom_scores(k: Any) -> dict[int, int]:
    """/proc/PID/oom_score of every process that may be killed, by index.

    Parameters
    ----------
    k : kernel_t
        One record (``kernel[0]``).
    """
    # called from Python, as rank() is
    badness = getattr(oom_badness, "py_func", oom_badness)
    score = getattr(_oom_score_of, "py_func", _oom_score_of)
    totalpages = int(k.totalram) + int(k.totalswap)
    found = {p: badness(k, p, totalpages) for p in range(int(k.nr_procs))}
    return {p: score(k, pts, totalpages) for p, pts in found.items() if pts != LONG_MIN}


class Candidate(NamedTuple):
    """A process that could have been killed, and its points [pages]."""

    proc: int
    points: int
    totalpages: int


def rank(k: Any, domain: int, top: int = 5) -> list[Candidate]:
    """The processes the OOM killer would take, the likeliest first.

    Parameters
    ----------
    k : kernel_t
        One record (``kernel[0]``).
    domain : int
        A memcg, or -1 for the node.
    top : int, default 5
        How many.
    """
    # Called from Python: the uncompiled source of what the engine compiles.
    badness = getattr(oom_badness, "py_func", oom_badness)
    limit = getattr(mem_cgroup_get_max, "py_func", mem_cgroup_get_max)
    totalpages = int(k.totalram) + int(k.totalswap) if domain < 0 else max(limit(k, domain), 1)
    subtree = range(domain, int(k.memcg[domain].subtree_end)) if domain >= 0 else None
    found = []
    for p in range(int(k.nr_procs)):
        group = int(k.proc[p].memcg)
        points = badness(k, p, totalpages)
        if points == LONG_MIN or (subtree is not None and group not in subtree):
            continue
        order = (group if subtree is not None else 0, p)
        later = (-order[0], -order[1]) if k.oom_ties_to_first else order
        found.append((points, later, p))
    found.sort(reverse=True)
    return [Candidate(p, points, totalpages) for points, _, p in found[:top]]
