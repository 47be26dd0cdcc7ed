"""How a process ends: unmap in batches, give memory back over time (kernel/exit.c, mm/mmap.c).

    exit_mmap: unmap all (freeing each time 10,000 pages are gathered)
               -> MMF_OOM_SKIP -> free what is still gathered

Page cache and tmpfs stay. The order matters: between the last two steps a charge finds
neither a victim in flight nor room, and a second process is killed.
"""

from __future__ import annotations

import numpy as np

from capplan.mm._jit import rare
from capplan.mm.events import record
from capplan.mm.huge_memory import huge_pages
from capplan.mm.khugepaged import khugepaged_exit
from capplan.mm.pcp import pcp_free_high_order
from capplan.mm.psi import psi_task_set
from capplan.mm.rmap import maps_granule, unmap_page
from capplan.mm.state import (
    HPAGE_PMD_NR,
    KIND_EXIT,
    MAP_ANON,
    NEVER_NS,
    PG_HUGE,
    PROC_DEAD,
    PROC_EXITING,
    PROC_LIVE,
    PTE_COW,
    PTE_NONE,
    PTE_SWAP,
    PTE_ZSWAP,
    TASK_DEAD,
    TASK_EXITING,
    TASK_READY,
)
from capplan.sim.access import access_end
from capplan.sim.fork import still_mapped
from capplan.sim.heap import heap_remove, heap_set
from capplan.sim.ops import _clear_pending
from capplan.sim.unmap import (
    detach_entry,
    detach_huge,
    entries_of,
    free_detached,
    free_detached_huge,
    free_tables,
    huge_page_at,
)

__all__ = ["begin_exit", "exit_run", "last_reference"]

# mm/mmu_gather.c: MAX_GATHER_BATCH_COUNT batches together hold 10,000 pages
GATHER_PAGES = 10_000
TURN_PAGES = 2048
FLUSH_PAGES = 512


@rare
def begin_exit(k, p, code, delay_ns):
    """Process p ends (code < 0: killed by that signal): its tasks stop, one does the exit."""
    proc = k.proc[p]
    if proc.state != PROC_LIVE:
        return
    proc.state = PROC_EXITING
    proc.exit_code = code
    proc.exit_vma = proc.first_vma
    proc.exit_index = 0
    proc.gathered = 0
    proc.gather_head = -1
    proc.flushing = 0
    proc.flush_paid = 0
    first = True
    for t in range(k.nr_tasks):
        task = k.task[t]
        if task.proc != p or task.state == TASK_DEAD:
            continue
        access_end(k, t)
        _clear_pending(k, t)
        if first:
            task.state = TASK_EXITING
            # a task that is at work finishes its turn first
            busy = task.due_ns if t == k.actor and task.due_ns < NEVER_NS else k.now_ns
            heap_set(k, t, max(k.now_ns + delay_ns, busy))
            first = False
        else:
            task.state = TASK_DEAD
            psi_task_set(k, t, 0, 0, k.now_ns)
            heap_remove(k, t)


@rare
def _flush_some(k, fr, proc):
    """Free the batch that was paid for, pay for the next; whether all gathered is freed.

    Kernel: tlb_batch_pages_flush() frees up to 512 pages at a time; they are uncharged when
    the batch is through.
    """
    i = proc.gather_head
    if proc.flush_paid:
        freed = 0
        while i >= 0 and freed < FLUSH_PAGES:
            after = fr[i].next
            fr[i].next = -1
            if fr[i].flags & PG_HUGE:
                freed += HPAGE_PMD_NR
                free_detached_huge(k, fr, i)
            else:
                freed += fr[i].nr_pages
                free_detached(k, fr, i)
            i = after
        proc.gather_head = i
        proc.gathered -= freed
    proc.flush_paid = 0
    if i < 0:
        proc.gathered = 0
        proc.flushing = 0
        return True
    nr = min(max(proc.gathered, 1), FLUSH_PAGES)
    k.work_ns += k.cost.exit_free_ns * entries_of(k, fr[i].mapping, nr)
    proc.flush_paid = 1
    return False


