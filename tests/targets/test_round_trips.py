"""Import, change, export, apply, import: nothing that a format can hold is lost on the way.

A source is imported; a comparison's pick changes every figure that the format holds; its export is
applied to the source as its program would apply it; what is imported then has to be what the node
file is with the same settings.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import capplan
from capplan.sources.compose import draft_of as compose_draft
from capplan.sources.compose import read_services
from capplan.sources.host import Host
from capplan.sources.kubernetes import KubeNode, read_objects
from capplan.sources.kubernetes_node import draft_of as kubernetes_draft
from capplan.sources.systemd import read_units
from capplan.sources.systemd_node import draft_of as systemd_draft
from capplan.sources.write import write
from capplan.spec.loader import NodeSpec
from capplan.targets import kubernetes, system
from capplan.targets.advice import Advised, read_advice
from capplan.units import format_k8s

MIB, GIB = 1 << 20, 1 << 30
SIZES = st.integers(1 * MIB, 4 * GIB)
HOST = Host(16 * GIB, swap=4 * GIB)
FEW = settings(max_examples=8, deadline=None)


def _advised(spec: NodeSpec, changes: dict[str, str], folder: Path) -> Advised:
    """What ``capplan compare`` leaves when it picks these changes, as targets read it."""
    result = {
        "verdict": "v", "format": 1, "kind": "comparison", "pick": 0, "name": "n",
        "settings": [{"label": "A", "settings": changes}],
        "provenance": {"input": spec.resolved},
    }  # fmt: skip
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps(result))
    return read_advice(folder)


def _held(spec: NodeSpec) -> dict[str, Any]:
    """What formats hold of a node: files, requests, scores, restarts, places."""
    made: dict[str, Any] = {
        name: (one.written(), one.requests_memory, one.oom_score_adj, one.restart, one.restart_by,
               one.replicas, one.parent, one.workload, one.managed_oom_preference)
        for name, one in spec.containers.items()
    }  # fmt: skip
    return made | {path: group.written() for path, group in spec.cgroup.groups.items()}


def _with(spec: NodeSpec, changes: dict[str, str]) -> NodeSpec:
    """The node file with changes; cold, for drawn limits may be less than what is held."""
    return capplan.load(spec.path, settings=changes | {"run.start": "cold"})


def _drawn(spec: NodeSpec, keys: tuple[str, ...], sizes: list[int]) -> dict[str, str]:
    """A size for each key that is set of each container, and each group's limit."""
    drawn = iter(sizes * 99)
    made = {}
    for name, one in spec.containers.items():
        for key in keys:
            present = one.requests_memory if key == "requests.memory" else one.written().get(key)
            if present is not None:
                made[f"containers.{name}.{key}"] = format_k8s(next(drawn))
    return made


# --- systemd -------------------------------------------------------------------------------

UNITS = {
    "web.service": "[Service]\nExecStart=/w\nMemoryMin=1M\nMemoryLow=2M\nMemoryHigh=900M\n"
    "MemoryMax=1G\nMemorySwapMax=1G\nMemoryZSwapMax=8M\nOOMScoreAdjust=-50\nRestart=always\n"
    "Slice=app.slice\nManagedOOMPreference=avoid\n",
    "db.service": "[Service]\nExecStart=/d\nMemoryMax=2G\nOOMPolicy=kill\n",
    "app.slice": "[Slice]\nMemoryMax=6G\nMemoryLow=1G\n",
}
SYSTEMD_KEYS = ("memory.min", "memory.low", "memory.high", "memory.max", "memory.swap.max",
                "memory.zswap.max")  # fmt: skip


@FEW
@given(st.lists(SIZES, min_size=3, max_size=9), st.integers(-1000, 1000))
def test_systemd(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], score: int) -> None:
    folder = tmp_path_factory.mktemp("units")
    tree = folder / "etc"
    tree.mkdir()
    for name, text in UNITS.items():
        (tree / name).write_text(text)

    def load(where: str) -> NodeSpec:
        units, problems = read_units([tree])
        return capplan.load(write(systemd_draft(units, HOST, problems), folder / where)[0])

    spec = load("one")
    changes = _drawn(spec, SYSTEMD_KEYS, sizes) | {
        "containers.web.service.oom_score_adj": str(score),
        "groups.app.slice.memory.max": format_k8s(sizes[0]),
    }
    for name, text in system.systemd_dropins(_advised(spec, changes, folder / "out")).items():
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text(text)
    assert _held(load("two")) == _held(_with(spec, changes))


# --- compose -------------------------------------------------------------------------------

COMPOSE = """
services:
  web:
    image: w
    restart: unless-stopped
    oom_score_adj: 100
    memswap_limit: 2g
    deploy: {replicas: 2, resources: {limits: {memory: 1g}, reservations: {memory: 256m}}}
  db: {image: d, mem_limit: 700m, mem_reservation: 64m, memswap_limit: 800m}
  plain: {image: p}
"""


