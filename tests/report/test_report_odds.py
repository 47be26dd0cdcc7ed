"""Pages of many runs: what their pictures find, and that each kind is whole."""

from __future__ import annotations

import copy
import json
import pathlib
from typing import Any

import numpy as np
import pytest

from capplan.errors import InputError
from capplan.report import deliver, figures_odds, figures_room, figures_victims, odds, odds_tables
from capplan.report.odds_change import change
from capplan.report.odds_methods import fidelity
from tests.plan.synthetic import quiet
from tests.report import summaries
from tests.report.pages import SCRIPT, faults, written

KINDS: dict[str, dict[str, Any]] = {
    "risk": summaries.risk(), "sweep": summaries.sweep(80, 30, 2, 0, 0),
    "comparison": summaries.compare(), "headroom": summaries.headroom(),
    "recommendation": summaries.recommendation(), "check": summaries.check(),
}  # fmt: skip


def test_first_kill_curve_says_when_half_have_come() -> None:
    chart = figures_odds.first_kill(summaries.risk())
    assert chart is not None
    # the first kill at step 51, the fortieth at step 90: half of them by step 70, 2520 s
    assert chart.title == (
        "A kill by the end of 40 % (30.9 to 49.8 %) of the runs; half of these kills have come "
        "by 42 min"
    )
    (panel,) = chart.panels
    (curve,), (band,) = panel.curves, panel.bands
    assert np.all(band.low <= curve.values)
    assert np.all(curve.values <= band.high)
    assert [rule.level for rule in panel.rules] == [1.0]


def test_nobody_killed_has_no_curve() -> None:
    summary = summaries.risk()
    summary["first_kill"] = [[t, 0, 0.0, 0.0, 0.04] for t, *_ in summary["first_kill"]]
    assert figures_odds.first_kill(summary) is None


def test_bars_are_of_the_likeliest_incident_riskiest_first() -> None:
    chart = figures_odds.by_container(summaries.risk())
    assert chart is not None
    assert [bar.label for bar in chart.panels[0].bars] == ["web", "db"]
    assert chart.title.startswith("web is most often killed: in 40 %")


def test_victims_are_shares_of_all_runs() -> None:
    chart = figures_odds.victims(summaries.risk())
    assert chart is not None
    assert chart.title == "web-0 dies first in 30 % of the runs, db in 10 %"


def test_who_dies_when_who_grows_is_a_matrix() -> None:
    chart = figures_victims.chart(summaries.risk())
    assert chart is not None
    assert chart.title == (
        "web-0 dies when db grows in 25 of 40 first kills; who grows dies itself in 37.5 %"
    )
    assert "db asked, web-0 died: 25 runs; db asked, db died: 10" in chart.alt
    grid = chart.panels[0].grid
    assert grid is not None
    assert (grid.rows, grid.columns) == (("db", "web-0"), ("web-0", "db"))
    assert grid.values.tolist() == [[25, 10], [5, 0]]


@pytest.mark.parametrize(
    ("grown", "said"),
    [
        (
            [["a", "a", 9], ["b", "b", 3]],
            "Who grows dies: in all 12 first kills the one that asked",
        ),
        ([["a", "a", 9], ["b", "a", 3]], "Who grows dies in 75 % of the first kills; else most"),
        ([["a", "b", 9], ["b", "c", 3]], "Others pay: b dies when a grows in 9 of 12 first kills"),
        (
            [["a", "a", 20], *([f"g{n}", "v", 4] for n in range(10))],
            "Who grows dies itself in 33.3 % of the first kills only; v dies most often for others",
        ),
    ],
)
def test_matrix_says_who_pays(grown: list[Any], said: str) -> None:
    chart = figures_victims.chart(summaries.risk() | {"grown": grown})
    assert chart is not None
    assert chart.title.startswith(said)


def test_a_single_pair_is_no_picture() -> None:
    for grown in ([], [["a", "a", 9]]):
        assert figures_victims.chart(summaries.risk() | {"grown": grown}) is None


def test_matrix_of_two_hundred_shows_the_top_and_the_rest_together() -> None:
    pairs = [[f"c{n:03}", f"c{(7 * n) % 200:03}", 200 - n] for n in range(200)]
    summary = summaries.risk() | {"grown": pairs, "replicas": []}
    chart = figures_victims.chart(summary)
    assert chart is not None
    grid = chart.panels[0].grid
    assert grid is not None
    assert (len(grid.rows), len(grid.columns)) == (11, 11)
    assert grid.rows[0] == "c000"
    assert grid.rows[-1] == "190 others"
    assert grid.values.sum() == sum(runs for *_, runs in pairs)
    # and the table has all of them
    (table,) = (t for _, _, t in odds_tables.report_tables(summary) if "who grows" in t.caption)
    assert len(table.rows) == 200


