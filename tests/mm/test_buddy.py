"""The buddy allocator: worked examples, fallback between migratetypes, the bag, buddyinfo."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capplan.mm import buddy, singles, state
from capplan.mm._jit import entry
from capplan.mm.state import MT_MOVABLE, MT_RECLAIMABLE, MT_UNMOVABLE

pytestmark = pytest.mark.small

Z = 2
FIRST = 7  # zones need not begin at frame 0
ORDERS = state.NR_ORDERS


@entry
def alloc(k: Any, fr: Any, order: int, mt: int) -> int:
    return buddy.alloc_block(k, fr, Z, order, mt)


@entry
def free(k: Any, fr: Any, i: int, order: int) -> int:
    buddy.free_block(k, fr, Z, i, order)
    return 0


@entry
def alloc_singles(k: Any, fr: Any, n: int) -> int:
    return singles.alloc_scattered(k, fr, Z, n, MT_UNMOVABLE)


@entry
def free_singles(k: Any, fr: Any, n: int) -> int:
    singles.free_scattered(k, fr, Z, n, MT_UNMOVABLE)
    return 0


class Zone:
    """A zone under test; addresses are block numbers (frame minus first frame)."""

    def __init__(self, frames: int, g: int = 0, **fields: int) -> None:
        self.k = state.new_kernel()[0]
        self.fr = state.new_frames(FIRST + frames)
        self.k.nr_nodes = self.k.fallback_claims = 1
        self.k.g = g
        self.k.granule_pages = 1 << g
        self.zone = self.k.zone[Z]
        self.zone.first_frame = FIRST
        self.zone.nr_frames = frames
        self.zone.managed = frames << g
        for name, value in fields.items():
            setattr(self.zone, name, value)

    def init(self, free_pages: int, buddyinfo: list[int] | None = None) -> Zone:
        buddy.buddy_init(self.k, self.fr, Z, free_pages, buddyinfo)
        return self

    def alloc(self, order: int, mt: int = MT_MOVABLE) -> int:
        i = int(alloc(self.k, self.fr, order, mt))
        return i - FIRST if i >= 0 else -1

    def free(self, block: int, order: int) -> None:
        free(self.k, self.fr, FIRST + block, order)

    def blocks(self) -> dict[int, list[tuple[int, int]]]:
        """Free (block number, migratetype of its list) by order, from the lists themselves."""
        found: dict[int, list[tuple[int, int]]] = {}
        for order in range(ORDERS):
            for mt in range(state.NR_MIGRATETYPES):
                i, before = int(self.zone.head[order, mt]), -1
                while i >= 0:
                    assert int(self.fr["prev"][i]) == before
                    assert int(self.fr["flags"][i]) == state.PG_FREE
                    assert int(self.fr["order"][i]) == order
                    found.setdefault(order, []).append((i - FIRST, mt))
                    i, before = int(self.fr["next"][i]), i
                assert int(self.zone.tail[order, mt]) == before
        return found

    def heads(self) -> dict[int, list[int]]:
        return {order: sorted(b for b, _ in blocks) for order, blocks in self.blocks().items()}

    def counts(self) -> list[int]:
        return [int(n) for n in self.zone.nr_free.sum(axis=1)]

    def check(self) -> None:
        """Every page is counted once, in the zone's counter, the counts and the lists."""
        counts = self.counts()
        assert int(self.zone.free) == sum(n << o for o, n in enumerate(counts))
        assert (self.zone.nr_free >= 0).all()
        if not self.zone.counters_only:
            listed = {order: len(blocks) for order, blocks in self.blocks().items()}
            assert {o: n for o, n in enumerate(counts) if n and o >= int(self.k.g)} == listed


