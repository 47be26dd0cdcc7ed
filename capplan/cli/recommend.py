"""``capplan recommend``: limits, requests, reserves and sysctls for a bar of risk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from capplan.cli.searches import answer, search_options


@click.command()
@click.argument("node", type=click.Path(path_type=Path))
@search_options
def recommend(node: Path, **options: Any) -> None:
    """Recommend limits, memory.high, requests, reserves and sysctls for NODE.

    The least limits that meet the bar of risk, run together; beside them what percentile rules say
    and how those do. Finished runs are kept in the result directory: the same command goes on where
    it was stopped.
    """
    import capplan.api_headroom

    answer(capplan.api_headroom.recommend, node, "recommendation", **options)
