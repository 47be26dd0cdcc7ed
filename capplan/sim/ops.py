"""What tasks do: one function per op of :class:`capplan.sim.scenario.Op`.

Each runs until the op is done, its schedule has no more for now, or it must wait; it returns
DONE, or leaves in ``task.next_ns`` when it wants to go on. Time spent is in k.work_ns and
k.wait_ns. Pages are touched granule by granule; an op takes at most 64 pages a turn.
"""

from __future__ import annotations

from capplan.mm._jit import jit, prefetch, rare
from capplan.mm.buffer_head import create_empty_buffers
from capplan.mm.lruvec import draw, lru_add, lru_del, mark_accessed
from capplan.mm.page_writeback import balance_dirty_pages_ratelimited
from capplan.mm.shrink_folio import place_in_swap, set_page_dirty
from capplan.mm.state import (
    MAP_FILE,
    NEVER_NS,
    NS_PER_S,
    PG_MLOCKED,
    PTE_PRESENT,
)
from capplan.sim.access import access_begin, access_end, access_resume, turn_is_over
from capplan.sim.fault import FAULT_NOMEM, FAULT_OK, FAULT_OOM_WAIT, fault, slab_page
from capplan.sim.fork import fork, store
from capplan.sim.touch import touch_many, touch_next
from capplan.sim.unmap import free_newest, punch

__all__ = ["AGAIN", "DONE", "FAILED", "LATER", "OOM_WAIT", "begin_op", "run_op"]

# What an op's turn ended with.
DONE, LATER, AGAIN, FAILED, OOM_WAIT = 0, 1, 2, 3, 4

TURN_PAGES = 64

(OP_GROW, OP_TARGET, OP_TOUCH, OP_READ, OP_READ_LOOP, OP_READ_RAND, OP_WRITE, OP_HOLD, OP_WAIT,
 OP_FREE, OP_MLOCK, OP_EXIT, OP_FORK, OP_RESTART, OP_POPULATE, OP_SLAB,
 OP_STORE, OP_PUNCH) = range(18)  # fmt: skip


@jit
def _status(status):
    if status == FAULT_NOMEM:
        return FAILED
    if status == FAULT_OOM_WAIT:
        return OOM_WAIT
    return AGAIN


@jit
def _due_pages(k, task, op):
    """Pages that the schedule asks for by now."""
    if op.rate <= 0.0:
        return op.pages
    return min(op.pages, (k.now_ns - task.op_start_ns) * op.rate / NS_PER_S)


@jit
def _wait_for(k, task, op, pages):
    """Come back when the schedule has reached ``pages``."""
    if op.rate > 0.0:
        at = task.op_start_ns + int(pages / op.rate * NS_PER_S) + 1
        task.next_ns = min(task.next_ns, max(at, k.now_ns))
    else:
        task.next_ns = k.now_ns
    return LATER


@jit
def _early(nr, left):
    """Pages of a granule that may be touched before they are due, so that it is no later than
    its pages on the whole. The last granule of an op waits, the op ends when it should.
    """
    return max(nr - TURN_PAGES, 0) // 2 if nr < left else 0


@jit
def _grow(k, fr, pt, t, op):
    task = k.task[t]
    due = _due_pages(k, task, op)
    turn = 0
    while task.op_done < op.pages:
        left = int(op.pages - task.op_done)
        nr = min(k.granule_pages, left)
        early = _early(nr, left)
        if task.op_done + nr - early > due + 1e-6:
            step = min(max(TURN_PAGES, nr), left)
            return _wait_for(k, task, op, task.op_done + step - early)
        if turn >= TURN_PAGES or (turn and turn_is_over(k)):
            task.next_ns = k.now_ns
            return LATER
        got = touch_next(k, fr, pt, t, op.vma, left, k.cost.fill_ns)
        if got < 0:
            return _status(-1 - got)
        if got == 0:
            return DONE
        task.op_done += got
        turn += got
    return DONE


@jit
def _node_room(k):
    """Free pages above the marks that wake kswapd, less what is going to be grown."""
    free = 0
    for z in range(k.nr_zones):
        free += k.zone[z].free
    return free - k.wake_mark - k.pending


@jit
def _pend(k, c, nr):
    k.pending += nr
    while c > 0:
        k.memcg[c].pending += nr
        c = k.memcg[c].parent


@jit
def _clear_pending(k, t):
    task = k.task[t]
    if task.pending:
        _pend(k, k.proc[task.proc].memcg, -task.pending)
        task.pending = 0


