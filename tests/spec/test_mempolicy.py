"""NUMA memory policies in node files: what is read, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from capplan.errors import InputError
from capplan.sim.expand import expand
from capplan.sim.scenario import Mempolicy
from capplan.spec import load

NODE = {"memory": "2Gi", "numa": [{"memory": "1Gi", "weight": 3}, {"memory": "1Gi"}]}
HEAP = {"heap": {"kind": "anon", "size": "8Mi"}}


def write(tmp_path: Path, container: Any = None, process: Any = None, **more: Any) -> Path:
    processes = {
        "app": {"regions": HEAP} | ({"numa": process} if process is not None else {}),
        "child": {"fork_of": "app"},
    }
    db: dict[str, Any] = {"profile": {"capplan": 1, "profile": "db", "processes": processes}}
    if container is not None:
        db["numa"] = container
    db |= more.pop("db", {})
    file = {"capplan": 1, "node": NODE | more.pop("node", {}), "containers": {"db": db}} | more
    path = tmp_path / "node.yaml"
    path.write_text(yaml.safe_dump(file, sort_keys=False), encoding="utf-8")
    return path


def policies(path: Path) -> list[Mempolicy | None]:
    found = expand(load(path)).processes
    return [process.mempolicy for process in found if process.name.startswith("db/")]


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [(1, (1,)), ("1", (1,)), ("0-1", (0, 1)), ([0, 1], (0, 1)), ("all", ()), ("0,1", (0, 1))],
)
def test_a_containers_policy_is_that_of_its_processes(
    tmp_path: Path, nodes: Any, expected: tuple[int, ...]
) -> None:
    path = write(tmp_path, {"policy": "interleave", "nodes": nodes})
    assert policies(path) == [Mempolicy("interleave", expected)] * 2
    assert expand(load(path)).node.interleave_weights == (3, 1)


def test_a_process_has_its_own_and_its_child_inherits_it(tmp_path: Path) -> None:
    path = write(tmp_path, {"policy": "interleave", "nodes": "all"}, {"policy": "bind", "nodes": 1})
    assert policies(path) == [Mempolicy("bind", (1,))] * 2


@pytest.mark.parametrize("name", ["local", "default"])
def test_local_is_what_everybody_has(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, {"policy": "bind", "nodes": 1}, {"policy": name})
    assert policies(path) == [None, None]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"policy": "membind", "nodes": 1}, r"numa\.policy: 'membind'(.|\n)*did you mean 'bind'"),
        ({"policy": "interleve", "nodes": 1}, r"did you mean 'interleave'"),
        ({"policy": "bind"}, r"numa: policy bind lacks nodes(.|\n)*nodes: 0-1, or nodes: all"),
        ({"policy": "bind", "nodes": []}, r"numa\.nodes: '' is not a list of NUMA nodes"),
        ({"policy": "bind", "nodes": ""}, r"numa\.nodes: '' is not a list of NUMA nodes"),
        ({"policy": "bind", "nodes": "0-"}, r"'0-' is not a list of NUMA nodes"),
        ({"policy": "bind", "nodes": 2}, r"numa\.nodes: there is no NUMA node 2(.|\n)*of 0, 1"),
        ({"policy": "local", "nodes": 1}, r"policy local takes no nodes"),
        ({"policy": "preferred", "nodes": "0-1"}, r"takes one node(.|\n)*preferred-many"),
        ({"policy": "preferred", "nodes": "all"}, r"takes one node(.|\n)*preferred-many"),
        ({"nodes": 1}, r"the key 'policy' is missing"),
        ({"policy": "bind", "node": 1}, r"numa\.node: unknown key(.|\n)*did you mean 'nodes'"),
    ],
)
@pytest.mark.parametrize("where", ["container", "process"])
def test_wrong_policies_are_told(tmp_path: Path, where: str, given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(write(tmp_path, **{where: given}))


def test_nodes_outside_the_cpuset_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, {"policy": "bind", "nodes": 1}, db={"cpuset.mems": "0"})
    with pytest.raises(InputError, match=r"none of these nodes is in cpuset\.mems(.|\n)*some of 0"):
        load(path)
    groups = {"groups": {"slice": {"cpuset.mems": "0"}}}
    path = write(tmp_path, {"policy": "bind", "nodes": 1}, db={"parent": "slice"}, cgroup=groups)
    with pytest.raises(InputError, match=r"none of these nodes is in cpuset\.mems"):
        load(path)
    path = write(tmp_path, {"policy": "bind", "nodes": "0-1"}, db={"cpuset.mems": "0"})
    assert policies(path) == [Mempolicy("bind", (0, 1))] * 2


@pytest.mark.parametrize(
    ("policy", "kernel", "warned"),
    [
        ("weighted-interleave", "6.8", True), ("weighted-interleave", "6.12", False),
        ("preferred-many", "5.14", True), ("preferred-many", "5.15", False),
    ],
)  # fmt: skip
def test_a_policy_that_the_kernel_lacks_is_told(
    tmp_path: Path, policy: str, kernel: str, warned: bool
) -> None:
    spec = load(write(tmp_path, {"policy": policy, "nodes": 1}, node={"kernel": kernel}))
    said = [w.message for w in spec.warnings if w.code == "C032"]
    assert any(f"no policy {policy}" in message for message in said) == warned
