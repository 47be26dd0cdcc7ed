"""Kubernetes manifests become node files with what the kubelet would write."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import capplan
from capplan.cli.main import cli
from capplan.errors import InputError
from capplan.sources.kubernetes import Container, KubeNode, Pod, read_objects
from capplan.sources.kubernetes_node import draft_of
from capplan.sources.kubernetes_qos import (
    Rules,
    kubepods_limit,
    memory_high,
    oom_score_adj,
    pod_limit,
    qos,
    swap_max,
)
from capplan.sources.write import write

MIB, GIB = 1 << 20, 1 << 30

MANIFEST = """
apiVersion: v1
kind: List
items:
  - kind: Deployment
    metadata: {name: web, namespace: shop}
    spec:
      replicas: 3
      template:
        spec:
          priorityClassName: high
          initContainers:
            - {name: migrate, resources: {limits: {memory: 1Gi}}}
            - {name: proxy, restartPolicy: Always, resources: {requests: {memory: 32Mi}}}
          containers:
            - name: app
              image: shop/web:1
              resources: {requests: {memory: 128Mi, cpu: 100m}, limits: {memory: 256Mi}}
              volumeMounts: [{name: scratch, mountPath: /tmp}]
          volumes: [{name: scratch, emptyDir: {medium: Memory, sizeLimit: 64Mi}}]
---
kind: StatefulSet
metadata: {name: db}
spec:
  template:
    spec:
      containers:
        - {name: db, resources: {limits: {memory: 1Gi, cpu: 1}}}
