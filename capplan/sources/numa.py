"""NUMA memory policies in units and command lines (systemd.exec(5), numactl(8))."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from capplan.errors import Problem
from capplan.sources.draft import doubt
from capplan.spec.mempolicy import ALL, WITHOUT_NODES, Mempolicy

__all__ = ["entry", "of_command", "of_unit"]

OPTIONS = {
    "--interleave": "interleave", "-i": "interleave", "--membind": "bind", "-m": "bind",
    "--preferred": "preferred", "-p": "preferred", "--preferred-many": "preferred-many",
    "-P": "preferred-many", "--weighted-interleave": "weighted-interleave",
    "-w": "weighted-interleave", "--localalloc": "local", "-l": "local",
}  # fmt: skip
WITH_VALUE = ("-N", "--cpunodebind", "-C", "--physcpubind")  # of CPUs: no memory policy


def _policy(policy: str, nodes: str) -> Mempolicy | None:
    """A policy; None: no such one, or of no such nodes (``!0``, ``netdev:eth0``, ...)."""
    given = {"policy": policy} | ({"nodes": nodes} if policy not in WITHOUT_NODES else {})
    try:
        return Mempolicy.model_validate(given)
    except ValidationError:
        return None


def of_unit(policy: str, mask: str) -> Mempolicy | None:
    """systemd's ``NUMAPolicy=`` and ``NUMAMask=``; None: none, or not one that is understood.

    Worked example
    --------------
    bind and ``0,1`` are the policy bind of nodes 0 and 1; systemctl prints ``n/a`` for none.
    """
    return _policy(policy, ",".join(mask.split())) if policy not in ("", "n/a") else None


def of_command(words: Sequence[str]) -> Mempolicy | None:
    """The policy that ``numactl`` gives the program behind it; None: it is not run by numactl.

    Worked example
    --------------
    ``numactl --cpunodebind=0 --interleave=all mongod`` is interleave of all nodes.
    """
    if not words or words[0].rpartition("/")[2] != "numactl":
        return None
    found = None
    left = iter(words[1:])
    for word in left:
        name, equals, value = word.partition("=")
        if not word.startswith("-") or word == "--":
            break
        if name in WITH_VALUE and not equals:
            next(left, "")
        elif name in OPTIONS:
            policy = OPTIONS[name]
            nodes = value if equals or policy == "local" else next(left, "")
            found = _policy(policy, nodes)
    return found


def entry(
    policy: Mempolicy | None, name: str, file: str, problems: list[Problem]
) -> dict[str, Any]:
    """A container's key ``numa``; nothing where its file cannot hold it.

    Nothing that is imported says how the memory is split between nodes, so the file has one.
    """
    if policy is None or policy.policy in WITHOUT_NODES:
        return {}
    nodes = ",".join(map(str, policy.listed)) or ALL
    keys = {"policy": policy.policy, "nodes": nodes}
    if nodes not in (ALL, "0"):
        message = (
            f"{name}: numa: {{policy: {policy.policy}, nodes: {nodes}}}: left out, for how the"
            " memory is split (node.numa) is not known"
        )
        problems.append(doubt(file, 0, message))
        return {}
    return {"numa": keys}
