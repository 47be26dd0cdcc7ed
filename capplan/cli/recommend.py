"""``capplan recommend``: limits, requests, reserves and sysctls for a bar of risk."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from capplan.cli.many import job_options, kept, searching, tell
from capplan.cli.options import run_options


@click.command()
@click.argument("node", type=click.Path(path_type=Path))
@click.option(
    "--max-kill-risk",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Bar of the risk that anything is killed, paused or evicted.  [default: the gate's]",
)
@click.option("--container", "-c", "containers", multiple=True, help="Whose. Repeatable.")
@click.option(
    "--replicates",
    "-n",
    type=click.IntRange(min=1),
    help="Runs per value.  [default: as many as show the bar with 95 % confidence]",
)
@run_options
@job_options
def recommend(node: Path, **options: Any) -> None:
    """Recommend limits, memory.high, requests, reserves and sysctls for NODE.

    The least limits that meet the bar of risk, run together; beside them what percentile rules say
    and how those do. Finished runs are kept in the result directory: the same command goes on where
    it was stopped.
    """
    perform(node, **options)


def perform(
    node: Path,
    *,
    max_kill_risk: float | None,
    containers: tuple[str, ...],
    replicates: int | None,
    settings: dict[str, str],
    seed: int | None,
    duration: str | None,
    out: Path | None,
    as_json: bool,
    gate: bool,
    quiet: bool,
    parquet: bool,
    **workers: Any,
) -> None:
    """Load, search, print and write; exit 1 when ``gate`` is asked for and not met."""
    import capplan.api
    import capplan.api_headroom

    name = capplan.api.load(node, settings=settings, seed=seed, duration=duration).name
    directory = out if out is not None else Path("reports") / f"{name}-recommendation"
    with kept(directory), searching(quiet=quiet) as progress:
        result = capplan.api_headroom.recommend(
            node,
            settings=settings,
            seed=seed,
            duration=duration,
            max_risk=max_kill_risk,
            replicates=replicates,
            containers=containers,
            store=directory,
            progress=progress,
            **workers,
        )
    result.write(directory, command=shlex.join(["capplan", *sys.argv[1:]]))
    tell(result, directory, as_json=as_json, quiet=quiet, gate=gate, fits=result.fits)