@jit
def _safe(k, c, delta):
    """Whether delta more pages can reach no mark and no limit, whatever the others do."""
    if delta * 2 + TURN_PAGES >= _node_room(k):
        return False
    while c > 0:
        memcg = k.memcg[c]
        ceiling = min(memcg.memory.max, memcg.memory.high)
        if memcg.memory.usage + memcg.pending + delta + TURN_PAGES >= ceiling:
            return False
        c = memcg.parent
    return True


@jit
def _target(k, fr, pt, t, op):
    """Follow a curve: linear to ``pages``, reached at ``t_ns``; falls free the newest."""
    task = k.task[t]
    m = k.vma[op.vma].mapping
    mapping = k.mapping[m]
    c = k.proc[task.proc].memcg
    if task.op_cursor == 0:
        # a new segment: where nothing can be reached, all of it is done at its end
        task.op_cursor = 1
        task.op_prev_target = float(mapping.size_pages - mapping.thp_spare)
        delta = int(op.pages) - (mapping.size_pages - mapping.thp_spare)
        if delta <= 0 or _safe(k, c, delta):
            task.op_cursor = 2
        if delta > 0:
            task.pending = delta
            _pend(k, c, delta)
    if task.op_cursor == 2 and k.now_ns < op.t_ns:
        task.next_ns = min(task.next_ns, op.t_ns)
        return LATER
    span = float(op.t_ns - task.op_start_ns)
    along = 1.0 if span <= 0.0 else min((k.now_ns - task.op_start_ns) / span, 1.0)
    want = task.op_prev_target + (op.pages - task.op_prev_target) * along
    if mapping.size_pages - mapping.thp_spare - want >= k.granule_pages:
        free_newest(k, fr, pt, op.vma, int(mapping.size_pages - mapping.thp_spare - want))
    turn = 0
    if task.op_cursor == 2:
        touch_many(k, fr, pt, t, op.vma, int(want - mapping.size_pages), k.cost.fill_ns)
    while want - (mapping.size_pages - mapping.thp_spare) >= k.granule_pages:
        if task.op_cursor == 1 and (turn >= TURN_PAGES or (turn and turn_is_over(k))):
            task.next_ns = k.now_ns
            return LATER
        got = touch_next(k, fr, pt, t, op.vma, k.granule_pages, k.cost.fill_ns)
        if got < 0:
            task.op_cursor = 1
            return _status(-1 - got)
        if got == 0:
            break
        turn += got
    if along >= 1.0:
        _clear_pending(k, t)
        return DONE
    step = TURN_PAGES if TURN_PAGES > k.granule_pages else k.granule_pages
    distance = abs(op.pages - task.op_prev_target)
    pause = span * step / distance if distance >= step else span
    task.next_ns = min(task.next_ns, min(k.now_ns + int(pause), op.t_ns))
    return LATER


@jit
def _read_granule(k, fr, pt, t, v, index, sequential):
    """read(2) of one granule of a file: pages read, or -1 - status."""
    mapping = k.mapping[k.vma[v].mapping]
    e = mapping.first_pte + index
    nr = min(k.granule_pages, mapping.size_pages - index * k.granule_pages)
    if nr <= 0:
        return 0
    if pt[e].state != PTE_PRESENT:
        status = fault(k, fr, pt, t, v, e, nr, sequential)
        if status != FAULT_OK:
            return -1 - status
        mapping.used = max(mapping.used, index + 1)
    k.work_ns += (k.cost.file_copy_ns + k.cost.read_syscall_ns) * nr
    mark_accessed(k, fr, pt[e].frame)
    prefetch(pt, e + 1)  # what it reads next
    return nr


@jit
def _hold(k, t, op, end):
    task = k.task[t]
    if k.now_ns >= end:
        if op.op == OP_TOUCH:
            access_resume(k, t)
        return DONE
    task.next_ns = min(task.next_ns, end)
    return LATER


@jit
def _read(k, fr, pt, t, op, loop):
    """Read the first ``pages`` of a file in order, once or until ``t_ns`` is over."""
    task = k.task[t]
    end = task.op_start_ns + op.t_ns
    if op.pages < 1.0:
        return _hold(k, t, op, end) if loop else DONE
    rate = op.rate
    turn = 0
    while loop or task.op_done < op.pages:
        if loop and k.now_ns >= end:
            return DONE
        due = (k.now_ns - task.op_start_ns) * rate / NS_PER_S if rate > 0.0 else 1e18
        position = int(task.op_done) % int(op.pages)
        nr = min(k.granule_pages, int(op.pages) - position)
        if task.op_done + nr > due:
            step = max(16, nr)  # 64 KiB pieces
            _wait_for(k, task, op, task.op_done + step)
            if loop:
                task.next_ns = min(task.next_ns, end)
            return LATER
        if turn >= TURN_PAGES or (turn and turn_is_over(k)):
            task.next_ns = k.now_ns
            return LATER
        if op.arg > 0 and task.op_cursor == 0:
            # the buffer that read(2) copies to is touched for the first time
            got = touch_next(k, fr, pt, t, op.arg - 1, nr, 0.0)
            if got < 0:
                return _status(-1 - got)
            task.op_cursor = 1
        got = _read_granule(k, fr, pt, t, op.vma, position >> k.g, True)
        if got < 0:
            return _status(-1 - got)
        if got == 0:
            return DONE
        task.op_cursor = 0
        task.op_done += nr
        turn += nr
    return DONE


