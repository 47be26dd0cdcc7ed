"""The event heap: which task is due next. Ties go to the lower number, so runs repeat.

``k.heap`` holds the tasks and ``k.heap_due`` when they are due, side by side: an order is found
without a look at the tasks themselves.
"""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.state import NEVER_NS

__all__ = ["heap_remove", "heap_set"]


@jit
def _put(k, position, t, due_ns):
    k.heap[position] = t
    k.heap_due[position] = due_ns
    k.task[t].heap_pos = position


@jit
def _sift_up(k, position, t, due_ns):
    """Find the place of task t from a free one on, towards the root."""
    while position > 0:
        above = (position - 1) >> 1
        other = k.heap_due[above]
        if other < due_ns or (other == due_ns and k.heap[above] < t):
            break
        _put(k, position, k.heap[above], other)
        position = above
    _put(k, position, t, due_ns)


@jit
def _sift_down(k, position, t, due_ns):
    """Find the place of task t from a free one on, away from the root."""
    while True:
        child = 2 * position + 1
        if child >= k.heap_len:
            break
        first = k.heap_due[child]
        if child + 1 < k.heap_len:
            second = k.heap_due[child + 1]
            # which is less is a coin toss: added, not branched on
            earlier = second < first
            child += earlier | ((second == first) & (k.heap[child + 1] < k.heap[child]))
            first = min(first, second)
        if due_ns < first or (due_ns == first and t < k.heap[child]):
            break
        _put(k, position, k.heap[child], first)
        position = child
    _put(k, position, t, due_ns)


@jit
def heap_set(k, t, due_ns):
    """Task t is due at ``due_ns``; inserted or moved."""
    earlier = due_ns < k.task[t].due_ns
    k.task[t].due_ns = due_ns
    position = k.task[t].heap_pos
    if position < 0:
        position = k.heap_len
        k.heap_len += 1
        _sift_up(k, position, t, due_ns)
    elif earlier:
        _sift_up(k, position, t, due_ns)
    else:
        _sift_down(k, position, t, due_ns)


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
    due_ns = k.heap_due[k.heap_len]
    _sift_up(k, position, last, due_ns)
    _sift_down(k, k.task[last].heap_pos, last, due_ns)
