"""Per-cpu page lists: what a free of a high order does to them."""

from __future__ import annotations

from typing import Any

import pytest

from capplan.mm import state
from capplan.mm.buddy import buddy_init
from capplan.mm.page_alloc import rmqueue
from capplan.mm.pcp import pcp_free_high_order, pcp_put

pytestmark = pytest.mark.small

PAGES = 1024
DMA32 = 1


def machine(held: int) -> tuple[Any, Any]:
    """One zone of 1024 pages; CPU 0 holds some, with frees in a row behind it."""
    k = state.new_kernel()[0]
    k.nr_nodes = 1
    k.nr_zones = 4
    k.nr_cpus = 2
    k.granule_pages = 1
    zone = k.zone[DMA32]
    zone.managed = zone.present = zone.spanned = zone.nr_frames = PAGES
    zone.pcp_batch = 1
    frames = state.new_frames(PAGES + 8)
    buddy_init(k, frames, DMA32, PAGES, None)
    taken = [rmqueue(k, frames, DMA32, 1) for _ in range(held)]
    for i in taken:
        pcp_put(k, frames, DMA32, 0, i)
    zone.pcp_factor[0] = 1
    return k, frames


def test_pcp_free_high_order_gives_the_whole_list_back() -> None:
    k, frames = machine(100)
    assert k.zone[DMA32].free == PAGES - 100
    pcp_free_high_order(k, frames, 0)
    assert k.zone[DMA32].free == PAGES
    assert k.zone[DMA32].pcp_count[0] == 0


def test_pcp_free_high_order_after_an_allocation_gives_nothing() -> None:
    k, frames = machine(100)
    k.zone[DMA32].pcp_factor[0] = 0
    pcp_free_high_order(k, frames, 0)
    assert k.zone[DMA32].pcp_count[0] == 100


def test_pcp_free_high_order_takes_only_that_cpu() -> None:
    k, frames = machine(100)
    k.zone[DMA32].pcp_factor[1] = 1
    pcp_free_high_order(k, frames, 1)
    assert k.zone[DMA32].pcp_count[0] == 100


def test_pcp_free_high_order_from_6_7_gives_nothing() -> None:
    k, frames = machine(100)
    k.pcp_auto = 1
    pcp_free_high_order(k, frames, 0)
    assert k.zone[DMA32].pcp_count[0] == 100
