"""What a source found, before it is written: a node file, profiles, and what is to be said."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from capplan.errors import Place, Problem

__all__ = ["Draft", "doubt", "legal_name"]

_ILLEGAL = re.compile(r"[^A-Za-z0-9._@-]+")
MAX_NAME = 200  # a Name has at most 253 characters; leaves room for a number


@dataclass
class Draft:
    """A node file and its profiles as plain mappings.

    Attributes
    ----------
    node
        What the node file holds. Values may be wrapped in :class:`capplan.spec.emit.Noted`.
    profiles
        Profile files by name (``web.yaml``), as containers of ``node`` name them.
    header
        Comment lines at the top of the node file.
    files
        Other files by name, such as CSV traces.
    beside
        Files of the directory that the profiles name and that are there already.
    problems
        What was left out or not understood; told to the user, not fatal.
    """

    node: dict[str, Any]
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    header: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)


def doubt(file: object, line: int, message: str, expected: str = "") -> Problem:
    """A warning about a line of foreign input (line 0: the file as a whole)."""
    return Problem(Place(str(file), line), "", message, expected, severity="warning")


def legal_name(text: str, taken: Iterable[str] = ()) -> str:
    """A name that files may use, made of any text; not one of ``taken``.

    Worked example
    --------------
    ``legal_name("docker-ab:12.scope")`` is ``docker-ab-12.scope``; a second one is
    ``docker-ab-12.scope-2``.
    """
    name = _ILLEGAL.sub("-", text)[:MAX_NAME].strip("._@-") or "unnamed"
    used = set(taken)
    found, number = name, 2
    while found in used:
        found, number = f"{name}-{number}", number + 1
    return found
