"""How fragmented the free memory of a zone is (mm/vmstat.c).

order_available       a block of the order is free: a request would be met, marks apart
fragmentation_index   would it fail for want of memory (0), or of large blocks (1000)?
extfrag_for_order     share of the free memory that a request of the order cannot use
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import jit
from capplan.mm.state import MT_HIGHATOMIC, NR_MIGRATETYPES, NR_ORDERS

__all__ = ["extfrag_for_order", "fragmentation_index", "order_available"]


@jit
def order_available(k: Any, z: int, order: int) -> bool:
    """Whether zone `z` has a free block of at least `order` that is not highatomic."""
    for o in range(order, NR_ORDERS):
        for mt in range(MT_HIGHATOMIC):
            if k.zone[z].nr_free[o, mt] > 0:
                return True
    return False


@jit
def _free_pages_and_blocks(k: Any, z: int, order: int) -> tuple[int, int, int]:
    """Free pages, free blocks, and blocks of `order` that the free lists hold."""
    pages = blocks = suitable = 0
    for o in range(NR_ORDERS):
        count = 0
        for mt in range(NR_MIGRATETYPES):
            count += k.zone[z].nr_free[o, mt]
        blocks += count
        pages += count << o
        if o >= order:
            suitable += count << (o - order)
    return pages, blocks, suitable


@jit
def fragmentation_index(k: Any, z: int, order: int) -> int:
    """Why a request of `order` fails: towards 0 lack of memory, towards 1000 fragmentation.

    -1000: it would not fail.

    Kernel
    ------
    mm/vmstat.c, __fragmentation_index().

    Worked example
    --------------
    Order 9 with 1000, 500, 200, 100 free blocks of orders 0 to 3: 996. Order 4 with eight
    blocks of order 3: 375.
    """
    pages, blocks, suitable = _free_pages_and_blocks(k, z, order)
    if blocks == 0:
        return 0
    if suitable > 0:
        return -1000
    return 1000 - (1000 + pages * 1000 // (1 << order)) // blocks


@jit
def extfrag_for_order(k: Any, z: int, order: int) -> int:
    """Share of free memory that no block of `order` can use [%].

    Kernel
    ------
    mm/vmstat.c, extfrag_for_order().

    Worked example
    --------------
    Order 9 with 1000, 500, 200, 100 blocks of orders 0 to 3, two of 9 and one of 10: 63.
    """
    pages, _, suitable = _free_pages_and_blocks(k, z, order)
    if pages == 0:
        return 0
    return (pages - (suitable << order)) * 100 // pages
