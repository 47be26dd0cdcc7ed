"""fork(2) during a run, and the copies that writes make afterwards (kernel/fork.c, mm/memory.c).

    fork         -> the child's page tables are charged, its regions are the parent's pages
    a write      -> to a page nobody else maps: in place
                 -> by a child: it gets a new page, charged to its group
                 -> by the parent: it gets the new page, the old one is left to the children
    munmap, exit -> a page goes when nobody maps it any more

Each child has a region of copies per region it inherited (``vma.copy``): an entry for a granule
there says that it is not shared any more. So what the parent sees is always its own region.

Departs from the kernel: fork itself takes no time; a page that the parent leaves to several
children is in the RSS of the first of them only; a child's own copies are shared with its own
children, and never copied again.
"""

from __future__ import annotations

import math

from capplan.mm._jit import rare
from capplan.mm.lruvec import draw, lru_add, progress_now
from capplan.mm.memcg import cancel_charge
from capplan.mm.mempolicy import alloc_node
from capplan.mm.nonresident import granule_found, granule_lost
from capplan.mm.page_alloc import free_frame
from capplan.mm.rmap import add_swapents, map_page, maps_granule, unmap_page
from capplan.mm.state import (
    ACCESS_CYCLIC,
    ACCESS_ZIPF,
    NS_PER_MS,
    NS_PER_S,
    PG_MAPPED,
    PG_SWAPCACHE,
    PROC_DEAD,
    PROC_UNBORN,
    PTE_COW,
    PTE_NONE,
    PTE_PRESENT,
    PTE_SWAP,
    PTE_ZSWAP,
    ST_PGFAULT,
    TASK_READY,
    TASK_UNBORN,
    VM_PGFAULT,
)
from capplan.mm.swap_slots import drop_swap_cache, move_slot
from capplan.mm.xarray import xa_move
from capplan.mm.zswap_lru import zswap_lru_move
from capplan.sim.access import turn_is_over
from capplan.sim.fault import FAULT_AGAIN, FAULT_OK, charged_frame, fault, install, page_tables
from capplan.sim.heap import heap_set

__all__ = ["attach_fork", "fork", "hand_over", "is_shared", "still_mapped", "store"]

SHORTEST_TURN_NS = 10 * NS_PER_MS


@rare
def fork(k, q):
    """Process q begins now, unless its last life still goes on (fork)."""
    state = k.proc[q].state
    if state != PROC_UNBORN and state != PROC_DEAD:
        return
    k.proc[q].state = PROC_UNBORN
    for t in range(k.nr_tasks):
        if k.task[t].proc == q:
            k.task[t].state = TASK_UNBORN
            heap_set(k, t, k.now_ns)


@rare
def _of_parent(k, v):
    """The parent's vma of the mapping that vma v shares, or -1."""
    parent = k.proc[k.vma[v].proc].parent
    w = k.mapping[k.vma[v].mapping].first_vma
    while w >= 0:
        if w != v and k.vma[w].proc == parent:
            return w
        w = k.vma[w].next_on_mapping
    return -1


@rare
def attach_fork(k, fr, pt, v):
    """A child that was forked shares what its parent maps (copy_page_range).

    Kernel
    ------
    mm/memory.c, copy_page_range(): page tables are copied, and charged to the child's group.

    Worked example
    --------------
    A parent of 1000 pages, 100 of them swapped: the child's RSS is 900 pages, its swapents
    100, and it has two page tables more.
    """
    vma = k.vma[v]
    mapping = k.mapping[vma.mapping]
    copies = k.mapping[vma.copy]
    w = _of_parent(k, v)
    mapping.forks += 1
    copies.copied = 0
    copies.used = 0
    if w < 0:
        return  # nobody to fork from: it finds nothing
    used = min(mapping.used, copies.nr_ptes)
    for index in range(used):
        e = mapping.first_pte + index
        mine = pt[copies.first_pte + index]
        mine.state = PTE_NONE
        mine.frame = -1
        if not maps_granule(k, pt, w, index):
            mine.state = PTE_COW
            copies.copied += 1
        elif pt[e].state == PTE_SWAP or pt[e].state == PTE_ZSWAP:
            k.proc[vma.proc].swapents += pt[e].nr_pages
        elif pt[e].frame >= 0 and fr[pt[e].frame].flags & PG_MAPPED:
            vma.mapped_pages += fr[pt[e].frame].nr_pages
    k.proc[vma.proc].rss_anon += vma.mapped_pages
    copies.used = used
    copies.size_pages = mapping.size_pages
    page_tables(k, fr, v, 0, mapping.size_pages)
    _wake_writers(k, vma.mapping)