def test_alloc_block_splits_and_free_merges_back() -> None:
    zone = Zone(16).init(16, [0, 0, 0, 0, 1])
    assert zone.heads() == {4: [0]}
    assert zone.alloc(0) == 0
    assert zone.heads() == {0: [1], 1: [2], 2: [4], 3: [8]}
    assert int(zone.zone.free) == 15
    zone.free(0, 0)
    assert zone.heads() == {4: [0]}
    zone.check()


def test_free_block_merges_with_the_buddy_below() -> None:
    zone = Zone(16).init(16)
    assert [zone.alloc(2) for _ in range(4)] == [0, 4, 8, 12]
    zone.free(8, 2)
    zone.free(12, 2)
    assert zone.heads() == {3: [8]}


def test_alloc_block_when_nothing_fits_returns_none_and_changes_nothing() -> None:
    zone = Zone(64).init(20, [4, 8])
    before = zone.blocks()
    assert zone.alloc(2) == -1
    assert zone.blocks() == before
    assert int(zone.zone.free) == 20


def test_free_block_goes_to_the_tail_when_the_block_above_is_free() -> None:
    zone = Zone(64).init(64)
    pages = [zone.alloc(0) for _ in range(64)]
    assert pages == list(range(64))
    zone.free(40, 0)  # block 42 (order 1), which would join 40 and 41, is in use: head
    zone.free(2, 0)
    zone.free(3, 0)  # order 1 at 2
    zone.free(0, 0)  # its order-1 neighbour is free: tail
    assert [b for b, _ in zone.blocks()[0]] == [40, 0]


def test_free_block_never_merges_beyond_the_largest_order() -> None:
    zone = Zone(4096).init(4096)
    assert zone.heads() == {10: [0, 1024, 2048, 3072]}
    assert zone.alloc(10) == 0
    zone.free(0, 10)
    assert zone.heads() == {10: [0, 1024, 2048, 3072]}


def test_free_block_does_not_look_beyond_the_zone() -> None:
    zone = Zone(3).init(3)
    assert sorted(zone.alloc(0) for _ in range(3)) == [0, 1, 2]
    zone.fr["flags"][FIRST + 3 :] = state.PG_FREE
    for page in range(3):
        zone.free(page, 0)
    assert zone.heads() == {0: [2], 1: [0]}


def test_alloc_block_unmovable_claims_a_whole_pageblock() -> None:
    zone = Zone(2048).init(2048)
    assert zone.alloc(0, MT_UNMOVABLE) == 0
    assert zone.blocks()[9] == [(512, MT_UNMOVABLE)]
    assert zone.blocks()[10] == [(1024, MT_MOVABLE)]
    # the rest of what was claimed serves the next one, and movable pages stay apart
    assert zone.alloc(0, MT_UNMOVABLE) == 1
    assert zone.alloc(0, MT_MOVABLE) == 1024
    assert int(zone.zone.boost) == 0


def test_free_block_across_types_takes_the_freed_blocks_type() -> None:
    zone = Zone(1024).init(1024)
    assert zone.alloc(9, MT_MOVABLE) == 0
    assert zone.alloc(9, MT_UNMOVABLE) == 512
    zone.free(512, 9)
    zone.free(0, 9)
    assert zone.blocks() == {10: [(0, MT_MOVABLE)]}
    assert int(zone.fr["migratetype"][FIRST + 512]) == MT_MOVABLE


def test_alloc_block_movable_does_not_break_up_a_foreign_pageblock() -> None:
    zone = Zone(512).init(512)
    for _ in range(505):
        zone.alloc(0, MT_UNMOVABLE)
    # seven pages are left in an unmovable pageblock: taken one by one, smallest first
    assert zone.heads() == {0: [505], 1: [506], 2: [508]}
    assert zone.alloc(0, MT_MOVABLE) == 505
    assert zone.alloc(0, MT_MOVABLE) == 506
    assert zone.blocks() == {0: [(507, MT_UNMOVABLE)], 2: [(508, MT_UNMOVABLE)]}


