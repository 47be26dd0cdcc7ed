"""NUMA memory policies: whose turn it is, where memory comes from, and who dies for it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capplan.mm import cpuset, mempolicy, oom
from capplan.mm.state import (
    MPOL_BIND,
    MPOL_DEFAULT,
    MPOL_INTERLEAVE,
    MPOL_PREFERRED,
    MPOL_PREFERRED_MANY,
    MPOL_WEIGHTED_INTERLEAVE,
    PROC_LIVE,
    new_kernel,
)
from capplan.sim.run import run
from capplan.sim.scenario import (
    Access,
    Cgroup,
    Disk,
    Mapping,
    Mempolicy,
    Node,
    Op,
    Process,
    Scenario,
    Swap,
    Task,
    Zone,
)
from tests.sim.engine_cases import S, events, last

MIB = 256
ALL = Mempolicy("interleave")


def kernel(mode: int = MPOL_DEFAULT, nodes: int = -1, nr_nodes: int = 2, weights: Any = 1) -> Any:
    """One CPU on node 0; task 0 of process 0 has the policy."""
    k = new_kernel()[0]
    k.nr_nodes, k.nr_cpus, k.mempolicies = nr_nodes, 1, 1
    k.nr_procs = k.nr_tasks = 1
    for n in range(nr_nodes):
        k.zone[4 * n + 1].present = 1000 * (n + 1)
    k.node["il_weight"][:nr_nodes] = weights
    k.proc[0].mpol_mode, k.proc[0].mpol_nodes = mode, nodes
    k.actor = 0
    mempolicy.get_task_policy(k, 0)
    return k


@pytest.mark.small
@pytest.mark.parametrize(
    ("nodes", "weights", "expected"),
    [
        (0b11, 1, [0, 1, 0, 1, 0, 1]),
        (0b101, 1, [0, 2, 0, 2, 0, 2]),
        (0b110, 1, [1, 2, 1, 2, 1, 2]),
        (0b11, (3, 1, 1), [0, 0, 0, 1, 0, 0]),
        (0b111, (2, 1, 3), [0, 0, 1, 2, 2, 2]),
    ],
)
def test_turns_by_count_and_by_address_worked_numbers(
    nodes: int, weights: Any, expected: list[int]
) -> None:
    mode = MPOL_INTERLEAVE if weights == 1 else MPOL_WEIGHTED_INTERLEAVE
    k = kernel(mode, nodes, nr_nodes=3, weights=weights)
    assert [mempolicy.interleave_nid(k, ilx) for ilx in range(6)] == expected
    assert [mempolicy.interleave_nodes(k) for _ in range(6)] == expected


@pytest.mark.small
def test_plain_interleave_ignores_weights() -> None:
    k = kernel(MPOL_INTERLEAVE, 0b11, weights=(3, 1))
    assert [mempolicy.interleave_nid(k, ilx) for ilx in range(4)] == [0, 1, 0, 1]


@pytest.mark.small
@pytest.mark.parametrize(
    ("mode", "nodes", "user", "kernels"),
    [
        (MPOL_DEFAULT, -1, 0, 0),
        (MPOL_BIND, 0b10, 1, 1),
        (MPOL_BIND, 0b11, 0, 0),
        (MPOL_PREFERRED, 0b10, 1, 1),
        (MPOL_PREFERRED_MANY, 0b10, 0, 1),  # of user memory the first pass is masked
    ],
)
def test_node_that_is_asked_first(mode: int, nodes: int, user: int, kernels: int) -> None:
    k = kernel(mode, nodes)
    assert mempolicy.alloc_node(k, 0, 0, 0) == user
    assert mempolicy.kernel_node(k) == kernels


@pytest.mark.small
def test_bind_narrows_what_the_actor_may_use_and_kswapd_has_no_policy() -> None:
    k = kernel(MPOL_BIND, 0b10)
    assert (cpuset.node_allowed(k, 0), cpuset.node_allowed(k, 1)) == (False, True)
    assert k.nodemask == 0b10
    k.mems_allowed = -1
    mempolicy.get_task_policy(k, -2)
    assert (k.mpol_mode, k.nodemask, k.mems_allowed) == (MPOL_DEFAULT, -1, -1)


@pytest.mark.small
@pytest.mark.parametrize(
    ("mode", "nodes", "stays"),
    [
        (MPOL_DEFAULT, -1, True), (MPOL_BIND, 0b01, True), (MPOL_BIND, 0b10, False),
        (MPOL_PREFERRED, 0b10, True), (MPOL_INTERLEAVE, 0b11, False),
        (MPOL_PREFERRED_MANY, 0b11, False),
    ],
)  # fmt: skip
def test_huge_page_is_sought_on_its_node_alone(mode: int, nodes: int, stays: bool) -> None:
    assert mempolicy.stays_on_node(kernel(mode, nodes)) == stays


@pytest.mark.small
def test_oom_nodemask_is_of_bind_that_leaves_memory_out() -> None:
    assert mempolicy.oom_nodemask(kernel(MPOL_BIND, 0b10), 0) == 0b10
    assert mempolicy.oom_nodemask(kernel(MPOL_BIND, 0b11), 0) == 0
    assert mempolicy.oom_nodemask(kernel(MPOL_INTERLEAVE, 0b10), 0) == 0


@pytest.mark.small
def test_policy_bound_oom_spares_who_is_bound_elsewhere_only() -> None:
    k = kernel()
    k.nr_procs, k.totalram = 3, 3000
    for p, (rss, mode, nodes) in enumerate(
        [(900, MPOL_BIND, 0b01), (500, MPOL_INTERLEAVE, 0b01), (100, MPOL_BIND, 0b11)]
    ):
        proc = k.proc[p]
        proc.state, proc.pid, proc.rss_anon = PROC_LIVE, 100 + p, rss
        proc.mpol_mode, proc.mpol_nodes = mode, nodes
    assert oom.select_bad_process(k, -1) == 0
    k.oom_nodes, k.oom_mpol = 0b10, 1
    assert oom.select_bad_process(k, -1) == 1  # has nothing on node 1, and could
    assert oom.constrained_totalpages(k, -1) == 2000
    k.proc[1].oom_score_adj = -1000
    assert oom.select_bad_process(k, -1) == 2


def two_nodes(
    policy: Mempolicy | None,
    pages: int,
    kind: str = "anon",
    *others: tuple[Process, Mapping],
    node_pages: int = 16 * MIB,
    nodes: int = 2,
    **more: Any,
) -> Scenario:
    """A process with a policy whose heap, file or tmpfs grows; its CPU is of node 0."""
    zones = tuple(
        Zone(n, "Normal", node_pages, node_pages, node_pages, free=node_pages - 256)
        for n in range(nodes)
    )
    machine: dict[str, Any] = {
        "sysctl": {"vm.min_free_kbytes": 512, "vm.watermark_boost_factor": 0},
        "disks": (Disk("d", 50_000, 50_000, 2000.0, 2000.0, 60_000.0),),
        "thp": False,
    }
    machine |= {name: more.pop(name) for name in ("swaps", "interleave_weights") if name in more}
    op = {"anon": "grow", "shmem": "write", "file": "read"}[kind]
    held = Mapping(
        "heap", kind, pages, size_pages=pages if kind == "file" else 0, disk="d",
        via="mmap" if kind == "anon" else "read",
    )  # fmt: skip
    one = Process(
        "p", "a", "p", mappings=("heap",), mempolicy=policy,
        tasks=(Task((Op(op, "heap", pages=pages, rate=200_000.0),)),),
    )  # fmt: skip
    settings: dict[str, Any] = {
        "name": "policy",
        "node": Node(zones=zones, cpus=1, release="6.12", **machine),
        "cgroup_version": "v2",
        "cgroups": (Cgroup("a"), Cgroup("b")),
        "mappings": (held, *(mapping for _, mapping in others)),
        "processes": (one, *(process for process, _ in others)),
        "duration_ns": S,
        "sample_ns": S // 10,
        "granule_order": 0,
    }
    return Scenario(**(settings | more))


def pages_by_node(scenario: Scenario, mapping: str = "heap") -> list[int]:
    """Where a mapping's pages lie when the run ends."""
    found = [0] * len(scenario.node.zones)

    def count(machine: Any) -> None:
        m = [one.name for one in machine.scenario.mappings].index(mapping)
        m += int(machine.kernel[0].nr_mappings) - len(machine.scenario.mappings)
        frames = machine.frames[machine.frames["mapping"] == m]
        for n in range(len(found)):
            found[n] = int(frames["nr_pages"][frames["zone"] >> 2 == n].sum())

    run(scenario, check=count)
    return found


