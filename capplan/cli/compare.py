"""``capplan compare``: settings side by side on the same workloads."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from capplan.cli.many import counting, job_options, kept, tell
from capplan.cli.options import run_options

MIN_FREE = "vm.min_free_kbytes"


@click.command()
@click.argument("node", type=click.Path(path_type=Path))
@click.option(
    "--min-free-kbytes",
    metavar="KB,KB,...",
    help="Values of vm.min_free_kbytes: short for --set vm.min_free_kbytes=KB,KB.",
)
@click.option(
    "--candidates",
    "files",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What `krr simple -f json` or `kubectl get vpa -o yaml` printed: a column for each.",
)
@click.option("--paired", is_flag=True, help="Combine the lists of several --set one by one.")
@click.option(
    "--replicates",
    "-n",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Runs per setting, with the same draws under each.",
)
@click.option("--no-burst", is_flag=True, help="Do not measure the bursts that are absorbed.")
@run_options
@job_options
def compare(node: Path, **options: Any) -> None:
    """Compare settings of NODE: --set KEY=VALUE,VALUE,... names the values of each key.

    The first setting is what the others are held against. --set cgroup.version=v1,v2 translates the
    limits and says how. --candidates puts what other tools recommend beside what is written, with
    what the kubelet makes of other requests (OOM scores, classes, limits of pods). Finished runs
    are kept in the result directory.
    """
    perform(node, **options)


def perform(
    node: Path,
    *,
    min_free_kbytes: str | None,
    files: tuple[Path, ...],
    paired: bool,
    replicates: int,
    no_burst: bool,
    settings: dict[str, str],
    seed: int | None,
    duration: str | None,
    out: Path | None,
    as_json: bool,
    gate: bool,
    quiet: bool,
    **workers: Any,
) -> None:
    """Load, run, print and write; exit 1 when ``gate`` is asked for and not met."""
    import capplan.api
    import capplan.api_compare

    parquet = workers.pop("parquet")
    axes = _axes(settings, min_free_kbytes)
    if not files and all(len(values) < 2 for values in axes.values()):
        raise click.UsageError(
            "nothing to compare: give --set KEY=VALUE,VALUE, --min-free-kbytes or --candidates"
        )
    name = capplan.api.load(node, seed=seed, duration=duration).name
    directory = out if out is not None else Path("reports") / f"{name}-comparison"
    count = capplan.api_compare.combinations(axes, paired=paired)
    names, count = _with_candidates(node, files, count)
    with kept(directory), counting(name, replicates * len(count), quiet=quiet) as progress:
        result = capplan.api_compare.compare(
            node,
            count,
            names=names,
            seed=seed,
            duration=duration,
            replicates=replicates,
            bursts=not no_burst,
            store=directory,
            progress=progress,
            **workers,
        )
    result.write(directory, command=shlex.join(["capplan", *sys.argv[1:]]), parquet=parquet)
    tell(result, directory, as_json=as_json, quiet=quiet, gate=gate, fits=result.fits)


def _axes(settings: dict[str, str], min_free_kbytes: str | None) -> dict[str, list[str]]:
    from capplan.plan.point import axis

    axes = {key: axis(values) for key, values in settings.items()}
    if min_free_kbytes is not None:
        axes[MIN_FREE] = axis(min_free_kbytes)
    return axes


def _with_candidates(
    node: Path, files: tuple[Path, ...], settings: list[dict[str, str]]
) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and their names: as written, then each candidate, all of them under each setting."""
    if not files:
        return [], settings
    import capplan.spec
    from capplan.sources.candidates import read_candidates
    from capplan.sources.candidates_match import settings_of

    found, problems = read_candidates(files)
    named: dict[str, dict[str, str]] = {"as written": {}}
    spec = capplan.spec.load(node, settings[0] if settings else {})
    for one in found:
        named[one.name], told = settings_of(one, spec)
        problems += told
    for problem in problems:
        click.echo(str(problem), err=True)
    names, columns = [], []
    for given in settings or [{}]:
        beside = ", ".join(f"{key}={value}" for key, value in given.items())
        for name, own in named.items():
            names.append(f"{name}, {beside}" if len(settings) > 1 else name)
            columns.append({**given, **own})
    return names, columns
