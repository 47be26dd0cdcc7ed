"""A group whose commands are a table, each imported only when it is used."""

from __future__ import annotations

import difflib
import importlib
from typing import Any

import click

# name -> (module, attribute, the line in the group's --help)
Table = dict[str, tuple[str, str, str]]


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def __init__(self, *args: Any, table: Table | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table: Table = table or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None when there is none of that name."""
        if cmd_name not in self.table:
            return None
        module, attribute, _ = self.table[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the nearest one."""
        if args and args[0] not in self.table and not args[0].startswith("-"):
            raise click.UsageError(f"No such command '{args[0]}'.{self.hint(args[0])}", ctx)
        return super().resolve_command(ctx, args)

    def hint(self, name: str) -> str:
        """What was probably meant."""
        near = difflib.get_close_matches(name, self.table, n=1)
        return f" Did you mean '{near[0]}'?" if near else ""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in self.table.items()])