@FEW
@given(st.lists(SIZES, min_size=3, max_size=9), st.integers(-1000, 1000))
def test_compose(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], score: int) -> None:
    folder = tmp_path_factory.mktemp("compose")
    files = [folder / "compose.yaml", folder / "compose.override.yaml"]
    files[0].write_text(COMPOSE)

    def load(where: str, paths: list[Path]) -> NodeSpec:
        services, problems = read_services(paths)
        draft = compose_draft(services, HOST, problems)
        return capplan.load(write(draft, folder / where)[0])

    spec = load("one", files[:1])
    keys = ("memory.low", "memory.max", "memory.swap.max")
    changes = _drawn(spec, keys, sizes) | {"containers.web.oom_score_adj": str(score)}
    made = system.compose_override(_advised(spec, changes, folder / "out"))
    files[1].write_text(made["compose.override.yaml"])
    assert _held(load("two", files)) == _held(_with(spec, changes))


# --- kubernetes ----------------------------------------------------------------------------


def _patched(documents: list[Any], patches: list[Any]) -> list[Any]:
    """As the API server merges them: what is of one kind, name and namespace; lists by name."""

    def merge(below: Any, above: Any) -> Any:
        if isinstance(below, dict) and isinstance(above, dict):
            made = {**below, **{k: merge(below.get(k), v) for k, v in above.items()}}
            return {key: value for key, value in made.items() if value is not None}
        if isinstance(above, list):
            named = {one["name"]: one for one in below}
            return list((named | {o["name"]: merge(named[o["name"]], o) for o in above}).values())
        return above

    def key(one: Any) -> tuple[str, str, str]:
        about = one["metadata"]
        return one["kind"], about.get("namespace", "default"), about["name"]

    by_key = {key(patch): patch for patch in patches}
    kept = [one for one in documents if isinstance(one, dict)]
    return [merge(one, by_key.pop(key(one), {})) for one in kept]


def _round_trip(
    folder: Path, files: list[Path], sizes: list[int], node: KubeNode
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pods of manifests whose patches were applied, and what they were to be."""

    def load(where: str, paths: list[Path]) -> NodeSpec:
        draft = kubernetes_draft(read_objects(paths), node=node)
        return capplan.load(write(draft, folder / where)[0])

    spec = load("one", files)
    # containers of one workload have one manifest: they get one size
    drawn, by_workload = iter(sizes * 999), dict[str, list[int]]()
    changes = {}
    for name, one in spec.containers.items():
        pair = by_workload.setdefault(str(one.workload), sorted((next(drawn), next(drawn))))
        if one.requests_memory is not None:
            changes[f"containers.{name}.requests.memory"] = format_k8s(pair[0])
        if "memory.max" in one.written():
            changes[f"containers.{name}.memory.max"] = format_k8s(pair[1])
    made = kubernetes.patches(_advised(spec, changes, folder / "out"))
    made.pop("kustomization.yaml", "")
    documents = [one for file in files for one in yaml.safe_load_all(file.read_text())]
    applied = folder / "applied.yaml"
    applied.write_text(yaml.safe_dump_all(_patched(documents, list(map(_yaml, made.values())))))

    def held(spec: NodeSpec) -> dict[str, Any]:
        return {
            name: (one.written(), one.requests_memory, one.workload, one.restart)
            for name, one in spec.containers.items()
        }

    return held(load("two", [applied])), held(_with(spec, changes))


def _yaml(text: str) -> Any:
    return yaml.safe_load(text)


MANIFESTS = """
kind: Deployment
apiVersion: apps/v1
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  template:
    spec:
      initContainers:
        - {name: setup, image: s, resources: {limits: {memory: 1Gi}}}
        - {name: proxy, image: p, restartPolicy: Always, resources: {requests: {memory: 9Mi}}}
      containers:
        - {name: app, image: a, resources: {requests: {memory: 1M, cpu: 1}, limits: {memory: 1Gi}}}
        - {name: log, image: l}
---
kind: CronJob
apiVersion: batch/v1
metadata: {name: tidy}
spec: {jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [
  {name: tidy, image: t, resources: {limits: {memory: 64Mi}}}]}}}}}
---
kind: Pod
apiVersion: v1
metadata: {name: lone}
spec: {containers: [{name: lone, image: t, resources: {requests: {memory: 5e7}}}]}
"""


@FEW
@given(st.lists(SIZES, min_size=3, max_size=9))
def test_kubernetes(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    folder = tmp_path_factory.mktemp("manifests")
    (folder / "m.yaml").write_text(MANIFESTS)
    after, wanted = _round_trip(
        folder, [folder / "m.yaml"], sizes, KubeNode("n", 64 * GIB, 8, "6.12", "v1.31.0")
    )
    assert after == wanted
    assert len(after) == 8


@pytest.mark.parametrize(
    "name", ["online-boutique/kubernetes-manifests.yaml", "sock-shop/complete-demo.yaml",
             "train-ticket/quickstart-ts-deployment-part1.yml"],
)  # fmt: skip
def test_real_manifests(shared: Path, tmp_path: Path, name: str) -> None:
    after, wanted = _round_trip(
        tmp_path, [shared / "traces" / "manifests" / name], [300 * MIB + 4096, GIB, 77 * MIB],
        KubeNode("n", 256 * GIB, 8, "6.12", "v1.31.0"),
    )  # fmt: skip
    assert after == wanted
