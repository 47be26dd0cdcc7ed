"""What targets write is read by the tools that will read it: nothing but complaints is checked.

kubernetes-validate holds the API server's own schemas, strict (an unknown key is an error);
compose_spec parses and validates compose files; Helm is Helm's own library (helm-python-sdk);
systemd-analyze and sysctl are Debian's; kustomize comes with kubectl, where there is one.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from capplan.targets import kubernetes, system
from capplan.targets.advice import Advised, Container, Workload
from capplan.units import UNLIMITED, parse_k8s

MIB = 1 << 20
KINDS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "Pod")
SIZES = {
    "memory.min": 64 * MIB, "memory.swap.max": 0, "memory.zswap.max": UNLIMITED,
    "oom_score_adj": -9,
}  # fmt: skip
NEWER = "MemoryZSwapMax"  # of systemd 253


def _container(name: str, workload: Workload | None = None, **more: Any) -> Container:
    sizes = {"limit": 700 * MIB + 4096, "request": 500 * MIB, "high": 650 * MIB} | more
    return Container(name, reason="evil: #\nkey: [value", workload=workload, **sizes)


ADVISED = Advised(
    name="worker",
    verdict="Limits of 1 GiB in all keep the risk within 1 %.\n]evil",
    containers=(
        *(_container(kind.lower(), Workload("shop", kind, kind.lower(), "app")) for kind in KINDS),
        _container("proxy", Workload("shop", "Deployment", "deployment", "proxy", sidecar=True)),
        _container("unlimited", limit=UNLIMITED, files=SIZES),
    ),
    groups=(Container("app.slice", limit=3 << 30, reason="r"),),
    sysctl={"vm.min_free_kbytes": 135168, "vm.lowmem_reserve_ratio": "256 256 32"},
    sysctl_reason="the fewest allocation stalls",
)


def _object(kind: str) -> dict[str, Any]:
    """The object that a patch is for, as the cluster has it: labels, an image, CPU requests."""
    labels = {"app": kind.lower()}
    pod: dict[str, Any] = {
        "containers": [
            {"name": "app", "image": "i:1", "resources": {"requests": {"cpu": "1"}}},
            {"name": "other", "image": "i:2"},
        ]
    }
    if kind == "Deployment":
        always = {"name": "proxy", "image": "p:1", "restartPolicy": "Always"}
        pod["initContainers"] = [always]
    if kind in ("Job", "CronJob"):
        pod["restartPolicy"] = "Never"
    made: dict[str, Any] = {
        "apiVersion": kubernetes.KINDS[kind][0],
        "kind": kind,
        "metadata": {"name": kind.lower(), "namespace": "shop"},
    }
    template = {"metadata": {"labels": labels}, "spec": pod}
    if kind == "Pod":
        return {**made, "spec": pod}
    if kind == "CronJob":
        return {**made, "spec": {"schedule": "@daily",
                                 "jobTemplate": {"spec": {"template": template}}}}  # fmt: skip
    spec: dict[str, Any] = {"template": template}
    if kind != "Job":
        spec["selector"] = {"matchLabels": labels}
    if kind == "StatefulSet":
        spec["serviceName"] = "s"
    return {**made, "spec": spec}


def _merged(below: Any, above: Any) -> Any:
    """The strategic merge of what patches hold: mappings by key, lists of names by name."""
    if isinstance(below, dict) and isinstance(above, dict):
        made = {**below, **{k: _merged(below.get(k), v) for k, v in above.items()}}
        return {key: value for key, value in made.items() if value is not None}
    if isinstance(above, list) and all("name" in one for one in above):
        by_name = {one["name"]: one for one in below or []}
        for one in above:
            assert one["name"] in by_name, f"the patch would add a container {one['name']}"
            by_name[one["name"]] = _merged(by_name[one["name"]], one)
        return list(by_name.values())
    return above


@pytest.mark.parametrize("kind", KINDS)
def test_patched_objects_are_valid(kind: str) -> None:
    validator = pytest.importorskip("kubernetes_validate")
    patch = yaml.safe_load(kubernetes.patches(ADVISED)[f"patch-{kind.lower()}.yaml"])
    made = _merged(_object(kind), patch)
    assert str(700 * MIB + 4096 >> 10) + "Ki" in str(made)
    assert "'cpu': '1'" in str(made)
    validator.validate(made, "1.37", strict=True)
    broken = _merged(_object(kind), patch) | {"spce": {}}
    with pytest.raises(validator.ValidationError, match="spce"):
        validator.validate(broken, "1.37", strict=True)


def test_kustomize_applies_the_patches(tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl here")
    resources = [_object(kind) for kind in KINDS]
    (tmp_path / "objects.yaml").write_text(yaml.safe_dump_all(resources))
    files = {
        name: text
        for name, text in kubernetes.patches(ADVISED, "Deployment", "shop").items()
        if "unlimited" not in name
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    kustomization = yaml.safe_load(files["kustomization.yaml"])
    kept = [one for one in kustomization["patches"] if one["path"] in files]
    more = {"resources": ["objects.yaml"], "patches": kept}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization | more))
    run = subprocess.run(
        ["kubectl", "kustomize", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    made = {one["kind"]: one for one in yaml.safe_load_all(run.stdout)}
    for kind in KINDS:
        patch = yaml.safe_load(files[f"patch-{kind.lower()}.yaml"])
        assert made[kind] == _merged(_object(kind), patch)


def test_compose_files_are_valid() -> None:
    compose = pytest.importorskip("compose_spec")
    text = system.compose_override(ADVISED)["compose.override.yaml"]
    read = compose.PyCompose.from_yaml(text).to_dict()["services"]
    limits = read["deployment"]["deploy"]["resources"]["limits"]
    assert limits["memory"] == f"{700 * 1024 + 4}kb"
    assert read["unlimited"]["oom_score_adj"] == -9
    with pytest.raises(Exception, match="unknown unit"):
        compose.PyCompose.from_yaml(text.replace("716804k", "716804q"))


def test_drop_ins_are_verified_by_systemd(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    files = system.systemd_dropins(ADVISED)
    units = {name.partition("/")[0].removesuffix(".d") for name in files}
    assert {"app.slice", "unlimited.service"} < units
    for unit in units:
        command = "[Service]\nExecStart=/bin/true\n" if unit.endswith(".service") else ""
        (tmp_path / unit).write_text(f"[Unit]\nDescription=x\n{command}")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)

    def complaints() -> list[str]:
        run = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / unit) for unit in units)],
            env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return [
            line for line in run.stderr.splitlines() if str(tmp_path) in line and NEWER not in line
        ]

    assert complaints() == []
    broken = tmp_path / "app.slice.d" / "90-capplan.conf"
    broken.write_text(broken.read_text() + "MemoryMost=3Q\n")
    assert any("MemoryMost" in line for line in complaints())


def test_sysctl_reads_its_file(tmp_path: Path) -> None:
    if shutil.which("sysctl") is None:
        pytest.skip("no sysctl here")
    path = tmp_path / "90-capplan.conf"
    path.write_text(system.sysctl_conf(ADVISED)["90-capplan.conf"], encoding="utf-8")
    run = subprocess.run(
        ["sysctl", "--dry-run", "--load", str(path)], capture_output=True, text=True, check=False
    )
    if "unrecognized" in run.stderr:
        pytest.skip("this sysctl has no --dry-run")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines() == [f"{key} = {value}" for key, value in ADVISED.sysctl.items()]


TEMPLATE = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}-deployment}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        {{- range $name, $own := .Values.deployment }}
        - name: {{ $name }}
          image: "i:1"
          resources:
            {{- toYaml $own.resources | nindent 12 }}
        {{- end }}
---
apiVersion: v1
kind: Pod
metadata: {name: {{ .Release.Name }}-pod}
spec:
  containers:
    - name: app
      image: "i:1"
      {{- with .Values.pod.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
"""


