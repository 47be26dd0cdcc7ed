"""Which missing granule a random access meets (capplan.mm.nonresident)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capplan.mm import nonresident
from capplan.mm import state as s

FIRST = 5  # the mapping's first entry: lists must not run into its neighbours


def world(pattern: int, granules: int, zipf_s: float = 1.0) -> tuple[Any, Any]:
    """Kernel and entries with one mapping of present granules."""
    k = s.new_kernel()[0]
    k.granule_pages = 1
    k.seed = np.uint64(7)
    k.nr_entries = granules + 2 * FIRST
    entries = s.new_entries(int(k.nr_entries))
    mapping = k.mapping[0]
    mapping.first_pte = FIRST
    mapping.nr_ptes = mapping.used = mapping.size_pages = granules
    mapping.pattern = pattern
    mapping.zipf_s = zipf_s
    entries["state"][FIRST : FIRST + granules] = s.PTE_PRESENT
    return k, entries


def lose(k: Any, pt: Any, index: int) -> None:
    pt[FIRST + index].state = s.PTE_SHADOW
    nonresident.granule_lost(k, pt, 0, FIRST + index, 1)


def find(k: Any, pt: Any, index: int) -> None:
    nonresident.granule_found(k, pt, 0, FIRST + index)
    pt[FIRST + index].state = s.PTE_PRESENT


def cells(k: Any, pt: Any) -> list[int]:
    """All cells behind the entries."""
    return [int(index) for index in pt["cells"][int(k.nr_entries) :].ravel()]


def listed(k: Any, pt: Any) -> set[int]:
    """What the lists of all classes hold."""
    found: list[int] = []
    for c in range(s.NR_MISSING_CLASSES):
        first = FIRST + (1 << c) - 1
        found += cells(k, pt)[first : first + int(k.mapping[0].missing[c])]
    assert len(found) == len(set(found))
    return set(found)


@pytest.mark.small
def test_classes_double() -> None:
    assert [int(nonresident.popularity_class(i)) for i in range(16)] == [
        0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 4]  # fmt: skip
    assert int(nonresident.popularity_class((1 << 30) - 2)) == 29
    assert int(nonresident.popularity_class((1 << 30) - 1)) == 30


@pytest.mark.small
def test_shares_of_the_docstring() -> None:
    for pattern, share in (
        (s.ACCESS_UNIFORM, 0.25),
        (s.ACCESS_ZIPF, math.log(9 / 7) / math.log(9)),
    ):
        k, pt = world(pattern, 8)
        for index in (6, 7):
            lose(k, pt, index)
        assert float(nonresident.missing_share(k, pt, 0)) == pytest.approx(share, rel=1e-12)


@pytest.mark.small
@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=120), st.sampled_from((0.7, 1.0, 1.6)))
def test_lists_hold_what_is_missing(moves: list[int], zipf_s: float) -> None:
    k, pt = world(s.ACCESS_ZIPF, 41, zipf_s)
    missing: set[int] = set()
    for number, index in enumerate(moves):
        if index in missing:
            find(k, pt, index)
        else:
            lose(k, pt, index)
        missing ^= {index}
        if number == 10:  # the lists begin here
            nonresident.missing_share(k, pt, 0)
    share = float(nonresident.missing_share(k, pt, 0))
    assert listed(k, pt) == missing
    assert int(k.mapping[0].nonresident) == len(missing)
    weights = [_weight(i, zipf_s) for i in range(41)]
    assert share == pytest.approx(sum(weights[i] for i in missing) / sum(weights), abs=1e-9)
    untouched = cells(k, s.new_entries(int(k.nr_entries)))
    assert cells(k, pt)[:FIRST] == untouched[:FIRST]
    assert cells(k, pt)[FIRST + 41 :] == untouched[FIRST + 41 :]


def _weight(index: int, zipf_s: float) -> float:
    if zipf_s == 1.0:
        return math.log((index + 2) / (index + 1))
    return float(((index + 2) ** (1 - zipf_s) - (index + 1) ** (1 - zipf_s)) / (1 - zipf_s))


@pytest.mark.parametrize("zipf_s", [None, 0.6, 1.0, 2.5])
def test_draws_follow_the_pattern(zipf_s: float | None) -> None:
    """Twenty thousand draws against the shares, by chi-square (1 in 10,000)."""
    k, pt = world(s.ACCESS_UNIFORM if zipf_s is None else s.ACCESS_ZIPF, 64, zipf_s or 1.0)
    missing = [0, 3, 4, 9, 17, 20, 21, 30, 40, 41, 62, 63]
    for index in missing:
        lose(k, pt, index)
    nonresident.missing_share(k, pt, 0)
    draws = 20_000
    picked = [int(nonresident.pick_missing(k, pt, 0, 0)) - FIRST for _ in range(draws)]
    assert set(picked) <= set(missing)
    weights = np.array([1.0 if zipf_s is None else _weight(i, zipf_s) for i in missing])
    expected = weights / weights.sum() * draws
    counts = np.array([picked.count(index) for index in missing])
    assert float(((counts - expected) ** 2 / expected).sum()) < 37.4  # 11 degrees of freedom


@pytest.mark.small
def test_nothing_missing_is_no_entry() -> None:
    k, pt = world(s.ACCESS_UNIFORM, 8)
    assert float(nonresident.missing_share(k, pt, 0)) == 0.0
    assert int(nonresident.pick_missing(k, pt, 0, 0)) == -1
