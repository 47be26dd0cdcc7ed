"""A report as Markdown, for the comment of a pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from capplan.report import odds, odds_change, odds_tables, page, sides, tables
from capplan.report.tables import markdown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from capplan.report.page import Material

TOP = 10
FENCE = "```"


def single(material: Material) -> str:
    """One run: verdict, what to change, containers, incidents, how to get it again."""
    outcome = material.outcome
    word, said = page.verdict_text(outcome.verdict)
    parts = [f"### {markdown(outcome.name)}: {word.lower()}\n\n{markdown(said)}\n"]
    parts += [_change(material)]
    shown = tables.without(tables.shortened(tables.containers(outcome), always=2), "cgroup")
    parts.append(tables.as_markdown(shown, TOP))
    if len(shown.rows) > TOP:
        parts.append(f"{len(shown.rows) - TOP} more containers are at less risk.\n")
    told = [i for i in outcome.incidents if i.breaks][: page.TOLD]
    if told:
        lines = []
        for incident in told:
            lines.append(f"{incident.number}. {markdown(incident.title)}")
            lines += [f"   - {markdown(link)}" for link in incident.chain]
        parts.append(_folded(f"{len(told)} incidents: how they came about", "\n".join(lines)))
    parts.append(_origin(material))
    return "\n".join(part for part in parts if part)


def _change(material: Material) -> str:
    advice = page.advice_for(material)
    lines = []
    for each in advice:
        lines.append(f"**{markdown(each.title)}**: {markdown(each.basis)}.")
        if each.caution:
            lines.append(f"Mind: {markdown(each.caution)}")
        if each.settings:
            lines.append(_fenced(page.node_file_lines(each.settings), "yaml"))
    return "\n\n".join(lines) + "\n" if lines else ""


def pair(first: Material, second: Material) -> str:
    """Two runs: what was changed, what it changes."""
    changed = sides.inputs(first, second)
    parts = [
        f"### {markdown(first.outcome.name)}: {markdown(sides.headline(first, second))}\n",
        tables.as_markdown(changed, 40) if changed.rows else "The input is the same.\n",
        f"A. {markdown(first.outcome.verdict)}\n",
        f"B. {markdown(second.outcome.verdict)}\n",
        _folded("Containers", tables.as_markdown(sides.containers(first, second), TOP)),
        _origin(second),
    ]
    return "\n".join(parts)


def many(summary: Mapping[str, Any]) -> str:
    """Many runs: verdict, what to take, the tables."""
    word, said = page.verdict_text(str(summary["verdict"]))
    if word == page.NO_WORD:
        word = odds.KIND_NAMES[summary["kind"]]
    parts = [f"### {markdown(str(summary.get('name', '')))}: {markdown(word.lower())}\n"]
    parts.append(f"{markdown(said)}\n")
    change = odds_change.change(summary)
    if change.yaml:
        parts.append(f"{markdown(change.text)}\n\n{_fenced(change.yaml, 'yaml')}\n")
    for number, (_, _, table) in enumerate(odds_tables.report_tables(summary)):
        shown = tables.as_markdown(table, TOP)
        parts.append(shown if number == 0 else _folded(markdown(table.caption), shown))
    provenance = summary.get("provenance", {})
    command = str(provenance.get("command", ""))
    again = f"\n\n{_fenced(command, 'sh')}" if command else ""
    parts.append(f"capplan {provenance.get('capplan')}, seed {provenance.get('seed')}.{again}\n")
    return "\n".join(parts)


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>\n"


def _fenced(text: str, kind: str) -> str:
    """A code block that its content cannot end."""
    fence = FENCE
    while fence in text:
        fence += "`"
    return f"{fence}{kind}\n{text}\n{fence}"


def _origin(material: Material) -> str:
    run = material.recorded.run
    command = str(material.provenance.get("command", ""))
    again = f"\n\n{_fenced(command, 'sh')}" if command else ""
    return f"capplan {run.version}, seed {run.seed}, one run.{again}\n"
