"""``capplan import compose``: a compose project as a node file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from capplan.cli.import_ import finish, host_of, host_options, import_options

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@host_options
@click.option("--stats", type=FILE, help="What `docker stats --no-stream --format json` printed.")
@import_options
def compose(
    files: tuple[Path, ...], stats: Path | None, out: Path, force: bool, **host: Any
) -> None:
    """Write a node file of a compose project: limits as Docker writes them to cgroups.

    Of several FILES later ones override earlier ones. Variables come from the .env beside the
    first.
    """
    from capplan.sources.compose import draft_of, read_services, read_stats

    of = host_of(**host)
    services, problems = read_services(files)
    usage = None if stats is None else read_stats(stats)
    name = files[0].resolve().parent.name
    finish(draft_of(services, of, problems, name=name, stats=usage), out, force=force)
