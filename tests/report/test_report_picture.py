"""memory.png and the charts: what adds up, what is said, and that bytes repeat."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest

from capplan.plan.outcome import analyse
from capplan.plan.outcome_context import Context
from capplan.report import draw, figures_memory, picture
from capplan.report.chart import Chart, Curve, Panel, alike, thinned
from tests.plan.synthetic import GIB, MIB, Maker, global_kill, memcg_kill, quiet, throttled


def _chart(maker: Maker) -> Chart:
    run = maker.run()
    return picture.chart(analyse(run), run)


def test_bands_add_up_to_the_node() -> None:
    bands = figures_memory.bands_of(Context(global_kill().run()))
    np.testing.assert_allclose(np.sum([band.values for band in bands], axis=0), GIB)


def test_bands_largest_first_and_the_rest_together() -> None:
    made = Maker()
    for n in range(9):
        made.container(f"c{n}", [(0, 10 + n)])
    bands = figures_memory.bands_of(Context(made.run()))
    labels = [band.label for band in bands]
    assert labels == ["c8", "c7", "c6", "c5", "c4", "c3", "3 more containers", "free"]
    assert bands[6].values[0] == pytest.approx(33 * MIB)


def test_bands_have_colours_of_their_own() -> None:
    bands = figures_memory.bands_of(Context(quiet().run()))
    assert len({band.colour for band in bands}) == len(bands)


def test_title_states_the_finding() -> None:
    assert _chart(global_kill()).title == (
        "hand-made: does not fit: victim is OOM-killed at 1 min 30 s: the node is out of memory"
    )


def test_marks_hang_from_the_top() -> None:
    (panel,) = _chart(quiet()).panels
    levels = {rule.label: rule.level for rule in panel.rules}
    assert levels["free = min marks (11 MiB)"] == pytest.approx(1013)


@pytest.mark.parametrize(("make", "panels"), [(quiet, 1), (memcg_kill, 3), (throttled, 2)])
def test_a_panel_for_the_limit_and_for_swap(make: Callable[[], Maker], panels: int) -> None:
    assert len(_chart(make()).panels) == panels


@pytest.mark.parametrize(
    ("duration", "label", "ticks"),
    [(100.0, "s", 10), (7200.0, "min", 900), (86400.0, "h", 10800), (30.0, "s", 5)],
)
def test_time_axis_has_whole_ticks(duration: float, label: str, ticks: float) -> None:
    chart = _chart(Maker(duration=duration).container("web", [(0, 10)]))
    axes = draw.figure(chart, draw.WIDE).axes[-1]
    assert axes.get_xlabel() == f"run time [{label}]"
    np.testing.assert_allclose(np.diff(axes.xaxis.get_majorticklocs()), ticks)


def test_a_run_of_one_sample_is_drawn() -> None:
    chart = Chart(
        "one", "", "", np.zeros(1), (Panel("m", "MiB", (Curve("a", np.ones(1), "blue"),)),)
    )
    assert chart.ends == (0.0, 1.0)
    assert draw.save(chart, "png").startswith(b"\x89PNG")


def test_legend_is_outside_the_data() -> None:
    figure = draw.figure(_chart(memcg_kill()), draw.WIDE + draw.LEGEND, alone=True)
    figure.draw_without_rendering()
    for axes in figure.axes:
        legend = axes.get_legend()
        assert legend is not None
        assert legend.get_window_extent().x0 >= axes.get_window_extent().x1


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_same_run_gives_same_bytes(kind: str) -> None:
    first = draw.save(_chart(memcg_kill()), kind)
    assert first == draw.save(_chart(memcg_kill()), kind)
    assert len(first) > 5000


def test_foreign_name_is_neither_maths_nor_control() -> None:
    chart = _chart(Maker().container("$\\frac{$\x1b_hidden", [(0, 200)]))
    text = draw.save(chart, "svg").decode()
    assert "\x1b" not in text
    assert "$\\frac{$\\x1b_hidden" in text


def test_foreign_name_that_begins_with_a_line_is_not_hidden() -> None:
    text = draw.save(_chart(Maker().container("_web", [(0, 200)])), "svg").decode()
    assert "_web" in text


def test_pyplot_is_left_alone() -> None:
    draw.figure(_chart(quiet()))
    assert "matplotlib.pyplot" not in sys.modules


def _spiked(samples: int) -> Chart:
    values = np.zeros(samples)
    values[samples // 3] = 7.0
    panel = Panel("y", "MiB", (Curve("c", values, "blue"),))
    return Chart("c", "t", "a", np.arange(float(samples)), (panel,))


def test_thinned_keeps_ends_and_the_only_spike() -> None:
    kept = thinned(_spiked(10_000), 200)
    assert {0, 3333, 9999} <= set(kept.tolist())
    assert len(kept) <= 202


def test_thinned_leaves_a_short_chart_alone() -> None:
    assert thinned(_spiked(100), 200).tolist() == list(range(100))


def test_alike_gives_both_the_larger_scale() -> None:
    low, high = _spiked(100), _spiked(100)
    low.panels[0].curves[0].values[33] = 2.0
    first, second = alike(low, high)
    assert first.panels[0].top == second.panels[0].top == pytest.approx(7.35)
