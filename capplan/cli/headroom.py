"""``capplan headroom``: how much more fits."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from capplan.cli.many import job_options, kept, searching, tell
from capplan.cli.options import run_options

WHAT = ("replicas", "limit", "memory", "leak")


@click.command()
@click.argument("node", type=click.Path(path_type=Path))
@click.option(
    "--max-kill-risk",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Bar of the risk that anything is killed, paused or evicted.  [default: the gate's]",
)
@click.option(
    "--what",
    default=",".join(WHAT),
    show_default=True,
    help="Which questions: replicas, limit, memory, leak.",
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
def headroom(node: Path, **options: Any) -> None:
    """Say how much more NODE bears: replicas, lower limits, memory, time for a leak.

    Each is one knob, turned until the risk leaves the bar. Finished runs are kept in the result
    directory: the same command goes on where it was stopped.
    """
    perform(node, **options)


def perform(
    node: Path,
    *,
    max_kill_risk: float | None,
    what: str,
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

    kinds = tuple(part.strip() for part in what.split(",") if part.strip())
    for kind in kinds:
        if kind not in WHAT:
            raise click.BadParameter(f"'{kind}' is none of {', '.join(WHAT)}", param_hint="--what")
    name = capplan.api.load(node, settings=settings, seed=seed, duration=duration).name
    directory = out if out is not None else Path("reports") / f"{name}-headroom"
    with kept(directory), searching(quiet=quiet) as progress:
        result = capplan.api_headroom.headroom(
            node,
            settings=settings,
            seed=seed,
            duration=duration,
            max_risk=max_kill_risk,
            replicates=replicates,
            kinds=kinds,
            containers=containers,
            store=directory,
            progress=progress,
            **workers,
        )
    result.write(directory, command=shlex.join(["capplan", *sys.argv[1:]]))
    tell(result, directory, as_json=as_json, quiet=quiet, gate=gate, fits=result.fits)
