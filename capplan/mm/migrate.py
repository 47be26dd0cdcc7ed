"""Moving a page's contents to another frame of its zone (mm/migrate.c).

taken off its list -> mapped by nobody -> copied -> mapped again -> at the head of its list
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import rare
from capplan.mm.lruvec import lru_add, lru_del
from capplan.mm.pcp import pcp_free
from capplan.mm.state import (
    LRU_NONE,
    MT_MOVABLE,
    PCP_CPUS,
    PG_DOOMED,
    PG_FREE,
    PG_HUGE,
    PG_KERNEL,
    PG_MOVABLE,
    PG_WRITEBACK,
    VM_PGMIGRATE_SUCCESS,
)

__all__ = ["is_movable", "migrate_folio"]

_PINNED = PG_FREE | PG_HUGE | PG_KERNEL | PG_WRITEBACK | PG_DOOMED


@rare
def is_movable(k: Any, fr: Any, i: int) -> bool:
    """Whether frame `i` is a page that can be isolated: on a list, and not under I/O.

    Kernel
    ------
    mm/compaction.c, isolate_migratepages_block(). A page of the per-cpu lists, of the kernel
    and one that an exit has gathered are on no list; one of zsmalloc need not be (__PageMovable()).
    A huge page stays where it is (skip_isolation_on_order()).
    """
    f = fr[i]
    if f.flags & PG_MOVABLE:
        return True
    return f.lru != LRU_NONE and f.flags & _PINNED == 0 and f.nr_pages == k.granule_pages  # type: ignore[no-any-return]


@rare
def _migrate_single_pages(k: Any, fr: Any, i: int, j: int) -> None:
    """Granule `j` takes the place of `i`, whose single pages a pool holds (zs_page_migrate())."""
    zone = k.zone[fr[i].zone]
    fr[j].flags = PG_MOVABLE
    fr[j].nr_pages = fr[i].nr_pages
    fr[j].next = fr[i].next
    fr[j].prev = fr[i].prev
    if fr[i].next >= 0:
        fr[fr[i].next].prev = j
    if fr[i].prev >= 0:
        fr[fr[i].prev].next = j
    else:
        zone.bag_head[MT_MOVABLE] = j


@rare
def _migrate_folio(k: Any, fr: Any, pt: Any, i: int, j: int) -> None:
    """Frame `j` takes the place of `i`, a page on an LRU list (folio_migrate_flags())."""
    lru_del(k, fr, i)
    fr[j].flags = fr[i].flags
    fr[j].nr_pages = fr[i].nr_pages
    fr[j].memcg = fr[i].memcg
    fr[j].mapping = fr[i].mapping
    fr[j].pte = fr[i].pte
    fr[j].refs = fr[i].refs
    fr[j].swap = fr[i].swap
    fr[j].seen = fr[i].seen
    fr[j].gen = 0
    fr[j].lru = LRU_NONE
    fr[j].next = -1
    fr[j].prev = -1
    fr[j].io_next = -1
    pt[fr[i].pte].frame = j
    fr[i].mapping = -1
    fr[i].pte = -1
    fr[i].memcg = -1
    fr[i].swap = -1
    lru_add(k, fr, j)


@rare
def migrate_folio(k: Any, fr: Any, pt: Any, i: int, j: int) -> None:
    """Move the page of frame `i` to the free frame `j` of the same zone.

    `i` is freed, to the per-cpu list of the CPU that does this.

    The CPU time is that of unmapping, copying and putting back a page.

    Kernel
    ------
    mm/migrate.c, migrate_pages(), folio_migrate_flags(); mm/swap.c, folio_add_lru();
    mm/zsmalloc.c, zs_page_migrate().

    Departs from the kernel
    -----------------------
    Nobody touches a page while it is moved.
    """
    nr = k.granule_pages
    if fr[i].flags & PG_MOVABLE:
        _migrate_single_pages(k, fr, i, j)
    else:
        _migrate_folio(k, fr, pt, i, j)
    fr[i].flags = 0
    pcp_free(k, fr, fr[i].zone, k.cpu % PCP_CPUS, i)
    k.work_ns += (k.cost.unmap_ns + k.cost.file_copy_ns + k.cost.rotate_ns) * nr
    k.vmstat[VM_PGMIGRATE_SUCCESS] += nr
