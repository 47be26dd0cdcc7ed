"""Recommended limits, where the answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import capplan

MIB = 1 << 20


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, uncertain_text: str) -> object:
    path = tmp_path_factory.mktemp("node") / "node.yaml"
    path.write_text(uncertain_text, encoding="utf-8")
    return capplan.recommend(path, max_risk=0.1, replicates=40, jobs=1)


def test_the_limit_is_the_quantile_of_the_demand(result: capplan.RecommendationResult) -> None:
    """Demand is uniform from 60 to 140 MiB, and at most 2 of 40 runs may fail."""
    found = result.recommendation
    (web,) = found.containers
    assert result.fits
    assert 126 * MIB <= web.limit <= 144 * MIB
    assert web.high is not None
    assert web.high <= web.limit
    assert web.present_limit == 100 * MIB
    assert 60 * MIB <= web.request <= 125 * MIB
    assert "costs" in web.reason
    assert found.present_bad.p == pytest.approx(0.5, abs=0.25)
    assert found.bad.count == 0 or (found.bad.p or 0.0) < 0.1


def test_percentile_rules_are_run_beside_it(result: capplan.RecommendationResult) -> None:
    largest, daily = result.recommendation.rivals
    # one run of less than a day: both rules see one peak
    assert largest.limits == daily.limits
    assert largest.bad.runs == 40
    assert "the recorded maximum + 15 %" in result.text()


def test_the_settings_are_what_the_joint_run_had(
    result: capplan.RecommendationResult, tmp_path: Path, uncertain_text: str
) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(uncertain_text, encoding="utf-8")
    spec = capplan.load(path, settings=result.recommendation.settings)
    (web,) = result.recommendation.containers
    assert spec.containers["web"].written() == {"memory.max": web.limit, "memory.high": web.high}


def test_the_directory_holds_what_targets_read(
    result: capplan.RecommendationResult, tmp_path: Path
) -> None:
    result.write(tmp_path / "out")
    made = json.loads((tmp_path / "out" / "recommendation.json").read_text())
    assert made["format"] == 1
    assert made["containers"][0]["limit"] == result.recommendation.containers[0].limit
    assert made["reserved"]["total"] == result.recommendation.reserved.total
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["kind"] == "recommendation"


def test_a_node_that_is_too_small_is_told(tmp_path: Path, uncertain_text: str) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(uncertain_text, encoding="utf-8")
    spec = capplan.load(path)
    settings = {"containers.web.replicas": "8", "node.memory": "900Mi"}
    small = capplan.recommend(path, settings=settings, max_risk=0.2, replicates=12, jobs=1)
    assert spec.containers["web"].replicas == 1
    assert not small.fits
    assert small.verdict.startswith("No limits meet a risk of 20.0 %: ")


HELD = """\
capplan: 1
name: held
node: {memory: 1Gi, cpus: 2}
cgroup: {version: v2}
containers:
  web:
    memory.max: 500Mi
    profile:
      capplan: 1
      profile: web
      processes: {main: {regions: {heap: {kind: anon, size: 300Mi}}}}
run: {duration: 5s}
"""


def test_memory_high_is_not_below_what_is_held(tmp_path: Path) -> None:
    """Memory that is there at the start and never grows is throttled by no memory.high."""
    path = tmp_path / "node.yaml"
    path.write_text(HELD, encoding="utf-8")
    found = capplan.recommend(path, max_risk=0.2, replicates=14, jobs=1).recommendation
    (web,) = found.containers
    assert web.high is None  # the least would be the limit itself
    assert 300 * MIB <= web.request <= web.limit <= 315 * MIB
