"""``capplan explain``: one incident's story, of a result or of a real kernel's log."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("result", type=click.Path(path_type=Path, exists=True))
@click.argument("event", required=False)
def explain(result: Path, event: str | None) -> None:
    """Tell the story of one incident of RESULT: a result directory, or a log with OOM reports.

    EVENT is the incident's number, or a kind (oom_kill) or a name when only one has it; of a log,
    the report's number. Without it: the only incident's story, or the list.
    """
    if result.is_file():
        click.echo(_of_log(result, event))
        return
    from capplan.report import results, story

    click.echo(story.tell(results.read(result).outcome, event))


def _of_log(file: Path, event: str | None) -> str:
    """The story of a real OOM report, with its badness table."""
    from capplan.cli.import_oom import pick, read
    from capplan.plan.oom_report import choose
    from capplan.report import oom_story

    reports = read(file)
    if event is None and len(reports) > 1:
        return oom_story.listing(reports)
    if event is not None and not event.isdecimal():
        raise click.BadParameter(f"'{event}' is no number of a report", param_hint="EVENT")
    report = pick(reports, int(event) if event else 1, file)
    return oom_story.tell(report, choose(report) if report.tasks else None)