@pytest.mark.small
@pytest.mark.parametrize("kind", ["anon", "file", "shmem"])
@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (None, [600, 0]),
        (Mempolicy("bind", (1,)), [0, 600]),
        (Mempolicy("preferred", (1,)), [0, 600]),
        (Mempolicy("preferred-many", (1,)), [0, 600]),
        (ALL, [300, 300]),
        (Mempolicy("interleave", (1,)), [0, 600]),
        (Mempolicy("weighted-interleave"), [400, 200]),
    ],
)
def test_where_memory_of_a_task_lies(
    kind: str, policy: Mempolicy | None, expected: list[int]
) -> None:
    there = pages_by_node(two_nodes(policy, 600, kind, interleave_weights=(2, 1)))
    # nodes of the file's xarray take turns as well: 12 pages of slab at most
    assert there == (pytest.approx(expected, abs=4) if kind == "file" else expected)


@pytest.mark.small
def test_page_tables_are_bound_too() -> None:
    found = run(two_nodes(Mempolicy("bind", (1,)), 2048))
    free = found.series["zone.N0.Normal.free"]
    assert free[0] == free[-1]
    assert last(found, "process.p.rss_pages") == 2048


def test_bound_to_a_full_node_is_killed_with_the_other_half_empty() -> None:
    found = run(two_nodes(Mempolicy("bind", (1,)), 20 * MIB))
    (kill,) = events(found, "oom_kill")
    assert kill.detail["constraint"] == "CONSTRAINT_MEMORY_POLICY"
    assert kill.detail["nodes"] == [1]
    assert kill.detail["totalpages"] == 16 * MIB  # of node 1, not of the machine
    assert kill.detail["trigger"] == "p"
    assert last(found, "zone.N0.Normal.free") > 14 * MIB
    assert not [event for event in events(found, "kswapd_wake") if event.detail["node"] == 0]


