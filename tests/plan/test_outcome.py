"""Verdicts and causes of runs made by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from capplan.plan.outcome import Outcome, Sign, Span, analyse
from capplan.sim.scenario import Change, Op
from tests.plan.synthetic import (
    MIB,
    NS,
    Maker,
    global_kill,
    memcg_kill,
    pages,
    paused,
    quiet,
    throttled,
)


@dataclass(frozen=True)
class Gate:
    max_throttle_share: float | None = None
    max_lateness: int | None = None
    min_headroom: int | float | None = None


def signs_of(outcome: Outcome, number: int = 1) -> dict[str, Sign]:
    incident = outcome.incidents[number - 1]
    return {sign.name: sign for sign in incident.signs}


def test_analyse_quiet_run_fits_and_names_the_tightest() -> None:
    outcome = analyse(quiet().run())
    assert outcome.fits
    assert outcome.incidents == ()
    assert outcome.verdict == (
        "Fits: 2 containers ran 1 min 40 s with nobody killed, paused or left behind; the "
        "tightest is web with 96 MiB (37.5 %) below its memory.max of 256 MiB; the node always "
        "had 564 MiB available."
    )


def test_analyse_headroom_counts_page_cache_as_room() -> None:
    web = analyse(quiet().run()).containers[0]
    assert (web.peak_bytes, web.peak_cache_bytes, web.peak_t) == (200 * MIB, 40 * MIB, 50.0)
    assert (web.headroom_bytes, web.headroom_share) == (96 * MIB, 0.375)
    assert (web.limit_bytes, web.limit_key, web.limit_cgroup) == (256 * MIB, "memory.max", "web")


def test_analyse_headroom_follows_a_limit_that_changes() -> None:
    made = quiet()
    made.changes.append(Change(80 * NS, "web", "memory.max", pages(150)))
    web = analyse(made.run()).containers[0]
    # at 80 s the curve is at 136 MiB: less room under 150 than 160 had under 256
    assert web.limit_bytes == 150 * MIB
    assert web.headroom_bytes == 14 * MIB


def test_analyse_without_limit_has_no_headroom() -> None:
    db = analyse(quiet().run()).containers[1]
    assert (db.limit_bytes, db.headroom_bytes, db.headroom_share) == (None, None, None)


def test_analyse_memcg_kill_tells_the_chain() -> None:
    outcome = analyse(memcg_kill().run())
    assert not outcome.fits
    assert outcome.verdict == (
        "Does not fit: web is OOM-killed at 1 min 20 s: web is at its memory.max of 140 MiB; web "
        "grew from 30 MiB at 25 s to 138 MiB of anonymous memory (2 MiB/s)."
    )
    (incident,) = outcome.incidents
    assert incident.chain == (
        "web grew from 30 MiB at 25 s to 138 MiB of anonymous memory (2 MiB/s)",
        "web reached its memory.max of 140 MiB",
        "reclaim: of 138 MiB anonymous memory it could take none (memory.swap.max is 0); page "
        "cache left: 0 B",
        "the OOM killer chose web (badness 35,915 pages: 140 MiB resident + 300 KiB of page "
        "tables, oom_score_adj 0); nobody else could be killed",
    )


def test_analyse_memcg_kill_has_signs_with_lead() -> None:
    signs = signs_of(analyse(memcg_kill().run()))
    # 126 MiB, 90 % of the limit, is passed after 73 s
    assert (signs["working_set"].t, signs["working_set"].lead_s) == (74.0, 6.0)
    assert signs["memory.events max"].lead_s == 4.0
    assert "4 s before" in signs["memory.events max"].text


def test_analyse_global_kill_names_grower_victim_and_next() -> None:
    outcome = analyse(global_kill().run())
    (incident,) = outcome.incidents
    assert incident.name == "victim"
    assert incident.chain[0].startswith("leaker grew from 63 MiB at 17 s to 711 MiB")
    assert "at or under the min marks (11 MiB) from 1 min 29 s" in incident.chain[1]
    assert "has nowhere to go (no swap)" in incident.chain[2]
    assert incident.chain[3].startswith("leaker asked for memory; the OOM killer chose victim")
    # 711 MiB are 182016 pages and 356 tables; a process at -1000 is no candidate
    assert [(c.process, c.points) for c in incident.runners_up] == [("leaker", 182016 + 356)]


def test_analyse_global_kill_has_signs_of_the_node() -> None:
    signs = signs_of(analyse(global_kill().run()))
    # 102.4 MiB left when leaker has 613.6 MiB: after 78.2 s
    assert signs["MemAvailable"].t == 79.0
    assert signs["allocstall"].lead_s == 2.0


def test_analyse_runners_up_prefers_the_kernels_own_list() -> None:
    made = global_kill()
    event = made.events[-1]
    given = [{"name": "leaker", "points": 7, "oom_score_adj": -3, "anon_rss_kb": 4}]
    made.events[-1] = replace(event, detail={**event.detail, "candidates": given})
    (incident,) = analyse(made.run()).incidents
    (leaker,) = incident.runners_up
    assert (leaker.points, leaker.oom_score_adj, leaker.source) == (7, -3, "kernel")


def test_analyse_alike_events_are_folded_and_counted() -> None:
    made = memcg_kill()
    made.events.append(replace(made.events[-1], t=95.0))
    outcome = analyse(made.run())
    (incident,) = outcome.incidents
    assert incident.count == 2
    assert incident.chain[-1] == "it came 2 times in all, last at 1 min 35 s"
    assert outcome.containers[0].killed == (80.0, 95.0)


def test_analyse_throttle_over_the_gate_does_not_fit() -> None:
    outcome = analyse(throttled(20.0).run())
    assert not outcome.fits
    assert outcome.throttle_share == pytest.approx(0.2)
    assert "web is throttled at memory.high from 40 s: 20 % of its time" in outcome.verdict
    assert outcome.containers[0].throttled == (Span(40.0, 70.0),)


@pytest.mark.parametrize(
    ("seconds", "share", "fits"),
    [(1.0, None, True), (1.1, None, False), (20.0, 0.2, True), (20.0, 0.19, False)],
)
def test_analyse_throttle_gate_is_inclusive(
    seconds: float, share: float | None, fits: bool
) -> None:
    outcome = analyse(throttled(seconds).run(), Gate(share))
    assert outcome.fits is fits
    assert len(outcome.incidents) == 1  # told in any case
    assert outcome.incidents[0].breaks is not fits


@pytest.mark.parametrize(
    ("asked", "fits"),
    [(96 * MIB, True), (97 * MIB, False), (0.375, True), (0.38, False), (None, True)],
)
def test_analyse_gate_may_ask_for_headroom(asked: int | float | None, fits: bool) -> None:
    outcome = analyse(quiet().run(), Gate(min_headroom=asked))
    assert outcome.fits is fits
    if not fits:
        assert outcome.verdict.startswith(
            "Does not fit: web has 96 MiB (37.5 %) of headroom; the gate"
        )


@pytest.mark.parametrize(("seconds", "fits"), [(5, True), (4, False)])
def test_analyse_gate_may_limit_lateness(seconds: int, fits: bool) -> None:
    run = Maker().container("web", [(0, 50)], late_max_s=5.0).run()
    outcome = analyse(run, Gate(max_lateness=seconds * NS))
    assert outcome.fits is fits
    assert ("late" in [i.kind for i in outcome.incidents]) is not fits


def test_analyse_long_cgroup_paths_are_called_by_their_container() -> None:
    made = memcg_kill()
    run = made.run()
    renamed = {k.replace("cgroup.web.", "cgroup.pods/tier/web."): v for k, v in run.series.items()}
    path = "pods/tier/web"
    scenario = replace(
        run.scenario,
        cgroups=(replace(run.scenario.cgroups[0], path=path), *run.scenario.cgroups[1:]),
    )
    events = tuple(replace(e, detail=e.detail | {"oom_cgroup": path}) for e in run.events)
    totals = (replace(run.totals[0], cgroup=path), *run.totals[1:])
    verdict = analyse(
        replace(run, series=renamed, scenario=scenario, events=events, totals=totals)
    ).verdict
    assert "web is at its memory.max of 140 MiB" in verdict
    assert "pods/" not in verdict


def test_analyse_assumed_pause_says_so_in_the_verdict() -> None:
    run = paused(assumed=True).run()
    stock = Maker(version="v1").container("app", [(0, 20)]).event(31.0, "oom_kill", "app").run()
    verdict = analyse(run, stock=stock).verdict
    assert verdict == (
        "Does not fit: app pauses (assumed) from 30 s to the end of the run: app is at its "
        "memory.limit_in_bytes of 50 MiB; a stock kernel (oom_kill_disable 0) would kill app at "
        "31 s."
    )
    assert "would kill a process there instead" in analyse(run).verdict


def test_analyse_assumed_pause_stock_kernel_kills_nobody() -> None:
    stock = Maker(version="v1").container("app", [(0, 20)]).run()
    outcome = analyse(paused(assumed=True).run(), stock=stock)
    assert outcome.stock_verdict == "a stock kernel (oom_kill_disable 0) would kill nobody"


def test_analyse_declared_pause_is_not_called_assumed() -> None:
    outcome = analyse(paused(assumed=False).run())
    assert "assumed" not in outcome.verdict
    assert outcome.stock_verdict == ""
    assert outcome.incidents[0].chain[-2:] == (
        "oom_kill_disable is 1: nobody is killed, the fault waits for memory",
        "app waits to the end of the run",
    )
    assert outcome.containers[0].paused == (Span(30.0, None),)


def test_analyse_pause_that_ends_says_how_long() -> None:
    made = paused(assumed=False).event(45.0, "resumed", "app")
    outcome = analyse(made.run())
    assert outcome.incidents[0].end == 45.0
    assert "paused at 30 s for 15 s" in outcome.verdict
    assert outcome.containers[0].paused == (Span(30.0, 45.0),)


def test_analyse_work_left_over_does_not_fit() -> None:
    ops = (Op("hold", ns=60 * NS), Op("grow", "m", pages=100, rate=5.0))  # done at 80 s
    outcome = analyse(Maker().container("batch", [(0, 50)], ops=ops).run())
    assert not outcome.fits
    assert outcome.containers[0].unfinished == (
        "batch was to end at 1 min 20 s and is still at work at the end of the run",
    )


def test_analyse_work_meant_to_go_on_is_not_left_over() -> None:
    ops = (Op("hold", ns=101 * NS),)
    assert analyse(Maker().container("batch", [(0, 50)], ops=ops).run()).fits


@pytest.mark.parametrize(("late", "fits"), [(0.9, True), (1.1, False)])
def test_analyse_lateness_at_the_end_is_measured_by_the_gate(late: float, fits: bool) -> None:
    run = Maker().container("web", [(0, 50)], late_s=late, late_max_s=5.0).run()
    assert analyse(run).fits is fits


def test_analyse_node_against_the_marks() -> None:
    (zone,) = analyse(global_kill().run()).node.zones
    # 1024 - 711 - 248 - 60 MiB
    assert (zone.lowest_free_bytes, zone.lowest_t) == (5 * MIB, 89.0)
    assert zone.where == "below min"


def test_analyse_bins_lowest_is_taken_where_it_was_kept() -> None:
    made = quiet().put("zone.Normal.free|min", [3500.0] + [9000.0] * 100)
    (zone,) = analyse(made.run()).node.zones
    assert (zone.lowest_t, zone.where) == (0.0, "between min and low")


def test_analyse_node_psi_and_reclaim() -> None:
    made = quiet()
    made.put("psi.memory.some.total_us", np.clip(made.t - 50, 0, 10) * 0.4e6)
    made.put("vmstat.pgscan_kswapd", np.clip(made.t - 50, 0, 10) * 100)
    made.put("vmstat.allocstall_normal", np.clip(made.t - 50, 0, 3))
    node = analyse(made.run()).node
    assert node.psi_some_share == pytest.approx(0.04)
    assert (node.psi_some_peak, node.psi_some_peak_t) == (pytest.approx(0.4), 60.0)
    assert (node.kswapd_awake_s, node.kswapd_scanned_bytes) == (10.0, 1000 * 4096)
    assert node.direct_stalls == 3


def test_analyse_kswapd_awake_by_its_events() -> None:
    made = quiet().event(10.0, "kswapd_wake", "").event(12.5, "kswapd_sleep", "")
    made.event(95.0, "kswapd_wake", "")
    node = analyse(made.run()).node
    assert (node.kswapd_wakes, node.kswapd_awake_s) == (2, 7.5)


def test_analyse_stalls_without_incident_are_a_note() -> None:
    outcome = analyse(Maker().container("web", [(0, 50)], stall_s=30.0).run())
    assert outcome.fits
    assert outcome.notes == ("web is slowed by memory stalls for 30 % of its time",)


def test_analyse_worst_comes_first_whenever_it_was() -> None:
    made = memcg_kill()
    limits = {"memory_high": pages(30)}
    made.container("slow", [(0, 40)], limits=limits, throttle_s=50.0)
    made.event(1.0, "throttle_begin", "slow")
    outcome = analyse(made.run())
    assert [i.kind for i in outcome.incidents] == ["throttled", "oom_kill"]
    assert "web is OOM-killed" in outcome.verdict
    assert outcome.verdict.endswith("(also: 1 throttled).")


@pytest.mark.parametrize("make", [quiet, memcg_kill, global_kill, throttled])
def test_outcome_survives_json(make: object) -> None:
    outcome = analyse(make().run())  # type: ignore[operator]
    assert Outcome.from_dict(json.loads(json.dumps(outcome.to_dict()))) == outcome


def test_outcome_dict_starts_with_the_verdict() -> None:
    assert list(analyse(quiet().run()).to_dict())[:2] == ["fits", "verdict"]


@pytest.mark.parametrize(
    ("version", "kernel", "shown"),
    [
        ("v2", "6.1", {"psi", "refault_anon", "refault_file"}),
        ("v2", "5.8", {"psi", "refault_file"}),
        ("v1", "6.1", {"refault_anon", "refault_file"}),
        ("v1", "3.10.0-1160.el7.x86_64", set()),
    ],
)
def test_signs_of_a_group_are_those_that_its_kernel_shows(
    version: str, kernel: str, shown: set[str]
) -> None:
    made = Maker(version=version)
    made.container("web", [(0, 20), (79, 138), (100, 138)], limits={"memory_max": pages(140)})
    made.put("cgroup.web.psi.some", np.maximum(made.t - 50, 0) * 0.5e6)
    for kind in ("anon", "file"):
        made.put(f"cgroup.web.stat.workingset_refault_{kind}", np.maximum(made.t - 50, 0))
    made.event(80.0, "oom_kill", "web", "memcg", oom_cgroup="web", trigger="web", totalpages=1)
    run = made.run()
    node = replace(run.scenario.node, release=kernel)
    outcome = analyse(replace(run, scenario=replace(run.scenario, node=node)))
    assert signs_of(outcome).keys() & {"psi", "refault_anon", "refault_file"} == shown


@pytest.mark.parametrize(
    ("low_mib", "said"),
    [(0, "the node was down to 0 B available."), (50, "the node always had 50 MiB available.")],
)
def test_a_node_that_fits_without_room_is_not_said_to_have_any(low_mib: float, said: str) -> None:
    made = quiet()
    made.put("meminfo_kb.MemAvailable", np.where(made.t == 60, low_mib, 500) * 1024)
    assert analyse(made.run()).verdict.endswith(said)