@rare
def _wake_writers(k, m):
    """Tasks that write to mapping m have something to copy from now on."""
    for t in range(k.nr_tasks):
        task = k.task[t]
        if task.state != TASK_READY or task.store_vma < 0:
            continue
        if k.vma[task.store_vma].mapping == m:
            task.store_ns = k.now_ns
            heap_set(k, t, max(k.now_ns, min(task.busy_ns, task.due_ns)))


@rare
def still_mapped(k, pt, m, index, but_v):
    """Whether a process other than that of vma ``but_v`` maps granule ``index`` of mapping m."""
    v = k.mapping[m].first_vma
    while v >= 0:
        if v != but_v and maps_granule(k, pt, v, index):
            return True
        v = k.vma[v].next_on_mapping
    return False


@rare
def is_shared(k, v):
    """Whether a write through vma v may meet a page that another process maps as well."""
    mapping = k.mapping[k.vma[v].mapping]
    s = k.vma[v].copy
    if s >= 0:
        return k.mapping[s].copied < k.mapping[s].used
    if mapping.forks == 0:
        return False
    w = mapping.first_vma
    while w >= 0:
        s = k.vma[w].copy
        if s >= 0 and k.mapping[s].copied < k.mapping[s].used:
            return True
        w = k.vma[w].next_on_mapping
    return False


@rare
def _heir(k, pt, m, index):
    """The child's vma that gets granule ``index`` when the parent leaves it, or -1."""
    v = k.mapping[m].first_vma
    while v >= 0:
        if k.vma[v].copy >= 0 and maps_granule(k, pt, v, index):
            return v
        v = k.vma[v].next_on_mapping
    return -1


@rare
def _part(k, pt, m, index):
    """No child shares granule ``index`` of mapping m any more; nothing of it is mapped now."""
    v = k.mapping[m].first_vma
    while v >= 0:
        s = k.vma[v].copy
        if s >= 0 and maps_granule(k, pt, v, index):
            pt[k.mapping[s].first_pte + index].state = PTE_COW
            k.mapping[s].copied += 1
        v = k.vma[v].next_on_mapping


@rare
def _move_entry(k, fr, pt, e, s, f):
    """Entry e with all it holds becomes entry f of mapping s; e is as never touched."""
    old = pt[e]
    new = pt[f]
    new.frame = old.frame
    new.memcg = old.memcg
    new.owner = old.owner
    new.state = old.state
    new.swap = old.swap
    new.in_zswap = old.in_zswap
    new.evicted = old.evicted
    new.nr_pages = old.nr_pages
    new.length = old.length
    new.shadow = old.shadow
    if old.in_zswap and old.length > 0:
        zswap_lru_move(k, pt, e, f)
    if new.frame >= 0:
        fr[new.frame].mapping = s
        fr[new.frame].pte = f
        fr[new.frame].seen = progress_now(k, s)
    old.frame = -1
    old.memcg = -1
    old.owner = -1
    old.state = PTE_NONE
    old.swap = -1
    move_slot(k, pt, e, f)
    old.in_zswap = 0
    xa_move(k, fr, pt, e, f)


@rare
def hand_over(k, fr, pt, m, index):
    """The parent leaves granule ``index`` of mapping m to the children that share it.

    Whether one did: then the parent's entry is empty.
    """
    heir = _heir(k, pt, m, index)
    e = k.mapping[m].first_pte + index
    if heir < 0 or pt[e].state == PTE_NONE:
        return False
    nr = pt[e].nr_pages
    s = k.vma[heir].copy
    present = pt[e].state == PTE_PRESENT
    i = pt[e].frame
    if present:
        if fr[i].flags & PG_SWAPCACHE:
            drop_swap_cache(k, fr, pt, i)
        unmap_page(k, fr, pt, i)
        k.mapping[m].resident_pages -= nr
        k.mapping[s].resident_pages += nr
    else:
        add_swapents(k, pt, m, e, -nr)
        granule_found(k, pt, m, e)
    _part(k, pt, m, index)
    _move_entry(k, fr, pt, e, s, k.mapping[s].first_pte + index)
    if present:
        map_page(k, fr, pt, i)
    else:
        add_swapents(k, pt, s, k.mapping[s].first_pte + index, nr)
        granule_lost(k, pt, s, k.mapping[s].first_pte + index, 0)
    return True


@rare
def _place(k, fr, pt, m, e, i, c):
    """A new page, charged to group c, becomes entry e of mapping m."""
    nr = fr[i].nr_pages
    install(k, fr, m, i, e, c)
    pt[e].frame = i
    pt[e].nr_pages = nr
    pt[e].state = PTE_PRESENT
    pt[e].memcg = -1
    k.mapping[m].resident_pages += nr
    map_page(k, fr, pt, i)
    lru_add(k, fr, i)


