"""What the commands with many runs share: options, progress, the run store's place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from capplan.cli.errors import EXIT_GATE
from capplan.cli.options import on_terminal

F = TypeVar("F", bound=Callable[..., Any])

PAGE = "capplan.report"  # where a command's context keeps whether a page is asked for

JOB_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--jobs", "-j", type=click.IntRange(min=1), help="Worker processes.  [default: one a core]"
    ),
    click.option(
        "--executor",
        type=click.Choice(["local", "dask"]),
        default="local",
        show_default=True,
        help="Where the runs are computed.",
    ),
    click.option(
        "--address",
        metavar="TCP",
        help="Of a Dask scheduler (tcp://host:8786); without it a local cluster is started.",
    ),
    click.option("--parquet", is_flag=True, help="Write the tables as Parquet too."),
    click.option(
        "--report/--no-report",
        default=True,
        expose_value=False,
        callback=lambda ctx, param, value: ctx.meta.update({PAGE: value}),
        help="Write report.html, a page for people.",
    ),
)


def job_options(command: F) -> F:
    """Give a command the options of many runs."""
    for option in reversed(JOB_OPTIONS):
        command = option(command)
    return command


@contextlib.contextmanager
def counting(name: str, total: int, *, quiet: bool) -> Iterator[Callable[[int], None] | None]:
    """A progress bar with rate and time left on a terminal; nothing elsewhere."""
    if quiet or not on_terminal():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn(name),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=total, rate="")

        def finished(count: int) -> None:
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(task, completed=count, rate="" if not speed else f"{speed:.3g}/s")

        yield finished


@contextlib.contextmanager
def kept(directory: Path) -> Iterator[None]:
    """Say on Ctrl-C where the finished runs are."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(
            f"\nstopped; finished runs are kept in {directory}: the same command goes on there",
            err=True,
        )
        raise


@contextlib.contextmanager
def searching(*, quiet: bool) -> Iterator[Callable[[str, int], None] | None]:
    """Which knob is turned, and how many runs there were, on a terminal."""
    if quiet or not on_terminal():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        yield lambda key, count: status.update(f"{key}: {count:,} runs")


class Told(Protocol):
    """A result that can be printed."""

    @property
    def verdict(self) -> str:
        """In one sentence."""

    def text(self) -> str:
        """The whole of it."""


def tell(
    result: Told, directory: Path, *, as_json: bool, quiet: bool, gate: bool, fits: object
) -> None:
    """Print a result and where it lies; exit 1 when ``gate`` is asked for and it does not fit."""
    page = write_page(directory)
    if as_json:
        click.echo((directory / "summary.json").read_text(encoding="utf-8"), nl=False)
    elif quiet:
        click.echo(result.verdict)
    else:
        click.echo(result.text(), nl=False)
        say_where(directory, page)
    if gate and not fits:
        click.get_current_context().exit(EXIT_GATE)


def say_where(directory: Path, page: Path | None) -> None:
    """Print where the result and its page lie."""
    click.echo(f"\nresult in {directory}")
    if page is not None:
        click.echo(f"as a page: {page}")


def write_page(directory: Path) -> Path | None:
    """Write report.html of what lies in ``directory``, unless --no-report was given."""
    if not click.get_current_context().meta.get(PAGE, True):
        return None
    from capplan.report import deliver
    from capplan.report.files import replace_file

    text = deliver.open_result(directory).html()
    return replace_file(directory / "report.html", text.encode())
