"""Strategic-merge patches with a kustomization, Helm values, a kubelet fragment."""

from __future__ import annotations

from typing import Any

from capplan.spec.emit import Noted, emit
from capplan.targets.advice import Advised, Container
from capplan.units import format_k8s

__all__ = ["helm_values", "kubelet_fragment", "patches"]

KINDS = {
    "Deployment": "apps/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1", "Job": "batch/v1",
}  # fmt: skip
QUANTUM = 1 << 20


def patches(advised: Advised, kind: str = "Deployment", namespace: str = "") -> dict[str, str]:
    """One patch per workload, and a kustomization.yaml that names them.

    A container's name in the node file is its workload's, or ``workload.container``.

    Source: Kubernetes API reference, "Strategic Merge Patch" (containers merge by name).
    """
    made: dict[str, str] = {}
    for workload, containers in _workloads(advised).items():
        metadata = {"name": workload, **({"namespace": namespace} if namespace else {})}
        patch = {
            "apiVersion": KINDS[kind],
            "kind": kind,
            "metadata": metadata,
            "spec": {"template": {"spec": {"containers": [
                {"name": name, "resources": _resources(one)} for name, one in containers.items()
            ]}}},
        }  # fmt: skip
        made[f"patch-{workload}.yaml"] = emit(patch, _header(advised))
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "patches": [{"path": name} for name in made],
    }
    header = (*_header(advised), "Add your resources: here, or list these patches in your own.")
    made["kustomization.yaml"] = emit(kustomization, header)
    return made


def _workloads(advised: Advised) -> dict[str, dict[str, Container]]:
    """Containers by workload: ``web.app`` is container app of web, ``web`` the only one of web."""
    found: dict[str, dict[str, Container]] = {}
    for one in advised.containers:
        workload, _, name = one.name.partition(".")
        found.setdefault(workload, {})[name or workload] = one
    return found


def _resources(one: Container) -> dict[str, Any]:
    return {
        "requests": {"memory": format_k8s(one.request)},
        "limits": {"memory": Noted(format_k8s(one.limit), one.reason)},
    }


def helm_values(advised: Advised) -> dict[str, str]:
    """``resources`` blocks as most charts take them, by container."""
    values = {one.name: {"resources": _resources(one)} for one in advised.containers}
    return {"values.yaml": emit(values, _header(advised))}


def kubelet_fragment(advised: Advised) -> dict[str, str]:
    """A KubeletConfiguration drop-in (``--config-dir``) that reserves what pods cannot have.

    The high marks are kept free by kswapd: they are reserved with the system's memory, so that the
    scheduler does not promise them.
    """
    system = -(-(advised.daemons + advised.high_mark) // QUANTUM) * QUANTUM
    kernel = -(-advised.kernel // QUANTUM) * QUANTUM
    made = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "systemReserved": {
            "memory": Noted(
                format_k8s(system + kernel),
                f"kernel {format_k8s(kernel)}, daemons {format_k8s(advised.daemons)}, "
                f"free memory that kswapd keeps {format_k8s(advised.high_mark)}",
            )
        },
    }
    return {"90-capplan.conf": emit(made, _header(advised))}


def _header(advised: Advised) -> tuple[str, ...]:
    return (f"capplan recommend, node {advised.name}.", advised.verdict)
