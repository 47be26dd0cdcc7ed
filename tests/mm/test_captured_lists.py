"""Where the pages of a captured group start on the LRU lists, classic and multi-gen."""

from __future__ import annotations

from typing import Any

import pytest

from capplan.mm import captured, lru_gen_lists, lruvec
from capplan.mm.state import LRU_ACTIVE_FILE, LRU_INACTIVE_FILE, NS_PER_S, PG_ACTIVE, ZONE_NORMAL
from tests.mm.lru_gen_world import ANON, FILE, add, list_of, page, seq_of, world

pytestmark = pytest.mark.small


def seen(k: Any, file: list[int], anon: list[int] | None = None, age_s: float = 0.0) -> None:
    """Note what was captured of memcg 0, and a kernel of one node and no zones to fill."""
    memcg = k.memcg[0]
    memcg.seen_lists = len(file)
    for d, (old_anon, old_file) in enumerate(zip(anon or [0] * len(file), file, strict=True)):
        memcg.seen_pages[d] = (old_anon, old_file)
        memcg.seen_age_ns[d] = int(age_s * NS_PER_S) * (len(file) - d)
    k.nr_zones = 0


def test_generations_have_the_sizes_that_were_seen_and_the_first_placed_is_the_oldest() -> None:
    k, fr, _ = world()
    k.now_ns = 100 * NS_PER_S
    for i in range(8):  # six of read(2) in the second generation, two mapped ones in the youngest
        add(k, fr, i, FILE, PG_ACTIVE if i < 2 else 0)
    add(k, fr, 8, ANON, PG_ACTIVE)
    seen(k, file=[3, 0, 5], anon=[1, 0, 0], age_s=10.0)
    captured.finish(k, fr)
    lv = k.memcg[0].lruvec[0]
    assert (lv.max_seq, list(lv.min_seq)) == (3, [1, 1])
    assert [seq_of(k, fr, i) for i in range(9)] == [3, 3, 1, 1, 1, 3, 3, 3, 1]
    assert list_of(lv, fr, 3 % 4, FILE) == [1, 0, 7, 6, 5]  # newest first
    assert lv.gen_pages[1, FILE, ZONE_NORMAL] == 3
    assert [lv.gen_birth_ns[g] // NS_PER_S for g in (1, 2, 3)] == [70, 80, 90]
    assert (lv.pages[LRU_INACTIVE_FILE], lv.pages[LRU_ACTIVE_FILE]) == (3, 5)


def test_pages_that_were_not_counted_are_on_the_youngest() -> None:
    k, fr, _ = world()
    for i in range(5):
        add(k, fr, i, FILE)
    seen(k, file=[0, 2, 0, 1])
    captured.finish(k, fr)
    assert [seq_of(k, fr, i) for i in range(5)] == [1, 1, 3, 3, 3]


def test_a_group_that_was_not_captured_stays_as_the_kernel_placed_it() -> None:
    k, fr, _ = world()
    add(k, fr, 0, FILE)
    k.nr_zones = 0
    captured.finish(k, fr)
    assert seq_of(k, fr, 0) == 1
    assert list(k.memcg[0].lruvec[0].min_seq) == [0, 0]


def test_inactive_and_active_lists_have_the_sizes_that_were_seen() -> None:
    k, fr, _ = world()
    k.lru_gen = 0
    for i in range(6):
        page(fr, i, FILE, PG_ACTIVE if i == 0 else 0)
        lruvec.lru_add(k, fr, i)
    seen(k, file=[2, 4])
    captured.finish(k, fr)
    lv = k.memcg[0].lruvec[0]
    assert (lv.pages[LRU_INACTIVE_FILE], lv.pages[LRU_ACTIVE_FILE]) == (2, 4)
    assert [bool(fr[i].flags & PG_ACTIVE) for i in range(6)] == [True, False, False] + [True] * 3
    assert lv.tree_pages[LRU_ACTIVE_FILE] == 4
    assert k.zone[ZONE_NORMAL].lru_pages[LRU_INACTIVE_FILE] == 2


def test_each_numa_node_has_its_share_of_every_list() -> None:
    k, fr, _ = world()
    k.nr_nodes = 2
    lru_gen_lists.lru_gen_init_lruvec(k, 0, 1)
    for i in range(12):
        page(fr, i, FILE)
        fr[i].zone = ZONE_NORMAL + (4 if i >= 8 else 0)
        assert lru_gen_lists.lru_gen_add_folio(k, fr, i, False)
    seen(k, file=[3, 0, 9, 0])
    captured.finish(k, fr)
    sizes = [[int(k.memcg[0].lruvec[n].gen_pages[g, FILE, ZONE_NORMAL]) for g in range(4)]
             for n in range(2)]  # fmt: skip
    assert sizes == [[2, 0, 6, 0], [1, 0, 3, 0]]
