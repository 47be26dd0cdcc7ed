"""What the commands that search share: their options, and the way from a node to an answer."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from capplan.cli.many import job_options, kept, searching, tell
from capplan.cli.options import run_options

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--max-kill-risk",
        "max_risk",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="Bar of the risk that anything is killed, paused or evicted.  [default: the gate's]",
    ),
    click.option("--container", "-c", "containers", multiple=True, help="Whose. Repeatable."),
    click.option(
        "--replicates",
        "-n",
        type=click.IntRange(min=1),
        help="Runs per value.  [default: as many as show the bar with 95 % confidence]",
    ),
    run_options,
    job_options,
)


def search_options(command: F) -> F:
    """Give a command the options of a search."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def answer(
    search: Callable[..., Any],
    node: Path,
    suffix: str,
    *,
    settings: dict[str, str],
    seed: int | None,
    duration: str | None,
    out: Path | None,
    as_json: bool,
    gate: bool,
    quiet: bool,
    parquet: bool,
    **asked: Any,
) -> None:
    """Load, search, print and write; exit 1 when ``gate`` is asked for and not met.

    Parameters
    ----------
    search : callable
        ``headroom`` or ``recommend`` of :mod:`capplan.api_headroom`.
    node : Path
        The node file.
    suffix : str
        Ends the name of the default result directory.
    asked
        What else the search is asked.
    """
    import capplan.api

    given: dict[str, Any] = {"settings": settings, "seed": seed, "duration": duration}
    name = capplan.api.load(node, **given).name
    directory = out if out is not None else Path("reports") / f"{name}-{suffix}"
    with kept(directory), searching(quiet=quiet) as progress:
        result = search(node, **given, store=directory, progress=progress, **asked)
    result.write(directory, command=shlex.join(["capplan", *sys.argv[1:]]))
    tell(result, directory, as_json=as_json, quiet=quiet, gate=gate, fits=result.fits)
