"""``capplan validate``: the model held against recordings of real kernels."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from capplan.cli.errors import EXIT_GATE, EXIT_INPUT

if TYPE_CHECKING:
    from capplan.validate.judge import Verdict
    from capplan.validate.sensitivity import Outcome, PageCacheOutcome
    from capplan.validate.truth import Recording


@click.command()
@click.argument("directories", nargs=-1, required=True, metavar="DIR...", type=Path)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write validate.json and a picture per recording here.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=lambda: os.cpu_count() or 1,
    show_default="one per CPU",
    help="Recordings that run at once.",
)
@click.option(
    "--sensitivity",
    is_flag=True,
    help="Repeat with each cost 20 % up and down; print what passes.",
)
@click.option(
    "--docs",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the generated pages (fidelity.md and its like) and their figures here.",
)
@click.option(
    "--evidence",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="A folder of kernel-evidence and page-cache-runs: --docs and --sensitivity measure them.",
)
@click.pass_context
def validate(
    ctx: click.Context,
    directories: tuple[Path, ...],
    out: Path | None,
    jobs: int,
    sensitivity: bool,
    docs: Path | None,
    evidence: Path | None,
) -> None:
    """Run the model on recordings of real kernels and say how near it comes.

    Each DIR is one recording (scenario.json, truth.json.gz, truth-2.json.gz) or a folder of
    them. Exit 1 when one fails.
    """
    from capplan.validate.judge import find_recordings

    try:
        recordings = find_recordings(directories)
    except ValueError as error:
        click.echo(str(error), err=True)
        ctx.exit(EXIT_INPUT)
    verdicts = _judge(recordings, jobs)
    _report(verdicts, out)
    outcomes = _sensitivity(recordings, jobs) if sensitivity else []
    page_cache = _page_cache_sensitivity(evidence) if sensitivity and evidence else []
    if docs is not None:
        _write_docs(docs, directories, verdicts, (outcomes, page_cache), evidence)
    if not all(verdict.passed for verdict in verdicts):
        ctx.exit(EXIT_GATE)


def _judge(recordings: Sequence[Recording], jobs: int) -> list[Verdict]:
    """Judge all, with a line on the terminal for each that is done."""
    from capplan.validate.judge import judge_all

    verdicts = []
    for verdict in judge_all(recordings, jobs):
        verdicts.append(verdict)
        if sys.stderr.isatty():
            done = f"{len(verdicts)} of {len(recordings)}"
            click.echo(f"\r\x1b[K{done}: {verdict.name}", err=True, nl=False)
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    return verdicts


def _report(verdicts: Sequence[Verdict], out: Path | None) -> None:
    from capplan.validate.output import render, write_json

    render(verdicts, sys.stdout)
    if out is None:
        return
    from capplan.validate.picture import save

    for verdict in verdicts:
        save(verdict, out)
    click.echo(f"figures and series in {write_json(verdicts, out)}")


def _sensitivity(recordings: Sequence[Recording], jobs: int) -> list[Outcome]:
    """Study each cost; print what fails as it becomes known."""
    from capplan.sim.costs import COSTS
    from capplan.validate.sensitivity import study

    click.echo("\neach cost changed by 20 %: what fails")
    defaults = {name: cost.value for name, cost in COSTS.items()}
    outcomes = []
    for outcome in study(recordings, defaults, jobs):
        outcomes.append(outcome)
        failed = ", ".join(outcome.failed) or "none"
        share = f"{len(outcome.passed)} of {len(recordings)} pass"
        click.echo(f"{outcome.cost:24} x {outcome.factor}: {share}; fails: {failed}")
    return outcomes


def _page_cache_sensitivity(evidence: Path) -> list[PageCacheOutcome]:
    """The same on the page cache runs: print the errors, and what misses a bar."""
    from capplan.sim.costs import COSTS
    from capplan.validate.page_cache import load_all
    from capplan.validate.sensitivity import study_page_cache

    runs = load_all(evidence / "page-cache-runs")
    if not runs:
        return []
    click.echo("\npage cache runs: mean errors of operation times, cache, used, dirty; bars missed")
    defaults = {name: cost.value for name, cost in COSTS.items()}
    outcomes = []
    for found in study_page_cache(runs, defaults):
        outcomes.append(found)
        case = f"{found.cost} x {found.factor}" if found.cost else "as it is"
        errors = (found.operations, found.cache, found.used, found.dirty)
        shown = " ".join(f"{100 * error:6.2f} %" for error in errors)
        click.echo(f"{case:30} {shown}  missed: {', '.join(found.missed) or 'none'}")
    return outcomes


def _write_docs(
    folder: Path,
    directories: Sequence[Path],
    verdicts: Sequence[Verdict],
    studies: tuple[Sequence[Outcome], Sequence[PageCacheOutcome]],
    evidence: Path | None,
) -> None:
    """Write the pages and their figures; what was not measured now stays as it was."""
    from capplan.validate import docs

    data = docs.with_recordings(docs.read_data(folder), verdicts)
    costs, page_cache = studies
    if costs:
        data = docs.with_sensitivity(data, costs)
    if page_cache:
        data = docs.with_page_cache_sensitivity(data, page_cache)
    texts = {}
    if evidence is not None:
        from capplan.plan.oom_evidence import retell_all
        from capplan.validate.zone_states import load_states

        reports = [retold.as_json() for retold in retell_all(evidence)]
        states = [state.as_json() for state in load_states(evidence)]
        data = docs.with_evidence(data, reports, states)
        data = docs.with_page_cache(data, evidence / "page-cache-runs")
        texts[docs.EVIDENCE_PAGE] = docs.evidence_page(reports, states)
    texts |= docs.pages(data, docs.expected_failures(directories))
    docs.draw_pictures(verdicts, folder / "fidelity")
    for path in docs.write(folder, data, texts):
        click.echo(f"written: {path}", err=True)