def test_bound_task_reclaims_its_node_alone() -> None:
    swap = (Swap("d", 10 * MIB, -2),)
    found = run(two_nodes(Mempolicy("bind", (1,)), 20 * MIB, swaps=swap, duration_ns=3 * S))
    assert not events(found, "oom_kill")
    assert last(found, "vmstat.pswpout") > 4 * MIB
    assert last(found, "zone.N0.Normal.free") > 14 * MIB


@pytest.mark.parametrize("mode", ["preferred", "preferred-many"])
def test_preferred_goes_on_elsewhere_when_its_node_is_full(mode: str) -> None:
    scenario = two_nodes(Mempolicy(mode, (1,)), 20 * MIB)
    zero, one = pages_by_node(scenario)
    assert one > 14 * MIB
    assert zero == 20 * MIB - one
    assert not events(run(scenario), "oom_kill")


def test_preferred_many_goes_down_to_min_and_wakes_its_kswapd_before_it_goes_elsewhere() -> None:
    preferred = pages_by_node(two_nodes(Mempolicy("preferred", (1,)), 20 * MIB))
    many = pages_by_node(two_nodes(Mempolicy("preferred-many", (1,)), 20 * MIB))
    assert many[1] > preferred[1]
    woken = events(run(two_nodes(Mempolicy("preferred-many", (1,)), 20 * MIB)), "kswapd_wake")
    assert {event.detail["node"] for event in woken} == {1}


def test_interleave_fills_both_nodes_before_anybody_reclaims() -> None:
    found = run(two_nodes(ALL, 26 * MIB))
    assert not events(found, "kswapd_wake", "oom_kill")
    free = [last(found, f"zone.N{n}.Normal.free") for n in (0, 1)]
    assert abs(free[0] - free[1]) < MIB


