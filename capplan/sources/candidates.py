"""What other tools recommend, as candidates: KRR's JSON and VerticalPodAutoscaler objects.

KRR (``krr simple -f json``) has one ``scans`` entry for each container of each workload; a figure
is bytes as a number, ``"?"`` where it has too little data, or null where it would leave the setting
away. A VPA's ``status.recommendation`` has a target and bounds for the requests of each container;
what its admission controller makes of the limits is worked out here.

Source: robusta-dev/krr, robusta_krr/core/models (Result, ResourceScan, K8sObjectData);
kubernetes/autoscaler, vertical-pod-autoscaler/docs/api.md and
pkg/utils/vpa/limit_and_request_scaling.go (limits keep their ratio to the requests).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capplan.errors import InputError, Problem
from capplan.sources.draft import doubt
from capplan.sources.kubernetes import read_documents, size_of

__all__ = ["KEEP", "NONE", "Candidate", "Wish", "read_candidates"]

KEEP, NONE = -2, -1  # what is written stays; nothing is written any more
BOUNDS = ("target", "lowerBound", "upperBound", "uncappedTarget")
MOST_DEPTH = 32  # of Lists in Lists


@dataclass(frozen=True)
class Wish:
    """What is recommended for one container [bytes]; KEEP or NONE.

    ``scaled``: the limit keeps its ratio to the request, whatever they are.
    """

    namespace: str
    kind: str
    workload: str
    container: str
    request: int = KEEP
    limit: int = KEEP
    scaled: bool = False
    pods: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """Its name for people."""
        return f"{self.namespace}/{self.kind}/{self.workload}/{self.container}"


@dataclass
class Candidate:
    """One column of a comparison: what a tool says of all containers."""

    name: str
    file: str
    wishes: list[Wish] = field(default_factory=list)


def read_candidates(paths: Iterable[Path]) -> tuple[list[Candidate], list[Problem]]:
    """Read files of KRR and VPA.

    Returns
    -------
    list of Candidate
        ``krr``; ``vpa target``, ``vpa lowerBound``, ``vpa upperBound``, and ``vpa uncappedTarget``
        where a policy capped any target. Of several files of a kind each carries its file's name.
    list of Problem
        What holds no recommendation.

    Raises
    ------
    InputError
        A file that is neither.
    """
    found: list[Candidate] = []
    problems: list[Problem] = []
    for path in paths:
        made = list(_of_file(path, problems))
        if not any(one.wishes for one in made):
            told = "".join(
                f"\n{problem}" for problem in problems if problem.place.file == str(path)
            )
            raise InputError(
                f"{path}: no recommendation in it{told}\n    expected what `krr simple -f json` or "
                "`kubectl get vpa -o yaml` prints"
            )
        taken = {one.name for one in found}
        for one in made:
            one.name = f"{one.name} {path.stem}" if one.name in taken else one.name
        found += made
    return found, problems


def _of_file(path: Path, problems: list[Problem]) -> Iterator[Candidate]:
    file = str(path)
    krr = Candidate("krr", file)
    vpa = {bound: Candidate(f"vpa {bound}", file) for bound in BOUNDS}
    for document in read_documents(path):
        if isinstance(document, Mapping) and isinstance(document.get("scans"), list | tuple):
            for scan in document["scans"]:
                krr.wishes += _krr(scan, file, problems)
        for one in _vpas(document, 0):
            _vpa(one, file, vpa, problems)
    if krr.wishes:
        yield krr
    if vpa["uncappedTarget"].wishes == vpa["target"].wishes:
        vpa.pop("uncappedTarget")
    yield from (one for one in vpa.values() if one.wishes)


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Mapping[str, Any]]:
    found = value if isinstance(value, list | tuple) else ()
    return [one for one in found if isinstance(one, Mapping)]


# --- KRR -----------------------------------------------------------------------------------


def _krr(scan: Any, file: str, problems: list[Problem]) -> Iterator[Wish]:
    about = _map(_map(scan).get("object"))
    name, container = (about.get(key) for key in ("name", "container"))
    if not (isinstance(name, str) and isinstance(container, str)):
        problems.append(doubt(file, 0, "a scan that names no object and container: left out"))
        return
    recommended = _map(_map(scan).get("recommended"))
    named = Wish(
        namespace=str(about.get("namespace") or "default"),
        kind=str(about.get("kind") or "Deployment"),
        workload=name,
        container=container,
        pods=tuple(
            str(pod.get("name")) for pod in _list(about.get("pods")) if not pod.get("deleted")
        ),
    )
    sizes = {
        key: _krr_size(_map(recommended.get(key)).get("memory"), f"{named.told} {key}", file,
                       problems)
        for key in ("requests", "limits")
    }  # fmt: skip
    if set(sizes.values()) == {KEEP}:
        return
    yield Wish(
        named.namespace, named.kind, named.workload, named.container,
        request=sizes["requests"], limit=sizes["limits"], pods=named.pods,
    )  # fmt: skip


def _krr_size(value: Any, told: str, file: str, problems: list[Problem]) -> int:
    """A figure of KRR: with its severity or without; "?" is kept as it is, null is none."""
    if isinstance(value, Mapping):
        value = value.get("value")
    if value is None:
        return NONE
    if value == "?":
        problems.append(doubt(file, 0, f"{told}: KRR has too little data: stays as it is"))
        return KEEP
    size = size_of(value, told, file, problems)
    return KEEP if size is None else size


# --- VPA -----------------------------------------------------------------------------------


def _vpas(document: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    """The VerticalPodAutoscalers in a document, Lists opened."""
    if not isinstance(document, Mapping) or depth > MOST_DEPTH:
        return
    items = document.get("items")
    if isinstance(items, list | tuple):
        of = str(document.get("kind", "")).removesuffix("List")
        for item in items:
            inner = {"kind": of, **item} if isinstance(item, Mapping) and of else item
            yield from _vpas(inner, depth + 1)
    elif document.get("kind") == "VerticalPodAutoscaler":
        yield document


def _vpa(
    one: Mapping[str, Any], file: str, found: Mapping[str, Candidate], problems: list[Problem]
) -> None:
    metadata, spec = _map(one.get("metadata")), _map(one.get("spec"))
    target = _map(spec.get("targetRef"))
    told = f"vpa {metadata.get('namespace') or 'default'}/{metadata.get('name')}"
    status = _map(_map(one.get("status")).get("recommendation"))
    given = _list(status.get("containerRecommendations"))
    if not given or not target.get("name"):
        why = "recommends nothing yet" if target.get("name") else "has no targetRef"
        problems.append(doubt(file, 0, f"{told} {why}: left out"))
        return
    policies = {
        str(policy.get("containerName")): policy
        for policy in _list(_map(spec.get("resourcePolicy")).get("containerPolicies"))
    }
    for recommended in given:
        name = str(recommended.get("containerName"))
        policy = policies.get(name, policies.get("*", {}))
        for bound, candidate in found.items():
            where = f"{told}, {name} {bound}"
            size = size_of(_map(recommended.get(bound)).get("memory"), where, file, problems)
            if size is not None:
                candidate.wishes.append(
                    Wish(
                        str(metadata.get("namespace") or "default"),
                        str(target.get("kind") or "Deployment"), str(target["name"]), name,
                        request=size, scaled=policy.get("controlledValues") != "RequestsOnly",
                    )
                )  # fmt: skip
