"""``capplan help``: what an error's code stands for, or a command's own help."""

from __future__ import annotations

import click

from capplan.errors import CODES, closest


@click.command("help")
@click.argument("topic", required=False)
@click.pass_context
def help_(ctx: click.Context, topic: str | None) -> None:
    """Explain TOPIC: an error's code (C012) or a command; without one, list all codes."""
    if topic is None:
        for code, text in CODES.items():
            click.echo(f"{code}  {text}")
        return
    if topic.upper() in CODES:
        click.echo(f"{topic.upper()}  {CODES[topic.upper()]}")
        return
    assert ctx.parent is not None
    group = ctx.parent.command
    assert isinstance(group, click.Group)
    command = group.get_command(ctx, topic) if topic in group.list_commands(ctx) else None
    if command is None:
        near = closest(topic.upper(), CODES) or closest(topic, group.list_commands(ctx))
        meant = f" Did you mean '{near}'?" if near else ""
        raise click.UsageError(f"'{topic}' is neither an error's code nor a command.{meant}")
    with click.Context(command, parent=ctx.parent, info_name=topic) as inner:
        click.echo(command.get_help(inner))
