"""The result directory of a comparison: summary.json, comparison.csv, the runs' tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capplan.report import many
from capplan.report.files import as_json, replace_file, result_folder, write_table
from capplan.report.results import SUMMARY

if TYPE_CHECKING:
    from capplan.plan.compare_model import Comparison
    from capplan.plan.point import Point
    from capplan.plan.store import Store

__all__ = ["COLUMNS", "write_comparison"]

RISKS = ("kill", "pause", "throttle", "evict")
SPREADS = (
    "headroom_min", "available_min", "direct_stalls", "kswapd_cpu_share", "swap_in", "swap_out",
    "psi_some", "psi_full", "order9_min",
)  # fmt: skip
COLUMNS = (
    "setting", "pick", "runs", "mark_min", "mark_low", "mark_high", "fitting", "fitting_low",
    "fitting_high", "only_here", "only_first", "p_value",
    *(f"{what}{end}" for what in RISKS for end in ("", "_low", "_high")),
    *SPREADS, "burst_rate", "burst_bytes", "error",
)  # fmt: skip


def write_comparison(
    found: Comparison,
    directory: Path,
    points: Iterable[Point],
    store: Store,
    *,
    command: str = "",
    seed: int,
    resolved: Mapping[str, Any],
    parquet: bool = False,
) -> None:
    """Write the directory; summary.json comes last.

    Raises
    ------
    InputError
        When the directory cannot be written.
    """
    content = many.summary(
        "comparison", found.to_dict(), command=command, seed=seed, resolved=resolved
    )
    with result_folder(directory):
        many.write_runs(directory, points, store, found.keys, parquet=parquet)
        write_table(directory / "comparison.csv", COLUMNS, _rows(found))
        replace_file(directory / SUMMARY, as_json(content))


def _rows(found: Comparison) -> Iterator[list[Any]]:
    for n, setting in enumerate(found.settings):
        marks, risk, split, burst = setting.marks, setting.risk, setting.against, setting.burst
        fitting = None if risk is None else risk.fitting
        yield [
            setting.label,
            int(n == found.pick),
            None if risk is None else risk.runs,
            *((None,) * 3 if marks is None else (marks.minimum, marks.low, marks.high)),
            *((None,) * 3 if fitting is None else (fitting.p, fitting.low, fitting.high)),
            *(
                (None,) * 3
                if split is None
                else (split.fits_only_here, split.fits_only_there, split.p_value)
            ),
            *(
                figure
                for what in RISKS
                for figure in (
                    (None,) * 3
                    if risk is None
                    else (risk.node[what].p, risk.node[what].low, risk.node[what].high)
                )
            ),
            *(_median(risk.spread.get(name)) if risk is not None else None for name in SPREADS),
            None if burst is None else burst.fastest_rate,
            None if burst is None else burst.at_rates[-1].absorbed_bytes,
            setting.error,
        ]


def _median(spread: Any) -> float | None:
    return None if spread is None else float(spread.quantiles[2])
