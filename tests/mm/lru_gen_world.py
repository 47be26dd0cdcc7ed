"""A small world for the tests of the multi-gen LRU."""

from __future__ import annotations

from typing import Any

from capplan.mm import lru_gen_lists, lru_gen_memcg
from capplan.mm.state import (
    ACCESS_IDLE,
    LRU_NONE,
    MAP_ANON,
    MAP_FILE,
    PG_SWAPBACKED,
    PROC_LIVE,
    PTE_PRESENT,
    ZONE_NORMAL,
    new_entries,
    new_frames,
    new_kernel,
)

ANON, FILE = 0, 1


def world(nr_memcgs: int = 1, nr_frames: int = 64) -> tuple[Any, Any, Any]:
    """One node with one zone, an anonymous mapping 0 and a mmapped file 1; idle accesses.

    Process 0 of memcg 0 maps both; :func:`present` puts a page into its tables.
    """
    k, fr, pt = new_kernel()[0], new_frames(nr_frames), new_entries(2 * nr_frames)
    k.lru_gen, k.nr_nodes, k.nr_memcgs, k.granule_pages = 1, 1, nr_memcgs, 1
    k.sc.reclaim_idx, k.sc.priority, k.sc.may_swap = ZONE_NORMAL, 12, 1
    k.sc.may_unmap = 1
    k.swappiness = 60
    k.nr_mappings = 2
    for m, kind in ((0, MAP_ANON), (1, MAP_FILE)):
        mapping = k.mapping[m]
        mapping.kind, mapping.pattern = kind, ACCESS_IDLE
        mapping.first_pte, mapping.nr_ptes = m * nr_frames, nr_frames
        mapping.size_pages = mapping.used = nr_frames
        k.vma[m].mapping, k.vma[m].next = m, 1 if m == 0 else -1
    k.nr_procs, k.proc[0].state, k.proc[0].first_vma = 1, PROC_LIVE, 0
    for c in range(nr_memcgs):
        k.memcg[c].online, k.memcg[c].parent = 1, c - 1 if c < 2 else 0
        lru_gen_lists.lru_gen_init_lruvec(k, c, 0)
        lru_gen_memcg.lru_gen_online_memcg(k, c, 0)
    return k, fr, pt


def page(fr: Any, i: int, t: int, flags: int = 0, memcg: int = 0, nr_pages: int = 1) -> int:
    """Set up frame i as a page of one of the two mappings, on no list."""
    f = fr[i]
    f.zone, f.memcg, f.nr_pages = ZONE_NORMAL, memcg, nr_pages
    f.flags = flags | (PG_SWAPBACKED if t == ANON else 0)
    f.mapping, f.pte = t, t * len(fr) + i
    f.gen, f.refs, f.lru = 0, 0, LRU_NONE
    return i


def add(k: Any, fr: Any, i: int, t: int, flags: int = 0, **kw: int) -> int:
    page(fr, i, t, flags, **kw)
    assert lru_gen_lists.lru_gen_add_folio(k, fr, i, False)
    return i


def present(fr: Any, pt: Any, i: int) -> None:
    """Have process 0's page tables reach frame i."""
    pt[fr[i].pte].state, pt[fr[i].pte].frame = PTE_PRESENT, i


def seq_of(k: Any, fr: Any, i: int) -> int:
    """Sequence number that the folio's generation stands for."""
    lv = k.memcg[fr[i].memcg].lruvec[0]
    return next(s for s in range(lv.max_seq - 3, lv.max_seq + 1) if s % 4 == fr[i].gen - 1)


def list_of(lv: Any, fr: Any, g: int, t: int) -> list[int]:
    """Frames from the head of a generation's list to its tail."""
    frames, i = [], int(lv.gen_head[g, t, ZONE_NORMAL])
    while i >= 0:
        frames.append(i)
        i = int(fr[i].next)
    assert (frames[-1] if frames else -1) == lv.gen_tail[g, t, ZONE_NORMAL]
    return frames
