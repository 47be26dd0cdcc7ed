"""Swap read-ahead: its windows, and the pages that come along."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from capplan.mm import state
from capplan.mm.swap_state import (
    swap_cluster_window,
    swap_ra_hit,
    swap_ra_init,
    swap_ra_window,
    swap_use_vma_readahead,
    swapin_nr_pages,
)
from capplan.sim.run import run
from capplan.sim.scenario import Access, Cgroup, Disk, Op, Swap, Zswap
from tests.sim.engine_cases import S, last, node, process, scenario

small = pytest.mark.small


@small
@pytest.mark.parametrize(
    ("prev", "at", "hits", "most", "before", "pages"),
    [
        (10, 50, 0, 8, 1, 1), (10, 11, 0, 8, 1, 2), (10, 9, 0, 8, 1, 2), (10, 50, 1, 8, 1, 4),
        (10, 50, 3, 8, 1, 8), (10, 50, 40, 8, 8, 8), (10, 50, 0, 8, 8, 4), (10, 50, 3, 4, 1, 4),
    ],
)  # fmt: skip
def test_swapin_nr_pages_worked_examples(
    prev: int, at: int, hits: int, most: int, before: int, pages: int
) -> None:
    assert swapin_nr_pages(prev, at, hits, most, before) == pages


def region(used: int = 2000, kind: int = state.MAP_ANON, g: int = 0) -> Any:
    """A machine with one region that begins at entry 100."""
    k = state.new_kernel()[0]
    k.page_cluster = 3
    k.vma_readahead = 1
    k.g = g
    k.mapping[0].first_pte = 100
    k.mapping[0].used = used
    k.mapping[0].kind = kind
    swap_ra_init(k.vma[0])
    return k


@small
def test_swap_ra_window_of_a_reader_in_order() -> None:
    k = region()
    assert swap_ra_window(k, 0, 100) == (8, 100, 105)
    for first, end in ((105, 113), (113, 121), (121, 129)):
        for e in range(int(k.vma[0].ra_index) + 101, first):
            swap_ra_hit(k, 0, e, 1)
        assert swap_ra_window(k, 0, first) == (8, first, end)


def test_swap_ra_window_of_random_faults_shrinks_to_one_page() -> None:
    k = region()
    wins = [swap_ra_window(k, 0, 100 + at)[0] for at in (900, 300, 1200, 50, 700)]
    assert wins == [8, 4, 2, 1, 1]
    assert swap_ra_window(k, 0, 100 + 699) == (2, 100 + 698, 100 + 700)  # going down


@small
def test_swap_ra_window_ends_with_the_region_and_the_page_table() -> None:
    k = region(used=603)
    assert swap_ra_window(k, 0, 100 + 511) == (8, 100 + 508, 100 + 512)
    swap_ra_init(k.vma[0])
    assert swap_ra_window(k, 0, 100 + 602) == (8, 100 + 599, 100 + 603)


@small
@pytest.mark.parametrize(("g", "granules"), [(0, 8), (1, 4), (2, 2), (3, 0), (6, 0)])
def test_swap_ra_window_of_coarse_granules_has_as_many_pages(g: int, granules: int) -> None:
    k = region(g=g)
    win, first, end = swap_ra_window(k, 0, 100 + 20)
    assert (win, end - first) == (8, granules)


@small
@pytest.mark.parametrize("why", ["rotating", "shmem", "release", ""])
def test_swap_use_vma_readahead_not_for_shmem_nor_beside_a_rotating_disk(why: str) -> None:
    k = region(kind=state.MAP_SHMEM if why == "shmem" else state.MAP_ANON)
    k.nr_rotate_swap = why == "rotating"
    k.vma_readahead = why != "release"
    assert swap_use_vma_readahead(k, 0) == (why == "")


def in_slot(pt: Any, at: int) -> Any:
    """Entry 0 is in slot ``at`` of an area that begins at slot 1000."""
    pt[0].swap, pt[0].slot = 0, 1000 + at
    return pt


@small
def test_swap_cluster_window_is_aligned_and_inside_the_area() -> None:
    k, pt = region(), state.new_entries(1)
    k.nr_rotate_swap = 1
    k.swap[0].first_slot, k.swap[0].nr_slots = 1000, 500
    assert swap_cluster_window(k, in_slot(pt, 21), 0) == (8, 1016, 1024)  # 4 hits to begin with
    for hits, (win, first, end) in ((6, (8, 1096, 1104)), (1, (4, 1496, 1500))):
        swap_ra_hit(k, 0, 0, hits)
        assert swap_cluster_window(k, in_slot(pt, first - 1000 + 3), 0) == (win, first, end)


def test_page_cluster_0_reads_single_pages() -> None:
    k, pt = region(), state.new_entries(1)
    k.page_cluster = 0
    assert swap_ra_window(k, 0, 120) == (1, 120, 120)
    assert swap_cluster_window(k, in_slot(pt, 21), 0) == (1, 0, 0)


def thrash(pattern: str = "cyclic", g: int = 0, size: int = 800, **more: Any) -> Any:
    """A region above its group's 500 pages is accessed for 4 s."""
    one, heap = process("p", "c", size, Op("hold", ns=4 * S))
    task = dataclasses.replace(
        one.tasks[0], access_mapping="p.heap", access=Access(pattern, 20_000.0)
    )
    one = dataclasses.replace(one, tasks=(task,))
    cgroup_version = more.pop("cgroup_version", "v2")
    machine = node(**({"swap": 4096} | more))
    return run(scenario([(one, heap)], (Cgroup("c", memory_max=500),), node=machine,
                        granule_order=g, duration_ns=4 * S,
                        cgroup_version=cgroup_version))  # fmt: skip