def test_too_many_replicas_are_counted_as_their_container() -> None:
    names = [f"web-{n}" for n in range(40)]
    summary = summaries.risk() | {
        "grown": [[name, "db", 2] for name in names],
        "replicas": [{"name": n, "container": "web", "risks": summaries.risks()} for n in names],
    }
    found = figures_victims.grown(summary)
    assert found.by_container
    assert dict(found.pairs) == {("web", "db"): 80}


@pytest.mark.parametrize(
    ("kills", "said"),
    [
        # 0 of 100 is not shown to be below 1 %: only that nobody was killed can be said
        ((80, 30, 2, 0, 0), "From containers.web.memory.max = 460 MiB on nobody is killed in 100"),
        ((80, 0, 2, 0), "From containers.web.memory.max = 460 MiB on nobody is killed in 100"),
        ((80, 30), "From containers.web.memory.max = 400 MiB to 420 MiB the risk of a kill goes"),
    ],
)
def test_risk_over_a_knob_names_where_it_ends(kills: tuple[int, ...], said: str) -> None:
    chart = figures_odds.risk_over_knob(summaries.sweep(*kills))
    assert chart is not None
    assert chart.title.startswith(said)
    np.testing.assert_array_equal(chart.x, 400 + 20 * np.arange(len(kills)))


def test_risk_within_the_gate_is_said() -> None:
    summary = summaries.sweep(80, 0, 0) | {"gate": {"kill": 0.05}}
    chart = figures_odds.risk_over_knob(summary)
    assert chart is not None
    assert chart.title == (
        "The risk of a kill is within the gate from containers.web.memory.max = 420 MiB on"
    )


def test_several_knobs_have_no_single_curve() -> None:
    summary = summaries.sweep(80, 0)
    summary["knobs"].append({"key": "vm.swappiness", "values": [0, 60]})
    assert figures_odds.risk_over_knob(summary) is None


def test_sensitivity_names_the_knob_that_decides() -> None:
    chart = figures_odds.sensitivity(summaries.sweep(1, 0))
    assert chart is not None
    assert chart.title == "a decides most: 60 % of the risk of being killed by itself"
    summary = summaries.sweep(1, 0)
    summary["sensitivity"][1]["first_high"] = 0.55  # beyond the lower end of the first
    shared = figures_odds.sensitivity(summary)
    assert shared is not None
    assert shared.title == "a may decide most (60 % of the risk of being killed), b as well"


def test_sensitivity_of_one_knob_is_no_picture() -> None:
    summary = summaries.sweep(1, 0)
    summary["sensitivity"].pop()
    assert figures_odds.sensitivity(summary) is None


def test_compare_puts_usable_memory_against_risk_and_marks_the_pick() -> None:
    chart = figures_odds.usable_against_risk(summaries.compare())
    assert chart is not None
    risk, stalls = chart.panels
    assert [dot.picked for dot in risk.dots] == [False, True, False]
    assert [dot.y for dot in risk.dots] == [30.0, 0.0, 0.0]
    assert [dot.y for dot in stalls.dots] == [900.0, 40.0, 0.0]
    # 4 GiB less 16384 kB times 1.5, in MiB
    assert risk.dots[0].x == pytest.approx(4096 - 24)
    assert chart.title.startswith("vm.min_free_kbytes=67584 leaves 3.9 GiB to use at a risk of 0 %")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_page_a_comment_and_a_table(kind: str) -> None:
    report = deliver.OfMany(KINDS[kind])
    page = report.html()
    assert page == report.html()
    assert len(page) < 1_500_000
    assert "hand-made" in page
    assert "### hand-made" in report.md()
    assert len(report.csv().splitlines()) >= 2
    assert json.loads(report.json())["kind"] == kind
    assert len(report.pictures("png")) == len(odds.charts(KINDS[kind]))


