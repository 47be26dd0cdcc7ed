"""Plain values as YAML that a person can read and change, with comments.

Written by hand because PyYAML drops comments. What is written reads back as the same values
with :mod:`capplan.spec.tree` (YAML 1.2 scalars) and with any YAML 1.1 reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Noted", "emit"]

WIDTH = 100
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@+-]*|[0-9]+(?:\.[0-9]+)?(?:[KMGTPE]i|[kMGTPE])(?:/s)?"
                    r"|[0-9]+(?:\.[0-9]+)?(?:ns|us|ms|s|min|h|d)")  # fmt: skip
# what YAML 1.1 or 1.2 take for something else than a text
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


@dataclass(frozen=True)
class Noted:
    """A value with a comment.

    Attributes
    ----------
    value : any plain value
    note : str
        Stands behind the value, or above it where the value takes several lines.
    above : tuple of str
        Comment lines above the key.
    """

    value: Any
    note: str = ""
    above: tuple[str, ...] = ()


def emit(value: Any, header: Iterable[str] = ()) -> str:
    """Write a mapping as YAML.

    Parameters
    ----------
    value : mapping
        Of texts to mappings, lists, texts, numbers, truths and None, any of them
        :class:`Noted`.
    header : iterable of str
        Comment lines at the top.

    Examples
    --------
    >>> print(emit({"node": {"memory": "4Gi", "kernel": "6.12", "cpus": Noted(4, "counted")}}))
    node:
      memory: 4Gi
      kernel: "6.12"
      cpus: 4  # counted
    <BLANKLINE>
    """
    lines = [_comment(line, 0) for line in header]
    lines += _mapping(value, 0)
    return "\n".join(lines) + "\n"


def _comment(text: str, indent: int) -> str:
    """One comment line; nothing in it can end the comment."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return f"{' ' * indent}# {shown}".rstrip()


def _mapping(value: Mapping[str, Any], indent: int) -> list[str]:
    lines: list[str] = []
    for key, held in value.items():
        noted = held if isinstance(held, Noted) else Noted(held)
        lines += [_comment(text, indent) for text in noted.above]
        lines += _entry(f"{' ' * indent}{_scalar(key)}:", noted, indent)
    return lines


def _entry(head: str, noted: Noted, indent: int) -> list[str]:
    """A key or dash with its value, on its line or below it."""
    flow = _flow(noted.value)
    tail = _comment(noted.note, 2) if noted.note else ""
    if flow is not None and (len(head) + len(flow) < WIDTH or not _is_nested(noted.value)):
        if len(head) + len(flow) + len(tail) <= WIDTH + 20:
            return [f"{head} {flow}{tail}"]
        return [_comment(noted.note, indent), f"{head} {flow}"]
    lines = [f"{head}{tail}"]
    if isinstance(noted.value, Mapping):
        return lines + _mapping(noted.value, indent + 2)
    for item in noted.value:
        held = item if isinstance(item, Noted) else Noted(item)
        lines += [_comment(text, indent + 2) for text in held.above]
        lines += _item(held, indent + 2)
    return lines


def _item(noted: Noted, indent: int) -> list[str]:
    """One item of a list that takes more than a line."""
    head = " " * indent + "-"
    flow = _flow(noted.value)
    if flow is not None or not isinstance(noted.value, Mapping):
        return _entry(head, noted, indent)
    lines = [_comment(noted.note, indent)] if noted.note else []
    body = _mapping(noted.value, indent + 2)
    first = next(i for i, line in enumerate(body) if not line.lstrip().startswith("#"))
    body[first] = f"{head} {body[first].lstrip()}"
    return lines + body


def _is_nested(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple) and bool(value)


def _flow(value: Any) -> str | None:
    """A value in one line; None where it holds comments or is too deep to read so."""
    if isinstance(value, Mapping):
        parts = [_flow(v) for v in value.values()]
        if any(part is None for part in parts) or any(map(_has_mapping, value.values())):
            return None
        body = ", ".join(f"{_scalar(k)}: {part}" for k, part in zip(value, parts))
        return _short("{" + body + "}")
    if isinstance(value, list | tuple):
        items = [_flow(item) for item in value]
        if any(item is None for item in items) or any(map(_has_mapping, value)):
            return None
        return "[" + ", ".join(item or "" for item in items) + "]"
    return None if isinstance(value, Noted) else _scalar(value)


def _short(text: str) -> str | None:
    return text if len(text) <= WIDTH - 20 else None


def _has_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value)


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS and len(text) < WIDTH * 10:
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    # no surrogate, control or separator may stand in a YAML file as it is
    if char == " " or (char.isprintable() and not 0xD800 <= ord(char) <= 0xDFFF):
        return char
    code = ord(char)
    if 0xD800 <= code <= 0xDFFF:
        return "\\uFFFD"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else (
        f"\\U{code:08x}"
    )  # fmt: skip
