"""Multi-gen LRU in whole runs: what must hold at every sample, and over granules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from capplan.mm.state import MAX_NR_GENS, MIN_NR_GENS, PG_SWAPBACKED, ZONES_PER_NODE
from capplan.sim.build import Machine
from capplan.sim.run import run
from capplan.sim.scenario import (
    Cgroup,
    Disk,
    Mapping,
    Node,
    Op,
    Process,
    Scenario,
    Swap,
    Task,
    Zone,
)

pytestmark = pytest.mark.slow

MIB = 256
S = 1_000_000_000


def scenario(granule_order: int) -> Scenario:
    """A node of 64 MiB: a heap over its limit that swaps, and a mapped file read in circles."""
    touch = 20.0 * MIB
    heap = (
        Op("grow", "heap", pages=44 * MIB, rate=touch),
        Op("touch", "heap", rate=touch, ns=3 * S, pattern="uniform"),
    )
    return Scenario(
        name="small",
        node=Node(
            zones=(Zone(0, "DMA32", 64 * MIB, 64 * MIB, 62 * MIB, free=58 * MIB),),
            cpus=1,
            release="6.12",
            lru_gen=True,
            disks=(Disk("d", 50_000, 50_000, 2000.0, 2000.0, 60_000.0),),
            swaps=(Swap("d", 32 * MIB, 0),),
        ),
        cgroup_version="v2",
        cgroups=(Cgroup("a", memory_max=40 * MIB), Cgroup("b")),
        mappings=(
            Mapping("heap", "anon", 44 * MIB),
            Mapping("file", "file", 30 * MIB, size_pages=30 * MIB, disk="d"),
        ),
        processes=(
            Process("one", "a", "one", mappings=("heap",), tasks=(Task(heap),)),
            Process(
                "two",
                "b",
                "two",
                mappings=("file",),
                tasks=(Task((Op("touch", "file", rate=touch, ns=5 * S),)),),
            ),
        ),
        duration_ns=6 * S,
        sample_ns=S // 4,
        granule_order=granule_order,
    )


def pages_by_generation(fr: Any, mine: Any) -> Any:
    """Pages [generation][type][zone], from the frames themselves."""
    total = np.zeros((MAX_NR_GENS, 2, ZONES_PER_NODE), np.int64)
    file = np.where(fr["flags"][mine] & PG_SWAPBACKED, 0, 1)
    at = (fr["gen"][mine] - 1, file, fr["zone"][mine] % ZONES_PER_NODE)
    np.add.at(total, at, fr["nr_pages"][mine])
    return total


def frames_on_lists(fr: Any, lv: Any) -> int:
    count = 0
    for head in lv.gen_head.ravel():
        i = int(head)
        while i >= 0:
            count += 1
            i = int(fr["next"][i])
    return count


def check(machine: Machine) -> None:
    """Every folio is on one list and counted once; generations are 2 to 4, anon not ahead."""
    k, fr = machine.kernel[0], machine.frames
    for c in range(int(k.nr_memcgs)):
        lv = k.memcg[c].lruvec[0]
        mine = (fr["gen"] > 0) & (fr["memcg"] == c)
        total = pages_by_generation(fr, mine)
        assert (total == lv.gen_pages).all()
        youngest = [int(lv.max_seq - age) % MAX_NR_GENS for age in range(MIN_NR_GENS)]
        for t in range(2):
            active = total[youngest, t].sum()
            assert lv.pages[2 * t + 1] == active
            assert lv.pages[2 * t] == total[:, t].sum() - active
        gens = [int(lv.max_seq - lv.min_seq[t] + 1) for t in range(2)]
        assert MIN_NR_GENS <= gens[1] <= gens[0] <= MAX_NR_GENS
        assert frames_on_lists(fr, lv) == mine.sum()


def last(result: Any, name: str) -> float:
    return float(result.series[name][-1])


def test_run_keeps_its_books_and_granules_agree() -> None:
    # file read in circles: at one order the refaults of three sets of draws lie 7168 to 9707
    fine, coarse = (
        [run(scenario(order), replicate=draws, check=check) for draws in range(4)]
        for order in (0, 4)
    )
    for name in ("pswpout", "pgscan_kswapd", "pgsteal_kswapd", "workingset_refault_file"):
        pages = np.mean([last(result, f"vmstat.{name}") for result in fine])
        assert pages > 1000
        others = np.mean([last(result, f"vmstat.{name}") for result in coarse])
        assert others == pytest.approx(pages, rel=0.15)
    assert not [event for result in fine for event in result.events if event.event == "oom_kill"]
