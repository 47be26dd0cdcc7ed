"""A group that is removed while pages are still charged to it (mm/memcontrol.c).

    rmdir:  min and low are gone -> what was charged ahead goes back -> slab goes to the parent
    stays:  page cache, tmpfs, its swap and zswap: charged to the dead group, under its parent,
            until reclaim or truncation takes the last page

A container's group is removed when its last process has ended, and one that starts again gets a new
group: that begins empty, is not charged for the cache that it finds, and its limit does not cover
it; the parent's does. Reclaim goes on with dead groups, harder than with others: the classic LRU
takes at least 32 pages of each list, the multi-gen LRU all that is evictable.

Here all dead groups under one parent are one (``memcg.heir``, the parent's last child).

Departs from the kernel: shadows of pages that were evicted before go on counting for the group of
the same name; counters of events and faults go on too, and so does the peak.
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import rare
from capplan.mm.lru_gen_lists import gen_list_add, gen_list_del, lru_gen_update_size
from capplan.mm.lru_gen_memcg import lru_gen_offline_memcg, lru_gen_online_memcg
from capplan.mm.lruvec import lru_add, lru_del
from capplan.mm.memcg import drain_all_stock
from capplan.mm.page_counter import propagate_protected_usage, uncharge_memory
from capplan.mm.state import (
    MAX_NR_GENS,
    NR_LRU_LISTS,
    ST_KERNEL,
    ST_PGSCAN,
    ST_SLAB_RECLAIMABLE,
    ZONES_PER_NODE,
)
from capplan.mm.xarray import reparent_shadow_nodes
from capplan.mm.zswap_lru import zswap_lru_splice

__all__ = ["mem_cgroup_css_offline"]


@rare
def _reparent_slab(k: Any, pt: Any, c: int) -> None:
    """Dentries and inodes become the parent's (memcg_reparent_objcgs(), ..._list_lrus())."""
    memcg = k.memcg[c]
    reparent_shadow_nodes(k, pt, c)
    nr = memcg.stat[ST_SLAB_RECLAIMABLE]
    above = k.memcg[memcg.parent]
    above.slab_deferred += memcg.slab_deferred
    above.slab_once += memcg.slab_once
    memcg.slab_deferred = 0
    memcg.slab_once = 0
    memcg.stat[ST_SLAB_RECLAIMABLE] = 0
    memcg.stat[ST_KERNEL] -= nr
    memcg.memory.usage -= nr
    if k.cgroup_v1:
        memcg.memsw.usage -= nr
    if memcg.parent == 0:
        k.nr_slab_memcg -= nr
        return
    above.stat[ST_SLAB_RECLAIMABLE] += nr
    above.stat[ST_KERNEL] += nr


@rare
def _move_generations(k: Any, fr: Any, c: int, d: int, n: int) -> None:
    """Pages of the multi-gen LRU go to the generations of the same age."""
    lv, to = k.memcg[c].lruvec[n], k.memcg[d].lruvec[n]
    if k.memcg[d].memory.usage == 0:
        to.max_seq = lv.max_seq
        for t in range(2):
            to.min_seq[t] = lv.min_seq[t]
        for g in range(MAX_NR_GENS):
            to.gen_birth_ns[g] = lv.gen_birth_ns[g]
    for t in range(2):
        for age in range(lv.max_seq - lv.min_seq[t], -1, -1):
            for z in range(ZONES_PER_NODE):
                on = (lv.max_seq - age) % MAX_NR_GENS
                i = lv.gen_tail[on, t, z]
                while i >= 0:
                    old = fr[i].gen - 1
                    seq = to.max_seq - (lv.max_seq - old) % MAX_NR_GENS
                    new = max(seq, to.min_seq[t]) % MAX_NR_GENS
                    lru_gen_update_size(k, fr, i, old, -1)
                    gen_list_del(k, fr, i)
                    fr[i].memcg = d
                    fr[i].gen = new + 1
                    gen_list_add(k, fr, i, new, False)
                    lru_gen_update_size(k, fr, i, -1, new)
                    i = lv.gen_tail[on, t, z]


