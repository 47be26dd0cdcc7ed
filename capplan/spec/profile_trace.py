"""Parts of a profile's trace: its columns, what is masked, and the peaks beside it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from capplan.spec.common import Duration, Model, problem
from capplan.spec.moment import moment_s


def _as_text(value: Any) -> Any:
    return value if isinstance(value, dict | tuple | list) or value is None else str(value)


Text = Annotated[str, BeforeValidator(_as_text)]
"""A cell, however YAML read it."""


class Columns(Model):
    """Which columns of the CSV hold what."""

    time: str = "time"
    value: str | None = None
    """The measured series."""
    anon: str | None = None
    """Anonymous memory, where the trace has it apart."""
    file: str | None = None
    """Page cache, where the trace has it apart."""

    @model_validator(mode="after")
    def _some(self) -> Columns:
        if self.value is None and self.anon is None:
            message = "neither value nor anon"
            raise problem("columns", message, "value: name of the column to follow")
        if self.value is not None and self.anon is not None:
            raise problem("columns", "both value and anon", "only one of value, anon")
        return self


class Mask(Model):
    """Windows of a trace that are left out and bridged in a straight line."""

    file: str | None = None
    """CSV of windows, relative to the profile. Left out: one window, ``from`` and ``to``."""
    start: Annotated[str | None, Field(alias="from"), BeforeValidator(_as_text)] = None
    """With a file: column of the windows' starts; else a time (as in the trace, or ISO 8601).
    Left out: the trace's start."""
    end: Annotated[str | None, Field(alias="to"), BeforeValidator(_as_text)] = None
    """With a file: column of their ends; else a time. Left out: ``for``, or the trace's end."""
    duration: Annotated[Duration | None, Field(alias="for")] = None
    """How long each window lasts."""
    shift: Duration = 0
    """Added to the file's times (a list in another time zone than the trace)."""
    filter: dict[str, Text] = Field(default_factory=dict)
    """Of a file: column -> value that a row must have."""
    match: dict[str, str] = Field(default_factory=dict)
    """Of a file: column -> key of the trace's ``filter`` whose value a row must have (the windows
    of the container that is followed)."""

    @model_validator(mode="after")
    def _window(self) -> Mask:
        if self.end is not None and self.duration is not None:
            raise problem("one_of", "both to and for", "only one of to, for")
        if self.file is not None and (
            self.start is None or (self.end is None and self.duration is None)
        ):
            expected = "from: COLUMN, and to: COLUMN or for: 5min"
            raise problem("mask", "a file of windows without their ends", expected)
        if self.file is None and self.start is None and self.end is None:
            raise problem("mask", "a window without a start or an end", "from, to, or both")
        if self.file is None and (self.filter or self.match or self.shift):
            raise problem("mask", "filter, match or shift without a file", "file: windows.csv")
        return self

    @field_validator("start", "end")
    @classmethod
    def _time(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("file") is None:
            try:
                moment_s(value)
            except ValueError as error:
                expected = "a time as in the trace, or ISO 8601 such as 2026-01-31T12:00:00Z"
                raise problem("time", f"{value!r} is not a time", expected) from error
        return value


class Peaks(Model):
    """The highest value within each interval, where it was recorded beside the samples."""

    value: str | None = None
    """Its column. Left out: the one that is followed (``filter`` tells the rows apart)."""
    filter: dict[str, Text] = Field(default_factory=dict)
    """For long tables: what its rows have instead (or besides) the trace's ``filter``."""

    @model_validator(mode="after")
    def _apart(self) -> Peaks:
        if self.value is None and not self.filter:
            raise problem("peaks", "peaks without a series", "value: COLUMN, or filter")
        return self
