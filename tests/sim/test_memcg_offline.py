"""Groups of containers that end: what they leave is charged to dead groups, under their parent."""

from __future__ import annotations

from typing import Any

import pytest

from capplan.mm import state as s
from capplan.mm.memcg_offline import _move_swap
from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Mapping, Op
from tests.sim.engine_cases import MS, S, events, last, node, process, scenario

pytestmark = pytest.mark.small

PAGE = 4096


def reader(pages: int, *after: Op, **more: Any) -> Any:
    """A process of pod/job that reads a file and then does ``after``."""
    ops = (Op("read", "data", pages=pages, rate=20_000.0), *after)
    return process("job", "pod/job", 50, *ops, mappings=("job.heap", "data"), **more)


def found_of(*parts: Any, of_container: bool = True, low: int = 0, **more: Any) -> Any:
    groups = (
        Cgroup("pod", slab_reclaimable_pages=10),
        Cgroup("pod/job", memory_low=low, of_container=of_container, slab_reclaimable_pages=20),
        Cgroup("pod/other"),
    )
    files = (Mapping("data", "file", 4000, 4000, via="read", disk="vda"),)
    return run(scenario(list(parts), groups, files=files, **more))


@pytest.mark.parametrize("lru_gen", [False, True])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_cache_of_a_job_that_ended_is_its_parents(lru_gen: bool, version: str) -> None:
    found = found_of(reader(300, Op("exit")), node=node(lru_gen=lru_gen), cgroup_version=version)
    file = "memory.current" if version == "v2" else "memory.usage_in_bytes"
    assert events(found, "exit")
    assert last(found, f"cgroup.pod/job.{file}") == 0
    assert (
        last(found, f"cgroup.pod.{file}") == (300 + 20 + 10 + 1) * PAGE
    )  # 5 nodes of the cache's index
    assert last(found, "meminfo_kb.Cached") >= 300 * 4
    kept = found_of(reader(300, Op("exit")), node=node(lru_gen=lru_gen), of_container=False,
                    cgroup_version=version)  # fmt: skip
    assert last(kept, f"cgroup.pod/job.{file}") >= (300 + 20) * PAGE


def test_next_life_is_not_charged_for_the_cache_that_it_finds() -> None:
    again = reader(300, Op("hold", ns=300 * MS), Op("exit", code=1), restart="OnFailure",
                   restart_by="docker")  # fmt: skip
    found = found_of(again, duration_ns=2 * S)
    assert events(found, "restart")
    usage = found.series["cgroup.pod/job.memory.current"]
    first = events(found, "restart")[0].t
    assert usage.max() >= 300 * PAGE
    assert 0 < usage[found.series["t"] > first].max() <= (50 + 64) * PAGE


@pytest.mark.parametrize("lru_gen", [False, True])
def test_dead_group_is_not_protected(lru_gen: bool) -> None:
    # 8192 pages: the job's 3000 of cache stand in the way of 5500 anonymous ones
    hog = process("hog", "pod/other", 5500, Op("hold", ns=10 * S), start_ns=S)
    machine = node(lru_gen=lru_gen)

    def cached(of_container: bool) -> float:
        found = found_of(reader(3000, Op("exit")), hog, low=4000, duration_ns=4 * S,
                         of_container=of_container, node=machine)  # fmt: skip
        assert last(found, "process.hog.rss_pages") == 5500 or of_container is False
        return last(found, "cgroup.pod.stat.file") / PAGE

    assert cached(True) < 2300


def test_swapped_tmpfs_goes_with_it() -> None:
    ops = (Op("grow", "tmp", pages=1500, rate=20_000.0), Op("exit"))
    job = process("job", "pod/job", 50, *ops, mappings=("job.heap", "tmp"))
    groups = (Cgroup("pod"), Cgroup("pod/job", memory_max=1000, of_container=True))
    files = (Mapping("tmp", "shmem", 4000),)
    found = run(scenario([job], groups, files=files, node=node(swap=4096), duration_ns=2 * S))
    assert events(found, "exit")
    assert last(found, "cgroup.pod/job.memory.swap.current") == 0
    left = last(found, "cgroup.pod.memory.swap.current") + last(found, "cgroup.pod.memory.current")
    assert left / PAGE == pytest.approx(1500, abs=64)


def test_cells_behind_the_entries_are_no_entries() -> None:
    k, pt = s.new_kernel()[0], s.new_entries(8)
    k.nr_entries = 8
    pt[3].swap, pt[3].owner = 0, 1
    pt[8].cells[1] = 1 << 16  # read as an entry: owned by group 1, ...
    pt[8].cells[2] = 0  # ... with a slot
    _move_swap(k, pt, 1, 2)
    assert pt[3].owner == 2
    assert list(pt[8].cells[1:3]) == [1 << 16, 0]
