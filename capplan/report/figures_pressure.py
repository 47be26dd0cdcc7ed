"""Pressure: who waited for memory (PSI), who scanned, who had to read back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from capplan.plan.outcome_context import Context
from capplan.plan.outcome_series import PAGE_SIZE, Array
from capplan.report import words
from capplan.report.chart import Chart, Curve, Panel, marks
from capplan.units import MIB

if TYPE_CHECKING:
    from capplan.plan.outcome_model import Outcome


def chart(outcome: Outcome, context: Context) -> Chart | None:
    """PSI, scans and major faults over time; None where nothing was recorded."""
    panels = [p for p in (_psi(context), _scans(context), _faults(context)) if p is not None]
    if not panels:
        return None
    return Chart(
        slug="pressure", title=title(outcome), alt=_alt(outcome), x=context.series.t,
        panels=tuple(panels), marks=marks(outcome, context),
        note="PSI: the share of the last 10 s in which some task, or all of them, waited.",
    )  # fmt: skip


def title(outcome: Outcome) -> str:
    """How much of the run was lost to memory, and when it was worst."""
    node = outcome.node
    if not node.psi_some_share:
        return "No task ever waits for memory"
    worst = ""
    if node.psi_some_peak_t is not None:
        peak = words.percent(node.psi_some_peak)
        worst = f"; at worst {peak} of 10 s, up to {words.time(node.psi_some_peak_t)}"
    return f"Tasks wait for memory {words.percent(node.psi_some_share)} of the run{worst}"


def _alt(outcome: Outcome) -> str:
    node = outcome.node
    parts = [
        f"{title(outcome)}. kswapd scanned {words.size(node.kswapd_scanned_bytes)}",
        f"tasks reclaiming for themselves scanned {words.size(node.direct_scanned_bytes)}",
        f"{node.majfaults:,} major faults",
    ]
    return ", ".join(parts) + "."


def rate(context: Context, values: Array | None, scale: float = 1.0) -> Array | None:
    """What a counter rose by per second, at each sample; None where it never rose."""
    if values is None or values.size < 2:
        return None
    steps = np.diff(np.nan_to_num(values)) / np.maximum(np.diff(context.series.t), 1e-9)
    risen = np.concatenate(([0.0], np.clip(steps, 0.0, None))) * scale
    return risen if risen.any() else None


def _curves(found: list[tuple[str, Array | None, str, str]]) -> tuple[Curve, ...]:
    return tuple(
        Curve(label, values, colour, "line", style)
        for label, values, colour, style in found
        if values is not None
    )


def _psi(context: Context) -> Panel | None:
    series = context.series
    some = series.average10(series.get("psi.memory.some.total_us"))
    full = series.average10(series.get("psi.memory.full.total_us"))
    if some is None:
        return None
    curves = _curves(
        [
            ("some task waits", 100 * some, "blue", "-"),
            ("all tasks wait", None if full is None else 100 * full, "red", "--"),
        ]
    )
    top = max(5.0, min(105.0, 110 * float(some.max())))
    return Panel(label="PSI", unit="%", curves=curves, top=top, height=0.7)


def _scans(context: Context) -> Panel | None:
    series = context.series
    size = PAGE_SIZE / MIB
    curves = _curves(
        [
            ("kswapd scans", rate(context, series.get("vmstat.pgscan_kswapd"), size), "blue", "-"),
            ("tasks scan", rate(context, series.get("vmstat.pgscan_direct"), size), "red", "--"),
        ]
    )
    return Panel(label="scanned", unit="MiB/s", curves=curves, height=0.6) if curves else None


def _faults(context: Context) -> Panel | None:
    faults = rate(context, context.series.get("vmstat.pgmajfault"))
    stalls = rate(context, context.series.allocstall)
    curves = _curves(
        [
            ("major faults", faults, "blue", "-"),
            ("direct reclaims (allocstall)", stalls, "red", "--"),
        ]
    )
    return Panel(label="events", unit="1/s", curves=curves, height=0.6) if curves else None
