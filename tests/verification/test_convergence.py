"""A short part of ``make verify``: three worlds, two seeds, the coarsest granules."""

from __future__ import annotations

import pytest

from tests.verification.convergence import (
    Distance,
    Line,
    draw,
    mean_of,
    measure,
    summarise,
    table,
    verdicts,
)
from tests.verification.convergence_cases import CASES, Case

SHORT = ("file-thrash", "memory-high", "small-limit")


def _case(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


@pytest.mark.parametrize("name", SHORT)
def test_coarsest_granule_gives_the_same_result(name: str) -> None:
    found = measure(_case(name), (1, 2), steps=(3,))
    for d in found:
        assert d.same_victims
        assert d.time_ok, f"first kill {d.later:+.2%}"
        assert d.usage_ok, f"usage {d.usage_share:.2%}, {d.usage_granules:.1f} granules"


def test_memory_high_alone_kills_nobody() -> None:
    found = measure(_case("memory-high"), (1,), steps=(3,))
    assert {d.later for d in found} == {0.0}


def _distance(step: int, later: float, *, same: bool = True) -> Distance:
    return Distance(1, step, same, later, 0.05, 3.0, {"a": -0.05, "b": 0.01}, 1.0, 1.0, 0.1)


def test_summarise_counts_what_is_outside_and_keeps_the_sign() -> None:
    found = [_distance(1, -0.03), _distance(1, 0.01), _distance(2, 0.0, same=False)]
    first, second = summarise(CASES[0], found)
    assert isinstance(first, Line)
    assert (first.time_outside, first.usage_outside, first.runs) == (1, 2, 2)
    assert first.time_bias.value == pytest.approx(-0.01)
    assert first.usage_bias.value == pytest.approx(-0.05)
    assert (second.victims, second.passes) == (0.0, False)


def test_mean_of_three_has_students_interval() -> None:
    found = mean_of([0.01, 0.02, 0.03])
    assert found.value == pytest.approx(0.02)
    assert found.half == pytest.approx(4.3027 * 0.01 / 3**0.5, rel=1e-4)
    assert found.farthest == pytest.approx(found.value + found.half)
    assert mean_of([0.01]).half == float("inf")


def _line(step: int, later: list[float], usage: float = 0.0) -> list[Distance]:
    return [Distance(i, step, True, t, usage, 3.0, {"a": usage}, 1.0, 1.0, 0.1)
            for i, t in enumerate(later)]  # fmt: skip


@pytest.mark.parametrize(
    ("chance", "coarse", "holds"),
    [
        ([0.0] * 20, [0.0] * 19 + [0.5], True),  # one seed of twenty may be off
        ([0.0] * 20, [0.0] * 18 + [0.5, -0.5], False),  # two may not, whatever the mean
        ([0.03, -0.03] * 10, [0.03, -0.03] * 10, True),  # chance moves seeds: the mean is asked
        ([0.03, -0.03] * 10, [0.04, -0.02] * 10, False),  # 1 % off and too few seeds to be sure
        ([0.03, -0.03] * 10, [0.04, -0.02] * 50, True),
        ([0.03, -0.03] * 10, [0.06, 0.0] * 50, False),
    ],
)
def test_verdicts_ask_the_seeds_or_the_means(
    chance: list[float], coarse: list[float], holds: bool
) -> None:
    lines = summarise(CASES[0], _line(0, chance) + _line(1, coarse))
    assert verdicts(lines) == {1: holds}
    assert table(CASES[0], lines)[1].endswith(
        f"| {'yes' if holds else 'no'} ({'seeds' if chance[0] == 0.0 else 'means'}) |"
    )


def test_draw_leaves_a_picture(tmp_path: object) -> None:
    import pathlib

    folder = pathlib.Path(str(tmp_path)) / "new"
    path = draw(CASES[0], [_distance(1, 0.01)], folder)
    assert path.read_text().count("<svg") == 1
