"""``capplan import systemd``: units and slices as a node file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from capplan.cli.import_ import finish, host_of, host_options, import_options


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@host_options
@click.option("--name", default="host", show_default=True, help="The host's name.")
@import_options
def systemd(files: tuple[Path, ...], name: str, out: Path, force: bool, **host: Any) -> None:
    """Write a node file of services: limits, protection and restarts as their units say.

    FILES are unit files, folders of them with their drop-ins (a copy of /etc/systemd/system), or
    what `systemctl show '*.service' '*.slice'` printed, which tells what runs and what it uses.
    """
    from capplan.sources.systemd import read_units
    from capplan.sources.systemd_node import draft_of

    units, problems = read_units(files)
    finish(draft_of(units, host_of(**host), problems, name=name), out, force=force)
