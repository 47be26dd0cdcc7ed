"""Splitting: small probabilities whose truth is known, by themselves and through the engine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from capplan.plan import rare, risk
from capplan.plan.executor import LazyPool
from capplan.plan.point import variant
from capplan.plan.store import Store
from capplan.plan.work import run_point
from capplan.sim.expand_draws import Draws

UNIT = NormalDist()


class Largest:
    """The incident: the largest of five drawn numbers is above a bound. Its chance is known."""

    def __init__(self, seed: int, p: float, names: int = 5) -> None:
        self.seed, self.names = seed, names
        self.bound = UNIT.inv_cdf((1 - p) ** (1 / names))
        self.runs = 0

    def __call__(self, samples: Sequence[rare.Sample]) -> list[float]:
        self.runs += len(samples)
        return [self.score(sample) for sample in samples]

    def score(self, sample: rare.Sample) -> float:
        draws = Draws(self.seed, sample.replicate, blend=sample.blend)
        top = max(draws.score(0, f"c{i}") for i in range(self.names)) / self.bound
        return 2 - 0.5 / top if top >= 1 else min(0.5 + 0.5 * top, math.nextafter(1, 0))


def test_splitting_finds_a_probability_that_plain_runs_do_not_see() -> None:
    found = []
    for seed in range(5):
        evaluate = Largest(seed, 1e-4, names=2)
        result = rare.split(evaluate, 1000, seed)
        assert evaluate.runs == result.runs <= 1000
        assert result.levels == tuple(sorted(result.levels))
        found.append(result)
    reached = [one for one in found if one.reached]
    assert len(reached) >= 3
    assert np.mean([one.p for one in found]) == pytest.approx(1e-4, rel=0.7)
    assert sum(one.low <= 1e-4 <= one.high for one in found) >= 4


def test_splitting_is_the_same_again() -> None:
    assert rare.split(Largest(3, 1e-3), 600, 3) == rare.split(Largest(3, 1e-3), 600, 3)
    assert rare.split(Largest(3, 1e-3), 600, 3) != rare.split(Largest(4, 1e-3), 600, 4)


def test_what_is_not_rare_is_a_plain_proportion() -> None:
    result = rare.split(Largest(1, 0.3), 1000, 1)
    assert result.runs == 200
    assert result.reached
    assert result.low <= 0.3 <= result.high


def test_what_cannot_happen_has_an_upper_bound_only() -> None:
    def never(samples: Sequence[rare.Sample]) -> list[float]:
        return [0.5 for _ in samples]

    result = rare.split(never, 1000, 1)
    assert (result.p, result.low, result.reached) == (0.0, 0.0, False)
    assert result.high < 0.02  # 200 runs without it
    assert result.note == "most runs come equally near"


def test_a_score_is_higher_the_nearer_a_run_came() -> None:
    row = {"node.kill_t": None, "node.fullness": 0.7}
    assert rare.score(row, "kill", 60.0) == 0.7
    assert rare.score({**row, "node.fullness": 1.0}, "kill", 60.0) < 1.0
    late, early = ({**row, "node.kill_t": t} for t in (50.0, 5.0))
    assert 1.0 < rare.score(late, "kill", 60.0) < rare.score(early, "kill", 60.0) < 2.0


NODE = """\
capplan: 1
node: {memory: 512Mi, cpus: 2, kernel: "6.12", system: {kernel: 40Mi, daemons: {memory: 20Mi}}}
cgroup: {version: v2}
containers:
  leak:
    memory.max: 100Mi
    profile:
      capplan: 1
      profile: leak
      processes:
        main:
          regions: {heap: {kind: anon, size: 8Mi}}
          phases: [{grow: {region: heap, to: SIZE, rate: 100Mi/s}}]
run: {duration: 2s, seed: 5}
"""


@pytest.mark.slow
def test_splitting_through_the_engine_agrees_with_the_arithmetic(tmp_path: Path) -> None:
    def node(size: str) -> Path:
        path = tmp_path / "node.yaml"
        path.write_text(NODE.replace("SIZE", size))
        return path

    def killed(mib: float) -> bool:
        made = variant(node(f"{round(mib * 1024)}Ki"))
        assert made.spec is not None
        return bool(run_point(made.spec, 5, 1)["node.kills"])

    low, high = 90.0, 110.0  # the size from which on it is killed
    assert not killed(low)
    assert killed(high)
    while high - low > 0.1:
        middle = (low + high) / 2
        low, high = (low, middle) if killed(middle) else (middle, high)
    sd = (high - 60.0) / UNIT.inv_cdf(1 - 5e-3)
    drawn = node(f"{{normal: {{mean: 60Mi, sd: {round(sd * 1024)}Ki}}}}")
    with Store(tmp_path / "runs.sqlite") as store, LazyPool(2) as pool:
        options = {"seed": 5, "incident": "kill", "runs": 500, "pool": pool}
        result = risk.rare_risk(variant(drawn), store, **options)  # type: ignore[arg-type]
        assert result.reached
        assert result.low <= 5e-3 <= result.high
        assert result.p == pytest.approx(5e-3, rel=0.8)
        before = len(store)
        again = risk.rare_risk(variant(drawn), store, **options)  # type: ignore[arg-type]
        assert again == result
        assert len(store) == before <= 500  # nothing was computed twice
