"""The kernel's own memcg self-tests and LTP's, played in the model with the kernel's tolerances.

tools/testing/selftests/cgroup/test_memcontrol.c (6.12) by the names of its tests, and LTP's
memcontrol01 to 04, which hold the same against the same trees. What is asserted is what those
programs assert; sizes are theirs (MB is 1024 * 1024 there too).

No counterpart here, and why:

- test_memcg_subtree_control, LTP memcontrol01: which files a directory has, not what memory does;
- test_memcg_sock: socket buffers are not modelled;
- the parts of test_memcg_current_peak and test_memcg_swap_max_peak that reset memory.peak through
  an open file: a run's peaks are read off its series.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from capplan.sim.result import Run
from capplan.sim.run import run
from capplan.sim.scenario import (
    Cgroup,
    Change,
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

MB = 256  # pages
S = 1_000_000_000
FAST = 200_000.0  # pages per second: as fast as it can
KERNELS = [("6.1", False), ("6.12", False), ("6.12", True)]
IDS = ["6.1", "6.12", "6.12-mglru"]

pytestmark = [pytest.mark.parametrize(("release", "lru_gen"), KERNELS, ids=IDS)]


def values_close(a: float, b: float, err: float) -> bool:
    """As cgroup_util.h has it: within err percent of their sum."""
    return abs(a - b) <= (a + b) / 100 * err


class Case:
    """A node of 1 GiB, its groups, and what is to happen."""

    def __init__(self, release: str, lru_gen: bool, *groups: Cgroup, swap: int = 0) -> None:
        self.groups = groups
        self.processes: list[Process] = []
        self.mappings: list[Mapping] = []
        self.changes: list[Change] = []
        self.node = Node(
            zones=(Zone(0, "DMA32", 1024 * MB, 1024 * MB, 1024 * MB),),
            cpus=4,
            release=release,
            lru_gen=lru_gen,
            thp=False,
            disks=(Disk("vda", 100_000, 100_000, 2_000.0, 2_000.0, 50_000.0),),
            swaps=(Swap("vda", swap, -2),) if swap else (),
            kernel_pages=16 * MB,
        )

    def _add(
        self, name: str, group: str, at_s: float, region: Mapping, *ops: Op, adj: int = 0
    ) -> None:
        self.mappings.append(region)
        self.processes.append(
            Process(
                name,
                group,
                name,
                start_ns=round(at_s * S),
                mappings=(name,),
                tasks=(Task(ops),),
                oom_score_adj=adj,
            )
        )

    def anon(
        self, name: str, group: str, at_s: float, mib: int, *, stays: bool = False, **more: Any
    ) -> None:
        """alloc_anon(): touch all of it, then exit, or stay (alloc_anon_noexit())."""
        region = Mapping(name, "anon", mib * MB, locked=more.pop("locked", False))
        end = Op("hold", ns=1000 * S) if stays else Op("exit")
        self._add(name, group, at_s, region, Op("grow", name, mib * MB, FAST), end, **more)

    def pagecache(self, name: str, group: str, at_s: float, mib: int) -> None:
        """alloc_pagecache_50M_noexit(): read a file of that size and stay."""
        region = Mapping(name, "file", mib * MB, mib * MB, via="read", disk="vda")
        read = Op("read", name, mib * MB, FAST)
        self._add(name, group, at_s, region, read, Op("hold", ns=1000 * S))

    def write(self, at_s: float, group: str, key: str, mib: float) -> None:
        """Write to a group's file."""
        self.changes.append(Change(round(at_s * S), group, key, round(mib * MB)))

    def run(self, seconds: float, samples: int = 20) -> Run:
        """Play it, with so many samples a second."""
        scenario = Scenario(
            name="case",
            node=self.node,
            cgroup_version="v2",
            cgroups=self.groups,
            mappings=tuple(self.mappings),
            processes=tuple(self.processes),
            changes=tuple(self.changes),
            duration_ns=round(seconds * S),
            sample_ns=S // samples,
        )
        return run(scenario)


