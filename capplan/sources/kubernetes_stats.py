"""What containers used: the kubelet's ``/stats/summary``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capplan.errors import InputError
from capplan.spec.tree import read_text

__all__ = ["Usage", "read_stats"]


@dataclass(frozen=True)
class Usage:
    """A container's memory at one moment [bytes].

    ``working_set`` is usage without the inactive file pages; ``rss`` anonymous memory (swap cache
    included, shmem not).
    """

    usage: int
    working_set: int
    rss: int


def read_stats(path: Path) -> dict[tuple[str, str, str], Usage]:
    """Usage by (namespace, pod, container).

    Raises
    ------
    InputError
        It is no /stats/summary.
    """
    try:
        data = json.loads(read_text(path, str(path)))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(data, Mapping) or "pods" not in data:
        raise InputError(
            f"{path}: there are no pods in it\n"
            "    expected kubectl get --raw /api/v1/nodes/NODE/proxy/stats/summary"
        )
    return dict(_containers(data))


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
