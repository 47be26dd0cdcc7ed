"""The highatomic reserve: what pressure takes from it, and how a captured one begins."""

from __future__ import annotations

from typing import Any

import pytest

from capplan.mm import buddy, captured, freelists, highatomic, state
from capplan.mm._jit import entry
from capplan.mm.state import MT_HIGHATOMIC, MT_MOVABLE

pytestmark = pytest.mark.small

Z = 2
BLOCK = 512


@entry
def unreserve(k: Any, fr: Any, force: bool) -> bool:
    return highatomic.unreserve_highatomic_pageblock(k, fr, 0, force)


@entry
def give(k: Any, fr: Any, i: int, order: int) -> int:
    buddy.free_block(k, fr, Z, i, order)
    return 0


@entry
def end_placing(k: Any, fr: Any) -> int:
    captured.finish(k, fr)
    return 0


def world(pageblocks: int) -> tuple[Any, Any]:
    """A zone of four pageblocks, the first ones reserved with two free pages each."""
    k = state.new_kernel()[0]
    fr = state.new_frames(4 * BLOCK)
    k.nr_nodes, k.nr_zones, k.granule_pages, k.mems_allowed = 1, 4, 1, 1
    zone = k.zone[Z]
    zone.nr_frames = zone.managed = 4 * BLOCK
    buddy.buddy_init(k, fr, Z, 0)
    for b in range(pageblocks):
        fr["migratetype"][b * BLOCK] = MT_HIGHATOMIC
        zone.nr_reserved_highatomic += BLOCK
        give(k, fr, b * BLOCK + 6, 1)
    return k, fr


def free_by_type(k: Any, mt: int) -> int:
    return sum(int(n) << o for o, n in enumerate(k.zone[Z].nr_free[:, mt]))


def test_unreserve_leaves_the_last_pageblock_until_it_is_forced() -> None:
    k, fr = world(2)
    zone = k.zone[Z]
    assert (free_by_type(k, MT_HIGHATOMIC), int(zone.nr_free_highatomic)) == (4, 4)
    assert unreserve(k, fr, False)
    assert (int(zone.nr_reserved_highatomic), int(zone.nr_free_highatomic)) == (BLOCK, 2)
    assert free_by_type(k, MT_MOVABLE) == 2
    assert not unreserve(k, fr, False)
    assert unreserve(k, fr, True)
    assert (int(zone.nr_reserved_highatomic), int(zone.nr_free_highatomic)) == (0, 0)
    assert fr["migratetype"][[0, BLOCK]].tolist() == [MT_MOVABLE] * 2
    assert not unreserve(k, fr, True)


def test_free_pages_of_the_reserve_do_not_merge_beyond_it() -> None:
    k, fr = world(1)
    zone = k.zone[Z]
    give(k, fr, BLOCK, 9)
    for page in range(0, BLOCK, 2):
        if page != 6:
            give(k, fr, page, 1)
    assert int(zone.nr_free[9, MT_HIGHATOMIC]) == int(zone.nr_free[9, MT_MOVABLE]) == 1
    assert int(zone.nr_free[10].sum()) == 0
    assert unreserve(k, fr, True)
    assert int(zone.nr_free[9, MT_MOVABLE]) == 2


@pytest.mark.parametrize("g", [0, 3])
@pytest.mark.parametrize("frames", [4096, 4133])
def test_captured_reserve_is_there_when_all_is_placed(g: int, frames: int) -> None:
    k = state.new_kernel()[0]
    fr = state.new_frames(frames)
    k.nr_nodes, k.nr_zones, k.g, k.granule_pages, k.captured = 1, 4, g, 1 << g, 1
    zone = k.zone[Z]
    zone.nr_frames, zone.managed = frames, frames << g
    kept = [0, 0, 0, 5, 0, 1, 0, 0, 2]
    free, pages = 300 << g, sum(n << o for o, n in enumerate(kept))
    freelists.buddy_init_captured(k, fr, Z, free + pages, 64, {MT_HIGHATOMIC: kept})
    end_placing(k, fr)
    assert free_by_type(k, MT_HIGHATOMIC) == int(zone.nr_free_highatomic) == pages
    assert int(zone.free) == free + pages
    assert int(zone.nr_reserved_highatomic) in (2 * BLOCK, 3 * BLOCK)
