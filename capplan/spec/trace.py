"""Recorded memory curves: a CSV file becomes arrays of time and bytes.

A file may be wide (one column per container) or long (one row per sample, chosen by
``where``), plain or gzipped; any columns may hold time and value. What cannot be a memory
curve (time that runs backwards, gaps, negative values, no rows) is refused with the line it
stands in. A file is read once, however many containers take a series out of it.
"""

from __future__ import annotations

import functools
import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from capplan.errors import InputError, Problem, closest, quoted, row_problem
from capplan.spec.moment import UNIT_SECONDS, guess_unit

if TYPE_CHECKING:
    import pandas as pd

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

GAP_INTERVALS = 5.0
"""A step of more than this many median intervals is a gap; a few lost scrapes are bridged."""

RESTART_SHARE = 0.05
"""A sample below this share of the one before it is a process that began anew. Live
processes give memory back in parts; a scrape during a restart sees almost none of it."""

CLIP_SHARE = 0.99
"""A sample of at least this share of the limit touches it: the kernel's 64-page charge
batches and the reclaim at the limit keep usage just below."""

CLIP_RUN = 3
"""So many samples in a row at the limit are a demand that was cut off, not a peak."""

MAX_PROBLEMS = 1000
"""Bad rows of a kind that are told apart; a file of nothing else has millions."""


@dataclass(frozen=True)
class Window:
    """A span of a trace, both ends in it; times as :attr:`MemoryTrace.origin_s` has them [s]."""

    start_s: float
    end_s: float


