"""Two NUMA nodes from end to end: local memory first, a kswapd each, groups bound to one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from capplan.mm import state
from capplan.mm.cpuset import all_nodes, constrained_nodes, numa_node_id, preferred_node
from capplan.sim.result import Run
from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Disk, Mapping, Op, Process, Task, Zone
from tests.sim.engine_cases import S, events, last, node, process, scenario

MIB = 256  # pages
DISK = Disk("vda", 100_000, 100_000, 20_000.0, 20_000.0, 200_000.0)


def two_nodes(**more: Any) -> Any:
    """Two nodes of 64 MiB, a CPU each; 8 MiB of node 0 is the kernel's."""
    zones = (Zone(0, "DMA32", 64 * MIB, 64 * MIB, 64 * MIB),
             Zone(1, "Normal", 64 * MIB, 64 * MIB, 64 * MIB))  # fmt: skip
    return node(zones=zones, kernel_pages=8 * MIB, disks=(DISK,), **more)


def play(*parts: tuple[Process, Mapping], groups: tuple[Cgroup, ...], **more: Any) -> Run:
    return run(scenario(list(parts), groups, **({"node": two_nodes()} | more)))


def taken(found: Run, zone: str) -> float:
    kernel = 8 * MIB if zone.startswith("N0") else 0
    return 64 * MIB - kernel - last(found, f"zone.{zone}.free")


@pytest.mark.small
def test_numa_node_id_is_that_of_the_cpu() -> None:
    k = state.new_kernel()[0]
    k.nr_nodes, k.nr_cpus = 2, 8
    for cpu, expected in ((0, 0), (3, 0), (4, 1), (7, 1)):
        k.cpu = cpu
        assert numa_node_id(k) == expected


@pytest.mark.small
def test_preferred_node_is_one_that_may_be_used() -> None:
    k = state.new_kernel()[0]
    k.nr_nodes, k.nr_cpus, k.cpu = 2, 2, 0
    k.zone[1].present = k.zone[6].present = 100
    assert (preferred_node(k), all_nodes(k)) == (0, 0b11)
    k.mems_allowed = 0b10
    assert preferred_node(k) == 1
    k.memcg[1].mems_allowed = 0b10
    assert constrained_nodes(k, 1) == 0b10
    assert constrained_nodes(k, 2) == 0  # it may use all


def test_memory_is_local_first_and_then_from_the_other_node() -> None:
    small, large = process("p", "a", 20 * MIB, rate=0), process("p", "a", 90 * MIB, rate=0)
    for part, spills in ((small, False), (large, True)):
        found = play(part, groups=(Cgroup("a"),))
        near, far = sorted((taken(found, "N0.DMA32"), taken(found, "N1.Normal")), reverse=True)
        assert near + far >= (20 if part is small else 90) * MIB
        assert (far > 5 * MIB) == spills
        assert not events(found, "oom_kill")


def test_two_tasks_take_from_the_nodes_of_their_cpus() -> None:
    parts = [process(name, "a", 20 * MIB, rate=20_000.0) for name in ("p", "q")]
    found = play(*parts, groups=(Cgroup("a"),))
    for zone in ("N0.DMA32", "N1.Normal"):
        assert taken(found, zone) == pytest.approx(20 * MIB, rel=0.15)


@pytest.mark.parametrize("bound", [0, 1])
def test_each_node_has_a_kswapd_of_its_own(bound: int) -> None:
    """A reader bound to one node fills that with cache; the other node's kswapd sleeps."""
    log = Mapping("log", "file", 200 * MIB, size_pages=200 * MIB, via="read", disk="vda")
    reader = Process("r", "a", "r", mappings=("log",),
                     tasks=(Task((Op("read", "log", pages=200 * MIB),)),))  # fmt: skip
    found = play(groups=(Cgroup("a", mems=(bound,)),), files=(log,), processes=(reader,),
                 duration_ns=4 * S)  # fmt: skip
    own, other = ("N0.DMA32", "N1.Normal") if bound == 0 else ("N1.Normal", "N0.DMA32")
    assert np.min(found.series[f"zone.{own}.free"]) < found.wmarks[own][2]
    assert np.min(found.series[f"zone.{other}.free"]) > 50 * MIB
    assert last(found, "vmstat.pgsteal_kswapd") > 50 * MIB
    assert {event.detail["node"] for event in events(found, "kswapd_wake")} == {bound}
    assert not events(found, "oom_kill")


def test_full_node_kills_only_who_may_use_it() -> None:
    huge = process("huge", "free", 40 * MIB, rate=0)
    hog = process("hog", "bound", 100 * MIB, rate=20_000.0, start_ns=S // 2)
    groups = (Cgroup("free", mems=(0,)), Cgroup("bound", mems=(1,)))
    found = play(huge, hog, groups=groups, duration_ns=4 * S)
    (kill,) = events(found, "oom_kill")
    assert kill.name == "hog"
    assert kill.detail["constraint"] == "CONSTRAINT_CPUSET"
    assert kill.detail["nodes"] == [1]
    assert kill.detail["totalpages"] == 64 * MIB
    assert np.min(found.series["zone.N0.DMA32.free"]) > 10 * MIB


def test_full_node_may_kill_one_that_lives_on_both() -> None:
    huge = process("huge", "free", 90 * MIB, rate=0)
    hog = process("hog", "bound", 50 * MIB, rate=20_000.0, start_ns=S // 2)
    found = play(huge, hog, groups=(Cgroup("free"), Cgroup("bound", mems=(1,))),
                 duration_ns=4 * S)  # fmt: skip
    assert [event.name for event in events(found, "oom_kill")] == ["huge"]
    assert not events(found, "panic")


def test_unbound_hog_spills_and_then_it_is_the_whole_machines_oom() -> None:
    found = play(process("hog", "a", 200 * MIB, rate=40_000.0), groups=(Cgroup("a"),),
                 duration_ns=4 * S)  # fmt: skip
    (kill,) = events(found, "oom_kill")
    assert kill.detail["constraint"] == "CONSTRAINT_NONE"
    assert "nodes" not in kill.detail
    assert kill.detail["totalpages"] == 128 * MIB


def test_panic_on_oom_1_spares_what_a_cpuset_ran_out_of() -> None:
    hog = process("hog", "a", 100 * MIB, rate=20_000.0)
    found = play(hog, groups=(Cgroup("a", mems=(1,)),), duration_ns=4 * S,
                 node=two_nodes(sysctl={"vm.panic_on_oom": 1}))  # fmt: skip
    assert [event.event for event in events(found, "oom_kill", "panic")] == ["oom_kill"]


def test_group_below_a_bound_one_is_bound_as_well() -> None:
    hog = process("hog", "a/b", 100 * MIB, rate=20_000.0)
    found = play(hog, groups=(Cgroup("a", mems=(1,)), Cgroup("a/b")), duration_ns=4 * S)
    assert events(found, "oom_kill")[0].detail["nodes"] == [1]
    assert np.min(found.series["zone.N0.DMA32.free"]) > 50 * MIB
