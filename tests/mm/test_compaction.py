"""Compaction: when it is worth while, what moves where, when it gives up; a naive twin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from capplan.mm import buddy, compaction, lruvec, state, vmstat
from capplan.mm._jit import entry
from capplan.mm.state import LRU_NONE, PG_FREE, PG_KERNEL, WMARK_LOW

pytestmark = pytest.mark.small

Z = 2
FIRST = 5  # zones need not begin at frame 0
G = 3
BLOCK = 64  # granules of 8 pages in a pageblock
PAGE, KERNEL, FREE = 1, 2, 0


@entry
def compact(k: Any, fr: Any, pt: Any) -> int:
    return compaction.compact_zone(k, fr, pt, k.cc, 3)


@entry
def put(k: Any, fr: Any, i: int) -> int:
    lruvec.lru_add(k, fr, i)
    return 0


@entry
def give(k: Any, fr: Any, i: int, order: int) -> int:
    buddy.free_block(k, fr, Z, i, order)
    return 0


class World:
    """A zone whose granules are pages of one mapping, the kernel's, or free, as said."""

    def __init__(self, layout: list[int], g: int = G, lru_gen: int = 0) -> None:
        self.k = k = state.new_kernel()[0]
        self.fr = state.new_frames(FIRST + len(layout))
        self.pt = state.new_entries(len(layout))
        self.layout = layout
        k.nr_nodes, k.nr_zones, k.nr_memcgs, k.nr_mappings = 1, 4, 1, 1
        k.g, k.granule_pages, k.lru_gen = g, 1 << g, lru_gen
        k.memcg[0].parent = -1
        k.memcg[0].lruvec[0].max_seq = 3
        self.zone = k.zone[Z]
        self.zone.first_frame, self.zone.nr_frames = FIRST, len(layout)
        self.zone.managed = len(layout) << g
        k.extfrag_threshold = 500
        k.cost.file_copy_ns, k.cost.unmap_ns, k.cost.rotate_ns = 400.0, 300.0, 300.0
        buddy.buddy_init(k, self.fr, Z, 0)
        for at, what in enumerate(layout):
            self._place(at, what)
        for at in np.flatnonzero(np.array(layout) == FREE).tolist():
            give(k, self.fr, FIRST + at, g)
        cc = k.cc
        cc.zone, cc.order, cc.sync = Z, 9, 1

    def _place(self, at: int, what: int) -> None:
        f = self.fr[FIRST + at]
        f.nr_pages = 1 << int(self.k.g)
        if what == KERNEL:
            f.flags = PG_KERNEL
        elif what == PAGE:
            f.mapping = f.memcg = 0
            f.pte = at
            self.pt[at].frame = FIRST + at
            put(self.k, self.fr, FIRST + at)

    def run(self) -> int:
        return int(compact(self.k, self.fr, self.pt))

    def after(self) -> list[int]:
        """The layout now; each page is where its entry says, once, and on a list."""
        held = np.flatnonzero(self.pt["frame"] >= 0)
        assert len(held) == self.layout.count(PAGE)
        assert (self.fr["pte"][self.pt["frame"][held]] == held).all()
        found = [KERNEL if f["flags"] & PG_KERNEL else FREE for f in self.fr[FIRST:]]
        for i in self.pt["frame"][held]:
            assert int(self.fr[i]["lru"]) != LRU_NONE
            assert not int(self.fr[i]["flags"]) & PG_FREE
            assert found[i - FIRST] == FREE
            found[i - FIRST] = PAGE
        counts = self.zone.nr_free.sum(axis=1)
        free = sum(int(n) << o for o, n in enumerate(counts))
        assert free == int(self.zone.free)
        hidden = int(self.zone.pcp_count.sum())  # freed, and not yet given back
        assert free + hidden == found.count(FREE) << int(self.k.g)
        return found


