"""``capplan import compose``: a compose project as a node file."""

from __future__ import annotations

from pathlib import Path

import click

from capplan.cli.import_ import finish, import_options

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--memory", required=True, help="The host's memory: 16Gi.")
@click.option("--swap", default="0", show_default=True, help="Its swap.")
@click.option("--cpus", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--kernel", default="6.12", show_default=True, help="Its kernel release.")
@click.option("--cgroup", type=click.Choice(["v1", "v2"]), default="v2", show_default=True)
@click.option("--stats", type=FILE, help="What `docker stats --no-stream --format json` printed.")
@import_options
def compose(
    files: tuple[Path, ...], memory: str, swap: str, cpus: int, kernel: str, cgroup: str,
    stats: Path | None, out: Path, force: bool,
) -> None:  # fmt: skip
    """Write a node file of a compose project: limits as Docker writes them to cgroups.

    Of several FILES later ones override earlier ones. Variables come from the .env beside the
    first.
    """
    from capplan.errors import InputError
    from capplan.sources.compose import Host, draft_of, read_services, read_stats
    from capplan.units import UnitError, parse_size

    try:
        host = Host(int(parse_size(memory)), cpus, kernel, cgroup, int(parse_size(swap)))
    except UnitError as error:
        raise InputError(f"--memory, --swap: {error}") from error
    services, problems = read_services(files)
    usage = None if stats is None else read_stats(stats)
    name = files[0].resolve().parent.name
    finish(draft_of(services, host, problems, name=name, stats=usage), out, force=force)
