"""A node's series as Prometheus would have them, made up."""

from __future__ import annotations

import json
from typing import Any

MIB, GIB = 1 << 20, 1 << 30
T0, STEP = 1_700_000_000, 30
POD = {"namespace": "shop", "pod": "web-1", "container": "web", "node": "n1"}


def line(name: str, values: list[float], **labels: str) -> dict[str, Any]:
    """One result of a matrix, a sample each STEP seconds from T0 on."""
    pairs = [[T0 + STEP * i, str(v)] for i, v in enumerate(values)]
    return {"metric": {"__name__": name, **labels}, "values": pairs}


def answer(*results: dict[str, Any]) -> str:
    """What /api/v1/query_range prints."""
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": results}})


def web(**values: list[float]) -> list[dict[str, Any]]:
    """Series of the container web, by cAdvisor's names without container_ (memory_rss=...)."""
    return [line(f"container_{name}", found, **POD) for name, found in values.items()]


def node() -> list[dict[str, Any]]:
    """Series of the node n1: 8 GiB less what boot takes."""
    n1 = {"instance": "10.0.0.1:9100"}
    return [
        line("node_memory_MemTotal_bytes", [8 * GIB - 200 * MIB] * 4, **n1),
        line("node_memory_MemAvailable_bytes", [6 * GIB] * 4, **n1),
        line("node_sysctl_vm_min_free_kbytes", [67584] * 4, **n1),
        line("node_uname_info", [1] * 4, release="6.1.0-18-amd64", nodename="n1", **n1),
        line("machine_cpu_cores", [2] * 4, node="n1"),
    ]
