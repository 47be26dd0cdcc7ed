"""LRU lists and the question "was this page touched?" (mm/swap.c, mm/rmap.c).

Five lists per memcg and node; the head is the newest, the tail is scanned. Accesses are
not played: whether a page was touched since the last look follows from the progress of
its mapping's accesses then and now (:func:`referenced`). What the kernel does at access
time (the second read(2) activates) is done by :func:`mark_accessed`.
"""

from __future__ import annotations

import math

import numpy as np

from capplan.mm._jit import ENABLED, jit
from capplan.mm.lru_gen_lists import (
    lru_gen_add_folio,
    lru_gen_del_folio,
    lru_gen_mark_accessed,
)
from capplan.mm.state import (
    ACCESS_CYCLIC,
    ACCESS_UNIFORM,
    ACCESS_ZIPF,
    AHEAD,
    LRU_INACTIVE_ANON,
    LRU_INACTIVE_FILE,
    LRU_NONE,
    LRU_UNEVICTABLE,
    NS_PER_S,
    PG_ACTIVE,
    PG_MLOCKED,
    PG_REFERENCED,
    PG_SWAPBACKED,
    PG_YOUNG,
    VM_PGACTIVATE,
)

__all__ = [
    "activate",
    "count_pages",
    "draw",
    "link_head",
    "lru_add",
    "lru_add_tail",
    "lru_del",
    "lru_move",
    "mark_accessed",
    "progress_now",
    "referenced",
    "unlink",
]


# Compiled, 64 bits wrap around; plain Python's integers are cut to them.
U64 = np.uint64 if ENABLED else int
MASK = U64(0xFFFFFFFFFFFFFFFF)


@jit
def draw(k, stream, granule, ordinal):
    """A uniform integer in [0, 2^53) that depends on its arguments only (splitmix64).

    Counter-based, so that a draw never depends on what other workloads did: settings of a
    sweep see the same workload.
    """
    x = U64(k.seed) ^ (U64(k.replicate) * U64(0x9E3779B97F4A7C15) & MASK)
    x = x + U64(stream) * U64(0xBF58476D1CE4E5B9)
    x = x + U64(granule) * U64(0x94D049BB133111EB) + U64(ordinal) & MASK
    for _ in range(2):
        x = x + U64(0x9E3779B97F4A7C15) & MASK
        x = (x ^ (x >> U64(30))) * U64(0xBF58476D1CE4E5B9) & MASK
        x = (x ^ (x >> U64(27))) * U64(0x94D049BB133111EB) & MASK
        x = x ^ (x >> U64(31))
    return np.int64(x >> U64(11))


@jit
def draw_below(k, stream, granule, ordinal, probability):
    """Whether the draw falls below a probability."""
    return draw(k, stream, granule, ordinal) < probability * 9007199254740992.0


@jit
def folio_list(fr, i):
    """The list a page belongs on, from its flags (folio_lru_list)."""
    flags = fr[i].flags
    if flags & PG_MLOCKED:
        return LRU_UNEVICTABLE
    lru = LRU_INACTIVE_ANON if flags & PG_SWAPBACKED else LRU_INACTIVE_FILE
    if flags & PG_ACTIVE:
        lru += 1
    return lru


@jit
def count_pages(k, z, c, lru, nr):
    """Count nr pages of zone z and group c onto a list (or off it, nr < 0)."""
    n = z >> 2
    k.memcg[c].lruvec[n].pages[lru] += nr
    k.zone[z].lru_pages[lru] += nr
    while c >= 0:
        k.memcg[c].lruvec[n].tree_pages[lru] += nr
        c = k.memcg[c].parent


@jit
def _count_move(k, fr, i, old, new, nr):
    """Count nr pages from one list to another: the groups above are gone through once."""
    zone = fr[i].zone
    n = zone >> 2
    c = fr[i].memcg
    pages = k.memcg[c].lruvec[n].pages
    pages[old] -= nr
    pages[new] += nr
    k.zone[zone].lru_pages[old] -= nr
    k.zone[zone].lru_pages[new] += nr
    while c >= 0:
        tree_pages = k.memcg[c].lruvec[n].tree_pages
        tree_pages[old] -= nr
        tree_pages[new] += nr
        c = k.memcg[c].parent


