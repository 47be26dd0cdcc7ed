"""NUMA memory policies: where a task's memory comes from, as numactl(8) sets it (mm/mempolicy.c).

    default, local       the node of the CPU that asks, then the others
    bind                  the nodes of the mask and no other; full: CONSTRAINT_MEMORY_POLICY
    preferred             its node, then the others as that node's zonelist has them
    preferred-many        the nodes of the mask to MIN without direct reclaim, then all
    interleave            a page of each node in turn; where one is full, as its zonelist goes on
    weighted-interleave   the same, as many pages of each as it weighs

Whose turn it is: the address decides for anonymous memory and shmem, swapped in and copied on
write too (interleave_nid), and for a huge page that of the 2 MiB; the task's own count (il_prev)
for page cache and what the kernel takes in its name (interleave_nodes). So bind holds page tables
and slab as well, which cpuset.mems does not. A granule is of one node: as whole granules alternate,
nodes differ by a granule where the kernel's differ by a page.

Departs from the kernel: set for a process, at its begin (no mbind(2), no policy of a tmpfs mount
or file, no home node, no MPOL_F_STATIC_NODES). A page that is read ahead from swap goes by its own
address (6.1: by that of the missing one). Kernel memory under preferred-many begins with the first
of its nodes and then goes where there is room. No automatic weights (since 6.16).
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import jit, rare
from capplan.mm.cpuset import all_nodes, numa_node_id, preferred_node
from capplan.mm.lruvec import draw
from capplan.mm.state import (
    MAP_ANON,
    MAP_SHMEM,
    MPOL_BIND,
    MPOL_DEFAULT,
    MPOL_INTERLEAVE,
    MPOL_PREFERRED,
    MPOL_PREFERRED_MANY,
    MPOL_WEIGHTED_INTERLEAVE,
)

__all__ = [
    "alloc_node",
    "get_task_policy",
    "interleave_next",
    "kernel_node",
    "mempolicy_in_oom_domain",
    "oom_nodemask",
    "stays_on_node",
]

NO_INTERLEAVE_INDEX = -1
ORDINAL_ADDRESS = 1 << 40  # of draws: where a region begins (mmap_base() is random)


@rare
def get_task_policy(k: Any, actor: int) -> None:
    """Whoever acts now asks by its process's policy; below 0 (kswapd, ...) by the default."""
    k.mpol_mode = MPOL_DEFAULT
    k.nodemask = -1
    if actor < 0:
        return
    proc = k.proc[k.task[actor].proc]
    k.mpol_mode = proc.mpol_mode
    k.mpol_nodes = proc.mpol_nodes
    if k.mpol_mode == MPOL_BIND:
        k.nodemask = proc.mpol_nodes
        k.mems_allowed &= proc.mpol_nodes


@rare
def next_node_in(nodes: int, prev: int) -> int:
    """The node of a mask that follows ``prev``, its first after its last (next_node_in).

    Worked example
    --------------
    Nodes 0 and 2: after none (-1) 0, after 0 2, after 2 0 again.
    """
    n = prev + 1
    while nodes >> n:
        if nodes >> n & 1:
            return n
        n += 1
    n = 0
    while not nodes >> n & 1:
        n += 1
    return n


@rare
def _weight(k: Any, n: int) -> int:
    """Pages of node n in a row."""
    return k.node[n].il_weight if k.mpol_mode == MPOL_WEIGHTED_INTERLEAVE else 1


@rare
def interleave_nid(k: Any, ilx: int) -> int:
    """The node of page ``ilx`` of an address space (interleave_nid, weighted_interleave_nid).

    Worked example
    --------------
    Nodes 0 and 1 by turns: pages 0, 1, 2, 3 go to 0, 1, 0, 1; with weights 3 and 1 to 0, 0, 0, 1.
    """
    total = 0
    for n in range(k.nr_nodes):
        if k.mpol_nodes >> n & 1:
            total += _weight(k, n)
    target = ilx % total
    n = next_node_in(k.mpol_nodes, -1)
    while target >= _weight(k, n):
        target -= _weight(k, n)
        n = next_node_in(k.mpol_nodes, n)
    return n


@rare
def _turn(k: Any) -> int:
    """The node whose turn it is by the actor's count."""
    task = k.task[k.actor]
    if task.il_weight > 0:
        return task.il_prev  # type: ignore[no-any-return]
    return next_node_in(k.mpol_nodes, task.il_prev)