def test_interleave_over_full_nodes_is_no_constraint() -> None:
    (kill,) = events(run(two_nodes(ALL, 40 * MIB)), "oom_kill")
    assert kill.detail["constraint"] == "CONSTRAINT_NONE"


def test_forked_child_copies_by_its_own_policy() -> None:
    parent = Process(
        "q", "b", "q", mappings=("shared",),
        tasks=(Task((Op("grow", "shared", pages=400, rate=200_000.0), Op("hold", ns=9 * S))),),
    )  # fmt: skip
    child = Process(
        "r", "b", "r", mappings=("shared", "copies"), parent="q", start_ns=S // 2,
        mempolicy=Mempolicy("bind", (1,)),
        tasks=(Task((Op("store", "shared", pages=400, rate=100_000.0), Op("hold", ns=9 * S))),),
    )  # fmt: skip
    base = two_nodes(None, 10, "anon", (parent, Mapping("shared", "anon", 400)))
    copies = Mapping("copies", "anon", 400, cow_of="shared")
    scenario = dataclasses.replace(
        base, mappings=(*base.mappings, copies), processes=(*base.processes, child)
    )
    assert pages_by_node(scenario, "shared")[1] == 0
    zero, one = pages_by_node(scenario, "copies")
    assert zero == 0
    assert one > 300


def test_swapped_in_pages_go_where_the_address_says() -> None:
    heap = Mapping("heap", "anon", 24 * MIB)
    scenario = two_nodes(
        ALL, 24 * MIB, swaps=(Swap("d", 20 * MIB, -2),), duration_ns=3 * S,
        cgroups=(Cgroup("a", memory_max=6 * MIB), Cgroup("b")), mappings=(heap,),
    )  # fmt: skip
    task = Task(
        (Op("grow", "heap", pages=9 * MIB, rate=40_000.0), Op("hold", ns=9 * S)),
        access_mapping="heap", access=Access("uniform", 5000.0),
    )  # fmt: skip
    one = dataclasses.replace(scenario.processes[0], tasks=(task,))
    zero, first = pages_by_node(dataclasses.replace(scenario, processes=(one,)))
    assert zero + first > 5 * MIB
    assert abs(zero - first) < MIB // 2


@pytest.mark.parametrize("order", [0, 5])
@settings(max_examples=12)
@given(
    st.lists(st.integers(1, 900), min_size=1, max_size=4),
    st.sampled_from(["anon", "shmem"]),
    st.integers(2, 3),
)
def test_interleaved_nodes_differ_by_a_granule_for_each_region(
    order: int, sizes: list[int], kind: str, nodes: int
) -> None:
    op = "grow" if kind == "anon" else "write"
    others = [
        (
            Process(
                f"q{i}", "b", f"q{i}", mappings=(f"heap{i}",), mempolicy=ALL,
                tasks=(Task((Op(op, f"heap{i}", pages=pages, rate=200_000.0),)),),
            ),
            Mapping(f"heap{i}", kind, pages),
        )
        for i, pages in enumerate(sizes)
    ]  # fmt: skip
    scenario = two_nodes(
        ALL, 500, "anon", *others, nodes=nodes, granule_order=order, duration_ns=S // 10
    )
    found = np.zeros(nodes, np.int64)
    for i, pages in enumerate(sizes):
        there = pages_by_node(scenario, f"heap{i}")
        assert sum(there) == pages
        assert max(there) - min(there) <= 1 << order
        found += there
    assert found.max() - found.min() <= len(sizes) << order


@settings(max_examples=12)
@given(
    st.integers(100, 6000),
    st.sampled_from(["anon", "file", "shmem"]),
    st.sampled_from([(0,), (1,), (2,), (0, 2), (1, 2)]),
    st.sampled_from([0, 4]),
)
def test_bound_memory_is_never_elsewhere(
    pages: int, kind: str, nodes: tuple[int, ...], order: int
) -> None:
    scenario = two_nodes(
        Mempolicy("bind", nodes), pages, kind, nodes=3, granule_order=order, duration_ns=S // 4
    )
    there = pages_by_node(scenario)
    assert sum(there[n] for n in range(3) if n not in nodes) == 0
