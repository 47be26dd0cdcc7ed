"""How much more a node bears, where the answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import capplan
from capplan.errors import InputError
from capplan.plan.headroom import knobs

# Replicas of exactly 100 MiB on a node of 1 GiB without swap.
FIXED = """
capplan: 1
node: {memory: 1Gi, cpus: 2, kernel: "6.12", system: {kernel: 100Mi, daemons: {memory: 100Mi}}}
containers:
  web:
    replicas: 2
    memory.max: 200Mi
    profile:
      capplan: 1
      profile: web
      processes:
        p:
          regions: {heap: {kind: anon}}
          phases: [{grow: {region: heap, to: 100Mi, rate: 400Mi/s}}, {hold: 1s}]
run: {duration: 2s, granule: 3}
"""
LEAK = FIXED.replace("replicas: 2", "replicas: 1").replace(
    "phases: [{grow: {region: heap, to: 100Mi, rate: 400Mi/s}}, {hold: 1s}]",
    "phases: [{leak: {region: heap, rate: 50Mi/s}}]",
)


def _node(tmp_path: Path, text: str = FIXED) -> Path:
    path = tmp_path / "node.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def _rooms(path: Path, **options: object) -> dict[str, capplan.plan.headroom.Room]:
    result = capplan.headroom(path, replicates=10, jobs=1, **options)  # type: ignore[arg-type]
    return {room.kind: room for room in result.headroom.rooms}


def test_replicas_that_fit_are_what_the_memory_holds(tmp_path: Path) -> None:
    path = _node(tmp_path)
    free = float(capplan.simulate(path).timeseries["meminfo_kb.MemAvailable"].iloc[-1]) / 1024
    room = _rooms(path, kinds=["replicas"])["replicas"]
    assert room.found.level is not None
    # each takes its 100 MiB, page tables and a little of the kernel's
    assert room.found.level == pytest.approx(free / 102, abs=1)
    assert room.value == str(2 + room.found.level)


def test_a_limit_comes_down_to_what_is_used(tmp_path: Path) -> None:
    room = _rooms(_node(tmp_path), kinds=["limit"])["limit"]
    assert room.value is not None
    assert 100 <= int(room.value.removesuffix("Mi")) <= 106  # steps of 2 MiB


def test_the_memory_that_is_left_is_found(tmp_path: Path) -> None:
    path = _node(tmp_path)
    run = capplan.simulate(path).run
    clean = ("meminfo_kb.MemFree", "meminfo_kb.Cached", "meminfo_kb.SReclaimable")
    there = sum(float(run.series[name][-1]) for name in clean) / 1024
    least = sum(marks[0] for marks in run.wmarks.values()) / 256
    room = _rooms(path, kinds=["memory"])["memory"]
    assert room.found.level is not None
    assert 10 * room.found.level == pytest.approx(there - least, abs=20)  # steps of 10 MiB


def test_a_leak_runs_until_its_limit(tmp_path: Path) -> None:
    room = _rooms(_node(tmp_path, LEAK), kinds=["leak"])["leak"]
    assert room.value is not None
    longest = int(room.value.removesuffix("ns")) / 1e9
    assert longest == pytest.approx(200 / 50, abs=0.25)  # steps of 0.2 s


def test_the_limit_under_uncertain_demand_is_its_quantile(uncertain_node: Path) -> None:
    """Demand is uniform from 60 to 140 MiB: at a risk of 10 % the limit is about 132 MiB."""
    result = capplan.headroom(
        uncertain_node, settings={"containers.web.memory.max": "200Mi"}, max_risk=0.1,
        replicates=80, kinds=["limit"], jobs=1,
    )  # fmt: skip
    (room,) = result.headroom.rooms
    assert room.value is not None
    assert 130 <= int(room.value.removesuffix("Mi")) <= 144
    assert room.found.confidence >= 0.95


def test_a_node_that_fails_as_it_is_has_none(uncertain_node: Path) -> None:
    result = capplan.headroom(uncertain_node, max_risk=0.05, kinds=["replicas"], jobs=1)
    assert not result.fits
    assert result.verdict.startswith("No headroom: as it is written the node does not stay")


def test_the_knobs_are_those_that_the_file_has(tmp_path: Path) -> None:
    spec = capplan.load(_node(tmp_path))
    assert [knob.key for knob in knobs(spec)] == [
        "node.system.daemons.memory", "containers.web.replicas", "containers.web.memory.max",
    ]  # fmt: skip
    assert "run.duration" in [knob.key for knob in knobs(capplan.load(_node(tmp_path, LEAK)))]


def test_an_unknown_container_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no container 'wep'\s+did you mean 'web'"):
        capplan.headroom(_node(tmp_path), containers=["wep"])


def test_what_was_run_is_not_run_again(tmp_path: Path) -> None:
    path, store = _node(tmp_path), tmp_path / "out"
    first = capplan.headroom(path, replicates=6, kinds=["limit"], jobs=1, store=store)
    calls: list[int] = []
    again = capplan.headroom(
        path, replicates=6, kinds=["limit"], jobs=1, store=store,
        progress=lambda key, count: calls.append(count),
    )  # fmt: skip
    assert again.headroom == first.headroom
    first.write(store)
    assert json.loads((store / "summary.json").read_text())["kind"] == "headroom"
