"""The base model, the quantity types and the distributions that files may use.

Every model is frozen, refuses keys it does not know, and is documented by the docstrings
under its fields. Fields that stand for a kernel file carry the file's name as their alias
(``memory.max``); in Python the dot is an underscore (``memory_max``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from capplan import units
from capplan.spec.schema import descriptions

Q = TypeVar("Q")


class Model(BaseModel):
    """Frozen, with unknown keys refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_by_name=True,
        validate_by_alias=True,
        # YAML has typed its scalars: '4' in quotes is no number, and yes is no truth
        strict=True,
        allow_inf_nan=False,
    )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add the fields' docstrings to the JSON schema."""
        reference = handler(core)
        properties = handler.resolve_ref_schema(reference).get("properties", {})
        for key, text in descriptions(cls).items():
            properties.get(key, {}).setdefault("description", text)
        return reference


def problem(
    kind: str, message: str, expected: str = "", suggestion: str = ""
) -> PydanticCustomError:
    """Make a validation error that carries what the error template shows."""
    context = {"what": message, "expected": expected, "suggestion": suggestion}
    return PydanticCustomError(f"capplan_{kind}", "{what}", context)


def _quantity(parse: Callable[[Any], Any], kind: str, what: str) -> Callable[[Any], Any]:
    def validate(value: Any) -> Any:
        if not isinstance(value, str | int | float):
            raise problem(kind, f"{_shape(value)} is not {what}", f"{what}")
        try:
            return parse(value)
        except units.UnitError as error:
            raise problem(kind, error.message, error.expected, error.suggestion) from error

    return validate


