"""``below dump cgroup`` and ``below dump system`` as CSV: a host's recorded groups.

Columns are known by their titles, in any order and number, as ``-f`` asks for them. A line ends in
a comma and has ``?`` where there is no value. Sizes are bytes with ``--raw``, else ``1.2 GB``,
which is 1024-based with one decimal. ``--default`` shows no ``Full Path``: then a group is known by
its last name alone.

Source: facebookincubator/below, below/dump/src/print.rs (dump_csv), below/render/src/
default_configs.rs (titles and formats), below/common/src/util.rs (convert_bytes).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from capplan.errors import InputError, Problem
from capplan.sources.draft import doubt
from capplan.spec.tree import MAX_BYTES

__all__ = ["FILES", "Dump", "Group", "read_dumps"]

SIZES = {"Mem": "usage", "Anon": "anon", "File": "file", "Mem Swap": "swap", "Shmem": "shmem"}
FILES = {
    "Mem Min": "memory.min", "Mem Low": "memory.low", "Mem High": "memory.high",
    "Mem Max": "memory.max", "Swap Max": "memory.swap.max", "Zswap Max": "memory.zswap.max",
    "OOM Group": "memory.oom.group",
}  # fmt: skip
ROOT = "<root>"
NONE = ("?", "")
UNITS = {unit: 1 << 10 * n for n, unit in enumerate(("B", "KB", "MB", "GB", "TB", "PB", "EB"))}
MOST_FILE = 4 * MAX_BYTES
MOST_ROWS = 2_000_000
LATEST = 2.0**40  # a time beyond it is none [s since 1970]


@dataclass
class Group:
    """What was recorded of one group.

    Attributes
    ----------
    times
        Samples, in order. [s since 1970]
    sizes
        By kind, beside ``times`` [bytes]; None where a sample has none.
    files
        Its control files as they were last. [bytes; -1: max]
    """

    times: list[float] = field(default_factory=list)
    sizes: dict[str, list[float | None]] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)


@dataclass
class Dump:
    """What the files hold.

    Attributes
    ----------
    groups
        By path below the root ("" is the root), or by name where there are no paths.
    paths
        Whether they are paths.
    rounded
        Whether any size was shown rounded.
    memory, swap
        The machine's, in all. [bytes]
    available
        Lowest and last of MemAvailable. [bytes]
    """

    groups: dict[str, Group] = field(default_factory=dict)
    paths: bool = True
    rounded: bool = False
    memory: int | None = None
    swap: int | None = None
    available: list[int] = field(default_factory=list)
    kernel: str = ""
    hostname: str = ""
    problems: list[Problem] = field(default_factory=list)


def read_dumps(paths: Iterable[Path]) -> Dump:
    """Read dumps of groups and of the system, any number of each.

    Raises
    ------
    InputError
        A file that is neither, or too large.
    """
    made = Dump()
    for path in paths:
        rows = csv.reader(io.StringIO(_text(path)))
        header = [title.strip() for title in next(rows, [])]
        if "Mem" in header and ("Name" in header or "Full Path" in header):
            _groups(path, header, rows, made)
        elif "Total" in header and "Free" in header:
            _system(path, header, rows, made)
        else:
            raise InputError(
                f"{path}:1: neither groups with Mem nor the system with Total\n"
                "    expected below dump cgroup -O csv (with -f: name full_path mem timestamp) "
                "or below dump system -O csv"
            )
    if not made.groups:
        raise InputError("there is no group in these files\n    expected below dump cgroup -O csv")
    return made


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_FILE:
            raise InputError(
                f"{path}: more than {MOST_FILE >> 20} MiB\n    expected a shorter time"
            )
        return path.read_text(encoding="utf-8", errors="replace").replace("\0", "")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _rows(
    path: Path, header: list[str], rows: Iterator[list[str]], problems: list[Problem]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Lines as title -> text; titles once more (dumps put together) are passed over."""
    try:
        for line, row in enumerate(rows, start=2):
            if line > MOST_ROWS:
                raise InputError(
                    f"{path}: more than {MOST_ROWS:,} lines\n    expected a shorter time"
                )
            cells = [cell.strip() for cell in row]
            if cells == header or not any(cells):
                continue
            if len(cells) != len(header):
                problems.append(
                    doubt(path, line, f"{len(cells)} cells under {len(header)} titles: left out")
                )
                continue
            yield line, {t: c for t, c in zip(header, cells) if t and c not in NONE}
    except csv.Error as error:
        raise InputError(f"{path}: not CSV: {error}") from error


def _size(text: str, made: Dump) -> int | None:
    """Bytes, or ``1.2 GB`` and ``max``; None: neither."""
    if text == "max":
        return -1
    if re.fullmatch(r"-?[0-9]{1,19}", text):
        return max(int(text), -1)
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ([KMGTPE]?B)", text)
    if found is None:
        return None
    made.rounded |= found[2] != "B"
    return round(float(found[1]) * UNITS[found[2]])


def _time(row: dict[str, str]) -> float | None:
    try:
        if "Timestamp" in row:
            at = float(row["Timestamp"])
            return at if 0 <= at < LATEST else None
        if "Datetime" in row:  # in the zone of the host that dumped it: only differences count
            return datetime.strptime(f"{row['Datetime']} +0000", "%Y-%m-%d %H:%M:%S %z").timestamp()
    except ValueError:
        return None
    return None


def _groups(path: Path, header: list[str], rows: Iterator[list[str]], made: Dump) -> None:
    made.paths = made.paths and "Full Path" in header
    if not {"Timestamp", "Datetime"} & set(header):
        raise InputError(
            f"{path}:1: no Timestamp and no Datetime\n    expected -f ... timestamp, or --default"
        )
    for line, row in _rows(path, header, rows, made.problems):
        at, name = _time(row), row.get("Full Path" if made.paths else "Name")
        if row.get("Name") == ROOT:
            name = ""
        if at is None or name is None:
            made.problems.append(doubt(path, line, "no time or no name: left out"))
            continue
        group = made.groups.setdefault(name.strip("/"), Group())
        if group.times and at <= group.times[-1]:
            message = (
                f"{name} has two lines of one time" if at == group.times[-1] else "time goes back"
            )
            made.problems.append(doubt(path, line, f"{message}: left out", "-f ... full_path"))
            continue
        group.times.append(at)
        for title, kind in SIZES.items():
            size = _size(row[title], made) if title in row else None
            group.sizes.setdefault(kind, []).append(size)
        for title, file in FILES.items():
            if (held := _size(row.get(title, "?").removesuffix(".0"), made)) is not None:
                group.files[file] = held


def _system(path: Path, header: list[str], rows: Iterator[list[str]], made: Dump) -> None:
    for _, row in _rows(path, header, rows, made.problems):
        sizes = {t: _size(row[t], made) for t in ("Total", "Swap Total", "Available") if t in row}
        made.memory = sizes.get("Total") or made.memory
        made.swap = sizes["Swap Total"] if sizes.get("Swap Total") is not None else made.swap
        if (available := sizes.get("Available")) is not None:
            made.available.append(available)
        made.kernel = row.get("Kernel Version", made.kernel)
        made.hostname = row.get("Hostname", made.hostname)
