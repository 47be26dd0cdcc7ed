"""A short part of ``make verify``: three worlds, two seeds, the coarsest granules."""

from __future__ import annotations

import pytest

from tests.verification.convergence import Distance, Line, draw, measure, summarise
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
    assert first.time_bias == pytest.approx(-0.01)
    assert first.usage_bias == pytest.approx(-0.05)
    assert (second.victims, second.passes) == (0.0, False)


def test_draw_leaves_a_picture(tmp_path: object) -> None:
    import pathlib

    folder = pathlib.Path(str(tmp_path)) / "new"
    path = draw(CASES[0], [_distance(1, 0.01)], folder)
    assert path.read_text().count("<svg") == 1