@pytest.mark.parametrize(("used", "claimed"), [(256, True), (257, False)])
def test_alloc_block_claims_a_pageblock_that_is_half_free(used: int, claimed: bool) -> None:
    """A movable request of order 4: no movable pages in it, so only free ones count."""
    zone = Zone(512).init(512)
    zone.k.watermark_boost_factor = 15000
    zone.zone.managed = 1015808
    zone.zone.wmark[state.WMARK_HIGH] = 14360
    for _ in range(used):
        zone.alloc(0, MT_UNMOVABLE)
    assert zone.alloc(4, MT_MOVABLE) >= 0
    own = int(zone.fr["migratetype"][FIRST]) == MT_MOVABLE
    assert own is claimed
    assert {mt for blocks in zone.blocks().values() for _, mt in blocks} == {
        MT_MOVABLE if claimed else MT_UNMOVABLE
    }
    assert int(zone.zone.boosted) == 1
    assert int(zone.zone.boost) >= 512
    zone.check()


def test_alloc_block_reclaimable_counts_kernel_pages_of_a_movable_pageblock_as_alike() -> None:
    zone = Zone(512).init(512)
    pages = [zone.alloc(0, MT_MOVABLE) for _ in range(400)]
    # 112 free; 250 of the used pages belong to a mapping, 150 do not: 262 >= 256
    zone.fr["mapping"][[FIRST + page for page in pages[:250]]] = 0
    zone.alloc(0, MT_RECLAIMABLE)
    assert int(zone.fr["migratetype"][FIRST]) == MT_RECLAIMABLE


def test_alloc_block_before_6_15_moves_the_largest_block_to_the_requests_type() -> None:
    zone = Zone(512).init(512)
    zone.k.fallback_claims = 0
    for _ in range(505):
        zone.alloc(0, MT_UNMOVABLE)
    # a small movable request: the smallest block that fits moves, here each as a whole
    assert [zone.alloc(0, MT_MOVABLE) for _ in range(3)] == [505, 506, 507]
    assert zone.blocks() == {2: [(508, MT_UNMOVABLE)]}
    assert int(zone.fr["migratetype"][FIRST]) == MT_UNMOVABLE


@pytest.mark.parametrize(("movable", "claimed"), [(300, False), (256, True)])
def test_alloc_block_before_6_15_takes_all_free_pages_of_the_pageblock(
    movable: int, claimed: bool
) -> None:
    zone = Zone(512).init(512)
    zone.k.fallback_claims = 0
    for page in [zone.alloc(0, MT_MOVABLE) for _ in range(movable)]:
        zone.fr["mapping"][FIRST + page] = 0
    taken = zone.alloc(0, MT_UNMOVABLE)
    assert taken >= movable
    assert {mt for blocks in zone.blocks().values() for _, mt in blocks} == {MT_UNMOVABLE}
    mt = MT_UNMOVABLE if claimed else MT_MOVABLE
    assert int(zone.fr["migratetype"][FIRST]) == mt
    # what is freed goes to the list of its pageblock, and takes its buddies along
    zone.free(taken, 0)
    assert mt in {mt for blocks in zone.blocks().values() for _, mt in blocks}
    zone.check()


@pytest.mark.parametrize("claims", [0, 1])
def test_alloc_block_nofragment_breaks_up_no_pageblock(claims: int) -> None:
    zone = Zone(1024).init(768)
    zone.k.fallback_claims, zone.k.nofragment = claims, 1
    assert zone.heads() == {8: [512], 9: [0]}
    assert zone.alloc(0, MT_UNMOVABLE) == 0  # a whole pageblock may be taken over
    zone.alloc(9 - 1, MT_UNMOVABLE)
    for _ in range(255):
        zone.alloc(0, MT_UNMOVABLE)
    assert zone.alloc(0, MT_UNMOVABLE) == -1
    zone.k.nofragment = 0
    assert zone.alloc(0, MT_UNMOVABLE) == 512


