"""zsmalloc's size classes: what an object takes, and which has a page of its own."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import pytest

from capplan.mm.zsmalloc import zs_chain_pages, zs_huge_class_bytes, zs_object_bytes

pytestmark = pytest.mark.small


@pytest.mark.parametrize(
    ("size", "longest", "pages"),
    [
        (1120, 4, 2),
        (1120, 8, 8),
        (2048, 8, 1),  # a power of 2
        (1360, 4, 1),  # 3 in a page, 16 bytes wasted: 99 % like any more pages
        (3264, 4, 4),
        (3280, 4, 1),
    ],
)
def test_chain_worked_examples(size: int, longest: int, pages: int) -> None:
    assert zs_chain_pages(size, longest) == pages


@pytest.mark.parametrize(
    ("length", "longest", "taken"),
    [(1103, 4, 1170), (1103, 8, 1129), (0, 4, 0), (1, 8, 32), (4096, 4, 4096), (3300, 4, 4096)],
)
def test_object_worked_examples(length: int, longest: int, taken: int) -> None:
    assert zs_object_bytes(length, longest) == taken


def test_a_recorded_zram_takes_as_much() -> None:
    """Linux 6.1, lzo-rle, random quarter pages (recording zram-leak-6.1, mm_stat at 30 s)."""
    compressed, used, pages = 64_794_464, 68_841_472, 240_635_904 // 4096
    mean = round(compressed / pages)
    assert zs_object_bytes(mean, 4) * pages == pytest.approx(used, rel=0.002)
    assert compressed < 0.95 * used


def test_huge_class_worked_example() -> None:
    assert zs_huge_class_bytes(4) == 3257
    assert zs_huge_class_bytes(8) > 3257


@hypothesis.given(st.integers(1, 4096), st.sampled_from([4, 8]))
def test_an_object_takes_its_length_and_a_fifth_more_at_most(length: int, longest: int) -> None:
    taken = zs_object_bytes(length, longest)
    assert length <= taken <= 4096
    if 64 <= length < zs_huge_class_bytes(longest):
        assert taken <= 1.25 * (length + 8 + 15)
