"""``capplan explain``: one incident's story."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("result", type=click.Path(path_type=Path, exists=True))
@click.argument("event", required=False)
def explain(result: Path, event: str | None) -> None:
    """Tell the story of one incident of RESULT (a result directory).

    EVENT is the incident's number, or a kind (oom_kill) or a name when only one has it. Without
    it: the only incident's story, or the list.
    """
    from capplan.report import results, story

    click.echo(story.tell(results.read(result).outcome, event))
