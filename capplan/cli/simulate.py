"""``capplan simulate``: the main job."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from capplan.cli.errors import EXIT_GATE
from capplan.cli.options import new_result_dir, on_terminal, run_options

if TYPE_CHECKING:
    from capplan.api import Simulation

COMPILE_SECONDS = 30  # measured on two busy cores; said to whoever waits for it


@click.command()
@click.argument("node", type=click.Path(path_type=Path))
@run_options
@click.option("--report/--no-report", default=True, help="Write report.html, a page for people.")
def simulate(node: Path, **options: Any) -> None:
    """Simulate NODE (a node file) and say who is throttled, paused or killed, and why.

    The result directory holds report.html, summary.json, events.csv, timeseries.csv.gz, run.json,
    the resolved input and memory.png; `capplan explain` and `capplan report` read it.
    """
    perform(node, **options)


def perform(
    node: Path,
    *,
    settings: dict[str, str],
    seed: int | None,
    duration: str | None,
    out: Path | None,
    as_json: bool,
    gate: bool,
    quiet: bool,
    report: bool = False,
) -> None:
    """Load, run, print and write; exit 1 when ``gate`` is asked for and fails."""
    import capplan.api

    loaded = capplan.api.load(node, settings=settings, seed=seed, duration=duration)
    for warning in loaded.warnings:
        click.echo(str(warning), err=True)
    _announce_compile()
    with _progress(node.stem, quiet=quiet) as tick:
        simulation = capplan.api.simulate(loaded, progress=tick)
    directory = out if out is not None else new_result_dir(node.stem)
    simulation.write(directory, command=shlex.join(["capplan", *sys.argv[1:]]), page=report)
    _print(simulation, directory, as_json=as_json, quiet=quiet, report=report)
    if gate and not simulation.fits:
        click.get_current_context().exit(EXIT_GATE)


def _announce_compile() -> None:
    """Say that the first run compiles: nobody should wonder about the wait."""
    from capplan.mm import _jit

    if not _jit.is_compiled():
        click.echo(f"compiling the engine once (about {COMPILE_SECONDS} s)...", err=True)


@contextlib.contextmanager
def _progress(name: str, *, quiet: bool) -> Iterator[Callable[[float], None] | None]:
    """A progress bar on a terminal; nothing elsewhere."""
    if quiet or not on_terminal():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(name), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(name, total=1.0)
        yield lambda share: bar.update(task, completed=share)


def _print(
    simulation: Simulation, directory: Path, *, as_json: bool, quiet: bool, report: bool
) -> None:
    """Print the verdict (and the evidence), and where the result lies."""
    if as_json:
        click.echo((directory / "summary.json").read_text(encoding="utf-8"), nl=False)
        return
    if quiet:
        click.echo(simulation.verdict)
        return
    from capplan.report import text

    text.render(simulation.outcome, sys.stdout)
    click.echo(f"\nresult in {directory}")
    command = f"capplan report {shlex.quote(str(directory))}"
    click.echo(f"as a page: {directory / 'report.html' if report else command}")
    if simulation.outcome.incidents:
        click.echo(f"the story of each incident: capplan explain {shlex.quote(str(directory))}")