def at(found: Run, group: str, name: str, t: float) -> float:
    """A file of a group at a time: bytes as MB, counts as they are."""
    values = found.series[f"cgroup.{group}.{name}"]
    value = float(values[int(np.searchsorted(found.series["t"], t + 1e-6)) - 1])
    return value if ".events" in f".{name}" else value / (MB * 4096)


def peak(found: Run, group: str, name: str) -> float:
    """The largest value of a group's file. [MB]"""
    return float(np.nanmax(found.series[f"cgroup.{group}.{name}"])) / (MB * 4096)


def killed(found: Run) -> list[str]:
    return [event.name for event in found.events if event.event == "oom_kill"]


def code(found: Run, name: str) -> int | None:
    """Exit code of a process; None: it did not exit by itself."""
    for event in found.events:
        if event.event == "exit" and event.name == name and event.detail.get("how") == "code":
            return int(event.detail.get("value", 0))
    return None


# --- test_memcg_current_peak, LTP memcontrol02 --------------------------------------------------


def test_memcg_current_of_anon(release: str, lru_gen: bool) -> None:
    case = Case(release, lru_gen, Cgroup("m"))
    case.anon("p", "m", 0.0, 50, stays=True)
    found = case.run(1.0)
    current = at(found, "m", "memory.current", 1.0)
    assert current >= 50
    assert values_close(50, current, 3)
    assert values_close(at(found, "m", "stat.anon", 1.0), current, 3)


def test_memcg_current_of_pagecache(release: str, lru_gen: bool) -> None:
    case = Case(release, lru_gen, Cgroup("m"))
    case.pagecache("p", "m", 0.0, 50)
    found = case.run(1.0)
    current = at(found, "m", "memory.current", 1.0)
    assert current >= 50
    assert values_close(at(found, "m", "stat.file", 1.0), current, 10)


def test_memcg_is_empty_again_but_its_peak_stays(release: str, lru_gen: bool) -> None:
    case = Case(release, lru_gen, Cgroup("m"))
    case.anon("p", "m", 0.1, 50)
    found = case.run(2.0)
    assert at(found, "m", "memory.current", 0.0) == 0
    assert peak(found, "m", "memory.current|max") >= 50
    assert at(found, "m", "memory.current", 2.0) < 1


# --- test_memcg_min, test_memcg_low, LTP memcontrol03 and 04 --------------------------------------


def protection(release: str, lru_gen: bool, attribute: str, reclaim: float = 0.0) -> Run:
    """The tree of test_memcg_protection(): pressure at 2 s, more of it at 4 s, reclaim at 6 s."""
    field = f"memory_{attribute}"
    shares = {"A/B": 50, "A/B/C": 75, "A/B/D": 25, "A/B/E": 0, "A/B/F": 500}
    groups = [Cgroup("A", memory_max=200 * MB, swap_max=0), Cgroup("A/G")]
    groups += [replace(Cgroup(path), **{field: mib * MB}) for path, mib in shares.items()]
    case = Case(release, lru_gen, *groups)
    for leaf in "CDE":
        case.pagecache(f"cache{leaf}", f"A/B/{leaf}", 0.0, 50)
    case.anon("first", "A/G", 2.0, 148)
    case.anon("second", "A/G", 4.0, 170)
    if reclaim:
        case.write(6.0, "A/B/C", "memory.reclaim", reclaim)
    return case.run(7.0)


