"""Transparent huge pages that are one: found, split (mm/huge_memory.c).

A huge page is a block of 2^(9 - g) granules. Each has its place on an LRU list, next to the others,
and the flag PG_HUGE until the page is split. As long as it is not, compaction leaves it where it is
(isolate_migratepages_block()), the classic LRU takes it or leaves it as one, and its block is freed
as one, to the per-cpu list of huge pages.

Departs from the kernel: a huge page of which a part is unmapped is split at once, not when memory
is short (deferred_split_scan()); the active list and the multi-gen LRU move its granules one by
one, and the latter splits it at its eviction; at g > 0 it was touched when a sample page of one of
its granules was.
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import rare
from capplan.mm.state import PAGEBLOCK_ORDER, PG_HUGE, PG_MLOCKED, PG_SWAP_CLEAN, PG_SWAPCACHE

__all__ = ["huge_first", "huge_pages", "is_uniform", "split_huge_page"]


@rare
def huge_pages(k: Any) -> int:
    """Frames of a huge page."""
    return 1 << (PAGEBLOCK_ORDER - k.g)  # type: ignore[no-any-return]


@rare
def huge_first(k: Any, fr: Any, i: int) -> int:
    """First frame of the huge page that frame `i` is of (compound_head())."""
    return i - ((i - k.zone[fr[i].zone].first_frame) & (huge_pages(k) - 1))  # type: ignore[no-any-return]


@rare
def split_huge_page(k: Any, fr: Any, i: int) -> None:
    """From now on the granules of frame `i`'s huge page are pages like others.

    Kernel
    ------
    mm/huge_memory.c, split_huge_page_to_list(). Its tails follow the head on the LRU list.
    """
    first = huge_first(k, fr, i)
    for j in range(first, first + huge_pages(k)):
        fr[j].flags &= ~PG_HUGE
    fr[first].order = k.g


@rare
def is_uniform(k: Any, fr: Any, i: int) -> bool:
    """Whether all of frame `i`'s huge page is of one mapping, group, and state of swapping.

    A fault brings single granules back from the swap cache: such a page is not one any more.
    """
    first = huge_first(k, fr, i)
    alike = PG_HUGE | PG_MLOCKED | PG_SWAPCACHE | PG_SWAP_CLEAN
    flags = fr[first].flags & alike
    for j in range(first + 1, first + huge_pages(k)):
        if fr[j].flags & alike != flags or fr[j].mapping != fr[first].mapping:
            return False
        if fr[j].memcg != fr[first].memcg:
            return False
    return True
