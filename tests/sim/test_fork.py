"""fork during a run: what is shared, who pays for a copy, what stays when one of them ends."""

from __future__ import annotations

import math
from typing import Any

import pytest

from capplan.sim.build import build
from capplan.sim.result import Run
from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Mapping, Op, Process, Scenario, Task
from tests.property import ledger
from tests.sim.engine_cases import MS, S, events, last, node, scenario

PAGES = 1000


def family(
    *,
    parent_writes: float = 0.0,
    child_writes: float = 0.0,
    children: int = 1,
    life_ns: int = 500 * MS,
    after: tuple[Op, ...] = (),
    **more: Any,
) -> Scenario:
    """A parent of 1000 pages in group p that forks at about 100 ms; its children are in group c."""
    names = [f"kid{i}" for i in range(children)]
    ops = (
        Op("grow", "heap", pages=PAGES), Op("hold", ns=100 * MS),
        *(Op("fork", proc=name) for name in names), *after, Op("hold", ns=1000 * S),
    )  # fmt: skip
    writer = (
        (Task((Op("store", "heap", rate=parent_writes, pattern="uniform"),)),)
        if parent_writes
        else ()
    )
    parent = Process("parent", "p", "p", mappings=("heap",), tasks=(Task(ops), *writer))
    kids = []
    for name in names:
        tasks = [Task((Op("hold", ns=life_ns), Op("exit")))]
        if child_writes:
            tasks.append(Task((Op("store", "heap", rate=child_writes, pattern="uniform"),)))
        kids.append(
            Process(name, "c", "p", mappings=("heap", f"{name}.copies"), tasks=tuple(tasks),
                    parent="parent", by_fork=True)
        )  # fmt: skip
    regions = (
        Mapping("heap", "anon", 2 * PAGES),
        *(Mapping(f"{name}.copies", "anon", 1, cow_of="heap") for name in names),
    )
    groups = (Cgroup("p", memory_max=more.pop("memory_max", -1)), Cgroup("c"))
    return scenario([], groups, files=regions, processes=(parent, *kids), **more)


def play(built: Scenario) -> Run:
    """Run, with the books checked at every sample."""
    boot = ledger.free_at_boot(build(built))

    def check(machine: Any) -> None:
        assert ledger.errors(machine, boot) == []

    return run(built, check=check)


def pages(found: Run, group: str, t: float) -> float:
    series = found.series[f"cgroup.{group}.memory.current"]
    return float(series[int((found.series["t"] <= t + 1e-9).sum()) - 1]) / 4096


def rss(found: Run, name: str, t: float) -> float:
    series = found.series[f"process.{name}.rss_pages"]
    return float(series[int((found.series["t"] <= t + 1e-9).sum()) - 1])


def test_fork_shares_everything_and_charges_page_tables() -> None:
    found = play(family())
    assert next(event.t for event in events(found, "start") if event.name == "kid0") >= 0.1
    assert rss(found, "parent", 0.4) == rss(found, "kid0", 0.4) == PAGES
    assert pages(found, "c", 0.4) == math.ceil(PAGES / 512)  # the child's page tables, no more
    assert last(found, "cgroup.c.memory.current") == 0
    assert rss(found, "parent", 1.0) == PAGES


@pytest.mark.parametrize("g", [0, 3])
def test_parents_writes_are_copied_and_charged_to_the_parent(g: int) -> None:
    found = play(family(parent_writes=2000.0, granule_order=g))
    before, during = pages(found, "p", 0.1), pages(found, "p", 0.55)
    # random writes for about 0.45 s: each page is copied once
    assert during - before == pytest.approx(PAGES * (1 - math.exp(-2.0 * 0.45)), rel=0.15)
    assert rss(found, "parent", 0.55) == rss(found, "kid0", 0.55) == PAGES
    assert pages(found, "c", 0.55) < 64
    # what the child alone still had goes with it
    assert last(found, "cgroup.p.memory.current") / 4096 == pytest.approx(before, abs=64)


