"""Per-cpu page lists: what a free of a high order does to them."""

from __future__ import annotations

from typing import Any

import pytest

from capplan.mm import state
from capplan.mm.buddy import buddy_init
from capplan.mm.page_alloc import alloc_kernel_pages, free_kernel_pages, rmqueue
from capplan.mm.pcp import (
    PCP_RECLAIMABLE,
    PCP_UNMOVABLE,
    decay_pcp_high,
    drain_all_pages,
    pcp_alloc,
    pcp_alloc_huge,
    pcp_alloc_kernel,
    pcp_free_high_order,
    pcp_free_huge,
    pcp_free_kernel,
    pcp_put,
    pcp_put_other,
)

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


def test_decay_pcp_high_gives_an_eighth_back() -> None:
    # high 96 falls to 96 - 12 = 84; of 100 pages 16 go back
    k, frames = machine(100)
    zone = k.zone[DMA32]
    zone.pcp_high_min = 8
    zone.pcp_high[0] = 96
    zone.pcp_batch = 4
    assert decay_pcp_high(k, frames)
    assert (zone.pcp_high[0], zone.pcp_count[0], zone.free) == (84, 84, PAGES - 84)


def test_decay_pcp_high_gives_at_most_32_batches_back() -> None:
    # high 40 would leave 40; batch 1 allows 32 pages, so 68 stay
    k, frames = machine(100)
    zone = k.zone[DMA32]
    zone.pcp_high_min = 8
    zone.pcp_high[0] = 40
    assert decay_pcp_high(k, frames)
    assert (zone.pcp_high[0], zone.pcp_count[0]) == (68, 68)


def test_decay_pcp_high_ends_at_the_low_bound() -> None:
    k, frames = machine(100)
    zone = k.zone[DMA32]
    zone.pcp_high_min = 8
    zone.pcp_high[0] = 100
    for _ in range(60):
        decay_pcp_high(k, frames)
    assert zone.pcp_count[0] == 8
    assert not decay_pcp_high(k, frames)


def with_others(movable: int, others: int) -> tuple[Any, Any]:
    """CPU 0 holds pages of both kinds."""
    k, frames = machine(0)
    taken = [rmqueue(k, frames, DMA32, 1) for _ in range(movable + others)]
    for i in taken[:movable]:
        pcp_put(k, frames, DMA32, 0, i)
    for i in taken[movable:]:
        pcp_put_other(k, frames, DMA32, 0, i)
    return k, frames


def test_pages_of_other_types_are_not_handed_out() -> None:
    k, frames = with_others(movable=0, others=50)
    free = k.zone[DMA32].free
    assert pcp_alloc(k, frames, DMA32, 0) >= 0
    assert k.zone[DMA32].free == free - 1  # from the buddy lists, beside 50 on the CPU's
    assert k.zone[DMA32].pcp_count[0] == 50


def test_drain_gives_pages_of_other_types_back() -> None:
    k, frames = with_others(movable=30, others=50)
    assert k.zone[DMA32].pcp_count[0] == 80
    drain_all_pages(k, frames)
    assert k.zone[DMA32].free == PAGES
    assert k.zone[DMA32].pcp_other[0] == -1
    assert k.zone[DMA32].pcp_count[0] == 0


def with_batch(batch: int, high: int) -> tuple[Any, Any]:
    """The zone with empty lists that hold up to ``high`` pages."""
    k, frames = machine(0)
    zone = k.zone[DMA32]
    zone.pcp_batch = batch
    zone.pcp_high_min = zone.pcp_high_max = high
    zone.pcp_factor[0] = 0
    return k, frames


def test_kernel_page_takes_a_batch_from_the_zone() -> None:
    k, frames = with_batch(63, 252)
    zone = k.zone[DMA32]
    assert pcp_alloc_kernel(k, frames, DMA32, 0, 1, PCP_UNMOVABLE) == 1
    assert zone.free == PAGES - 63
    assert zone.pcp_kernel[PCP_UNMOVABLE, 0] == zone.pcp_count[0] == 62
    assert pcp_alloc_kernel(k, frames, DMA32, 0, 62, PCP_UNMOVABLE) == 62
    assert (zone.free, zone.pcp_count[0]) == (PAGES - 63, 0)


def test_slab_does_not_take_from_the_list_of_page_tables() -> None:
    k, frames = with_batch(63, 252)
    pcp_alloc_kernel(k, frames, DMA32, 0, 1, PCP_UNMOVABLE)
    pcp_alloc_kernel(k, frames, DMA32, 0, 1, PCP_RECLAIMABLE)
    assert k.zone[DMA32].free == PAGES - 2 * 63
    assert list(k.zone[DMA32].pcp_kernel[:, 0]) == [62, 62]