@rare
def interleave_nodes(k: Any) -> int:
    """The node whose turn it is, which is over (interleave_nodes, weighted_interleave_nodes)."""
    task = k.task[k.actor]
    n = _turn(k)
    if task.il_weight == 0:
        task.il_prev = n
        task.il_weight = _weight(k, n)
    task.il_weight -= 1
    return n


@jit
def _interleaves(k: Any) -> bool:
    return k.mpol_mode == MPOL_INTERLEAVE or k.mpol_mode == MPOL_WEIGHTED_INTERLEAVE  # type: ignore[no-any-return]


@rare
def _interleave_index(k: Any, m: int, e: int, shift: int) -> int:
    """Number of entry e's page (of 2^shift granules) in its address space, or of its file."""
    mapping = k.mapping[m]
    if mapping.kind != MAP_ANON and mapping.kind != MAP_SHMEM:
        return NO_INTERLEAVE_INDEX
    begin = draw(k, mapping.stream, 0, ORDINAL_ADDRESS)
    return begin + (e - mapping.first_pte >> shift)  # type: ignore[no-any-return]


@rare
def _policy_node(k: Any, ilx: int) -> int:
    if k.mpol_mode == MPOL_PREFERRED:
        return next_node_in(k.mpol_nodes, -1)
    if _interleaves(k):
        return _turn(k) if ilx == NO_INTERLEAVE_INDEX else interleave_nid(k, ilx)
    return preferred_node(k)


@jit
def alloc_node(k: Any, m: int, e: int, shift: int) -> int:
    """The node that is asked first for the page (of 2^shift granules) of mapping m from entry e on.

    Kernel
    ------
    mm/mempolicy.c, policy_nodemask(), policy_node().
    """
    if k.mpol_mode == MPOL_DEFAULT:
        return preferred_node(k)
    return _policy_node(k, _interleave_index(k, m, e, shift))


@jit
def interleave_next(k: Any, m: int) -> None:
    """A page of mapping m was had: if it was the turn of a node by count, that is over.

    The kernel counts as it asks, once; here an allocation that has to wait asks again.
    """
    if k.mpol_mode != MPOL_DEFAULT and _interleaves(k):
        if _interleave_index(k, m, 0, 0) == NO_INTERLEAVE_INDEX:
            interleave_nodes(k)


@rare
def stays_on_node(k: Any) -> bool:
    """Whether a huge page is first sought on its node alone (alloc_pages_mpol).

    Not under interleave, preferred-many, or where bind leaves the CPU's own node out.
    """
    if _interleaves(k) or k.mpol_mode == MPOL_PREFERRED_MANY:
        return False
    return k.nodemask >> numa_node_id(k) & 1 == 1  # type: ignore[no-any-return]


@jit
def kernel_node(k: Any) -> int:
    """The node that is asked first for a page of the kernel's own (alloc_pages)."""
    if k.mpol_mode == MPOL_DEFAULT:
        return numa_node_id(k)
    return interleave_nodes(k) if _interleaves(k) else _preferred_kernel_node(k)


@rare
def _preferred_kernel_node(k: Any) -> int:
    local = numa_node_id(k)
    if k.mpol_mode != MPOL_PREFERRED and k.mpol_nodes >> local & 1:
        return local
    return next_node_in(k.mpol_nodes, -1)


@rare
def oom_nodemask(k: Any, p: int) -> int:
    """The nodes that a policy binds process p to, as a mask; 0: to all, or none binds it.

    Kernel
    ------
    mm/oom_kill.c, constrained_alloc(): a nodemask that leaves out nodes with memory.
    """
    if k.proc[p].mpol_mode != MPOL_BIND:
        return 0
    everywhere = all_nodes(k)
    bound = k.proc[p].mpol_nodes & everywhere
    return 0 if bound == everywhere else bound


@rare
def mempolicy_in_oom_domain(k: Any, p: int, nodes: int) -> bool:
    """Whether process p may have memory of these nodes, by its policy.

    Who is not bound may have some of any node, and is killed for it though it has none.
    """
    return k.proc[p].mpol_mode != MPOL_BIND or k.proc[p].mpol_nodes & nodes != 0  # type: ignore[no-any-return]