@jit
def _read_rand(k, fr, pt, t, op):
    """preads of single pages at uniform offsets of the first ``pages``, until ``t_ns`` is over."""
    task = k.task[t]
    m = k.vma[op.vma].mapping
    end = task.op_start_ns + op.t_ns
    granules = max(int(op.pages) // k.granule_pages, 1)
    turn = 0
    while k.now_ns < end:
        due = (k.now_ns - task.op_start_ns) * op.rate / NS_PER_S if op.rate > 0.0 else 1e18
        if task.op_done + k.granule_pages > due:
            _wait_for(k, task, op, task.op_done + max(16, k.granule_pages))
            task.next_ns = min(task.next_ns, end)
            return LATER
        if turn >= TURN_PAGES or (turn and turn_is_over(k)):
            task.next_ns = k.now_ns
            return LATER
        if task.op_cursor == 0:  # an interrupted read goes on with the same granule
            task.draws += 1
            task.op_cursor = 1 + draw(k, k.mapping[m].stream, t, task.draws) % granules
        got = _read_granule(k, fr, pt, t, op.vma, task.op_cursor - 1, False)
        if got < 0:
            return _status(-1 - got)
        if got == 0:  # behind the end of the file: nothing to wait for
            return _hold(k, t, op, end)
        task.op_cursor = 0
        task.op_done += k.granule_pages
        turn += k.granule_pages
    return DONE


@jit
def _pause_writer(k, t, d, nr):
    """Task t dirtied nr pages on device d: it waits as long as it must, and how long that is."""
    c = k.proc[k.task[t].proc].memcg
    pause = balance_dirty_pages_ratelimited(k, t, c, d, nr)
    k.wait_ns += pause
    return pause


@jit
def _write(k, fr, pt, t, op):
    """write(2) of new pages: a file's become dirty, a shmem object grows."""
    task = k.task[t]
    m = k.vma[op.vma].mapping
    mapping = k.mapping[m]
    due = _due_pages(k, task, op)
    turn = 0
    if task.dirty_blocked and _pause_writer(k, t, mapping.disk, 0) > 0.0:
        task.next_ns = k.now_ns
        return LATER
    while task.op_done < op.pages:
        left = int(op.pages - task.op_done)
        nr = min(k.granule_pages, left)
        if task.op_done + nr > due + 1e-6:
            return _wait_for(k, task, op, task.op_done + min(max(16, nr), left))
        if turn >= TURN_PAGES or (turn and turn_is_over(k)):
            task.next_ns = k.now_ns
            return LATER
        e = mapping.first_pte + mapping.used
        k.spread_dirty = 1 if mapping.kind == MAP_FILE else 0
        got = touch_next(k, fr, pt, t, op.vma, left, k.cost.write_copy_ns)
        k.spread_dirty = 0
        if got < 0:
            return _status(-1 - got)
        if got == 0:
            return DONE
        task.op_done += got
        turn += got
        if mapping.kind == MAP_FILE:
            i = pt[e].frame
            if mapping.dirty_pages == 0:
                mapping.dirtied_ns = k.now_ns
            create_empty_buffers(k, fr, i)
            set_page_dirty(k, fr, i)
            mark_accessed(k, fr, i)
            if k.flusher_due_ns == NEVER_NS:
                k.flusher_due_ns = k.now_ns + k.dirty_writeback_ns
            if _pause_writer(k, t, mapping.disk, got) > 0.0 and task.op_done < op.pages:
                task.next_ns = k.now_ns
                return LATER
    return DONE


@jit
def _slab(k, fr, pt, t, op):
    """Objects that nothing holds (dentries of names that were looked up), page by page."""
    task = k.task[t]
    due = _due_pages(k, task, op)
    turn = 0
    while task.op_done < op.pages:
        if task.op_done + 1 > due + 1e-6:
            return _wait_for(k, task, op, task.op_done + min(16, op.pages - task.op_done))
        if turn >= TURN_PAGES or (turn and turn_is_over(k)):
            task.next_ns = k.now_ns
            return LATER
        status = slab_page(k, fr, pt, t, k.proc[task.proc].memcg)
        if status != FAULT_OK:
            return _status(status)
        task.op_done += 1
        turn += 1
    return DONE


@rare
def _mlock(k, fr, pt, op):
    """Lock the newest pages: they leave the lists that are scanned (mlock)."""
    mapping = k.mapping[k.vma[op.vma].mapping]
    left = int(op.pages)
    index = mapping.used - 1
    while index >= 0 and left > 0:
        e = mapping.first_pte + index
        if pt[e].state == PTE_PRESENT and not fr[pt[e].frame].flags & PG_MLOCKED:
            i = pt[e].frame
            lru_del(k, fr, i)
            fr[i].flags |= PG_MLOCKED
            k.nr_mlocked += fr[i].nr_pages
            lru_add(k, fr, i)
            left -= fr[i].nr_pages
        index -= 1
    return DONE


@jit
def _store(k, fr, pt, t, op):
    """Write to pages of an anonymous region: so many, for ``t_ns``, or for ever."""
    task = k.task[t]
    end = task.op_start_ns + op.t_ns if op.t_ns > 0 else NEVER_NS
    status = store(k, fr, pt, t, op)
    if status != FAULT_OK:
        return _status(status)
    if k.now_ns >= end or (op.pages > 0.0 and task.op_done >= op.pages):
        task.store_vma = -1
        return DONE
    task.next_ns = min(task.next_ns, end)
    return LATER


@rare
def _populate(k, fr, pt, t, op):
    """What is in memory when the run begins: placed without a fault storm, at no cost.

    With ``op.arg`` it is in swap.
    """
    mapping = k.mapping[k.vma[op.vma].mapping]
    placed = 0
    index = 0
    while placed < op.pages:
        left = int(op.pages) - placed
        if mapping.kind == MAP_FILE:
            got = _read_granule(k, fr, pt, t, op.vma, index, True)
            index += 1
        else:
            got = 0 if op.arg else touch_many(k, fr, pt, t, op.vma, left, 0.0)
            if got == 0:
                got = touch_next(k, fr, pt, t, op.vma, left, 0.0)
        if got <= 0:
            break
        if op.arg:
            place_in_swap(k, fr, pt, pt[mapping.first_pte + mapping.used - 1].frame)
        placed += got
    for d in range(k.nr_disks):
        k.disk[d].read_busy_ns = k.now_ns
    task = k.task[t]
    task.majfaults = 0
    task.throttle_ns = 0
    k.work_ns = 0.0
    k.wait_ns = 0.0
    k.memstall_ns = 0.0
    return DONE


@jit
def begin_op(k, t, op):
    """Start an op now: its schedule counts from op_start_ns."""
    task = k.task[t]
    task.op_done = 0.0
    task.op_cursor = 0
    task.op_start_ns = k.now_ns if task.clock == 0 else task.nominal_ns
    if op.op == OP_TOUCH:
        access_end(k, t)
        access_begin(k, t, op.vma, op.arg, op.rate)


@jit
def run_op(k, fr, pt, t, op):
    """A turn of the task's present op: DONE, LATER, AGAIN, FAILED or OOM_WAIT."""
    kind = op.op
    task = k.task[t]
    if kind == OP_GROW:
        return _grow(k, fr, pt, t, op)
    if kind == OP_TARGET:
        return _target(k, fr, pt, t, op)
    if kind == OP_READ or kind == OP_READ_LOOP:
        return _read(k, fr, pt, t, op, kind == OP_READ_LOOP)
    if kind == OP_READ_RAND:
        return _read_rand(k, fr, pt, t, op)
    if kind == OP_WRITE:
        return _write(k, fr, pt, t, op)
    if kind == OP_HOLD or kind == OP_TOUCH:
        return _hold(k, t, op, task.op_start_ns + op.t_ns)
    if kind == OP_WAIT:
        return _hold(k, t, op, op.t_ns)
    if kind == OP_FREE:
        free_newest(k, fr, pt, op.vma, int(op.pages))
        return DONE
    if kind == OP_PUNCH:
        punch(k, fr, pt, k.vma[op.vma].mapping, int(op.pages))
        return DONE
    if kind == OP_POPULATE:
        return _populate(k, fr, pt, t, op)
    if kind == OP_SLAB:
        return _slab(k, fr, pt, t, op)
    if kind == OP_MLOCK:
        return _mlock(k, fr, pt, op)
    if kind == OP_STORE:
        return _store(k, fr, pt, t, op)
    if kind == OP_FORK:
        fork(k, op.arg)
    return DONE
