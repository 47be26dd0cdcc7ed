"""How fragmented free memory is: the kernel's two indices."""

from __future__ import annotations

from typing import Any

import pytest

from capplan.mm import state, vmstat
from capplan.mm._jit import entry
from capplan.mm.state import MT_MOVABLE, MT_RECLAIMABLE

pytestmark = pytest.mark.small

Z = 2


def zone() -> Any:
    """A kernel record; the test writes the counts of zone Z."""
    k = state.new_kernel()[0]
    k.nr_nodes = 1
    return k


@entry
def indices(k: Any, order: int) -> tuple[int, int, bool]:
    return (
        vmstat.fragmentation_index(k, Z, order),
        vmstat.extfrag_for_order(k, Z, order),
        vmstat.order_available(k, Z, order),
    )


@pytest.mark.parametrize(
    ("order", "counts", "index", "share", "available"),
    [
        (9, [1000, 500, 200, 100], 996, 100, False),
        (9, [100], 989, 100, False),
        (4, [0, 0, 0, 8], 375, 100, False),
        (9, [1000, 500, 200, 100, 0, 0, 0, 0, 0, 2, 1], -1000, 63, True),
        (3, [], 0, 0, False),
    ],
)
def test_fragmentation_indices(
    order: int, counts: list[int], index: int, share: int, available: bool
) -> None:
    k = zone()
    k.zone[Z].nr_free[: len(counts), MT_MOVABLE] = counts
    assert indices(k, order) == (index, share, available)


def test_order_available_leaves_highatomic_blocks_out() -> None:
    k = zone()
    k.zone[Z].nr_free[5, state.MT_HIGHATOMIC] = 1
    assert indices(k, 2)[2] is False
    k.zone[Z].nr_free[2, MT_RECLAIMABLE] = 1
    assert indices(k, 2)[2] is True
