"""Which memory nodes an allocation may use, and which it asks first (kernel/cgroup/cpuset.c).

    local node   that of the CPU the task runs on; then the others (zonelist)
    cpuset.mems  user memory comes from the nodes that the task's group may use, nothing else
    OOM          when those are full, the domain is they: CONSTRAINT_CPUSET

Memory that the kernel takes for itself (page tables, pools) is not bound: it lacks __GFP_HARDWALL.
A memory policy narrows both further (``mempolicy``).

Departs from the kernel: CPUs belong to nodes in blocks of equal size, node 0 first. Pages stay
where they are when ``cpuset.mems`` is written (v2 moves them). A victim that exits does not
allocate here.
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import jit
from capplan.mm.state import ZONES_PER_NODE

__all__ = [
    "all_nodes",
    "constrained_nodes",
    "node_allowed",
    "node_present_pages",
    "numa_node_id",
    "preferred_node",
]


@jit
def numa_node_id(k: Any) -> int:
    """Node of the CPU that the actor runs on.

    Worked example: 8 CPUs on 2 nodes: 0 to 3 are node 0's, 4 to 7 node 1's.
    """
    if k.nr_nodes == 1:
        return 0
    return k.cpu * k.nr_nodes // k.nr_cpus  # type: ignore[no-any-return]


@jit
def node_allowed(k: Any, n: int) -> bool:
    """Whether the actor may take user memory from node n (__cpuset_zone_allowed)."""
    return k.mems_allowed >> n & 1 == 1  # type: ignore[no-any-return]


@jit
def preferred_node(k: Any) -> int:
    """Node of the first zone of the actor's zonelist that it may use.

    Worked example: on CPU 0 of node 0 with cpuset.mems 1: node 1.
    """
    local = numa_node_id(k)
    if node_allowed(k, local):
        return local
    for n in range(k.nr_nodes):
        if node_allowed(k, n):
            return n
    return local


@jit
def all_nodes(k: Any) -> int:
    """The nodes with memory, as a mask (node_states[N_MEMORY])."""
    mask = 0
    for n in range(k.nr_nodes):
        if node_present_pages(k, n) > 0:
            mask |= 1 << n
    return mask


@jit
def constrained_nodes(k: Any, c: int) -> int:
    """Mask of the nodes that group c is bound to; 0 when it may use all (constrained_alloc)."""
    mask = all_nodes(k)
    bound = k.memcg[c].mems_allowed & mask
    return 0 if bound == mask else bound


@jit
def node_present_pages(k: Any, n: int) -> int:
    """Pages of node n that are there, reserved ones as well (node_present_pages)."""
    total = 0
    for z in range(n * ZONES_PER_NODE, (n + 1) * ZONES_PER_NODE):
        total += k.zone[z].present
    return total
