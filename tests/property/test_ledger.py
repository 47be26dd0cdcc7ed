"""Runs with a little of everything: at each sample every counter is what it counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capplan.sim.build import build
from capplan.sim.run import run
from capplan.sim.scenario import (
    Access,
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
    Zswap,
)
from tests.property import invariants, ledger

MS = 1_000_000
PATHS = ("a", "a/b", "c", "d", "d")
# M3 has its slack; M4 does not hold while limits are written.
NOT_HERE = (
    invariants.m3_usage_is_within_the_limit,
    invariants.m4_protection_fits_into_the_parents,
)
rates = st.sampled_from((0.0, 4000.0, 20_000.0))


@st.composite
def ops(draw: st.DrawFn, name: str, pages: int) -> tuple[Op, ...]:
    """Ops of one task, in any order."""
    heap, log, out = f"{name}-heap", f"{name}-log", f"{name}-out"
    rate = draw(rates)
    many = draw(st.integers(1, pages))
    file = draw(st.sampled_from((log, "shared")))
    ns = draw(st.integers(0, 100)) * MS
    touched = draw(st.sampled_from((heap, log, "shm", "shared")))
    pattern = draw(st.sampled_from(("cyclic", "uniform", "zipf")))
    menu = (
        Op("grow", heap, pages=many, rate=rate),
        Op("read", file, pages=290, rate=rate),
        Op("read_rand", log, pages=390, rate=rate, ns=ns),
        Op("read_loop", file, pages=290, rate=rate, ns=ns),
        Op("write", draw(st.sampled_from((out, "shm"))), pages=min(many, 300), rate=rate),
        Op("free", draw(st.sampled_from((heap, "shm", out))), pages=min(many, 200)),
        Op("target", heap, pages=many - 1, at_ns=5 * ns),
        Op("hold", ns=ns),
        Op("touch", touched, rate=5000.0, ns=ns, pattern=pattern),
        Op("mlock", heap, pages=min(many, 50)),
        Op("punch", heap, pages=many),
        Op("exit"),
    )
    return tuple(draw(st.lists(st.sampled_from(menu), min_size=1, max_size=6)))


@st.composite
def processes(draw: st.DrawFn, name: str, cgroup: str) -> tuple[Process, tuple[Mapping, ...]]:
    """One process with a heap, a log and an output file of its own, and what is shared."""
    pages = draw(st.integers(16, 1000))
    via = draw(st.sampled_from(("read", "mmap")))
    mappings = (
        Mapping(
            f"{name}-heap", "anon", pages, resident_pages=draw(st.sampled_from((0, pages // 3))),
            length_mean=draw(st.sampled_from((800.0, 3000.0))), length_sd=300.0,
            same_filled=draw(st.sampled_from((0.0, 0.2))),
            incompressible=draw(st.sampled_from((0.0, 0.1, 1.0))), locked=draw(st.just(False)),
        ),
        Mapping(f"{name}-log", "file", 400, size_pages=397, via=via, disk="vda"),
        Mapping(f"{name}-out", "file", 500, via="read", disk="vda"),
    )  # fmt: skip
    tasks = tuple(
        Task(
            draw(ops(name, pages)),
            draw(st.sampled_from((f"{name}-heap", f"{name}-log", "shm", "shared"))),
            Access(draw(st.sampled_from(("idle", "cyclic", "uniform", "zipf"))), 4000.0),
            clock=draw(st.sampled_from(("progress", "schedule"))),
        )
        for _ in range(draw(st.integers(1, 2)))
    )
    process = Process(
        name,
        cgroup,
        name,
        start_ns=draw(st.integers(0, 200)) * MS,
        oom_score_adj=draw(st.sampled_from((-1000, -997, 0, 500, 1000))),
        mappings=(*(mapping.name for mapping in mappings), "shared", "shm"),
        tasks=tasks,
        kernel_pages=draw(st.sampled_from((0, 7))),
    )
    return process, mappings


def cgroups(draw: st.DrawFn, v1: bool) -> tuple[Cgroup, ...]:
    limits = st.sampled_from((-1, 256, 500, 900))
    found = []
    for path in dict.fromkeys(PATHS):
        more: dict[str, Any] = {
            "oom_kill_disable": draw(st.booleans()),
            "memsw_max": draw(st.sampled_from((-1, 1200))),
            "swappiness": draw(st.sampled_from((None, 0, 100))),
        }
        if not v1:
            more = {
                "memory_high": draw(limits),
                "memory_min": draw(st.sampled_from((0, 200))),
                "memory_low": draw(st.sampled_from((0, 300))),
                "oom_group": draw(st.booleans()),
                "swap_max": draw(st.sampled_from((-1, 0, 100))),
                "zswap_max": draw(st.sampled_from((-1, 20))),
                "zswap_writeback": draw(st.booleans()),
            }
        found.append(Cgroup(path, memory_max=draw(limits), **more))
    return tuple(found)


def nodes(draw: st.DrawFn) -> Node:
    """A node of 16 or 32 MiB; what the kernel holds leaves little or much of it."""
    size = draw(st.sampled_from((4096, 8192)))
    slots = draw(st.sampled_from((0, 512, 4096)))
    zram = draw(st.booleans())
    limit = draw(st.sampled_from((0, 100)))
    swap = Swap("vda", slots, -2, zram=zram, zram_limit_pages=limit if zram else 0)
    pool = draw(st.sampled_from(("zbud", "z3fold", "zsmalloc")))
    percent = draw(st.sampled_from((1, 5, 20)))
    return Node(
        zones=(Zone(0, "DMA", 200, 200, 200), Zone(0, "DMA32", size, size, size)),
        cpus=draw(st.integers(1, 3)),
        release=draw(st.sampled_from(("6.1", "6.12"))),
        lru_gen=draw(st.booleans()),
        disks=(Disk("vda", 100_000, 100_000, 20_000.0, 20_000.0, 200_000.0),),
        swaps=(swap,) if slots else (),
        zswap=Zswap(draw(st.booleans()), max_pool_percent=percent, zpool=pool) if slots else None,
        kernel_pages=draw(st.sampled_from((512, 2000))),
        slab_reclaimable_pages=draw(st.sampled_from((0, 300))),
        daemon_anon_pages=150,
        daemon_file_pages=draw(st.sampled_from((0, 150))),
        daemon_locked_pages=draw(st.sampled_from((0, 20))),
    )


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Five processes in four groups that share a file and a shmem object; one forks."""
    v1 = draw(st.booleans())
    made = [draw(processes(f"p{i}", path)) for i, path in enumerate(PATHS)]
    via = draw(st.sampled_from(("read", "mmap")))
    shared = (
        Mapping("shared", "file", 300, size_pages=300, resident_pages=100, via=via, disk="vda"),
        Mapping("shm", "shmem", 600, resident_pages=77, length_mean=2000.0),
        Mapping("kid-heap", "anon", 1, cow_of="p0-heap"),
        Mapping("son-heap", "anon", 1, cow_of="p0-heap"),
    )
    writes = draw(st.sampled_from((500.0, 5000.0)))
    span = draw(st.sampled_from((100, 400))) * MS
    written = Op("store", "p0-heap", rate=writes, pattern="uniform")
    kid = Process(
        "kid", "a", "kid", start_ns=150 * MS, mappings=("p0-heap", "kid-heap"), parent="p0",
        tasks=(Task((replace(written, ns=span),), exit_at_end=True),),
    )  # fmt: skip
    son = Process(
        "son", "c", "son", mappings=("p0-heap", "son-heap"), parent="p0", by_fork=True,
        tasks=(Task((replace(written, rate=1000.0),)),
               Task((Op("hold", ns=span),), exit_at_end=True)),
    )  # fmt: skip
    first = made[0][0]
    writer = (Op("hold", ns=60 * MS), Op("fork", proc="son"),
              replace(written, ns=span), Op("fork", proc="son"))  # fmt: skip
    made[0] = (replace(first, tasks=(*first.tasks, Task(writer))), made[0][1])
    key = "memory.limit_in_bytes" if v1 else "memory.max"
    change = Change(draw(st.integers(100, 400)) * MS, "a", key, draw(st.sampled_from((100, 700))))
    changes = (
        change,
        Change(draw(st.integers(50, 300)) * MS, "", "vm.nr_hugepages", draw(st.integers(0, 4))),
        Change(draw(st.integers(300, 500)) * MS, "", "vm.nr_hugepages", draw(st.integers(0, 4))),
        Change(draw(st.integers(50, 400)) * MS, "", "vm.compaction_proactiveness", 100),
    )
    return Scenario(
        name="drawn",
        node=nodes(draw),
        cgroup_version="v1" if v1 else "v2",
        cgroups=cgroups(draw, v1),
        mappings=(*shared, *(mapping for _, own in made for mapping in own)),
        processes=(*(process for process, _ in made), kid, son),
        changes=tuple(one for one in changes if draw(st.booleans())),
        duration_ns=600 * MS,
        sample_ns=50 * MS,
        seed=draw(st.integers(1, 5)),
        granule_order=draw(st.sampled_from((0, 2, 4))),
    )


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(scenario=scenarios())
def test_runs_keep_their_books(scenario: Scenario) -> None:
    boot = ledger.free_at_boot(build(scenario))

    def check(machine: Any) -> None:
        assert ledger.errors(machine, boot) == []
        assert invariants.violations(machine.kernel[0], but=NOT_HERE) == []

    run(scenario, check=check)


