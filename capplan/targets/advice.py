"""A recommendation as targets need it, read from a result directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capplan.errors import InputError

__all__ = ["Advised", "Container", "read_advice"]

FILE = "recommendation.json"
FORMAT = 1


@dataclass(frozen=True)
class Container:
    """What to write for one container [bytes]."""

    name: str
    limit: int
    request: int
    high: int | None
    reason: str


@dataclass(frozen=True)
class Advised:
    """What to write for a node."""

    name: str
    verdict: str
    containers: tuple[Container, ...]
    sysctl: Mapping[str, int]
    sysctl_reason: str
    kernel: int
    daemons: int
    high_mark: int


def read_advice(place: Path) -> Advised:
    """Read ``recommendation.json`` (or the directory that holds it).

    Raises
    ------
    InputError
        It is not there, not whole, or of another format.
    """
    path = place / FILE if place.is_dir() else place
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}\n    expected what capplan recommend wrote"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else None
        raise InputError(f"{path}: format {found!r} is not known\n    expected format {FORMAT}")
    try:
        return _advised(data)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a whole recommendation: {error!r}") from error


def _advised(data: Mapping[str, Any]) -> Advised:
    reserved = data["reserved"]
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
        kernel=int(reserved["kernel"]),
        daemons=int(reserved["daemons"]),
        high_mark=int(reserved["high_mark"]),
    )