def holes(blocks: int) -> list[int]:
    return [PAGE, FREE] * (BLOCK // 2 * blocks)


@pytest.mark.parametrize("lru_gen", [0, 1])
def test_compact_zone_empties_the_lowest_pageblock_into_the_highest(lru_gen: int) -> None:
    world = World(holes(5), lru_gen=lru_gen)
    world.k.cc.ignore_skip = 1  # no fast search: the first pageblock is the first
    assert world.run() == compaction.COMPACT_SUCCESS
    assert world.after() == [FREE] * BLOCK + holes(3) + [PAGE] * BLOCK
    assert int(world.k.vmstat[state.VM_PGMIGRATE_SUCCESS]) == 256
    assert int(world.k.vmstat[state.VM_COMPACT_MIGRATE_SCANNED]) == 256 + 32
    assert world.k.work_ns == 256 * 1000.0


def test_compact_zone_moves_whole_granules() -> None:
    world = World([PAGE, FREE] * 20, g=6)  # 8 granules to a pageblock
    assert world.run() == compaction.COMPACT_SUCCESS
    assert world.after().count(PAGE) == 20
    assert int(world.k.vmstat[state.VM_PGMIGRATE_SUCCESS]) == 4 << 6


def test_compact_zone_a_free_block_is_enough() -> None:
    world = World([FREE] * BLOCK + holes(2))
    assert world.run() == compaction.COMPACT_SUCCESS
    assert int(world.k.vmstat[state.VM_PGMIGRATE_SUCCESS]) == 0


def test_compact_zone_prefers_the_pageblock_with_fewer_pages_to_move() -> None:
    nearly = [PAGE] * 4 + [FREE] * 60
    world = World(holes(1) + nearly + holes(6))
    assert world.run() == compaction.COMPACT_SUCCESS
    assert int(world.k.vmstat[state.VM_PGMIGRATE_SUCCESS]) == 32
    assert world.after()[BLOCK : 2 * BLOCK] == [FREE] * BLOCK


def test_asynchronous_leaves_a_pageblock_with_a_page_that_cannot_move() -> None:
    pinned = [PAGE] * 2 + [KERNEL] + [PAGE, FREE] * 30 + [FREE]
    world = World(pinned + holes(1) + holes(5)[::-1])  # it looks at one granule of four
    world.k.cc.sync, world.k.cc.direct, world.k.cc.ignore_skip = 0, 1, 1
    assert world.run() == compaction.COMPACT_SUCCESS
    assert world.after()[:BLOCK] == pinned
    assert world.after()[BLOCK : 2 * BLOCK] == [FREE] * BLOCK
    again = World(pinned + holes(6))
    again.k.cc.ignore_skip = 1
    assert again.run() == compaction.COMPACT_SUCCESS
    assert again.after()[:BLOCK] == [FREE] * 2 + [KERNEL] + [FREE] * 61


def test_fast_search_finds_a_pageblock_that_nothing_can_leave_only_once() -> None:
    """Pages are isolated, let go at the first that cannot move: the next search must pass by."""
    pinned = [PAGE] * 2 + [KERNEL] + [PAGE, FREE] * 30 + [FREE]
    world = World(pinned * 6)
    world.k.cc.sync, world.k.cc.direct, world.k.cc.whole_zone = 0, 1, 1
    assert world.run() == compaction.COMPACT_COMPLETE
    assert world.after() == pinned * 6
    assert int(world.k.vmstat[state.VM_PGMIGRATE_SUCCESS]) == 0


@pytest.mark.parametrize(("sync", "status"), [(1, "SUCCESS"), (0, "COMPLETE")])
def test_a_stride_sees_only_some_of_the_free_pages(sync: int, status: str) -> None:
    """Every second granule is free: asynchronous compaction meets none of them from the top."""
    world = World(holes(6))
    world.k.cc.sync, world.k.cc.direct, world.k.cc.whole_zone = sync, 1, 1
    assert world.run() == getattr(compaction, f"COMPACT_{status}")
    assert (int(world.k.vmstat[state.VM_PGMIGRATE_SUCCESS]) > 0) == (sync == 1)


def test_a_stride_doubles_with_each_pageblock_without_free_pages() -> None:
    full = [PAGE] * BLOCK
    world = World(holes(6) + full * 5)
    world.k.cc.ignore_skip = world.k.cc.whole_zone = 1
    assert world.run() == compaction.COMPACT_COMPLETE  # 32 pages at a time behind the fifth
    assert int(world.k.vmstat[state.VM_PGMIGRATE_SUCCESS]) == 0


def test_huge_page_is_left_whole() -> None:
    world = World([PAGE] * BLOCK + holes(5))
    world.fr[FIRST].order = 9
    world.k.cc.ignore_skip = 1
    assert world.run() == compaction.COMPACT_SUCCESS
    assert world.after()[: 2 * BLOCK] == [PAGE] * BLOCK + [FREE] * BLOCK


def test_scanners_that_meet_have_failed_and_the_next_attempts_are_skipped() -> None:
    world = World(([KERNEL] + [PAGE, FREE, FREE] * 21) * 4)
    world.k.cc.direct = 1
    assert world.run() == compaction.COMPACT_COMPLETE
    assert int(world.zone.compact_blockskip_flush) == 1
    assert int(world.k.vmstat[state.VM_COMPACT_FREE_SCANNED]) > 0
    world.after()


def test_compaction_stops_where_free_pages_reach_min() -> None:
    world = World(holes(6))
    world.zone.wmark[:] = (300, 300, 400, 500)  # LOW + 1024 leaves 212 of 1536 free pages
    assert world.run() == compaction.COMPACT_SUCCESS
    world = World([KERNEL, PAGE] * BLOCK + holes(6))
    world.zone.wmark[:] = (1535, 0, 0, 0)
    world.k.cc.ignore_skip = 1
    assert world.run() == compaction.COMPACT_CONTENDED
    assert int(world.zone.free) == 1536


# --- worth while? -------------------------------------------------------------------------


@entry
def suitable(k: Any, order: int) -> bool:
    return compaction.compaction_suitable(k, Z, order, 3)


def test_compaction_suitable_needs_free_pages_and_fragmentation() -> None:
    k = state.new_kernel()[0]
    zone = k.zone[Z]
    zone.managed, k.extfrag_threshold = 50_000, 500
    zone.wmark[WMARK_LOW] = 517
    zone.nr_free[0, 1] = zone.free = 1542
    assert suitable(k, 9)
    zone.nr_free[0, 1] = zone.free = 1541
    assert not suitable(k, 9)
    zone.nr_free[0, 1], zone.nr_free[8, 1], zone.free = 0, 7, 1792
    assert not suitable(k, 9)  # index 1000 - (1000 + 3500) // 7 = 358: want of memory
    k.extfrag_threshold = 357
    assert suitable(k, 9)


@entry
def attempts(k: Any, failures: int, tries: int) -> int:
    for _ in range(failures):
        compaction.defer_compaction(k, Z, 9)
    made = 0
    for _ in range(tries):
        if not compaction.compaction_deferred(k, Z, 9):
            made += 1
    return made


@pytest.mark.parametrize(
    ("failures", "tries", "made"),
    [(0, 5, 5), (1, 2, 1), (2, 3, 0), (2, 4, 1), (9, 63, 0), (9, 64, 1)],
)
def test_failures_defer_the_next_attempts(failures: int, tries: int, made: int) -> None:
    k = state.new_kernel()[0]
    assert attempts(k, failures, tries) == made


@entry
def reset_after(k: Any, order: int) -> bool:
    compaction.defer_compaction(k, Z, 9)
    compaction.compaction_defer_reset(k, Z, order, False)
    return compaction.compaction_deferred(k, Z, order)


def test_block_that_was_made_lets_requests_of_its_order_through() -> None:
    assert reset_after(state.new_kernel()[0], 9) is False


@entry
def scores(k: Any) -> tuple[int, int, int]:
    return (
        vmstat.fragmentation_score_wmark(k, True),
        vmstat.fragmentation_score_wmark(k, False),
        vmstat.proactive_score(k, 0),
    )


@pytest.mark.parametrize(("knob", "low", "high"), [(20, 80, 90), (0, 100, 100), (100, 5, 15)])
def test_proactive_marks(knob: int, low: int, high: int) -> None:
    k = state.new_kernel()[0]
    k.compaction_proactiveness = knob
    assert scores(k)[:2] == (low, high)


def test_proactive_score_weighs_zones_by_size() -> None:
    k = state.new_kernel()[0]
    for z, present, small, huge in ((0, 3998, 6 * 512, 94), (1, 61408, 94 * 512, 6)):
        k.zone[z].present = k.zone[z].managed = present
        k.zone[z].nr_free[0, 1], k.zone[z].nr_free[9, 1] = small, huge
    assert scores(k)[2] == 88


# --- a naive twin -------------------------------------------------------------------------


class TwinScanner:
    """Where free granules are found: from the top, in calls for as many as are to be moved."""

    def __init__(self, now: list[int]) -> None:
        self.now, self.high = now, len(now) // BLOCK - 1
        self.at = self.end_of_free = self.wanted = 0
        self.stride, self.found = 1, False

    def _free_size(self, page: int) -> int:
        size = 1
        while page % (2 * size) == 0 and self.now[page : page + 2 * size] == [FREE] * 2 * size:
            size *= 2
        return size

    def _look(self) -> int:
        step = max(self.stride >> G, 1)
        while self.at < BLOCK:
            page = self.high * BLOCK + self.at
            if self.now[page] == FREE:
                if self.at >= self.end_of_free:
                    self.end_of_free = self.at + self._free_size(page)
                self.wanted, self.found = self.wanted - 1, True
                last = self.at + 1 >= self.end_of_free and self.wanted > 0
                self.at += step if last else 1
                return page
            self.at += step
        self.stride = 1 if self.found else min(2 * self.stride, 32)
        return -1

    def take(self, low: int, cluster: int) -> int:
        if self.wanted <= 0 and self.at >= self.end_of_free:
            self.wanted, self.stride, self.found = cluster, 1, False
        while self.high > low:
            page = self._look() if self.at < BLOCK else -1
            if page >= 0:
                return page
            self.high -= 1
            self.at = self.end_of_free = 0
            self.found = False
        return -1


def twin(layout: list[int]) -> tuple[list[int], int, bool]:
    """Synchronous compaction without hints on a list: the list after it, pages moved, success."""
    now, moved = list(layout), 0
    free = TwinScanner(now)
    blocks = range(len(layout) // BLOCK)
    low = 0
    while free.high > low and [FREE] * BLOCK not in [
        now[b * BLOCK : (b + 1) * BLOCK] for b in blocks
    ]:
        pages = [p for p in range(low * BLOCK, (low + 1) * BLOCK) if now[p] == PAGE]
        most = 32 >> G
        for cluster in (pages[:most], pages[most:]):
            for page in cluster:
                target = free.take(low, len(cluster))
                if target < 0:
                    return now, moved, False
                now[page], now[target] = FREE, PAGE
                moved += 1
        low += 1
    return now, moved, free.high > low


@settings(max_examples=15, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.integers(0, 99)), min_size=4,
                max_size=7))  # fmt: skip
def test_compact_zone_does_what_its_twin_does(blocks: list[tuple[int, bool, int]]) -> None:
    layout: list[int] = []
    for share, pinned, seed in blocks:
        draws = np.random.default_rng(seed).integers(0, 10, BLOCK)
        layout += [PAGE if d < share else FREE for d in draws]
        if pinned:
            layout[-1 - seed % BLOCK] = KERNEL
    world = World(layout)
    world.k.extfrag_threshold = 0
    world.k.cc.ignore_skip = world.k.cc.whole_zone = 1
    status = world.run()
    if status == compaction.COMPACT_SKIPPED:
        assert layout.count(FREE) << G <= 1024 or world.zone.nr_free[9:].sum() == 0
        return
    after, moved, success = twin(layout)
    assert (status == compaction.COMPACT_SUCCESS) == success
    assert int(world.k.vmstat[state.VM_PGMIGRATE_SUCCESS]) == moved << G
    assert world.after() == after