def grown() -> tuple[Any, dict[int, int]]:
    """A machine at the end of a short run in order, and its free pages at boot."""
    log = Mapping("log", "file", 50, size_pages=50, via="read", disk="vda")
    task = Task((Op("grow", "heap", pages=200, rate=0.0), Op("read", "log", pages=50)))
    scenario = Scenario(
        name="grown",
        node=Node(
            zones=(Zone(0, "DMA32", 4096, 4096, 4096),), cpus=1, release="6.1", lru_gen=False,
            disks=(Disk("vda", 100_000, 100_000, 20_000.0, 20_000.0, 200_000.0),),
            swaps=(Swap("vda", 512, -2),),
        ),
        cgroup_version="v2",
        cgroups=(Cgroup("a", memory_max=120),),
        mappings=(Mapping("heap", "anon", 200), log),
        processes=(Process("p", "a", "p", mappings=("heap", "log"), tasks=(task,)),),
        duration_ns=60 * MS,
        sample_ns=60 * MS,
        granule_order=0,
    )  # fmt: skip
    machines: list[Any] = []
    run(scenario, check=machines.append)
    return machines[-1], ledger.free_at_boot(build(scenario))


@pytest.mark.small
def test_errors_each_broken_counter_is_told() -> None:
    machine, boot = grown()
    k = machine.kernel[0]
    assert ledger.errors(machine, boot) == []
    assert int(k["swap"]["free"][0]) < 512
    for place, field, told in (
        (k["zone"][1:2], "free", "Z1: zone 1 free"),
        (k["zone"][1:2], "bag_used", "Z2: single pages"),
        (k["memcg"]["memory"][1:2], "usage", "M2: usage of"),
        (k["memcg"][1:2], "stock", "M2: usage of"),
        (machine.kernel, "nr_file", "nr_file"),
        (k["swap"][:1], "free", "M6: slots of"),
        (k["memcg"]["swap"][1:2], "usage", "M6: swap charged to"),
        (k["mapping"], "resident_pages", "mapping 0: resident_pages"),
        (k["proc"][1:2], "rss_anon", "rss_anon of process 1"),
        (k["task"][1:2], "pending", "pending"),
        (k["memcg"][1:2], "xa_nodes", "XA: nodes of group"),
        (k["memcg"]["lruvec"][0], "shadow_nodes", "XA: listed nodes of group"),
        (k["memcg"]["psi"][1:2], "nr_running", "PSI nr_running of"),
    ):
        place[field][0] += 1
        assert any(error.startswith(told) for error in ledger.errors(machine, boot)), told
        place[field][0] -= 1
    assert ledger.errors(machine, boot) == []


@pytest.mark.small
def test_errors_a_page_off_its_list_is_told() -> None:
    machine, boot = grown()
    lv = machine.kernel[0]["memcg"]["lruvec"][1, 0]
    lru = int(lv["pages"].argmax())
    lv["tail"][lru] = machine.frames["prev"][lv["tail"][lru]]
    errors = ledger.errors(machine, boot)
    assert any(error == f"L1: list {lru} of 1 is broken" for error in errors)
