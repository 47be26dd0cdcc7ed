"""The VPA: its recommender's arithmetic, and the loop after an OOM kill on a node."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from capplan.errors import InputError
from capplan.plan.outcome import analyse as outcome
from capplan.sim.agents.model import Vpa, Workload, burstable_adj
from capplan.sim.agents.vpa_recommender import (
    DAY_NS,
    ContainerPeaks,
    Histogram,
    History,
    recommend,
)
from capplan.sim.expand import expand
from capplan.sim.result import Event, Run
from capplan.sim.run import run
from capplan.spec import load

MIB, MIN_NS = 1 << 20, 60 * 10**9
CONFIG = Vpa(Workload("web", ()))


def peaks(config: Vpa = CONFIG) -> ContainerPeaks:
    return ContainerPeaks(config, Histogram(DAY_NS))


# --- the recommender ------------------------------------------------------------------------


def test_histogram_worked_example() -> None:
    histogram = Histogram(DAY_NS)
    assert histogram.bucket(300 * MIB) == 19
    assert histogram.start(20) == pytest.approx(330.66e6, rel=1e-4)
    histogram.add(300 * MIB, 0)
    assert histogram.percentile(0.9) == histogram.start(20)
    assert histogram.bucket(9_999_999) == 0
    histogram.add(300 * MIB, 0, -1.0)
    assert histogram.percentile(0.9) == 0.0


def test_newer_samples_weigh_more() -> None:
    histogram = Histogram(DAY_NS)
    for _ in range(8):
        histogram.add(900 * MIB, 0)
    histogram.add(300 * MIB, 3 * DAY_NS)  # weighs as much as the eight
    assert histogram.percentile(0.49) == histogram.start(histogram.bucket(300 * MIB) + 1)
    assert histogram.percentile(0.51) == histogram.start(histogram.bucket(900 * MIB) + 1)


def test_one_peak_a_day() -> None:
    one = peaks()
    for minute, usage in enumerate((100, 300, 200, 250)):
        one.sample(usage * MIB, minute * MIN_NS)
    (bucket,) = one.histogram.weight
    assert bucket == Histogram.bucket(300 * MIB)
    one.sample(50 * MIB, DAY_NS + 5 * MIN_NS)
    assert len(one.histogram.weight) == 2


@pytest.mark.parametrize(
    ("request_mib", "peak_mib", "sample_mib"),
    [(400, 390, 500), (1000, 390, 1200), (400, 450, 550), (400, 0, 500)],
)
def test_an_oom_is_a_sample_above_request_and_peak(
    request_mib: int, peak_mib: int, sample_mib: int
) -> None:
    one = peaks()
    if peak_mib:
        one.sample(peak_mib * MIB, 0)
    one.record_oom(request_mib * MIB, MIN_NS)
    assert one.oom_peak == pytest.approx(sample_mib * MIB)
    one.record_oom(request_mib * MIB, 2 * MIN_NS)  # bumps do not pile up
    assert one.oom_peak == pytest.approx(sample_mib * MIB)
    assert set(one.histogram.weight) == {Histogram.bucket(sample_mib * MIB)}


def test_recommendation_worked_example() -> None:
    history = History(first_ns=0, last_ns=5 * MIN_NS, samples=5)
    history.histogram.add(300 * MIB, 0)
    bounds = recommend(CONFIG, history)
    assert bounds.target == pytest.approx(380.3e6, rel=1e-3)
    assert bounds.lower == 250 * MIB
    assert bounds.upper == pytest.approx(380.3e6 * 289, rel=1e-3)
    assert recommend(CONFIG, History(histogram=history.histogram)).upper == math.inf
    capped = Vpa(Workload("web", ()), max_allowed=320 * MIB, min_allowed=300 * MIB)
    assert recommend(capped, history)[:2] == (300 * MIB, 320 * MIB)


def test_burstable_adj_worked_example() -> None:
    gib = 1 << 30
    found = [burstable_adj(request, 16 * gib) for request in (gib, 16 * gib, MIB)]
    assert found == [938, 3, 999]


# --- the loop -------------------------------------------------------------------------------

NODE = """
capplan: 1
node: {memory: 4Gi, cpus: 4}
cgroup: {groups: {kubepods.slice: {}}}
kubelet: {}
containers:
  web:
    profile:
      capplan: 1
      profile: step
      processes: {app: {regions: {heap: {size: 100Mi, growth: GROWTH}}}}
    parent: kubepods.slice
    replicas: 2
    requests.memory: 100Mi
    memory.max: 200Mi
    restart: Always
