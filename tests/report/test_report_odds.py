"""Pages of many runs: what their pictures find, and that each kind is whole."""

from __future__ import annotations

import copy
import json
import pathlib
from typing import Any

import numpy as np
import pytest

from capplan.errors import InputError
from capplan.report import deliver, figures_odds, odds
from tests.plan.synthetic import quiet
from tests.report import summaries
from tests.report.pages import SCRIPT, written

KINDS: dict[str, dict[str, Any]] = {
    "risk": summaries.risk(), "sweep": summaries.sweep(80, 30, 2, 0, 0),
    "comparison": summaries.compare(), "headroom": summaries.headroom(),
    "recommendation": summaries.recommendation(),
}  # fmt: skip


def test_first_kill_curve_says_when_half_have_come() -> None:
    chart = figures_odds.first_kill(summaries.risk())
    assert chart is not None
    # the first kill at step 51, the fortieth at step 90: half of them by step 70, 2520 s
    assert chart.title == (
        "A kill by the end of 40 % (30.9 % to 49.8 %) of the runs; half of these kills have come "
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
    said = "Who dies when who grows: in 37.5 % of the first kills the one that asked for memory"
    assert said in odds.write(summaries.risk())
    (table,) = (t for _, key, t in odds.report_tables(summaries.risk()) if key == "matrix")
    assert table.caption == said
    assert [column.title for column in table.columns] == ["asked for memory", "web-0", "db"]
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["db", "25", "10"], ["web-0", "5", "-"],
    ]  # fmt: skip


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
    assert chart.title == "a decides most: 60 % of kills by itself"


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
    assert chart.title.startswith("67584 kB leaves 3.9 GiB to use at a risk of 0 %")


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


def test_what_never_happened_has_no_column() -> None:
    ((_, _, table), *_) = odds.report_tables(summaries.risk())
    assert [column.title for column in table.columns] == ["who", "killed", "throttled"]
    assert [cell.text for cell in table.rows[0]] == [
        "web",
        "40 % (30.9 % to 49.8 %)",
        "0 (below 3.7 %)",
    ]


def test_a_section_without_content_is_left_out() -> None:
    report = odds.report(summaries.headroom())
    assert [name for name, _ in report["sections"]] == ["change", "node", "methods"]


def test_the_pick_can_be_copied() -> None:
    assert odds.change(summaries.compare())["yaml"] == (
        "node:\n  sysctl:\n    vm.min_free_kbytes: 67584"
    )


def test_the_recommendation_stands_beside_the_rules() -> None:
    (*_, (_, _, rivals), _) = odds.report_tables(summaries.recommendation())
    rows = [[cell.text for cell in row] for row in rivals.rows]
    assert rows[0] == ["recommended here", "1.88 GiB", "0 (below 3.7 %)"]
    assert "the least that holds" in deliver.OfMany(summaries.recommendation()).csv()
    assert rows[2] == ["p99", "1.76 GiB", "12 % (7 % to 19.8 %)"]


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
    assert odds.figure(metric, value) == said


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
