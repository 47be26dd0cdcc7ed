"""``capplan sweep``: many settings of a node, and which of them moves the risk."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from capplan.cli.many import counting, job_options, kept, tell


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Result directory.  [default: reports/<file>-sweep]",
)
@click.option("--json", "as_json", is_flag=True, help="Print summary.json instead of text.")
@click.option("--gate", is_flag=True, help="Exit 1 unless at least one point fits.")
@click.option("--quiet", "-q", is_flag=True, help="Print the verdict line only.")
@job_options
def sweep(file: Path, **options: Any) -> None:
    """Run all points of FILE (a sweep file): settings crossed, paired or drawn.

    Finished runs are kept in the result directory: the same command goes on where it was stopped.
    """
    perform(file, **options)


def perform(
    file: Path,
    *,
    out: Path | None,
    as_json: bool,
    gate: bool,
    quiet: bool,
    **workers: Any,
) -> None:
    """Load, run, print and write; exit 1 when ``gate`` is asked for and no point fits."""
    import capplan.api_sweep

    parquet = workers.pop("parquet")
    plan = capplan.api_sweep.planned(file)
    directory = out if out is not None else Path("reports") / f"{file.stem}-sweep"
    with kept(directory), counting(file.stem, len(plan), quiet=quiet) as progress:
        result = capplan.api_sweep.sweep(plan, store=directory, progress=progress, **workers)
    result.write(directory, command=shlex.join(["capplan", *sys.argv[1:]]), parquet=parquet)
    tell(result, directory, as_json=as_json, quiet=quiet, gate=gate, fits=result.sweep.fitting)
