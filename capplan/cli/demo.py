"""``capplan demo``: a shipped node, simulated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from capplan.cli.options import run_options, shipped_profiles
from capplan.cli.simulate import perform

DEFAULT = "worker"


@click.command()
@click.argument("node", required=False, default=DEFAULT)
@click.option("--list", "listing", is_flag=True, help="List the shipped nodes.")
@run_options
def demo(node: str, listing: bool, **options: Any) -> None:
    """Simulate a shipped NODE (worker when none is named)."""
    nodes = {path.stem: path for path in sorted((shipped_profiles() / "nodes").glob("*.yaml"))}
    if listing:
        for name, path in nodes.items():
            click.echo(f"{name:<16} {_first_comment(path)}")
        return
    if node not in nodes:
        raise click.UsageError(f"no shipped node '{node}' (there are: {', '.join(nodes)})")
    perform(nodes[node], **options)


def _first_comment(path: Path) -> str:
    """What a node file says of itself in its first line."""
    with path.open(encoding="utf-8") as lines:
        return next(lines, "").lstrip("# ").rstrip()
