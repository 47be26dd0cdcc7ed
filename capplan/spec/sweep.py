"""A sweep file: which settings of a node file are tried, and how they are combined."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from capplan import units
from capplan.errors import InputError, Place, Problem
from capplan.spec.common import Model, problem
from capplan.spec.tree import Node, parse, read_text
from capplan.spec.validate import key_place, validate

__all__ = ["Knob", "Range", "SweepFile", "SweepSpec", "load_sweep"]

Scalar = str | int | float | bool
NUMBER, SIZE, RATE, DURATION = "number", "size", "rate", "duration"


class Range(Model):
    """Values from ``low`` to ``high``."""

    low: Scalar
    high: Scalar
    steps: Annotated[int, Field(ge=2, le=10_000)] | None = None
    """Values of a grid, both ends included. Designs that draw need none."""
    scale: Literal["linear", "log"] = "linear"
    round: Scalar | None = None
    """Values are multiples of this: 1Mi."""

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        low, high = quantity(self.low), quantity(self.high)
        if low[1] != high[1] and 0 not in (low[0], high[0]):
            raise problem(
                "range", "low and high are of different kinds", "both sizes, or both times"
            )
        if low[0] >= high[0]:
            raise problem("range", "low is not below high", "low below high")
        if self.scale == "log" and low[0] <= 0:
            raise problem("range", "a log scale from 0", "low above 0")
        if self.round is not None and quantity(self.round)[0] <= 0:
            raise problem("range", "round is not above 0", "a step such as 1Mi")
        return self


def _range_or_list(value: Any) -> str:
    return "range" if isinstance(value, dict | Range) else "list"


def quantity(value: Scalar) -> tuple[float, str]:
    """A scalar as a number in its base unit, and what kind of quantity it is.

    Worked example
    --------------
    >>> quantity("1Mi"), quantity("10min"), quantity("2Ki/s"), quantity(67584)
    ((1048576.0, 'size'), (600000000000.0, 'duration'), (2048.0, 'rate'), (67584.0, 'number'))
    """
    if isinstance(value, bool):
        raise problem("range", "a truth has no range", "a list: [true, false]")
    if isinstance(value, int | float):
        return float(value), NUMBER
    text = value.strip()
    kinds = ((float, NUMBER), (units.parse_rate, RATE), (units.parse_size, SIZE))
    for read, kind in (*kinds, (units.parse_duration, DURATION)):
        try:
            return float(read(text)), kind
        except ValueError:
            continue
    raise problem("range", f"{value!r} is no quantity", "a number, a size, a rate or a duration")


class SweepFile(Model):
    """A sweep file."""

    capplan: Literal[1]
    """Version of the file format."""
    node: str
    """The node file, relative to this file."""
    design: Literal["grid", "paired", "latin", "sobol", "saltelli"] = "grid"
    """``grid``: every combination. ``paired``: the first value of each knob, the second of each,
    and so on. ``latin``: a Latin hypercube. ``sobol``: a scrambled Sobol sequence. ``saltelli``:
    what total-order sensitivity needs, points x (knobs + 2)."""
    points: Annotated[int, Field(ge=2, le=1_000_000)] | None = None
    """Of a design that draws; sobol and saltelli take a power of two."""
    replicates: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """Runs of each point, with the same draws at each point."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    """Of the design and of the runs. Left out: the node file's."""
    set: dict[str, Scalar] = Field(default_factory=dict)
    """Settings that all points share."""
    knobs: Annotated[
        dict[
            str,
            Annotated[
                Annotated[tuple[Scalar | tuple[Scalar, ...], ...], Field(min_length=1), Tag("list")]
                | Annotated[Range, Tag("range")],
                Discriminator(_range_or_list),
            ],
        ],
        Field(min_length=1),
    ]
    """What is varied: a list of values or a range, by key."""

    @model_validator(mode="after")
    def _whole(self) -> SweepFile:
        drawn = self.design in ("latin", "sobol", "saltelli")
        if drawn and self.points is None:
            raise problem("design", f"design: {self.design} without points", "points: 128")
        if not drawn and self.points is not None:
            raise problem(
                "design", f"points with design: {self.design}", "latin, sobol or saltelli"
            )
        binary = self.design in ("sobol", "saltelli")
        if binary and self.points is not None and self.points & (self.points - 1):
            near = 1 << (self.points - 1).bit_length()
            raise problem("design", f"{self.points} points", f"a power of two, such as {near}")
        self._countable(drawn)
        return self

    def _countable(self, drawn: bool) -> None:
        for key, values in self.knobs.items():
            if isinstance(values, Range) and values.steps is None and not drawn:
                raise problem(
                    "design", f"{key}: a range without steps in a {self.design}", "steps: 5"
                )
        if self.design != "paired":
            return
        counts = {len_of(values) for values in self.knobs.values()}
        if len(counts) > 1:
            raise problem("design", "paired knobs of different lengths", "as many values of each")


def len_of(values: Range | tuple[Any, ...]) -> int:
    """Number of values of a knob on a grid."""
    return (values.steps or 0) if isinstance(values, Range) else len(values)


@dataclass(frozen=True)
class Knob:
    """What is varied: a list of texts, or a range."""

    key: str
    values: tuple[str, ...] = ()
    range: Range | None = None


@dataclass(frozen=True)
class SweepSpec:
    """A sweep file, read and checked."""

    path: Path
    name: str
    model: SweepFile
    node: Path
    knobs: tuple[Knob, ...]
    settings: dict[str, str]
    tree: Node = field(repr=False)

    def place(self, key: str) -> Place:
        """Where a knob or a setting stands."""
        table = "knobs" if key in self.model.knobs else "set"
        return key_place(self.tree, (table, key))

    def placed(self, error: InputError) -> InputError:
        """An error of a setting with its place in this file."""
        if not error.problems:
            return error
        return InputError([self._placed(found) for found in error.problems])

    def _placed(self, found: Problem) -> Problem:
        keys = [*self.model.knobs, *self.model.set]
        key = next((k for k in keys if found.path == k or found.path.endswith(f".{k}")), None)
        if key is None or found.place.line:
            return found
        return replace(found, place=self.place(key))


def load_sweep(path: str | Path) -> SweepSpec:
    """Read and check a sweep file (not yet the node file it names).

    Raises
    ------
    InputError
        Everything that is wrong with it.
    """
    path = Path(path)
    tree, problems = parse(read_text(path, str(path)), str(path))
    model, more = validate(SweepFile, tree)
    if model is None or problems:
        raise InputError([*problems, *more])
    knobs = tuple(_knob(key, values, tree) for key, values in model.knobs.items())
    settings = {key: _text(value) for key, value in model.set.items()}
    node = Path(os.path.normpath(path.parent / model.node))
    return SweepSpec(path, path.stem, model, node, knobs, settings, tree)


def _knob(key: str, values: Any, tree: Node) -> Knob:
    if isinstance(values, Range):
        return Knob(key, range=values)
    return Knob(key, tuple(_text(value) for value in values))


def _text(value: Any) -> str:
    """A value as it would stand after ``--set``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_text, value))}]"
    return str(value)
