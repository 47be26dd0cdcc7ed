"""The event heap: which task is due next. Ties go to the lower number, so runs repeat."""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.state import NEVER_NS

__all__ = ["heap_remove", "heap_set"]


@jit
def _before(k, a, b):
    da = k.task[a].due_ns
    db = k.task[b].due_ns
    return da < db or (da == db and a < b)


@jit
def _place(k, position, t):
    k.heap[position] = t
    k.task[t].heap_pos = position


@jit
def _sift_up(k, position):
    t = k.heap[position]
    while position > 0:
        above = (position - 1) >> 1
        if not _before(k, t, k.heap[above]):
            break
        _place(k, position, k.heap[above])
        position = above
    _place(k, position, t)


@jit
def _sift_down(k, position):
    t = k.heap[position]
    while True:
        child = 2 * position + 1
        if child >= k.heap_len:
            break
        if child + 1 < k.heap_len and _before(k, k.heap[child + 1], k.heap[child]):
            child += 1
        if not _before(k, k.heap[child], t):
            break
        _place(k, position, k.heap[child])
        position = child
    _place(k, position, t)


@jit
def heap_set(k, t, due_ns):
    """Task t is due at ``due_ns``; inserted or moved."""
    earlier = due_ns < k.task[t].due_ns
    k.task[t].due_ns = due_ns
    position = k.task[t].heap_pos
    if position < 0:
        position = k.heap_len
        k.heap_len += 1
        _place(k, position, t)
        _sift_up(k, position)
    elif earlier:
        _sift_up(k, position)
    else:
        _sift_down(k, position)


@jit
def heap_remove(k, t):
    """Task t is not due any more."""
    position = k.task[t].heap_pos
    k.task[t].due_ns = NEVER_NS
    if position < 0:
        return
    k.task[t].heap_pos = -1
    k.heap_len -= 1
    last = k.heap[k.heap_len]
    if last == t:
        return
    _place(k, position, last)
    _sift_up(k, position)
    _sift_down(k, k.task[last].heap_pos)