def test_helm_renders_a_chart_with_the_values(tmp_path: Path) -> None:
    """A chart as most are written, by Helm itself: what comes out is valid and has the sizes."""
    helm = pytest.importorskip("helm_python")
    validate = pytest.importorskip("kubernetes_validate")
    chart = tmp_path / "shop"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 0.1.0\n")
    defaults = {"cpu": "100m", "memory": "1Gi"}
    blocks = {name: {"resources": {"requests": defaults}} for name in ("app", "proxy")}
    values = {"deployment": blocks, "pod": {"resources": {"requests": defaults}}}
    (chart / "values.yaml").write_text(yaml.safe_dump(values))
    (chart / "templates" / "all.yaml").write_text(TEMPLATE)
    written = kubernetes.helm_values(ADVISED)["values.yaml"]
    with helm.Chart.load(str(chart)) as loaded:
        rendered = loaded.render(yaml.safe_load(written), name="demo", namespace="shop")
    deployment, pod = yaml.safe_load_all(rendered["shop/templates/all.yaml"])
    for made in (deployment, pod):
        validate.validate(made, "1.33", strict=True)
    containers = {c["name"]: c for c in deployment["spec"]["template"]["spec"]["containers"]}
    assert set(containers) == {"app", "proxy"}
    for container in (*containers.values(), *pod["spec"]["containers"]):
        sizes = container["resources"]
        assert sizes["requests"]["cpu"] == "100m"  # the chart's own stays
        assert parse_k8s(sizes["requests"]["memory"]) == 500 * MIB
        assert parse_k8s(sizes["limits"]["memory"]) == 700 * MIB + 4096
