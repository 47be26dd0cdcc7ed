"""The result directory of a sweep, and a sweep as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capplan.plan.sweep import RISKS
from capplan.report.files import as_json, replace_file, result_folder, write_table
from capplan.report.lines import aligned, wrap
from capplan.report.many import summary, write_runs
from capplan.report.many_text import interval, section
from capplan.report.results import SUMMARY
from capplan.report.words import clean
from capplan.units import format_bytes

if TYPE_CHECKING:
    from capplan.plan.sensitivity import Index
    from capplan.plan.store import Store
    from capplan.plan.sweep import Plan, PointOutcome, Sweep

__all__ = ["sweep_text", "write_sweep"]

TOP = 20
SENSITIVITY_COLUMNS = (
    "knob", "of", "first", "first_low", "first_high", "total", "total_low", "total_high",
)  # fmt: skip


def write_sweep(
    sweep: Sweep,
    directory: Path,
    plan: Plan,
    store: Store,
    *,
    command: str = "",
    resolved: Mapping[str, Any],
    parquet: bool = False,
) -> None:
    """Write the directory of a sweep; summary.json comes last.

    Raises
    ------
    InputError
        When the directory cannot be written.
    """
    knobs = [knob.key for knob in plan.spec.knobs]
    content = summary("sweep", sweep.to_dict(), command=command, seed=plan.seed, resolved=resolved)
    with result_folder(directory):
        write_runs(directory, plan, store, knobs, parquet=parquet)
        write_table(directory / "points.csv", _point_columns(sweep, knobs), _points(sweep, knobs))
        write_table(
            directory / "sensitivity.csv",
            SENSITIVITY_COLUMNS,
            ([getattr(index, name) for name in SENSITIVITY_COLUMNS] for index in sweep.sensitivity),
        )
        replace_file(directory / SUMMARY, as_json(content))


def _point_columns(sweep: Sweep, knobs: Sequence[str]) -> list[str]:
    risks = [f"{what}{end}" for what in RISKS for end in ("", "_low", "_high")]
    metrics = list(sweep.points[0].metrics) if sweep.points else []
    return ["point", *knobs, "fits", "runs", "failed", *risks, *metrics, "error"]


def _points(sweep: Sweep, knobs: Sequence[str]) -> Iterator[list[Any]]:
    for point in sweep.points:
        risks = [x for what in RISKS for x in _three(point, what)]
        settings = [point.settings.get(key) for key in knobs]
        yield [
            point.index, *settings, point.fits, point.runs, point.failed, *risks,
            *point.metrics.values(), point.error,
        ]  # fmt: skip


def _three(point: PointOutcome, what: str) -> tuple[float | None, float | None, float | None]:
    found = point.risks[what]
    return (found.p, found.low, found.high) if found.runs else (None, None, None)


# --- text ----------------------------------------------------------------------------------


def sweep_text(sweep: Sweep, top: int = TOP) -> str:
    """A sweep as plain text."""
    lines = wrap(sweep.verdict)
    lines += section("What moves the result (share of its variance)", _indices(sweep))
    shown = sorted(sweep.points, key=_rank)[:top]
    title = f"Points ({len(sweep.points)}, {sweep.replicates} runs each; those at least risk first)"
    lines += section(title, aligned(*_table(sweep, shown)))
    if len(sweep.points) > top:
        lines.append(f"  ... {len(sweep.points) - top} more in points.csv")
    lines += section("Notes", [line for note in sweep.notes for line in wrap(note, "  - ")])
    return "\n".join(lines) + "\n"


def _rank(point: PointOutcome) -> tuple[Any, ...]:
    risks = tuple(point.risks[what].high for what in RISKS)
    return ({True: 0, None: 1, False: 2}[point.fits], risks, point.index)


def _table(sweep: Sweep, shown: Sequence[PointOutcome]) -> tuple[list[str], list[list[str]]]:
    knobs = [knob["key"] for knob in sweep.knobs]
    rows = []
    for point in shown:
        fits = {True: "fits", False: "no", None: "undecided"}[point.fits]
        room = point.metrics.get("headroom_min")
        rows.append(
            [
                str(point.index),
                *(clean(point.settings.get(key, "")) for key in knobs),
                "failed" if point.error else fits,
                *(interval(point.risks[what]) for what in RISKS),
                "-" if room is None else format_bytes(room),
            ]
        )
    heads = ["point", *map(clean, knobs), "", "OOM kill", "pause", "throttle", "eviction"]
    return [*heads, "mean headroom"], rows


def _indices(sweep: Sweep) -> list[str]:
    found = [index for index in sweep.sensitivity if index.of.startswith("P(")]
    found = found or list(sweep.sensitivity)
    if not found:
        return []
    rows = [[index.of, clean(index.knob), _share(index), _total(index)] for index in found[:TOP]]
    return aligned(("of", "knob", "first order (95 %)", "total order (95 %)"), rows)


def _share(index: Index) -> str:
    return f"{index.first:.2f} ({index.first_low:.2f} to {index.first_high:.2f})"


def _total(index: Index) -> str:
    if index.total is None:
        return "-"
    return f"{index.total:.2f} ({index.total_low:.2f} to {index.total_high:.2f})"
