"""Multi-gen LRU: which page tables the aging walks, and kswapd's turns in the memcg LRU."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capplan.mm import lru_gen, lru_gen_age, lru_gen_memcg, lru_gen_walk
from capplan.mm.state import (
    ACCESS_CYCLIC,
    ACCESS_IDLE,
    ACCESS_UNIFORM,
    KSWAPD_SLICE_NS,
    PG_MAPPED,
    PG_YOUNG,
    ZONE_NORMAL,
)
from tests.mm.lru_gen_world import ANON, FILE, add, present, seq_of, world

pytestmark = [
    pytest.mark.small,
    # un-jitted, the hash behind draws wraps around as it should, and numpy says so
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
]


@pytest.mark.parametrize(("young", "dense"), [(63, False), (64, True), (512, True)])
def test_suitable_to_scan_wants_one_young_entry_in_eight(young: int, dense: bool) -> None:
    assert lru_gen_walk.suitable_to_scan(512, young) == dense


def test_pmd_young_worked_example() -> None:
    k, _, _ = world(nr_frames=1000)
    m = k.mapping[0]
    m.pattern, m.progress, m.walk_progress, m.walk_used = ACCESS_CYCLIC, 2450.0, 2300.0, 1000
    assert lru_gen_walk.pmd_young(k, 0, 0, 512)
    assert not lru_gen_walk.pmd_young(k, 0, 512, 1000)
    m.walk_used = 900  # it has grown by its last 100 pages since
    assert lru_gen_walk.pmd_young(k, 0, 512, 1000)


@settings(max_examples=60)
@given(
    st.integers(2, 60),
    st.integers(0, 150),
    st.integers(0, 150),
    st.integers(0, 59),
    st.integers(1, 60),
)
def test_pmd_young_cyclic_is_what_a_pointer_met(
    size: int, then: int, walked: int, first: int, nr: int
) -> None:
    k, _, _ = world()
    m = k.mapping[0]
    first, end = first % size, min(first % size + nr, size)
    m.pattern, m.size_pages, m.walk_used = ACCESS_CYCLIC, size, size
    m.walk_progress, m.progress = float(then), float(then + walked)
    met = {p % size for p in range(then, then + walked)}
    assert lru_gen_walk.pmd_young(k, 0, first, end) == bool(met & set(range(first, end)))


def test_pmd_young_random_accesses_are_drawn_by_the_share_of_the_table() -> None:
    k, _, _ = world(nr_frames=1000)
    m = k.mapping[0]
    m.pattern, m.walk_used = ACCESS_UNIFORM, 1000
    seen = 0
    for ordinal in range(400):
        m.walk_progress, m.progress = float(ordinal), ordinal + 2.0  # 2 of 1000, table of a half
        seen += bool(lru_gen_walk.pmd_young(k, 0, 0, 500))
    assert 220 < seen < 285  # 1 - exp(-1) of 400 is 253, four standard deviations 39
    m.pattern = ACCESS_IDLE
    assert not lru_gen_walk.pmd_young(k, 0, 0, 500)


def young_heap(k: Any, fr: Any, pt: Any, first: int, end: int) -> None:
    for i in range(first, end):
        add(k, fr, i, ANON, PG_MAPPED | PG_YOUNG)
        present(fr, pt, i)


def test_first_walk_takes_every_table_and_the_next_those_it_found_dense() -> None:
    k, fr, pt = world(nr_frames=1536)
    m = k.mapping[ANON]
    young_heap(k, fr, pt, 0, 64)  # dense: one in eight
    young_heap(k, fr, pt, 512, 575)  # not quite
    lru_gen_age.try_to_inc_max_seq(k, fr, pt, 0, 0, True)
    assert (seq_of(k, fr, 0), seq_of(k, fr, 512)) == (3, 3)
    m.pattern, m.progress = ACCESS_UNIFORM, 10_000.0  # all of it was touched since
    young_heap(k, fr, pt, 1024, 1088)  # a table that is new, though its region is not
    lru_gen_age.try_to_inc_max_seq(k, fr, pt, 0, 0, True)
    assert [bool(fr[i].flags & PG_YOUNG) for i in (0, 512, 1024)] == [False, False, True]
    assert (fr[0].seen, fr[512].seen) == (10_000.0, 0.0)
    assert (seq_of(k, fr, 0), seq_of(k, fr, 1024)) == (4, 3)


def test_walk_costs_its_entries_and_an_unused_table_nothing() -> None:
    k, fr, pt = world(nr_frames=1024)
    k.cost.touch_ns = 1.0
    young_heap(k, fr, pt, 0, 512)
    lru_gen_age.try_to_inc_max_seq(k, fr, pt, 0, 0, True)
    assert k.work_ns == 1024.0  # 512 entries, 512 folios
    lru_gen_age.try_to_inc_max_seq(k, fr, pt, 0, 0, True)
    assert k.work_ns == 1536.0  # new until it was walked once without force: looked at
    lru_gen_age.try_to_inc_max_seq(k, fr, pt, 0, 0, True)
    assert k.work_ns == 1536.0  # nobody touched it since


def test_reclaim_that_finds_a_table_young_has_it_walked_next_time() -> None:
    k, fr, pt = world(nr_frames=1024)
    lru_gen_age.try_to_inc_max_seq(k, fr, pt, 0, 0, True)  # a walk of nothing: filters begin
    young_heap(k, fr, pt, 0, 512)
    k.mapping[ANON].walk_used = 0
    fr[0].flags &= ~PG_YOUNG
    lru_gen.lru_gen_look_around(k, fr, pt, 0)  # 63 of its 64 neighbours are young
    assert [seq_of(k, fr, i) for i in (63, 64)] == [4, 3]
    lru_gen_age.try_to_inc_max_seq(k, fr, pt, 0, 0, True)
    assert seq_of(k, fr, 64) == 4
    assert not fr[500].flags & PG_YOUNG


def test_walk_leaves_pages_of_another_memcg_alone() -> None:
    k, fr, pt = world(nr_memcgs=2)
    add(k, fr, 0, FILE, PG_MAPPED | PG_YOUNG, memcg=1)
    present(fr, pt, 0)
    lru_gen_age.try_to_inc_max_seq(k, fr, pt, 0, 0, True)
    lru_gen_age.try_to_inc_max_seq(k, fr, pt, 1, 0, True)  # has the page, but no process
    assert fr[0].flags & PG_YOUNG


def kswapd_world() -> tuple[Any, Any, Any]:
    """Three memcgs with 256 old file pages each, and a kswapd whose every page takes 10 us."""
    k, fr, pt = world(nr_memcgs=3, nr_frames=768)
    for i in range(768):
        c = i // 256
        add(k, fr, i, FILE, memcg=c)
        present(fr, pt, i)
        k.memcg[c].lruvec[0].min_seq[:] = 1
        k.memcg[c].memory.usage = 256
    k.sc.kswapd, k.sc.may_writepage, k.sc.nr_to_reclaim, k.sc.priority = 1, 1, 100_000, 1
    k.sc.may_swap = 0
    k.zone[ZONE_NORMAL].managed, k.zone[ZONE_NORMAL].wmark[:3] = 10_000, 9_000
    k.cost.scan_ns = 10_000.0
    return k, fr, pt


def test_kswapd_reclaims_a_node_in_slices() -> None:
    k, fr, pt = kswapd_world()
    lru_gen.lru_gen_shrink_node_begin(k, 0)
    slices = 0
    while True:
        k.work_ns = 0.0
        over = lru_gen.lru_gen_shrink_node_some(k, fr, pt, 0)
        slices += 1
        assert k.work_ns < 2 * KSWAPD_SLICE_NS
        if over:
            break
    assert slices == 3  # a batch of 64 takes 0.64 ms
    assert k.sc.nr_reclaimed == 3 * 128  # half of each at priority 1
    assert [int(k.memcg[c].lruvec[0].gen_pages.sum()) for c in range(3)] == [128] * 3


def test_kswapd_goes_on_in_its_bin_when_its_memcg_was_rotated_meanwhile() -> None:
    k, fr, pt = kswapd_world()
    lru_gen.lru_gen_shrink_node_begin(k, 0)
    assert not lru_gen.lru_gen_shrink_node_some(k, fr, pt, 0)
    at = int(k.sc.many_memcg)
    assert k.sc.in_lruvec
    lru_gen_memcg.lru_gen_rotate_memcg(k, at, 0, lru_gen_memcg.MEMCG_LRU_YOUNG)
    k.work_ns = -1e12  # all the time it wants
    assert lru_gen.lru_gen_shrink_node_some(k, fr, pt, 0)
    assert [int(k.memcg[c].lruvec[0].gen_pages.sum()) for c in range(3)] == [128] * 3
