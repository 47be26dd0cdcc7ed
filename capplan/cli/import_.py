"""``capplan import``: foreign files become a node file and profiles.

Each kind is a command of its own file, ``import_<kind>.py``, imported when it is used. It reads
its input into a draft and ends in :func:`finish`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from capplan.cli.lazy import LazyGroup, Table

if TYPE_CHECKING:
    from capplan.sources.draft import Draft
    from capplan.sources.host import Host

F = TypeVar("F", bound=Callable[..., Any])

# name -> (module, attribute, the line in `capplan import --help`)
KINDS: Table = {
    "below": ("capplan.cli.import_below", "below", "What `below dump ... -O csv` printed."),
    "compose": ("capplan.cli.import_compose", "compose", "A compose project."),
    "docker": ("capplan.cli.import_docker", "docker", "What `docker inspect` printed."),
    "kubernetes": (
        "capplan.cli.import_kubernetes",
        "kubernetes",
        "Manifests, or kubectl get pods,nodes -o yaml.",
    ),
    "oom": ("capplan.cli.import_oom", "oom", "An OOM report of dmesg or the journal."),
    "prometheus": (
        "capplan.cli.import_prometheus",
        "prometheus",
        "Prometheus: query_range JSON, OpenMetrics, a live server.",
    ),
    "systemd": (
        "capplan.cli.import_systemd",
        "systemd",
        "Units, slices and drop-ins, or systemctl show.",
    ),
}

HOST_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--memory", help="The host's memory: 16Gi."),
    click.option("--swap", default="0", show_default=True, help="Its swap."),
    click.option("--cpus", type=click.IntRange(min=1), default=4, show_default=True),
    click.option("--kernel", default="6.12", show_default=True, help="Its kernel release."),
    click.option("--cgroup", type=click.Choice(["v1", "v2"]), default="v2", show_default=True),
)


@click.group("import", cls=LazyGroup, table=KINDS)
def import_() -> None:
    """Turn foreign files into a node file and profiles that can be read and changed."""


def import_options(command: F) -> F:
    """Give a command the options of every import: ``out`` and ``force``."""
    command = click.option("--force", is_flag=True, help="Replace files that are there.")(command)
    return click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path(),
        help="Directory for node.yaml and its profiles.  [default: here]",
    )(command)


def host_options(command: F) -> F:
    """Give a command the options that describe a host; :func:`host_of` reads them."""
    for option in reversed(HOST_OPTIONS):
        command = option(command)
    return command


def host_of(
    memory: str | None, swap: str, cpus: int, kernel: str, cgroup: str, found: int | None = None
) -> Host:
    """The host that the options describe; ``found``: its memory where the files tell it."""
    from capplan.errors import InputError
    from capplan.sources.host import Host
    from capplan.units import UnitError, parse_size

    if memory is None and found is None:
        raise InputError("these files do not say how much memory the host has\n"
                         "    expected --memory 16Gi")  # fmt: skip
    try:
        size = found if memory is None else int(parse_size(memory))
        return Host(size or 0, cpus, kernel, cgroup, int(parse_size(swap)))
    except UnitError as error:
        raise InputError(f"--memory, --swap: {error}") from error


def finish(draft: Draft, out: Path, *, force: bool) -> None:
    """Write a draft, tell its problems on stderr and its files on stdout."""
    from capplan.errors import SHOWN
    from capplan.sources.write import write

    files = write(draft, out, force=force)
    for problem in draft.problems[:SHOWN]:
        click.echo(str(problem), err=True)
    if len(draft.problems) > SHOWN:
        click.echo(f"and {len(draft.problems) - SHOWN} more warnings", err=True)
    for file in files:
        click.echo(f"wrote {file}")
    click.echo(f"next: capplan simulate {shlex.quote(str(files[0]))}")
