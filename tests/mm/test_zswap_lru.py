"""zswap's lists: the oldest first, one for each group."""

from __future__ import annotations

from typing import Any

import pytest

from capplan.mm.state import new_entries, new_kernel
from capplan.mm.zswap_lru import (
    zswap_lru_add,
    zswap_lru_del,
    zswap_lru_move,
    zswap_lru_records,
    zswap_lru_rotate,
    zswap_lru_splice,
)

pytestmark = pytest.mark.small

ENTRIES = 10
PREV, NEXT = 0, 1


class World:
    """Ten entries, the first six of group 1, the others of group 2."""

    def __init__(self) -> None:
        self.k: Any = new_kernel()[0]
        self.k.nr_entries, self.k.zswap_enabled, self.k.nr_memcgs = ENTRIES, 1, 3
        self.pt = new_entries(ENTRIES, 0, zswap_lru_records(self.k))
        self.k.first_zswap = len(self.pt) - zswap_lru_records(self.k)
        self.pt["owner"][:ENTRIES] = [1] * 6 + [2] * 4

    def store(self, *entries: int) -> None:
        for e in entries:
            zswap_lru_add(self.k, self.pt, e)

    def ages(self, c: int) -> list[int]:
        """Group c's entries from the oldest on; the way back must be the same."""
        links = self.pt["cells"][self.k.first_zswap :].reshape(-1, 2)
        found, e = [], int(self.k.memcg[c].zswap_head)
        while e >= 0:
            found.append(e)
            e = int(links[e, NEXT])
        back, e = [], int(self.k.memcg[c].zswap_tail)
        while e >= 0:
            back.append(e)
            e = int(links[e, PREV])
        assert back == found[::-1]
        return found


def test_each_group_has_what_was_stored_first_at_the_head() -> None:
    world = World()
    world.store(3, 7, 0, 5, 6)
    assert world.ages(1) == [3, 0, 5]
    assert world.ages(2) == [7, 6]


@pytest.mark.parametrize(("gone", "left"), [(3, [0, 5]), (0, [3, 5]), (5, [3, 0])])
def test_one_leaves_from_any_place(gone: int, left: list[int]) -> None:
    world = World()
    world.store(3, 0, 5)
    zswap_lru_del(world.k, world.pt, gone)
    assert world.ages(1) == left
    world.store(gone)
    assert world.ages(1) == [*left, gone]


def test_the_last_one_leaves_an_empty_list() -> None:
    world = World()
    world.store(4)
    zswap_lru_rotate(world.k, world.pt, 4)
    assert world.ages(1) == [4]
    zswap_lru_del(world.k, world.pt, 4)
    assert world.ages(1) == []


def test_what_was_looked_at_goes_to_the_tail() -> None:
    world = World()
    world.store(3, 0, 5)
    zswap_lru_rotate(world.k, world.pt, 3)
    assert world.ages(1) == [0, 5, 3]


@pytest.mark.parametrize(("from_", "ages"), [(3, [2, 0, 5]), (0, [3, 2, 5]), (5, [3, 0, 2])])
def test_a_copy_takes_the_place_of_the_original(from_: int, ages: list[int]) -> None:
    world = World()
    world.store(3, 0, 5)
    zswap_lru_move(world.k, world.pt, from_, 2)
    assert world.ages(1) == ages


@pytest.mark.parametrize(
    ("stored", "ages"), [((0, 8, 3, 7), [0, 3, 8, 7]), ((0, 3), [0, 3]), ((8, 7), [8, 7])]
)
def test_a_dead_groups_list_goes_before_its_parents(
    stored: tuple[int, ...], ages: list[int]
) -> None:
    world = World()
    world.store(*stored)
    zswap_lru_splice(world.k, world.pt, 1, 2)
    world.pt["owner"][:ENTRIES] = 2
    assert (world.ages(1), world.ages(2)) == ([], ages)


def test_links_take_no_memory_where_zswap_is_off() -> None:
    world = World()
    assert zswap_lru_records(world.k) == 3  # four pairs to a record
    world.k.zswap_enabled = 0
    assert zswap_lru_records(world.k) == 0
