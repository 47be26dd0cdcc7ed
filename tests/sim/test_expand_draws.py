from __future__ import annotations

import hashlib
import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capplan.sim.expand_draws import Draws, normals, quantile
from capplan.spec.common import Dist

SCORES = st.floats(-8, 8)


def dist(**kind: object) -> Dist[float]:
    return Dist[float].model_validate(kind)


def test_normals_are_the_same_on_every_machine() -> None:
    # a change of these numbers changes every seeded result: it needs a note in the changelog
    first = normals(3, 1, 0, "web", 0, "worker")
    assert first.tolist() == pytest.approx(
        [-0.38448351577970075, -0.14399920577721026, 0.8790449163750697]
    )


def test_normals_names_do_not_run_together() -> None:
    assert normals(1, 1, 0, "a", "bc") != normals(1, 1, 0, "ab", "c")


@pytest.mark.parametrize("other", [(2, 0, "web"), (1, 1, "web"), (1, 0, "web2")])
def test_normals_each_part_of_the_key_counts(other: tuple[int, int, str]) -> None:
    assert normals(1, 1, 0, "web") != normals(1, *other)


def test_normals_are_those_of_numpys_own_stream() -> None:
    normals(3, 5, 0, "odd")  # what a stream left over is not the next one's
    key = hashlib.blake2b(b"\1\0\0\x001\1\0\0\x000\3\0\0\0web", digest_size=16)
    philox = np.random.Philox(key=int.from_bytes(key.digest(), "little"))
    expected = np.random.Generator(philox).standard_normal(40)
    assert normals(40, 1, 0, "web").tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("given_dist", "score", "value"),
    [
        (dist(constant=5), 2.0, 5.0),
        (dist(normal={"mean": 48, "sd": 6}), 1.0, 54.0),
        (dist(normal={"mean": 48, "sd": 0, "max": 40}), 1.0, 40.0),
        (dist(lognormal={"median": 10, "sigma": 0.5}), 1.0, 10 * math.exp(0.5)),
        (dist(lognormal={"median": 10, "sigma": 0}), 1.0, 10.0),
        (dist(uniform={"low": 0, "high": 8}), 0.0, 4.0),
        (dist(exponential={"mean": 600}), 0.0, 600 * math.log(2)),
        (dist(choice={"values": (1, 2, 3)}), 0.0, 2.0),
        (dist(choice={"values": (1, 2), "weights": (3, 1)}), 0.6, 1.0),
        (dist(choice={"values": (1, 2), "weights": (3, 1)}), 0.7, 2.0),
    ],
)
def test_quantile_worked_examples(given_dist: Dist[float], score: float, value: float) -> None:
    assert quantile(given_dist, score) == pytest.approx(value, rel=1e-9)


@given(score=SCORES)
def test_quantile_normal_stays_within_its_bounds(score: float) -> None:
    bounded = dist(normal={"mean": 10, "sd": 20, "min": 5, "max": 12})
    assert 5 <= quantile(bounded, score) <= 12
    assert quantile(dist(normal={"mean": 1, "sd": 20}), score) >= 0


@given(score=SCORES)
def test_quantile_lognormal_stays_below_its_bound(score: float) -> None:
    assert 0 < quantile(dist(lognormal={"median": 10, "sigma": 1, "max": 12}), score) <= 12


@pytest.mark.parametrize(
    "kind",
    [
        {"normal": {"mean": 48, "sd": 6}},
        {"lognormal": {"median": 10, "sigma": 0.5, "max": 20}},
        {"uniform": {"low": 1, "high": 8}},
        {"exponential": {"mean": 600}},
    ],
)
@given(low=SCORES, high=SCORES)
def test_quantile_rises_with_the_score(kind: dict[str, object], low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert quantile(dist(**kind), low) <= quantile(dist(**kind), high)


def test_quantile_cut_normal_has_its_own_mean() -> None:
    """Cut at 0, not piled up there: a half normal's mean is sd * sqrt(2 / pi)."""
    half = dist(normal={"mean": 0, "sd": 1})
    n = 2000
    scores = [NormalDist().inv_cdf((i + 0.5) / n) for i in range(n)]
    mean = sum(quantile(half, s) for s in scores) / n
    assert mean == pytest.approx(math.sqrt(2 / math.pi), rel=2e-3)


def test_sample_does_not_depend_on_the_order_of_draws() -> None:
    spread = dist(uniform={"low": 0, "high": 1})
    one, two = Draws(1, own=("web",)), Draws(1, own=("web",))
    late = [one.sample(spread, "x", ordinal=k) for k in (40, 0, 3)]
    early = [two.sample(spread, "x", ordinal=k) for k in (0, 3, 40)]
    assert late == [early[2], early[0], early[1]]


def pairs(correlation: float, count: int = 4000) -> np.ndarray:
    one = Draws(1, own=("web", 0), common=("web",), correlation=correlation)
    two = Draws(1, own=("web", 1), common=("web",), correlation=correlation)
    return np.array([(one.score(k, "x"), two.score(k, "x")) for k in range(count)])


@pytest.mark.parametrize("correlation", [0.0, 0.7, 1.0])
def test_score_of_replicas_is_correlated_as_asked(correlation: float) -> None:
    scores = pairs(correlation)
    found = float(np.corrcoef(scores.T)[0, 1])
    assert found == pytest.approx(correlation, abs=0.05)
    # each stays standard normal, whatever it shares
    assert scores.std(axis=0) == pytest.approx([1, 1], abs=0.05)
    assert scores.mean(axis=0) == pytest.approx([0, 0], abs=0.05)


def test_score_of_another_container_shares_nothing() -> None:
    one = Draws(1, own=("web", 0), common=("web",), correlation=1.0)
    two = Draws(1, own=("db", 0), common=("db",), correlation=1.0)
    assert one.score(0, "x") != two.score(0, "x")


def test_a_blend_is_the_weighted_sum_of_its_replicates_scores() -> None:
    whole = [Draws(1, replicate=r, own=("web",)) for r in (4, 9)]
    blended = Draws(1, replicate=77, own=("web",), blend=((4, 0.8), (9, 0.6)))
    for ordinal in range(20):
        parts = [draws.score(ordinal, "size") for draws in whole]
        assert blended.score(ordinal, "size") == pytest.approx(0.8 * parts[0] + 0.6 * parts[1])
    noise = 0.8 * whole[0].normals(5, "jitter") + 0.6 * whole[1].normals(5, "jitter")
    assert blended.normals(5, "jitter") == pytest.approx(noise)


def test_a_blend_of_one_replicate_is_that_replicate() -> None:
    alone, blended = Draws(1, replicate=4), Draws(1, replicate=5, blend=((4, 1.0),))
    assert blended.score(3, "x") == alone.score(3, "x")
    assert blended.uniform("y") == alone.uniform("y")


def test_blended_scores_are_standard_normal_and_shared_ones_stay_correlated() -> None:
    own = [
        Draws(1, own=(i,), common=("c",), correlation=0.5, blend=((1, 0.6), (2, 0.8)))
        for i in range(2)
    ]
    scores = np.array([[d.score(n, "x") for n in range(4000)] for d in own])
    assert scores.std() == pytest.approx(1.0, abs=0.05)
    assert np.corrcoef(scores)[0, 1] == pytest.approx(0.5, abs=0.05)
