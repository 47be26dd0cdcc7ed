"""YAML as a tree of nodes that know their place, read with hard bounds.

The tree is built from parser events, so that a file's size, its nesting, its number of
nodes and what its aliases expand to are all bounded before anything large exists.
Scalars follow YAML 1.2's core schema: ``yes``, ``on`` and ``12:30`` are texts, ``0777`` is
777. Keys are always texts. Duplicate keys are problems; tags and merge keys are refused.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from capplan.errors import InputError, Place, Problem, quoted

MAX_BYTES = 16 << 20
"""Largest file that is read. [bytes]"""
MAX_NODES = 200_000
"""Most values a file may hold, aliases counted as what they stand for."""
MAX_DEPTH = 64
"""Deepest nesting."""

SET = "<command line>"
"""Stands in the place of a file for what came from ``--set``."""

KeyPath = tuple[str | int, ...]

# libyaml where PyYAML was built with it: ten times as fast, the same events
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_NON_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_MAX_NUMBER = 64  # digits; Python refuses to read 5,000 of them


@dataclass
class Node:
    """A value of the file with its place.

    Attributes
    ----------
    place : Place
        Where the value starts.
    value : dict of str to Node, list of Node, or a scalar
    text : str
        A scalar as it was written.
    keys : dict of str to Place
        Where each key of a mapping stands.
    size : int
        Number of values in it, itself included.
    """

    place: Place
    value: Any
    text: str = ""
    keys: dict[str, Place] = field(default_factory=dict)
    size: int = 1

    @property
    def kind(self) -> str:
        """``mapping``, ``list`` or ``scalar``."""
        if isinstance(self.value, dict):
            return "mapping"
        return "list" if isinstance(self.value, list) else "scalar"

    def plain(self) -> Any:
        """Return the value without places; lists become tuples, as the models hold them."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return tuple(child.plain() for child in self.value)
        return self.value

    def child(self, key: str | int) -> Node | None:
        """Return the value under a key or index, or None."""
        if isinstance(self.value, dict):
            found = self.value.get(key)
            return found if isinstance(found, Node) else None
        if isinstance(self.value, list) and isinstance(key, int) and key < len(self.value):
            node: Node = self.value[key]
            return node
        return None

    def place_of(self, path: KeyPath) -> Place:
        """Return the place of the value at ``path``, or of the nearest one above it."""
        node = self
        for key in path:
            below = node.child(key)
            if below is None:
                break
            node = below
        return node.place

    def copied(self) -> Node:
        """Return a copy whose mappings and lists may be changed."""
        value = self.value
        if isinstance(value, dict):
            value = {key: child.copied() for key, child in value.items()}
        elif isinstance(value, list):
            value = [child.copied() for child in value]
        return Node(self.place, value, self.text, dict(self.keys), self.size)


