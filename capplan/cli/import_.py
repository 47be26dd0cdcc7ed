"""``capplan import``: foreign files become a node file and profiles.

Each kind is a command of its own file, ``import_<kind>.py``, imported when it is used. It reads
its input into a draft and ends in :func:`finish`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from capplan.cli.lazy import LazyGroup, Table

if TYPE_CHECKING:
    from capplan.sources.draft import Draft

F = TypeVar("F", bound=Callable[..., Any])

# name -> (module, attribute, the line in `capplan import --help`)
KINDS: Table = {
    "compose": ("capplan.cli.import_compose", "compose", "A compose project."),
    "kubernetes": (
        "capplan.cli.import_kubernetes",
        "kubernetes",
        "Manifests, or kubectl get pods,nodes -o yaml.",
    ),
    "oom": ("capplan.cli.import_oom", "oom", "An OOM report of dmesg or the journal."),
    "prometheus": (
        "capplan.cli.import_prometheus",
        "prometheus",
        "Prometheus: query_range JSON, OpenMetrics, a live server.",
    ),
}


@click.group("import", cls=LazyGroup, table=KINDS)
def import_() -> None:
    """Turn foreign files into a node file and profiles that can be read and changed."""


def import_options(command: F) -> F:
    """Give a command the options of every import: ``out`` and ``force``."""
    command = click.option("--force", is_flag=True, help="Replace files that are there.")(command)
    return click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path(),
        help="Directory for node.yaml and its profiles.  [default: here]",
    )(command)


def finish(draft: Draft, out: Path, *, force: bool) -> None:
    """Write a draft, tell its problems on stderr and its files on stdout."""
    from capplan.errors import SHOWN
    from capplan.sources.write import write

    files = write(draft, out, force=force)
    for problem in draft.problems[:SHOWN]:
        click.echo(str(problem), err=True)
    if len(draft.problems) > SHOWN:
        click.echo(f"and {len(draft.problems) - SHOWN} more warnings", err=True)
    for file in files:
        click.echo(f"wrote {file}")
    click.echo(f"next: capplan simulate {shlex.quote(str(files[0]))}")
