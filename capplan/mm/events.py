"""The ring of things that happened, read by the recorder after each slice."""

from __future__ import annotations

from capplan.mm._jit import jit
from capplan.mm.state import MAX_EVENTS

__all__ = ["memcg_event", "record"]


@jit
def record(k, kind, proc, memcg, a, b, c, d, e, f):
    """Append an event at the actor's local time; a full ring loses it and counts the loss."""
    if k.nr_events >= MAX_EVENTS:
        k.events_lost += 1
        return
    event = k.event[k.nr_events]
    k.nr_events += 1
    event.t_ns = k.now_ns + int(k.work_ns + k.wait_ns)
    event.kind = kind
    event.proc = proc
    event.memcg = memcg
    event.task = k.actor
    event.a = a
    event.b = b
    event.c = c
    event.d = d
    event.e = e
    event.f = f


@jit
def memcg_event(k, c, event):
    """Count a memory.events item at group c and its ancestors (memcg_memory_event)."""
    if c > 0:
        k.memcg[c].events_local[event] += 1
    while c > 0:
        k.memcg[c].events[event] += 1
        c = k.memcg[c].parent
