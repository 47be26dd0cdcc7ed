"""Node files for the tests of expansion, written, loaded and expanded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from capplan.sim.expand import expand
from capplan.sim.scenario import Cgroup, Mapping, Process, Scenario
from capplan.spec import load

S = 1_000_000_000
MIN, HOUR = 60 * S, 3600 * S
MIB = 256  # pages


def heap(**region: Any) -> dict[str, Any]:
    """A profile with one process ``app`` and one region ``heap``."""
    return {"capplan": 1, "profile": "p", "processes": {"app": {"regions": {"heap": region}}}}


def scenario(
    tmp_path: Path, containers: dict[str, Any], *, replicate: int = 0, **rest: Any
) -> Scenario:
    """A node file written, loaded and expanded; ``rest`` is the rest of the file."""
    file = {"capplan": 1, "node": {"memory": "16Gi"}} | rest | {"containers": containers}
    path = tmp_path / "node.yaml"
    path.write_text(yaml.safe_dump(file, sort_keys=False), encoding="utf-8")
    return expand(load(path), replicate=replicate)


def process(found: Scenario, name: str) -> Process:
    return next(p for p in found.processes if p.name == name)


def mapping(found: Scenario, name: str) -> Mapping:
    return next(m for m in found.mappings if m.name == name)


def cgroup(found: Scenario, path: str) -> Cgroup:
    return next(c for c in found.cgroups if c.path == path)
