"""v1's soft limit in global reclaim, and the wake-up after a boost."""

from __future__ import annotations

from typing import Any

import pytest

from capplan.mm.kswapd import wakeup_kswapd
from capplan.mm.memcg_v1 import soft_limit_excess
from capplan.mm.state import new_kernel
from capplan.sim.access import turn_is_over
from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Change, Mapping, Op, Process, Task
from tests.sim.engine_cases import MS, S, last, node, process, scenario

pytestmark = pytest.mark.small

HOLD = Op("hold", ns=1000 * S)


@pytest.mark.parametrize(("usage", "limit", "excess"), [(700, 500, 200), (500, 500, 0), (1, 9, 0)])
def test_soft_limit_excess_is_what_is_above(usage: int, limit: int, excess: int) -> None:
    k = new_kernel()[0]
    k["memcg"]["memory"]["usage"][1], k["memcg"]["soft_limit"][1] = usage, limit
    assert soft_limit_excess(k, 1) == excess


def caches_left(release: str, version: str = "v1") -> tuple[float, float]:
    """Page cache of two groups that read alike, one over its soft limit, after a squeeze."""
    parts: list[Any] = []
    for name in ("a", "b"):
        log = f"{name}.log"
        ops = (Op("read", log, pages=2500, rate=50_000.0), HOLD)
        one = Process(name, name, name, mappings=(log,), tasks=(Task(ops),))
        file = Mapping(log, "file", 2500, size_pages=2500, via="read", disk="vda")
        parts.append((one, file))
    parts.append(process("hog", "c", 3500, HOLD, rate=5000.0, start_ns=200 * MS))
    groups = (Cgroup("a", soft_limit=500), Cgroup("b"), Cgroup("c"))
    found = run(scenario(parts, groups, cgroup_version=version, node=node(release=release)))
    return last(found, "cgroup.a.stat.file") / 4096, last(found, "cgroup.b.stat.file") / 4096


def test_group_over_its_soft_limit_gives_first() -> None:
    limited, other = caches_left("6.1")
    assert other > 2450  # the pass after it takes a little of all
    assert limited < 1700


@pytest.mark.parametrize(("release", "version"), [("6.12", "v1"), ("6.1", "v2")])
def test_soft_limit_without_effect(release: str, version: str) -> None:
    limited, other = caches_left(release, version)
    assert other < 2400
    assert limited == pytest.approx(other, rel=0.5)


@pytest.mark.parametrize(("boost", "failures", "awake"), [(512, 0, 1), (0, 0, 0), (512, 16, 0)])
def test_wakeup_kswapd_of_a_balanced_node_needs_a_boost(
    boost: int, failures: int, awake: int
) -> None:
    k = new_kernel()[0]
    k["nr_nodes"], k["nr_zones"] = 1, 4
    zone = k["zone"][1]
    zone["managed"], zone["free"], zone["boost"] = 8192, 4000, boost
    zone["wmark"][:3] = (100, 125, 150)
    zone["nr_free"][0, 1] = 4000
    k["node"]["kswapd_failures"][0] = failures
    wakeup_kswapd(k, 0, 0)
    assert k["node"]["kswapd_awake"][0] == awake
    assert turn_is_over(k) == (awake == 1)  # who woke it makes room for it


def test_a_page_that_came_back_is_no_swap_of_a_v1_group() -> None:
    """Its slot is kept (swap is not half full), its charge is not (memsw has it once)."""
    touch = Op("touch", ns=2 * S, rate=5000.0, pattern="cyclic")
    part = process("p", "a", 1000, Op("wait", at_ns=S), touch, HOLD)
    group = Cgroup("a", memory_max=500, memsw_max=1100)
    raised = Change(S // 2, "a", "memory.limit_in_bytes", 1100)
    machine = node(swap=8192, release="6.1", sysctl={"vm.page-cluster": 0})
    found = run(
        scenario([part], (group,), (raised,), cgroup_version="v1", node=machine, duration_ns=4 * S)
    )
    out = found.series["cgroup.a.memory.swap.current"] / 4096
    assert 450 < out.max() <= 600
    assert out[-1] == 0
    assert last(found, "cgroup.a.stat.anon") / 4096 == 1000
    kept = (last(found, "meminfo_kb.SwapTotal") - last(found, "meminfo_kb.SwapFree")) / 4
    assert kept >= out.max()
