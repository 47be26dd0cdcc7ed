"""Fragmentation over a run: could a block of each order be had, how much memory was too scattered?

The kernel's two indices of /sys/kernel/debug/extfrag, from the free blocks that were sampled, and
what a request meets that neither reclaims nor compacts. DMA is left out: lowmem_reserve keeps
it from containers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from capplan.plan.outcome_series import Array, Series

__all__ = ["ORDERS", "available", "available_shares", "extfrag_index", "most_unusable",
           "unusable_index"]  # fmt: skip

ORDERS = 11
Marks = tuple[int, int, int]  # min, low, high [pages]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


def _blocks(series: Series, zone: str) -> Array | None:
    """Free blocks of a zone, by sample and order."""
    columns = [series.get(f"zone.{zone}.order{order}") for order in range(ORDERS)]
    found = [column for column in columns if column is not None]
    return np.stack(found, axis=1) if len(found) == ORDERS else None


def unusable_index(blocks: Array, order: int) -> Array:
    """Share of the free memory that no block of `order` can use, 0..1.

    Parameters
    ----------
    blocks : (T, 11) float
        Free blocks by sample and order.
    order : int

    Kernel
    ------
    mm/vmstat.c, unusable_free_index(): 0 where nothing is free; [1/1000] there.

    Worked example
    --------------
    Order 9, with 1000, 500, 200, 100 blocks of orders 0 to 3, two of 9 and one of 10: 3,600 of
    5,648 pages, 0.637.
    """
    pages = blocks * (1 << np.arange(ORDERS))
    free = pages.sum(axis=1)
    small = pages[:, :order].sum(axis=1)
    return np.where(free > 0, small / np.maximum(free, 1), 0.0)


def extfrag_index(blocks: Array, order: int) -> Array:
    """Would `order` fail for want of memory (towards 0) or of blocks (towards 1)? -1: it would not.

    Kernel
    ------
    mm/vmstat.c, __fragmentation_index(); [1/1000] there.

    Worked example
    --------------
    Order 9, with 1000, 500, 200, 100 blocks of orders 0 to 3: 0.996.
    """
    free = (blocks * (1 << np.arange(ORDERS))).sum(axis=1)
    number = blocks.sum(axis=1)
    index = 1000 - (1000 + free * 1000 // (1 << order)) // np.maximum(number, 1)
    index = np.where(number > 0, index, 0)
    return np.where(blocks[:, order:].sum(axis=1) > 0, -1.0, index / 1000)


def available(series: Series, zones: Mapping[str, Marks], order: int) -> Flags | None:
    """Whether a request of `order` gets a block at once, by sample; None: not recorded.

    A zone has to have one, and to stay above LOW without it (__zone_watermark_ok()).
    """
    found = _available(_watched(series, zones))
    return None if found is None else found[:, order]


def _watched(series: Series, zones: Mapping[str, Marks]) -> list[tuple[Array, Array, int]]:
    """Blocks, free pages and LOW of each zone that is looked at and was recorded."""
    found = []
    for zone, (_, low, _) in zones.items():
        blocks = None if zone.endswith("DMA") else _blocks(series, zone)
        free = series.get(f"zone.{zone}.free")
        if blocks is not None and free is not None:
            found.append((blocks, free, low))
    return found


def _available(watched: list[tuple[Array, Array, int]]) -> Flags | None:
    """Whether a block could be had at once, by sample and order."""
    found: Flags | None = None
    for blocks, free, low in watched:
        larger = blocks[:, ::-1].cumsum(axis=1)[:, ::-1]  # of an order and all above it
        above = free[:, None] - (1 << np.arange(ORDERS)) + 1 > low
        here = (larger > 0) & above
        found = here if found is None else found | here
    return found


def available_shares(series: Series, zones: Mapping[str, Marks]) -> tuple[float, ...]:
    """Share of the samples at which a block of each order could be had; empty: not recorded."""
    found = _available(_watched(series, zones))
    return () if found is None else tuple(found.mean(axis=0).tolist())


def most_unusable(series: Series, zones: Mapping[str, Marks], order: int) -> float | None:
    """Largest share of free memory that no block of `order` could use, all zones but DMA."""
    parts = [_blocks(series, zone) for zone in zones if not zone.endswith("DMA")]
    blocks = [part for part in parts if part is not None]
    return float(unusable_index(np.sum(blocks, axis=0), order).max()) if blocks else None