@pytest.mark.parametrize("attribute", ["min", "low"])
def test_memcg_protection(release: str, lru_gen: bool, attribute: str) -> None:
    found = protection(release, lru_gen, attribute)
    assert values_close(at(found, "A/B", "memory.current", 1.9), 150, 3)
    # 148M beside it: what was not protected went
    assert code(found, "first") == 0
    assert values_close(at(found, "A/B", "memory.current", 3.9), 50, 3)
    assert values_close(at(found, "A/B/C", "memory.current", 3.9), 29, 15)
    assert values_close(at(found, "A/B/D", "memory.current", 3.9), 21, 20)
    assert at(found, "A/B/F", "memory.current", 3.9) == 0
    # 170M: min holds and the task fails, low gives way
    hard = attribute == "min"
    assert (code(found, "second") is None) == hard
    assert values_close(at(found, "A/B", "memory.current", 5.9), 50 if hard else 30, 3)


@pytest.mark.parametrize("attribute", ["min", "low"])
def test_memcg_protection_does_not_stand_against_memory_reclaim(
    release: str, lru_gen: bool, attribute: str
) -> None:
    """reclaim_until(C, 10M): the target's own protection is ignored."""
    before = at(protection(release, lru_gen, attribute), "A/B/C", "memory.current", 5.9)
    found = protection(release, lru_gen, attribute, before - 10)
    now = at(found, "A/B/C", "memory.current", 7.0)
    assert now < 10 or values_close(now, 10, 3)
    assert not [event for event in found.events if event.event == "write_failed"]


def test_memcg_low_counts_what_it_gave(release: str, lru_gen: bool) -> None:
    found = protection(release, lru_gen, "low")
    for leaf in "CDEF":
        assert at(found, f"A/B/{leaf}", "events.oom", 7.0) == 0
    assert at(found, "A/B/C", "events.low", 7.0) > 0
    assert at(found, "A/B/D", "events.low", 7.0) > 0
    assert at(found, "A/B/F", "events.low", 7.0) == 0


# --- test_memcg_high, test_memcg_high_sync ------------------------------------------------------


def test_memcg_high(release: str, lru_gen: bool) -> None:
    case = Case(release, lru_gen, Cgroup("m", memory_high=30 * MB, swap_max=0))
    case.anon("over", "m", 0.0, 31)
    case.pagecache("cache", "m", 30.0, 50)
    found = case.run(32.0)
    assert code(found, "over") == 0
    assert values_close(at(found, "m", "memory.current", 32.0), 30, 5)
    assert at(found, "m", "events.high", 32.0) > 0


def test_memcg_high_sync(release: str, lru_gen: bool) -> None:
    """One big allocation is throttled at high: it does not come to max."""
    case = Case(release, lru_gen, Cgroup("m", memory_high=30 * MB, memory_max=140 * MB, swap_max=0))
    case.anon("big", "m", 0.0, 200, locked=True)
    found = case.run(5.0)
    assert at(found, "m", "events.high", 5.0) > 0
    assert at(found, "m", "events.max", 5.0) == 0


# --- test_memcg_max, test_memcg_oom_events ------------------------------------------------------


def test_memcg_max(release: str, lru_gen: bool) -> None:
    case = Case(release, lru_gen, Cgroup("m", memory_max=30 * MB, swap_max=0))
    case.anon("hog", "m", 0.0, 100)
    case.pagecache("cache", "m", 2.0, 50)
    found = case.run(4.0)
    assert killed(found) == ["hog"]
    current = at(found, "m", "memory.current", 4.0)
    assert values_close(current, 30, 5)
    assert 0 < current <= 30
    assert at(found, "m", "events.max", 4.0) > 0


def test_memcg_oom_events(release: str, lru_gen: bool) -> None:
    case = Case(release, lru_gen, Cgroup("m", memory_max=30 * MB, swap_max=0))
    case.anon("hog", "m", 0.0, 100)
    found = case.run(2.0)
    assert killed(found) == ["hog"]
    assert at(found, "m", "events.oom", 2.0) == 1
    assert at(found, "m", "events.oom_kill", 2.0) == 1


# --- test_memcg_reclaim -------------------------------------------------------------------------


