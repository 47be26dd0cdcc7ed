"""Windows of a trace that are left out: injected faults, outages, a deployment gone wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from capplan.errors import InputError, quoted, row_problem
from capplan.spec.trace import (
    FloatArray,
    IntArray,
    Table,
    Window,
    clock_seconds,
    read_table,
    refuse_filter,
)


@dataclass(frozen=True)
class WindowQuery:
    """Which rows of a CSV are windows, and how their times are read.

    Parameters
    ----------
    file
        CSV file, ``.gz`` or not, with one header line.
    start, end
        Columns of a window's first and last moment; without ``end``, ``length_s`` tells it.
    length_s
        How long a window lasts [s].
    shift_s
        Added to both ends [s].
    where
        Rows to keep: column name to the text its cell must have. It is an error if no row has it.
    match
        The same, but no row need have it: a container may have no windows.
    """

    file: Path
    start: str
    end: str | None = None
    length_s: float = 0.0
    shift_s: float = 0.0
    where: Mapping[str, str] = field(default_factory=dict)
    match: Mapping[str, str] = field(default_factory=dict)


def read_windows(query: WindowQuery) -> tuple[Window, ...]:
    """The windows of a CSV file; none where no row is meant.

    Raises
    ------
    InputError
        With file and line: no such column, no row as in ``where``, a cell that is no time, an end
        before its start.
    """
    table = read_table(query.file)
    if table.rows(query.where).size == 0:
        refuse_filter(table, query.where, query.start)
    rows = table.rows({**query.where, **query.match})
    if rows.size == 0:
        return ()
    starts, origin = clock_seconds(table, query.start, rows)
    first = starts + origin + query.shift_s
    last = first + query.length_s
    if query.end is not None:
        ends, origin = clock_seconds(table, query.end, rows)
        last = ends + origin + query.shift_s
    _check(table, query, rows + 2, first, last)
    return tuple(Window(a, b) for a, b in zip(first.tolist(), last.tolist()))


def _check(
    table: Table, query: WindowQuery, lines: IntArray, first: FloatArray, last: FloatArray
) -> None:
    """Refuse cells that hold no time, and windows that end before they begin."""
    problems = []
    for line, start, end in zip(lines.tolist(), first.tolist(), last.tolist()):
        column = query.start if math.isnan(start) else query.end or query.start
        if math.isnan(start) or math.isnan(end):
            message = f"{quoted(table.frame[column].iloc[line - 2])} is not a time"
        elif end < start:
            message = f"the window ends {start - end:g} s before it begins"
        else:
            continue
        problems.append(row_problem(query.file, line, message, column=column))
    if problems:
        raise InputError(problems)
