"""Strategic-merge patches with a kustomization, Helm values, a kubelet fragment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capplan.spec.emit import Noted, emit
from capplan.targets.advice import Advised, Container, Workload
from capplan.units import UNLIMITED, format_k8s

__all__ = ["helm_values", "kubelet_fragment", "left_out", "patches"]

TEMPLATE = ("spec", "template", "spec")
# kind -> apiVersion, and where its pod template's spec is
KINDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "Deployment": ("apps/v1", TEMPLATE), "StatefulSet": ("apps/v1", TEMPLATE),
    "DaemonSet": ("apps/v1", TEMPLATE), "ReplicaSet": ("apps/v1", TEMPLATE),
    "ReplicationController": ("v1", TEMPLATE), "Job": ("batch/v1", TEMPLATE),
    "CronJob": ("batch/v1", ("spec", "jobTemplate", *TEMPLATE)), "Pod": ("v1", ("spec",)),
    "PodTemplate": ("v1", ("template", "spec")),
}  # fmt: skip
Place = tuple[str, str, str]  # namespace, kind, name


def patches(advised: Advised, kind: str = "Deployment", namespace: str = "") -> dict[str, str]:
    """One patch per workload, and a kustomization.yaml that names them.

    Parameters
    ----------
    advised : Advised
    kind, namespace : str
        Of containers of which the node file does not say what workload they are of. Such a
        container's name is its workload's, or ``workload.container``.

    Source: Kubernetes API reference, "Strategic Merge Patch" (containers merge by name; null takes
    a key away).
    """
    found = _workloads(advised, kind, namespace)
    made: dict[str, str] = {}
    for (space, of, name), containers in found.items():
        if of not in KINDS:
            continue
        version, path = KINDS[of]
        inside: Any = {
            key: [{"name": one.container, "resources": _resources(given)} for one, given in some]
            for key, some in (
                ("initContainers", [pair for pair in containers if pair[0].sidecar]),
                ("containers", [pair for pair in containers if not pair[0].sidecar]),
            )
            if some
        }
        for key in reversed(path):
            inside = {key: inside}
        metadata = {"name": name, **({"namespace": space} if space else {})}
        patch = {"apiVersion": version, "kind": of, "metadata": metadata, **inside}
        alone = [place for place in found if place[2] == name] == [(space, of, name)]
        file = name if alone else "-".join(filter(None, (space, of.lower(), name)))
        made[f"patch-{file}.yaml"] = emit(patch, advised.header)
    if not made:
        return {}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "patches": [{"path": name} for name in made],
    }
    header = (*advised.header, "Add your resources: here, or list these patches in your own.")
    return {**made, "kustomization.yaml": emit(kustomization, header)}


def left_out(advised: Advised) -> list[str]:
    """Workloads that no patch can be written for: an operator makes them of something else."""
    kinds = [one.workload for one in advised.containers if one.workload is not None]
    return sorted({f"{of.kind} {of.namespace}/{of.name}" for of in kinds if of.kind not in KINDS})


def _workloads(
    advised: Advised, kind: str, namespace: str
) -> dict[Place, list[tuple[Workload, Container]]]:
    """Containers by workload; of several replicas here the largest figures count.

    ``web.app`` is container app of web, ``web`` the only one of web.
    """
    found: dict[Place, dict[str, tuple[Workload, Container]]] = {}
    for one in advised.containers:
        if not one.resources:
            continue
        workload, _, name = one.name.partition(".")
        of = one.workload or Workload(namespace, kind, workload, name or workload)
        inside = found.setdefault((of.namespace, of.kind, of.name), {})
        there = inside.get(of.container)
        inside[of.container] = (of, one if there is None else there[1].larger(one))
    return {place: list(inside.values()) for place, inside in found.items()}


def _resources(one: Container) -> dict[str, Any]:
    """Requests and limits; the reason stands at the limit, or where there is something."""
    made: dict[str, Any] = {}
    if one.request is not None:
        note = "" if one.limit is not None else one.reason
        made["requests"] = {"memory": Noted(_quantity(one.request), note)}
    if one.limit is not None:
        made["limits"] = {"memory": Noted(_quantity(one.limit), one.reason)}
    return made


def _quantity(size: int) -> str | None:
    return None if size == UNLIMITED else format_k8s(size)


def helm_values(advised: Advised) -> dict[str, str]:
    """``resources`` blocks as most charts take them: by workload, and by container in it."""
    values: dict[str, Any] = {}
    for (_, _, name), containers in _workloads(advised, "", "").items():
        blocks = {of.container: {"resources": _resources(one)} for of, one in containers}
        values[name] = next(iter(blocks.values())) if len(blocks) == 1 else blocks
    return {"values.yaml": emit(values, advised.header)} if values else {}


def kubelet_fragment(advised: Advised) -> dict[str, str]:
    """A KubeletConfiguration drop-in (``--config-dir``): reserves and eviction thresholds.

    Source: k8s.io/kubelet/config/v1beta1 (types.go).
    """
    if not advised.kubelet:
        return {}
    made = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"}
    header = (*advised.header, *filter(None, [advised.kubelet_reason]))
    return {"90-capplan.conf": emit({**made, **advised.kubelet}, header)}
