"""Slots that pages in memory have kept are given back where swap is half full (vmscan.c)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from capplan.sim.run import run
from tests.verification.convergence import first_kill
from tests.verification.convergence_cases import CASES

SWAP_BYTES = 128 << 20


@pytest.mark.parametrize("seed", [1, 2])
def test_swap_is_used_for_what_is_not_in_memory_when_the_killer_comes(seed: int) -> None:
    """Random accesses to more than there is: the active pages of the end keep no slots.

    They kept 3 % of swap (928 to 1047 of 32,768 pages, eight seeds) where activate_locked did
    not free them, 0.5 % (131 to 163) where it does.
    """
    case = next(case for case in CASES if case.name == "random-overcommit")
    world = case.scenario(0, seed)
    world = replace(world, node=replace(world.node, sysctl={"vm.page-cluster": 0}))
    found = run(replace(world, sample_ns=100_000_000))
    before = found.series["t"] < first_kill(found)
    kept = sum(v for n, v in found.series.items() if n.endswith(".stat.swapcached"))
    assert 0 < kept[before][-1] < SWAP_BYTES / 100  # type: ignore[index]
