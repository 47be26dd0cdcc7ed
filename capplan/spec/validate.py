"""From a tree to a model: pydantic's errors become problems with places and repairs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from capplan.errors import Place, Problem, closest, quoted
from capplan.spec import schema
from capplan.spec.tree import KeyPath, Node, scalar, shown_path

M = TypeVar("M", bound=BaseModel)

_KINDS = {
    "capplan_size": "C012",
    "capplan_duration": "C013",
    "capplan_rate": "C014",
    "capplan_share": "C015",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least {}"),
    "greater_than": ("gt", "more than {}"),
    "less_than_equal": ("le", "at most {}"),
    "less_than": ("lt", "less than {}"),
}
_NEEDED = {
    "int_type": ("a whole number", "a whole number without quotes or unit"),
    "int_from_float": ("a whole number", "a whole number without quotes or unit"),
    "float_type": ("a number", "a number without quotes or unit"),
    "finite_number": ("a finite number", "a number"),
    "bool_type": ("true or false", "true or false"),
    "string_type": ("a text", "a text"),
    "dict_type": ("a mapping", "key: value pairs"),
    "model_type": ("a mapping", "key: value pairs"),
    "model_attributes_type": ("a mapping", "key: value pairs"),
    "tuple_type": ("a list", "a list such as [a, b]"),
}
_TRUE, _FALSE = {"yes", "on", "1", "y", "t"}, {"no", "off", "0", "n", "f"}
_LISTED_KEYS = 12


def validate(model: type[M], tree: Node) -> tuple[M | None, list[Problem]]:
    """Make a model from a tree; return it, or None and everything that is wrong."""
    try:
        return model.model_validate(tree.plain(), by_name=False, by_alias=True), []
    except ValidationError as error:
        listed = error.errors(include_url=False)
        return None, [_problem(dict(item), tree, model) for item in listed]


def _problem(item: dict[str, Any], tree: Node, model: type[BaseModel]) -> Problem:
    """Translate one of pydantic's errors."""
    path, node = _locate(item["loc"], tree)
    kind = str(item["type"])
    if kind == "missing":
        return _missing(item, path, node, model)
    if kind == "extra_forbidden":
        return _unknown(item, path, tree, model)
    describe = _describer(kind)
    message, expected, suggestion, code = describe(item, node)
    return Problem(node.place, shown_path(path), message, expected, suggestion, code)


def _locate(loc: tuple[str | int, ...], tree: Node) -> tuple[KeyPath, Node]:
    """Follow pydantic's location through the tree; tags of unions are not in the file."""
    path: list[str | int] = []
    node = tree
    for key in loc:
        child = node.child(key)
        if child is not None:
            path.append(key)
            node = child
    return tuple(path), node


def _missing(item: dict[str, Any], path: KeyPath, node: Node, model: type[BaseModel]) -> Problem:
    key = str(item["loc"][-1])
    text = schema.summary(schema.at(model, path), key)
    expected = f"{key}: {text}" if text else f"a value for {key}"
    message = f"the key '{key}' is missing"
    return Problem(node.place, shown_path(path), message, expected, code="C011")


_ELSEWHERE = {
    "zram": "node.swap: [{device: zram, size: 4Gi}]",
    "hugepages": "node.sysctl: {vm.nr_hugepages: 512}",
    "hugetlb": "node.sysctl: {vm.nr_hugepages: 512}, and no region for what is in the pool",
    "resources": "memory.max and requests.memory (or capplan import kubernetes)",
    "limits": "memory.max",
    "requests": "requests.memory",
    "mem_limit": "memory.max (or capplan import compose)",
}
"""What people know by another name, or look for in another place."""


