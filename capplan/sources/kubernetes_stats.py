"""What containers used: the kubelet's ``/stats/summary``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capplan.errors import InputError
from capplan.spec.tree import read_text

__all__ = ["NodeUsage", "Usage", "read_node", "read_stats"]


@dataclass(frozen=True)
class Usage:
    """A container's memory at one moment [bytes].

    ``working_set`` is usage without the inactive file pages; ``rss`` anonymous memory (swap cache
    included, shmem not).
    """

    usage: int
    working_set: int
    rss: int


@dataclass(frozen=True)
class NodeUsage:
    """The whole node's memory at one moment, its pods included [bytes].

    ``usage`` is what is not free, kernel memory and page cache included (runc takes the root
    group's from meminfo); ``working_set`` is without the inactive file pages.
    """

    usage: int
    working_set: int
    rss: int
    swap: int = 0  # its size


def read_node(path: Path) -> NodeUsage | None:
    """The node's own figures; None where the summary has none.

    Raises
    ------
    InputError
        It is no /stats/summary.
    """
    node = _map(_summary(path).get("node"))
    memory, swap = _map(node.get("memory")), _map(node.get("swap"))
    keys = ("usageBytes", "workingSetBytes", "rssBytes")
    sizes = [memory[key] for key in keys if isinstance(memory.get(key), int)]
    if len(sizes) != len(keys):
        return None
    parts = (swap.get(key) for key in ("swapAvailableBytes", "swapUsageBytes"))
    usage, working_set, rss = sizes
    size = sum(part for part in parts if isinstance(part, int))
    return NodeUsage(usage, working_set, rss, size)


def read_stats(path: Path) -> dict[tuple[str, str, str], Usage]:
    """Usage by (namespace, pod, container).

    Raises
    ------
    InputError
        It is no /stats/summary.
    """
    return dict(_containers(_summary(path)))


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _summary(path: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(read_text(path, str(path)))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(data, Mapping) or "pods" not in data:
        raise InputError(
            f"{path}: there are no pods in it\n"
            "    expected kubectl get --raw /api/v1/nodes/NODE/proxy/stats/summary"
        )
    return data


def _containers(data: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str, str], Usage]]:
    for pod in data.get("pods") or ():
        ref = pod.get("podRef") or {}
        for container in pod.get("containers") or ():
            memory = container.get("memory") or {}
            found = (memory.get(key) for key in ("usageBytes", "workingSetBytes", "rssBytes"))
            sizes = [size for size in found if isinstance(size, int)]
            if len(sizes) == 3:
                name = (str(ref.get("namespace")), str(ref.get("name")), str(container["name"]))
                yield name, Usage(*sizes)
