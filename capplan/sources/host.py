"""A host that the files do not describe: what the command line says of it, and plain profiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from capplan.sources.draft import legal_name
from capplan.spec.emit import Noted
from capplan.units import MIB, format_k8s

__all__ = ["UNMEASURED", "Host", "assumed", "machine", "node_file", "profile"]

UNMEASURED = 64 * MIB  # a service of which nothing is known


@dataclass(frozen=True)
class Host:
    """What a compose file, a unit or docker does not say of the machine [bytes]."""

    memory: int
    cpus: int = 4
    kernel: str = "6.12"
    cgroup: str = "v2"
    swap: int = 0


def machine(host: Host) -> dict[str, Any]:
    """The ``node`` of a node file."""
    made: dict[str, Any] = {
        "memory": format_k8s(host.memory), "cpus": host.cpus, "kernel": host.kernel,
    }  # fmt: skip
    if host.swap:
        made["swap"] = [{"device": "ssd", "size": format_k8s(host.swap)}]
    return made


def node_file(
    name: str, host: Host, groups: Mapping[str, Any], containers: Mapping[str, Any]
) -> dict[str, Any]:
    """A node file of services on a host: an hour from a warm start."""
    return {
        "capplan": 1,
        "name": legal_name(name),
        "node": machine(host),
        "cgroup": {"version": host.cgroup, "groups": groups},
        "containers": containers,
        "run": {"duration": "1h", "start": "warm", "seed": 1},
    }


def assumed(protected: int | None, limit: int | None) -> tuple[int, str]:
    """What a service holds of which nobody measured anything, and where that comes from [bytes].

    What is reserved for it, else half of its limit, else 64 MiB.
    """
    if protected is not None and protected > 0:
        return protected, "ASSUMED: its reservation; nobody measured"
    if limit is not None and limit > 0:
        return limit // 2, "ASSUMED: half of its limit; nobody measured"
    return UNMEASURED, "ASSUMED: nothing is known of it; nobody measured"


def profile(name: str, size: int, note: str) -> dict[str, Any]:
    """A profile of one process that holds so much anonymous memory."""
    return {
        "capplan": 1,
        "profile": legal_name(name),
        "processes": {
            "main": {"regions": {"heap": {"kind": "anon", "size": Noted(format_k8s(size), note)}}}
        },
    }