@rare
def _is_private(k, v):
    """Whether nobody else maps what vma v maps."""
    m = k.vma[v].mapping
    return k.mapping[m].first_vma == v and k.vma[v].next_on_mapping < 0


@rare
def _swapped_through(k, pt, v):
    """Pages in swap that vma v maps: not those of which a forked process has its own copy."""
    mapping = k.mapping[k.vma[v].mapping]
    if k.vma[v].copy < 0:
        return mapping.swapped_pages
    pages = 0
    for index in range(mapping.used):
        entry = pt[mapping.first_pte + index]
        out = entry.state == PTE_SWAP or entry.state == PTE_ZSWAP
        if out and maps_granule(k, pt, v, index):
            pages += entry.nr_pages
    return pages


@rare
def _detach_vma(k, pt, v):
    """Take vma v off its mapping; its pages leave the RSS."""
    m = k.vma[v].mapping
    proc = k.proc[k.vma[v].proc]
    mapped = k.vma[v].mapped_pages
    if k.vma[v].copy >= 0:
        k.mapping[m].forks -= 1
    if k.mapping[m].kind == MAP_ANON:
        proc.rss_anon -= mapped
        proc.swapents -= _swapped_through(k, pt, v)
    k.vma[v].mapped_pages = 0
    at = k.mapping[m].first_vma
    if at == v:
        k.mapping[m].first_vma = k.vma[v].next_on_mapping
        return
    while at >= 0:
        after = k.vma[at].next_on_mapping
        if after == v:
            k.vma[at].next_on_mapping = k.vma[v].next_on_mapping
            return
        at = after


@rare
def _unmap_shared(k, fr, pt, v):
    """The process leaves a file or shmem object: unmapped, its pages stay in the cache."""
    m = k.vma[v].mapping
    mapping = k.mapping[m]
    if _is_private(k, v):
        for e in range(mapping.first_pte, mapping.first_pte + mapping.used):
            if pt[e].frame >= 0:
                unmap_page(k, fr, pt, pt[e].frame)
        return
    proc = k.proc[k.vma[v].proc]
    proc.rss_file = 0
    proc.rss_shmem = 0


@rare
def _stores(pt, e):
    """Objects outside memory's lists that go with entry e: its slot, and what zswap holds.

    Each is freed at once, at about a page's cost (zap_pte_range(): free_swap_and_cache(),
    zswap_invalidate()); a resident page that kept its slot loses it too.
    """
    if pt[e].swap < 0:
        return 0
    return 2 if pt[e].in_zswap else 1


@rare
def _detach_huge(k, fr, pt, p, m):
    """The huge page that begins at the entry just passed leaves mapping m: first frame, or -1."""
    proc = k.proc[p]
    if k.mapping[m].forks > 0:
        return -1
    first = huge_page_at(k, fr, pt, m, proc.exit_index - 1)
    if first >= 0:
        detach_huge(k, fr, pt, m, first)
        proc.exit_index += huge_pages(k) - 1
    return first


@rare
def _unmap_granule(k, fr, pt, p, m, e):
    """What is at entry e, a granule or a huge page, leaves mapping m: (frame or -1, pages)."""
    if k.mapping[m].thp:
        first = _detach_huge(k, fr, pt, p, m)
        if first >= 0:
            k.work_ns += k.cost.exit_unmap_ns
            return first, HPAGE_PMD_NR
    nr = np.int64(pt[e].nr_pages)
    k.work_ns += k.cost.exit_unmap_ns * entries_of(k, m, nr)
    k.work_ns += k.cost.exit_free_ns * nr * _stores(pt, e)
    return detach_entry(k, fr, pt, m, e), nr


