"""The keys of node files, profiles and sweep files, as their models state them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from capplan.errors import closest
from capplan.spec import schema
from capplan.spec.common import Dist
from capplan.units import format_bytes, format_duration

__all__ = ["Key", "Place", "look_up"]


@dataclass(frozen=True)
class Key:
    """One key of a mapping; ``keys``: it holds a mapping too."""

    name: str
    kind: str
    default: str
    text: str
    keys: bool


@dataclass(frozen=True)
class Place:
    """What a key path holds: the model's own words, and its keys."""

    path: str
    text: str
    keys: tuple[Key, ...]


def look_up(path: str) -> tuple[Place | None, str]:
    """What stands at a key path of a node file (or below ``profile``, ``sweepfile``).

    Parameters
    ----------
    path : str
        As for ``--set``, such as ``node.swap`` or ``containers.memory.max``: names that the writer
        chooses may stand there or be left out.

    Returns
    -------
    place : Place or None
        None: there is no such key.
    near : str
        The key that was probably meant.
    """
    roots = _roots()
    pieces = path.split(".")
    head, rest = (pieces[0], pieces[1:]) if pieces[0] in roots else ("", pieces)
    of: schema.Types = (roots[head],)
    while rest:
        named = not schema.keys(of)  # a mapping whose names are the writer's, or a list
        of = _inside(of)
        known = schema.keys(of)
        ends = range(len(rest), 0, -1)
        found = next((n for n in ends if ".".join(rest[:n]) in known), 0)
        if found:
            key, rest = ".".join(rest[:found]), rest[found:]
            if not rest and not schema.keys(_inside(schema.below(of, key))):
                return Place(path, "", (_key(of, key),)), ""
            of = schema.below(of, key)
        elif named:
            rest = rest[1:]  # such a name: containers.web
        else:
            return None, closest(rest[0], known)
    of = _inside(of)
    text = (next(_models(of)).__doc__ or "").replace("``", "")
    return Place(path, " ".join(text.split()), tuple(_key(of, key) for key in schema.keys(of))), ""


def _roots() -> Mapping[str, type[BaseModel]]:
    from capplan.spec.node import NodeFile
    from capplan.spec.profile import Profile
    from capplan.spec.sweep import SweepFile

    return {"": NodeFile, "keys": NodeFile, "profile": Profile, "sweepfile": SweepFile}


def _models(of: Iterable[Any]) -> Any:
    return (one for one in of if isinstance(one, type) and issubclass(one, BaseModel))


def _inside(of: schema.Types) -> schema.Types:
    """Through lists and mappings with names of the writer's choice, to the first keys."""
    while of and not schema.keys(of):
        of = schema.below(of, 0)
    return of


def _key(of: schema.Types, name: str) -> Key:
    model = next(one for one in _models(of) if name in schema.fields(one))
    stated = model.model_json_schema(by_alias=True)["properties"][name]
    text = schema.descriptions(model).get(name, "").replace("``", "")
    below = schema.below((model,), name)
    drawn = any(isinstance(one, type) and issubclass(one, Dist) for one in below)
    kind = "a value or a distribution" if drawn else _kind(stated, text)
    keys = not drawn and bool(schema.keys(_inside(below)))
    return Key(name, kind, _default(stated.get("default"), kind), " ".join(text.split()), keys)


def _kind(stated: Mapping[str, Any], text: str) -> str:
    """What a value may be, in the words that its type has for itself."""
    said: list[str] = []
    for one in stated.get("anyOf", stated.get("oneOf", [stated])):
        if "enum" in one:
            said.append(" | ".join(map(str, one["enum"])))
        elif "const" in one:
            said.append(str(one["const"]))
        elif one.get("description", text).replace("``", "") != text:
            said.append(f"{one['description'][0].lower()}{one['description'][1:]}".rstrip("."))
        elif one.get("type") == "array":
            said.append("a list")
        elif one.get("type") in WORDS:
            said.append(WORDS[one["type"]] + _bounds(one))
    return " or ".join(dict.fromkeys(said))


WORDS = {"boolean": "true | false", "integer": "a number", "number": "a number", "string": "text"}


def _bounds(stated: Mapping[str, Any]) -> str:
    low, high = stated.get("minimum"), stated.get("maximum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    return f" from {low} on" if low is not None else ""


def _default(value: Any, kind: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and kind.startswith("a size in"):
        return format_bytes(value)
    if isinstance(value, int) and kind.startswith("a duration"):
        return format_duration(value)
    if isinstance(value, str) and value.removesuffix("ns").isdecimal() and value.endswith("ns"):
        return format_duration(int(value[:-2]))
    return str(value) if isinstance(value, int | float | str) and value != "" else ""