class Naive:
    """The same allocator for one migratetype, on Python lists."""

    def __init__(self, lists: list[list[int]], size: int) -> None:
        self.lists, self.size = lists, size

    def alloc(self, order: int) -> int:
        for o in range(order, ORDERS):
            if self.lists[o]:
                block = self.lists[o].pop(0)
                for half in range(o - 1, order - 1, -1):
                    self.lists[half].insert(0, block + (1 << half))
                return block
        return -1

    def free(self, block: int, order: int) -> None:
        while order < 10 and (block ^ (1 << order)) in self.lists[order]:
            self.lists[order].remove(block ^ (1 << order))
            block &= ~(1 << order)
            order += 1
        above = (block & ~(1 << order)) ^ (2 << order)
        if order < 9 and above in self.lists[order + 1]:
            self.lists[order].append(block)
        else:
            self.lists[order].insert(0, block)


@given(st.data())
def test_alloc_free_agree_with_the_naive_allocator_address_by_address(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([1024, 1536, 2500]))
    zone = Zone(size).init(size)
    naive = Naive([[b for b, _ in zone.blocks().get(o, [])] for o in range(ORDERS)], size)
    held: list[tuple[int, int]] = []
    for _ in range(data.draw(st.integers(1, 40))):
        give_back = data.draw(st.booleans())
        if held and give_back:
            block, order = held.pop(data.draw(st.integers(0, len(held) - 1)))
            zone.free(block, order)
            naive.free(block, order)
        else:
            order = data.draw(st.integers(0, 9))
            block = zone.alloc(order)
            assert block == naive.alloc(order)
            if block >= 0:
                held.append((block, order))
        assert [[b for b, _ in zone.blocks().get(o, [])] for o in range(ORDERS)] == naive.lists


# --- single pages -------------------------------------------------------------------------


def test_alloc_scattered_uses_boot_fragments_first_then_breaks_granules() -> None:
    zone = Zone(64, g=4).init(1015, [3, 2, 0, 0, 63])
    assert zone.counts()[:4] == [3, 2, 0, 0]
    assert zone.zone.bag_seed_pages == 7
    zone.check()
    assert alloc_singles(zone.k, zone.fr, 4) == 4
    assert zone.counts()[:3] == [1, 1, 0]  # one of the order-1 blocks was split
    assert alloc_singles(zone.k, zone.fr, 3 + 5) == 8
    assert zone.zone.bag_granules[MT_UNMOVABLE] == 1
    assert zone.counts()[:4] == [1, 1, 0, 1]  # 11 of 16 left: 1 + 2 + 8
    zone.check()
    assert zone.zone.bag_used[MT_UNMOVABLE] == 12


def test_free_scattered_makes_granules_and_boot_fragments_whole_again() -> None:
    zone = Zone(64, g=4).init(1015, [3, 2, 0, 0, 63])
    start = zone.counts()
    assert alloc_singles(zone.k, zone.fr, 100) == 100
    free_singles(zone.k, zone.fr, 33)
    zone.check()
    assert zone.zone.bag_granules[MT_UNMOVABLE] == 4  # 67 pages: 7 fragments and 60 of 64
    free_singles(zone.k, zone.fr, 67)
    assert zone.counts() == start
    zone.check()


def test_alloc_scattered_gives_what_there_is() -> None:
    zone = Zone(4, g=3).init(30)
    assert alloc_singles(zone.k, zone.fr, 50) == 30
    assert zone.zone.free == 0
    assert zone.alloc(3) == -1
    free_singles(zone.k, zone.fr, 30)
    assert zone.zone.free == 30
    zone.check()


def test_alloc_scattered_at_g0_is_single_frames() -> None:
    zone = Zone(64).init(64)
    assert alloc_singles(zone.k, zone.fr, 3) == 3
    assert [i for i in range(64) if zone.fr["flags"][FIRST + i] == state.PG_KERNEL] == [0, 1, 2]
    free_singles(zone.k, zone.fr, 2)
    assert zone.heads() == {0: [1], 1: [2], 2: [4], 3: [8], 4: [16], 5: [32]}
    free_singles(zone.k, zone.fr, 1)
    assert zone.heads() == {6: [0]}


