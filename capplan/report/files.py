"""Writing files of a result: whole, renamed into place, the same bytes for the same content."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from capplan.errors import InputError

__all__ = [
    "as_json",
    "cell",
    "finite",
    "harmless",
    "number",
    "replace_file",
    "unguarded",
    "write_table",
]

MAX_WHOLE = 1e15  # below it a float's integers are exact


@contextlib.contextmanager
def result_folder(directory: Path) -> Iterator[None]:
    """Make a result's directory; what cannot be written there is an InputError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise InputError(f"{directory}: cannot be written: {error.strerror}") from error


def replace_file(path: Path, content: bytes) -> Path:
    """Write ``content`` under another name, then rename: nobody ever sees half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def as_json(data: object) -> bytes:
    """``data`` as indented JSON."""
    text = json.dumps(finite(data), indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def finite(value: Any) -> Any:
    """``value`` as JSON knows it: no numpy types, no NaN, paths and the like as text."""
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def harmless(cell: str) -> str:
    """A foreign name that a spreadsheet must not take for a formula (see `unguarded`)."""
    return f"'{cell}" if cell[:1] in ("=", "+", "@", "\t", "\r", "'") else cell


def unguarded(cell: str) -> str:
    """The name that :func:`harmless` made harmless."""
    return cell.removeprefix("'")


def number(value: float) -> str:
    """The shortest text that reads back as the same number; "" for what is missing."""
    if not math.isfinite(value):
        return ""
    return str(int(value)) if value == int(value) and abs(value) < MAX_WHOLE else repr(value)


def cell(value: Any) -> str:
    """A value of a table: "" for what is missing, numbers as short as they can be, safe texts."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int | float):
        return number(float(value)) if isinstance(value, float) else str(value)
    return harmless(str(value))


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Write rows as CSV, one after the other, and rename the file into place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            out = csv.writer(file, lineterminator="\n")
            out.writerow(columns)
            out.writerows([cell(value) for value in row] for row in rows)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
