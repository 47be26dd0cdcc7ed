"""What KRR and VPA recommend becomes the columns of a comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import capplan
from capplan.cli.main import cli
from capplan.errors import InputError
from capplan.sources.candidates import KEEP, NONE, Candidate, Wish, read_candidates
from capplan.sources.candidates_match import settings_of
from capplan.sources.kubernetes import KubeNode, read_objects
from capplan.sources.kubernetes_node import draft_of
from capplan.sources.write import write
from capplan.spec.loader import NodeSpec

MIB, GIB = 1 << 20, 1 << 30
MANIFESTS = """
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  template:
    spec:
      containers:
        - {name: app, resources: {requests: {memory: 256Mi, cpu: 1}, limits: {memory: 512Mi}}}
        - {name: proxy, resources: {limits: {memory: 64Mi}}}
---
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  template:
    spec:
      containers: [{name: db, resources: {limits: {memory: 1Gi, cpu: 1}}}]
---
kind: Deployment
metadata: {name: batch, namespace: jobs}
spec: {template: {spec: {containers: [{name: job}]}}}
"""


def _scan(kind: str, namespace: str, name: str, container: str, request: Any, limit: Any) -> Any:
    """One entry of KRR's ``scans``, as its Result model dumps it."""
    return {
        "object": {
            "cluster": None, "name": name, "container": container,
            "pods": [{"name": f"{name}-7d4-x", "deleted": False}], "hpa": None,
            "namespace": namespace, "kind": kind,
            "allocations": {"requests": {"cpu": 0.1, "memory": 1.0}, "limits": {}, "info": {}},
            "warnings": [], "labels": {}, "annotations": {},
        },
        "recommended": {
            "requests": {"cpu": {"value": 0.01, "severity": "OK"},
                         "memory": {"value": request, "severity": "WARNING"}},
            "limits": {"cpu": {"value": None, "severity": "OK"},
                       "memory": {"value": limit, "severity": "WARNING"}},
            "info": {"cpu": None, "memory": None},
        },
        "severity": "WARNING",
    }  # fmt: skip


KRR = {
    "scans": [
        _scan("Deployment", "shop", "web", "app", 300.0 * MIB, 300.0 * MIB),
        _scan("Deployment", "shop", "web", "proxy", "?", "?"),
        _scan("StatefulSet", "shop", "db", "db", 700.0 * MIB, None),
        _scan("Deployment", "jobs", "batch", "job", 100.0 * MIB, 100.0 * MIB),
        _scan("Deployment", "other", "cart", "cart", 1.0 * GIB, 1.0 * GIB),
    ],
    "score": 50, "resources": ["cpu", "memory"], "strategy": {"name": "simple", "settings": {}},
    "errors": [], "clusterSummary": {},
}  # fmt: skip


def _vpa(policies: list[Any]) -> str:
    one = {
        "apiVersion": "autoscaling.k8s.io/v1", "kind": "VerticalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                 "updatePolicy": {"updateMode": "Off"},
                 "resourcePolicy": {"containerPolicies": policies}},
        "status": {"recommendation": {"containerRecommendations": [
            {"containerName": "app",
             "lowerBound": {"cpu": "25m", "memory": "262144k"},
             "target": {"cpu": "25m", "memory": "500Mi"},
             "uncappedTarget": {"cpu": "25m", "memory": "600Mi"},
             "upperBound": {"cpu": "1", "memory": "1851500k"}}]}},
    }  # fmt: skip
    waiting = {"kind": "VerticalPodAutoscaler", "metadata": {"name": "new", "namespace": "shop"},
               "spec": {"targetRef": {"kind": "Deployment", "name": "new"}}}  # fmt: skip
    return yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [one, waiting]})


@pytest.fixture
def node(tmp_path: Path) -> Path:
    path = tmp_path / "app.yaml"
    path.write_text(MANIFESTS, encoding="utf-8")
    of = KubeNode("n1", 8 * GIB, 4, "6.12", "v1.31.0")
    return write(draft_of(read_objects([path]), node=of), tmp_path / "node")[0]


@pytest.fixture
def spec(node: Path) -> NodeSpec:
    return capplan.load(node)


