"""Multi-gen LRU: worked numbers of kernel-model 7, and a naive model of the lists."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capplan.mm import lru_gen, lru_gen_age, lru_gen_lists, lru_gen_memcg, lru_gen_scan
from capplan.mm.state import (
    LRU_ACTIVE_ANON,
    LRU_INACTIVE_ANON,
    LRU_INACTIVE_FILE,
    MEMCG_NR_BINS,
    MEMCG_NR_GENS,
    PG_ACTIVE,
    PG_DIRTY,
    PG_MAPPED,
    PG_MLOCKED,
    PG_RECLAIM,
    PG_REFERENCED,
    PG_SWAPCACHE,
    PG_WORKINGSET,
    PG_YOUNG,
    ST_ACTIVATE_FILE,
    ST_REFAULT_FILE,
    ST_RESTORE_FILE,
    VM_REFAULT_FILE,
    ZONE_NORMAL,
)
from tests.mm.lru_gen_world import ANON, FILE, add, list_of, page, present, seq_of, world

pytestmark = [
    pytest.mark.small,
    # un-jitted, the hash behind draws wraps around as it should, and numpy says so
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
]


def test_lru_tier_from_refs_is_log2_of_accesses() -> None:
    assert [lru_gen_lists.lru_tier_from_refs(refs) for refs in range(5)] == [0, 1, 2, 2, 3]


def test_mark_accessed_counts_up_to_the_last_tier() -> None:
    _, fr, _ = world()
    page(fr, 0, FILE)
    refs = []
    for _ in range(7):
        lru_gen_lists.lru_gen_mark_accessed(fr, 0)
        refs.append(int(lru_gen_lists.folio_lru_refs(fr, 0)))
    assert refs == [0, 1, 2, 3, 4, 4, 4]
    assert fr[0].flags & PG_REFERENCED
    assert fr[0].flags & PG_WORKINGSET


@pytest.mark.parametrize(
    ("t", "flags", "seq"),
    [
        (ANON, PG_ACTIVE, 3),
        (FILE, PG_ACTIVE, 3),
        (ANON, 0, 2),
        (ANON, PG_SWAPCACHE, 1),
        (FILE, PG_RECLAIM | PG_DIRTY, 2),
        (FILE, PG_RECLAIM, 1),
        (FILE, PG_DIRTY, 1),
        (FILE, 0, 1),
    ],
)
def test_add_folio_chooses_the_generation_by_flags(t: int, flags: int, seq: int) -> None:
    k, fr, _ = world()
    add(k, fr, 5, t, flags)
    assert seq_of(k, fr, 5) == seq
    assert not fr[5].flags & PG_ACTIVE


def test_add_folio_with_three_generations_goes_to_the_oldest() -> None:
    k, fr, _ = world()
    k.memcg[0].lruvec[0].min_seq[FILE] = 1
    add(k, fr, 0, FILE)
    assert seq_of(k, fr, 0) == 1


def test_add_folio_reclaiming_goes_to_the_tail_of_the_oldest() -> None:
    k, fr, _ = world()
    for i in (0, 1):
        page(fr, i, FILE, PG_ACTIVE)  # a writeback page of an active generation
        lru_gen_lists.lru_gen_add_folio(k, fr, i, True)
    assert list_of(k.memcg[0].lruvec[0], fr, 0, FILE) == [0, 1]


def test_add_folio_mlocked_is_refused() -> None:
    k, fr, _ = world()
    page(fr, 0, ANON, PG_MLOCKED)
    assert not lru_gen_lists.lru_gen_add_folio(k, fr, 0, False)
    assert k.memcg[0].lruvec[0].gen_pages.sum() == 0


def test_del_folio_remembers_that_it_was_active() -> None:
    k, fr, _ = world()
    add(k, fr, 0, FILE, PG_ACTIVE)
    add(k, fr, 1, FILE)
    assert lru_gen_lists.lru_gen_del_folio(k, fr, 0)
    assert lru_gen_lists.lru_gen_del_folio(k, fr, 1)
    assert not lru_gen_lists.lru_gen_del_folio(k, fr, 1)
    assert fr[0].flags & PG_ACTIVE
    assert not fr[1].flags & PG_ACTIVE
    assert k.memcg[0].lruvec[0].gen_pages.sum() == 0


def test_counts_two_youngest_are_active() -> None:
    k, _, _ = world()
    lv = k.memcg[0].lruvec[0]
    lv.max_seq, lv.min_seq[ANON] = 7, 4
    for seq, pages in zip((4, 5, 6, 7), (10, 20, 30, 40)):
        lv.gen_pages[seq % 4, ANON, ZONE_NORMAL] = pages
    assert lru_gen_lists.lru_gen_counts(k, 0, 0, ANON, True) == 70
    assert lru_gen_lists.lru_gen_counts(k, 0, 0, ANON, False) == 30


def fill(k: Any, young: int, mid: int, old: int, t: int = FILE) -> Any:
    """Give a lruvec three generations of so many pages."""
    lv = k.memcg[0].lruvec[0]
    lv.max_seq = 5
    lv.min_seq[:] = 3
    for seq, pages in ((5, young), (4, mid), (3, old)):
        lv.gen_pages[seq % 4, t, ZONE_NORMAL] = pages
    return lv


@pytest.mark.parametrize(
    ("sizes", "due"), [((300, 400, 300), False), ((600, 200, 200), True), ((300, 500, 200), True)]
)
def test_should_run_aging_at_three_generations(sizes: tuple[int, int, int], due: bool) -> None:
    lv = fill(world()[0], *sizes)
    assert lru_gen_age.should_run_aging(lv, True) == due
    assert lru_gen_age.should_run_aging(lv, False) == due
    assert lru_gen_age.evictable_pages(lv, True) == 1000


def test_should_run_aging_by_the_number_of_generations() -> None:
    lv = fill(world()[0], 900, 50, 50)
    lv.min_seq[:] = 2
    assert not lru_gen_age.should_run_aging(lv, True)
    lv.min_seq[:] = 4
    assert lru_gen_age.should_run_aging(lv, True)
    lv.min_seq[ANON] = 2  # anon behind: it decides only where it can be swapped
    assert not lru_gen_age.should_run_aging(lv, True)
    assert lru_gen_age.should_run_aging(lv, False)


def test_should_run_aging_without_swap_ignores_anon() -> None:
    k, _, _ = world()
    lv = fill(k, 300, 400, 300)
    lv.gen_pages[5 % 4, ANON, ZONE_NORMAL] = 5000
    assert lru_gen_age.should_run_aging(lv, True)
    assert not lru_gen_age.should_run_aging(lv, False)


def test_positive_ctrl_err_worked_example() -> None:
    assert lru_gen_age.positive_ctrl_err(100, 1000, 60, 100, 1000, 140)
    assert not lru_gen_age.positive_ctrl_err(100, 1000, 60, 300, 1000, 140)
    assert lru_gen_age.positive_ctrl_err(0, 1000, 60, 63, 63, 140)  # too few to tell


def refaults(lv: Any, t: int, tier: int, refaulted: int, evicted: int) -> None:
    lv.tier_refaulted[t, tier], lv.tier_evicted[t, tier] = refaulted, evicted


@pytest.mark.parametrize(
    ("swappiness", "seqs", "file_refaulted", "expected"),
    [
        (0, (1, 2), 300, FILE),
        (60, (1, 2), 0, ANON),
        (1, (2, 2), 300, FILE),
        (200, (2, 2), 0, ANON),
        (60, (2, 2), 100, FILE),
        (60, (2, 2), 300, ANON),
        (10, (2, 2), 300, FILE),
    ],
)
def test_type_to_scan(
    swappiness: int, seqs: tuple[int, int], file_refaulted: int, expected: int
) -> None:
    lv = fill(world()[0], 300, 400, 300)
    lv.min_seq[:] = seqs
    refaults(lv, ANON, 0, 100, 1000)
    refaults(lv, FILE, 0, file_refaulted, 1000)
    t, tier = lru_gen_scan.type_and_tier(lv, swappiness)
    assert t == expected
    assert tier == 3  # no other tier has refaulted


def test_tier_that_refaults_twice_as_much_is_protected() -> None:
    lv = fill(world()[0], 300, 400, 300)
    refaults(lv, FILE, 0, 100, 1000)
    refaults(lv, FILE, 1, 100, 1000)
    refaults(lv, FILE, 2, 250, 1000)
    assert lru_gen_scan.get_tier_idx(lv, FILE) == 1
    lv.tier_protected[FILE, 2] = 1000  # the same refaults, of twice as many pages
    assert lru_gen_scan.get_tier_idx(lv, FILE) == 3


def test_reset_ctrl_pos_halves() -> None:
    lv = fill(world()[0], 300, 400, 300)
    refaults(lv, FILE, 1, 101, 1000)
    lv.tier_protected[FILE, 1] = 1
    lru_gen_age.reset_ctrl_pos(lv, FILE)
    assert (lv.avg_refaulted[FILE, 1], lv.avg_total[FILE, 1]) == (50, 500)
    lru_gen_age.reset_ctrl_pos(lv, FILE)
    assert (lv.avg_refaulted[FILE, 1], lv.avg_total[FILE, 1]) == (25, 250)


def test_aging_promotes_what_was_touched_and_opens_a_generation() -> None:
    k, fr, pt = world()
    k.cost.touch_ns = 10.0
    add(k, fr, 0, ANON, PG_MAPPED | PG_YOUNG)
    add(k, fr, 1, ANON, PG_MAPPED)
    add(k, fr, 2, FILE, PG_YOUNG)  # not mapped: page tables know nothing of it
    for i in range(3):
        present(fr, pt, i)
    lru_gen_age.try_to_inc_max_seq(k, fr, pt, 0, 0, True)
    lv = k.memcg[0].lruvec[0]
    assert (lv.max_seq, lv.min_seq[ANON], lv.min_seq[FILE]) == (4, 1, 1)
    assert [seq_of(k, fr, i) for i in range(3)] == [3, 2, 1]
    assert k.work_ns == 40.0  # three entries, and the folio of the young one
    assert lv.pages[LRU_ACTIVE_ANON] == 1  # generation 2 became inactive
    assert lv.pages[LRU_INACTIVE_ANON] == 1
    lru_gen_age.try_to_inc_max_seq(k, fr, pt, 0, 0, True)
    assert [seq_of(k, fr, i) for i in range(3)] == [3, 2, 2]  # the oldest one merged
    assert lv.pages[LRU_ACTIVE_ANON] == 0


def test_aging_without_swap_leaves_anon_behind() -> None:
    k, fr, pt = world()
    add(k, fr, 0, ANON, PG_MAPPED | PG_YOUNG)
    present(fr, pt, 0)
    for _ in range(3):
        lru_gen_age.try_to_inc_max_seq(k, fr, pt, 0, 0, False)
    lv = k.memcg[0].lruvec[0]
    assert fr[0].flags & PG_YOUNG  # never looked at
    assert lv.max_seq - lv.min_seq[ANON] == 3
    assert seq_of(k, fr, 0) == 6  # its list became the youngest one's: cold/hot inversion
    assert lv.pages[LRU_ACTIVE_ANON] == 1


def test_try_to_inc_min_seq_keeps_anon_at_or_behind_file() -> None:
    k, fr, _ = world()
    add(k, fr, 0, FILE)  # generation 1
    lv = k.memcg[0].lruvec[0]
    assert lru_gen_age.try_to_inc_min_seq(k, 0, 0, True)
    assert list(lv.min_seq) == [1, 1]  # anon is empty up to 2, but must not pass file
    assert not lru_gen_age.try_to_inc_min_seq(k, 0, 0, True)
    lru_gen_lists.lru_gen_del_folio(k, fr, 0)
    assert lru_gen_age.try_to_inc_min_seq(k, 0, 0, False)
    assert list(lv.min_seq) == [1, 2]


def test_scan_protects_tiers_and_skips_promoted() -> None:
    k, fr, _ = world()
    lv = k.memcg[0].lruvec[0]
    lv.min_seq[:] = 1
    for i in range(4):
        add(k, fr, i, FILE)
    for i in (0, 3):
        fr[i].refs, fr[i].flags = 1, PG_WORKINGSET | PG_REFERENCED  # refs 2: tier 2
    lru_gen_lists.folio_update_gen(k, fr, 1, 3)
    scanned, nr, pages = lru_gen_scan.scan_folios(k, fr, 0, 0, FILE, 1)
    assert (scanned, nr, pages) == (4, 1, 1)
    assert k.lru_gen_isolated[0] == 2
    assert lv.tier_protected[FILE, 2] == 2
    assert list_of(lv, fr, 2, FILE) == [0, 3]
    assert list_of(lv, fr, 3, FILE) == [1]
    assert fr[0].flags & (PG_WORKINGSET | PG_REFERENCED) == 0


def test_scan_takes_at_most_a_batch_and_nothing_from_two_generations() -> None:
    k, fr, _ = world(nr_frames=128)
    k.memcg[0].lruvec[0].min_seq[:] = 1
    for i in range(100):
        add(k, fr, i, FILE)
    assert lru_gen_scan.scan_folios(k, fr, 0, 0, FILE, 3) == (64, 64, 64)
    assert list(k.lru_gen_isolated) == list(range(64))
    k.memcg[0].lruvec[0].min_seq[:] = 2
    assert lru_gen_scan.scan_folios(k, fr, 0, 0, FILE, 3) == (0, 0, 0)


def test_scan_skips_zones_the_request_cannot_use() -> None:
    k, fr, _ = world()
    k.memcg[0].lruvec[0].min_seq[:] = 1
    add(k, fr, 0, FILE)
    k.sc.reclaim_idx = ZONE_NORMAL - 1
    assert lru_gen_scan.scan_folios(k, fr, 0, 0, FILE, 3) == (0, 0, 0)
    assert seq_of(k, fr, 0) == 2


def evict(k: Any, fr: Any, pt: Any, i: int) -> None:
    lru_gen_lists.lru_gen_eviction(k, fr, pt, i)
    fr[i].flags &= ~(PG_WORKINGSET | PG_REFERENCED)
    fr[i].refs = 0


def test_refault_in_the_same_generation_counts_in_its_tier() -> None:
    k, fr, pt = world()
    lv = k.memcg[0].lruvec[0]
    lv.min_seq[FILE] = 7
    page(fr, 0, FILE, PG_WORKINGSET, nr_pages=4)
    fr[0].refs = 1
    evict(k, fr, pt, 0)
    assert pt[fr[0].pte].shadow == 7 << 2 | 1
    assert lv.tier_evicted[FILE, 2] == 4
    assert not lru_gen_lists.lru_gen_refault(k, fr, pt, 0, False)
    assert lv.tier_refaulted[FILE, 2] == 4
    stat = k.memcg[0].stat
    assert (stat[ST_REFAULT_FILE], stat[ST_ACTIVATE_FILE], stat[ST_RESTORE_FILE]) == (4, 4, 0)
    assert lru_gen_lists.lru_gen_refault(k, fr, pt, 0, True)  # in a fault: restored
    assert fr[0].flags & PG_WORKINGSET
    assert stat[ST_RESTORE_FILE] == 4


def test_refault_after_the_generation_ended_is_only_counted() -> None:
    k, fr, pt = world()
    page(fr, 0, FILE)
    evict(k, fr, pt, 0)
    k.memcg[0].lruvec[0].min_seq[FILE] += 1
    assert not lru_gen_lists.lru_gen_refault(k, fr, pt, 0, True)
    assert k.memcg[0].stat[ST_REFAULT_FILE] == 1
    assert k.memcg[0].stat[ST_ACTIVATE_FILE] == 0


def test_refault_by_another_memcg_is_not_counted() -> None:
    k, fr, pt = world(nr_memcgs=2)
    page(fr, 0, FILE)
    evict(k, fr, pt, 0)
    fr[0].memcg = 1
    assert not lru_gen_lists.lru_gen_refault(k, fr, pt, 0, True)
    assert k.vmstat[VM_REFAULT_FILE] == 0


def test_refault_of_a_page_read_often_is_restored() -> None:
    k, fr, pt = world()
    page(fr, 0, FILE, PG_WORKINGSET)
    fr[0].refs = 3
    evict(k, fr, pt, 0)
    assert lru_gen_lists.lru_gen_refault(k, fr, pt, 0, False)
    assert fr[0].refs == 3


def bins_of(k: Any) -> list[int]:
    """Every memcg on the memcg LRU, by walking the bins."""
    found = []
    for g in range(MEMCG_NR_GENS):
        for b in range(MEMCG_NR_BINS):
            c = int(k.node[0].memcg_lru_head[g, b])
            while c >= 0:
                lv = k.memcg[c].lruvec[0]
                assert (lv.memcg_gen, lv.memcg_bin) == (g, b)
                found.append(c)
                c = int(lv.memcg_next)
    return found


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)), max_size=25))
def test_memcg_lru_loses_nobody(rotations: list[tuple[int, int]]) -> None:
    k, _, _ = world(nr_memcgs=5, nr_frames=4)
    for c, op in rotations:
        lru_gen_memcg.lru_gen_rotate_memcg(k, c, 0, op)
        assert sorted(bins_of(k)) == [0, 1, 2, 3, 4]
        seq = int(k.node[0].memcg_lru_seq)
        gens = {int(k.memcg[c].lruvec[0].memcg_gen) for c in range(5)}
        assert gens <= {seq % MEMCG_NR_GENS, (seq + 1) % MEMCG_NR_GENS}
        assert k.node[0].memcg_lru_nr[seq % MEMCG_NR_GENS] > 0


def test_memcg_lru_goes_on_when_the_old_generation_is_empty() -> None:
    k, _, _ = world(nr_memcgs=2)
    lru_gen_memcg.lru_gen_rotate_memcg(k, 0, 0, lru_gen_memcg.MEMCG_LRU_YOUNG)
    assert k.node[0].memcg_lru_seq == 0
    lru_gen_memcg.lru_gen_rotate_memcg(k, 1, 0, lru_gen_memcg.MEMCG_LRU_YOUNG)
    assert k.node[0].memcg_lru_seq == 1


def test_fls() -> None:
    assert [lru_gen.fls(v) for v in (0, 1, 2, 3, 4, 16628, 200000)] == [0, 1, 2, 2, 3, 15, 18]


@pytest.mark.parametrize(
    ("inactive", "target", "priority"),
    [(200000, 16629, 6), (2**20, 2**10, 10), (2**20, 64, 12), (2**20, 32, 12), (0, 64, 6)],
)
def test_set_initial_priority(inactive: int, target: int, priority: int) -> None:
    k, _, _ = world()
    k.zone[ZONE_NORMAL].lru_pages[LRU_INACTIVE_FILE] = inactive
    k.sc.nr_to_reclaim = target
    lru_gen.set_initial_priority(k, 0)
    assert k.sc.priority == priority


def test_get_nr_to_scan_ages_below_the_default_priority() -> None:
    k, fr, pt = world()
    fill(k, 300000, 50000, 50000)
    assert lru_gen.get_nr_to_scan(k, fr, pt, 0, 0, False) == 400000 >> 12
    assert k.memcg[0].lruvec[0].max_seq == 5
    k.sc.priority = 11
    assert lru_gen.get_nr_to_scan(k, fr, pt, 0, 0, False) == -1
    assert k.memcg[0].lruvec[0].max_seq == 6


def test_get_nr_to_scan_respects_memory_min() -> None:
    k, fr, pt = world(nr_memcgs=2)
    k.memcg[1].memory.usage, k.memcg[1].memory.emin = 100, 100
    assert lru_gen.get_nr_to_scan(k, fr, pt, 1, 0, False) == -1
    k.sc.target = 1  # its own limit: min does not protect it
    assert lru_gen.get_nr_to_scan(k, fr, pt, 1, 0, False) == 0


def test_should_abort_scan_kswapd_stops_above_high() -> None:
    k, _, _ = world()
    zone = k.zone[ZONE_NORMAL]
    zone.managed, zone.wmark[:3] = 10000, (100, 200, 300)
    k.sc.kswapd, k.sc.nr_to_reclaim = 1, 1000
    zone.free = 364
    assert not lru_gen.should_abort_scan(k, 0)
    zone.free = 365
    assert lru_gen.should_abort_scan(k, 0)
    zone.free, k.sc.nr_reclaimed = 0, 1000
    assert lru_gen.should_abort_scan(k, 0)
    k.sc.target = 1
    assert not lru_gen.should_abort_scan(k, 0)


def test_age_node_asks_for_the_oom_killer_only_when_all_is_young() -> None:
    k, fr, _ = world()
    k.sc.priority, k.sc.nr_to_reclaim = 0, 32
    add(k, fr, 0, FILE)
    k.now_ns = 2_000
    assert not lru_gen.lru_gen_age_node(k, 0)  # min_ttl_ms 0: never
    k.lru_gen_min_ttl_ns = 5_000
    assert lru_gen.lru_gen_age_node(k, 0)
    k.now_ns = 6_000
    assert not lru_gen.lru_gen_age_node(k, 0)


def test_large_granule_leaves_a_debt_that_later_batches_pay() -> None:
    k, fr, pt = world()
    k.g, k.granule_pages = 9, 512
    k.memcg[0].lruvec[0].min_seq[:] = 1
    for i in range(2):
        add(k, fr, i, FILE, PG_MAPPED | PG_YOUNG, nr_pages=512)
        present(fr, pt, i)
    assert lru_gen.evict_folios(k, fr, pt, 0, 0, 0) == 512
    assert k.memcg[0].lruvec[0].gen_credit == 64 - 512
    assert [seq_of(k, fr, i) for i in range(2)] == [3, 1]  # touched: kept, activated
    for _ in range(7):
        assert lru_gen.evict_folios(k, fr, pt, 0, 0, 0) == 64
    assert seq_of(k, fr, 1) == 1
    lru_gen.evict_folios(k, fr, pt, 0, 0, 0)
    assert seq_of(k, fr, 1) == 3


def test_look_around_promotes_touched_neighbours_of_the_same_table() -> None:
    k, fr, pt = world(nr_frames=600)
    for i in (0, 31, 511, 512, 540):
        add(k, fr, i, FILE, PG_MAPPED | (0 if i == 31 else PG_YOUNG))
        present(fr, pt, i)
    lru_gen.lru_gen_look_around(k, fr, pt, 512)
    assert [seq_of(k, fr, i) for i in (0, 31, 511, 540)] == [1, 1, 1, 3]
    lru_gen.lru_gen_look_around(k, fr, pt, 31)
    assert [seq_of(k, fr, i) for i in (0, 31, 511)] == [3, 1, 1]
