"""An outcome as text: the verdict first, then containers, node, incidents, assumptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO, cast

from capplan.report import words
from capplan.report.lines import aligned, wrap
from capplan.report.words import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from capplan.plan.outcome_model import Incident, Outcome

DEFAULT_TOP = 20
DEFAULT_INCIDENTS = 5


def render(outcome: Outcome, file: TextIO | Console, *, top: int = DEFAULT_TOP) -> None:
    """Write ``outcome`` to ``file``: rich tables on a terminal, plain aligned text in a pipe.

    Parameters
    ----------
    outcome : Outcome
        What to show.
    file : TextIO or rich.console.Console
        Where to.
    top : int
        Containers shown one by one, those at most risk first; the rest in one line.
    """
    console = _console(file)
    if console is not None and console.is_terminal:
        _rich(outcome, console, top)
        return
    target = cast("TextIO", file) if console is None else console.file
    target.write(plain(outcome, top=top))


def _console(file: TextIO | Console) -> Console | None:
    """The console to write to; None for a plain stream (rich is not imported for a pipe)."""
    if hasattr(file, "is_terminal"):
        return cast("Console", file)
    if not getattr(file, "isatty", lambda: False)():
        return None
    from rich.console import Console

    return Console(file=file)


# --- plain -------------------------------------------------------------------------------


def plain(outcome: Outcome, *, top: int = DEFAULT_TOP) -> str:
    """The whole report as plain text, aligned, no colours."""
    lines = [*wrap(outcome.verdict, ""), ""]
    headers, rows = words.table(outcome.containers, top)
    lines += [_count(outcome), *aligned(headers, rows)]
    rest = words.the_rest(outcome.containers, top)
    lines += [f"  ... {rest}", ""] if rest else [""]
    lines += ["Node", *_aligned_pairs(node_pairs(outcome))]
    for title, section in sections(outcome):
        lines += ["", title]
        for text, indent in section:
            lines += wrap(text, indent)
    return "\n".join(lines) + "\n"


def _count(outcome: Outcome) -> str:
    many = len(outcome.containers)
    return f"Containers ({many}, those at most risk first)" if many > 1 else "Container"


def _aligned_pairs(pairs: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(subject) for subject, _ in pairs)
    lines = []
    for subject, text in pairs:
        first = f"  {subject.ljust(width)}  "
        lines += wrap(text, first, " " * len(first))
    return lines


# --- what both show ----------------------------------------------------------------------


def node_pairs(outcome: Outcome) -> list[tuple[str, str]]:
    """The node's lines, refaults included."""
    pairs = words.node_lines(outcome.node)
    again = words.reclaimed_again(outcome)
    return [*pairs, ("refaults", again)] if again else pairs


Section = list[tuple[str, str]]  # (text, indent of its first line)


def sections(outcome: Outcome) -> Iterator[tuple[str, Section]]:
    """Incidents, notes, assumptions and fidelity, each a title and its lines."""
    shown = sorted(outcome.incidents, key=lambda i: (not i.breaks, i.t))[:DEFAULT_INCIDENTS]
    if shown:
        lines = [line for i in sorted(shown, key=lambda i: i.number) for line in incident_lines(i)]
        left = len(outcome.incidents) - len(shown)
        if left:
            lines.append((f"... and {left} more: capplan explain lists them", "  "))
        yield f"Incidents ({len(outcome.incidents)})", lines
    if outcome.notes:
        yield "Notes", [(note, "  - ") for note in outcome.notes]
    if outcome.assumptions:
        yield "Assumptions", [(text, "  - ") for text in outcome.assumptions]
    if outcome.fidelity:
        yield "Held against real kernels", [(f.text, "  - ") for f in outcome.fidelity]


def incident_lines(incident: Incident) -> Section:
    """An incident in short: what, why, and the signs that came first."""
    lines = [(incident.title, f"  {incident.number}. ")]
    lines += [(link, "     - ") for link in incident.chain]
    early = incident.signs[: words.SIGNS_SHOWN]
    if early:
        lines.append(("signs before:", "     "))
        lines += [(sign.text, "       ") for sign in early]
    return lines


# --- rich --------------------------------------------------------------------------------


def _rich(outcome: Outcome, console: Console, top: int) -> None:
    from rich.table import Table
    from rich.text import Text

    verdict = Text(clean(outcome.verdict), style="bold green" if outcome.fits else "bold red")
    console.print(verdict)
    headers, rows = words.table(outcome.containers, top)
    table = Table(title=_count(outcome), title_justify="left", title_style="bold")
    for header in headers:
        table.add_column(header)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print()
    console.print(table)
    rest = words.the_rest(outcome.containers, top)
    if rest:
        console.print(Text(f"... {rest}"))
    node = Table(title="Node", title_justify="left", title_style="bold", show_header=False)
    for subject, text in node_pairs(outcome):
        node.add_row(Text(clean(subject)), Text(clean(text)))
    console.print()
    console.print(node)
    for title, section in sections(outcome):
        console.print()
        console.print(Text(title, style="bold"))
        for text, indent in section:
            console.print(_hanging(clean(text), indent))


def _hanging(text: str, indent: str) -> object:
    """A line whose continuation stands under its text."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    if not indent.strip():
        return Padding(Text(text), (0, 0, 0, len(indent)))
    grid = Table.grid(padding=0)
    grid.add_column(width=len(indent), no_wrap=True)
    grid.add_column()
    grid.add_row(Text(indent), Text(text))
    return grid
