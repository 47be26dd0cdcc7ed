"""Lines of plain text: broken at one width, columns aligned, numbers kept with their units."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

from capplan.report.words import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 100
HARD_SPACE = "\N{NO-BREAK SPACE}"

_UNIT = re.compile(r"(\d) (?=(?:[KMGT]?i?B|ns|us|ms|s|min|h|d|%|pages)\b|%)")


def wrap(text: str, indent: str = "", hanging: str | None = None) -> list[str]:
    """``text`` in lines; a number is never parted from its unit.

    ``indent`` stands before the first line, ``hanging`` before the others (None: as many blanks).
    """
    rest = " " * len(indent) if hanging is None else hanging
    lines = textwrap.wrap(
        together(clean(text)), WIDTH, initial_indent=indent, subsequent_indent=rest,
        break_long_words=False, break_on_hyphens=False,
    ) or [indent.rstrip()]  # fmt: skip
    return [line.replace(HARD_SPACE, " ") for line in lines]


def together(text: str) -> str:
    """``text`` whose numbers are not parted from their units at the end of a line."""
    return _UNIT.sub(f"\\1{HARD_SPACE}", text)


def aligned(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns padded to their widest cell, two spaces between them."""
    lines = [list(headers), *map(list, rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(headers))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
        for line in lines
    ]