@pytest.mark.parametrize("swap", [0, 200], ids=["file", "anon-and-file"])
def test_memcg_reclaim(release: str, lru_gen: bool, swap: int) -> None:
    case = Case(release, lru_gen, Cgroup("m"), swap=swap * MB)
    case.pagecache("cache", "m", 0.0, 50)
    if swap:
        case.anon("anon", "m", 0.0, 50, stays=True)
    expected = 100 if swap else 50
    case.write(2.0, "m", "memory.reclaim", expected - 30)
    found = case.run(5.0)
    assert values_close(at(found, "m", "memory.current", 1.9), expected, 10)
    now = at(found, "m", "memory.current", 5.0)
    assert now <= 30 or values_close(now, 30, 3)
    assert not [event for event in found.events if event.event == "write_failed"]


# --- test_memcg_swap_max_peak -------------------------------------------------------------------


def test_memcg_swap_max(release: str, lru_gen: bool) -> None:
    group = Cgroup("m", memory_max=30 * MB, swap_max=30 * MB)
    case = Case(release, lru_gen, group, swap=500 * MB)
    case.anon("hog", "m", 0.0, 100)
    case.anon("fits", "m", 5.0, 50, stays=True)
    found = case.run(10.0, samples=500)
    assert killed(found) == ["hog"]
    assert at(found, "m", "events.oom", 4.9) == 1
    assert at(found, "m", "events.oom_kill", 4.9) == 1
    assert peak(found, "m", "memory.current|max") >= 29
    assert peak(found, "m", "memory.swap.current") >= 29
    memory, swap = (at(found, "m", f"memory.{n}current", 10.0) for n in ("", "swap."))
    assert values_close(memory, 30, 3)
    assert values_close(memory + swap, 50, 3)
    assert at(found, "m", "events.max", 10.0) > 0


# --- test_memcg_oom_group_{leaf,parent,score}_events ----------------------------------------------


def test_memcg_oom_group_leaf_events(release: str, lru_gen: bool) -> None:
    child = Cgroup("p/c", memory_max=50 * MB, swap_max=0, oom_group=True)
    case = Case(release, lru_gen, Cgroup("p"), child)
    case.anon("outside", "p", 0.0, 60, stays=True)
    case.anon("small", "p/c", 0.0, 1, stays=True)
    case.anon("other", "p/c", 0.0, 1, stays=True)
    case.anon("hog", "p/c", 1.0, 100)
    found = case.run(3.0)
    assert sorted(killed(found)) == ["hog", "other", "small"]
    assert at(found, "p/c", "events.oom_kill", 3.0) > 0
    assert at(found, "p", "events.oom_kill", 3.0) > 0  # without memory_localevents


def test_memcg_oom_group_parent_events(release: str, lru_gen: bool) -> None:
    parent = Cgroup("p", memory_max=80 * MB, swap_max=0, oom_group=True)
    case = Case(release, lru_gen, parent, Cgroup("p/c"))
    case.anon("inside", "p", 0.0, 60, stays=True)
    case.anon("small", "p/c", 0.0, 1, stays=True)
    case.anon("other", "p/c", 0.0, 1, stays=True)
    case.anon("hog", "p/c", 1.0, 100)
    found = case.run(3.0)
    assert sorted(killed(found)) == ["hog", "inside", "other", "small"]


def test_memcg_oom_group_score_events(release: str, lru_gen: bool) -> None:
    """All but the one with OOM_SCORE_ADJ_MIN are killed.

    The kernel's program counts 3 oom_kill events, as memory.events shows them.
    """
    case = Case(release, lru_gen, Cgroup("m", memory_max=50 * MB, swap_max=0, oom_group=True))
    case.anon("safe", "m", 0.0, 1, adj=-1000, stays=True)
    case.anon("other", "m", 0.0, 1, stays=True)
    case.anon("hog", "m", 1.0, 100)
    found = case.run(3.0)
    assert sorted(killed(found)) == ["hog", "other"]
    assert at(found, "m", "events.oom_kill", 3.0) == 2
    assert next(total for total in found.totals if total.process == "safe").state == "live"