def _shape(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else repr(value)


def _keep_size(value: Any) -> units.Size:
    return value if isinstance(value, units.Size) else units.parse_size(value)


def _limit(value: Any) -> units.Size:
    if isinstance(value, units.Size):
        return value
    if value == "max" or (value == units.UNLIMITED and not isinstance(value, bool)):
        return units.Size(units.UNLIMITED, "max")
    try:
        return units.parse_size(value)
    except units.UnitError as error:
        expected = f"{error.expected}, or max" if error.expected else "a size or max"
        raise units.UnitError(error.message, expected, error.suggestion) from error


def _duration(value: Any) -> int:
    return units.parse_duration(value)


def _shutdown(value: Any) -> int:
    if value in ("ignored", IGNORED):
        return IGNORED
    try:
        return units.parse_duration(value)
    except units.UnitError as error:
        expected = f"{error.expected}, or ignored" if error.expected else "a duration or ignored"
        raise units.UnitError(error.message, expected, error.suggestion) from error


def _share(value: Any) -> float:
    text = str(value).strip()
    expected = "a share from 0 to 1, or a percentage such as 5%"
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError as error:
        raise units.UnitError(f"{text!r} is not a share", expected) from error
    if isinstance(value, bool) or not 0 <= share <= 1:
        raise units.UnitError(f"{text!r} is not a share", expected)
    return share


def _size_or_share(value: Any) -> units.Size | float:
    is_share = isinstance(value, float) or str(value).strip().endswith("%")
    if not isinstance(value, units.Size) and (is_share or value in (0, 1)):
        return _share(value)
    return _keep_size(value)


def _schema(title: str, description: str, *types: str) -> WithJsonSchema:
    return WithJsonSchema({"title": title, "type": list(types), "description": description})


def _written_as(write: Callable[[Any], Any]) -> PlainSerializer:
    """Write a value so that the file that holds it can be read again."""
    return PlainSerializer(write, when_used="json")


def _write_limit(value: int) -> int | str:
    return "max" if value == units.UNLIMITED else value


def _write_rate(value: float) -> str:
    return f"{value!r}/s"


def _write_size_or_share(value: int | float) -> str | float:
    return str(int(value)) if isinstance(value, units.Size) else value


Bytes = Annotated[
    int,
    PlainValidator(_quantity(_keep_size, "size", "a memory size")),
    _schema("Bytes", "A size in Kubernetes' notation, such as 768Mi.", "string", "integer"),
]
"""A memory size; bytes. [bytes]"""

Limit = Annotated[
    int,
    PlainValidator(_quantity(_limit, "size", "a memory size")),
    _written_as(_write_limit),
    _schema("Limit", "A size such as 768Mi, or max.", "string", "integer"),
]
"""A memory size or ``max``, which is read as -1. [bytes]"""

Duration = Annotated[
    int,
    PlainValidator(_quantity(_duration, "duration", "a duration")),
    _written_as("{}ns".format),
    _schema("Duration", "A duration such as 250ms, 10min or 1h30m.", "string"),
]
"""A duration. [ns]"""

IGNORED = -1

Shutdown = Annotated[
    int,
    PlainValidator(_quantity(_shutdown, "duration", "a duration")),
    _written_as(lambda value: "ignored" if value == IGNORED else f"{value}ns"),
    _schema("Shutdown", "A duration such as 2s, or ignored.", "string"),
]
"""Time from a signal to the exit, or ``ignored``, which is read as -1. [ns]"""

Rate = Annotated[
    float,
    PlainValidator(_quantity(units.parse_rate, "rate", "a rate")),
    _written_as(_write_rate),
    _schema("Rate", "A size per time, such as 20Mi/s.", "string"),
]
"""Bytes per second. [bytes/s]"""

Share = Annotated[
    float,
    PlainValidator(_quantity(_share, "share", "a share")),
    _schema("Share", "A share from 0 to 1, or a percentage such as 5%.", "number", "string"),
]
"""A share from 0 to 1. [ratio]"""

Factor = Annotated[float, Field(ge=0)]
"""A factor, 0 or more."""

SizeOrShare = Annotated[
    int | float,
    PlainValidator(_quantity(_size_or_share, "size", "a size or a share")),
    _written_as(_write_size_or_share),
    _schema(
        "SizeOrShare", "A size such as 60Mi, or a share such as 0.5 or 50%.", "string", "number"
    ),
]
"""A size (:class:`capplan.units.Size`) or a share from 0 to 1 (a float)."""

OomScoreAdj = Annotated[int, Field(ge=-1000, le=1000)]
"""``/proc/PID/oom_score_adj``, -1000 to 1000."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._@-]*[A-Za-z0-9])?$", max_length=253)]
"""A name: letters, digits, ``-``, ``_``, ``.`` and ``@``, first and last a letter or digit."""


def only_one(model: BaseModel, *names: str, required: bool = True) -> list[str]:
    """Return which of the fields are set; raise unless exactly (or at most) one is."""
    found = [name for name in names if getattr(model, name) is not None]
    shown = ", ".join(type(model).model_fields[n].alias or n for n in names)
    if len(found) > 1:
        raise problem("one_of", "more than one of " + shown, "only one of " + shown)
    if required and not found:
        raise problem("one_of", "none of " + shown, "one of " + shown)
    return found


class _Of(Model):
    """A model of some quantity, named after it: ``Dist[Bytes]``."""

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """Name the model by the quantity's title, not by pydantic's inner types."""
        schemas = [m for m in getattr(params[0], "__metadata__", ()) if hasattr(m, "json_schema")]
        title = schemas[0].json_schema["title"] if schemas else params[0].__name__
        return f"{cls.__name__}[{title}]"


class Normal(_Of, Generic[Q]):
    """A normal distribution, cut at 0 and at the optional bounds."""

    mean: Q
    sd: Q
    min: Q | None = None
    max: Q | None = None


class Lognormal(_Of, Generic[Q]):
    """A lognormal distribution: skewed to the right, as peaks of memory often are."""

    median: Q
    sigma: Annotated[float, Field(ge=0)]
    """Standard deviation of the logarithm; 0.2 puts 95 % within a factor 1.5."""
    max: Q | None = None


class Uniform(_Of, Generic[Q]):
    """Every value from low to high is equally likely."""

    low: Q
    high: Q

    @model_validator(mode="after")
    def _ordered(self) -> Uniform[Q]:
        if self.low > self.high:  # type: ignore[operator]
            raise problem("order", "low is above high", "low at or below high")
        return self


class Exponential(_Of, Generic[Q]):
    """Times between events that know nothing of each other."""

    mean: Q


class Choice(_Of, Generic[Q]):
    """One of a few values, equally likely unless weighted."""

    values: Annotated[tuple[Q, ...], Field(min_length=1)]
    weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None

    @model_validator(mode="after")
    def _weighted(self) -> Choice[Q]:
        if self.weights is not None:
            if len(self.weights) != len(self.values):
                message = "there is not one weight for each value"
                raise problem("weights", message, "as many weights as values")
            if sum(self.weights) <= 0:
                raise problem("weights", "all weights are 0", "a weight above 0")
        return self


class Dist(_Of, Generic[Q]):
    """A value, or the distribution it is drawn from; a bare value is a ``constant``."""

    constant: Q | None = None
    normal: Normal[Q] | None = None
    lognormal: Lognormal[Q] | None = None
    uniform: Uniform[Q] | None = None
    exponential: Exponential[Q] | None = None
    choice: Choice[Q] | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, data: Any) -> Any:
        return data if isinstance(data, dict | Dist) else {"constant": data}

    @model_validator(mode="after")
    def _one(self) -> Dist[Q]:
        only_one(self, *type(self).model_fields)
        return self

    @property
    def kind(self) -> str:
        """Which distribution it is: constant, normal, lognormal, uniform, exponential, choice."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def middle(self) -> float:
        """The median (the mean of an exponential or a weighted choice), for summaries."""
        if self.constant is not None:
            return float(self.constant)  # type: ignore[arg-type]
        if self.normal is not None:
            return float(self.normal.mean)  # type: ignore[arg-type]
        if self.lognormal is not None:
            return float(self.lognormal.median)  # type: ignore[arg-type]
        if self.uniform is not None:
            return (float(self.uniform.low) + float(self.uniform.high)) / 2  # type: ignore[arg-type]
        if self.exponential is not None:
            return float(self.exponential.mean)  # type: ignore[arg-type]
        assert self.choice is not None
        values = [float(v) for v in self.choice.values]  # type: ignore[arg-type]
        weights = self.choice.weights or (1.0,) * len(values)
        return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)


def mapping_or_word(value: Any) -> str:
    """Tell which branch of a union a value is meant for, so that one error is enough."""
    return "mapping" if isinstance(value, dict | Model) else "word"


def bare_as(key: str) -> BeforeValidator:
    """Let ``hold: 2h`` stand for ``hold: {for: 2h}`` and an empty body for no keys."""

    def wrap(value: Any) -> Any:
        if value is None:
            return {}
        return value if isinstance(value, dict | Model) else {key: value}

    return BeforeValidator(wrap)


class Compressibility(Model):
    """How well the region's pages compress in zram and zswap; drawn for each page."""

    mean: Share
    """Share saved: 0.6 stores a page in 40 % of its size."""
    sd: Share = 0.0
    """Spread of the share between pages."""
    same_filled: Share = 0.0
    """Share of the pages that hold one repeated word (zero pages)."""
    incompressible: Share = 0.0
    """Share of the pages that compressors reject (encrypted or compressed data)."""