def _file(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_krr_values_missing_and_unset(tmp_path: Path) -> None:
    (krr,), problems = read_candidates([_file(tmp_path, "krr.json", json.dumps(KRR))])
    assert krr.name == "krr"
    by_name = {wish.told: (wish.request, wish.limit) for wish in krr.wishes}
    assert by_name == {
        "shop/Deployment/web/app": (300 * MIB, 300 * MIB),
        "shop/StatefulSet/db/db": (700 * MIB, NONE),
        "jobs/Deployment/batch/job": (100 * MIB, 100 * MIB),
        "other/Deployment/cart/cart": (GIB, GIB),
    }
    assert [str(problem) for problem in problems if "too little data" in str(problem)] == [
        f"{tmp_path}/krr.json: warning: shop/Deployment/web/proxy {key}: KRR has too little data: "
        "stays as it is"
        for key in ("requests", "limits")
    ]


def test_krr_on_a_node_changes_what_the_kubelet_derives(tmp_path: Path, spec: NodeSpec) -> None:
    (krr,), _ = read_candidates([_file(tmp_path, "krr.json", json.dumps(KRR))])
    settings, problems = settings_of(krr, spec)
    told = "\n".join(map(str, problems))
    assert "krr: other/Deployment/cart/cart is no container of this node: left out" in told
    assert "krr says nothing of web-0.proxy, web-1.proxy: as written" in told
    after = capplan.load(spec.path, settings=settings)
    for n in (0, 1):
        app = after.containers[f"web-{n}.app"]
        assert app.written()["memory.max"] == app.requests_memory == 300 * MIB
        assert app.oom_score_adj == 1000 - 1000 * 300 // 8192
        # the pod's own limit: 300 + 64 MiB
        group = after.cgroup.groups[app.parent]
        assert group.written() == {"memory.max": 364 * MIB}
    db = after.containers["db"]  # Guaranteed until its limit went
    assert (db.written()["memory.max"], db.requests_memory) == (-1, 700 * MIB)
    assert db.oom_score_adj == 1000 - 1000 * 700 // 8192
    assert db.parent == "kubepods.slice/kubepods-burstable.slice"
    job = after.containers["batch"]  # BestEffort until it had a request
    assert job.oom_score_adj == 1000 - 1000 * 100 // 8192
    assert job.parent == "kubepods.slice/kubepods-burstable.slice"


@pytest.mark.parametrize(
    ("policies", "limit"),
    [([], 1000 * MIB), ([{"containerName": "*", "controlledValues": "RequestsOnly"}], 512 * MIB),
     ([{"containerName": "app", "controlledValues": "RequestsAndLimits"},
       {"containerName": "*", "controlledValues": "RequestsOnly"}], 1000 * MIB)],
)  # fmt: skip
def test_vpa_keeps_the_ratio_of_limits_unless_told_otherwise(
    tmp_path: Path, spec: NodeSpec, policies: list[Any], limit: int
) -> None:
    found, problems = read_candidates([_file(tmp_path, "vpa.yaml", _vpa(policies))])
    names = [one.name for one in found]
    assert names == ["vpa target", "vpa lowerBound", "vpa upperBound", "vpa uncappedTarget"]
    assert "vpa shop/new recommends nothing yet: left out" in str(problems[0])
    settings, _ = settings_of(found[0], spec)
    app = capplan.load(spec.path, settings=settings).containers["web-1.app"]
    assert (app.requests_memory, app.written()["memory.max"]) == (500 * MIB, limit)
    lower = found[1].wishes[0]
    assert lower.request == 262_144_000  # 262144k is a thousand to the k


def test_memory_qos_and_swap_follow_the_request(tmp_path: Path) -> None:
    text = """
capplan: 1
node: {memory: 8Gi, swap: [{device: ssd, size: 2Gi}]}
containers:
  web:
    profile: {capplan: 1, profile: p, processes: {main: {regions: {heap: {kind: anon, size: 9Mi}}}}}
    workload: shop/Deployment/web/app
    requests.memory: 100Mi
    memory.max: 200Mi
    memory.high: 190Mi
    memory.min: 100Mi
    memory.swap.max: 25Mi
"""
    spec = capplan.load(_file(tmp_path, "n.yaml", text))
    wish = Wish("shop", "Deployment", "web", "app", request=200 * MIB, limit=400 * MIB)
    settings, _ = settings_of(Candidate("c", "f", [wish]), spec)
    assert settings == {
        "containers.web.memory.max": "400Mi", "containers.web.requests.memory": "200Mi",
        "containers.web.memory.min": "200Mi", "containers.web.memory.high": "380Mi",
        "containers.web.memory.swap.max": "50Mi",
    }  # fmt: skip
    kept = Wish("shop", "Deployment", "web", "app", request=KEEP, limit=150 * MIB)
    assert settings_of(Candidate("c", "f", [kept]), spec)[0]["containers.web.requests.memory"] == (
        "100Mi"
    )


def _named(names: dict[str, str]) -> str:
    profile = "{capplan: 1, profile: p, processes: {m: {regions: {h: {kind: anon, size: 9Mi}}}}}"
    lines = [f"  {name}: {{profile: {profile}, {more}}}" for name, more in names.items()]
    return "\n".join(["capplan: 1", "node: {memory: 4Gi}", "containers:", *lines, ""])


@pytest.mark.parametrize(
    ("name", "workload", "container", "found"),
    [("web", "web", "", True), ("web.app", "web", "app", True), ("web-0.app", "web", "app", True),
     ("web-6d4cf56db6-x2x7q.app", "web", "app", True), ("web.app", "web", "proxy", False),
     ("webshop", "web", "", False), ("web-a-b-c", "web", "", False)],
)  # fmt: skip
def test_hand_written_nodes_are_matched_by_name(
    tmp_path: Path, name: str, workload: str, container: str, found: bool
) -> None:
    spec = capplan.load(_file(tmp_path, "n.yaml", _named({name: "memory.max: 50Mi"})))
    wish = Wish("shop", "Deployment", workload, container or "app", request=MIB, limit=40 * MIB)
    candidate = Candidate("krr", "krr.json", [wish])
    if not found:
        with pytest.raises(InputError, match="krr names no container of this node"):
            settings_of(candidate, spec)
        return
    assert settings_of(candidate, spec)[0][f"containers.{name}.memory.max"] == "40Mi"


def test_two_workloads_of_one_name_are_told_not_guessed(tmp_path: Path) -> None:
    text = _named({"web": "memory.max: 50Mi", "db": "memory.max: 50Mi"})
    spec = capplan.load(_file(tmp_path, "n.yaml", text))
    wishes = [Wish(space, "Deployment", "web", "app", MIB, limit) for space, limit in
              (("a", 30 * MIB), ("b", 40 * MIB))]  # fmt: skip
    wishes.append(Wish("a", "Deployment", "db", "db", MIB, 20 * MIB))
    settings, problems = settings_of(Candidate("krr", "krr.json", wishes), spec)
    assert set(settings) == {"containers.db.memory.max", "containers.db.requests.memory"}
    assert "a/Deployment/web/app and b/Deployment/web/app both name web: as written" in str(
        problems[0]
    )


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    path = _file(tmp_path, "x.yaml", "kind: Deployment\n")
    with pytest.raises(InputError, match=r"no recommendation in it(.|\n)*krr simple -f json"):
        read_candidates([path])


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=6) | st.just("?"),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["object", "recommended", "requests", "limits", "memory", "value", "name",
                         "container", "pods", "status", "recommendation", "spec", "targetRef",
                         "containerRecommendations", "containerName", "target", "metadata"]),
        inner, max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


