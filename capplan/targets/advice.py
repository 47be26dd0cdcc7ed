"""What a result says to write, as targets need it: read from a result directory.

``capplan recommend`` says limits, requests, sysctls and reserves; of ``capplan compare`` the picked
setting's changes are taken, of ``capplan headroom`` the limits that can come down.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from capplan.errors import InputError
from capplan.units import UNLIMITED, format_k8s

__all__ = ["Advised", "Container", "Workload", "advised", "read_advice"]

FILE, SUMMARY = "recommendation.json", "summary.json"
FORMAT = 1
WIDTH = 96  # of a comment
KINDS = ("recommendation", "comparison", "headroom")
SIDECAR = "init:"  # before the name of a container that stands among the init containers


@dataclass(frozen=True)
class Workload:
    """Where a container's resources are written in a cluster."""

    namespace: str
    kind: str
    name: str
    container: str
    sidecar: bool = False

    @classmethod
    def of(cls, text: str | None) -> Workload | None:
        """Read a node file's ``workload``."""
        if text is None:
            return None
        namespace, kind, name, container = text.split("/")
        sidecar = container.startswith(SIDECAR)
        return cls(namespace, kind, name, container.removeprefix(SIDECAR), sidecar)


@dataclass(frozen=True)
class Container:
    """What to write for one container or group [bytes]; None: nothing, UNLIMITED: no limit.

    Attributes
    ----------
    files
        Other files of its control group: memory.min, memory.low, memory.swap.max, ...
    workload
        None: its name is all that is known of it.
    present
        The limit as it is written; None: none.
    """

    name: str
    limit: int | None = None
    request: int | None = None
    high: int | None = None
    reason: str = ""
    files: Mapping[str, int] = field(default_factory=dict)
    workload: Workload | None = None
    present: int | None = None

    @property
    def resources(self) -> bool:
        """Whether it has anything that Kubernetes' ``resources`` hold."""
        return self.limit is not None or self.request is not None

    def larger(self, other: Container) -> Container:
        """The larger figure of each: two replicas of a workload have one patch."""

        def most(one: int | None, two: int | None) -> int | None:
            known = [size for size in (one, two) if size is not None]
            return UNLIMITED if UNLIMITED in known else max(known, default=None)

        more = other if (other.limit or 0) > (self.limit or 0) else self
        return replace(
            more,
            limit=most(self.limit, other.limit),
            request=most(self.request, other.request),
            high=most(self.high, other.high),
        )


@dataclass(frozen=True)
class Advised:
    """What to write for a node.

    Attributes
    ----------
    by
        The command that found it.
    groups
        Control groups (slices) with limits of their own.
    kubelet
        Keys of a KubeletConfiguration.
    others
        What was set and no target holds, ``key=value``.
    """

    name: str
    verdict: str
    by: str = "recommend"
    containers: tuple[Container, ...] = ()
    groups: tuple[Container, ...] = ()
    sysctl: Mapping[str, int | str] = field(default_factory=dict)
    sysctl_reason: str = ""
    kubelet: Mapping[str, Any] = field(default_factory=dict)
    kubelet_reason: str = ""
    others: tuple[str, ...] = ()

    @property
    def header(self) -> tuple[str, ...]:
        """Comment lines at the top of each file."""
        said = textwrap.wrap(" ".join(self.verdict.split()), WIDTH)
        return (f"capplan {self.by}, node {self.name}.", *said)


def read_advice(place: Path) -> Advised:
    """Read the result of recommend, compare or headroom: its directory, or its JSON file.

    Raises
    ------
    InputError
        It is not there, not whole, of another format, or of another command.
    """
    path = place
    if place.is_dir():
        path = place / (FILE if (place / FILE).exists() else SUMMARY)
    data = _read(path)
    kind = "recommendation" if path.name == FILE else data.get("kind")
    if kind not in KINDS:
        raise InputError(
            f"{path}: a result of kind {kind!r} holds nothing to apply\n"
            "    expected one of capplan recommend, compare or headroom"
        )
    try:
        beside = path.with_name(SUMMARY)
        about = _read(beside) if kind == "recommendation" and beside.exists() else data
        return advised(data, kind, about)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a whole {kind}: {error!r}") from error


def advised(data: Mapping[str, Any], kind: str, about: Mapping[str, Any]) -> Advised:
    """What a result of one of :data:`KINDS` says; ``about`` holds the input in its provenance.

    A KeyError, TypeError, ValueError or the like where it is not whole.
    """
    from capplan.targets.changes import of_comparison, of_headroom

    readers = dict(zip(KINDS, (_recommended, of_comparison, of_headroom)))
    inputs = about.get("provenance", {}).get("input", {}).get("containers", {})
    return _placed(readers[kind](data), inputs)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}\n"
            "    expected what capplan recommend, compare or headroom wrote"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else None
        raise InputError(f"{path}: format {found!r} is not known\n    expected format {FORMAT}")
    return data


def _placed(advised: Advised, inputs: Mapping[str, Any]) -> Advised:
    """With each container's workload, which the input names."""
    containers = tuple(
        replace(one, workload=Workload.of(inputs.get(one.name, {}).get("workload")))
        for one in advised.containers
    )
    return replace(advised, containers=containers)


def _recommended(data: Mapping[str, Any]) -> Advised:
    reserved = {key: int(data["reserved"][key]) for key in ("kernel", "daemons", "high_mark")}
    quantum = 1 << 20
    kernel = -(-reserved["kernel"] // quantum) * quantum
    system = -(-(reserved["daemons"] + reserved["high_mark"]) // quantum) * quantum
    return Advised(
        name=str(data["name"]),
        verdict=str(data["verdict"]),
        containers=tuple(
            Container(
                name=str(one["container"]),
                limit=int(one["limit"]),
                request=int(one["request"]),
                high=None if one["high"] is None else int(one["high"]),
                reason=str(one["reason"]),
            )
            for one in data["containers"]
        ),
        sysctl={str(key): int(value) for key, value in data["sysctl"].items()},
        sysctl_reason=str(data["sysctl_reason"]),
        # kswapd keeps the high marks free: reserved, lest the scheduler promise them
        kubelet={"systemReserved": {"memory": format_k8s(system + kernel)}},
        kubelet_reason=(
            f"kernel {format_k8s(kernel)}, daemons {format_k8s(reserved['daemons'])}, "
            f"free memory that kswapd keeps {format_k8s(reserved['high_mark'])}"
        ),
    )
