"""``capplan import prometheus``: series of containers' memory as a node file that follows them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from capplan.cli.import_ import finish, import_options

if TYPE_CHECKING:
    from capplan.sources.prometheus_node import Given

FILE = click.Path(path_type=Path, exists=True)


@click.command()
@click.argument("files", nargs=-1, type=FILE)
@click.option("--metric", help="Name of series that have none (sums and functions take it off).")
@click.option("--node", help="Which node, where the series are of several.")
@click.option("--namespace", "-n", help="Only containers of this namespace.")
@click.option("--memory", help="The node's memory (16Gi), where no series says it.")
@click.option("--cpus", type=click.IntRange(min=1, max=4096), help="Its CPUs.")
@click.option("--kernel", help="Its kernel release.")
@click.option(
    "--cgroup", type=click.Choice(["v1", "v2"]), default="v2", show_default=True,
    help="Its cgroup version.",
)  # fmt: skip
@click.option(
    "--burst-factor", type=click.FloatRange(min=1.0, max=100.0),
    help="Bursts between scrapes, as a multiple of the mean, where you know of them.",
)  # fmt: skip
@click.option(
    "--burst-every", default="10min", show_default=True, help="How often such a burst comes."
)
@import_options
def prometheus(files: tuple[Path, ...], out: Path, force: bool, **options: Any) -> None:
    """Write a node file whose containers follow what Prometheus recorded of them.

    FILES are what /api/v1/query_range answered (JSON), or OpenMetrics text; .gz or not, folders of
    them.
    """
    from capplan.errors import InputError
    from capplan.sources.prometheus import read_files
    from capplan.sources.prometheus_node import draft_of

    if not files:
        raise InputError("no files\n    expected FILES")
    store = read_files(_flat(files), metric=options["metric"])
    finish(draft_of(store, _given(options)), out, force=force)


def _flat(files: tuple[Path, ...]) -> list[Path]:
    """Files, and those in folders that may hold series."""
    kinds = (".json", ".gz", ".txt", ".om", ".prom")
    found: list[Path] = []
    for path in files:
        inside = sorted(p for p in path.rglob("*") if p.suffix in kinds and p.is_file())
        found += inside if path.is_dir() else [path]
    return found


def _given(options: dict[str, Any]) -> Given:
    from capplan.errors import InputError
    from capplan.sources.prometheus_node import Burst, Given
    from capplan.units import UnitError, parse_duration, parse_size

    try:
        memory = None if options["memory"] is None else int(parse_size(options["memory"]))
        every = parse_duration(options["burst_every"]) / 1e9
    except UnitError as error:
        raise InputError(f"--memory, --burst-every: {error}") from error
    if every <= 0:
        raise InputError("--burst-every: more than 0s")
    factor = options["burst_factor"]
    return Given(
        options["node"], memory, options["cpus"], options["kernel"], options["cgroup"],
        options["namespace"], None if factor is None else Burst(factor, every),
    )  # fmt: skip