def test_childs_writes_are_charged_to_the_child() -> None:
    found = play(family(child_writes=2000.0))
    assert pages(found, "p", 0.55) == pages(found, "p", 0.1)
    assert pages(found, "c", 0.55) == pytest.approx(PAGES * (1 - math.exp(-2.0 * 0.45)), rel=0.15)
    assert rss(found, "kid0", 0.55) == PAGES
    assert rss(found, "parent", 1.0) == PAGES


def test_nothing_is_copied_before_the_fork_and_after_the_child_is_gone() -> None:
    found = play(family(parent_writes=50_000.0, life_ns=100 * MS))
    assert pages(found, "p", 0.1) <= PAGES + 64 + 8
    assert pages(found, "p", 0.19) > 1.8 * PAGES
    end = pages(found, "p", 0.4)
    assert end <= PAGES + 128
    assert last(found, "cgroup.p.memory.current") / 4096 == end


def test_what_the_parent_unmaps_stays_with_the_child() -> None:
    found = play(family(after=(Op("hold", ns=100 * MS), Op("free", "heap", pages=400))))
    assert rss(found, "parent", 0.4) == PAGES - 400
    assert rss(found, "kid0", 0.4) == PAGES
    assert pages(found, "p", 0.4) >= PAGES
    assert pages(found, "p", 0.9) <= PAGES - 400 + 64 + 8


def test_child_goes_on_alone_when_its_parent_ends() -> None:
    found = play(family(after=(Op("hold", ns=100 * MS), Op("exit")), child_writes=500.0,
                        life_ns=10 * S))  # fmt: skip
    assert rss(found, "kid0", 1.0) == PAGES
    held = pages(found, "p", 0.9) + pages(found, "c", 0.9)
    # it writes to pages that nobody else has: no copies are made any more
    assert held <= PAGES + 300
    assert pages(found, "c", 0.9) == pages(found, "c", 0.4)


def test_several_children_share_and_copy_for_themselves() -> None:
    found = play(family(children=3, child_writes=1000.0))
    copied = PAGES * (1 - math.exp(-0.45))
    assert pages(found, "c", 0.55) == pytest.approx(3 * copied, rel=0.15)
    for i in range(3):
        assert rss(found, f"kid{i}", 0.55) == PAGES


def test_fork_of_one_that_still_runs_does_nothing_and_later_starts_it_again() -> None:
    again = (Op("hold", ns=100 * MS), Op("fork", proc="kid0"), Op("hold", ns=300 * MS),
             Op("fork", proc="kid0"))  # fmt: skip
    found = play(family(life_ns=300 * MS, after=again, parent_writes=1000.0))
    starts = [event.t for event in events(found, "start") if event.name == "kid0"]
    assert len(starts) == 2
    assert starts[1] - starts[0] == pytest.approx(0.4, abs=0.01)
    assert len([e for e in events(found, "exit") if e.name == "kid0"]) == 2


@pytest.mark.parametrize("lru_gen", [False, True])
def test_copies_under_a_limit_swap_out_and_the_books_add_up(lru_gen: bool) -> None:
    found = play(family(parent_writes=4000.0, child_writes=2000.0, children=2, memory_max=700,
                        after=(Op("hold", ns=150 * MS), Op("free", "heap", pages=300)),
                        node=node(swap=4096, lru_gen=lru_gen)))  # fmt: skip
    assert last(found, "vmstat.pswpout") > 300
    assert not events(found, "oom_kill")
    assert found.series["cgroup.p.memory.current"].max() <= 700 * 4096


def test_snapshot_that_doubles_the_memory_is_killed_at_the_limit() -> None:
    """Redis and its BGSAVE: what fits without a fork does not fit with one."""
    quiet = play(family(memory_max=1400))
    busy = play(family(memory_max=1400, parent_writes=8000.0, life_ns=900 * MS))
    assert not events(quiet, "oom_kill")
    (kill,) = events(busy, "oom_kill")
    assert (kill.name, kill.scope) == ("parent", "memcg")
