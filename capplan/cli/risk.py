"""``capplan risk``: how likely anything happens."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from capplan.cli.many import counting, job_options, kept, tell
from capplan.cli.options import run_options


@click.command()
@click.argument("node", type=click.Path(path_type=Path))
@click.option(
    "--replicates",
    "-n",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Runs, each with other draws; with --until the most of them.",
)
@click.option(
    "--until",
    type=click.FloatRange(min=0, max=0.5, min_open=True),
    metavar="SHARE",
    help="Stop when no interval is wider than this to each side; looked at after 200, 400, 800, "
    "... runs.",
)
@click.option(
    "--rare",
    type=click.Choice(["kill", "pause", "evict"]),
    help="Split towards this incident: sees risks down to about 1 / replicates.",
)
@run_options
@job_options
def risk(node: Path, **options: Any) -> None:
    """Run NODE many times and say how likely each container is killed, paused or evicted.

    Finished runs are kept in the result directory (reports/NODE-risk unless --out says
    otherwise): the same command goes on where it was stopped, and only computes what is new.
    """
    perform(node, **options)


def perform(
    node: Path,
    *,
    replicates: int,
    until: float | None,
    rare: str | None,
    settings: dict[str, str],
    seed: int | None,
    duration: str | None,
    out: Path | None,
    as_json: bool,
    gate: bool,
    quiet: bool,
    **workers: Any,
) -> None:
    """Load, run, print and write; exit 1 when ``gate`` is asked for and not met."""
    import capplan.api

    parquet = workers.pop("parquet")
    loaded = capplan.api.load(node, settings=settings, seed=seed, duration=duration)
    for warning in loaded.warnings:
        click.echo(str(warning), err=True)
    directory = out if out is not None else Path("reports") / f"{loaded.name}-risk"
    with kept(directory), counting(loaded.name, replicates, quiet=quiet) as progress:
        result = capplan.api.risk(
            loaded,
            replicates=replicates,
            until=until,
            rare=rare,
            store=directory,
            progress=progress,
            **workers,
        )
    result.write(directory, command=shlex.join(["capplan", *sys.argv[1:]]), parquet=parquet)
    tell(result, directory, as_json=as_json, quiet=quiet, gate=gate, fits=result.fits)
