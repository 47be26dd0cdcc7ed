"""The ``capplan`` command: a table of subcommands, each imported only when it is used.

Nothing at the top of this file, or of any command's file, may import numba, numpy, pandas,
pydantic, matplotlib, scipy or rich: ``capplan --help`` has to answer at once
(``tests/test_imports.py`` holds it).
"""

from __future__ import annotations

import importlib
from typing import Any

import click

import capplan
from capplan.cli.errors import reported

# name -> (module, attribute, the line in `capplan --help`)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "simulate": (
        "capplan.cli.simulate",
        "simulate",
        "Play a node file; say who is throttled, paused or killed.",
    ),
    "explain": (
        "capplan.cli.explain",
        "explain",
        "Tell the story of one incident of a result.",
    ),
    "init": (
        "capplan.cli.init",
        "init",
        "Write a starting node file and profile.",
    ),
    "demo": (
        "capplan.cli.demo",
        "demo",
        "Simulate a shipped node.",
    ),
    "validate": (
        "capplan.cli.validate",
        "validate",
        "Compare the model with recordings of real kernels.",
    ),
    "cache": (
        "capplan.cli.cache",
        "cache",
        "Show or clear the compiled engine.",
    ),
}


class Commands(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the nearest one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            _no_such_command(ctx, args[0])
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what goes wrong is said on stderr with an exit code."""
        with reported(ctx, debug=bool(ctx.params.get("debug"))):
            return super().invoke(ctx)


def _no_such_command(ctx: click.Context, name: str) -> None:
    import difflib

    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    if name.endswith((".yaml", ".yml")):
        hint = f" Did you mean 'capplan simulate {name}'?"
    raise click.UsageError(f"No such command '{name}'.{hint}", ctx)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(capplan.__version__, prog_name="capplan")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(debug: bool) -> None:
    """Simulate a Linux node's memory: who gets throttled, paused or killed, and why.

    Exit codes: 0 done (with --gate: fits), 1 a gate failed, 2 bad input, 3 an error in capplan
    itself, 130 interrupted.
    """


def main() -> None:
    """Run the command line."""
    cli(prog_name="capplan")