def counts(found: Any, *names: str) -> list[float]:
    return [last(found, f"vmstat.{name}") for name in names]


@pytest.mark.parametrize("more", [{}, {"lru_gen": True}, {"cgroup_version": "v1"}])
def test_reader_in_order_gets_eight_pages_a_fault(more: dict[str, Any]) -> None:
    found = thrash(**more)
    ahead, hits, major, pages = counts(found, "swap_ra", "swap_ra_hit", "pgmajfault", "pswpin")
    assert 0.95 * ahead <= hits <= ahead
    assert pages == ahead + major
    assert 7 <= pages / major <= 8
    alone = thrash(sysctl={"vm.page-cluster": 0}, **more)
    assert counts(alone, "swap_ra") == [0]
    assert pages > 3 * counts(alone, "pswpin")[0]


def test_random_reader_gets_single_pages() -> None:
    ahead, pages = counts(thrash("uniform"), "swap_ra", "pswpin")
    assert ahead < 0.02 * pages


@pytest.mark.parametrize("g", [2, 3, 5])
def test_coarse_granules_read_as_much(g: int) -> None:
    fine, coarse = thrash(), thrash(g=g)
    for name in ("pswpin", "pgmajfault", "swap_ra_hit"):
        assert counts(coarse, name)[0] == pytest.approx(counts(fine, name)[0], rel=0.12), name


def test_zram_reads_nothing_ahead() -> None:
    found = thrash(swaps=(Swap("vda", 4096, 100, zram=True),))
    assert counts(found, "swap_ra") == [0]
    assert counts(found, "pswpin")[0] > 0
    assert found.series["zram.mem_used_total"].max() > 0


@pytest.mark.parametrize("release", ["6.1", "6.12"])
def test_pool_is_read_ahead_too(release: str) -> None:
    one, heap = process("p", "c", 800, Op("hold", ns=4 * S))
    heap = dataclasses.replace(heap, length_mean=800.0)
    task = dataclasses.replace(one.tasks[0], access_mapping="p.heap",
                               access=Access("cyclic", 20_000.0))  # fmt: skip
    machine = node(swap=4096, release=release, zswap=Zswap(True))
    found = run(scenario([(dataclasses.replace(one, tasks=(task,)), heap)],
                         (Cgroup("c", memory_max=500),), node=machine))  # fmt: skip
    pool, ahead, device = counts(found, "zswpin", "swap_ra", "pswpin")
    assert pool > ahead > 0.7 * pool
    assert device == 0


def test_zero_pages_are_read_without_the_device() -> None:
    one, heap = process("p", "c", 800, Op("hold", ns=4 * S))
    heap = dataclasses.replace(heap, same_filled=1.0)
    task = dataclasses.replace(one.tasks[0], access_mapping="p.heap",
                               access=Access("cyclic", 20_000.0))  # fmt: skip
    found = run(scenario([(dataclasses.replace(one, tasks=(task,)), heap)],
                         (Cgroup("c", memory_max=500),), node=node(swap=4096)))  # fmt: skip
    assert counts(found, "pswpin", "pswpout", "pgmajfault") == [0, 0, 0]
    assert last(found, "cgroup.c.memory.swap.current") > 0


def test_rotating_disk_reads_clusters() -> None:
    disk = Disk("vda", 100_000, 100_000, 20_000.0, 20_000.0, 200_000.0, rotational=True)
    ahead, hits = counts(thrash(disks=(disk,)), "swap_ra", "swap_ra_hit")
    assert ahead >= hits > 0.9 * ahead > 0
