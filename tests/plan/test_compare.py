"""Settings side by side: the pick, paired tests, and a comparison with a known answer."""

from __future__ import annotations

from pathlib import Path

import pytest

import capplan
from capplan.api_compare import combinations
from capplan.errors import InputError
from capplan.plan.compare_pick import against, sign_test


def test_sign_test_is_exact() -> None:
    assert sign_test(0, 5) == pytest.approx(2 / 32)
    assert sign_test(5, 0) == sign_test(0, 5)
    assert sign_test(1, 3) == pytest.approx(2 * 5 / 16)
    assert sign_test(0, 0) == 1.0


def test_against_counts_the_replicates_that_both_have() -> None:
    here = {1: True, 2: True, 3: False, 4: True}
    there = {1: True, 2: False, 3: False, 5: True}
    found = against(here, there)
    assert found is not None
    assert (found.fits_only_here, found.fits_only_there) == (1, 0)
    assert against({1: True}, {2: True}) is None


def test_a_limit_that_saves_runs_is_picked(uncertain_node: Path) -> None:
    key = "containers.web.memory.max"
    result = capplan.compare(
        uncertain_node, {key: ["100Mi", "160Mi", "130Mi"]}, replicates=40, jobs=1, bursts=False
    )
    found = result.comparison
    low, high, middle = found.settings
    assert found.pick == 1
    assert result.verdict.startswith(f"Take {key}=160Mi: 100 % of its runs go without incident")
    kills = [s.risk.node["kill"].count for s in (low, high, middle) if s.risk is not None]
    assert kills[1] == 0
    assert 10 <= kills[0] <= 30  # half of them, on average
    assert 0 < kills[2] < kills[0]
    # the same draws: whoever is killed at 130 MiB is killed at 100 MiB too
    assert middle.against is not None
    assert middle.against.fits_only_there == 0
    assert middle.against.fits_only_here == kills[0] - kills[2]


def test_what_is_written_stays_where_nothing_parts_the_settings(uncertain_node: Path) -> None:
    settings = {"vm.swappiness": ["10", "60", "100"]}
    run = {"replicates": 2, "jobs": 1, "bursts": False}
    assert "it is named first" in capplan.compare(uncertain_node, settings, **run).verdict
    text = uncertain_node.read_text().replace("memory:", "sysctl: {vm.swappiness: 60}, memory:", 1)
    uncertain_node.write_text(text)
    result = capplan.compare(uncertain_node, settings, **run)
    assert result.comparison.pick == 1
    assert "nothing parts it from the others, it is what the node file has" in result.verdict


def test_who_asked_for_the_memory_is_counted(uncertain_node: Path) -> None:
    risk = capplan.risk(uncertain_node, replicates=20, jobs=1).risk
    assert risk.grown == (("web", "web", risk.node["kill"].count),)


def test_a_setting_that_cannot_run_is_a_column_with_its_error(uncertain_node: Path) -> None:
    result = capplan.compare(
        uncertain_node,
        {"vm.min_free_kbytes": ["16384", "900000"]},
        replicates=2,
        jobs=1,
        bursts=False,
    )
    bad = result.comparison.settings[1]
    assert bad.risk is None
    assert "this node cannot boot" in bad.error
    assert result.comparison.pick == 0
    assert "this node cannot boot" in result.text()


def test_bursts_start_at_one_moment_under_all_settings(uncertain_node: Path) -> None:
    settings = {"vm.min_free_kbytes": ["8192", "131072"]}
    result = capplan.compare(uncertain_node, settings, replicates=2, jobs=1)
    first, second = (s.burst for s in result.comparison.settings)
    assert first is not None
    assert second is not None
    assert (first.at_s, first.available_bytes) == (second.at_s, second.available_bytes)
    # kswapd, woken earlier under the larger reserve, has more free when the burst begins
    assert second.at_rates[-1].absorbed_bytes > first.at_rates[-1].absorbed_bytes
    assert "burst absorbed at 1 GiB/s" in result.text()


def test_paired_lists_must_be_of_one_length() -> None:
    axes = {"a": ["1", "2"], "b": ["3", "4"], "c": ["5"]}
    assert combinations(axes, paired=True) == [
        {"a": "1", "b": "3", "c": "5"}, {"a": "2", "b": "4", "c": "5"},
    ]  # fmt: skip
    with pytest.raises(InputError, match="--paired needs lists of one length: a has 2, b has 3"):
        combinations({"a": ["1", "2"], "b": ["1", "2", "3"]}, paired=True)


def test_what_an_eviction_threshold_can_catch_is_told(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    text = UNCERTAIN_NODE_WITH_KUBELET
    path.write_text(text, encoding="utf-8")
    key = "kubelet.evictionHard.memory.available"
    result = capplan.compare(path, {key: ["50Mi", "600Mi"]}, replicates=1, jobs=1, bursts=False)
    low, high = (" ".join(s.warnings) for s in result.comparison.settings)
    assert "cannot evict before the OOM killer comes" in low
    assert "always catches growth of up to" in high


UNCERTAIN_NODE_WITH_KUBELET = """
capplan: 1
node: {memory: 4Gi, cpus: 2, kernel: "6.12", system: {kernel: 300Mi}}
kubelet: {evictionHard: {memory.available: 100Mi}}
cgroup: {groups: {kubepods.slice: {}}}
containers:
  web:
    parent: kubepods.slice
    profile: {capplan: 1, profile: w, processes: {p: {regions: {h: {kind: anon, size: 60Mi}}}}}
run: {duration: 2s, granule: 5}
"""
