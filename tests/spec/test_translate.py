"""A node file under the other cgroup version."""

from __future__ import annotations

from pathlib import Path

import pytest

from capplan.errors import InputError
from capplan.spec import load

V2 = """
capplan: 1
node: {memory: 4Gi, cpus: 2, kernel: "6.1", swap: [{device: ssd, size: 1Gi}]}
cgroup:
  groups: {pods: {memory.max: 2Gi, memory.min: 100Mi}}
containers:
  web:
    profile: {capplan: 1, profile: p, processes: {p: {regions: {heap: {kind: anon, size: 10Mi}}}}}
    parent: pods
    memory.high: 500Mi
    memory.max: 600Mi
    memory.swap.max: 200Mi
timeline:
  - {at: 10s, set: {containers.web.memory.max: 700Mi, containers.web.memory.high: 650Mi}}
run: {duration: 20s}
"""
V1 = """
capplan: 1
node: {memory: 4Gi, cpus: 2, kernel: "6.1", swap: [{device: ssd, size: 1Gi}]}
cgroup: {version: v1}
containers:
  web:
    profile: {capplan: 1, profile: p, processes: {p: {regions: {heap: {kind: anon, size: 10Mi}}}}}
    memory.limit_in_bytes: 600Mi
    memory.memsw.limit_in_bytes: 800Mi
    memory.soft_limit_in_bytes: 300Mi
    memory.oom_control: 1
run: {duration: 20s}
"""
MIB = 1 << 20


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "node.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_v2_limits_become_v1s(tmp_path: Path) -> None:
    spec = load(_file(tmp_path, V2), {"cgroup.version": "v1"})
    web = spec.containers["web"]
    assert web.written() == {
        "memory.limit_in_bytes": 600 * MIB,
        "memory.memsw.limit_in_bytes": 800 * MIB,
    }
    assert spec.cgroup.groups["pods"].written() == {"memory.limit_in_bytes": 2048 * MIB}
    (step,) = spec.timeline
    assert [setting.key for setting in step.settings] == ["memory.limit_in_bytes"]
    notes = [str(problem).splitlines()[0] for problem in spec.warnings if problem.code == "C033"]
    assert len(notes) == 7  # each key that changed is told
    assert any("memory.high: left out under cgroup v1: v1 does not throttle" in n for n in notes)


def test_v1_limits_become_v2s(tmp_path: Path) -> None:
    spec = load(_file(tmp_path, V1), {"cgroup.version": "v2"})
    assert spec.containers["web"].written() == {
        "memory.max": 600 * MIB,
        "memory.swap.max": 200 * MIB,
        "memory.low": 300 * MIB,
    }


def test_what_is_set_for_the_new_version_counts(tmp_path: Path) -> None:
    settings = {"cgroup.version": "v1", "containers.web.memory.limit_in_bytes": "333Mi"}
    web = load(_file(tmp_path, V2), settings).containers["web"]
    assert web.written()["memory.limit_in_bytes"] == 333 * MIB


def test_the_same_version_translates_nothing(tmp_path: Path) -> None:
    assert not load(_file(tmp_path, V2), {"cgroup.version": "v2"}).warnings


def test_a_file_that_disagrees_with_itself_is_an_error(tmp_path: Path) -> None:
    path = _file(tmp_path, V2.replace("cgroup:", "cgroup:\n  version: v1"))
    with pytest.raises(InputError, match="is a file of cgroup v2, the node has v1"):
        load(path)
