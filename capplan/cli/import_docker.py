"""``capplan import docker``: a host's containers, as docker inspect shows them, as a node file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from capplan.cli.import_ import finish, host_of, host_options, import_options

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@host_options
@click.option(
    "--stats",
    type=FILE,
    help="What `docker stats --no-stream --format json` printed, or the Engine API's stats.",
)
@click.option("--name", default="docker", show_default=True, help="The host's name.")
@import_options
def docker(
    files: tuple[Path, ...], stats: Path | None, name: str, out: Path, force: bool, **host: Any
) -> None:
    """Write a node file of running containers: what `docker inspect $(docker ps -q)` printed.

    With --stats the containers hold what was measured, and a container without a limit tells the
    host's memory, so that --memory may be left out.
    """
    from capplan.sources.compose import draft_of, read_stats
    from capplan.sources.docker import host_memory, read_containers

    services, problems = read_containers(files)
    usage = None if stats is None else read_stats(stats)
    of = host_of(**host, found=None if stats is None else host_memory(stats, services))
    draft = draft_of(services, of, problems, name=name, stats=usage, what="Docker host")
    finish(draft, out, force=force)