@dataclass(frozen=True)
class TraceQuery:
    """Which series of which file, and how its numbers are read.

    Parameters
    ----------
    file
        CSV file, ``.gz`` or not, with one header line.
    time, value
        Column names.
    where
        Rows to keep: column name to the text its cell must have (long files).
    time_unit
        ``s``, ``ms``, ``us``, ``ns`` or ``iso8601`` (no zone: UTC); ``auto`` tells them apart, the
        numbers by their size.
    unit_bytes
        Bytes that a value of 1 stands for: 1, 1048576 for MiB, a limit for fractions.
    counter
        Column of a counter that only rises (cpu seconds, for example): where it falls, the
        container was restarted.
    max_gap_s
        Longest step between samples [s]; None: five median intervals.
    masked
        Windows whose samples are left out; a gap that one bridges is none.
    """

    file: Path
    time: str
    value: str
    where: Mapping[str, str] = field(default_factory=dict)
    time_unit: str = "auto"
    unit_bytes: float = 1.0
    counter: str | None = None
    max_gap_s: float | None = None
    masked: tuple[Window, ...] = ()

    def key(self) -> tuple[object, ...]:
        """What sets it apart from other series of the same file."""
        where = tuple(sorted((str(k), str(v)) for k, v in self.where.items()))
        return (
            self.time, self.value, where, self.time_unit, self.unit_bytes, self.counter,
            self.max_gap_s, self.masked,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class MemoryTrace:
    """A memory curve as it was recorded.

    Attributes
    ----------
    t_s
        Seconds since the first sample, strictly rising.
    bytes
        Memory at that time [bytes].
    restarts
        True at a sample that belongs to a new life of the container.
    lines
        Line of each sample in the file.
    origin_s
        The first sample's time as the file has it, in seconds (since 1970, where it has dates).
    masked
        Samples that were left out.
    """

    file: Path
    t_s: FloatArray
    bytes: FloatArray
    restarts: BoolArray
    lines: IntArray
    origin_s: float = 0.0
    masked: int = 0

    def __len__(self) -> int:
        return int(self.t_s.size)

    @functools.cached_property
    def interval_s(self) -> float:
        """Median time between samples [s]; 0 for a single sample."""
        return float(np.median(np.diff(self.t_s))) if self.t_s.size > 1 else 0.0


class Table:
    """A CSV file in memory, with the rows of each filter found once."""

    def __init__(self, path: Path, frame: pd.DataFrame) -> None:
        self.path = path
        self.frame = frame
        self._numbers: dict[str, FloatArray] = {}
        self._groups: dict[tuple[str, ...], dict[tuple[str, ...], IntArray]] = {}
        self.traces: dict[tuple[object, ...], MemoryTrace] = {}
        """Series that were read before: many runs follow the same."""

    def column(self, name: str) -> pd.Series[Any]:
        """The column of that name, or an InputError that suggests one."""
        if name not in self.frame.columns:
            names = [str(c) for c in self.frame.columns]
            _fail(
                self.path,
                1,
                f"there is no column {quoted(name)}",
                expected=f"one of {', '.join(names[:8])}",
                suggestion=closest(name, names),
            )
        return self.frame[name]

    def numbers(self, name: str) -> FloatArray:
        """A column as float64, NaN where a cell is no number."""
        if name not in self._numbers:
            import pandas as pd

            column = pd.to_numeric(self.column(name), errors="coerce")
            self._numbers[name] = column.to_numpy(dtype=np.float64)
        return self._numbers[name]

    def rows(self, where: Mapping[str, str]) -> IntArray:
        """Row numbers whose cells have the texts of ``where``, in the file's order."""
        if not where:
            return np.arange(len(self.frame), dtype=np.int64)
        keys = tuple(sorted(where))
        if keys not in self._groups:
            self._groups[keys] = self._group(keys)
        return self._groups[keys].get(tuple(str(where[k]) for k in keys), np.empty(0, np.int64))

    def _group(self, keys: tuple[str, ...]) -> dict[tuple[str, ...], IntArray]:
        texts = [self.column(k).astype(str) for k in keys]
        groups: dict[Any, Any] = self.frame.groupby(texts, sort=False).indices
        return {
            k if isinstance(k, tuple) else (k,): np.sort(np.asarray(v, dtype=np.int64))
            for k, v in groups.items()
        }

    def values_of(self, name: str, limit: int = 500) -> list[str]:
        """Different texts in a column (to suggest one)."""
        return [str(v) for v in self.column(name).unique()[:limit]]


def read_table(path: Path) -> Table:
    """Read a CSV file, or hand back the copy read before if it has not changed."""
    try:
        stat = path.stat()
    except OSError as error:
        _fail(path, 0, f"the trace cannot be read: {error.strerror or error}")
    return _read_table(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=8)
def _read_table(path: Path, mtime_ns: int, size: int) -> Table:
    import pandas as pd

    try:
        # blank lines stay rows, so that row i is line i + 2 of the file
        frame = pd.read_csv(path, skip_blank_lines=False, low_memory=False)
    except pd.errors.EmptyDataError:
        _fail(path, 1, "the trace is empty")
    except pd.errors.ParserError as error:
        _fail(path, 0, f"not a CSV file: {str(error).strip()}")
    except (OSError, EOFError, UnicodeDecodeError, gzip.BadGzipFile) as error:
        _fail(path, 0, f"the trace cannot be read: {error}")
    return Table(path, frame)


def load_trace(query: TraceQuery) -> MemoryTrace:
    """Read one series and check that it can be a memory curve.

    Raises
    ------
    InputError
        With file and line: no such column, no rows, a cell that is no number, a negative
        value, time that stands still or runs backwards, a gap.
    """
    table = read_table(query.file)
    key = query.key()
    if key not in table.traces:
        table.traces[key] = _load(table, query)
    return table.traces[key]


def _load(table: Table, query: TraceQuery) -> MemoryTrace:
    rows = table.rows(query.where)
    if rows.size == 0:
        refuse_filter(table, query.where, query.value)
    seconds, origin = clock_seconds(table, query.time, rows, query.time_unit)
    values = table.numbers(query.value)[rows]
    blank = np.isnan(values) & table.column(query.value).isna().to_numpy()[rows]
    rows, seconds, values = rows[~blank], seconds[~blank], values[~blank]
    if rows.size == 0:
        refuse_filter(table, query.where, query.value)
    problems = list(_bad_cells(table, query, rows, seconds, values))
    rows, seconds, values = _drop_repeats(rows, seconds, values)
    inside = _inside(seconds + origin, query.masked)
    if inside.all():
        _fail(query.file, 0, "every sample is masked", column=query.value)
    # the step before a sample bridges what is masked between it and the one before
    bridged = np.diff(np.flatnonzero(~inside)) > 1
    rows, seconds, values = rows[~inside], seconds[~inside], values[~inside]
    problems += _bad_times(query, rows, seconds, bridged)
    if problems:
        raise InputError(sorted(problems, key=lambda problem: problem.place))
    counter = None if query.counter is None else table.numbers(query.counter)[rows]
    return MemoryTrace(
        file=query.file,
        t_s=seconds - seconds[0],
        bytes=values * query.unit_bytes,
        restarts=find_restarts(values, counter),
        lines=rows + 2,
        origin_s=origin + float(seconds[0]),
        masked=int(inside.sum()),
    )


def _inside(times_s: FloatArray, windows: tuple[Window, ...]) -> BoolArray:
    """Samples that lie in one of the windows."""
    inside = np.zeros(times_s.size, dtype=np.bool_)
    for window in windows:
        inside |= (times_s >= window.start_s) & (times_s <= window.end_s)
    return inside


def find_restarts(values: FloatArray, counter: FloatArray | None = None) -> BoolArray:
    """Samples at which a new life begins: a drop to (nearly) zero, or a counter reset.

    Worked example
    --------------
    >>> find_restarts(np.array([400.0, 410.0, 0.0, 0.0, 380.0, 200.0])).tolist()
    [False, False, True, False, False, False]
    >>> find_restarts(np.array([4.0, 4.0, 4.0]), np.array([10.0, 20.0, 1.0])).tolist()
    [False, False, True]
    """
    restarts = np.zeros(values.size, dtype=np.bool_)
    restarts[1:] = (values[1:] < RESTART_SHARE * values[:-1]) & (values[:-1] > 0)
    if counter is not None:
        restarts[1:] |= counter[1:] < counter[:-1]
    return restarts


def clipped_samples(values: FloatArray, limit: float) -> int:
    """Samples that sit at a limit, if enough of them stand in a row; else 0.

    Such a trace does not show what the container wanted, only what it was allowed.

    Worked example
    --------------
    >>> clipped_samples(np.array([90.0, 99.5, 100.0, 99.9, 60.0]), 100.0)
    3
    >>> clipped_samples(np.array([90.0, 99.5, 80.0, 99.9, 60.0]), 100.0)
    0
    """
    if limit <= 0 or values.size == 0 or values.max() < CLIP_SHARE * limit:
        return 0
    at_limit = np.concatenate(([False], values >= CLIP_SHARE * limit, [False]))
    edges = np.flatnonzero(np.diff(at_limit.astype(np.int8)))
    longest = int((edges[1::2] - edges[::2]).max()) if edges.size else 0
    return int(at_limit.sum()) if longest >= CLIP_RUN else 0


def fit_to_run(
    t_s: FloatArray, duration_s: float, *, offset_s: float = 0.0, repeat: bool = False
) -> tuple[FloatArray, IntArray]:
    """Times of a trace on the run's clock, and which sample stands at each.

    Parameters
    ----------
    t_s
        Sample times, the first is 0. [s]
    duration_s
        Length of the run. [s]
    offset_s
        Positive: the trace starts so much later; negative: its beginning is skipped. [s]
    repeat
        Start the trace again at its end until the run is over (one interval in between).

    Returns
    -------
    times, index
        Run times from 0 up to the first sample at or past the end, and sample numbers.
        The last sample before 0 is kept, at time 0, so that the curve starts where it was.

    Worked example
    --------------
    >>> t, i = fit_to_run(np.array([0.0, 60.0, 120.0]), 150.0, repeat=True)
    >>> t.tolist(), i.tolist()
    ([0.0, 60.0, 120.0, 180.0], [0, 1, 2, 0])
    """
    index = np.arange(t_s.size, dtype=np.int64)
    times = t_s + offset_s
    if repeat and t_s.size > 1:
        period = float(t_s[-1] + np.median(np.diff(t_s)))
        rounds = max(1, int(np.ceil((duration_s - offset_s) / period)) + 1)
        times = (times[None, :] + period * np.arange(rounds)[:, None]).ravel()
        index = np.tile(index, rounds)
    first = max(int(np.searchsorted(times, 0.0, side="right")) - 1, 0)
    last = min(int(np.searchsorted(times, duration_s, side="left")), times.size - 1)
    last = max(last, first)
    return np.maximum(times[first : last + 1], 0.0), index[first : last + 1]


def clock_seconds(
    table: Table, name: str, rows: IntArray, unit: str = "auto"
) -> tuple[FloatArray, float]:
    """A column of times in seconds from its first (NaN: no time), and when that was [s].

    Two parts, since seconds since 1970 leave a float64 no room for nanoseconds.
    """
    import pandas as pd

    column = table.column(name)
    is_text = not pd.api.types.is_numeric_dtype(column)
    # a column of numbers with one broken cell is text too: only dates are meant by iso8601
    if unit == "iso8601" or (unit == "auto" and is_text and _dated(column)):
        texts = column.iloc[rows].astype(str)
        dates = pd.to_datetime(texts, utc=True, errors="coerce", format="ISO8601")
        # as seconds since the epoch, whatever resolution pandas chose
        since = (dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
        numbers, unit = np.asarray(since, dtype=np.float64), "s"
    else:
        numbers = table.numbers(name)[rows]
        top = float(np.nanmax(np.abs(numbers), initial=0.0))
        unit = guess_unit(top) if unit == "auto" else unit
    first = numbers[0] if numbers.size and not np.isnan(numbers[0]) else 0.0
    seconds = UNIT_SECONDS[unit]
    return (numbers - first) * seconds, float(first * seconds)


def _dated(column: pd.Series[Any]) -> bool:
    """Whether a column of texts holds dates: its first cell is no number."""
    import pandas as pd

    return bool(np.isnan(pd.to_numeric(column.iloc[:1], errors="coerce").to_numpy(np.float64)[0]))


def _drop_repeats(
    rows: IntArray, seconds: FloatArray, values: FloatArray
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Without rows that repeat the one before them."""
    keep = np.ones(rows.size, dtype=np.bool_)
    keep[1:] = (np.diff(seconds) != 0) | (np.diff(values) != 0)
    return rows[keep], seconds[keep], values[keep]


def _bad_cells(
    table: Table, query: TraceQuery, rows: IntArray, seconds: FloatArray, values: FloatArray
) -> Iterator[Problem]:
    """Cells that hold no time, no number, or a negative one."""
    for name, array, what in ((query.time, seconds, "a time"), (query.value, values, "a number")):
        column = table.column(name)
        for row in rows[~np.isfinite(array)][:MAX_PROBLEMS]:
            message = f"{quoted(column.iloc[row])} is not {what}"
            yield row_problem(query.file, int(row) + 2, message, column=name)
    for at in np.flatnonzero(values < 0)[:MAX_PROBLEMS]:
        message = f"{values[at]:g} is negative"
        line = int(rows[at]) + 2
        yield row_problem(query.file, line, message, column=query.value, expected="0 or more")


def _bad_times(
    query: TraceQuery, rows: IntArray, seconds: FloatArray, bridged: BoolArray
) -> Iterator[Problem]:
    """Rows at which time stands still, runs backwards, or leaves a gap that nothing bridges."""
    timed = np.isfinite(seconds)
    steps, lines = np.diff(seconds[timed]), rows[timed][1:] + 2
    bridged = np.append(False, bridged)[timed][1:]
    if steps.size == 0:
        return
    for at in np.flatnonzero(steps <= 0)[:MAX_PROBLEMS]:
        word = "stands still" if steps[at] == 0 else f"runs backwards by {-steps[at]:g} s"
        expected = "rows in the order of time, one for each time"
        message = f"time {word}"
        yield row_problem(query.file, int(lines[at]), message, column=query.time, expected=expected)
    longest = query.max_gap_s
    if longest is None:
        longest = GAP_INTERVALS * float(np.median(steps))
    for at in np.flatnonzero((steps > longest) & (longest > 0) & ~bridged)[:MAX_PROBLEMS]:
        expected = f"steps of at most {longest:g} s; cut the file there, or raise max_gap"
        message = f"a gap of {steps[at]:g} s"
        yield row_problem(query.file, int(lines[at]), message, column=query.time, expected=expected)


def refuse_filter(table: Table, where: Mapping[str, str], value: str) -> NoReturn:
    """Say which filter matched nothing, and what would have matched."""
    for name, text in where.items():
        if table.rows({name: text}).size == 0:
            known = table.values_of(name)
            _fail(
                table.path,
                0,
                f"no row has {quoted(text)}",
                column=name,
                expected=f"one of {', '.join(known[:5])}",
                suggestion=closest(text, known),
            )
    wanted = " and ".join(f"{k} = {quoted(v)}" for k, v in where.items())
    what = f"no row with {wanted} has a value" if wanted else "no row has a value"
    _fail(table.path, 0, what, column=value)


def _fail(
    path: Path,
    line: int,
    message: str,
    *,
    column: str = "",
    expected: str = "",
    suggestion: str = "",
) -> NoReturn:
    raise InputError(
        row_problem(path, line, message, column=column, expected=expected, suggestion=suggestion)
    )