@rare
def _move_lists(k: Any, fr: Any, c: int, d: int, n: int) -> None:
    """All lists of the classic LRU, of the other the unevictable one: oldest first."""
    lv = k.memcg[c].lruvec[n]
    for lru in range(NR_LRU_LISTS):
        i = lv.tail[lru]
        while i >= 0:
            lru_del(k, fr, i)
            fr[i].memcg = d
            lru_add(k, fr, i)
            i = lv.tail[lru]


@rare
def _move_swap(k: Any, pt: Any, c: int, d: int) -> None:
    """Slots of swapped tmpfs, and what zswap holds of them, with their charges."""
    group, heir = k.memcg[c], k.memcg[d]
    for e in range(k.nr_entries):
        if pt[e].swap >= 0 and pt[e].owner == c:
            pt[e].owner = d
    for n in range(k.nr_returned_slots):
        if k.returned_owner[n] == c:
            k.returned_owner[n] = d
    zswap_lru_splice(k, pt, c, d)
    heir.swap.usage += group.swap.usage
    group.swap.usage = 0
    # bytes of compressed pages are charged in whole pages
    pages = (group.zswap_bytes + 4095) // 4096 + (heir.zswap_bytes + 4095) // 4096
    heir.zswap_bytes += group.zswap_bytes
    group.zswap_bytes = 0
    over = pages - (heir.zswap_bytes + 4095) // 4096
    if over > 0:
        group.stat[ST_KERNEL] -= over
        uncharge_memory(k, c, over)


@rare
def _is_left(k: Any, c: int) -> bool:
    """Whether anything is charged to group `c`."""
    memcg = k.memcg[c]
    return memcg.memory.usage > 0 or memcg.swap.usage > 0 or memcg.memsw.usage > 0  # type: ignore[no-any-return]


@rare
def _is_listed(k: Any, d: int, n: int) -> bool:
    """Whether group `d` is in the memcg LRU of node `n`."""
    lv = k.memcg[d].lruvec[n]
    return lv.memcg_prev >= 0 or k.node[n].memcg_lru_head[lv.memcg_gen, lv.memcg_bin] == d  # type: ignore[no-any-return]


@rare
def mem_cgroup_css_offline(k: Any, fr: Any, pt: Any, c: int) -> None:
    """Group `c`, which has no process and no groups below, is removed; its number is a new one's.

    Kernel
    ------
    mm/memcontrol.c, mem_cgroup_css_offline(), memcg_offline_kmem(); mm/vmscan.c,
    lru_gen_offline_memcg().

    Worked example
    --------------
    A job's group holds 300 pages of cache, 20 of dentries and 12 charged ahead, 332 in all; its
    parent 332. After it 300 are the dead group's, 20 the parent's own: 320 and 0 for the group.
    """
    d = k.memcg[c].heir
    if d < 0 or k.memcg[c].subtree_end > c + 1:
        return
    drain_all_stock(k, c)
    _reparent_slab(k, pt, c)
    if not _is_left(k, c):
        return
    if k.memcg[c].swap.usage > 0:
        _move_swap(k, pt, c, d)
    for n in range(k.nr_nodes):
        if k.lru_gen:
            if not _is_listed(k, d, n):
                lru_gen_online_memcg(k, d, n)
            _move_generations(k, fr, c, d, n)
            lru_gen_offline_memcg(k, d, n)
        _move_lists(k, fr, c, d, n)
    for item in range(ST_PGSCAN):  # those that are levels, not counts of events
        k.memcg[d].stat[item] += k.memcg[c].stat[item]
        k.memcg[c].stat[item] = 0
    group, heir = k.memcg[c], k.memcg[d]
    heir.memory.usage += group.memory.usage  # what is above them has it already
    group.memory.usage = 0
    group.usage_min = 0
    propagate_protected_usage(k, c)
    heir.memsw.usage += group.memsw.usage
    group.memsw.usage = 0