@rare
def _unmap_some(k, fr, pt, p):
    """Unmap up to a turn's pages; whether all of the process is unmapped."""
    proc = k.proc[p]
    turn = 0
    while proc.exit_vma >= 0:
        v = proc.exit_vma
        m = k.vma[v].mapping
        mapping = k.mapping[m]
        private = _is_private(k, v)
        if mapping.kind == MAP_ANON and (private or mapping.forks > 0):
            while proc.exit_index < mapping.used:
                if turn >= TURN_PAGES:
                    return False
                e = mapping.first_pte + proc.exit_index
                proc.exit_index += 1
                if pt[e].state == PTE_NONE or pt[e].state == PTE_COW:
                    pt[e].state = PTE_NONE
                    continue
                if not private and still_mapped(k, pt, m, proc.exit_index - 1, v):
                    continue
                i, nr = _unmap_granule(k, fr, pt, p, m, e)
                turn += nr
                if i < 0:
                    continue
                fr[i].next = proc.gather_head
                proc.gather_head = i
                proc.gathered += nr
                if proc.gathered >= GATHER_PAGES:
                    proc.flushing = 1
                    return False
            if private:
                mapping.used = 0
                mapping.size_pages = 0
                mapping.thp_spare = 0
                mapping.progress = 0.0
        elif mapping.kind != MAP_ANON:
            _unmap_shared(k, fr, pt, v)
        _detach_vma(k, pt, v)
        proc.exit_vma = k.vma[v].next
        proc.exit_index = 0
    return True


@rare
def exit_run(k, fr, pt, t):
    """A turn of an exiting process: (True when it is gone, its work before MMF_OOM_SKIP).

    Unmapping the last page, MMF_OOM_SKIP and freeing the first batch are one turn, -1.0 in all
    others: with one CPU nobody sees what is between them.
    """
    p = k.task[t].proc
    proc = k.proc[p]
    if proc.flushing:
        _flush_some(k, fr, proc)
        return False, -1.0
    if not proc.oom_skip:
        unmapped = -1.0
        if _unmap_some(k, fr, pt, p):
            unmapped = k.work_ns
            proc.oom_skip = 1
            proc.oom_skip_ns = NEVER_NS
            proc.flushing = 1
            _flush_some(k, fr, proc)
        return False, unmapped
    free_tables(k, fr, p)
    proc.state = PROC_DEAD
    proc.rss_anon = 0
    proc.rss_file = 0
    proc.rss_shmem = 0
    proc.swapents = 0
    proc.exit_ns = k.now_ns + int(k.work_ns)
    k.task[t].state = TASK_DEAD
    record(k, KIND_EXIT, p, proc.memcg, proc.exit_code, 0, 0, 0, 0, 0)
    return True, -1.0


@rare
def _touching(k):
    """Whether a task is accessing memory all the time: it has visited each CPU by now."""
    for t in range(k.nr_tasks):
        if k.task[t].state == TASK_READY and k.task[t].access_vma >= 0:
            return True
    return False


@rare
def last_reference(k, fr, t):
    """Drop references to the mm of a dead process; with the last goes its page directory.

    The CPU that it ended on idles on its mm until the next task comes (lazy TLB): with one CPU
    that is the parent, which exit_notify() has woken. An OOM victim is also held by the OOM
    reaper until its delay is over (queue_oom_reaper()), one with huge pages by khugepaged.
    """
    proc = k.proc[k.task[t].proc]
    held_ns = khugepaged_exit(k, k.task[t].proc) if k.now_ns <= proc.exit_ns else k.now_ns
    if proc.victim:
        held_ns = max(held_ns, proc.kill_ns + k.oom_reaper_delay_ns)
    if k.now_ns < held_ns:
        heap_set(k, t, held_ns)
        return
    if k.nr_cpus == 1 or _touching(k):
        pcp_free_high_order(k, fr, proc.exit_cpu)
    else:
        k.cpu_lazy_mm[proc.exit_cpu] = 1
    heap_remove(k, t)
