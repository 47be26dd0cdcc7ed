"""Real files: every one is imported, or refused with the reason that is right for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import capplan.api
from capplan.cli.main import cli
from capplan.sources.kubernetes_stats import read_stats
from capplan.spec.loader import NodeSpec, load

MIB = 1 << 20
HELM = "this is a Helm template, not a manifest\n    expected what `helm template` prints"
VALUES = "no object, for it has no kind; are these Helm values?"
OPERATOR = "an operator makes its pods, they are not in this file"
CONFIG = "a kubelet's configuration; give it together with the pods"
# file or folder -> how it is imported and how many containers it gives, or why it is refused
FILES: dict[str, tuple[str, int | str]] = {
    "awesome-compose/minecraft-compose.yaml": ("compose", 1),
    "deathstarbench/socialnetwork-values.yaml": ("kubernetes", VALUES),
    "kube-prometheus/alertmanager-alertmanager.yaml": ("kubernetes", OPERATOR),
    "kube-prometheus/blackboxExporter-deployment.yaml": ("kubernetes", 3),
    "kube-prometheus/grafana-deployment.yaml": ("kubernetes", 1),
    "kube-prometheus/kubeStateMetrics-deployment.yaml": ("kubernetes", 3),
    "kube-prometheus/nodeExporter-daemonset.yaml": ("kubernetes", 2),
    "kube-prometheus/prometheus-prometheus.yaml": ("kubernetes", OPERATOR),
    "kube-prometheus/prometheusAdapter-deployment.yaml": ("kubernetes", 1),
    "kube-prometheus/prometheusOperator-deployment.yaml": ("kubernetes", 2),
    "kubelet/aks-kubelet-1.27.1-flags.json": ("kubernetes", "a kubelet's flags"),
    "kubelet/aks-kubelet-config.json": ("kubernetes", CONFIG),
    "kubelet/eks-kubelet-config-maxpods.json": ("kubernetes", CONFIG),
    "kubelet/eks-kubelet-config.json": ("kubernetes", CONFIG),
    "online-boutique/helm-values.yaml": ("kubernetes", VALUES),
    "online-boutique/kubernetes-manifests.yaml": ("kubernetes", 12),
    "opentelemetry-demo/compose.observability.yaml": ("compose", 8),
    "opentelemetry-demo/compose.yaml": ("compose", 20),
    "robot-shop/cart-deployment.yaml": ("kubernetes", HELM),
    "robot-shop/mongodb-deployment.yaml": ("kubernetes", HELM),
    "robot-shop/mysql-deployment.yaml": ("kubernetes", HELM),
    "robot-shop/shipping-deployment.yaml": ("kubernetes", HELM),
    "robot-shop/web-deployment.yaml": ("kubernetes", HELM),
    "sock-shop/complete-demo.yaml": ("kubernetes", 15),
    "sock-shop/docker-compose.yml": ("compose", 15),
    "sock-shop/helm-values.yaml": ("kubernetes", VALUES),
    "strimzi/060-Deployment-strimzi-cluster-operator.yaml": ("kubernetes", 1),
    "train-ticket/quickstart-ts-deployment-part1.yml": ("kubernetes", 22),
    "train-ticket/quickstart-ts-deployment-part2.yml": ("kubernetes", 41),
    "train-ticket/quickstart-ts-deployment-part3.yml": ("kubernetes", 1),
    **{
        f"snapshots/nri-kubernetes-{version}/{name}": way
        for version in ("1_31", "1_35")
        for name, way in {
            "ksm_metrics.gz": ("kubernetes", "these are metrics\n    expected capplan import prom"),
            "kubelet_metrics_cadvisor.gz": ("prometheus", 17),
            "kubelet_pods.gz": ("kubernetes", 18),
            "kubelet_stats_summary": ("kubernetes", "--stats takes it, beside the pods"),
            "nodes.yaml": ("kubernetes", "a node; its pods are wanted too"),
        }.items()
    },
}  # fmt: skip


def _import(kind: str, *args: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["import", kind, *map(str, args)], prog_name="capplan")
    return result.exit_code, result.stderr


def test_the_table_has_every_file(shared: Path) -> None:
    folder = shared / "traces" / "manifests"
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found - set(FILES) == {"README.md", "SOURCES.tsv"}
    assert set(FILES) <= found


@pytest.mark.parametrize("name", FILES)
def test_imported_or_refused_for_the_right_reason(shared: Path, tmp_path: Path, name: str) -> None:
    kind, expected = FILES[name]
    file = shared / "traces" / "manifests" / name
    code, err = _import(kind, file, "--memory", "256Gi", "--out", tmp_path / "out")
    if isinstance(expected, str):
        assert code == 2
        assert expected in err
        assert not (tmp_path / "out").exists()
        return
    assert code == 0, err
    assert len(load(tmp_path / "out" / "node.yaml").containers) == expected


@pytest.fixture(params=["1_31", "1_35"])
def snapshot(request: pytest.FixtureRequest, shared: Path, tmp_path: Path) -> tuple[Path, NodeSpec]:
    """A real node's snapshot, imported as its user would."""
    folder = shared / "traces" / "manifests" / "snapshots" / f"nri-kubernetes-{request.param}"
    code, err = _import(
        "kubernetes", folder / "nodes.yaml", folder / "kubelet_pods.gz", "--stats",
        folder / "kubelet_stats_summary", "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, err
    return folder, load(tmp_path / "out" / "node.yaml", {"run.duration": "1s"})


def test_a_node_snapshot_starts_as_it_was(snapshot: tuple[Path, NodeSpec]) -> None:
    folder, spec = snapshot
    run = capplan.api.simulate(spec).run
    stats = read_stats(folder / "kubelet_stats_summary")
    node = json.loads((folder / "kubelet_stats_summary").read_text())["node"]
    memory = {key: float(run.series[f"meminfo_kb.{key}"][0]) * 1024
              for key in ("AnonPages", "MemTotal", "MemFree")}  # fmt: skip
    # processes' sizes are whole pages: a page for each container at most
    assert memory["AnonPages"] == pytest.approx(node["memory"]["rssBytes"], abs=4096 * len(stats))
    used = memory["MemTotal"] - memory["MemFree"]
    assert used == pytest.approx(node["memory"]["usageBytes"], rel=0.03)
    assert spec.node.swap[0].size == node["swap"]["swapAvailableBytes"]
    names = {**{pod: one for (_, pod, _), one in stats.items()},
             **{f"{pod}.{name}": one for (_, pod, name), one in stats.items()}}  # fmt: skip
    assert len(spec.containers) >= 16
    for name, one in spec.containers.items():
        found = float(run.series[f"cgroup.{one.group(name)}.memory.current"][0])
        # less than a MiB of cache is no region of its own; page tables are the simulation's
        assert found == pytest.approx(names[name].usage, abs=MIB), name
