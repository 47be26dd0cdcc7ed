"""Availability and the indices of fragmentation: worked numbers, and the engine's own as a twin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capplan.mm import state, vmstat
from capplan.mm._jit import entry
from capplan.plan import fragmentation
from capplan.plan.fragmentation import ORDERS

MARKS = {"DMA": (1, 1, 1), "Normal": (10, 100, 200)}
PIECES = [1000, 500, 200, 100, 0, 0, 0, 0, 0, 2, 1]


class Recorded(dict[str, Any]):
    """Series by name, as a run's."""


def recorded(*rows: list[int], zone: str = "Normal") -> Recorded:
    blocks = np.array(rows, float)
    found = Recorded({f"zone.{zone}.order{o}": blocks[:, o] for o in range(ORDERS)})
    found[f"zone.{zone}.free"] = (blocks * (1 << np.arange(ORDERS))).sum(axis=1)
    return found


@entry
def engine(k: Any, order: int) -> tuple[int, int]:
    return vmstat.fragmentation_index(k, 2, order), vmstat.extfrag_for_order(k, 2, order)


def test_indices_of_the_worked_example() -> None:
    blocks = np.array([PIECES, PIECES[:4] + [0] * 7, [0] * 11], float)
    assert fragmentation.unusable_index(blocks, 9) == pytest.approx([3600 / 5648, 1.0, 0.0])
    assert list(fragmentation.extfrag_index(blocks, 9)) == [-1.0, 0.996, 0.0]


@given(st.lists(st.integers(0, 50), min_size=11, max_size=11), st.integers(0, 10))
def test_indices_are_those_of_the_engine(counts: list[int], order: int) -> None:
    k = state.new_kernel()[0]
    k.zone[2].nr_free[:, 1] = counts
    blocks = np.array([counts], float)
    index = round(float(fragmentation.extfrag_index(blocks, order)[0]) * 1000)
    own_index, own_share = engine(k, order)
    assert index == own_index
    share = float(fragmentation.unusable_index(blocks, order)[0])
    assert int(share * 100 + 1e-9) == own_share


def test_available_needs_a_block_and_memory_above_low() -> None:
    three = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]
    found = recorded(three, [200, *three[1:]], [700] + [0] * 10)
    # 512 free pages are above LOW, but not without the block; 712 are; 700 single pages are none
    assert list(fragmentation.available(found, MARKS, 9)) == [False, True, False]
    assert list(fragmentation.available(found, MARKS, 0)) == [True, True, True]
    assert fragmentation.available_shares(found, MARKS)[9] == pytest.approx(1 / 3)
    assert fragmentation.most_unusable(found, MARKS, 9) == 1.0


def test_dma_is_no_place_for_containers() -> None:
    found = recorded([0] * 10 + [3], zone="DMA")
    assert fragmentation.available_shares(found, MARKS) == ()
    assert fragmentation.most_unusable(found, MARKS, 9) is None
