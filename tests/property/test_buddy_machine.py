"""Any sequence of allocations and frees against a bitmap: the free lists are what it implies."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from capplan.mm import buddy, singles, state
from capplan.mm._jit import entry
from capplan.mm.state import MT_MOVABLE, MT_RECLAIMABLE, MT_UNMOVABLE

Z, FIRST = 1, 3
TYPES = (MT_UNMOVABLE, MT_MOVABLE, MT_RECLAIMABLE)
ORDERS = state.NR_ORDERS


@entry
def alloc(k: Any, fr: Any, order: int, mt: int) -> int:
    return buddy.alloc_block(k, fr, Z, order, mt)


@entry
def free(k: Any, fr: Any, i: int, order: int) -> int:
    buddy.free_block(k, fr, Z, i, order)
    return 0


@entry
def alloc_singles(k: Any, fr: Any, n: int, mt: int) -> int:
    return singles.alloc_scattered(k, fr, Z, n, mt)


@entry
def free_singles(k: Any, fr: Any, n: int, mt: int) -> int:
    singles.free_scattered(k, fr, Z, n, mt)
    return 0


def maximal_blocks(free_map: npt.NDArray[np.bool_], g: int) -> set[tuple[int, int]]:
    """(order, block number) of the largest aligned free blocks."""
    blocks, b = set(), 0
    while b < len(free_map):
        if not free_map[b]:
            b += 1
            continue
        size = 1
        while (
            size << 1 <= 1 << (10 - g)
            and b % (size << 1) == 0
            and b + (size << 1) <= len(free_map)
            and free_map[b : b + (size << 1)].all()
        ):
            size <<= 1
        blocks.add((g + size.bit_length() - 1, b))
        b += size
    return blocks


class BuddyMachine(RuleBasedStateMachine):
    @initialize(
        g=st.sampled_from([0, 0, 3, 6, 9]),
        frames=st.integers(1, 1400),
        share=st.floats(0, 1),
        info=st.none() | st.lists(st.integers(0, 6), max_size=ORDERS),
        claims=st.booleans(),
    )
    def boot(self, g: int, frames: int, share: float, info: list[int] | None, claims: bool) -> None:
        self.k = state.new_kernel()[0]
        self.fr = state.new_frames(FIRST + frames)
        self.k.nr_nodes, self.k.g, self.k.granule_pages = 1, g, 1 << g
        self.k.watermark_boost_factor, self.k.fallback_claims = 15000, claims
        self.zone = self.k.zone[Z]
        self.zone.first_frame, self.zone.nr_frames = FIRST, frames
        self.zone.managed = frames << g
        self.zone.wmark[state.WMARK_HIGH] = 100
        self.g, self.frames = g, frames
        free_pages = int(share * (frames << g))
        buddy.buddy_init(self.k, self.fr, Z, free_pages, info)
        self.free_map = np.zeros(frames, np.bool_)
        for order, b, _ in self.listed():
            self.free_map[b : b + (1 << (order - g))] = True
        self.held: list[tuple[int, int]] = []
        self.single = [0, 0, 0]  # by migratetype
        self.start = (self.free_map.copy(), free_pages, self.zone.nr_free.sum(axis=1))

    def listed(self) -> list[tuple[int, int, int]]:
        """(order, block number, migratetype) of every block on a free list."""
        found = []
        for order in range(self.g, ORDERS):
            for mt in range(state.NR_MIGRATETYPES):
                i = int(self.zone.head[order, mt])
                count = 0
                while i >= 0:
                    found.append((order, i - FIRST, mt))
                    i = int(self.fr["next"][i])
                    count += 1
                assert count == self.zone.nr_free[order, mt]
        return found

    def bag_frames(self) -> set[int]:
        found = set()
        for mt in TYPES:
            i, before = int(self.zone.bag_head[mt]), -1
            count = len(found)
            while i >= 0:
                assert self.fr["prev"][i] == before
                found.add(i - FIRST)
                i, before = int(self.fr["next"][i]), i
            assert len(found) - count == self.zone.bag_granules[mt]
        return found

    def room(self, mt: int) -> int:
        """Single pages of a type that there are: its bag's, and those of whole granules."""
        own = (int(self.zone.bag_granules[mt]) << self.g) - self.single[mt]
        if mt == MT_UNMOVABLE:
            own += int(self.zone.bag_seed_pages)
        return own + sum(1 << order for order, _, _ in self.listed())

    def follow_bag(self, before: set[int]) -> None:
        """The bitmap follows the granules that the bag broke or made whole."""
        after = self.bag_frames()
        for b in after - before:
            assert self.free_map[b]
            self.free_map[b] = False
        for b in before - after:
            self.free_map[b] = True

    @rule(
        above=st.integers(0, 10),
        mt=st.sampled_from([MT_MOVABLE, MT_MOVABLE, MT_UNMOVABLE, MT_RECLAIMABLE]),
        user=st.booleans(),
        times=st.sampled_from([1, 1, 5, 40]),
    )
    def alloc(self, above: int, mt: int, user: bool, times: int) -> None:
        order = min(self.g + above, 10)
        size = 1 << (order - self.g)
        for _ in range(times):
            possible = max((o for o, _, _ in self.listed()), default=-1) >= order
            i = int(alloc(self.k, self.fr, order, mt))
            assert (i >= 0) == possible
            if i < 0:
                break
            b = i - FIRST
            assert b % size == 0
            assert self.free_map[b : b + size].all()
            assert self.fr["flags"][i] == 0
            assert self.fr["order"][i] == order
            self.free_map[b : b + size] = False
            self.fr["mapping"][i : i + size] = 0 if user else -1
            self.held.append((b, order))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), times=st.sampled_from([1, 1, 5, 40]))
    def free(self, data: st.DataObject, times: int) -> None:
        for _ in range(min(times, len(self.held))):
            b, order = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
            free(self.k, self.fr, FIRST + b, order)
            self.free_map[b : b + (1 << (order - self.g))] = True

    @rule(n=st.integers(0, 700), mt=st.sampled_from(TYPES))
    def alloc_singles(self, n: int, mt: int) -> None:
        had, before, room = int(self.zone.free), self.bag_frames(), self.room(mt)
        got = int(alloc_singles(self.k, self.fr, n, mt))
        assert got == min(n, room)
        assert int(self.zone.free) == had - got
        self.follow_bag(before)
        self.single[mt] += got

    @precondition(lambda self: any(self.single))
    @rule(data=st.data())
    def free_singles(self, data: st.DataObject) -> None:
        mt = data.draw(st.sampled_from([mt for mt in TYPES if self.single[mt]]))
        n = data.draw(st.integers(1, self.single[mt]))
        had, before = int(self.zone.free), self.bag_frames()
        free_singles(self.k, self.fr, n, mt)
        assert int(self.zone.free) == had + n
        self.follow_bag(before)
        self.single[mt] -= n

    @invariant()
    def lists_are_what_the_bitmap_implies(self) -> None:
        listed = self.listed()
        assert {(order, b) for order, b, _ in listed} == maximal_blocks(self.free_map, self.g)

    @invariant()
    def every_list_holds_its_pageblocks_type(self) -> None:
        for order, b, mt in self.listed():
            i = FIRST + b
            first = FIRST + (b >> (9 - self.g) << (9 - self.g))
            assert self.fr["flags"][i] == state.PG_FREE
            assert self.fr["order"][i] == order
            assert self.fr["refs"][i] == mt
            if self.k.fallback_claims:
                assert self.fr["migratetype"][first] == mt

    @invariant()
    def pages_are_conserved(self) -> None:
        zone = self.zone
        counts = zone.nr_free.sum(axis=1)
        assert (zone.nr_free >= 0).all()
        assert int(zone.free) == sum(int(n) << o for o, n in enumerate(counts))
        held = sum(1 << order for _, order in self.held) + sum(self.single)
        assert int(zone.free) + held == self.start[1]
        assert zone.bag_used.tolist() == self.single

    def teardown(self) -> None:
        if not hasattr(self, "held"):
            return
        for mt in TYPES:
            free_singles(self.k, self.fr, self.single[mt], mt)
        for b, order in self.held:
            free(self.k, self.fr, FIRST + b, order)
        free_map, free_pages, counts = self.start
        assert int(self.zone.free) == free_pages
        assert {(o, b) for o, b, _ in self.listed()} == maximal_blocks(free_map, self.g)
        assert (self.zone.nr_free.sum(axis=1) == counts).all()


@pytest.mark.small
class TestBuddyMachine(BuddyMachine.TestCase):  # type: ignore[valid-type, misc]
    settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
