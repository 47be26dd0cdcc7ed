"""Headroom as text and as a result directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capplan.plan.intervals import percent
from capplan.report import many
from capplan.report.files import as_json, replace_file, result_folder, write_table
from capplan.report.lines import aligned, wrap
from capplan.report.many_text import section
from capplan.report.results import SUMMARY
from capplan.report.words import clean

if TYPE_CHECKING:
    from capplan.plan.headroom import Headroom, Room

__all__ = ["headroom_text", "write_headroom"]

TITLES = {
    "memory": "More anonymous memory",
    "leak": "How long leaks may run",
    "replicas": "More replicas",
    "limit": "Lower limits",
}
COLUMNS = (
    "kind", "container", "key", "present", "value", "level", "limited", "failures", "runs",
    "confidence", "violations",
)  # fmt: skip


def headroom_text(found: Headroom) -> str:
    """Headroom as plain text."""
    lines = wrap(found.verdict)
    for kind, title in TITLES.items():
        rows = [_row(room) for room in found.rooms if room.kind == kind]
        if rows:
            lines += section(title, aligned(("", "now", "up to", "runs"), rows))
    lines += section("Notes", [line for note in found.notes for line in wrap(note, "  - ")])
    how = (
        "One knob is turned at a time. The risk that anything is killed, paused or evicted in a "
        f"run is at most {percent(found.max_risk)} % up to the value shown, with "
        f"{100 * found.confidence:.0f} % confidence for each knob ({found.replicates:,} runs with "
        "the same draws at every value, a tolerance limit after Wilks)."
    )
    return "\n".join([*lines, *section("How to read this", wrap(how, "  "))]) + "\n"


def _row(room: Room) -> list[str]:
    value = "does not fit" if room.value is None else room.value
    if room.found.limited:
        value += " (or more)" if room.kind != "limit" else " (or less)"
    return [clean(room.container or "the node"), room.present, value, f"{room.found.runs:,}"]


def write_headroom(
    found: Headroom,
    directory: Path,
    *,
    command: str = "",
    seed: int,
    resolved: Mapping[str, Any],
) -> None:
    """Write summary.json (last) and headroom.csv.

    Raises
    ------
    InputError
        When the directory cannot be written.
    """
    content = many.summary(
        "headroom", found.to_dict(), command=command, seed=seed, resolved=resolved
    )
    rows = (
        (
            room.kind, room.container, room.key, room.present, room.value, room.found.level,
            room.found.limited, room.found.failures, room.found.runs, room.found.confidence,
            room.found.violations,
        )
        for room in found.rooms
    )  # fmt: skip
    with result_folder(directory):
        write_table(directory / "headroom.csv", COLUMNS, rows)
        replace_file(directory / SUMMARY, as_json(content))
