"""Designs: what points they hold; sensitivity: against functions whose indices are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from capplan.errors import InputError
from capplan.plan.design import Design, design, in_range
from capplan.plan.sensitivity import first_order, sensitivity
from capplan.spec.sweep import Range, SweepSpec, load_sweep, quantity


def spec(tmp_path: Path, text: str) -> SweepSpec:
    path = tmp_path / "sweep.yaml"
    path.write_text(f"capplan: 1\nnode: node.yaml\n{text}")
    return load_sweep(path)


KNOBS = """\
knobs:
  vm.swappiness: [10, 60, 100]
  containers.web.memory.max: {low: 400Mi, high: 800Mi, steps: 2}
"""


def test_a_grid_holds_every_combination(tmp_path: Path) -> None:
    made = design(spec(tmp_path, KNOBS), 1)
    assert [tuple(s.values()) for s in made.settings] == [
        ("10", "400Mi"), ("10", "800Mi"), ("60", "400Mi"), ("60", "800Mi"), ("100", "400Mi"),
        ("100", "800Mi"),
    ]  # fmt: skip
    assert made.levels == (3, 2)


def test_paired_knobs_move_together(tmp_path: Path) -> None:
    text = "design: paired\nknobs: {a.b: [1, 2, 3], c: [true, false, true]}\n"
    made = design(spec(tmp_path, text), 1)
    assert [tuple(s.values()) for s in made.settings] == [
        ("1", "true"), ("2", "false"), ("3", "true"),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["latin", "sobol"])
def test_designs_that_draw_fill_each_slice_of_each_knob(tmp_path: Path, kind: str) -> None:
    text = f"design: {kind}\npoints: 16\n{KNOBS}"
    made = design(spec(tmp_path, text), 3)
    assert len(made.settings) == 16
    for column in made.unit.T:
        assert sorted((column * 16).astype(int)) == list(range(16))
    assert {s["vm.swappiness"] for s in made.settings} == {"10", "60", "100"}
    again = design(spec(tmp_path, text), 3)
    assert again.settings == made.settings
    assert design(spec(tmp_path, text), 4).settings != made.settings


def test_a_saltelli_design_is_a_b_and_a_with_columns_of_b(tmp_path: Path) -> None:
    made = design(spec(tmp_path, f"design: saltelli\npoints: 8\n{KNOBS}"), 3)
    a, b, one, two = made.unit.reshape(4, 8, 2)
    assert np.array_equal(one, np.column_stack([b[:, 0], a[:, 1]]))
    assert np.array_equal(two, np.column_stack([a[:, 0], b[:, 1]]))


@pytest.mark.parametrize(
    ("given", "place", "value"),
    [
        ({"low": "400Mi", "high": "900Mi", "round": "1Mi"}, 0.3333, "567Mi"),
        ({"low": 0, "high": "1Gi"}, 0.5, "512Mi"),
        ({"low": "1min", "high": "1h"}, 0.5, "1830000000000ns"),
        ({"low": 0.1, "high": 0.3}, 0.5, "0.2"),
        ({"low": 1, "high": 10_000, "scale": "log"}, 0.25, "10"),
        ({"low": "1Mi/s", "high": "3Mi/s"}, 0.5, "2097152.0/s"),
    ],
)
def test_a_range_is_written_as_its_ends_are(
    given: dict[str, object], place: float, value: str
) -> None:
    assert in_range(Range.model_validate(given), place) == value
    assert quantity(in_range(Range.model_validate(given), 0.0))[0] == quantity(given["low"])[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("knobs: {a: [1]}\npoints: 8\n", "points with design: grid"),
        ("design: sobol\nknobs: {a: [1]}\n", "design: sobol without points"),
        ("design: sobol\npoints: 100\nknobs: {a: [1]}\n", "such as 128"),
        ("knobs: {a: {low: 1, high: 2}}\n", "a: a range without steps in a grid"),
        ("design: paired\nknobs: {a: [1, 2], b: [1]}\n", "paired knobs of different lengths"),
        ("knobs: {a: {low: 2Gi, high: 1Gi, steps: 3}}\n", "low is not below high"),
        ("knobs: {a: {low: 1s, high: 1Gi, steps: 3}}\n", "of different kinds"),
        ("knobs: {a: {low: 0, high: 1, steps: 3, scale: log}}\n", "a log scale from 0"),
        ("knobs: {}\n", r"sweep\.yaml:3:8: knobs"),
        ("knob: {a: [1]}\n", r"sweep\.yaml:3:1: knob: unknown key"),
    ],
)
def test_what_is_wrong_with_a_sweep_file_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        spec(tmp_path, text)


def ishigami(unit: np.ndarray) -> np.ndarray:
    x = np.pi * (2 * unit - 1)
    made: np.ndarray = (
        np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0])
    )
    return made


# Ishigami and Homma (1990), a = 7, b = 0.1
FIRST, TOTAL = (0.3139, 0.4424, 0.0), (0.5576, 0.4424, 0.2437)
THREE = "knobs: {x: {low: 0, high: 1}, y: {low: 0, high: 1}, z: {low: 0, high: 1}}\n"


def test_saltelli_indices_are_those_of_ishigami(tmp_path: Path) -> None:
    made = design(spec(tmp_path, f"design: saltelli\npoints: 1024\n{THREE}"), 5)
    found = sensitivity(made, ["x", "y", "z"], "f", ishigami(made.unit), 1)
    assert [index.knob for index in found] == ["x", "y", "z"]  # by total order
    for index, first, total in zip(found, FIRST, TOTAL):
        assert index.first == pytest.approx(first, abs=0.05)
        assert index.total == pytest.approx(total, abs=0.05)
        assert index.first_low <= first <= index.first_high
        assert index.total_low is not None
        assert index.total_high is not None
        assert index.total_low <= total <= index.total_high
    assert sensitivity(made, ["x", "y", "z"], "f", ishigami(made.unit), 1) == found


@pytest.mark.parametrize("kind", ["latin", "sobol"])
def test_first_order_from_any_design_is_that_of_ishigami(tmp_path: Path, kind: str) -> None:
    made = design(spec(tmp_path, f"design: {kind}\npoints: 512\n{THREE}"), 5)
    found = sensitivity(made, ["x", "y", "z"], "f", ishigami(made.unit), 1)
    by_knob = {index.knob: index for index in found}
    for knob, first in zip("xyz", FIRST):
        assert by_knob[knob].first == pytest.approx(first, abs=0.08)
        assert by_knob[knob].first_low - 0.03 <= first <= by_knob[knob].first_high + 0.03
        assert by_knob[knob].total is None


def test_first_order_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(20):
        unit = rng.random((300, 3))
        made = Design("latin", [{}] * 300, unit, (0, 0, 0))
        found = sensitivity(made, ["x", "y", "z"], "f", ishigami(unit), 1)
        held += sum(i.first_low <= FIRST["xyz".index(i.knob)] <= i.first_high for i in found)
    assert 0.87 <= held / 60 <= 1.0


def test_first_order_on_a_full_grid_is_exact() -> None:
    x, y = np.meshgrid(np.arange(3), np.arange(2), indexing="ij")
    values = (x + 10 * y).ravel().astype(float)
    total = values.var()
    assert first_order(values, x.ravel(), exact=True) == pytest.approx(np.arange(3).var() / total)
    assert first_order(values, y.ravel(), exact=True) == pytest.approx(25 / total)


def test_a_metric_that_does_not_vary_or_is_missing_has_no_indices() -> None:
    made = Design("grid", [{}] * 4, np.array([[0.1], [0.4], [0.6], [0.9]]), (4,))
    assert sensitivity(made, ["x"], "f", np.full(4, 2.0), 1) == []
    assert sensitivity(made, ["x"], "f", np.full(4, np.nan), 1) == []
    (index,) = sensitivity(made, ["x"], "f", np.array([0.0, 1.0, np.nan, 3.0]), 1)
    assert index.first > 0.5
