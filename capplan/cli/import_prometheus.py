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
@click.option("--server", help="A live Prometheus, http://host:9090, instead of FILES.")
@click.option("--last", default="1h", show_default=True, help="--server: how far back.")
@click.option("--end", type=click.IntRange(min=1), help="--server: until this Unix time.  [now]")
@click.option("--step", default="30s", show_default=True, help="--server: time between points.")
@click.option("--rate", type=click.FloatRange(min=0.01, max=1000), default=5.0, show_default=True,
              help="--server: requests in a second, at most.")  # fmt: skip
@click.option("--timeout", default="30s", show_default=True, help="--server: of one request.")
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
    them. Or --server asks a live one, with the token in $CAPPLAN_PROMETHEUS_TOKEN; what it
    answers is kept in OUT/fetched, and a second run asks for the rest only.
    """
    from capplan.errors import InputError
    from capplan.sources.prometheus import read_files
    from capplan.sources.prometheus_node import draft_of

    if bool(files) == (options["server"] is not None):
        raise InputError("expected either FILES or --server")
    found = _flat(files) if files else _fetched(options, out / "fetched")
    store = read_files(found, metric=options["metric"])
    finish(draft_of(store, _given(options)), out, force=force)


def _flat(files: tuple[Path, ...]) -> list[Path]:
    """Files, and those in folders that may hold series."""
    kinds = (".json", ".gz", ".txt", ".om", ".prom")
    found: list[Path] = []
    for path in files:
        inside = sorted(p for p in path.rglob("*") if p.suffix in kinds and p.is_file())
        found += inside if path.is_dir() else [path]
    return found


def _fetched(options: dict[str, Any], folder: Path) -> list[Path]:
    """Ask the server; the files of its answers."""
    import time

    from capplan.errors import InputError
    from capplan.sources.prometheus_api import Question, fetch
    from capplan.units import UnitError, parse_duration

    try:
        last, step, timeout = (
            parse_duration(options[k]) / 1e9 for k in ("last", "step", "timeout")
        )
    except UnitError as error:
        raise InputError(f"--last, --step, --timeout: {error}") from error
    if step < 1 or step != int(step) or last < step or timeout <= 0:
        raise InputError("--step: whole seconds, at most --last; --timeout: more than 0s")
    end = int(time.time()) if options["end"] is None else options["end"]
    question = Question(
        options["server"], max(end - int(last), 0), end, int(step), options["namespace"],
        options["rate"], timeout,
    )  # fmt: skip
    return fetch(question, folder)


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