@given(_JSON, _JSON)
def test_no_file_makes_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, scan: object, vpa: object
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "x.json"
    items = [{"kind": "VerticalPodAutoscaler", "spec": vpa, "status": vpa, "metadata": vpa}]
    path.write_text(json.dumps({"scans": [scan, {"object": scan}], "items": items}))
    try:
        read_candidates([path])
    except InputError:
        return


def test_compare_shows_them_side_by_side(node: Path, tmp_path: Path) -> None:
    krr = _file(tmp_path, "krr.json", json.dumps(KRR))
    args = ["compare", str(node), "--candidates", str(krr), "-n", "2", "-j", "1", "--no-burst",
            "--duration", "2s", "--out", str(tmp_path / "out")]  # fmt: skip
    result = CliRunner().invoke(cli, args, prog_name="capplan")
    assert result.exit_code == 0, result.stderr
    assert "other/Deployment/cart/cart is no container of this node" in result.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [one["label"] for one in summary["settings"]] == ["as written", "krr"]
    assert "as written" in result.stdout
    assert " krr: " in result.stdout
    assert summary["settings"][1]["settings"]["containers.db.requests.memory"] == "700Mi"


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (("live", "Deployment", "web", "app"), "namespace 'shop', as web has, not 'live'; or"),
        (("shop", "ReplicaSet", "web", "app"), "kind 'Deployment', as web has, not 'ReplicaSet'"),
        (("shop", "Deployment", "web", "nginx"), "container 'app', as web has, not 'nginx'; or"),
        (("shop", "Deployment", "webb", "app"), "web perhaps: workload: shop/Deployment/webb/app"),
        (("shop", "Deployment", "cart", "cart"), "workload: shop/Deployment/cart/cart in the node"),
    ],
)
def test_what_fits_nothing_says_what_is_there_and_what_to_write(
    tmp_path: Path, wish: tuple[str, str, str, str], expected: str
) -> None:
    keys = "memory.max: 50Mi, workload: shop/Deployment/web/app"
    spec = capplan.load(_file(tmp_path, "n.yaml", _named({"web": keys, "db": "memory.max: 9Mi"})))
    fits = Wish("shop", "Deployment", "db", "db", MIB, 8 * MIB)
    lost = Wish(*wish, MIB, 8 * MIB)
    _, problems = settings_of(Candidate("krr", "krr.json", [fits, lost]), spec)
    assert f"{'/'.join(wish)} is no container of this node" in str(problems[0])
    assert expected in str(problems[0])
    with pytest.raises(InputError, match=r"here are web \(shop/Deployment/web/app\), db \(no work"):
        settings_of(Candidate("krr", "krr.json", [lost]), spec)
