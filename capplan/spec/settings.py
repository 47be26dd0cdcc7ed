"""Dotted keys: ``containers.web.memory.max=512Mi`` finds its place in a tree.

Keys hold dots themselves (``memory.max``, ``kubepods.slice``), so at each level the longest
piece that is a known key is taken, and a shorter one tried when the rest then leads nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from capplan.errors import InputError, Place, Problem, closest, quoted
from capplan.spec import schema
from capplan.spec.tree import SET, KeyPath, Node, parse

SHORTCUTS: tuple[KeyPath, ...] = ((), ("node",), ("node", "sysctl"), ("cgroup",))
"""Where a node file's key is looked for: ``vm.swappiness`` is ``node.sysctl.vm.swappiness``."""


class Resolver:
    """Finds the key path that a dotted text means in one tree."""

    def __init__(self, tree: Node, model: type[BaseModel]) -> None:
        self.tree = tree
        self.model = model
        self._ends: list[tuple[int, str, list[str]]] = []  # depth, what is left, keys there

    def resolve(self, text: str, start: KeyPath = ()) -> KeyPath | None:
        """Return the key path, or None; :meth:`problem` then says why."""
        node: Node | None = self.tree
        for key in start:
            node = node.child(key) if node is not None else None
        below = self._walk(text.split("."), node, schema.at(self.model, start), 0)
        return None if below is None else start + below

    def _walk(
        self, pieces: list[str], node: Node | None, of: schema.Types, depth: int
    ) -> KeyPath | None:
        if not pieces:
            return ()
        known = schema.keys(of)
        if node is not None and node.kind == "mapping":
            known += [key for key in node.value if key not in known]
        for count in range(len(pieces), 0, -1):
            key = ".".join(pieces[:count])
            if key in known:
                child = node.child(key) if node is not None else None
                rest = self._walk(pieces[count:], child, schema.below(of, key), depth + 1)
                if rest is not None:
                    return (key, *rest)
        if node is not None and node.kind == "list" and pieces[0].isdecimal():
            index = int(pieces[0])
            if (child := node.child(index)) is not None:
                rest = self._walk(pieces[1:], child, schema.below(of, index), depth + 1)
                return None if rest is None else (index, *rest)
        if schema.is_open(of):
            return (".".join(pieces),)
        self._ends.append((depth, ".".join(pieces), known))
        return None

    def problem(self, place: Place, text: str, code: str = "C010") -> Problem:
        """Say where the search ended, and which key was probably meant there."""
        deepest = max((depth for depth, _, _ in self._ends), default=0)
        ends = [(rest, known) for depth, rest, known in self._ends if depth == deepest]
        rest, known = ends[0] if ends else (text, [])
        repairs = (_repaired(text, *end) for end in ends)
        suggestion = next(filter(None, repairs), "")
        shown = ", ".join(known[:12])
        expected = "" if suggestion or not shown else f"one of {shown}"
        message = f"no key {quoted(rest)}" if rest != text else "unknown key"
        return Problem(place, text, message, expected, suggestion, code)


def _repaired(text: str, rest: str, known: list[str]) -> str:
    """Return ``text`` with the first piece of ``rest`` replaced by the key it resembles."""
    pieces = rest.split(".")
    for count in range(len(pieces), 0, -1):
        near = closest(".".join(pieces[:count]), known)
        if near:
            return ".".join([text.removesuffix(rest) + near, *pieces[count:]])
    return ""


def apply(tree: Node, model: type[BaseModel], settings: Mapping[str, str]) -> list[Problem]:
    """Change a node file's tree as ``--set`` says; return what could not be applied.

    A key that leads into a profile file (``containers.web.profile.processes.worker.count``)
    becomes an entry of that container's ``set``.
    """
    problems: list[Problem] = []
    for text, value in settings.items():
        path = _find(tree, model, text)
        if isinstance(path, Problem):
            problems.append(path)
            continue
        node, more = _value(value, schema.at(model, path))
        problems += more
        put(tree, path, node)
    return problems


def _value(text: str, of: schema.Types) -> tuple[Node, list[Problem]]:
    """Read a value as YAML, but as it stands where only a text can be meant.

    A shell has taken the quotes off: ``node.kernel=6.10`` is no number, which a file's would be.
    """
    as_it_stands = Node(Place(SET), text, text)
    try:
        node, problems = parse(text, SET)
    except InputError:
        return as_it_stands, []  # '@', '*': a text all the same
    if of == (str,) and isinstance(node.value, int | float):
        return as_it_stands, []
    return node, problems


def _find(tree: Node, model: type[BaseModel], text: str) -> KeyPath | Problem:
    head, dot, rest = text.partition(".profile.")
    into = Resolver(tree, model).resolve(head) if dot else None
    if into is not None and into[0] == "containers" and len(into) == 2:
        return (*into, "set", rest)
    resolver = Resolver(tree, model)
    for start in SHORTCUTS:
        path = resolver.resolve(text, start)
        if path is not None:
            return path
    return resolver.problem(Place(SET), text)


def put(tree: Node, path: KeyPath, value: Node) -> None:
    """Set the value at ``path``; mappings that are missing on the way are made."""
    node = tree
    for key in path[:-1]:
        child = node.child(key)
        if child is None:
            child = Node(value.place, {})
            _enter(node, key, child)
        elif child.kind == "scalar":  # a bare value gives way to a mapping
            child.value = {}
        node = child
    _enter(node, path[-1], value)


def _enter(node: Node, key: str | int, child: Node) -> None:
    if isinstance(key, int):
        node.value[key] = child
        return
    node.value[key] = child
    node.keys[key] = child.place
