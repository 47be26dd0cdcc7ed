"""What zswap holds, oldest first: a list for each group (zswap_list_lru; mm/list_lru.c).

    stored           -> the tail
    looked at        -> the tail again, written back or not
    group is removed -> its list goes before its parent's

Two links for each entry, in the cells behind the swap map. A page that is filled with one value
(length 0) is on no list.

Departs from the kernel: one list for all memory nodes. Before 6.5 (feature ``zswap_lru``) the list
was the allocator's, and not a group's: each group's is its part of that.
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import jit, rare
from capplan.mm.state import CELLS

__all__ = [
    "zswap_lru_add",
    "zswap_lru_del",
    "zswap_lru_move",
    "zswap_lru_records",
    "zswap_lru_rotate",
    "zswap_lru_splice",
]

PREV, NEXT = 0, 1
PAIRS = CELLS // 2


def zswap_lru_records(k: Any) -> int:
    """Records of ``pt`` that the links take."""
    return -(-int(k.nr_entries) // PAIRS) if k.zswap_enabled else 0


@jit
def _get(k: Any, pt: Any, e: int, which: int) -> int:
    return pt[k.first_zswap + e // PAIRS].cells[e % PAIRS * 2 + which]  # type: ignore[no-any-return]


@jit
def _set(k: Any, pt: Any, e: int, which: int, to: int) -> None:
    pt[k.first_zswap + e // PAIRS].cells[e % PAIRS * 2 + which] = to


@jit
def _group(k: Any, pt: Any, e: int) -> Any:
    return k.memcg[max(pt[e].owner, 0)]


@jit
def zswap_lru_add(k: Any, pt: Any, e: int) -> None:
    """Entry e is its group's newest (zswap_lru_add)."""
    group = _group(k, pt, e)
    last = group.zswap_tail
    _set(k, pt, e, PREV, last)
    _set(k, pt, e, NEXT, -1)
    group.zswap_tail = e
    if last >= 0:
        _set(k, pt, last, NEXT, e)
    else:
        group.zswap_head = e


@jit
def _tie(k: Any, pt: Any, group: Any, before: int, after: int) -> None:
    """``before`` and ``after`` are neighbours, or ends of the group's list (-1)."""
    if before >= 0:
        _set(k, pt, before, NEXT, after)
    else:
        group.zswap_head = after
    if after >= 0:
        _set(k, pt, after, PREV, before)
    else:
        group.zswap_tail = before


@jit
def zswap_lru_del(k: Any, pt: Any, e: int) -> None:
    """Entry e leaves its group's list (zswap_lru_del)."""
    _tie(k, pt, _group(k, pt, e), _get(k, pt, e, PREV), _get(k, pt, e, NEXT))


@jit
def zswap_lru_rotate(k: Any, pt: Any, e: int) -> None:
    """Entry e goes to the tail (LRU_ROTATE)."""
    zswap_lru_del(k, pt, e)
    zswap_lru_add(k, pt, e)


@rare
def zswap_lru_move(k: Any, pt: Any, e: int, f: int) -> None:
    """Entry f, of the same owner, takes entry e's place."""
    group = _group(k, pt, f)
    before, after = _get(k, pt, e, PREV), _get(k, pt, e, NEXT)
    _set(k, pt, f, PREV, before)
    _set(k, pt, f, NEXT, after)
    _tie(k, pt, group, before, f)
    _tie(k, pt, group, f, after)


@rare
def zswap_lru_splice(k: Any, pt: Any, c: int, d: int) -> None:
    """Group c's list goes before group d's (memcg_reparent_list_lru_node)."""
    group, heir = k.memcg[c], k.memcg[d]
    if group.zswap_head < 0:
        return
    last = heir.zswap_tail
    _tie(k, pt, heir, group.zswap_tail, heir.zswap_head)
    heir.zswap_head = group.zswap_head
    heir.zswap_tail = last if last >= 0 else group.zswap_tail
    group.zswap_head = group.zswap_tail = -1
