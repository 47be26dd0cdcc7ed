"""A run beside its tables: ``run.json``, and the run read back for pictures.

``events.csv`` and ``timeseries.csv.gz`` hold what happened. What else a picture or a comparison
asks for (limits, who belongs where, watermarks, each process's totals) is in ``run.json``, without
the programs of the processes: a result is drawn, not played again.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

import numpy as np

from capplan.errors import InputError, quoted
from capplan.plan.demand import Demand
from capplan.plan.outcome_model import build
from capplan.report.files import unguarded
from capplan.sim.result import Event, Run, TaskTotals
from capplan.sim.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT = 1
RUN = "run.json"
MAX_BYTES = 1 << 30  # unpacked: a foreign file must not fill the reader's memory


class Recorded(NamedTuple):
    """A run, and what its containers ask for by their own plan (empty where all fits)."""

    run: Run
    planned: dict[str, Demand]


def content(run: Run, planned: Mapping[str, Demand]) -> dict[str, Any]:
    """What ``run.json`` holds, JSON-ready."""
    processes = tuple(replace(p, tasks=(), mappings=()) for p in run.scenario.processes)
    slim = replace(run.scenario, processes=processes, mappings=())
    return {
        "format": FORMAT,
        "capplan": run.version,
        "seed": run.seed,
        "granule_pages": run.granule_pages,
        "planned": {name: [demand.bytes, demand.t] for name, demand in planned.items()},
        "wmarks": {zone: list(marks) for zone, marks in run.wmarks.items()},
        "scenario": asdict(slim),
        "totals": [asdict(row) for row in run.totals],
    }


def read(directory: Path) -> Recorded:
    """The run of a result directory.

    Raises
    ------
    InputError
        When a file is missing, not whole, too large, or of another format.
    """
    try:
        data = json.loads((directory / RUN).read_text(encoding="utf-8"))
        _check_format(directory / RUN, data)
        events = _events(directory / "events.csv")
        series = _series(directory / "timeseries.csv.gz")
        planned = {str(n): Demand(int(d[0]), float(d[1])) for n, d in data["planned"].items()}
        return Recorded(_run(data, events, series), planned)
    except FileNotFoundError as error:
        raise InputError(
            f"{error.filename}: missing\n"
            "    expected a result directory with its tables; capplan simulate writes one"
        ) from error
    except InputError:
        raise
    except (OSError, EOFError) as error:
        raise InputError(f"{directory}: cannot be read: {error}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{directory}: not a whole result: {error}") from error


def _check_format(path: Path, data: Any) -> None:
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise InputError(
            f"{path}: format {quoted(found)} is not known\n"
            f"    expected format {FORMAT}, as this capplan writes it"
        )


def _run(
    data: dict[str, Any], events: tuple[Event, ...], series: dict[str, np.ndarray[Any, Any]]
) -> Run:
    return Run(
        scenario=build(Scenario, data["scenario"]),
        events=events,
        series=series,
        totals=tuple(build(TaskTotals, row) for row in data["totals"]),
        wmarks={str(zone): _three(marks) for zone, marks in data["wmarks"].items()},
        version=str(data["capplan"]),
        seed=int(data["seed"]),
        granule_pages=int(data["granule_pages"]),
        wall_s=0.0,
    )


def _three(marks: Any) -> tuple[int, int, int]:
    low, mid, high = (int(mark) for mark in marks)
    return low, mid, high


def _events(path: Path) -> tuple[Event, ...]:
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    names = [name for name in get_type_hints(Event) if name not in ("t", "detail")]
    return tuple(
        Event(
            t=float(row["t"]),
            detail=json.loads(row["detail"]) if row["detail"] else {},
            **{name: unguarded(row[name]) for name in names},
        )
        for row in rows
    )


def _numbers(row: list[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.fromiter(
        (float(cell) if cell else math.nan for cell in row), dtype=np.float64, count=len(row)
    )


def _series(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The columns as they were written: text that reads back as the same numbers."""
    with gzip.open(path) as packed:
        raw = packed.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise InputError(f"{path}: more than {MAX_BYTES >> 20} MiB unpacked")
    lines = csv.reader(io.TextIOWrapper(io.BytesIO(raw), "utf-8", newline=""))
    names = next(lines)
    # row by row: as text a whole table of many containers would not fit the memory budget
    table = np.array([_numbers(row) for row in lines])
    if "t" not in names or table.ndim != 2 or table.shape[1] != len(names):
        raise ValueError(f"{path.name} has no column t, or rows of other lengths")
    return {name: np.ascontiguousarray(table[:, n]) for n, name in enumerate(names)}
