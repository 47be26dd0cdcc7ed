"""Free lists as they are when a run begins: from a count of pages, or from buddyinfo.

Plain numpy: this runs once per zone and is not worth compiling.

Algorithm::

    counts  buddyinfo, made to add up to the free pages (smallest blocks give way first)
    place   blocks of order o at aligned frames, each with its buddy not wholly free
    lists   the map of free frames, cut into the largest aligned blocks
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from capplan.mm.state import (
    MAX_PAGE_ORDER,
    MT_HIGHATOMIC,
    MT_MOVABLE,
    MT_RECLAIMABLE,
    MT_UNMOVABLE,
    NR_ORDERS,
    PAGEBLOCK_ORDER,
    PG_FREE,
)

__all__ = ["buddy_init", "buddy_init_captured"]

FREE_TYPES = (MT_UNMOVABLE, MT_RECLAIMABLE, MT_HIGHATOMIC, MT_MOVABLE)


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
    frames = _reset(k, fr, z)
    if sum(count << o for o, count in enumerate(counts) if o >= g) > n << int(k.g):
        msg = f"zone {z}: {free_pages} free pages do not fit in {n} frames of order {int(k.g)}"
        raise ValueError(msg)
    zone.bag_seed[:g] = counts[:g]
    zone.bag_seed_pages = sum(count << o for o, count in enumerate(counts[:g]))
    zone.free = free_pages
    zone.nr_free[:g, MT_MOVABLE] = counts[:g]
    if n > 0:
        free = _place(counts[g:], n)
        for order, heads in _maximal_blocks(free, g):
            _write_list(zone, frames, order, heads, first)


def _reset(k: Any, fr: Any, z: int) -> Any:
    """Make all frames of zone `z` used ones in Movable pageblocks; return them."""
    zone = k.zone[z]
    first, n = int(zone.first_frame), 0 if zone.counters_only else int(zone.nr_frames)
    frames = fr[first : first + n]
    frames["zone"] = z
    frames["migratetype"] = MT_MOVABLE
    frames["flags"] = 0
    zone.nr_free[:] = 0
    zone.head[:] = -1
    zone.tail[:] = -1
    zone.bag_seed[:] = 0
    zone.bag_seed_pages = 0
    zone.bag_used[:] = 0
    zone.bag_granules[:] = 0
    zone.bag_head[:] = -1
    return frames


def buddy_init_captured(
    k: Any,
    fr: Any,
    z: int,
    free_pages: int,
    used_pages: int,
    blocks: Mapping[int, Sequence[int]],
) -> None:
    """Free lists of a zone whose state was captured: its free blocks are put by.

    While what the node holds is being placed the lists hold `used_pages` and nothing else;
    :func:`capplan.mm.captured.finish` then takes what is left of them for the kernel and puts
    the captured blocks on the lists, so a run starts with the free lists that were seen.

    Parameters
    ----------
    k, fr, z
        As of :func:`buddy_init`. The zone must have frames.
    free_pages : int
        Free pages that were seen. [pages]
    used_pages : int
        The other pages, without those on per-cpu lists that are placed from them too. [pages]
    blocks : mapping of int to sequence of int
        Free blocks per order by migratetype (HighAtomic is one too); made to add up
        to `free_pages`. Where only buddyinfo is known all are Movable.

    Departs from the kernel
    -----------------------
    Where blocks lie is not known: Unmovable and Reclaimable ones are put at the zone's end,
    in pageblocks of their type as far as there is room. HighAtomic pageblocks without a free page
    are not known.
    """
    zone = k.zone[z]
    g = int(k.g)
    frames = _reset(k, fr, z)
    first, n = int(zone.first_frame), int(zone.nr_frames)
    counts = _counts_by_type(free_pages, blocks)
    zone.free = 0
    zone.stash = -1
    zone.stash_seed[:g] = [sum(c[o] for c in counts.values()) for o in range(g)]
    free = _place_types(zone, frames, counts, g)
    for order, heads in _maximal_blocks(free, g):
        _stash(zone, frames, order, heads, first)
    # what is in use is Movable as far as there is room
    room = np.flatnonzero(~free)
    order_of_use = np.argsort(frames["migratetype"][room] != MT_MOVABLE, kind="stable")
    placed = np.zeros(n, np.bool_)
    placed[room[order_of_use][: used_pages >> g]] = True
    zone.free = int(placed.sum()) << g
    for mt in FREE_TYPES:
        for order, heads in _maximal_blocks(placed & (frames["migratetype"] == mt), g):
            _write_list(zone, frames, order, heads, first, mt)


def _place_types(
    zone: Any, frames: Any, counts: dict[int, list[int]], g: int
) -> npt.NDArray[np.bool_]:
    """Which frames are free: the Movable ones' at the start, each other type's at the end."""
    end = n = len(frames)
    movable = sum(count << r for r, count in enumerate(counts[MT_MOVABLE][g:]))
    free = np.zeros(n, np.bool_)
    for mt in FREE_TYPES:
        start = 0
        if mt == MT_HIGHATOMIC and any(counts[mt][g:]):
            end -= end % (1 << (PAGEBLOCK_ORDER - g))
        if mt != MT_MOVABLE:
            start = end - _frames_for(counts[mt][g:], g)
            if start == end:
                continue
            if start < movable:  # no room for a place of their own
                counts[MT_MOVABLE] = _sum(counts[MT_MOVABLE], counts[mt])
                movable += sum(count << r for r, count in enumerate(counts[mt][g:]))
                continue
        free[start:end] = _place(counts[mt][g:], end - start)
        frames["migratetype"][start:end] = mt
        if mt == MT_HIGHATOMIC:
            _reserve_highatomic(zone, frames[start:end], free[start:end], g)
        end = start
    return free


def _reserve_highatomic(zone: Any, frames: Any, free: npt.NDArray[np.bool_], g: int) -> None:
    """Only pageblocks that have free pages are in the reserve; the others are Movable."""
    size = 1 << (PAGEBLOCK_ORDER - g)
    has_free = free.reshape(-1, size).any(axis=1)
    frames["migratetype"] = np.where(np.repeat(has_free, size), MT_HIGHATOMIC, MT_MOVABLE)
    zone.nr_reserved_highatomic = int(has_free.sum()) << PAGEBLOCK_ORDER


def _counts_by_type(free_pages: int, blocks: Mapping[int, Sequence[int]]) -> dict[int, list[int]]:
    """Free blocks per migratetype and order that add up to `free_pages`."""
    counts = {mt: (list(blocks.get(mt, ())) + [0] * NR_ORDERS)[:NR_ORDERS] for mt in FREE_TYPES}
    others = sum(n << o for mt in FREE_TYPES if mt != MT_MOVABLE for o, n in enumerate(counts[mt]))
    if others > free_pages:  # seen at another moment than the free pages
        return {mt: [0] * NR_ORDERS for mt in FREE_TYPES} | {
            MT_MOVABLE: _block_counts(free_pages, counts[MT_MOVABLE])
        }
    counts[MT_MOVABLE] = _block_counts(free_pages - others, counts[MT_MOVABLE])
    return counts


def _sum(a: Sequence[int], b: Sequence[int]) -> list[int]:
    return [x + y for x, y in zip(a, b)]


def _frames_for(counts: Sequence[int], g: int) -> int:
    """Frames, in whole blocks of the largest order, that blocks apart from buddies need."""
    largest = 1 << (MAX_PAGE_ORDER - g)
    frames = 2 * sum(count << r for r, count in enumerate(counts))
    return -(-frames // largest) * largest


def _stash(zone: Any, frames: Any, order: int, heads: npt.NDArray[np.int64], first: int) -> None:
    """Chain free blocks apart from the lists, the lowest address first."""
    for head in heads[::-1].tolist():
        frames["order"][head] = order
        frames["next"][head] = zone.stash
        zone.stash = head + first


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
    whole = min(counts[top], len(regions[top]))
    free[: whole << top] = True
    del regions[top][len(regions[top]) - whole :]
    left = counts[top] - whole
    for r in range(top - 1, -1, -1):
        left *= 2
        for done in range(counts[r]):
            at = _split(regions, r)
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
    zone: Any,
    frames: Any,
    order: int,
    heads: npt.NDArray[np.int64],
    first: int,
    mt: int = MT_MOVABLE,
) -> None:
    """Write one free list, lowest address first."""
    if len(heads) == 0:
        return
    links = heads + first
    frames["flags"][heads] = PG_FREE
    frames["order"][heads] = order
    frames["refs"][heads] = mt
    frames["next"][heads] = np.append(links[1:], -1)
    frames["prev"][heads] = np.append(-1, links[:-1])
    zone.head[order, mt] = links[0]
    zone.tail[order, mt] = links[-1]
    zone.nr_free[order, mt] += len(heads)
