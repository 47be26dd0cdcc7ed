"""What targets write, read back by the readers of each format."""

from __future__ import annotations

import configparser
import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from capplan.cli.main import cli
from capplan.errors import InputError
from capplan.targets import kubernetes, system
from capplan.targets.advice import Advised, Container, read_advice
from capplan.units import Dialect, parse_size

MIB = 1 << 20
ADVISED = Advised(
    name="worker",
    verdict="Limits of 1 GiB in all keep the risk within 1 %.",
    containers=(
        Container("web", 700 * MIB, 500 * MIB, 650 * MIB, "gives back 68 MiB"),
        Container("db.postgres", 1024 * MIB, 900 * MIB, None, "evil: #\nkey: [value"),
        Container("db.exporter", 30 * MIB + 4096, 20 * MIB, None, "stays as it is"),
    ),
    sysctl={"vm.min_free_kbytes": 135168},
    sysctl_reason="the fewest allocation stalls",
    kubelet={"systemReserved": {"memory": "849Mi"}},
    kubelet_reason="kernel 400Mi, daemons 350Mi, free memory that kswapd keeps 99Mi",
)


def test_patches_merge_by_container_name() -> None:
    files = kubernetes.patches(ADVISED, "StatefulSet", "shop")
    patch = yaml.safe_load(files["patch-db.yaml"])
    assert patch["metadata"] == {"name": "db", "namespace": "shop"}
    containers = patch["spec"]["template"]["spec"]["containers"]
    assert [c["name"] for c in containers] == ["postgres", "exporter"]
    assert containers[0]["resources"] == {
        "requests": {"memory": "900Mi"}, "limits": {"memory": "1Gi"},
    }  # fmt: skip
    listed = yaml.safe_load(files["kustomization.yaml"])["patches"]
    assert [entry["path"] for entry in listed] == ["patch-web.yaml", "patch-db.yaml"]


def test_reasons_are_comments_that_cannot_break_out() -> None:
    text = kubernetes.patches(ADVISED)["patch-db.yaml"]
    assert "# evil: # key: [value" in text
    assert "key" not in yaml.safe_load(text)


def test_helm_and_kubelet() -> None:
    values = yaml.safe_load(kubernetes.helm_values(ADVISED)["values.yaml"])
    assert values["web"]["resources"]["limits"]["memory"] == "700Mi"
    assert values["db"]["exporter"]["resources"]["requests"]["memory"] == "20Mi"
    fragment = yaml.safe_load(kubernetes.kubelet_fragment(ADVISED)["90-capplan.conf"])
    assert parse_size(fragment["systemReserved"]["memory"]) == 849 * MIB


def test_compose_sizes_mean_the_same_in_its_dialect() -> None:
    made = yaml.safe_load(system.compose_override(ADVISED)["compose.override.yaml"])
    for one in ADVISED.containers:
        resources = made["services"][one.name]["deploy"]["resources"]
        assert parse_size(resources["limits"]["memory"], Dialect.DOCKER) == one.limit
        assert parse_size(resources["reservations"]["memory"], Dialect.DOCKER) == one.request


def test_systemd_drop_ins() -> None:
    files = system.systemd_dropins(ADVISED)
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read_string(files["web.service.d/90-capplan.conf"])
    assert dict(parser["Service"]) == {
        "MemoryLow": "500M", "MemoryHigh": "650M", "MemoryMax": "700M",
    }  # fmt: skip
    assert "MemoryHigh" not in files["db.postgres.service.d/90-capplan.conf"]
    size = f"{(30 * MIB + 4096) // 1024}K"
    assert f"MemoryMax={size}" in files["db.exporter.service.d/90-capplan.conf"]


def _result(tmp_path: Path, **changes: object) -> Path:
    data = {
        "format": 1, "name": "worker", "verdict": "v",
        "containers": [
            {"container": "web", "limit": 2 * MIB, "request": MIB, "high": None, "reason": "r"}
        ],
        "sysctl": {}, "sysctl_reason": "kept",
        "reserved": {"kernel": 1, "daemons": 2, "high_mark": 3},
    } | changes  # fmt: skip
    (tmp_path / "recommendation.json").write_text(json.dumps(data), encoding="utf-8")
    return tmp_path


def _export(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["export", *map(str, args)], prog_name="capplan")
    return result.exit_code, result.stdout, result.stderr


def test_export_prints_or_writes(tmp_path: Path) -> None:
    result = _result(tmp_path)
    code, text, _ = _export("compose", result)
    assert code == 0
    assert yaml.safe_load(text)["services"]["web"]
    code, text, _ = _export("systemd", result, "--out", tmp_path / "out")
    assert code == 0
    assert (tmp_path / "out" / "web.service.d" / "90-capplan.conf").exists()
    code, _, err = _export("systemd", result, "--out", tmp_path / "out")
    assert code == 2
    assert "there already; --force replaces it" in err


def test_the_reserve_holds_kernel_daemons_and_marks(tmp_path: Path) -> None:
    reserved = {"kernel": 400 * MIB - 7, "daemons": 350 * MIB, "high_mark": 99 * MIB}
    advised = read_advice(_result(tmp_path, reserved=reserved))
    assert advised.kubelet == {"systemReserved": {"memory": "849Mi"}}
    assert advised.kubelet_reason.startswith("kernel 400Mi, daemons 350Mi")


def test_a_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    bad = [{"container": "../../x", "limit": 1, "request": 1, "high": None, "reason": ""}]
    result = _result(tmp_path, containers=bad)
    code, _, err = _export("systemd", result, "--out", tmp_path / "out")
    assert code == 2
    assert "leads out of" in err


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"format": 9}, "format 9 is not known"), ({"reserved": 3}, "not a whole recommendation")],
)
def test_what_is_no_recommendation_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_advice(_result(tmp_path, **changes))
