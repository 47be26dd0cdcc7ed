"""Memory policies in units and command lines."""

from __future__ import annotations

from typing import Any

import pytest

from capplan.errors import Problem
from capplan.sources import numa
from capplan.sources.host import Host
from capplan.sources.systemd import Unit
from capplan.sources.systemd_node import draft_of
from capplan.spec.mempolicy import Mempolicy

GIB = 1 << 30


def policy(name: str, nodes: object = None) -> Mempolicy:
    return Mempolicy.model_validate({"policy": name} | ({} if nodes is None else {"nodes": nodes}))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("numactl --interleave=all mongod --numa", policy("interleave", "all")),
        ("/usr/bin/numactl -i 0-1 mongod", policy("interleave", "0-1")),
        ("numactl --cpunodebind=1 --membind=1 postgres -m 0", policy("bind", 1)),
        ("numactl -N 0 -m 0,1 redis", policy("bind", (0, 1))),
        ("numactl -p 1 x", policy("preferred", 1)),
        ("numactl --preferred-many 0,1 x", policy("preferred-many", "0,1")),
        ("numactl -w all x", policy("weighted-interleave", "all")),
        ("numactl -l x", policy("local")),
        ("numactl -N 0 x --membind=1", None),
        ("numactl --membind=!0 x", None),
        ("mongod --interleave=all", None),
        ("", None),
    ],
)
def test_numactl_before_a_program(command: str, expected: Mempolicy | None) -> None:
    assert numa.of_command(command.split()) == expected


@pytest.mark.parametrize(
    ("name", "mask", "expected"),
    [
        ("bind", "0", policy("bind", 0)), ("interleave", "all", policy("interleave", "all")),
        ("preferred", "1", policy("preferred", 1)), ("bind", "0 1", policy("bind", "0,1")),
        ("local", "", policy("local")), ("default", "", policy("default")), ("n/a", "", None),
        ("", "", None), ("bind", "", None), ("nearby", "0", None),
    ],
)  # fmt: skip
def test_systemds_policy(name: str, mask: str, expected: Mempolicy | None) -> None:
    assert numa.of_unit(name, mask) == expected


def written(**settings: str) -> tuple[Any, list[Problem]]:
    problems: list[Problem] = []
    unit = Unit("db.service", {"MemoryMax": "1G"} | settings, file="db.service")
    draft = draft_of([unit], Host(4 * GIB), problems)
    return draft.node["containers"]["db.service"].get("numa"), problems


def test_a_units_policy_is_its_containers() -> None:
    found, problems = written(NUMAPolicy="interleave", NUMAMask="all")
    assert found == {"policy": "interleave", "nodes": "all"}
    assert not problems


def test_numactl_in_what_systemctl_shows_wins() -> None:
    shown = "{ path=/bin/numactl ; argv[]=/bin/numactl --membind=0 db ; ignore_errors=no }"
    found, _ = written(ExecStart=shown, NUMAPolicy="interleave", NUMAMask="all")
    assert found == {"policy": "bind", "nodes": "0"}


def test_nodes_that_the_file_does_not_have_are_told() -> None:
    found, problems = written(NUMAPolicy="bind", NUMAMask="1")
    assert found is None
    assert any("policy: bind, nodes: 1}: left out" in str(problem) for problem in problems)