def test_counters_only_zone_has_counts_and_no_blocks() -> None:
    zone = Zone(0, g=2, counters_only=1).init(3808, [0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 3])
    zone.check()
    assert zone.counts() == [0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 3]
    assert alloc_singles(zone.k, zone.fr, 33) == 33
    assert zone.counts() == [1, 1, 1, 1, 1, 1, 0, 1, 0, 1, 3]
    assert alloc_singles(zone.k, zone.fr, 4000) == 3775
    free_singles(zone.k, zone.fr, 3808)
    assert zone.counts() == [0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 3]
    zone.check()


# --- buddyinfo ----------------------------------------------------------------------------

# DMA32 of a 1 GiB node running 6.1: managed 241525, free 228831.
BUDDYINFO = [1, 3, 2, 2, 2, 1, 2, 0, 1, 2, 222]


def test_buddy_init_reproduces_buddyinfo_at_g0() -> None:
    free_pages = sum(n << o for o, n in enumerate(BUDDYINFO))
    assert free_pages == 228831
    zone = Zone(241525).init(free_pages, BUDDYINFO)
    assert zone.counts() == BUDDYINFO
    zone.check()


def test_buddy_init_reproduces_buddyinfo_with_granules() -> None:
    zone = Zone(241525 >> 4, g=4).init(228831, BUDDYINFO)
    assert zone.counts() == BUDDYINFO
    assert zone.zone.bag_seed_pages == 1 + 6 + 8 + 16
    zone.check()


@pytest.mark.parametrize(
    ("free_pages", "counts"),
    [
        (1024 + 6, [0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1]),  # as given
        (1024 + 5, [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]),  # one fewer: a block of two is cut
        (512, [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]),
        (2048 + 7, [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 2]),
    ],
)
def test_buddy_init_makes_buddyinfo_add_up(free_pages: int, counts: list[int]) -> None:
    zone = Zone(4096).init(free_pages, [0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1])
    assert zone.counts() == counts
    zone.check()


def test_buddy_init_without_room_says_so() -> None:
    with pytest.raises(ValueError, match="17 free pages do not fit in 16 frames of order 0"):
        Zone(16).init(17)


@given(st.data())
def test_buddy_init_conserves_pages_and_leaves_no_free_buddies(data: st.DataObject) -> None:
    g = data.draw(st.integers(0, 9))
    frames = data.draw(st.integers(1, 3000 >> min(g, 5)))
    free_pages = data.draw(st.integers(0, frames << g))
    info = data.draw(st.none() | st.lists(st.integers(0, 12), max_size=11))
    zone = Zone(frames, g).init(free_pages, info)
    assert int(zone.zone.free) == free_pages
    zone.check()
    heads = zone.heads()
    for order, blocks in heads.items():
        size = 1 << (order - g)
        assert all(block % size == 0 and block + size <= frames for block in blocks)
        if order < 10:
            assert not {block ^ size for block in blocks} & set(blocks)


@entry
def block_type(k: Any, fr: Any, i: int) -> int:
    return buddy.pageblock_migratetype(k, fr, Z, i)


@pytest.mark.parametrize("g", [0, 6, 9])
def test_pageblock_migratetype_belongs_to_512_pages(g: int) -> None:
    zone = Zone(2048 >> g, g).init(2048)
    zone.fr["migratetype"][FIRST + (512 >> g)] = MT_RECLAIMABLE
    types = [int(block_type(zone.k, zone.fr, FIRST + i)) for i in range(2048 >> g)]
    assert np.flatnonzero(np.equal(types, MT_RECLAIMABLE)).tolist() == list(
        range(512 >> g, 1024 >> g)
    )