def _unknown(item: dict[str, Any], path: KeyPath, tree: Node, model: type[BaseModel]) -> Problem:
    key = str(item["loc"][-1])  # not in the file where a bare word stands for {word: {}}
    parent = path[:-1] if path and path[-1] == key else path
    holder = tree
    for step in parent:
        holder = holder.child(step) or holder
    known = schema.keys(schema.at(model, parent))
    suggestion = closest(key, known)
    shown = ", ".join(known[:_LISTED_KEYS])
    if len(known) > _LISTED_KEYS:
        shown += f", ... (all: capplan help {_topic(model, parent)})"
    place = holder.keys.get(key, holder.place)
    expected = "" if suggestion else f"one of {shown}"
    if key in _ELSEWHERE:
        expected, suggestion = _ELSEWHERE[key], ""
    return Problem(place, shown_path((*parent, key)), "unknown key", expected, suggestion, "C010")


def _topic(model: type[BaseModel], path: KeyPath) -> str:
    """What ``capplan help`` calls the keys at a path of this kind of file."""
    root = {"NodeFile": "", "Profile": "profile", "SweepFile": "sweepfile"}.get(model.__name__, "")
    return ".".join(filter(None, (root, *(str(k) for k in path if isinstance(k, str))))) or "keys"


Described = tuple[str, str, str, str]


def _describer(kind: str) -> Callable[[dict[str, Any], Node], Described]:
    if kind.startswith("capplan_"):
        return _custom
    if kind == "literal_error":
        return _literal
    if kind in _BOUNDS:
        return _bound
    if kind in _NEEDED:
        return _wrong_type
    return _other


def _custom(item: dict[str, Any], node: Node) -> Described:
    context = item["ctx"]
    code = _KINDS.get(str(item["type"]), "C019")
    return context["what"], context["expected"], context["suggestion"], code


def _literal(item: dict[str, Any], node: Node) -> Described:
    expected = str(item["ctx"]["expected"])
    words = re.findall(r"'([^']*)'", expected)
    suggestion = closest(str(item["input"]), words)
    shown = _text(item, node)
    return f"{shown} is not known here", expected.replace("'", ""), suggestion, "C018"


def _bound(item: dict[str, Any], node: Node) -> Described:
    name, text = _BOUNDS[str(item["type"])]
    shown = _text(item, node)
    return f"{shown} is out of range", text.format(item["ctx"][name]), "", "C017"


def _wrong_type(item: dict[str, Any], node: Node) -> Described:
    kind, value = str(item["type"]), item["input"]
    what, expected = _NEEDED[kind]
    suggestion = ""
    if kind == "bool_type" and str(value).lower() in _TRUE | _FALSE:
        suggestion = "true" if str(value).lower() in _TRUE else "false"
    elif kind in ("int_type", "float_type") and isinstance(value, str) and _is_number(value):
        return f"{_text(item, node)} in quotes is a text", f"{what} without quotes", "", "C016"
    elif kind == "string_type" and node.kind == "scalar" and value is not None:
        expected = f'a text in quotes: "{node.text}"'
        return f"{_text(item, node)} without quotes is a {_type_name(value)}", expected, "", "C016"
    return f"{_text(item, node)} is not {what}", expected, suggestion, "C016"


def _is_number(text: str) -> bool:
    return isinstance(scalar(text), int | float) and not isinstance(scalar(text), bool)


def _type_name(value: object) -> str:
    return "truth value" if isinstance(value, bool) else "number"


def _other(item: dict[str, Any], node: Node) -> Described:
    if item["type"] == "string_pattern_mismatch":
        expected = "letters, digits, -, _, . and @, first and last a letter or a digit"
        return f"{quoted(item['input'])} is not a name", expected, "", "C017"
    if item["type"] == "too_short":
        return "nothing is in it", "at least one entry", "", "C017"
    message = str(item["msg"])
    return f"{_text(item, node)}: {message[:1].lower()}{message[1:]}", "", "", "C016"


def _text(item: dict[str, Any], node: Node) -> str:
    """Quote the value as it was written."""
    if node.kind != "scalar":
        return f"a {node.kind}"
    if node.value is None:
        return "nothing"
    return quoted(node.text)


def key_place(tree: Node, path: KeyPath) -> Place:
    """Return where the last key of ``path`` stands, or the value it would stand in."""
    holder = tree
    for step in path[:-1]:
        below = holder.child(step)
        if below is None:
            return holder.place
        holder = below
    return holder.keys.get(str(path[-1]), holder.place_of(path[-1:])) if path else tree.place
