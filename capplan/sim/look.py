"""What the engine looks at for agents in user space, so that they need not stop it to look.

The kubelet's looks at its two signals, and cAdvisor's samples of all groups, are taken here at
their times; Python comes in when a signal is below its mark. Daemons that look several times
a second say what must come before a look can show anything (``k.watch``); that is asked after
each turn of an actor.
"""

from __future__ import annotations

from capplan.mm._jit import rare
from capplan.mm.state import (
    LRU_INACTIVE_FILE,
    NEVER_NS,
    WATCH_AVAILABLE,
    WATCH_STALL,
    WATCH_SWAP,
    WATCH_USAGE,
)
from capplan.mm.swap_map import nr_swap_pages

__all__ = ["kubelet_look", "sample_working_sets", "worth_a_look"]


@rare
def _inactive_file(k, first, end):
    """memory.stat's inactive_file of groups [first, end) [pages]."""
    pages = 0
    for c in range(first, end):
        for n in range(k.nr_nodes):
            pages += k.memcg[c].lruvec[n].pages[LRU_INACTIVE_FILE]
    return pages


@rare
def sample_working_sets(k):
    """cAdvisor's housekeeping: each group's usage less its inactive_file, at least 0."""
    k.stats_ns = k.now_ns
    k.stats_due_ns += k.stats_every_ns
    for c in range(1, k.nr_memcgs):
        memcg = k.memcg[c]
        memcg.working_set = max(memcg.memory.usage - _inactive_file(k, c, memcg.subtree_end), 0)


@rare
def kubelet_look(k):
    """One look of the kubelet: whether a signal is below its mark (it then wakes).

    memory.available: MemTotal less anon + file - inactive_file of the whole node;
    allocatableMemory.available: kubepods' limit less its working set.
    """
    k.looked_ns[1] = k.looked_ns[0]
    k.looked[1, 0] = k.looked[0, 0]
    k.looked[1, 1] = k.looked[0, 1]
    k.looked_ns[0] = k.now_ns
    k.look_due_ns += k.look_every_ns
    inactive = _inactive_file(k, 0, k.nr_memcgs)
    k.looked[0, 0] = k.totalram - max(k.nr_anon + k.nr_file - inactive, 0)
    low = k.looked[0, 0] < k.look_least
    if k.look_group >= 0:
        memcg = k.memcg[k.look_group]
        inactive = _inactive_file(k, k.look_group, memcg.subtree_end)
        k.looked[0, 1] = memcg.memory.max - max(memcg.memory.usage - inactive, 0)
        low = low or k.looked[0, 1] < k.look_group_least
    if low:
        k.look_due_ns = NEVER_NS
    return low


@rare
def _takeable(k):
    """Free pages and page cache: MemAvailable is at least this, less reserves and marks."""
    pages = k.nr_file - k.nr_shmem
    for z in range(k.nr_zones):
        pages += k.zone[z].free
    return pages


@rare
def worth_a_look(k):
    """Whether something has come that an agent waits for (k.watch).

    Usage has to pass its mark: who is told that it was reached looks a moment later, when it is
    above.
    """
    if k.watch & WATCH_STALL and k.psi.nr_memstall > 0:
        return True
    if k.watch & WATCH_USAGE and k.nr_file + k.nr_anon > k.watch_usage:
        return True
    if k.watch & WATCH_SWAP and nr_swap_pages(k) < k.watch_swap:
        return True
    return k.watch & WATCH_AVAILABLE != 0 and _takeable(k) < k.watch_available