vpa: {web: VPA}
run: {duration: DURATION, start: warm}
"""


def simulate(folder: Path, vpa: str, growth: str = "60Mi/min", duration: str = "20min") -> Run:
    path = folder / "node.yaml"
    text = NODE.replace("VPA", vpa).replace("GROWTH", growth).replace("DURATION", duration)
    path.write_text(text)
    return run(expand(load(path)))


def told(result: Run, event: str) -> list[Event]:
    return [e for e in result.events if e.event == event]


def test_eviction_gives_the_successor_request_and_limit_in_proportion(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    text = NODE.replace("requests.memory: 100Mi", "requests.memory: 260Mi")
    text = text.replace("memory.max: 200Mi", "memory.max: 520Mi").replace("VPA", "{}")
    path.write_text(text.replace("GROWTH", "400Mi/min").replace("DURATION", "6min"))
    result = run(expand(load(path)))
    kills, updates = told(result, "oom_kill"), told(result, "vpa_update")
    first = updates[0]
    assert (first.detail["how"], first.detail["why"]) == (
        "evicted", "OOM-killed soon after its start",
    )  # fmt: skip
    assert kills[0].t < first.t < kills[0].t + 130  # a minute for each of the two loops
    # the peak that was seen (at most 520 MiB) or the request, and 100 MiB; a bucket; 15 %
    assert 360 * 1.15 * MIB <= first.detail["request_bytes"] <= 620 * 1.05 * 1.15 * MIB
    assert first.detail["limit_bytes"] == 2 * first.detail["request_bytes"]
    assert result.series["cgroup.kubepods.slice/web-0.memory.current"].max() > 520 * MIB
    scored = [p for p in result.totals if p.process == "web-0/app"]
    assert scored[0].restarts > sum(e.name == "web-0/app" for e in kills)  # by the eviction too


def test_a_quick_leak_is_chased_and_a_bounded_need_settles(tmp_path: Path) -> None:
    leak = outcome(simulate(tmp_path, "{}", "200Mi/min", "30min"))
    assert "the VPA of web diverges" in leak.verdict or "stays Pending" in leak.verdict
    text = NODE.replace(
        "{size: 100Mi, growth: GROWTH}", "{size: 100Mi, growth: 60Mi/min, limit: 300Mi}"
    )
    path = tmp_path / "bounded.yaml"
    path.write_text(text.replace("VPA", "{}").replace("DURATION", "30min"))
    settled = outcome(run(expand(load(path))))
    assert "the VPA of web settled" in settled.verdict


def test_a_slow_leak_is_left_alone_for_twelve_hours(tmp_path: Path) -> None:
    result = simulate(tmp_path, "{minAllowed: {memory: 250Mi}}", "6Mi/min", "3h")
    kills, updates = told(result, "oom_kill"), told(result, "vpa_update")
    assert kills[-1].t > updates[-1].t
    assert all(e.detail["why"] == "its request is outside the bounds" for e in updates)
    assert "the VPA of web is stuck, and OOM kills go on" in outcome(result).verdict


def test_in_place_the_container_is_not_ended(tmp_path: Path) -> None:
    result = simulate(tmp_path, "{updateMode: InPlaceOrRecreate, maxAllowed: {memory: 700Mi}}")
    updates = told(result, "vpa_update")
    assert {e.detail["how"] for e in updates} == {"resized"}
    times = [e.t for e in updates]
    assert len(times) == len(set(times))  # one of the two in each loop (eviction-tolerance)
    ends = [e for e in told(result, "exit") if e.name == "web-0/app"]
    assert len(ends) == sum(e.name == "web-0/app" for e in told(result, "oom_kill"))


@pytest.mark.parametrize("vpa", ["{updateMode: 'Off'}", "{minReplicas: 3}"])
def test_it_only_recommends(tmp_path: Path, vpa: str) -> None:
    result = simulate(tmp_path, vpa)
    assert told(result, "vpa_recommendation")
    assert not told(result, "vpa_update")
    assert "the VPA of web changed nothing" in outcome(result).verdict


def test_a_request_that_no_node_holds_stays_pending(tmp_path: Path) -> None:
    result = simulate(tmp_path, "{minAllowed: {memory: 3Gi}}")
    (pending,) = told(result, "vpa_pending")
    assert pending.detail["request_bytes"] == 3 << 30
    assert "stays Pending" in outcome(result).verdict


def test_a_pod_that_the_kubelet_evicted_is_not_made_anew_here(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    text = NODE.replace("kubelet: {}", "kubelet: {evictionHard: {memory.available: 3200Mi}}")
    path.write_text(
        text.replace("VPA", "{}").replace("GROWTH", "30Mi/min").replace("DURATION", "9min")
    )
    result = run(expand(load(path)))
    gone = {e.name: e.t for e in told(result, "evicted")}
    assert gone
    assert not [e for e in told(result, "vpa_update") if e.t > gone.get(e.name, math.inf)]
    assert all(p.state == "evicted" for p in result.totals if p.container in gone)


def test_the_same_run_twice(tmp_path: Path) -> None:
    first, second = (simulate(tmp_path, "{}", duration="8min") for _ in range(2))
    assert first.events == second.events


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vpa: {wob: {}}", r"node.yaml:\d+:\d+: vpa.wob: there is no container 'wob'"),
        ("vpa: {web: {updateMode: Recreat}}", "Recreate"),
        (
            "vpa: {web: {minAllowed: {memory: 2Gi}, maxAllowed: {memory: 1Gi}}}",
            "minAllowed is above",
        ),
        ("hpa: {web: {maxReplicas: 3}}", "none of averageUtilization, averageValue"),
        (
            "hpa: {web: {maxReplicas: 3, minReplicas: 4, averageUtilization: 70}}",
            "minReplicas is above",
        ),
    ],
)
def test_what_makes_no_sense_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "node.yaml"
    node = NODE.replace("vpa: {web: VPA}", text).replace("GROWTH", "1Mi/min")
    path.write_text(node.replace("DURATION", "1min"))
    with pytest.raises(InputError, match=message):
        load(path)


def test_one_replica_and_two_scalers_are_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    text = "vpa: {web: {minReplicas: 3}}\nhpa: {web: {maxReplicas: 3, averageUtilization: 70}}"
    node = NODE.replace("vpa: {web: VPA}", text).replace("GROWTH", "1Mi/min")
    path.write_text(node.replace("DURATION", "1min"))
    (warning,) = load(path).warnings
    assert "work against each other" in warning.message
    path.write_text(node.replace(text, "vpa: {web: {minReplicas: 3}}").replace("DURATION", "1min"))
    (warning,) = load(path).warnings
    assert "the updater does nothing: 2 replicas" in warning.message
