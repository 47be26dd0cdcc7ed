"""Advice: what is proposed, and that it mends the verdict when the node is run again."""

from __future__ import annotations

import pathlib

import pytest

import capplan
from capplan.plan.advice import advise
from capplan.plan.demand import Demand, demands
from capplan.plan.outcome import analyse
from capplan.plan.outcome_context import Context
from tests.plan.synthetic import MIB, Maker, global_kill, memcg_kill, pages, quiet, throttled

NODES = pathlib.Path(__file__).resolve().parents[2] / "profiles" / "nodes"


def _advice(maker: Maker, **planned: float) -> list[str]:
    run = maker.run()
    asked = {name: Demand(int(mib * MIB), 50.0) for name, mib in planned.items()}
    return [a.title for a in advise(analyse(run), Context(run), asked)]


def test_a_kill_at_a_limit_asks_for_the_demand_and_a_margin() -> None:
    # 200 MiB and 5 % are 210 MiB: 224 in steps of 16
    assert _advice(memcg_kill(), web=200, db=300) == ["Raise web's memory.max to 224 MiB"]


def test_a_throttle_asks_for_high_only() -> None:
    assert _advice(throttled(), web=101) == ["Raise web's memory.high to 112 MiB"]


def test_a_throttle_below_a_low_limit_asks_for_both() -> None:
    made = throttled()
    made.cgroups[0] = made.cgroups[0].__class__(
        "web", memory_high=pages(100), memory_max=pages(110)
    )
    assert _advice(made, web=120) == [
        "Raise web's memory.max to 144 MiB and memory.high to 128 MiB"
    ]


def test_enough_is_not_raised() -> None:
    assert _advice(memcg_kill(), web=90, db=300) == []


def test_a_node_out_of_memory_asks_for_what_is_missing() -> None:
    (title,) = _advice(global_kill(), leaker=711, victim=248, guarded=60)
    assert title.startswith("Give the node 2 GiB of memory, or run less on it: ")


def test_nothing_where_all_fits() -> None:
    assert _advice(quiet(), web=2000, db=300) == []


def test_a_leak_is_called_one() -> None:
    run = memcg_kill().run()
    asked = {"web": Demand(200 * MIB, 100.0), "db": Demand(300 * MIB, 0.0)}
    (advice,) = advise(analyse(run), Context(run), asked)
    assert "outgrows any limit" in advice.caution


def test_more_than_the_node_has_is_said() -> None:
    run = memcg_kill().run()
    asked = {"web": Demand(900 * MIB, 50.0), "db": Demand(300 * MIB, 0.0)}
    (advice,) = advise(analyse(run), Context(run), asked)
    assert advice.caution.startswith("All containers together ask for 1.17 GiB; the node has 1 GiB")


CASES = {
    "throttled, then killed": ("swap-zswap", {}),
    "paused, v1, a timeline": ("docker-v1", {}),
    "killed, replicas": ("worker", {"containers.web.memory.max": "420Mi"}),
    "two at once": (
        "worker", {"containers.db.memory.max": "600Mi", "containers.web.memory.high": "400Mi"},
    ),
    "node too small": ("worker", {"node.memory": "4Gi"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_proposed_change_mends_the_verdict(case: str) -> None:
    name, settings = CASES[case]
    loaded = capplan.load(NODES / f"{name}.yaml", settings=settings)
    before = capplan.simulate(loaded)
    assert not before.fits
    advice = advise(
        before.outcome, Context(before.run), demands(before.run.scenario), before.resolved
    )
    proposed = {key: value for each in advice for key, value in each.settings.items()}
    assert proposed
    after = capplan.simulate(capplan.load(NODES / f"{name}.yaml", settings=settings | proposed))
    assert after.fits, after.verdict
