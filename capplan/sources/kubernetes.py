"""Kubernetes objects: manifests and what ``kubectl get -o yaml|json`` prints, as pods.

Kinds with a pod template become pods with replicas; Lists are opened; what holds no pods (services,
config maps, ...) is passed over; a custom resource that holds ``spec.resources`` and is run by an
operator (Prometheus, Alertmanager) is told, for its pods are not in the file.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capplan.errors import InputError, Problem
from capplan.sources.draft import doubt
from capplan.spec.tree import MAX_BYTES, parse_all, read_text
from capplan.units import Dialect, UnitError, parse_size

__all__ = ["Container", "KubeNode", "Objects", "Pod", "read_documents", "read_objects", "size_of"]

TEMPLATES = {
    "Deployment": ("spec", "template"), "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"), "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"), "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"), "PodTemplate": ("template",),
}  # fmt: skip
NODE_CRITICAL = "system-node-critical"
CRITICAL = (NODE_CRITICAL, "system-cluster-critical")
MIRROR = "kubernetes.io/config.source"  # "file" or "http" on static pods
MOST_DEPTH = 32  # of Lists in Lists


@dataclass(frozen=True)
class Container:
    """A container of a pod; sizes in bytes, None where nothing is written."""

    name: str
    image: str = ""
    request: int | None = None
    limit: int | None = None
    cpu_request: str | None = None
    cpu_limit: str | None = None
    sidecar: bool = False  # an init container that keeps running (restartPolicy: Always)
    init: bool = False  # runs to its end before the others
    tmpfs: tuple[tuple[str, int | None], ...] = ()  # emptyDirs in memory it mounts: name, limit


@dataclass(frozen=True)
class Pod:
    """A pod, or ``replicas`` of it."""

    name: str
    namespace: str = "default"
    kind: str = "Pod"
    replicas: int = 1
    containers: tuple[Container, ...] = ()
    priority: int = 0
    priority_class: str = ""
    node: str = ""
    static: bool = False
    restart: str = "Always"
    phase: str = ""  # of a pod that exists: Running, Pending, Succeeded, Failed
    request: int | None = None  # of the pod as a whole (spec.resources)
    limit: int | None = None
    owner: tuple[str, str] | None = None  # kind and name of what made a pod that exists

    @property
    def workload(self) -> tuple[str, str]:
        """Kind and name of what its resources are written in."""
        return self.owner or (self.kind, self.name)

    @property
    def critical(self) -> bool:
        """Whether the kubelet never evicts it and gives it the score of a Guaranteed pod."""
        return self.priority_class == NODE_CRITICAL

    @property
    def running(self) -> tuple[Container, ...]:
        """Containers that run as long as the pod does."""
        return tuple(c for c in self.containers if not c.init)


@dataclass(frozen=True)
class KubeNode:
    """A Node object."""

    name: str
    memory: int
    cpus: int
    kernel: str = ""
    kubelet: str = ""
    allocatable: int | None = None
    swap: int = 0


@dataclass
class Objects:
    """What the files hold."""

    pods: list[Pod] = field(default_factory=list)
    nodes: list[KubeNode] = field(default_factory=list)
    kubelet: Mapping[str, Any] | None = None
    problems: list[Problem] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # what holds no pods, for people


def read_objects(paths: Iterable[Path]) -> Objects:
    """Read manifests: YAML (several documents) or JSON, ``.gz`` or not.

    Raises
    ------
    InputError
        A file that cannot be read or is no YAML; Helm templates are named as such.
    """
    found = Objects()
    for path in paths:
        for document in read_documents(path):
            count = len(found.pods)
            _take(document, str(path), found, 0)
            if len(found.pods) == count and (what := _other(document)):
                found.others.append(f"{path}: {what}")
    return found


def _other(document: Any) -> str:
    """What a document without pods is; empty: there is nothing to say of it."""
    if not isinstance(document, Mapping):
        return ""
    kind = document.get("kind")
    inside = (
        {str(one.get("kind")) for one in _list(document.get("items"))} if kind == "List" else ()
    )
    if kind in ("Node", "NodeList") or inside == {"Node"}:
        return "a node; its pods are wanted too"
    if kind == "KubeletConfiguration":
        return "a kubelet's configuration; give it together with the pods"
    if kind is not None:
        return f"objects of kind {kind}"
    if any(str(key).startswith("--") for key in document):
        return "a kubelet's flags; what counts of them goes into a KubeletConfiguration"
    if "services" in document:
        return "a compose file, it seems: capplan import compose"
    if "pods" in document and "node" in document:
        return "the kubelet's /stats/summary: --stats takes it, beside the pods"
    return "no object, for it has no kind; are these Helm values? `helm template` prints objects"


def read_documents(path: Path) -> Iterator[Any]:
    """The documents of a file, YAML or JSON, ``.gz`` or not, as plain values.

    Raises
    ------
    InputError
        It cannot be read, is neither, or is a Helm template.
    """
    text = _text(path)
    if text.lstrip()[:1] in "{[":
        try:
            yield json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: not JSON: {error}") from error
        return
    if text.startswith(("# HELP ", "# TYPE ")):
        raise InputError(
            f"{path}: these are metrics\n    expected capplan import prometheus for them"
        )
    try:
        trees = parse_all(text, str(path))
    except InputError as error:
        if "{{" in text:
            raise InputError(
                f"{path}: this is a Helm template, not a manifest\n"
                "    expected what `helm template` prints"
            ) from error
        raise
    yield from (tree.plain() for tree in trees)


def _text(path: Path) -> str:
    if path.suffix != ".gz":
        return read_text(path, str(path))
    try:
        with gzip.open(path, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{path}: more than {MAX_BYTES >> 20} MiB when unpacked")
    return data.decode("utf-8", errors="replace")


def _take(document: Any, file: str, found: Objects, depth: int) -> None:
    """Sort one object into what was found."""
    if not isinstance(document, Mapping) or depth > MOST_DEPTH:
        return
    kind = str(document.get("kind", ""))
    items = document.get("items")
    if isinstance(items, list | tuple):
        of = kind.removesuffix("List") if kind != "List" else ""
        for item in items:
            inner = {"kind": of, **item} if isinstance(item, Mapping) and of else item
            _take(inner, file, found, depth + 1)
    elif kind == "Pod":
        found.pods.append(_pod(document, document, file, found.problems))
    elif kind in TEMPLATES:
        found.pods += _templated(document, kind, file, found.problems)
    elif kind == "Node":
        _node(document, file, found)
    elif kind == "KubeletConfiguration":
        found.kubelet = document
    elif isinstance(_at(document, "spec", "resources"), Mapping):
        name = _at(document, "metadata", "name")
        found.problems.append(
            doubt(file, 0, f"{kind} {name}: an operator makes its pods, they are not in this file",
                  "the pods themselves: kubectl get pods -o yaml")
        )  # fmt: skip


def _list(value: Any) -> list[Mapping[str, Any]]:
    """The mappings in a list; empty for anything else."""
    return (
        [one for one in value if isinstance(one, Mapping)]
        if isinstance(value, list | tuple)
        else []
    )


def _map(value: Any) -> Mapping[str, Any]:
    """A mapping; empty for anything else."""
    return value if isinstance(value, Mapping) else {}


def _at(value: Any, *path: str) -> Any:
    """The value at a path; None where there is none."""
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


# --- pods ----------------------------------------------------------------------------------


def _templated(
    document: Mapping[str, Any], kind: str, file: str, problems: list[Problem]
) -> Iterator[Pod]:
    template = _at(document, *TEMPLATES[kind])
    if not isinstance(template, Mapping):
        problems.append(doubt(file, 0, f"{kind} without a pod template: left out"))
        return
    count = _at(document, "spec", "parallelism" if kind in ("Job", "CronJob") else "replicas")
    replicas = count if isinstance(count, int) and count >= 0 else 1
    yield _pod(template, document, file, problems, kind=kind, replicas=replicas)


def _pod(
    template: Mapping[str, Any],
    owner: Mapping[str, Any],
    file: str,
    problems: list[Problem],
    *,
    kind: str = "Pod",
    replicas: int = 1,
) -> Pod:
    """A pod of its template; ``owner`` has the name."""
    spec, metadata = _map(_at(template, "spec")), _map(owner.get("metadata"))
    name = str(metadata.get("name") or metadata.get("generateName") or "pod").rstrip("-")
    told = f"{kind} {name}"
    tmpfs = dict(_memory_volumes(spec, told, file, problems))
    containers = [
        _container(one, told, file, problems, tmpfs, init=init)
        for init, key in ((True, "initContainers"), (False, "containers"))
        for one in _list(spec.get(key))
    ]
    priority = spec.get("priority")
    source = _at(template, "metadata", "annotations", MIRROR)
    return Pod(
        name=name,
        owner=_owner(metadata) if kind == "Pod" else None,
        namespace=str(metadata.get("namespace") or "default"),
        kind=kind,
        replicas=replicas,
        containers=tuple(containers),
        priority=priority if isinstance(priority, int) else 0,
        priority_class=str(spec.get("priorityClassName") or ""),
        node=str(spec.get("nodeName") or ""),
        static=source not in (None, "api"),
        restart=str(spec.get("restartPolicy") or "Always"),
        phase=str(_at(template, "status", "phase") or ""),
        request=size_of(_at(spec, "resources", "requests", "memory"), told, file, problems),
        limit=size_of(_at(spec, "resources", "limits", "memory"), told, file, problems),
    )


def _owner(metadata: Mapping[str, Any]) -> tuple[str, str] | None:
    """What made a pod; a ReplicaSet named ``name-hash`` was itself made by a Deployment."""
    made_by = [one for one in _list(metadata.get("ownerReferences")) if one.get("controller")]
    if not made_by or made_by[0].get("kind") == "Node":  # a static pod
        return None
    kind, name = str(made_by[0].get("kind") or "Pod"), str(made_by[0].get("name") or "")
    suffix = f"-{_at(metadata, 'labels', 'pod-template-hash')}"
    if kind == "ReplicaSet" and name.endswith(suffix):
        return "Deployment", name.removesuffix(suffix)
    return (kind, name) if name else None


def _memory_volumes(
    spec: Mapping[str, Any], told: str, file: str, problems: list[Problem]
) -> Iterator[tuple[str, int | None]]:
    """emptyDirs with ``medium: Memory``: name and sizeLimit."""
    for volume in _list(spec.get("volumes")):
        if _at(volume, "emptyDir", "medium") == "Memory":
            size = size_of(_at(volume, "emptyDir", "sizeLimit"), told, file, problems)
            yield str(volume.get("name")), size


def _container(
    one: Mapping[str, Any],
    pod: str,
    file: str,
    problems: list[Problem],
    tmpfs: Mapping[str, int | None],
    *,
    init: bool,
) -> Container:
    name = str(one.get("name") or "container")
    told = f"{pod}, container {name}"
    sidecar = init and one.get("restartPolicy") == "Always"
    mounts = [str(mount.get("name")) for mount in _list(one.get("volumeMounts"))]
    limit = size_of(_at(one, "resources", "limits", "memory"), told, file, problems)
    request = size_of(_at(one, "resources", "requests", "memory"), told, file, problems)
    cpu_limit, cpu = (_at(one, "resources", what, "cpu") for what in ("limits", "requests"))
    return Container(
        name=name,
        image=str(one.get("image") or ""),
        request=limit if request is None else request,  # the API server defaults it so
        limit=limit,
        cpu_request=_cpu(cpu_limit if cpu is None else cpu),
        cpu_limit=_cpu(cpu_limit),
        sidecar=sidecar,
        init=init and not sidecar,
        tmpfs=tuple((m, tmpfs[m]) for m in mounts if m in tmpfs),
    )


def _cpu(value: Any) -> str | None:
    return None if value is None else str(value)


def size_of(value: Any, told: str, file: str, problems: list[Problem]) -> int | None:
    """A memory quantity in bytes; one that is none is told and left out."""
    if value is None:
        return None
    try:
        return int(parse_size(value, Dialect.K8S))
    except (UnitError, TypeError) as error:
        problems.append(doubt(file, 0, f"{told}: {error}: left out"))
        return None


# --- nodes ---------------------------------------------------------------------------------


def _node(document: Mapping[str, Any], file: str, found: Objects) -> None:
    name = str(_at(document, "metadata", "name") or "node")
    told = f"Node {name}"
    status = _map(document.get("status"))
    memory = size_of(_at(status, "capacity", "memory"), told, file, found.problems)
    if memory is None:
        found.problems.append(doubt(file, 0, f"{told} has no status.capacity.memory: left out"))
        return
    cpus = str(_at(status, "capacity", "cpu") or "1")
    info = _map(status.get("nodeInfo"))
    swap = _at(info, "swap", "capacity")
    found.nodes.append(
        KubeNode(
            name=name,
            memory=memory,
            cpus=int(cpus) if cpus.isdecimal() and int(cpus) > 0 else 1,
            kernel=str(info.get("kernelVersion") or ""),
            kubelet=str(info.get("kubeletVersion") or ""),
            allocatable=size_of(_at(status, "allocatable", "memory"), told, file, found.problems),
            swap=swap if isinstance(swap, int) else 0,
        )
    )
