"""The parts of a cause by themselves: thresholds, badness, stretches, protection, swap."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from capplan.plan.outcome import Span, analyse
from capplan.plan.outcome_chain import grew, marks_hit, reclaim_in_group, reclaim_in_node
from capplan.plan.outcome_context import Context
from capplan.sim.result import Run
from capplan.sim.scenario import Cgroup, Zone
from tests.plan.synthetic import MIB, Maker, global_kill, memcg_kill, pages, paused, quiet


def with_zones(run: Run, *zones: Zone) -> Run:
    node = replace(run.scenario.node, zones=zones)
    return replace(run, scenario=replace(run.scenario, node=node))


def test_marks_count_what_lowmem_reserve_keeps_back() -> None:
    # DMA32 of 256 MiB keeps 768 MiB / 256 = 3 MiB back: 3 + 11 MiB for min, 3 + 13.75 for low
    small = Zone(0, "DMA32", 65536, 65536, 65536)
    large = Zone(0, "Normal", 196608, 196608, 196608)
    made = quiet().put("zone.DMA32.free", 0)
    made.put(
        "zone.Normal.free",
        np.where(made.t < 50, 30 * 256, np.where(made.t < 60, 15 * 256, 13 * 256)),
    )
    run = replace(
        with_zones(made.run(), small, large),
        wmarks={"DMA32": (0, 0, 0), "Normal": (2816, 3520, 4224)},
    )
    (text,) = marks_hit(Context(run), 70.0)
    assert text == (
        "the node's free memory fell to 13 MiB, at or under the low marks (16.8 MiB) from 50 s: "
        "kswapd is woken, at or under the min marks (14 MiB) from 1 min: tasks reclaim for "
        "themselves"
    )


def test_marks_take_the_reserve_that_was_captured() -> None:
    made = quiet().put("zone.Normal.free", 3520 + 100)
    zone = Zone(0, "Normal", 262144, 262144, 262144, protection=(0, 100, 100, 100))
    assert "low marks" in marks_hit(Context(with_zones(made.run(), zone)), 50.0)[0]
    zone = replace(zone, protection=(0, 99, 99, 99))
    assert "low marks" not in marks_hit(Context(with_zones(made.run(), zone)), 50.0)[0]


def test_runners_up_weigh_adj_and_swap() -> None:
    made = global_kill()
    # 100 MiB, 10 MiB in swap: 25600 + 2560 pages, 55 tables, and 300 thousandths of the node
    made.container("adjusted", [(0, 100), (100, 100)], adj=300)
    made.put("cgroup.adjusted.memory.swap.current", 10 * MIB)
    (incident,) = analyse(made.run()).incidents
    first = incident.runners_up[0]
    assert (first.process, first.points) == ("leaker", 182372)
    adjusted = next(c for c in incident.runners_up if c.process == "adjusted")
    assert adjusted.points == 25600 + 2560 + 55 + 300 * 262
    assert adjusted.source == "series"


def test_runners_up_of_a_group_are_of_that_group() -> None:
    (incident,) = analyse(memcg_kill().run()).incidents
    assert incident.runners_up == ()


def test_grew_leaves_out_who_barely_grew() -> None:
    made = Maker()
    made.container("fast", [(0, 0), (100, 100)])
    made.container("half", [(0, 0), (100, 50)])
    made.container("slow", [(0, 0), (100, 10)])
    (text,) = grew(Context(made.run()), 90.0, "")
    assert [part.split()[0] for part in text.split("; ")] == ["fast", "half"]
    made = Maker()
    made.container("fast", [(0, 0), (100, 100)]).container("slow", [(0, 0), (100, 10)])
    assert "slow" not in grew(Context(made.run()), 90.0, "")[0]


def test_grew_names_who_grew_of_late_before_who_is_large() -> None:
    made = Maker()
    made.container("large", [(0, 0), (20, 500), (100, 500)])
    made.container("late", [(0, 10), (80, 10), (100, 60)])
    assert grew(Context(made.run()), 95.0, "")[0].startswith("late grew from")


def test_containers_that_share_a_cgroup_are_told_apart_by_their_processes() -> None:
    made = Maker().container("one", [(0, 0), (100, 100)]).container("two", [(0, 5)])
    run = made.run()
    totals = tuple(replace(row, cgroup="one") for row in run.totals)
    assert grew(Context(replace(run, totals=totals)), 100.0, "one") == [
        "one grew from 9 MiB at 9 s to 99 MiB of resident memory (1 MiB/s)"
    ]


def test_throttled_stretches_of_two_processes_are_one() -> None:
    made = Maker()
    limits = {"memory_high": pages(10)}
    made.container("web", [(0, 20)], limits=limits, throttle_s=9.0)
    made.processes.append(replace(made.processes[0], name="web/2"))
    for t, event, name in [
        (10.0, "throttle_begin", "web"), (12.0, "throttle_begin", "web/2"),
        (15.0, "throttle_end", "web"), (20.0, "throttle_end", "web/2"),
        (30.0, "throttle_begin", "web"),
    ]:  # fmt: skip
        made.event(t, event, name)
    (web,) = analyse(made.run()).containers
    assert web.throttled == (Span(10.0, 20.0), Span(30.0, None))


def test_protection_counts_the_outermost_group_once() -> None:
    made = quiet().container("pods/db", [(0, 100)], limits={"memory_min": pages(50)})
    made.put("cgroup.pods.memory.current", 100 * MIB)
    made.cgroups.append(Cgroup("pods", memory_low=pages(80)))
    (text,) = reclaim_in_node(Context(made.run()), 50.0)
    assert "80 MiB protected" in text


@pytest.mark.parametrize(
    ("limits", "free_mib", "said"),
    [
        ({"swap_max": 0}, 100, "it could take none (memory.swap.max is 0)"),
        ({"swap_max": pages(30)}, 70, "it could take no more (memory.swap.max 30 MiB is used up)"),
        ({}, 0, "it could take no more (swap is full: 100 MiB)"),
        (
            {},
            60,
            "it could take too little in time (30 MiB of it is in swap already, 60 MiB of swap",
        ),
    ],
)
def test_reclaim_says_why_swap_took_no_more(
    limits: dict[str, Any], free_mib: int, said: str
) -> None:
    made = Maker(swap_mib=100).container("web", [(0, 50)], limits=limits)
    made.put("cgroup.web.memory.swap.current", 30 * MIB)
    made.put("meminfo_kb.SwapFree", free_mib * 1024)
    (text,) = reclaim_in_group(Context(made.run()), 50.0, "web")
    assert said in text


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"swappiness": 0}, "none (memory.swappiness is 0)"),
        ({"memsw_max": pages(90)}, "no more (memory.memsw.limit_in_bytes 90 MiB counts swap too)"),
    ],
)
def test_reclaim_under_v1_says_why_swap_took_no_more(limits: dict[str, Any], said: str) -> None:
    made = Maker(version="v1", swap_mib=100).container("web", [(0, 50)], limits=limits)
    made.put("meminfo_kb.SwapFree", 90 * 1024)
    (text,) = reclaim_in_group(Context(made.run()), 50.0, "web")
    assert said in text


def test_restarted_process_lives_the_sum_of_its_lives() -> None:
    made = Maker().container("web", [(0, 5)], stall_s=10.0, restarts=1)
    made.event(30.0, "oom_kill", "web", "memcg").event(30.1, "exit", "web")
    made.event(80.0, "restart", "web")
    context = Context(made.run())
    assert context.life("web") == 50.0
    assert analyse(made.run()).containers[0].stall_share == pytest.approx(0.2)


def test_who_is_gone_is_no_runner_up() -> None:
    made = global_kill()
    alive = np.where(made.t < 50, 60000.0, np.nan)  # exited at 50 s with 234 MiB
    made.container("helper", [(0, 1), (100, 1)]).put("process.helper.rss_pages", alive)
    (incident,) = analyse(made.run()).incidents
    assert "helper" not in [c.process for c in incident.runners_up]


def test_throttling_without_events_is_told_by_its_counter() -> None:
    made = Maker()
    limits = {"memory_high": pages(100)}
    made.container("web", [(0, 20), (40, 100), (100, 101)], limits=limits, throttle_s=20.0)
    # asleep for half of each second from 60 s to 100 s; charges above high from 40 s on
    made.put("cgroup.web.throttle_us", np.maximum(made.t - 60, 0) * 5e5)
    made.put("cgroup.web.events.high", np.maximum(made.t - 40, 0))
    outcome = analyse(made.run())
    assert outcome.containers[0].throttled == (Span(60.0, None),)
    assert outcome.incidents[0].t == 60.0


def test_limit_met_between_two_samples_is_told() -> None:
    made = memcg_kill()
    usage = np.where(made.t < 80, 40.0 * MIB, 0.0)  # 40 of 140 MiB half a second before
    made.put("cgroup.web.memory.current", usage).put("cgroup.web.stat.anon", usage)
    made.events[-1] = replace(made.events[-1], t=79.5)
    (incident,) = analyse(made.run()).incidents
    assert "within 500 ms: the sample before shows 40 MiB" in " ".join(incident.chain)


def test_pauses_after_the_first_are_told_to_their_end() -> None:
    made = paused(assumed=False).event(50.0, "resumed", "app").event(60.0, "paused", "app")
    (incident,) = analyse(made.run()).incidents
    assert "then app is paused at 1 min to the end of the run" in incident.chain
    assert incident.end == 50.0