@rare
def _copy_for_child(k, fr, pt, v, index, i, c):
    """A child's write: it maps page i instead of the shared one."""
    m = k.vma[v].mapping
    e = k.mapping[m].first_pte + index
    s = k.vma[v].copy
    nr = fr[pt[e].frame].nr_pages
    if fr[pt[e].frame].flags & PG_MAPPED:
        k.vma[v].mapped_pages -= nr
        k.proc[k.vma[v].proc].rss_anon -= nr
    k.mapping[s].copied += 1
    _place(k, fr, pt, s, k.mapping[s].first_pte + index, i, c)


@rare
def cow_fault(k, fr, pt, t, v, index):
    """Task t writes to granule ``index`` through vma v: one of FAULT_*.

    Kernel
    ------
    mm/memory.c, do_wp_page(): wp_page_reuse() where nobody else maps it, else wp_page_copy(),
    charged to the writer.
    """
    m = k.vma[v].mapping
    e = k.mapping[m].first_pte + index
    if not maps_granule(k, pt, v, index) or not still_mapped(k, pt, m, index, v):
        return FAULT_OK
    if pt[e].state == PTE_SWAP or pt[e].state == PTE_ZSWAP:
        status = fault(k, fr, pt, t, v, e, pt[e].nr_pages, False)
        if status != FAULT_OK:
            return status
    if pt[e].state != PTE_PRESENT:
        return FAULT_OK
    nr = fr[pt[e].frame].nr_pages
    c = k.proc[k.task[t].proc].memcg
    status, i = charged_frame(k, fr, pt, t, alloc_node(k, m, e, 0), c, nr, True, 0)
    if status != FAULT_OK:
        return status
    if pt[e].state != PTE_PRESENT:  # reclaim for the copy took what was to be copied
        cancel_charge(k, c, nr)
        free_frame(k, fr, i)
        return FAULT_AGAIN
    k.work_ns += k.cost.fault_ns * nr
    k.vmstat[VM_PGFAULT] += nr
    k.memcg[c].stat[ST_PGFAULT] += nr
    if k.vma[v].copy >= 0:
        _copy_for_child(k, fr, pt, v, index, i, c)
    elif hand_over(k, fr, pt, m, index):
        _place(k, fr, pt, m, e, i, c)
    return FAULT_OK


@rare
def _written_granule(k, t, m, pattern):
    """The granule that is written to next: in order, or as the mapping's accesses are spread."""
    mapping = k.mapping[m]
    n = mapping.used
    if pattern == ACCESS_CYCLIC:
        return k.task[t].op_cursor % n
    u = draw(k, mapping.stream, t, k.task[t].draws + 1) / 9007199254740992.0
    if mapping.pattern == ACCESS_ZIPF:
        a = 1.0 - mapping.zipf_s  # the inverse of zipf_cumulative()
        if abs(a) < 1e-9:
            x = math.exp(u * math.log(n + 1.0))
        else:
            x = (u * ((n + 1.0) ** a - 1.0) + 1.0) ** (1.0 / a)
        return min(int(x - 1.0), n - 1)
    return min(int(u * n), n - 1)


@rare
def store(k, fr, pt, t, op):
    """Play the writes of the task's op up to now: one of FAULT_*.

    A granule of n pages is one sample page: it is written to at 1/n of the rate. Where
    nothing is shared a write costs nothing; writes without end sleep until the next fork.
    """
    task = k.task[t]
    v = op.vma
    m = k.vma[v].mapping
    if task.store_vma < 0:
        task.store_vma = v
        task.store_ns = k.now_ns
    if k.mapping[m].used == 0 or (op.pages <= 0.0 and not is_shared(k, v)):
        task.store_ns = k.now_ns
        return FAULT_OK
    step = int(k.granule_pages / op.rate * NS_PER_S) + 1 if op.rate > 0.0 else 0
    while task.store_ns + step <= k.now_ns and (op.pages <= 0.0 or task.op_done < op.pages):
        if turn_is_over(k):
            task.next_ns = k.now_ns
            return FAULT_OK
        status = cow_fault(k, fr, pt, t, v, _written_granule(k, t, m, op.arg))
        if status != FAULT_OK:
            return status  # the same write again
        task.draws += 1
        task.op_cursor += 1
        task.op_done += k.granule_pages
        task.store_ns += step
    due = max(task.store_ns + step, k.now_ns + SHORTEST_TURN_NS)
    task.next_ns = min(task.next_ns, due)
    return FAULT_OK
