"""What a validation leaves: ``validate.json``, the table, numbers side by side."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from capplan.validate.judge import Verdict
from capplan.validate.pauses import Pause
from capplan.validate.score import Score, Work
from capplan.validate.series import SeriesScore, at, grid_of

FORMAT = 1
HEADS = ("recording", "passed", "events", "worst series", "error", "both truths", "allowed")


def as_json(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """All verdicts as ``validate.json`` holds them."""
    return {"format": FORMAT, "recordings": [_recording_json(verdict) for verdict in verdicts]}


def write_json(verdicts: Sequence[Verdict], folder: Path) -> Path:
    """Write ``validate.json`` whole or not at all: beside its place, then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "validate.json"
    handle, name = tempfile.mkstemp(dir=folder, prefix=".validate-", suffix=".json")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(as_json(verdicts), file, allow_nan=False)
            file.write("\n")
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def _recording_json(verdict: Verdict) -> dict[str, Any]:
    course = verdict.predicted
    pauses = verdict.score.pauses if verdict.score else ()
    events = [h.as_json() for h in course.happenings] + _pause_events(pauses)
    known = verdict.recording.truths[0].series
    return {
        "name": verdict.name,
        "events": sorted(events, key=lambda event: event["t"]),
        "series": {k: _numbers(v) for k, v in course.series.items() if k in known and k != "t"},
        "t": _numbers(course.t),
        "scores": scores_json(verdict.score) if verdict.score else {},
        "passed": verdict.passed,
        "why": list(verdict.why),
    }


def _pause_events(pauses: Sequence[Pause]) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for pause in pauses:
        events.append(_event(pause.begin_s, "paused", pause.name))
        if not pause.to_end:
            events.append(_event(pause.end_s, "resumed", pause.name))
    return events


def _event(t: float, event: str, name: str) -> dict[str, Any]:
    return {"t": round(t, 3), "event": event, "name": name, "scope": None}


def _numbers(values: NDArray[np.float64]) -> list[float | int | None]:
    return [
        None if not math.isfinite(v) else int(v) if v == int(v) else round(float(v), 6)
        for v in values.tolist()
    ]


def scores_json(score: Score) -> dict[str, Any]:
    """A score's figures: errors relative to their scale, work as the kernel's two and ours."""
    return {
        "events": {"passed": not score.why_events, "why": list(score.why_events)},
        "pauses": {"passed": not score.why_pauses, "why": list(score.why_pauses)},
        "watermarks": {"passed": not score.why_marks, "why": list(score.why_marks)},
        "series": {entry.series: _series_json(entry) for entry in score.series},
        "work": {entry.name: _work_json(entry) for entry in score.work},
        "tasks": {name: dict(times) for name, times in score.tasks.items()},
        "victims_anon_kb": {
            name: {"predicted": ours, "truths": list(real)} for name, ours, real in score.victims_kb
        },
    }


def _series_json(entry: SeriesScore) -> dict[str, Any]:
    return {
        "mean": round(entry.mean, 6),
        "max": round(entry.largest, 6),
        "truths": [round(mean, 6) for mean in entry.means],
        "tolerance": entry.tolerance,
        "spread": round(entry.spread, 6),
        "passed": entry.passed,
    }


def _work_json(entry: Work) -> dict[str, Any]:
    return {
        "truths": list(entry.truths),
        "predicted": entry.predicted,
        "ratio": None if entry.ratio is None else round(entry.ratio, 4),
        "difference": entry.predicted - entry.nearer,
    }


def row_of(verdict: Verdict) -> tuple[str, ...]:
    """One line of the table."""
    passed = "yes" if verdict.passed else "NO"
    if verdict.score is None:
        return (verdict.name, passed, "-", "the model broke down", "-", "-", "-")
    worst = verdict.score.worst
    events = "yes" if not (verdict.score.why_events or verdict.score.why_pauses) else "NO"
    both = " / ".join(f"{mean:.2%}" for mean in worst.means)
    return (
        verdict.name,
        passed,
        events,
        worst.series,
        f"{worst.mean:.2%}",
        both,
        f"{worst.allowed:.2%}",
    )


def render(verdicts: Sequence[Verdict], out: IO[str]) -> None:
    """Print the table and, beneath, what fails: with rich on a terminal, else plain text."""
    rows = [row_of(verdict) for verdict in verdicts]
    if out.isatty():
        _rich(rows, out)
    else:
        out.write("\n".join(_plain([HEADS, *rows])) + "\n")
    for verdict in verdicts:
        for line in verdict.why:
            out.write(f"{verdict.name}: {line}\n")
    good = sum(verdict.passed for verdict in verdicts)
    seconds = sum(verdict.wall_s for verdict in verdicts)
    out.write(f"\n{good} of {len(verdicts)} recordings pass ({seconds:.0f} s of simulation)\n")


def _plain(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _rich(rows: Sequence[Sequence[str]], out: IO[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for head in HEADS:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*row, style="red" if row[1] == "NO" else None)
    Console(file=out).print(table)


def side_by_side(verdict: Verdict, names: Sequence[str] = (), step: int = 1) -> Iterator[str]:
    """Lines that lay the model's numbers beside the kernel's, second by second.

    Parameters
    ----------
    verdict : Verdict
        A finished one.
    names : sequence of str
        Parts of series' names; none: all that are scored.
    step : int
        Every so many seconds.
    """
    truths = verdict.recording.truths
    grid = grid_of(truths)[::step]
    scored = {entry.series for entry in verdict.score.series} if verdict.score else set()
    for series in truths[0].series:
        if series == "t" or not (
            any(part in series for part in names) if names else series in scored
        ):
            continue
        columns = [at(course, series, grid) for course in (verdict.predicted, *truths)]
        yield f"{series}  [t: model | truth | truth-2]"
        for index, t in enumerate(grid):
            cells = ["-" if c is None else f"{c[index]:.0f}" for c in columns]
            yield f"  {t:6.0f}: " + " | ".join(f"{cell:>14}" for cell in cells)
    yield from _events_beside(verdict)
    yield from _work_beside(verdict)


def _events_beside(verdict: Verdict) -> Iterator[str]:
    for label, course in zip(
        ("model", "truth", "truth-2"), (verdict.predicted, *verdict.recording.truths), strict=False
    ):
        for h in course.happenings:
            size = f" anon {h.anon_kb} kB" if h.anon_kb else ""
            yield f"{label:8} {h.t:8.3f} {h.event} {h.name} {h.scope}{size}"


def _work_beside(verdict: Verdict) -> Iterator[str]:
    for entry in verdict.score.work if verdict.score else ():
        truths = " / ".join(f"{value:.0f}" for value in entry.truths)
        yield f"{entry.name:45} model {entry.predicted:.0f}, kernel {truths}"
