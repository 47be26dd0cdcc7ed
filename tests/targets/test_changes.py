"""What a comparison's pick and a headroom's limits change, in every target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import capplan
from capplan.cli.main import cli
from capplan.targets import kubernetes, system
from capplan.targets.advice import read_advice

MIB = 1 << 20
WEB = """
    profile: {capplan: 1, profile: p, processes: {m: {regions: {h: {kind: anon, size: 50Mi}}}}}
    memory.max: 200Mi
    requests.memory: 100Mi"""
NODE = f"""
capplan: 1
node: {{memory: 8Gi, sysctl: {{vm.swappiness: 60}}}}
cgroup: {{groups: {{app.slice: {{memory.max: 4Gi}}, app.slice/db.slice: {{}}}}}}
kubelet: {{evictionHard: {{memory.available: 100Mi, nodefs.available: 10%}}}}
containers:
  web-0.app: {WEB}
    workload: shop/Deployment/web/app
  web-1.app: {WEB}
    workload: shop/Deployment/web/app
  web-0.proxy: {WEB}
    workload: shop/Deployment/web/init:proxy
  cron: {WEB}
    workload: jobs/CronJob/cron/job
  kafka: {WEB}
    workload: shop/StrimziPodSet/kafka/kafka
  db.service: {WEB}
    memory.low: 50Mi
    parent: app.slice/db.slice
