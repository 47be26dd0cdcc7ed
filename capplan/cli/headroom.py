"""``capplan headroom``: how much more fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from capplan.cli.searches import answer, search_options

WHAT = ("replicas", "limit", "memory", "leak")


def _kinds(_ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    kinds = tuple(part.strip() for part in value.split(",") if part.strip())
    for kind in kinds:
        if kind not in WHAT:
            raise click.BadParameter(f"'{kind}' is none of {', '.join(WHAT)}", param=param)
    return kinds


@click.command()
@click.argument("node", type=click.Path(path_type=Path))
@click.option(
    "--what",
    "kinds",
    default=",".join(WHAT),
    show_default=True,
    callback=_kinds,
    help="Which questions: replicas, limit, memory, leak.",
)
@search_options
def headroom(node: Path, **options: Any) -> None:
    """Say how much more NODE bears: replicas, lower limits, memory, time for a leak.

    Each is one knob, turned until the risk leaves the bar. Finished runs are kept in the result
    directory: the same command goes on where it was stopped.
    """
    import capplan.api_headroom

    answer(capplan.api_headroom.headroom, node, "headroom", **options)