@jit
def link_head(lruvec, fr, i, lru):
    """Page i becomes the newest of a list, which is counted elsewhere."""
    head = lruvec.head[lru]
    fr[i].prev = -1
    fr[i].next = head
    if head >= 0:
        fr[head].prev = i
    else:
        lruvec.tail[lru] = i
    lruvec.head[lru] = i
    fr[i].lru = lru
    if lruvec.latest[lru, AHEAD - 1] >= 0:
        fr[lruvec.latest[lru, AHEAD - 1]].ahead = i
    for back in range(AHEAD - 1, 0, -1):
        lruvec.latest[lru, back] = lruvec.latest[lru, back - 1]
    lruvec.latest[lru, 0] = i


@jit
def unlink(lruvec, fr, i, lru):
    """Page i leaves a list, which is counted elsewhere."""
    before, after = fr[i].prev, fr[i].next
    if before >= 0:
        fr[before].next = after
    else:
        lruvec.head[lru] = after
    if after >= 0:
        fr[after].prev = before
    else:
        lruvec.tail[lru] = before


@jit
def lru_add(k, fr, i):
    """Put page i at the head of the list its flags name."""
    lru = folio_list(fr, i)
    if k.lru_gen and lru != LRU_UNEVICTABLE:
        lru_gen_add_folio(k, fr, i, False)
        return
    link_head(k.memcg[fr[i].memcg].lruvec[fr[i].zone >> 2], fr, i, lru)
    count_pages(k, fr[i].zone, fr[i].memcg, lru, fr[i].nr_pages)


@jit
def lru_add_tail(k, fr, i):
    """Put page i at the tail, where it is scanned next (folio_rotate_reclaimable)."""
    lru = folio_list(fr, i)
    if k.lru_gen and lru != LRU_UNEVICTABLE:
        lru_gen_add_folio(k, fr, i, True)
        return
    lruvec = k.memcg[fr[i].memcg].lruvec[fr[i].zone >> 2]
    tail = lruvec.tail[lru]
    fr[i].next = -1
    fr[i].prev = tail
    if tail >= 0:
        fr[tail].next = i
    else:
        lruvec.head[lru] = i
    lruvec.tail[lru] = i
    fr[i].lru = lru
    count_pages(k, fr[i].zone, fr[i].memcg, lru, fr[i].nr_pages)


@jit
def lru_del(k, fr, i):
    """Take page i off its list."""
    lru = np.int64(fr[i].lru)
    if lru == LRU_NONE:
        return
    if k.lru_gen and lru != LRU_UNEVICTABLE:
        lru_gen_del_folio(k, fr, i)
        return
    unlink(k.memcg[fr[i].memcg].lruvec[fr[i].zone >> 2], fr, i, lru)
    fr[i].lru = LRU_NONE
    count_pages(k, fr[i].zone, fr[i].memcg, lru, -fr[i].nr_pages)


@jit
def lru_move(k, fr, i):
    """Move page i from its list to the head of the one its flags name (move_folios_to_lru)."""
    old = np.int64(fr[i].lru)
    new = folio_list(fr, i)
    if old == LRU_NONE or k.lru_gen:
        lru_del(k, fr, i)
        lru_add(k, fr, i)
        return
    lruvec = k.memcg[fr[i].memcg].lruvec[fr[i].zone >> 2]
    unlink(lruvec, fr, i, old)
    link_head(lruvec, fr, i, new)
    if old != new:
        _count_move(k, fr, i, old, new, fr[i].nr_pages)


@jit
def age_nonresident(k, c, n, nr):
    """Advance the eviction clock of group c and its ancestors (workingset_age_nonresident)."""
    while c >= 0:
        k.memcg[c].lruvec[n].nonresident_age += nr
        c = k.memcg[c].parent


@jit
def activate(k, fr, i):
    """Move an inactive page to the active list (folio_activate)."""
    if fr[i].flags & (PG_ACTIVE | PG_MLOCKED):
        return
    fr[i].flags |= PG_ACTIVE
    lru_move(k, fr, i)
    k.vmstat[VM_PGACTIVATE] += fr[i].nr_pages


