"""``capplan import oom``: the node of an OOM report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from capplan.cli.import_ import finish, import_options

if TYPE_CHECKING:
    from capplan.sources.oom_model import Report

MOST_BYTES = 1 << 16  # of a line


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--report", "number", type=click.IntRange(min=1), help="Which one, from 1.")
@import_options
def oom(file: Path, number: int | None, out: Path, force: bool) -> None:
    """Write the node of an OOM report as it was at the kill.

    FILE holds lines of dmesg, `journalctl -k` or syslog, as they are or in a .gz. Of several
    reports the last with a task table is taken; `capplan explain FILE` lists them.
    """
    from capplan.sources.oom_node import draft_of

    report = pick(read(file), number, file)
    finish(draft_of(report, str(file)), out, force=force)


def read(file: Path) -> list[Report]:
    """All reports in a file; InputError where there is none."""
    import gzip
    import zlib

    from capplan.errors import InputError
    from capplan.sources.oom_log import parse

    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            pieces = iter(lambda: stream.readline(MOST_BYTES), b"")  # a line without end is bounded
            reports = parse(piece.decode("utf-8", "replace") for piece in pieces)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file}: cannot be read: {error}") from error
    if not reports:
        raise InputError(
            f"{file}: there is no OOM report in it\n"
            "    expected lines of dmesg with a task table, or 'Killed process'; the journal as "
            "`journalctl -k` prints it, not -o json"
        )
    return reports


def pick(reports: list[Report], number: int | None, file: Path) -> Report:
    """The report that is meant: by its number, else the last with a task table."""
    from capplan.errors import InputError

    if number is not None:
        if number > len(reports):
            raise InputError(f"{file}: there is no report {number}; it holds {len(reports)}")
        return reports[number - 1]
    with_tasks = [report for report in reports if report.tasks]
    return with_tasks[-1] if with_tasks else reports[-1]
