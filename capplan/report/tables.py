"""Tables of a report: cells with what people read and what sorting and scripts need."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, NamedTuple

from capplan.report import words
from capplan.report.files import cell as csv_cell
from capplan.report.words import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capplan.plan.outcome_model import ContainerOutcome, Outcome

Key = float | str | None


class Column(NamedTuple):
    """A column; ``key`` is its name in CSV, with the unit."""

    key: str
    title: str
    numeric: bool = True


class Cell(NamedTuple):
    """What is read, and what it is sorted by; ``share`` (0 to 1) is drawn as a bar."""

    text: str
    value: Key = None
    share: float | None = None
    state: str = ""  # "bad": it stands against the verdict


class Table(NamedTuple):
    """A table with its name for those who hear it."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


COLUMNS = (
    Column("container", "container", False), Column("cgroup", "cgroup", False),
    Column("peak_bytes", "peak"), Column("peak_cache_bytes", "cache in it"),
    Column("limit_bytes", "limit"), Column("headroom_bytes", "headroom"),
    Column("late_max_s", "late"), Column("throttle_s", "throttled"), Column("pause_s", "paused"),
    Column("kills", "killed"), Column("evictions", "evicted"), Column("majfaults", "major faults"),
    Column("stall_share", "stalled"), Column("restarts", "restarts"),
)  # fmt: skip


def containers(outcome: Outcome) -> Table:
    """All containers, those at most risk first."""
    rows = tuple(_row(c, outcome) for c in words.by_risk(outcome.containers))
    count = f"{len(rows)} container{'s' if len(rows) != 1 else ''}"
    return Table(f"{count}, those at most risk first", COLUMNS, rows)


def _row(c: ContainerOutcome, outcome: Outcome) -> tuple[Cell, ...]:
    texts = dict(zip(words.HEADERS, words.row(c)))
    limit_share = None
    if c.peak_bytes is not None and c.limit_bytes and c.limit_cgroup == c.cgroup:
        limit_share = min((c.peak_bytes - c.peak_cache_bytes) / c.limit_bytes, 1.0)
    bad = c.throttle_share > outcome.max_throttle_share
    return (
        Cell(c.name, c.name), Cell(c.cgroup, c.cgroup),
        Cell(texts["peak"], c.peak_bytes, limit_share), Cell(texts["cache in it"],
        c.peak_cache_bytes), Cell(texts["limit"], c.limit_bytes),
        Cell(texts["headroom"], c.headroom_bytes), Cell(texts["late"], c.late_max_s),
        Cell(texts["throttled"], c.throttle_s, state="bad" if bad else ""),
        Cell(texts["paused"], c.pause_s, state="bad" if c.paused else ""),
        Cell(texts["killed"], float(len(c.killed)), state="bad" if c.killed else ""),
        Cell(texts["evicted"], float(len(c.evicted)), state="bad" if c.evicted else ""),
        Cell(texts["major faults"], c.majfaults), Cell(texts["stalled"], c.stall_share),
        Cell(f"{c.restarts}" if c.restarts else words.NOTHING, c.restarts),
    )  # fmt: skip


def shortened(table: Table, always: int = 0) -> Table:
    """Without the columns where nobody has anything; the first ``always`` ones stay."""
    kept = [
        n
        for n in range(len(table.columns))
        if n < always or any(row[n].text != words.NOTHING for row in table.rows)
    ]
    return Table(
        table.caption,
        tuple(table.columns[n] for n in kept),
        tuple(tuple(row[n] for n in kept) for row in table.rows),
    )


def without(table: Table, key: str) -> Table:
    """The table less one column."""
    kept = [n for n, column in enumerate(table.columns) if column.key != key]
    return Table(
        table.caption,
        tuple(table.columns[n] for n in kept),
        tuple(tuple(row[n] for n in kept) for row in table.rows),
    )


def as_csv(table: Table) -> str:
    """Figures, not texts: sizes in bytes, times in seconds; "" where there is none."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow([column.key for column in table.columns])
    for row in table.rows:
        cells = zip(table.columns, row)
        out.writerow([csv_cell(_plain(column, cell)) for column, cell in cells])
    return text.getvalue()


def _plain(column: Column, cell: Cell) -> Key:
    value = cell.value
    if value is None and not column.numeric and cell.text != words.NOTHING:
        value = cell.text
    return clean(value) if isinstance(value, str) else value


def as_markdown(table: Table, top: int | None = None) -> str:
    """A table of GitHub's Markdown."""
    rows: Sequence[tuple[Cell, ...]] = table.rows if top is None else table.rows[:top]
    lines = [
        "| " + " | ".join(column.title for column in table.columns) + " |",
        "|" + "|".join("---:" if column.numeric else "---" for column in table.columns) + "|",
    ]
    lines += ["| " + " | ".join(markdown(cell.text) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def markdown(text: str) -> str:
    """Foreign text that is neither markup, nor a mention, nor a link, nor the end of a cell."""
    return clean(text).translate(_MARKDOWN).replace("://", "&#58;//").replace("www.", "www&#46;")


_MARKDOWN = {ord(sign): f"&#{ord(sign)};" for sign in "&<>\\`*_[]|~#@"}