@jit
def mark_accessed(k, fr, i):
    """A read(2) or write(2) touched page i: first Referenced, then active (folio_mark_accessed)."""
    flags = fr[i].flags
    if k.lru_gen:
        lru_gen_mark_accessed(fr, i)
        return
    if not flags & PG_REFERENCED:
        fr[i].flags |= PG_REFERENCED
    elif not flags & (PG_ACTIVE | PG_MLOCKED):
        activate(k, fr, i)
        k.work_ns += k.cost.rotate_ns * fr[i].nr_pages
        fr[i].flags &= ~PG_REFERENCED
        age_nonresident(k, fr[i].memcg, fr[i].zone >> 2, fr[i].nr_pages)


@jit
def progress_now(k, m):
    """Pages accessed in mapping m so far, its running accesses included."""
    mapping = k.mapping[m]
    if mapping.rate > 0.0:
        return mapping.progress + mapping.rate * (k.now_ns - mapping.progress_ns) / NS_PER_S
    return mapping.progress


@jit
def zipf_cumulative(mapping, rank, nr):
    """Share of the accesses that fall on the ``rank`` most popular of nr granules.

    Granule i has rank i; the weights (i + 1)^-s are integrated, not summed.
    """
    x = rank + 1.0
    s = mapping.zipf_s
    if abs(s - 1.0) < 1e-9:
        return math.log(x) / math.log(nr + 1.0)
    return (x ** (1.0 - s) - 1.0) / ((nr + 1.0) ** (1.0 - s) - 1.0)


@jit
def zipf_mass(mapping, first, end):
    """What granules [first, end) weigh under zipf, up to a factor: (i + 1)^-s, integrated."""
    s = mapping.zipf_s
    if abs(s - 1.0) < 1e-9:
        return math.log((end + 1.0) / (first + 1.0))
    return ((end + 1.0) ** (1.0 - s) - (first + 1.0) ** (1.0 - s)) / (1.0 - s)


@jit
def zipf_weight(mapping, index, nr):
    """Share of the accesses that fall on granule ``index`` of nr."""
    return zipf_cumulative(mapping, index + 1.0, nr) - zipf_cumulative(mapping, 1.0 * index, nr)


@jit
def referenced(k, fr, i):
    """Number of page tables that touched page i since the last look; clears it (folio_referenced).

    A granule answers as one sample page of it. Cyclic accesses are answered exactly from the
    pointer's position; random ones by a draw with p = 1 - exp(-accesses per page).

    Departs from the kernel: a page mapped by several processes answers 2 where the
    expected number of touches is at least 2, whoever made them.
    """
    page = fr[i]
    young = page.flags & PG_YOUNG
    page.flags &= ~PG_YOUNG
    if page.mapping < 0:
        return 0
    mapping = k.mapping[page.mapping]
    now = progress_now(k, page.mapping)
    then = page.seen
    page.seen = now
    if now <= then or mapping.size_pages <= 0:
        return 1 if young else 0
    nr = np.float64(mapping.size_pages)
    index = page.pte - mapping.first_pte
    touched = False
    expected = (now - then) / nr
    if mapping.pattern == ACCESS_CYCLIC:
        at = np.float64(index * k.granule_pages)
        touched = math.floor((now - at) / nr) > math.floor((then - at) / nr)
    elif mapping.pattern == ACCESS_UNIFORM or mapping.pattern == ACCESS_ZIPF:
        if mapping.pattern == ACCESS_ZIPF:
            granules = max(np.int64(1), mapping.size_pages // k.granule_pages)
            expected = (now - then) * zipf_weight(mapping, index, granules) / page.nr_pages
        ordinal = np.int64(now) & 0x7FFFFFFF
        touched = draw_below(k, mapping.stream, index, ordinal, 1.0 - math.exp(-expected))
    if not touched:
        return 1 if young else 0
    shared = mapping.first_vma >= 0 and k.vma[mapping.first_vma].next_on_mapping >= 0
    return 2 if shared and expected >= 2.0 else 1
