"""How fragmented the free memory of a zone is (mm/vmstat.c), and a node's score of it.

order_available       a block of the order is free: a request would be met, marks apart
fragmentation_index   would it fail for want of memory (0), or of large blocks (1000)?
extfrag_for_order     share of the free memory that a request of the order cannot use
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import jit
from capplan.mm.state import MT_HIGHATOMIC, NR_MIGRATETYPES, NR_ORDERS, PAGEBLOCK_ORDER

__all__ = [
    "extfrag_for_order",
    "fragmentation_index",
    "fragmentation_score_wmark",
    "order_available",
    "proactive_score",
]


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


@jit
def fragmentation_score_wmark(k: Any, low: bool) -> int:
    """Score at which proactive compaction begins, and (low) ends.

    Worked example
    --------------
    vm.compaction_proactiveness 20: it begins above 90 and ends at 80.
    """
    mark = max(100 - k.compaction_proactiveness, 5)
    return mark if low else min(mark + 10, 100)  # type: ignore[no-any-return]


@jit
def proactive_score(k: Any, n: int) -> int:
    """Fragmentation of node `n` by the size of its zones, 0..100 (fragmentation_score_node()).

    Worked example
    --------------
    DMA of 3998 pages at 6 %, DMA32 of 61408 at 94 %: 3998 * 6 // 65407 + 61408 * 94 // 65407 =
    0 + 88.
    """
    present = 1
    for z in range(4 * n, 4 * n + 4):
        present += k.zone[z].present
    score = 0
    for z in range(4 * n, 4 * n + 4):
        if k.zone[z].managed > 0:
            score += k.zone[z].present * extfrag_for_order(k, z, PAGEBLOCK_ORDER) // present
    return score