---
kind: Pod
metadata: {name: batch}
spec: {restartPolicy: Never, containers: [{name: job}]}
---
kind: Service
metadata: {name: web}
"""
NODE = KubeNode("n1", 16_325_632 * 1024, 4, "6.12", "v1.31.0")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "app.yaml"
    path.write_text(MANIFEST, encoding="utf-8")
    return path


# --- the kubelet's arithmetic ----------------------------------------------------------------


def _pod(*containers: Container, **more: object) -> Pod:
    return Pod("p", containers=containers, **more)  # type: ignore[arg-type]


def _asked(request: int | None, limit: int | None, cpu: str | None = None) -> Container:
    return Container("c", request=request, limit=limit, cpu_request=cpu, cpu_limit=cpu)


def test_quality_of_service() -> None:
    assert qos(_pod(_asked(None, None))) == "BestEffort"
    assert qos(_pod(_asked(1, 1, "1"))) == "Guaranteed"
    assert qos(_pod(_asked(1, 1))) == "Burstable"  # no CPU: not Guaranteed
    assert qos(_pod(_asked(1, 1, "1"), _asked(None, None))) == "Burstable"


@pytest.mark.parametrize(
    ("request_bytes", "adj"), [(GIB, 938), (4 * GIB, 750), (16 * GIB, 3), (MIB, 999)]
)
def test_oom_score_adj_of_a_burstable_pod(request_bytes: int, adj: int) -> None:
    container = _asked(request_bytes, None)
    assert oom_score_adj(_pod(container), container, 16 * GIB) == adj


def test_a_sidecar_dies_no_later_than_its_pod() -> None:
    main = Container("main", request=8 * GIB, limit=None)
    proxy = Container("proxy", request=64 * MIB, limit=None, sidecar=True)
    pod = _pod(proxy, main)
    assert oom_score_adj(pod, proxy, 16 * GIB) == oom_score_adj(pod, main, 16 * GIB) == 500


def test_memory_qos_and_reserves_are_the_documented_figures() -> None:
    assert memory_high(128 * MIB, 256 * MIB, 0, 0.9) == 255_012_864
    assert kubepods_limit(16_325_632 * 1024, 1536 * MIB) == 14_752_768 * 1024


def test_limited_swap_is_a_share_of_the_request() -> None:
    rules = Rules(limited_swap=True)
    container = _asked(4 * GIB, 8 * GIB)
    assert swap_max(_pod(container), container, 16 * GIB, 2 * GIB, rules) == 512 * MIB
    whole = _asked(GIB, GIB)
    assert swap_max(_pod(whole), whole, 16 * GIB, 2 * GIB, rules) == 0
    assert swap_max(_pod(container), container, 16 * GIB, 2 * GIB, Rules()) == 0


def test_a_pod_has_a_limit_when_every_container_has() -> None:
    assert pod_limit(_pod(_asked(1, 10), _asked(1, 20))) == 30
    assert pod_limit(_pod(_asked(1, 10), _asked(1, None))) is None


def test_rules_by_version() -> None:
    assert not Rules.of(None, "v1.27.3", "v2").oom_group
    assert Rules.of(None, "v1.28.0", "v2").oom_group
    assert not Rules.of({"singleProcessOOMKill": True}, "v1.32.0", "v2").oom_group
    assert Rules.of({"featureGates": {"MemoryQoS": True}}, "v1.31", "v2").throttling_factor == 0.9
    assert Rules.of(None, "v1.37", "v2").throttling_factor is None


@given(st.integers(0, 1 << 45), st.integers(1 << 20, 1 << 45))
def test_a_burstable_score_lies_between_the_classes(request_bytes: int, capacity: int) -> None:
    container = _asked(request_bytes, None)
    assert 3 <= oom_score_adj(_pod(container), container, capacity) <= 1000


# --- objects ---------------------------------------------------------------------------------


def test_objects_of_all_documents_and_lists_are_read(manifest: Path) -> None:
    found = read_objects([manifest])
    web, db, batch = found.pods
    assert (web.name, web.kind, web.replicas, web.namespace) == ("web", "Deployment", 3, "shop")
    assert [(c.name, c.sidecar, c.init) for c in web.containers] == [
        ("migrate", False, True), ("proxy", True, False), ("app", False, False),
    ]  # fmt: skip
    app = web.containers[2]
    assert (app.request, app.limit, app.tmpfs) == (128 * MIB, 256 * MIB, (("scratch", 64 * MIB),))
    assert db.containers[0].request == GIB  # defaulted to the limit
    assert qos(db) == "Guaranteed"
    assert batch.restart == "Never"


def test_the_node_file_loads_and_holds_the_groups(manifest: Path, tmp_path: Path) -> None:
    draft = draft_of(read_objects([manifest]), node=NODE)
    node, *_ = write(draft, tmp_path / "out")
    spec = capplan.load(node)
    assert spec.cgroup.groups["kubepods.slice"].written() == {"memory.max": NODE.memory}
    # two running containers: a group for each of the three pods
    pods = [path for path in spec.cgroup.groups if "/pod-" in path]
    assert len(pods) == 3
    app = spec.containers["web-0.app"]
    assert app.parent == "kubepods.slice/kubepods-burstable.slice/pod-shop-web-0"
    assert app.written() == {"memory.max": 256 * MIB, "memory.oom.group": True}
    assert app.requests_memory == 128 * MIB
    assert spec.containers["db"].oom_score_adj == -997
    assert spec.containers["db"].parent == "kubepods.slice"
    assert "tmpfs-scratch" in spec.profiles["web-0.app"].processes["main"].regions
    assert any("init container migrate" in str(p) for p in draft.problems)


def test_the_kubelets_configuration_is_taken_over(manifest: Path, tmp_path: Path) -> None:
    config = tmp_path / "kubelet.json"
    config.write_text(
        '{"kind": "KubeletConfiguration", "kubeReserved": {"memory": "893Mi"}, '
        '"evictionHard": {"memory.available": "200Mi", "nodefs.available": "10%"}}',
        encoding="utf-8",
    )
    draft = draft_of(read_objects([manifest, config]), node=NODE)
    node, *_ = write(draft, tmp_path / "out")
    spec = capplan.load(node)
    assert spec.cgroup.groups["kubepods.slice"].written() == {"memory.max": NODE.memory - 893 * MIB}
    kubelet = spec.model.kubelet
    assert kubelet is not None
    assert kubelet.eviction_hard is not None
    assert kubelet.eviction_hard.memory_available == 200 * MIB


def test_what_is_measured_counts(manifest: Path, tmp_path: Path) -> None:
    from capplan.sources.kubernetes_stats import Usage

    stats = {("default", "db-0", "db"): Usage(500 * MIB, 400 * MIB, 300 * MIB)}
    draft = draft_of(read_objects([manifest]), node=NODE, stats=stats)
    node, *_ = write(draft, tmp_path / "out")
    regions = capplan.load(node).profiles["db"].processes["main"].regions
    assert regions["heap"].size is not None
    assert regions["heap"].size.constant == 300 * MIB
    assert regions["cache"].size is not None
    assert regions["cache"].size.constant == 200 * MIB


# --- bad input -------------------------------------------------------------------------------


def test_a_helm_template_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("kind: Deployment\nspec: {{ .Values.x }}\n", encoding="utf-8")
    with pytest.raises(InputError, match="this is a Helm template, not a manifest"):
        read_objects([path])


def test_a_bad_quantity_is_told_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(
        "kind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, resources: "
        "{limits: {memory: lots}}}]}\n",
        encoding="utf-8",
    )
    found = read_objects([path])
    assert found.pods[0].containers[0].limit is None
    assert "Pod p, container c: 'lots' is not" in str(found.problems[0])


def test_nothing_to_import_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text("replicas: 3\n", encoding="utf-8")
    result = CliRunner().invoke(
        cli, ["import", "kubernetes", str(path), "--memory", "8Gi", "--out", str(tmp_path / "o")],
        prog_name="capplan",
    )  # fmt: skip
    assert result.exit_code == 2
    assert "there are no pods in these files" in result.stderr
    assert not (tmp_path / "o").exists()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["kind", "spec", "template", "containers", "items", "metadata", "name",
                         "resources", "limits", "memory", "volumes", "initContainers"]),
        inner, max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


@given(_JSON)
def test_no_object_makes_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, value: object
) -> None:
    import json

    path = tmp_path_factory.mktemp("fuzz") / "o.json"
    path.write_text(json.dumps({"kind": "Pod", "spec": value, "items": value}), encoding="utf-8")
    try:
        read_objects([path])
    except InputError:
        return


# --- real manifests --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "pods", "without"),
    [("online-boutique", 12, 0), ("sock-shop", 14, 7), ("strimzi", 1, 0), ("train-ticket", 64, 0)],
)
def test_real_manifests(shared: Path, folder: str, pods: int, without: int) -> None:
    files = [
        path
        for path in sorted((shared / "traces" / "manifests" / folder).iterdir())
        if path.suffix in (".yaml", ".yml") and "values" not in path.name
        and "compose" not in path.name
    ]  # fmt: skip
    found = read_objects(files)
    running = [c for pod in found.pods for c in pod.running]
    assert len(found.pods) == pods
    assert sum(c.request is None for c in running) == without


@pytest.mark.small
def test_json_nested_without_end_is_told_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"deep.json: not JSON"):
        read_objects([path])
