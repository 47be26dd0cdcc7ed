"""zsmalloc: how much memory a compressed page really takes (mm/zsmalloc.c).

    object + handle -> size class, 16 bytes apart -> zspage of 1 to 4 (6.3: 8) pages
    -> as many objects as fit; what is left over at its end is lost to all of them

An object counts as its share of a full zspage: partly filled ones, at most one of each class
while a pool grows, and what compaction makes of them later, are not modelled. zswap's pool goes by
its own overhead (:mod:`capplan.mm.zswap`).
"""

from __future__ import annotations

from capplan.mm._jit import jit

__all__ = ["zs_chain_pages", "zs_huge_class_bytes", "zs_object_bytes"]

ZS_HANDLE_SIZE = 8
ZS_MIN_ALLOC_SIZE = 32
ZS_SIZE_CLASS_DELTA = 16
FIRST_CHAIN = 4  # ZS_MAX_PAGES_PER_ZSPAGE before it became an option, whose default is 8


@jit
def zs_chain_pages(size, longest):
    """Pages of a zspage of a class of ``size`` bytes, ``longest`` at most.

    Kernel
    ------
    mm/zsmalloc.c, get_pages_per_zspage(): the largest used share in whole per cent; from 6.3,
    calculate_zspage_chain_size(): the least waste in bytes, one page for powers of 2.

    Worked example
    --------------
    1120 bytes: 2 pages hold 7 objects (95 %), 4 are no better; of up to 8, those 2 waste 352
    bytes and all 8, which hold 29, 288.
    """
    chain = 1
    if longest > FIRST_CHAIN:
        if size & (size - 1) == 0:
            return 1
        least = 4096 * longest
        for pages in range(1, longest + 1):
            waste = pages * 4096 % size
            if waste < least:
                least = waste
                chain = pages
        return chain
    most = 0
    for pages in range(1, longest + 1):
        whole = pages * 4096
        used = (whole - whole % size) * 100 // whole
        if used > most:
            most = used
            chain = pages
    return chain


@jit
def zs_object_bytes(length, longest):
    """Memory that an object of ``length`` bytes takes, with its share of the waste. [bytes]

    Kernel
    ------
    mm/zsmalloc.c, zs_malloc(), get_size_class_index().

    Worked example
    --------------
    1103 bytes: with the handle 1111, class 1120, 7 of them in 2 pages: 1170. 4096: a page.
    """
    if length <= 0:
        return 0
    size = length + ZS_HANDLE_SIZE
    steps = max(size - ZS_MIN_ALLOC_SIZE + ZS_SIZE_CLASS_DELTA - 1, 0) // ZS_SIZE_CLASS_DELTA
    size = min(ZS_MIN_ALLOC_SIZE + steps * ZS_SIZE_CLASS_DELTA, 4096)
    whole = zs_chain_pages(size, longest) * 4096
    return whole // (whole // size)


@jit
def zs_huge_class_bytes(longest):
    """Objects of as many bytes or more have a page of their own (zs_huge_class_size).

    Worked example
    --------------
    Zspages of up to 4 pages: 3264 is the largest class that shares, less 7 of the handle: 3257.
    """
    size = 4096
    while size > ZS_MIN_ALLOC_SIZE:
        pages = zs_chain_pages(size, longest)
        if pages != 1 and pages * 4096 // size != 1:
            return size - (ZS_HANDLE_SIZE - 1)
        size -= ZS_SIZE_CLASS_DELTA
    return size
