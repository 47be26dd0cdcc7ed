"""memory.png: what adds up, what is said, and that bytes repeat."""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import pytest

from capplan.plan.outcome import analyse
from capplan.plan.outcome_context import Context
from capplan.report import picture
from tests.plan.synthetic import GIB, MIB, Maker, global_kill, memcg_kill, quiet, throttled


def test_layers_add_up_to_the_node() -> None:
    bands = picture.layers(Context(global_kill().run()))
    np.testing.assert_allclose(np.sum([band.values for band in bands], axis=0), GIB)


def test_layers_largest_first_and_the_rest_together() -> None:
    made = Maker()
    for n in range(9):
        made.container(f"c{n}", [(0, 10 + n)])
    bands = picture.layers(Context(made.run()))
    labels = [band.label for band in bands]
    assert labels == ["c8", "c7", "c6", "c5", "c4", "c3", "3 more containers", "free"]
    assert bands[6].values[0] == pytest.approx(33 * MIB)


def test_layers_have_colours_of_their_own() -> None:
    bands = picture.layers(Context(quiet().run()))
    assert len({band.colour for band in bands}) == len(bands)


def test_figure_title_states_the_finding() -> None:
    run = global_kill().run()
    figure = picture.figure(analyse(run), run)
    title = figure.axes[0].get_title(loc="left")
    assert title == (
        "hand-made: does not fit: victim is OOM-killed at 1 min 30 s: the node is out of memory"
    )


def test_figure_marks_hang_from_the_top() -> None:
    run = quiet().run()
    lines = picture.figure(analyse(run), run).axes[0].get_lines()
    levels = {line.get_label(): line.get_ydata()[0] for line in lines}
    assert levels["free = min marks (11 MiB)"] == pytest.approx(1013)


@pytest.mark.parametrize(("make", "panels"), [(quiet, 1), (memcg_kill, 3), (throttled, 2)])
def test_figure_has_a_panel_for_the_limit_and_for_swap(make: object, panels: int) -> None:
    run = make().run()  # type: ignore[operator]
    assert len(picture.figure(analyse(run), run).axes) == panels


@pytest.mark.parametrize(
    ("duration", "label", "ticks"),
    [(100.0, "s", 10), (7200.0, "min", 900), (86400.0, "h", 10800), (30.0, "s", 5)],
)
def test_figure_time_axis_has_whole_ticks(duration: float, label: str, ticks: float) -> None:
    run = Maker(duration=duration).container("web", [(0, 10)]).run()
    axes = picture.figure(analyse(run), run).axes[-1]
    assert axes.get_xlabel() == f"run time [{label}]"
    np.testing.assert_allclose(np.diff(axes.xaxis.get_majorticklocs()), ticks)


def test_figure_legend_is_outside_the_data() -> None:
    run = memcg_kill().run()
    figure = picture.figure(analyse(run), run)
    figure.draw_without_rendering()
    for axes in figure.axes:
        legend = axes.get_legend()
        assert legend is not None
        assert legend.get_window_extent().x0 >= axes.get_window_extent().x1


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_draw_same_run_gives_same_bytes(tmp_path: pathlib.Path, suffix: str) -> None:
    for name in ("a", "b"):
        run = memcg_kill().run()
        picture.draw(analyse(run), run, tmp_path / f"{name}.{suffix}")
    first = (tmp_path / f"a.{suffix}").read_bytes()
    assert first == (tmp_path / f"b.{suffix}").read_bytes()
    assert len(first) > 5000


def test_draw_foreign_name_is_neither_maths_nor_control(tmp_path: pathlib.Path) -> None:
    run = Maker().container("$\\frac{$\x1b_hidden", [(0, 10)]).run()
    picture.draw(analyse(run), run, tmp_path / "a.svg")
    assert "\x1b" not in (tmp_path / "a.svg").read_text()


def test_figure_leaves_pyplot_alone() -> None:
    run = quiet().run()
    picture.figure(analyse(run), run)
    assert "matplotlib.pyplot" not in sys.modules
