"""The result directory of many runs: summary.json, tables as CSV (and Parquet), from the store.

The tables are written in the order of the points, whatever the order they were finished in, so
an undisturbed run and one that was killed and resumed leave the same bytes.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import capplan
from capplan.errors import InputError
from capplan.plan.metrics import CONTAINER_METRICS, NODE_METRICS, split
from capplan.report.files import as_json, replace_file, result_folder, write_table
from capplan.report.results import SUMMARY

if TYPE_CHECKING:
    from capplan.plan.point import Point
    from capplan.plan.risk import Risk
    from capplan.plan.store import Store

__all__ = ["FORMAT", "STORE", "container_rows", "frame", "run_rows", "summary", "write_risk"]

FORMAT = 1
STORE = "runs.sqlite"
TEXTS = {
    "kill_first",
    "kill_scope",
    "kill_trigger",
    "kill_order",
    "evict_first",
    "evict_by",
    "error",
    "key",
    "container",
}
ROWS_AT_ONCE = 2000

Row = list[Any]


def summary(
    kind: str, found: Mapping[str, Any], *, command: str, seed: int, resolved: Mapping[str, Any]
) -> dict[str, Any]:
    """What summary.json holds: verdict first, then the figures, then provenance."""
    rest = dict(found)
    return {
        "fits": rest.pop("fits", None),
        "verdict": rest.pop("verdict"),
        "format": FORMAT,
        "kind": kind,
        **rest,
        "provenance": {
            "capplan": capplan.__version__,
            "seed": seed,
            "machine": platform.machine(),
            "command": command,
            "input": dict(resolved),
        },
    }


# --- tables of runs ------------------------------------------------------------------------


def run_columns(settings: Sequence[str] = ()) -> list[str]:
    """Columns of runs.csv: which point, what was set, the node's metrics, the error."""
    return ["point", "replicate", *settings, *NODE_METRICS, "error", "key"]


def run_rows(points: Iterable[Point], store: Store, settings: Sequence[str] = ()) -> Iterator[Row]:
    """One row per point; those not computed yet are left out."""
    for point, row in _stored(points, store):
        of_node, _ = split(row)
        given = [point.variant.settings.get(key) for key in settings]
        figures = [of_node.get(metric) for metric in NODE_METRICS]
        yield [
            point.variant.index, point.replicate, *given, *figures, row.get("error"), point.key,
        ]  # fmt: skip


def container_columns() -> list[str]:
    """Columns of containers.csv."""
    return ["point", "replicate", "container", *CONTAINER_METRICS]


def container_rows(points: Iterable[Point], store: Store) -> Iterator[Row]:
    """One row per point and container's replica."""
    for point, row in _stored(points, store):
        for name, metrics in split(row)[1].items():
            figures = [metrics.get(metric) for metric in CONTAINER_METRICS]
            yield [point.variant.index, point.replicate, name, *figures]


def _stored(points: Iterable[Point], store: Store) -> Iterator[tuple[Point, dict[str, Any]]]:
    waiting: list[Point] = []
    for point in points:
        waiting.append(point)
        if len(waiting) == ROWS_AT_ONCE // 4:
            yield from _look_up(waiting, store)
            waiting = []
    yield from _look_up(waiting, store)


def _look_up(waiting: list[Point], store: Store) -> Iterator[tuple[Point, dict[str, Any]]]:
    by_key = {point.key: [p for p in waiting if p.key == point.key] for point in waiting}
    found = dict(store.rows(by_key))
    for point in waiting:
        if point.key in found:
            yield point, found[point.key]


def frame(columns: Sequence[str], rows: Iterable[Row]) -> Any:
    """A table as a pandas DataFrame."""
    import pandas as pd

    return pd.DataFrame(list(rows), columns=list(columns))


def write_runs(
    directory: Path,
    points: Iterable[Point],
    store: Store,
    settings: Sequence[str] = (),
    *,
    parquet: bool = False,
) -> None:
    """Write runs.csv and containers.csv, and the same as Parquet.

    ``points`` is gone through once for each table.
    """

    def each() -> Iterator[tuple[str, list[str], Iterator[Row]]]:
        yield "runs", run_columns(settings), run_rows(points, store, settings)
        yield "containers", container_columns(), container_rows(points, store)

    for name, columns, rows in each():
        write_table(directory / f"{name}.csv", columns, rows)
    if parquet:
        for name, columns, rows in each():
            _write_parquet(directory / f"{name}.parquet", columns, rows, settings)


def _write_parquet(
    path: Path, columns: Sequence[str], rows: Iterable[Row], settings: Sequence[str]
) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError("Parquet needs pyarrow\n    pip install 'capplan[parquet]'") from error
    texts = {*TEXTS, *settings}
    types = {"point": pa.int64(), "replicate": pa.int64()}
    schema = pa.schema(
        [(c, pa.string() if c in texts else types.get(c, pa.float64())) for c in columns]
    )
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with pq.ParquetWriter(temporary, schema) as out:
            for batch in _batches(rows, ROWS_AT_ONCE):
                arrays = [
                    pa.array([row[n] for row in batch], type=field.type)
                    for n, field in enumerate(schema)
                ]
                out.write_table(pa.Table.from_arrays(arrays, schema=schema))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


# --- risk ----------------------------------------------------------------------------------


def write_risk(
    risk: Risk,
    directory: Path,
    points: Iterable[Point],
    store: Store,
    *,
    command: str = "",
    seed: int,
    resolved: Mapping[str, Any],
    parquet: bool = False,
) -> None:
    """Write the directory of a risk run; summary.json comes last.

    Raises
    ------
    InputError
        When the directory cannot be written.
    """
    content = summary("risk", risk.to_dict(), command=command, seed=seed, resolved=resolved)
    with result_folder(directory):
        write_runs(directory, points, store, parquet=parquet)
        write_table(directory / "risks.csv", RISK_COLUMNS, _risk_rows(risk))
        write_table(
            directory / "first_kill.csv", ("t", "runs", "share", "low", "high"), risk.first_kill
        )
        write_table(
            directory / "victims.csv",
            ("container", "runs", "first", "kills", "memcg", "node"),
            ((v.container, v.runs, v.first, v.kills, v.memcg, v.on_node) for v in risk.victims),
        )
        write_table(directory / "orders.csv", ("order", "runs"), risk.orders)
        replace_file(directory / SUMMARY, as_json(content))


RISK_COLUMNS = ("scope", "name", "incident", "count", "runs", "p", "low", "high")


def _risk_rows(risk: Risk) -> Iterator[Row]:
    """Probabilities of the node, of containers (any replica) and of each replica."""
    groups = [("node", risk.name, risk.node)]
    groups += [("container", c.name, c.risks) for c in risk.containers]
    groups += [("replica", c.name, c.risks) for c in risk.replicas]
    for scope, name, risks in groups:
        for incident, found in risks.items():
            yield [
                scope, name, incident, found.count, found.runs, found.p, found.low, found.high,
            ]  # fmt: skip