def test_freed_kernel_pages_stay_on_the_list_up_to_high() -> None:
    k, frames = with_batch(63, 252)
    zone = k.zone[DMA32]
    pcp_alloc_kernel(k, frames, DMA32, 0, 630, PCP_RECLAIMABLE)
    assert (zone.free, zone.pcp_count[0]) == (PAGES - 630, 0)
    pcp_free_kernel(k, frames, DMA32, 0, 251, PCP_RECLAIMABLE)
    assert (zone.free, zone.pcp_count[0]) == (PAGES - 630, 251)
    pcp_free_kernel(k, frames, DMA32, 0, 1, PCP_RECLAIMABLE)
    assert (zone.free, zone.pcp_count[0]) == (PAGES - 630 + 63, 252 - 63)


def test_a_bulk_begins_with_the_list_that_was_freed_to() -> None:
    k, frames = with_batch(63, 252)
    zone = k.zone[DMA32]
    movable = [rmqueue(k, frames, DMA32, 1) for _ in range(100)]
    drain_all_pages(k, frames)
    pcp_alloc_kernel(k, frames, DMA32, 0, 189, PCP_RECLAIMABLE)
    for i in movable:
        pcp_put(k, frames, DMA32, 0, i)
    pcp_free_kernel(k, frames, DMA32, 0, 152, PCP_RECLAIMABLE)
    assert zone.pcp_kernel[PCP_RECLAIMABLE, 0] == 152 - 63
    assert zone.pcp_count[0] == 252 - 63


def test_drained_kernel_pages_are_free_and_nobodys() -> None:
    k, frames = with_batch(63, 252)
    got = alloc_kernel_pages(k, frames, 200, PCP_UNMOVABLE)
    assert got == 200
    free_kernel_pages(k, frames, 200, PCP_UNMOVABLE)
    assert k.zone[DMA32].pcp_kernel[PCP_UNMOVABLE, 0] > 100
    free_kernel_pages(k, frames, 50, PCP_UNMOVABLE)  # nothing is left that the kernel holds
    drain_all_pages(k, frames)
    assert k.zone[DMA32].free == PAGES
    assert k.zone[DMA32].bag_used.sum() == 0


def with_huge(high: int, batch: int = 63) -> tuple[Any, Any]:
    """A zone of eight blocks of order 9, no list holds more than ``high`` pages."""
    k, frames = machine(0)
    zone = k.zone[DMA32]
    zone.managed = zone.present = zone.spanned = zone.nr_frames = 8 * 512
    frames = state.new_frames(8 * 512)
    buddy_init(k, frames, DMA32, 8 * 512, None)
    zone.pcp_batch = batch
    zone.pcp_high_min = zone.pcp_high_max = high
    zone.pcp_high[:] = high
    return k, frames


def test_huge_page_comes_in_twos() -> None:
    k, frames = with_huge(high=2000)
    zone = k.zone[DMA32]
    first = pcp_alloc_huge(k, frames, DMA32, 0)
    assert (zone.free, zone.pcp_count[0]) == (6 * 512, 512)
    second = pcp_alloc_huge(k, frames, DMA32, 0)
    assert (zone.free, zone.pcp_count[0]) == (6 * 512, 0)
    assert abs(second - first) == 512


def test_freed_huge_pages_wait_up_to_high_and_are_for_huge_pages_only() -> None:
    k, frames = with_huge(high=2000)
    zone = k.zone[DMA32]
    taken = [pcp_alloc_huge(k, frames, DMA32, 0) for _ in range(6)]
    for first in taken[:3]:
        pcp_free_huge(k, frames, DMA32, 0, first)
    assert (zone.free, zone.pcp_count[0]) == (2 * 512, 3 * 512)
    pcp_free_huge(k, frames, DMA32, 0, taken[3])  # 2048 of 2000: a batch goes, which is one
    assert (zone.free, zone.pcp_count[0]) == (3 * 512, 3 * 512)
    single = pcp_alloc(k, frames, DMA32, 0)
    assert single not in range(taken[3], taken[3] + 512)
    assert zone.free == 3 * 512 - 63
    assert pcp_alloc_huge(k, frames, DMA32, 0) == taken[3]  # the last that came
    drain_all_pages(k, frames)
    assert (zone.pcp_count[0], zone.pcp_head[1, 0]) == (0, -1)


def test_list_that_cannot_hold_a_huge_page_gives_it_back_at_once() -> None:
    k, frames = with_huge(high=300)
    first = pcp_alloc_huge(k, frames, DMA32, 0)
    drain_all_pages(k, frames)
    pcp_free_huge(k, frames, DMA32, 0, first)
    assert (k.zone[DMA32].free, k.zone[DMA32].pcp_count[0]) == (8 * 512, 0)
