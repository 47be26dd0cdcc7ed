"""Multi-gen LRU, the memcg LRU: in which order global reclaim visits the memcgs of a node.

Two generations of memcgs (old and young) of eight bins each; reclaim takes the old one's
bins from a random one on. struct lru_gen_memcg in include/linux/mmzone.h, the section
"memcg LRU" in mm/vmscan.c.
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import jit
from capplan.mm.lruvec import draw
from capplan.mm.state import MEMCG_NR_BINS, MEMCG_NR_GENS

MEMCG_LRU_NOP, MEMCG_LRU_HEAD, MEMCG_LRU_TAIL, MEMCG_LRU_OLD, MEMCG_LRU_YOUNG = 0, 1, 2, 3, 4
STREAM_MEMCG_LRU = 1 << 40  # stream of draws, far from those of mappings


@jit
def random_bin(k: Any, n: int) -> int:
    """Draw a bin: get_random_u32_below(MEMCG_NR_BINS)."""
    k.node[n].memcg_lru_draws += 1
    return int(draw(k, STREAM_MEMCG_LRU, n, k.node[n].memcg_lru_draws) % MEMCG_NR_BINS)


@jit
def _link(k: Any, c: int, n: int, g: int, b: int, to_tail: bool) -> None:
    lru = k.node[n]
    lv = k.memcg[c].lruvec[n]
    head, tail = lru.memcg_lru_head[g, b], lru.memcg_lru_tail[g, b]
    lv.memcg_gen, lv.memcg_bin = g, b
    if to_tail or tail < 0:
        lv.memcg_prev, lv.memcg_next = tail, -1
        lru.memcg_lru_tail[g, b] = c
        if tail >= 0:
            k.memcg[tail].lruvec[n].memcg_next = c
        else:
            lru.memcg_lru_head[g, b] = c
    else:
        lv.memcg_prev, lv.memcg_next = -1, head
        lru.memcg_lru_head[g, b] = c
        k.memcg[head].lruvec[n].memcg_prev = c
    lru.memcg_lru_nr[g] += 1


@jit
def _unlink(k: Any, c: int, n: int) -> None:
    lru = k.node[n]
    lv = k.memcg[c].lruvec[n]
    g, b = lv.memcg_gen, lv.memcg_bin
    if lv.memcg_prev >= 0:
        k.memcg[lv.memcg_prev].lruvec[n].memcg_next = lv.memcg_next
    else:
        lru.memcg_lru_head[g, b] = lv.memcg_next
    if lv.memcg_next >= 0:
        k.memcg[lv.memcg_next].lruvec[n].memcg_prev = lv.memcg_prev
    else:
        lru.memcg_lru_tail[g, b] = lv.memcg_prev
    lv.memcg_prev, lv.memcg_next = -1, -1
    lru.memcg_lru_nr[g] -= 1


@jit
def lru_gen_online_memcg(k: Any, c: int, n: int) -> None:
    """Put a new memcg at the tail of a random bin of the old generation."""
    _link(k, c, n, k.node[n].memcg_lru_seq % MEMCG_NR_GENS, random_bin(k, n), True)


@jit
def lru_gen_rotate_memcg(k: Any, c: int, n: int, op: int) -> None:
    """Move a memcg to the head or tail of its generation, or to the old or young one.

    Kernel
    ------
    mm/vmscan.c, lru_gen_rotate_memcg(): the node's counter goes on when no memcg is left in
    the old generation.
    """
    lv = k.memcg[c].lruvec[n]
    seq = k.node[n].memcg_lru_seq
    old = lv.memcg_gen + 0
    new = old
    if op == MEMCG_LRU_OLD:
        new = seq % MEMCG_NR_GENS
    elif op == MEMCG_LRU_YOUNG:
        new = (seq + 1) % MEMCG_NR_GENS
    lv.memcg_seg = op if op == MEMCG_LRU_HEAD or op == MEMCG_LRU_TAIL else 0
    _unlink(k, c, n)
    _link(k, c, n, new, random_bin(k, n), op == MEMCG_LRU_TAIL or op == MEMCG_LRU_YOUNG)
    if k.node[n].memcg_lru_nr[old] == 0 and old == seq % MEMCG_NR_GENS:
        k.node[n].memcg_lru_seq += 1


@jit
def lru_gen_offline_memcg(k: Any, c: int, n: int) -> None:
    """Bring a deleted memcg to the front of the old generation: scraped first."""
    lru_gen_rotate_memcg(k, c, n, MEMCG_LRU_OLD)


@jit
def lru_gen_soft_reclaim(k: Any, c: int, n: int) -> None:
    """Bring a memcg that is over its v1 soft limit to the head of its generation."""
    if k.memcg[c].lruvec[n].memcg_seg != MEMCG_LRU_HEAD:
        lru_gen_rotate_memcg(k, c, n, MEMCG_LRU_HEAD)
