"""``capplan capture``: this host as a node file."""

from __future__ import annotations

from pathlib import Path

import click

from capplan.cli.import_ import finish, import_options


@click.command()
@click.option(
    "--root",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path("/"),
    help="Folder with a copied proc and sys.  [default: this host]",
)
@import_options
def capture(root: Path, out: Path, force: bool) -> None:
    """Write this host as a node file that starts from its present state.

    Reads /proc and /sys; needs no privileges, but sees more with them (PSS, pagetypeinfo).
    """
    from capplan.sources import capture as source

    finish(source.capture(root), out, force=force)
