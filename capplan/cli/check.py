"""``capplan check``: a gate for CI."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from capplan.cli.errors import EXIT_GATE
from capplan.cli.many import counting, job_options, kept, say_where, write_page
from capplan.cli.options import run_options

BARS = {
    "max_kill_risk": "Largest allowed risk that anything is OOM-killed.",
    "max_pause_risk": "... is paused by cgroup v1.",
    "max_evict_risk": "... is evicted.",
    "max_throttle_share": "Largest share of its time that anything may be throttled.",
    "max_lateness": "How late any work may be: 5s.",
    "min_headroom": "Least room under a limit: 64Mi, or 10%.",
}


def _bars(command: Any) -> Any:
    for name, text in reversed(BARS.items()):
        option = click.option(f"--{name.replace('_', '-')}", name, metavar="BAR", help=text)
        command = option(command)
    return command


@click.command()
@click.argument("node", type=click.Path(path_type=Path))
@click.option(
    "--replicates", "-n", type=click.IntRange(min=1), default=400, show_default=True,
    help="Runs, each with other draws; 381 clean ones show a risk of at most 1 %.",
)  # fmt: skip
@_bars
@click.option(
    "--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write JUnit XML there."
)
@run_options
@job_options
def check(node: Path, **options: Any) -> None:
    """Hold NODE against its gate: exit 0 when every rule is shown to hold, 1 otherwise.

    The bars are those of the file's gate:, or the options'.
    """
    perform(node, **options)


def _given_bars(options: dict[str, Any]) -> dict[str, str]:
    """The bars among the options as settings of the gate; they are taken out."""
    found = {f"gate.{name}": options.pop(name) for name in BARS}
    return {key: value for key, value in found.items() if value is not None}


def perform(
    node: Path,
    *,
    replicates: int,
    junit: Path | None,
    settings: dict[str, str],
    seed: int | None,
    duration: str | None,
    out: Path | None,
    as_json: bool,
    gate: bool,
    quiet: bool,
    **rest: Any,
) -> None:
    """Run, judge, print and write."""
    import capplan.api
    import capplan.plan.check
    from capplan.report import check as report
    from capplan.report.files import replace_file

    parquet, bars = rest.pop("parquet"), _given_bars(rest)
    loaded = capplan.api.load(node, settings=settings | bars, seed=seed, duration=duration)
    directory = out if out is not None else Path("reports") / f"{loaded.name}-check"
    with kept(directory), counting(loaded.name, replicates, quiet=quiet) as progress:
        result = capplan.api.risk(
            loaded, replicates=replicates, store=directory, progress=progress, **rest
        )
    found = capplan.plan.check.check(loaded, result.risk)
    command = shlex.join(["capplan", *sys.argv[1:]])
    result.write(directory, command=command, parquet=parquet)
    report.write_check(
        found, result.risk, directory, command=command, seed=result.seed, resolved=loaded.resolved
    )
    page = write_page(directory)
    if junit is not None:
        replace_file(junit, report.junit(found))
    if as_json:
        click.echo((directory / report.CHECK).read_text(encoding="utf-8"), nl=False)
    elif quiet:
        click.echo(found.verdict)
    else:
        click.echo(report.check_text(found), nl=False)
        say_where(directory, page)
    if not found.fits:
        click.get_current_context().exit(EXIT_GATE)
