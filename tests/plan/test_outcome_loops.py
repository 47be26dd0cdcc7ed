"""Whether a loop settles, from its steps."""

from __future__ import annotations

import pytest

from capplan.plan.outcome_loops import judge

UP = ((0.0, 300.0), (157.0, 488.0), (337.0, 683.0))


@pytest.mark.parametrize(
    ("steps", "kill", "end", "state"),
    [
        (UP, 362.0, 2400.0, "settled"),
        (UP, 362.0, 600.0, "open"),
        (UP, 2300.0, 2400.0, "stuck"),
        ((*UP, (2250.0, 900.0)), 2300.0, 2400.0, "diverges"),
        (((0.0, 2.0), (60.0, 3.0), (500.0, 2.0), (900.0, 3.0)), -1.0, 1000.0, "oscillates"),
        (((0.0, 2.0), (60.0, 3.0), (500.0, 2.0)), -1.0, 941.0, "settled"),
        (((0.0, 2.0), (60.0, 3.0), (500.0, 2.0)), -1.0, 939.0, "open"),
        (((0.0, 2.0),), 10.0, 1000.0, "idle"),
    ],
)
def test_judge(steps: tuple[tuple[float, float], ...], kill: float, end: float, state: str) -> None:
    assert judge(steps, kill, end) == state
