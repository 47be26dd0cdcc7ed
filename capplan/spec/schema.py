"""Questions about the models: which keys a place in a file may have, and what lies below."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import textwrap
import types
import typing
from collections.abc import Iterable
from typing import Annotated, Any, Union

from pydantic import BaseModel
from pydantic.fields import FieldInfo

Types = tuple[Any, ...]
"""The types a value may have: one for each branch of a union."""


def branches(annotation: Any) -> Types:
    """Return the types of an annotation without Annotated, None and unions.

    Worked example
    --------------
    ``Annotated[int, ...] | Sysctl | None`` is ``(int, Sysctl)``.
    """
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return branches(typing.get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return tuple(b for arg in typing.get_args(annotation) for b in branches(arg))
    return () if annotation is type(None) else (annotation,)


def fields(of: Any) -> dict[str, FieldInfo]:
    """Return a model's fields by the keys that files use; empty for other types."""
    if not _is_model(of):
        return {}
    return {field.alias or name: field for name, field in of.model_fields.items()}


def keys(of: Types) -> list[str]:
    """Return the keys that any of the types has, in the order they are declared."""
    return list(dict.fromkeys(key for branch in of for key in fields(branch)))


def below(of: Types, key: str | int) -> Types:
    """Return the types of the value under ``key``."""
    found: list[Any] = []
    for branch in of:
        origin, args = _origin(branch), typing.get_args(branch)
        if _is_model(branch):
            field = fields(branch).get(str(key))
            found += branches(field.annotation) if field is not None else ()
        elif origin is dict:
            found += branches(args[1])
        elif origin is tuple and isinstance(key, int):
            found += branches(args[0])
    return tuple(found)


def at(root: Any, path: Iterable[str | int]) -> Types:
    """Return the types of the value at a key path below the model ``root``."""
    of: Types = (root,)
    for key in path:
        of = below(of, key)
    return of


def is_open(of: Types) -> bool:
    """Tell whether it is a mapping with names of the writer's choice, and plain values."""
    for branch in of:
        if _origin(branch) is dict:
            values = branches(typing.get_args(branch)[1])
            if not any(_is_model(value) for value in values):
                return True
    return False


def summary(of: Types, key: str) -> str:
    """Return the first sentence of a field's docstring."""
    for branch in of:
        text = descriptions(branch).get(key) if _is_model(branch) else None
        if text:
            return text.replace("\n", " ").split(". ")[0].rstrip(".")
    return ""


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstrings below a model's fields, by the keys that files use."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        found |= _docstrings(cls)
    return {
        field.alias or name: found[name]
        for name, field in model.model_fields.items()
        if name in found
    }


@functools.cache
def _docstrings(cls: type) -> dict[str, str]:
    """The docstrings below a class's fields, read from its source.

    Read when a message needs one: pydantic's ``use_attribute_docstrings`` reads all of them at
    import, which takes a third of the import's time.
    """
    try:
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError):  # no source at hand: the parametrised models, and object
        return {}
    found: dict[str, str] = {}
    for pair in itertools.pairwise(getattr(node, "body", ())):
        match pair:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = inspect.cleandoc(text)
    return found


def _origin(of: Any) -> Any:
    return typing.get_origin(of)


def _is_model(of: Any) -> bool:
    return isinstance(of, type) and issubclass(of, BaseModel)