def test_tables_of_risk_show_headroom_riskiest_first() -> None:
    replicas = [
        {"name": name, "container": name, "risks": summaries.risks(kill=kill),
         "spread": {"peak": summaries.spread(1, 2, 3, 4, 5 << 20),
                    "headroom": summaries.spread(room << 20, 2, 3, 4, 5)}}
        for name, kill, room in (("calm", 0, 90), ("tight", 0, 5), ("dying", 7, 50))
    ]  # fmt: skip
    containers = [{"name": r["name"], "replicas": 1, "risks": r["risks"]} for r in replicas]
    summary = summaries.risk() | {"replicas": replicas, "containers": containers}
    table = odds_tables.report_tables(summary)[0][2]
    assert [row[0].text for row in table.rows] == ["dying", "tight", "calm"]
    assert [cell.text for cell in table.rows[1][-2:]] == ["5 MiB", "5 MiB"]


def test_a_check_names_the_rules_that_fail_first() -> None:
    report = odds.report(summaries.check())
    assert [name for name, _ in report["sections"]] == [
        "change", "rules", "containers", "node", "methods",
    ]  # fmt: skip
    where, _, table = report["tables"][0]
    assert (where, table.caption) == ("rules", "1 of 3 rules of the gate hold")
    assert [row[0].text for row in table.rows] == ["no", "not decided", "yes"]


def test_every_setting_of_a_comparison_is_told_with_its_warnings() -> None:
    report = odds.report(summaries.compare())
    assert [setting["name"] for setting in report["settings"]] == [
        "vm.min_free_kbytes=16384", "vm.min_free_kbytes=67584 (the pick)",
        "vm.min_free_kbytes=262144",
    ]  # fmt: skip
    assert report["picked"] == report["settings"][1]["slug"]
    assert report["settings"][2]["warnings"] == ["262144 kB are kept back"]
    slugs = [plate.slug for setting in report["settings"] for plate in setting["plates"]]
    assert len(set(slugs)) == len(slugs) == 9
    ((_, _, table), *_) = report["tables"]
    against = [column.key for column in table.columns].index("against")
    assert [row[against].text for row in table.rows] == [
        "-", "+30 \N{MINUS SIGN}0 runs fit", "+30 \N{MINUS SIGN}0 runs fit",
    ]  # fmt: skip


def test_what_would_mend_it_can_be_copied() -> None:
    command = "capplan risk x.yaml -n 9 --set vm.swappiness=10"
    found = change(summaries.risk() | {"provenance": {"command": command}})
    assert [command for _, command in found.commands] == [
        "capplan simulate x.yaml --set vm.swappiness=10",
        "capplan recommend x.yaml --set vm.swappiness=10",
    ]
    unknown = summaries.risk() | {"provenance": summaries.PROVENANCE | {"command": ""}}
    assert change(unknown).commands == ()


def test_a_recommendation_is_given_as_manifests_too() -> None:
    forms = dict(change(summaries.recommendation()).forms)
    assert forms["sysctl.d"].endswith("\nvm.min_free_kbytes = 67584")
    assert "memory: 480Mi" in forms["Kubernetes patches"]
    assert "MemoryMax=480M" in forms["systemd drop-ins"]


def test_no_point_that_fits_gives_the_least_risk() -> None:
    found = change(summaries.sweep(80, 30, 2))
    assert found.text.startswith(
        "No point fits; the risk of a kill is least, 2 % (0.55 to 7 %), at"
    )
    assert found.yaml.endswith("memory.max: 440Mi")


def test_fidelity_is_of_what_the_runs_show() -> None:
    said = " ".join(fidelity(summaries.risk()))
    assert "OOM kill at a group's limit" in said
    assert "OOM kill of the node" in said
    assert "zswap" not in said
    swapping = summaries.risk() | {"spread": {"zswap_peak": summaries.spread(0, 1, 2, 3, 4)}}
    assert "zswap" in " ".join(fidelity(swapping))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_valid_html_with_ids_of_their_own(kind: str) -> None:
    assert faults(deliver.OfMany(KINDS[kind]).html()) == []


def test_what_never_happened_has_no_column() -> None:
    ((_, _, table), *_) = odds_tables.report_tables(summaries.risk())
    assert [column.title for column in table.columns] == ["who", "killed", "throttled"]
    assert [cell.text for cell in table.rows[0]] == [
        "web",
        "40 % (30.9 to 49.8 %)",
        "0 (below 3.7 %)",
    ]


def test_a_section_without_content_is_left_out() -> None:
    report = odds.report(summaries.headroom() | {"rooms": []})
    assert [name for name, _ in report["sections"]] == ["change", "methods"]


