"""Options and small helpers that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

RUN_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--set",
        "settings",
        metavar="KEY=VALUE",
        multiple=True,
        callback=lambda ctx, param, value: parse_settings(value),
        help="Change a setting: containers.web.memory.max=512Mi, node.memory=32Gi. Repeatable.",
    ),
    click.option("--seed", type=click.IntRange(min=0), help="Seed of all draws."),
    click.option("--duration", metavar="TIME", help="How long to simulate: 90s, 45min, 24h, 7d."),
    click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        help="Result directory.  [default: reports/<node>-<time>]",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print summary.json instead of text."),
    click.option("--gate", is_flag=True, help="Exit 1 when the node does not fit."),
    click.option("--quiet", "-q", is_flag=True, help="Print the verdict line only."),
)


def run_options(command: F) -> F:
    """Give a command the options of a run, in the order of :data:`RUN_OPTIONS`."""
    for option in reversed(RUN_OPTIONS):
        command = option(command)
    return command


def parse_settings(given: tuple[str, ...]) -> dict[str, str]:
    """Split ``KEY=VALUE`` pairs; the last one of a key counts."""
    settings = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise click.BadParameter(
                f"'{pair}' is not KEY=VALUE (as in containers.web.memory.max=512Mi)"
            )
        settings[key.strip()] = value.strip()
    return settings


def shipped_profiles() -> Path:
    """Folder of the shipped nodes and services.

    A wheel carries a copy as package data; a checkout has them at its top.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "data" / "profiles", package.parent / "profiles"):
        if (folder / "nodes").is_dir():
            return folder
    raise click.ClickException(f"the shipped profiles are missing from {package}")


def new_result_dir(name: str) -> Path:
    """``reports/<name>-<time>``, one that is not there yet."""
    import datetime
    import itertools

    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    base = Path("reports") / f"{name}-{stamp}"
    for number in itertools.count(2):
        if not base.exists():
            break
        base = base.with_name(f"{name}-{stamp}-{number}")
    return base


def on_terminal() -> bool:
    """Whether progress can be drawn: stderr is a terminal."""
    return sys.stderr.isatty()
