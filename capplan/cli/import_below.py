"""``capplan import below``: what below recorded, as a node file whose containers follow it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from capplan.cli.import_ import finish, host_of, host_options, import_options

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@host_options
@import_options
def below(files: tuple[Path, ...], out: Path, force: bool, **host: Any) -> None:
    """Write a node file of groups that follow what `below dump` printed.

    FILES are of `below dump cgroup -O csv --raw -f name full_path mem props timestamp --detail`
    and, for the machine, `below dump system -O csv --raw -f mem kernel_version --detail`; what
    --default prints is understood too, as far as it goes.
    """
    from dataclasses import replace

    from capplan.sources.below import read_dumps
    from capplan.sources.below_node import draft_of

    dump = read_dumps(files)
    of = host_of(**host, found=dump.memory)
    if dump.swap is not None and host["swap"] == "0":
        of = replace(of, swap=dump.swap)
    if dump.kernel and host["kernel"] == "6.12":
        of = replace(of, kernel=dump.kernel)
    finish(draft_of(dump, of), out, force=force)
