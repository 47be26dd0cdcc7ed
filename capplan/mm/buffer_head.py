"""Buffer heads, which a file system hangs on the pages that are written (fs/buffer.c).

    write(2) on ext4                  -> a buffer_head for each page: 104 bytes of slab
    the page leaves the page cache    -> it goes along (try_to_free_buffers())

Who has the page pays, with the pointer that says so 112 bytes for each 4 KiB. Reading brings none
(ext4_mpage_readpages()); XFS and btrfs have none at all.

Departs from the kernel: freed objects leave whole slabs free as soon as they are enough.
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import jit
from capplan.mm.page_alloc import alloc_kernel_pages, free_kernel_pages
from capplan.mm.pcp import PCP_RECLAIMABLE
from capplan.mm.slab import charge_objects, kept_slabs
from capplan.mm.state import PG_PRIVATE

__all__ = ["create_empty_buffers", "try_to_free_buffers"]

OBJECTS_PER_SLAB = 39  # of 104 bytes in a page


@jit
def _slabs(k: Any, fr: Any) -> None:
    """As many slabs as the buffer heads need (allocate_slab(), discard_slab())."""
    needed = (k.nr_buffer_heads + OBJECTS_PER_SLAB - 1) // OBJECTS_PER_SLAB
    more = needed - k.nr_buffer_slabs
    if more > 0:
        more = alloc_kernel_pages(k, fr, more, PCP_RECLAIMABLE)
    elif more < -kept_slabs(k):
        more += kept_slabs(k)
        free_kernel_pages(k, fr, -more, PCP_RECLAIMABLE)
    else:
        return
    k.nr_buffer_slabs += more
    k.nr_slab_reclaimable += more
    k.nr_slab_pinned += more


@jit
def create_empty_buffers(k: Any, fr: Any, i: int) -> None:
    """File page i is written to: it has buffers from now on.

    Kernel
    ------
    fs/buffer.c, create_empty_buffers(), alloc_page_buffers(): charged to the page's group.

    Worked example
    --------------
    14,690 pages of a group's file, all written: 14690 * 112 / 4096 = 402 pages of its kernel
    memory.
    """
    if fr[i].flags & PG_PRIVATE or not k.disk[k.mapping[fr[i].mapping].disk].buffer_heads:
        return
    fr[i].flags |= PG_PRIVATE
    k.nr_buffer_heads += fr[i].nr_pages
    _slabs(k, fr)
    charge_objects(k, fr[i].memcg, 0, fr[i].nr_pages)


@jit
def try_to_free_buffers(k: Any, fr: Any, i: int) -> None:
    """File page i leaves the page cache, and its buffers with it.

    A removed group's slab is its parent's (memcg_reparent_objcgs()).
    """
    if not fr[i].flags & PG_PRIVATE:
        return
    fr[i].flags &= ~PG_PRIVATE
    c = fr[i].memcg
    if c > 0 and not k.memcg[c].online:
        c = k.memcg[c].parent
    k.nr_buffer_heads -= fr[i].nr_pages
    charge_objects(k, c, 0, -fr[i].nr_pages)
    _slabs(k, fr)