def shown_path(path: KeyPath) -> str:
    """Write a key path as messages show it: ``node.swap[0].device``."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def read_text(path: Path, shown: str) -> str:
    """Read a file of bounded size; raise InputError otherwise."""
    try:
        size = path.stat().st_size if path.is_file() else 0
        if size > MAX_BYTES:
            raise InputError(_too_large(shown, f"{size / (1 << 20):,.0f} MiB"))
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(Problem(Place(shown), "", reason, code="C001")) from error
    if len(data) > MAX_BYTES:
        raise InputError(_too_large(shown, f"more than {MAX_BYTES >> 20} MiB"))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"byte 0x{data[error.start]:02x} is not UTF-8"
        place = Place(shown, line)
        raise InputError(Problem(place, "", message, "a text file", code="C002")) from error


def _too_large(shown: str, size: str) -> Problem:
    expected = f"at most {MAX_BYTES >> 20} MiB; series belong in a CSV that a trace names"
    return Problem(Place(shown), "", f"the file has {size}", expected, code="C003")


def parse(text: str, file: str) -> tuple[Node, list[Problem]]:
    """Build the tree of one YAML document.

    Parameters
    ----------
    text : str
        The document.
    file : str
        Its name, for places.

    Returns
    -------
    Node, list of Problem
        The tree, and what is wrong with it but does not keep it from being read further.

    Raises
    ------
    InputError
        It is not YAML, or grows beyond the bounds.
    """
    with _told(file):
        return _Builder(text, file).build()


def parse_all(text: str, file: str, *, merge: bool = False) -> list[Node]:
    """Build the trees of all documents of a YAML stream; empty ones are left out.

    ``merge`` takes YAML 1.1's merge keys (``<<``), as foreign formats use them.

    Raises
    ------
    InputError
        As :func:`parse`; a key that stands twice is one too.
    """
    with _told(file):
        builder = _Builder(text, file, merge=merge)
        trees = builder.build_all()
    if builder.problems:
        raise InputError(builder.problems)
    return trees


@contextlib.contextmanager
def _told(file: str) -> Iterator[None]:
    """Say what PyYAML raises as an InputError with its place."""
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file)
        problem = str(error.problem or error.context)
        expected = next((told for what, told in _REPAIRS.items() if what in problem), "")
        raise InputError(
            Problem(place, "", f"not YAML: {problem}", expected, code="C002")
        ) from error
    except yaml.YAMLError as error:
        message = f"not YAML: {str(error).splitlines()[0]}"
        raise InputError(Problem(Place(file), "", message, code="C002")) from error


# What people mostly did when PyYAML's parser says this.
_REPAIRS = {
    "tab character": "spaces: YAML is never indented with tabs",
    "cannot start any token": "quotes around the text, and spaces instead of tabs",
    "mapping values are not allowed": "'key: value' with its colon in the line above as well, and "
    "quotes around a text that holds ': '",
    "could not find expected ':'": "'key: value', with a colon and a space",
    "expected <block end>": "the same indentation as the lines before",
    "expected ',' or": "a comma between entries, and a closing bracket",
}


def scalar(text: str) -> Any:
    """Read a plain scalar by YAML 1.2's core schema.

    Worked example
    --------------
    ``'true'`` is True, ``'yes'`` the text 'yes', ``'0777'`` 777, ``'0o17'`` 15,
    ``'1:30'`` the text '1:30', ``'1_000'`` the text '1_000'.
    """
    if text in _SPECIAL:
        return _SPECIAL[text]
    if len(text) > _MAX_NUMBER:
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if _HEX.fullmatch(text):
        return int(text[2:], 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NON_FINITE.fullmatch(text):
        return float(text.replace(".", "").lower())
    return text


class _Builder:
    """Turns events into nodes."""

    def __init__(self, text: str, file: str, *, merge: bool = False) -> None:
        self.file = file
        self.merge = merge
        self.parser: Any = _Parser(text)
        self.anchors: dict[str, Node | None] = {}
        self.problems: list[Problem] = []
        self.nodes = 0

    def build(self) -> tuple[Node, list[Problem]]:
        self._next()  # the stream's start
        if isinstance(self._next(), yaml.StreamEndEvent):
            return Node(Place(self.file, 1, 1), None), self.problems
        node = self._value(self._next(), 0)
        self._next()  # the document's end
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            self._fail(event, "a second document starts here", "one document in a file", "C006")
        return node, self.problems

    def build_all(self) -> list[Node]:
        """Every document that holds something."""
        self._next()  # the stream's start
        trees = []
        while not isinstance(self._next(), yaml.StreamEndEvent):
            self.anchors = {}
            node = self._value(self._next(), 0)
            self._next()  # the document's end
            if node.value is not None:
                trees.append(node)
        return trees

    def _next(self) -> Any:
        return self.parser.get_event()

    def _place(self, event: Any) -> Place:
        if self.file == SET:
            return Place(SET)
        return Place(self.file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _fail(self, event: Any, message: str, expected: str, code: str) -> None:
        raise InputError(Problem(self._place(event), "", message, expected, "", code))

    def _count(self, event: Any, size: int) -> None:
        self.nodes += size
        if self.nodes > MAX_NODES:
            expected = f"at most {MAX_NODES:,}, aliases counted as what they stand for"
            self._fail(event, "the file has too many values", expected, "C004")

    def _value(self, event: Any, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if depth > MAX_DEPTH:
            self._fail(event, "nested too deeply", f"at most {MAX_DEPTH} levels", "C004")
        self._count(event, 1)
        if event.anchor is not None:
            self.anchors[event.anchor] = None  # not complete: an alias inside is a loop
        node = Node(self._place(event), None)
        self._check_tag(event)
        if isinstance(event, yaml.MappingStartEvent):
            self._mapping(node, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._list(node, depth)
        else:
            node.text = event.value
            is_plain = event.implicit[0] and event.style in (None, "")
            node.value = scalar(event.value) if is_plain else event.value
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def _check_tag(self, event: Any) -> None:
        if event.tag is not None and event.tag not in ("!", "tag:yaml.org,2002:str"):
            expected = "plain YAML without tags"
            self._fail(event, f"the tag {quoted(event.tag)} is not accepted", expected, "C006")

    def _alias(self, event: Any) -> Node:
        if event.anchor not in self.anchors:
            self._fail(event, f"no anchor named {quoted(event.anchor)}", "&name earlier", "C006")
        node = self.anchors[event.anchor]
        if node is None:
            message = f"the alias {quoted(event.anchor)} contains itself"
            self._fail(event, message, "no loops", "C004")
        assert node is not None
        self._count(event, node.size)
        return node

    def _mapping(self, node: Node, depth: int) -> None:
        node.value = {}
        merged: list[Node] = []
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            if self.merge and self._is_merge(event):
                held = self._value(self._next(), depth + 1)
                merged += held.value if held.kind == "list" else [held]
                continue
            key = self._key(event)
            child = self._value(self._next(), depth + 1)
            if key in node.value:
                first = node.keys[key]
                message = f"the key {quoted(key)} stands already in line {first.line}"
                place = self._place(event)
                self.problems.append(
                    Problem(place, "", message, "each key once in a mapping", code="C005")
                )
                continue
            node.value[key] = child
            node.keys[key] = self._place(event)
            node.size += child.size
        for held in merged:
            self._merge(node, held)

    def _is_merge(self, event: Any) -> bool:
        plain = isinstance(event, yaml.ScalarEvent) and event.style in (None, "")
        return bool(plain and event.value == "<<")

    def _merge(self, node: Node, held: Node) -> None:
        """Take over the keys that the mapping does not have itself."""
        if held.kind != "mapping":
            expected = "an alias for a mapping, or a list of such"
            raise InputError(
                Problem(held.place, "", "'<<' merges no mapping", expected, code="C006")
            )
        for key, child in held.value.items():
            if key not in node.value:
                node.value[key], node.keys[key] = child, held.keys[key]
                node.size += child.size

    def _key(self, event: Any) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            self._fail(event, "a key that is no text", "a name as key", "C006")
        if event.value == "<<" and event.style in (None, ""):
            expected = "keys written out, or an alias for a whole mapping"
            self._fail(event, "merge keys ('<<') are not YAML 1.2", expected, "C006")
        self._count(event, 1)
        return str(event.value)

    def _list(self, node: Node, depth: int) -> None:
        node.value = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            child = self._value(event, depth + 1)
            node.value.append(child)
            node.size += child.size
