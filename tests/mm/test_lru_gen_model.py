"""Multi-gen LRU against a naive model of its lists."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capplan.mm import lru_gen_age, lru_gen_lists, lru_gen_scan
from capplan.mm.state import (
    LRU_INACTIVE_FILE,
    PG_ACTIVE,
    PG_MAPPED,
    PG_YOUNG,
    ZONE_NORMAL,
)
from tests.mm.lru_gen_world import ANON, FILE, list_of, page, present, seq_of, world

pytestmark = [
    pytest.mark.small,
    # un-jitted, the hash behind draws wraps around as it should, and numpy says so
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
]


@dataclass
class Naive:
    """The lists as plain Python lists, head first; ``gen`` by folio."""

    max_seq: int = 3
    min_seq: list[int] = field(default_factory=lambda: [0, 0])
    lists: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    seq: dict[int, int] = field(default_factory=dict)
    type: dict[int, int] = field(default_factory=dict)

    def at(self, seq: int, t: int) -> list[int]:
        return self.lists.setdefault((seq % 4, t), [])

    def add(self, i: int, t: int, active: bool, reclaiming: bool) -> None:
        low = self.min_seq[t]
        if active and not reclaiming:
            seq = self.max_seq
        elif t == ANON:
            seq = self.max_seq - 1
        else:
            seq = low if reclaiming or low + 2 >= self.max_seq else low + 1
        self.seq[i], self.type[i] = seq, t
        self.at(seq, t).insert(len(self.at(seq, t)) if reclaiming else 0, i)

    def remove(self, i: int) -> None:
        for folios in self.lists.values():
            if i in folios:
                folios.remove(i)
        del self.seq[i]

    def age(self, young: set[int]) -> None:
        for i in young & set(self.seq):
            self.seq[i] = self.max_seq
        for t in (FILE, ANON):
            if self.max_seq - self.min_seq[t] == 3:
                self.merge_oldest(t)
        self.max_seq += 1

    def merge_oldest(self, t: int) -> None:
        low = self.min_seq[t]
        for i in reversed(self.at(low, t).copy()):
            self.at(low, t).remove(i)
            self.seq[i] = max(self.seq[i], low + 1)
            self.at(self.seq[i], t).append(i)
        self.min_seq[t] += 1

    def scan(self, t: int) -> list[int]:
        low = self.min_seq[t]
        taken: list[int] = []
        if self.max_seq - low == 1:
            return taken
        for i in reversed(self.at(low, t).copy()):
            if len(taken) == 64:
                break
            self.at(low, t).remove(i)
            if self.seq[i] != low:
                self.at(self.seq[i], t).insert(0, i)
            else:
                taken.append(i)
                del self.seq[i]
        return taken

    def skip_empty(self) -> None:
        low = self.min_seq.copy()
        for t in (ANON, FILE):
            while low[t] + 2 <= self.max_seq and not self.at(low[t], t):
                low[t] += 1
        low[ANON] = min(low)
        self.min_seq = [low[ANON], max(low[ANON], self.min_seq[FILE])]


FOLIOS = 12
moves = st.one_of(
    st.tuples(
        st.just("add"), st.integers(0, FOLIOS - 1), st.booleans(), st.booleans(), st.booleans()
    ),
    st.tuples(st.just("del"), st.integers(0, FOLIOS - 1)),
    st.tuples(st.just("age"), st.sets(st.integers(0, FOLIOS - 1))),
    st.tuples(st.just("scan"), st.integers(0, 1)),
    st.tuples(st.just("skip")),
)


def play(k: Any, fr: Any, pt: Any, naive: Naive, move: tuple[Any, ...]) -> None:
    """Do one move on both sides."""
    if move[0] == "add" and move[1] not in naive.seq:
        _, i, is_file, active, reclaiming = move
        naive.add(i, int(is_file), active, reclaiming)
        page(fr, i, int(is_file), (PG_ACTIVE if active else 0) | PG_MAPPED, nr_pages=i + 1)
        lru_gen_lists.lru_gen_add_folio(k, fr, i, reclaiming)
    elif move[0] == "del" and move[1] in naive.seq:
        naive.remove(move[1])
        lru_gen_lists.lru_gen_del_folio(k, fr, move[1])
    elif move[0] == "age":
        naive.age(move[1])
        for i in move[1]:
            fr[i].flags |= PG_YOUNG
            if i in naive.seq:
                present(fr, pt, i)
        k.proc[0].start_ns = k.now_ns + 1  # a new process: all of its tables are walked
        lru_gen_age.try_to_inc_max_seq(k, fr, pt, 0, 0, True)
    elif move[0] == "scan":
        _, nr, _ = lru_gen_scan.scan_folios(k, fr, 0, 0, move[1], 3)
        assert list(k.lru_gen_isolated[:nr]) == naive.scan(move[1])
    elif move[0] == "skip":
        lru_gen_age.try_to_inc_min_seq(k, 0, 0, True)
        naive.skip_empty()


@settings(max_examples=80)
@given(st.lists(moves, min_size=20, max_size=60))
def test_lists_match_a_naive_model(played: list[tuple[Any, ...]]) -> None:
    k, fr, pt = world(nr_frames=16)
    naive = Naive()
    lv = k.memcg[0].lruvec[0]
    for move in played:
        play(k, fr, pt, naive, move)
        for i in range(FOLIOS):
            fr[i].flags &= ~PG_YOUNG
        assert (lv.max_seq, list(lv.min_seq)) == (naive.max_seq, naive.min_seq)
        for t in (ANON, FILE):
            for g in range(4):
                assert list_of(lv, fr, g, t) == naive.lists.get((g, t), [])
        for i, seq in naive.seq.items():
            assert seq_of(k, fr, i) == seq
        check_counts(k, fr, naive)


def check_counts(k: Any, fr: Any, naive: Naive) -> None:
    """Every page is counted once, in its generation, the lruvec and the zone."""
    lv = k.memcg[0].lruvec[0]
    for t in (ANON, FILE):
        for active in (False, True):
            pages = sum(
                i + 1
                for i, seq in naive.seq.items()
                if naive.type[i] == t and (seq >= naive.max_seq - 1) == active
            )
            lru = t * LRU_INACTIVE_FILE + active
            assert lv.pages[lru] == pages
            assert k.zone[ZONE_NORMAL].lru_pages[lru] == pages
            assert lru_gen_lists.lru_gen_counts(k, 0, 0, t, active) == pages
