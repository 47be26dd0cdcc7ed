"""Swap slots: who gets which, against the map by hand; and what is taken back."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capplan.mm import state as s
from capplan.mm.swap_map import FREE, nr_swap_pages
from capplan.mm.swap_slots import drop_swap_cache, free_swap_entry
from capplan.mm.swapfile import get_swap_cluster, get_swap_page
from capplan.sim.build import build
from capplan.sim.scenario import Cgroup, Disk, Zone
from tests.mm.swap_map_by_hand import SwapMap
from tests.sim.engine_cases import node, process, scenario

PAGES = 4000  # of a region: its first PAGES / 2 frames stand for pages in memory
A = 1  # the group that owns it
small = pytest.mark.small


class World:
    """A machine whose pages a test sends out and brings back by hand."""

    def __init__(
        self, swap: int, release: str = "6.1", rotational: bool = False, g: int = 0
    ) -> None:
        disk = Disk("vda", 100_000, 100_000, 20_000.0, 20_000.0, 200_000.0, rotational=rotational)
        machine = build(
            scenario(
                [process("p", "a", PAGES << g)],
                (Cgroup("a"),),
                node=node(swap, release=release, cpus=1, disks=(disk,),
                          zones=(Zone(0, "Normal", 1 << 16, 1 << 16, 1 << 16),)),
                granule_order=g,
            )
        )  # fmt: skip
        self.k, self.fr, self.pt = machine.kernel[0], machine.frames, machine.entries
        self.nr = 1 << g

    def out(self, e: int) -> int:
        """Send page e out; its slot, -1 when it gets none."""
        if not get_swap_page(self.k, self.fr, self.pt, e, A, self.nr):
            return -1
        entry = self.pt[e]
        entry.owner, entry.nr_pages, entry.state = A, self.nr, s.PTE_SWAP
        return int(entry.slot)

    def back(self, e: int) -> None:
        """Page e was read: it is in memory and keeps its slot."""
        self.pt[e].state, self.pt[e].frame = s.PTE_PRESENT, e
        page = self.fr[e]
        page.flags, page.pte, page.memcg, page.nr_pages = s.PG_SWAPCACHE, e, A, self.nr
        self.k.nr_swapcached += self.nr
        self.k.memcg[A].stat[s.ST_SWAPCACHED] += self.nr

    def free(self, e: int) -> None:
        """Page e is gone, wherever it is."""
        if self.pt[e].frame >= 0:
            drop_swap_cache(self.k, self.fr, self.pt, self.pt[e].frame)
            self.pt[e].frame = -1
        else:
            free_swap_entry(self.k, self.fr, self.pt, e)
        self.pt[e].state = s.PTE_NONE


def play(world: World, by_hand: SwapMap, steps: list[int], seed: int) -> None:
    """Pages go out, come back and are freed; each time both give the same slot."""
    rng = random.Random(seed)
    out: list[int] = []
    cached: list[int] = []
    spare = list(range(PAGES))
    for step in steps:
        for _ in range(step):
            if not spare:
                break
            e = spare.pop(0)
            slot = by_hand.get(e)
            assert world.out(e) == (-1 if slot is None else slot)
            (spare if slot is None else out).append(e)
            cached = [c for c in cached if c in by_hand.cached]
            if slot is None:
                break
        for _ in range(step // 2):
            if not out:
                break
            e = out.pop(rng.randrange(len(out)))
            if rng.random() < 0.7:
                world.back(e)
                by_hand.cached.add(e)
                cached.append(e)
            else:
                world.free(e)
                by_hand.give_back(by_hand.slots.index(e))
        assert nr_swap_pages(world.k) == by_hand.nr_free
    for e in cached:
        assert (world.pt[e].slot >= 0) == (e in by_hand.cached)


@pytest.mark.parametrize(("release", "lists"), [("6.1", False), ("6.12", True)])
@pytest.mark.parametrize("rotational", [False, True])
@settings(max_examples=8, deadline=None)
@given(
    swap=st.integers(600, 1800),
    steps=st.lists(st.integers(1, 400), min_size=4, max_size=14),
    seed=st.integers(0, 1 << 20),
)
def test_each_page_gets_the_slot_that_the_map_by_hand_gives(
    release: str, lists: bool, rotational: bool, swap: int, steps: list[int], seed: int
) -> None:
    world = World(swap, release, rotational)
    play(world, SwapMap(swap, rotational, lists), steps, seed)


@pytest.mark.parametrize("release", ["6.1", "6.12"])
def test_slots_are_taken_back_once_no_cluster_is_free(release: str) -> None:
    world = World(2047, release)
    for e in range(1536):
        assert world.out(e) >= 0
    for e in range(500):
        world.back(e)
    assert all(world.pt[e].slot >= 0 for e in range(500))  # three clusters of three: none is lost
    for e in range(1536, 2046):
        assert world.out(e) >= 0
    assert any(world.pt[e].slot < 0 for e in range(500))
    assert all(world.out(e) >= 0 for e in range(2046, 2500))


@small
def test_a_disk_with_seeks_is_used_to_the_end_before_any_slot_is_taken_back() -> None:
    """As in the recording global-swap-leak: each of 65,535 slots was written to once."""
    world = World(2047, "6.1", rotational=True)
    assert sorted(world.out(e) for e in range(2047)) == [*range(1, 2048)]
    for e in range(400):
        world.back(e)
    assert world.out(3000) == -1
    assert all(world.pt[e].slot >= 0 for e in range(400))


@small
def test_slots_given_back_are_free_64_at_a_time() -> None:
    world = World(2047)
    for e in range(200):
        world.out(e)
    usage = int(world.k.memcg[A].swap.usage)
    for e in range(64):
        world.free(e)
    assert int(world.k.memcg[A].swap.usage) == usage == 200
    world.free(64)
    assert int(world.k.memcg[A].swap.usage) == 200 - 64


@small
def test_many_cpus_go_without_the_slots_cache_while_slots_are_few() -> None:
    world = World(2047)
    world.k.nr_cpus = 8  # 5 x 64 x 8 slots would have to be free
    world.out(0)
    assert world.k.nr_cached_slots == 0
    world.free(0)
    assert world.k.nr_returned_slots == 0
    assert nr_swap_pages(world.k) == 2047


@small
@pytest.mark.parametrize("release", ["6.1", "6.12"])
def test_a_huge_page_wants_a_cluster_of_which_no_slot_is_taken(release: str) -> None:
    world = World(2047, release)
    first = get_swap_cluster(world.k, world.fr, world.pt, A)
    assert first % 512 == 0
    assert nr_swap_pages(world.k) == 2047 - 512
    for e in range(1536):  # one page in every cluster that is left
        world.out(e)
    for e in range(1536):
        if e % 512:
            world.free(e)
    assert nr_swap_pages(world.k) > 512
    assert get_swap_cluster(world.k, world.fr, world.pt, A) == -1


@pytest.mark.parametrize("g", [3, 6, 9])
def test_granules_fill_the_area_as_pages_do(g: int) -> None:
    world = World(2048 << g, "6.1", g=g)
    count = 0
    while count < PAGES and world.out(count) >= 0:
        count += 1
    assert count == 2048
    for e in range(count):
        world.free(e)
    cells = world.pt["cells"][int(world.k.first_slot) :].ravel()
    there = cells[: int(world.k.swap[0].nr_slots)]
    kept = int(world.k.nr_returned_slots)
    assert (there == FREE).sum() == len(there) - kept
    assert nr_swap_pages(world.k) == (2048 - kept) << g
