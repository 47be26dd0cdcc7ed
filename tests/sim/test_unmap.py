"""What munmap gives back besides pages: the tables that mapped them."""

from __future__ import annotations

import pytest

from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Op
from tests.sim.engine_cases import S, last, process, scenario

pytestmark = pytest.mark.small

HOLD = Op("hold", ns=1000 * S)
GROW, FREE = Op("grow", pages=1000, rate=50_000.0), Op("free", pages=1000)


def tables(*after: Op, pages: int = 1100, granule_order: int = 0) -> float:
    """Page tables at the run's end of a process that grew by ``pages`` and did ``after``."""
    found = run(
        scenario([process("p", "a", pages, *after)], (Cgroup("a"),), granule_order=granule_order)
    )
    assert last(found, "meminfo_kb.PageTables") * 1024 == last(found, "cgroup.a.stat.pagetables")
    return last(found, "cgroup.a.stat.pagetables") / 4096


@pytest.mark.parametrize("granule_order", [0, 5])
def test_tables_of_what_was_unmapped_are_freed(granule_order: int) -> None:
    # 1100 pages lie under three tables, 100 under one, 512 still under one
    assert tables(HOLD, granule_order=granule_order) == 3
    assert tables(FREE, HOLD, granule_order=granule_order) == 1
    assert tables(Op("free", pages=588), HOLD, granule_order=granule_order) == 1


def test_a_table_that_still_maps_a_page_stays() -> None:
    assert tables(Op("free", pages=587), HOLD) == 2  # 513 pages


def test_growing_and_freeing_again_and_again_adds_no_tables() -> None:
    assert tables(*[FREE, GROW] * 20, HOLD) == 3
    assert tables(*[FREE, GROW] * 20, FREE, HOLD) == 1