def test_the_pick_can_be_copied() -> None:
    assert change(summaries.compare()).yaml == ("node:\n  sysctl:\n    vm.min_free_kbytes: 67584")


def test_the_recommendation_stands_beside_the_rules() -> None:
    (*_, (_, _, rivals), _) = odds_tables.report_tables(summaries.recommendation())
    rows = [[cell.text for cell in row] for row in rivals.rows]
    assert rows[0] == ["recommended here", "1.88 GiB", "0 (below 3.7 %)"]
    assert "the least that holds" in deliver.OfMany(summaries.recommendation()).csv()
    assert rows[2] == ["p99", "1.76 GiB", "12 % (7 to 19.8 %)"]


def test_a_foreign_name_is_text() -> None:
    page = deliver.OfMany(summaries.risk(SCRIPT)).html()
    assert SCRIPT not in page
    assert "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize(
    ("metric", "value", "said"),
    [
        ("available_min", 3 * 2**30, "3 GiB"), ("psi_some", 0.25, "25 %"),
        ("late_s", 90.0, "1 min 30 s"),
        ("order9_min", 11.0, "11"), ("majfaults", 30620.4, "30,620"), ("swap_in", None, "-"),
    ],
)  # fmt: skip
def test_figures_have_their_units(metric: str, value: float | None, said: str) -> None:
    assert odds_tables.figure(metric, value) == said


# --- reading -------------------------------------------------------------------------------


def _put(summary: dict[str, Any], folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir(exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_results_of_many_runs_are_opened(tmp_path: pathlib.Path) -> None:
    report = deliver.open_result(_put(summaries.risk(), tmp_path))
    assert isinstance(report, deliver.OfMany)


def test_unknown_kind_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match=r"kind 'poem' has no report\n +expected a single run"):
        deliver.open_result(_put(summaries.of("poem"), tmp_path))


@pytest.mark.parametrize("lost", ["node", "victims", "points", "settings", "rooms"])
def test_a_summary_of_another_shape_is_refused(lost: str, tmp_path: pathlib.Path) -> None:
    kind = {"points": "sweep", "settings": "comparison", "rooms": "headroom"}.get(lost, "risk")
    broken = copy.deepcopy(KINDS[kind]) | {lost: [7]}
    with pytest.raises(InputError, match="not a whole result"):
        deliver.open_result(_put(broken, tmp_path))


def test_only_runs_are_put_beside_each_other(tmp_path: pathlib.Path) -> None:
    written(quiet(), tmp_path / "a")
    with pytest.raises(InputError, match="only single runs are put beside each other"):
        deliver.open_result(tmp_path / "a", _put(summaries.risk(), tmp_path / "b"))


@pytest.mark.parametrize(("kills", "fits"), [((80, 30), False), ((80, 0), True)])
def test_a_sweep_fits_where_a_point_does(kills: tuple[int, ...], fits: bool) -> None:
    assert odds.report(summaries.sweep(*kills))["fits"] is fits


def test_a_long_beginning_is_no_verdict_in_a_word() -> None:
    summary = summaries.recommendation() | {"verdict": "Limits of 142 MiB in all keep the bar: 0 %"}
    assert odds.report(summary)["verdict"] == ("Verdict", summary["verdict"])
    assert deliver.OfMany(summary).md().startswith("### hand-made: recommended settings\n")


def test_headroom_shows_the_knob_with_most_room() -> None:
    chart = figures_room.room(summaries.headroom())
    assert chart is not None
    # 4 to 6 replicas: 50 %; 4 GiB to 3 GiB: 25 %; a limit without an answer has no bar
    assert [(b.label, b.value) for b in chart.panels[0].bars] == [
        ("web: replicas", 50.0), ("node: daemons, memory", 25.0),
    ]  # fmt: skip
    assert chart.title == "Most room: web: replicas, 50 % up, the others as they are"
    assert figures_room.room(summaries.headroom() | {"rooms": []}) is None


def test_recommendation_shows_memory_against_risk_of_each_rule() -> None:
    chart = figures_room.rules(summaries.recommendation())
    assert chart is not None
    assert chart.title == "1.88 GiB of limits bear a risk of 0 % (0 to 3.7 %)"
    dots = chart.panels[0].dots
    assert [(d.label, d.x, d.picked) for d in dots] == [
        ("recommended", 1920.0, True), ("as it is now", 3072.0, False), ("p99", 1800.0, False),
    ]  # fmt: skip
    assert figures_room.rules(summaries.recommendation() | {"bad": None}) is None
