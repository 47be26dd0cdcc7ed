"""The result directory: written whole, read again by ``capplan explain``.

Every file is written under a temporary name and then renamed, so a directory that is looked
at while it is written never holds half a file. Nothing in the files depends on the hour, the
host or the number of workers: the same run gives the same bytes.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capplan.errors import InputError, quoted
from capplan.plan.demand import demands
from capplan.plan.outcome_model import Outcome
from capplan.report import record
from capplan.report.files import (
    MAX_WHOLE,
    as_json,
    finite,
    harmless,
    number,
    replace_file,
    result_folder,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from capplan.sim.result import Event, Run

FORMAT = 1
SUMMARY = "summary.json"
PAGE = "report.html"
ROWS_AT_ONCE = 256  # as text a whole table of many containers would not fit the memory budget
GZIP_LEVEL = 4
EVENT_COLUMNS = ("t", "event", "name", "cgroup", "scope", "detail")


@dataclass(frozen=True)
class Result:
    """A result directory, read back."""

    outcome: Outcome
    provenance: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)


def summary(
    outcome: Outcome, run: Run, *, command: str = "", resolved: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What ``summary.json`` (and ``--json``) holds: verdict first, then evidence, then provenance.

    Parameters
    ----------
    outcome, run
        What :func:`capplan.plan.outcome.analyse` said, and of what.
    command : str
        The command line.
    resolved : mapping, optional
        The resolved input as plain data; None: the scenario.

    Returns
    -------
    dict
        JSON-ready, ``format`` is the schema's version.
    """
    found = outcome.to_dict()
    return {
        "fits": found.pop("fits"),
        "verdict": found.pop("verdict"),
        "format": FORMAT,
        **found,
        "provenance": {
            "capplan": run.version,
            "seed": run.seed,
            "granule_pages": run.granule_pages,
            "machine": platform.machine(),
            "command": command,
            "input": dict(resolved) if resolved is not None else asdict(run.scenario),
        },
    }


def write(
    outcome: Outcome,
    run: Run,
    directory: Path,
    *,
    command: str = "",
    resolved: Mapping[str, Any] | None = None,
    picture: bool = True,
    page: bool = False,
) -> list[Path]:
    """Write summary.json, its tables, the resolved input, memory.png and report.html.

    Parameters
    ----------
    outcome, run
        What :func:`capplan.plan.outcome.analyse` said, and of what.
    directory : Path
        Made when missing.
    command : str
        The command line, for provenance.
    resolved : mapping, optional
        The resolved input file as plain data (resolved.yaml); None: the scenario (resolved.json).
    picture : bool
        Whether to draw memory.png (imports matplotlib).
    page : bool
        Whether to write report.html (imports matplotlib and jinja2).

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    InputError
        When the directory cannot be written.
    """
    said = finite(summary(outcome, run, command=command, resolved=resolved))
    planned = {} if outcome.fits else demands(run.scenario)
    # the summary comes last: where it is, the rest is
    files: list[tuple[str, Callable[[], bytes]]] = [
        _resolved(run, resolved),
        ("events.csv", lambda: _events(run)),
        ("timeseries.csv.gz", lambda: _timeseries(run)),
        (record.RUN, lambda: as_json(record.content(run, planned))),
    ]
    if picture:
        files.append(("memory.png", lambda: _picture(outcome, run)))
    if page:
        recorded = record.Recorded(run, planned)
        files.append((PAGE, lambda: _page(outcome, recorded, said)))
    files.append((SUMMARY, lambda: as_json(said)))
    with result_folder(directory):
        return [replace_file(directory / name, make()) for name, make in files]


def _resolved(run: Run, resolved: Mapping[str, Any] | None) -> tuple[str, Callable[[], bytes]]:
    if resolved is None:
        return "resolved.json", lambda: as_json(asdict(run.scenario))
    plain = finite(dict(resolved))

    def as_yaml() -> bytes:
        import yaml

        # libyaml's, where PyYAML was built with it, is ten times as fast
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        text: str = yaml.dump(plain, Dumper=dumper, sort_keys=False, allow_unicode=True)
        return text.encode()

    return "resolved.yaml", as_yaml


def _picture(outcome: Outcome, run: Run) -> bytes:
    from capplan.report import picture

    return picture.png(outcome, run)


def _page(outcome: Outcome, recorded: record.Recorded, said: Mapping[str, Any]) -> bytes:
    from capplan.report import page

    return page.write(page.Material(said, outcome, recorded)).encode()


# --- tables ------------------------------------------------------------------------------


def _events(run: Run) -> bytes:
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(EVENT_COLUMNS)
    for event in run.events:
        out.writerow(_event_row(event))
    return text.getvalue().encode()


def _event_row(event: Event) -> list[str]:
    detail = json.dumps(finite(event.detail), ensure_ascii=False, sort_keys=True)
    cells = [event.event, event.name, event.cgroup, event.scope]
    return [number(event.t), *map(harmless, cells), detail if event.detail else ""]


def _timeseries(run: Run) -> bytes:
    """All series, one column each; ``name|min`` and ``name|max`` are the bins' extremes."""
    names = ["t", *(n for n in run.series if n != "t")]
    head = io.StringIO()
    csv.writer(head, lineterminator="\n").writerow(names)
    out = io.BytesIO()
    # mtime=0: gzip's header would hold the hour otherwise
    with gzip.GzipFile(
        fileobj=out, mode="wb", filename="", compresslevel=GZIP_LEVEL, mtime=0
    ) as to:
        to.write(head.getvalue().encode())
        for begin in range(0, len(run.series["t"]), ROWS_AT_ONCE):
            columns = [_cells(run.series[name][begin : begin + ROWS_AT_ONCE]) for name in names]
            to.writelines(f"{','.join(row)}\n".encode() for row in zip(*columns))
    return out.getvalue()


def _cells(values: np.ndarray[Any, Any]) -> list[str]:
    """A column's numbers as text, whole ones without a point (as :func:`_number` writes one)."""
    floats = values.astype(float)
    if bool((floats == floats[0]).all()):  # many counters never move
        return [number(float(floats[0]))] * floats.size
    if not bool(((abs(floats) < MAX_WHOLE) & (floats % 1 == 0)).all()):
        return [number(value) for value in floats.tolist()]
    return [str(value) for value in floats.astype(int).tolist()]


# --- reading -----------------------------------------------------------------------------


def read(directory: Path) -> Result:
    """Read a result directory (or its summary.json).

    Raises
    ------
    InputError
        When there is no result, or one of a newer format.
    """
    data = read_summary(directory)
    try:
        return Result(Outcome.from_dict(data), data.get("provenance", {}), data)
    except (TypeError, AttributeError, KeyError) as error:
        raise InputError(f"{directory}: not a whole result: {error}") from error


def read_summary(directory: Path) -> dict[str, Any]:
    """What summary.json holds, of whatever kind.

    Raises
    ------
    InputError
        When there is no result, or one of a newer format.
    """
    path = directory / SUMMARY if directory.is_dir() else directory
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{directory}: no {SUMMARY} here\n    expected a directory that capplan wrote"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise InputError(
            f"{path}: format {quoted(found)} is not known\n"
            f"    expected format {FORMAT}, as this capplan writes it"
        )
    return dict(data)
