"""Hierarchical page counters and their protection (mm/page_counter.c, mm/memcontrol.c).

    charge(c, n):  for level in c..root: usage += n; over max -> undo below, fail there
    protection:    emin, elow of a group from its parent's and its siblings' usage

The counters are fields of ``k.memcg[c]``; v2 charges ``memory`` (and ``swap`` for slots),
v1 ``memory`` and ``memsw``. The root group is never limited or charged.
"""

from __future__ import annotations

from capplan.mm._jit import jit

__all__ = [
    "calculate_protection",
    "charge_memory",
    "charge_memsw",
    "charge_swap",
    "try_charge_memory",
    "try_charge_memsw",
    "try_charge_swap",
    "uncharge_memory",
    "uncharge_memsw",
    "uncharge_swap",
]


@jit
def propagate_protected_usage(k, c):
    """Keep the parent's sum of protected usage (propagate_protected_usage)."""
    counter = k.memcg[c].memory
    parent = k.memcg[c].parent
    if parent < 0 or (counter.min == 0 and counter.low == 0 and counter.min_usage == 0
                      and counter.low_usage == 0):  # fmt: skip
        return
    above = k.memcg[parent].memory
    protected = min(counter.usage, counter.min)
    above.children_min_usage += protected - counter.min_usage
    counter.min_usage = protected
    protected = min(counter.usage, counter.low)
    above.children_low_usage += protected - counter.low_usage
    counter.low_usage = protected


@jit
def charge_memory(k, c, nr):
    """Charge without asking (page_counter_charge). nr [pages]"""
    while c > 0:
        memcg = k.memcg[c]
        counter = memcg.memory
        counter.usage += nr
        if counter.usage > counter.peak:
            counter.peak = counter.usage
        if counter.usage > memcg.usage_max:
            memcg.usage_max = counter.usage
        propagate_protected_usage(k, c)
        c = memcg.parent


@jit
def uncharge_memory(k, c, nr):
    """Give nr pages back at c and every ancestor (page_counter_uncharge)."""
    while c > 0:
        memcg = k.memcg[c]
        memcg.memory.usage -= nr
        if memcg.memory.usage < memcg.usage_min:
            memcg.usage_min = memcg.memory.usage
        propagate_protected_usage(k, c)
        c = memcg.parent


@jit
def try_charge_memory(k, c, nr):
    """Charge nr pages; the group over its limit, or -1 when all levels have room.

    Kernel: page_counter_try_charge(); a level fails when the new usage is above its max.
    Nothing is charged on failure, and that level's failcnt rises.
    """
    level = c
    while level > 0:
        counter = k.memcg[level].memory
        if counter.usage + nr > counter.max:
            counter.failcnt += 1
            return level
        level = k.memcg[level].parent
    charge_memory(k, c, nr)
    return -1


@jit
def _side_counter(k, c, memsw):
    """Group c's counter beside ``memory``: memory+swap (v1), or swap slots."""
    if memsw:
        return k.memcg[c].memsw
    return k.memcg[c].swap


@jit
def _charge(k, c, memsw, nr):
    while c > 0:
        counter = _side_counter(k, c, memsw)
        counter.usage += nr
        if counter.usage > counter.peak:
            counter.peak = counter.usage
        c = k.memcg[c].parent


@jit
def _uncharge(k, c, memsw, nr):
    while c > 0:
        _side_counter(k, c, memsw).usage -= nr
        c = k.memcg[c].parent


@jit
def _try_charge(k, c, memsw, nr):
    level = c
    while level > 0:
        counter = _side_counter(k, level, memsw)
        if counter.usage + nr > counter.max:
            counter.failcnt += 1
            return level
        level = k.memcg[level].parent
    _charge(k, c, memsw, nr)
    return -1


@jit
def charge_swap(k, c, nr):
    """Charge nr swap slots at c and every ancestor."""
    _charge(k, c, False, nr)


@jit
def uncharge_swap(k, c, nr):
    """Give nr swap slots back at c and every ancestor."""
    _uncharge(k, c, False, nr)


@jit
def try_charge_swap(k, c, nr):
    """Charge nr slots; the group over memory.swap.max, or -1."""
    return _try_charge(k, c, False, nr)


@jit
def charge_memsw(k, c, nr):
    """Charge nr pages of memory+swap (v1) at c and every ancestor."""
    _charge(k, c, True, nr)


@jit
def uncharge_memsw(k, c, nr):
    """Give nr pages of memory+swap (v1) back at c and every ancestor."""
    _uncharge(k, c, True, nr)


@jit
def try_charge_memsw(k, c, nr):
    """Charge nr pages of memory+swap (v1); the group over its limit, or -1."""
    return _try_charge(k, c, True, nr)


@jit
def effective_protection(usage, parent_usage, setting, parent_effective, siblings, recursive):
    """Protection that a group gets of its parent's (effective_protection). All [pages]

    Worked example: parent elow 524288; A low 262144 usage 524288, B low 524288 usage 393216:
    siblings 655360 > 524288, so A gets 262144 * 524288 // 655360 = 209715.
    """
    protected = min(usage, setting)
    if siblings > parent_effective:
        return protected * parent_effective // siblings
    if recursive and parent_effective > siblings and parent_usage > siblings and usage > protected:
        unclaimed = parent_effective - siblings
        return protected + unclaimed * (usage - protected) // (parent_usage - siblings)
    return protected


@jit
def calculate_protection(k, root, c):
    """Set emin and elow of group c for a reclaim of ``root`` (0: global), parents first.

    Kernel: page_counter_calculate_protection() / mem_cgroup_calculate_protection(). The
    reclaim root itself gets none; its direct children get what they declare.
    """
    counter = k.memcg[c].memory
    if c == root:
        counter.emin = 0
        counter.elow = 0
        return
    if counter.usage == 0:
        return
    parent = k.memcg[c].parent
    if parent == root:
        counter.emin = counter.min
        counter.elow = counter.low
        return
    above = k.memcg[parent].memory
    counter.emin = effective_protection(
        counter.usage, above.usage, counter.min, above.emin, above.children_min_usage,
        k.recursiveprot)  # fmt: skip
    counter.elow = effective_protection(
        counter.usage, above.usage, counter.low, above.elow, above.children_low_usage,
        k.recursiveprot)  # fmt: skip
