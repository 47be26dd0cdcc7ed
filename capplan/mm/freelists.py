"""Free lists as they are when a run begins: from a count of pages, or from buddyinfo.

Plain numpy: this runs once per zone and is not worth compiling.

Algorithm::

    counts  buddyinfo, made to add up to the free pages (smallest blocks give way first)
    place   blocks of order o at aligned frames, each with its buddy not wholly free
    lists   the map of free frames, cut into the largest aligned blocks
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from capplan.mm.state import MAX_PAGE_ORDER, MT_MOVABLE, NR_ORDERS, PG_FREE

__all__ = ["buddy_init"]


def buddy_init(
    k: Any, fr: Any, z: int, free_pages: int, buddyinfo: Sequence[int] | None = None
) -> None:
    """Fill the free lists of zone `z` at boot; the other frames count as in use.

    Parameters
    ----------
    k : kernel_t
        ``g`` and the zone's ``first_frame``, ``nr_frames``, ``counters_only`` are read.
    fr : (F,) frame_t
        The zone's frames are reset.
    z : int
    free_pages : int
        Free pages of the zone; the remainder below a granule goes to the bag. [pages]
    buddyinfo : sequence of int, optional
        Free blocks per order 0..10; made to add up to `free_pages`. Default: blocks as large
        as possible.

    Raises
    ------
    ValueError
        If the zone has too few frames.

    Departs from the kernel
    -----------------------
    All pageblocks start Movable, as at boot; where free blocks lie is not known from
    buddyinfo, only that no two free buddies stand side by side.
    """
    zone = k.zone[z]
    g = NR_ORDERS if zone.counters_only else int(k.g)
    counts = _block_counts(free_pages, buddyinfo)
    first, n = int(zone.first_frame), 0 if zone.counters_only else int(zone.nr_frames)
    if sum(count << o for o, count in enumerate(counts) if o >= g) > n << int(k.g):
        msg = f"zone {z}: {free_pages} free pages do not fit in {n} frames of order {int(k.g)}"
        raise ValueError(msg)
    frames = fr[first : first + n]
    frames["zone"] = z
    frames["migratetype"] = MT_MOVABLE
    frames["flags"] = 0
    zone.nr_free[:] = 0
    zone.head[:] = -1
    zone.tail[:] = -1
    zone.bag_seed[:] = 0
    zone.bag_seed[:g] = counts[:g]
    zone.bag_seed_pages = sum(count << o for o, count in enumerate(counts[:g]))
    zone.bag_used = zone.bag_granules = 0
    zone.bag_head = -1
    zone.free = free_pages
    zone.nr_free[:g, MT_MOVABLE] = counts[:g]
    if n > 0:
        free = _place(counts[g:], n)
        for order, heads in _maximal_blocks(free, g):
            _write_list(zone, frames, order, heads, first)


def _block_counts(free_pages: int, buddyinfo: Sequence[int] | None) -> list[int]:
    """Free blocks per order that add up to `free_pages`."""
    counts = list(buddyinfo or ())[:NR_ORDERS]
    counts += [0] * (NR_ORDERS - len(counts))
    missing = free_pages - sum(count << o for o, count in enumerate(counts))
    if missing > 0:
        counts[MAX_PAGE_ORDER] += missing >> MAX_PAGE_ORDER
    o = 0
    while missing < 0:
        taken = min(counts[o], -(missing >> o))
        counts[o] -= taken
        missing += taken << o
        o += 1
    # what is missing, or was part of a block larger than what had to go
    for o in range(MAX_PAGE_ORDER):
        counts[o] += (missing >> o) & 1
    return counts


def _place(counts: Sequence[int], n: int) -> npt.NDArray[np.bool_]:
    """Which of `n` frames are free: blocks of 2^r frames, counts[r] of them, apart from buddies.

    A block takes the lower half of a region twice its size; the upper half is kept for
    smaller blocks.
    """
    free = np.zeros(n, np.bool_)
    top = len(counts) - 1
    regions: list[list[int]] = [[] for _ in range(top + 2)]
    regions[top] = list(range(0, n - (1 << top) + 1, 1 << top))[::-1]
    start = n >> top << top
    for r in range(top - 1, -1, -1):
        if n >> r & 1:
            regions[r].append(start)
            start += 1 << r
    left = 0
    for r in range(top, -1, -1):
        left *= 2
        for done in range(counts[r]):
            at = regions[r].pop() if r == top and regions[r] else _split(regions, r)
            if at < 0:
                left += counts[r] - done
                break
            free[at : at + (1 << r)] = True
    free[np.flatnonzero(~free)[:left]] = True
    return free


def _split(regions: list[list[int]], r: int) -> int:
    """Start of a free half of a region of order r + 1, or -1; the other half stays a region."""
    for larger in range(r + 1, len(regions)):
        if regions[larger]:
            at = regions[larger].pop()
            for o in range(larger - 1, r - 1, -1):
                regions[o].append(at + (1 << o))
            return at
    return -1


def _maximal_blocks(free: npt.NDArray[np.bool_], g: int) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """Largest aligned free blocks of a map of frames, as (order, block numbers)."""
    rest = free.copy()
    blocks = []
    for order in range(MAX_PAGE_ORDER, g - 1, -1):
        size = 1 << (order - g)
        whole = len(rest) // size
        grid = rest[: whole * size].reshape(whole, size)
        heads = np.flatnonzero(grid.all(axis=1))
        grid[heads] = False
        blocks.append((order, heads * size))
    return blocks


def _write_list(
    zone: Any, frames: Any, order: int, heads: npt.NDArray[np.int64], first: int
) -> None:
    """Write one free list of Movable blocks, lowest address first."""
    if len(heads) == 0:
        return
    links = heads + first
    frames["flags"][heads] = PG_FREE
    frames["order"][heads] = order
    frames["next"][heads] = np.append(links[1:], -1)
    frames["prev"][heads] = np.append(-1, links[:-1])
    zone.head[order, MT_MOVABLE] = links[0]
    zone.tail[order, MT_MOVABLE] = links[-1]
    zone.nr_free[order, MT_MOVABLE] += len(heads)
