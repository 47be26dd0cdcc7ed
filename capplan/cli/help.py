"""``capplan help``: an error's code, a command's own help, or the keys of the files."""

from __future__ import annotations

import click

from capplan.errors import CODES, closest


@click.command("help")
@click.argument("topic", required=False)
@click.pass_context
def help_(ctx: click.Context, topic: str | None) -> None:
    """Explain TOPIC: an error's code (C012), a command, or a key of a file.

    Keys: `keys` (a node file's), `node.swap`, `containers.memory.high`,
    `profile.processes.regions`, `sweepfile`. Without a topic, list all codes.
    """
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
        _keys(topic, near)
        return
    with click.Context(command, parent=ctx.parent, info_name=topic) as inner:
        click.echo(command.get_help(inner))


def _keys(topic: str, near: str) -> None:
    """What may stand at a key; a usage error where there is none."""
    from capplan.spec.reference import Key, look_up

    found, meant = look_up(topic)
    if found is None:
        near = near or meant
        hint = f" Did you mean '{near}'?" if near else " (capplan help keys)"
        message = f"'{topic}' is neither an error's code, nor a command, nor a key.{hint}"
        raise click.UsageError(message)
    if found.text:
        click.echo(found.text)

    def more(key: Key) -> str:
        stem = "" if topic == "keys" else f"{topic}."
        return f"keys: capplan help {stem}{key.name}" if key.keys else ""

    for key in found.keys:
        default = f"[default: {key.default}]" if key.default else ""
        facts = "; ".join(filter(None, (key.kind, more(key), default)))
        click.echo(f"  {key.name}" + (f": {facts}" if facts else ""))
        if key.text:
            click.echo(click.wrap_text(key.text, 100, " " * 6, " " * 6))