"""
PICK = {
    "containers.web-0.app.memory.max": "150Mi", "containers.web-1.app.memory.max": "160Mi",
    "containers.web-0.app.requests.memory": "90Mi", "containers.web-0.proxy.memory.max": "64Mi",
    "containers.cron.memory.max": "max", "containers.kafka.memory.max": "99Mi",
    "containers.db.service.memory.max": "300Mi", "containers.db.service.memory.low": "60Mi",
    "containers.db.service.memory.high": "280Mi", "containers.db.service.oom_score_adj": "-100",
    "containers.db.service.memory.swap.max": "0",
    "groups.app.slice.memory.max": "3Gi", "vm.swappiness": "10", "vm.min_free_kbytes": "65536",
    "kubelet.evictionHard.memory.available": "500Mi", "node.memory": "16Gi",
}  # fmt: skip


@pytest.fixture
def comparison(tmp_path: Path) -> Path:
    """A result directory as ``capplan compare`` leaves it, with the input of a real node file."""
    path = tmp_path / "node.yaml"
    path.write_text(NODE, encoding="utf-8")
    spec = capplan.load(path)
    capplan.load(path, settings=PICK)  # what is picked could be run
    data = {
        "fits": True, "verdict": "Take B: fewer kills.", "format": 1, "kind": "comparison",
        "pick": 1, "name": "n",
        "settings": [{"label": "as written", "settings": {}}, {"label": "B", "settings": PICK}],
        "provenance": {"input": spec.resolved},
    }  # fmt: skip
    return _write(tmp_path / "out", data)


def _write(folder: Path, data: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps(data), encoding="utf-8")
    return folder


def _export(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["export", *map(str, args)], prog_name="capplan")
    return result.exit_code, result.stdout, result.stderr


def test_patches_of_the_pick(comparison: Path) -> None:
    files = kubernetes.patches(read_advice(comparison))
    web = yaml.safe_load(files["patch-web.yaml"])
    assert (web["kind"], web["metadata"]) == ("Deployment", {"name": "web", "namespace": "shop"})
    spec = web["spec"]["template"]["spec"]
    # two replicas stand on the node: the workload gets the larger limit
    assert spec["containers"] == [
        {
            "name": "app",
            "resources": {"requests": {"memory": "90Mi"}, "limits": {"memory": "160Mi"}},
        }
    ]
    assert spec["initContainers"] == [
        {"name": "proxy", "resources": {"limits": {"memory": "64Mi"}}}
    ]
    cron = yaml.safe_load(files["patch-cron.yaml"])
    inside = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert inside == [{"name": "job", "resources": {"limits": {"memory": None}}}]  # taken away
    assert "patch-kafka.yaml" not in files
    assert "picked: B (memory.max was 200Mi)" in files["patch-web.yaml"]


def test_what_no_file_holds_is_told(comparison: Path) -> None:
    code, _, err = _export("kubernetes", comparison)
    assert code == 0
    assert err.splitlines() == [
        "node.memory=16Gi: left out, none of these formats holds it",
        "StrimziPodSet shop/kafka: left out, an operator makes it",
    ]


def test_drop_ins_of_services_and_slices(comparison: Path) -> None:
    files = system.systemd_dropins(read_advice(comparison))
    db = files["db.service.d/90-capplan.conf"]
    assert db.endswith(
        "[Service]\nMemoryLow=60M\nMemorySwapMax=0\nMemoryHigh=280M\nMemoryMax=300M\n"
        "OOMScoreAdjust=-100\n"
    )
    assert "MemoryMax=infinity" in files["cron.service.d/90-capplan.conf"]
    assert files["app.slice.d/90-capplan.conf"].endswith("[Slice]\nMemoryMax=3G\n")
    assert "(memory.max was 4Gi)" in files["app.slice.d/90-capplan.conf"]


def test_compose_override_of_the_pick(comparison: Path) -> None:
    made = yaml.safe_load(system.compose_override(read_advice(comparison))["compose.override.yaml"])
    assert made["services"]["db.service"] == {
        "deploy": {"resources": {"limits": {"memory": "300m"}, "reservations": {"memory": "60m"}}},
        "memswap_limit": "300m", "oom_score_adj": -100,
    }  # fmt: skip
    assert made["services"]["cron"]["deploy"]["resources"]["limits"]["memory"] == "0"


def test_sysctl_and_kubelet_of_the_pick(comparison: Path) -> None:
    advised = read_advice(comparison)
    lines = system.sysctl_conf(advised)["90-capplan.conf"].splitlines()
    assert [line for line in lines if line[0] != "#"] == [
        "vm.swappiness = 10", "vm.min_free_kbytes = 65536",
    ]  # fmt: skip
    fragment = yaml.safe_load(kubernetes.kubelet_fragment(advised)["90-capplan.conf"])
    assert fragment["evictionHard"] == {"memory.available": "500Mi", "nodefs.available": "10%"}
    assert set(fragment) == {"apiVersion", "kind", "evictionHard"}


def test_headroom_gives_the_limits_and_says_they_were_lowered_alone(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(NODE, encoding="utf-8")

    def room(kind: str, name: str, value: str | None) -> dict[str, Any]:
        key = f"containers.{name}.memory.max"
        return {"kind": kind, "container": name, "key": key, "present": "200Mi", "value": value,
                "statement": f"{name} comes down to {value}"}  # fmt: skip

    rooms = [room("limit", "web-0.app", "120Mi"), room("limit", "web-1.app", None),
             room("limit", "cron", "80Mi"), room("replicas", "kafka", "9")]  # fmt: skip
    data = {
        "verdict": "Room for more.", "format": 1, "kind": "headroom", "name": "n", "rooms": rooms,
        "provenance": {"input": capplan.load(path).resolved},
    }  # fmt: skip
    advised = read_advice(_write(tmp_path / "out", data))
    assert [(one.name, one.limit) for one in advised.containers] == [
        ("web-0.app", 120 * MIB), ("cron", 80 * MIB),
    ]  # fmt: skip
    text = kubernetes.patches(advised)["patch-web.yaml"]
    assert "Each limit was lowered by itself" in text
    assert "web-0.app comes down to 120Mi" in text


def test_a_kind_that_the_result_does_not_hold_is_refused(tmp_path: Path, comparison: Path) -> None:
    data = json.loads((comparison / "summary.json").read_text())
    data["settings"][1]["settings"] = {"vm.swappiness": "10"}
    code, _, err = _export("compose", _write(tmp_path / "other", data))
    assert code == 2
    assert "nothing in it for compose\n    expected one of: sysctl" in err
    data["settings"][1]["settings"] = {}
    code, _, err = _export("compose", _write(tmp_path / "same", data))
    assert (code, "what it picks is as written" in err) == (2, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"kind": "risk"}, "a result of kind 'risk' holds nothing to apply"),
     ({"settings": []}, "not a whole comparison"), ({"provenance": {}}, "not a whole comparison")],
)  # fmt: skip
def test_what_is_not_whole_is_refused(
    comparison: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    data = json.loads((comparison / "summary.json").read_text()) | change
    code, _, err = _export("kubernetes", _write(tmp_path / "other", data))
    assert code == 2
    assert message in err
