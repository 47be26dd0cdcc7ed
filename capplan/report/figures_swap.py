"""Swap and zswap: how much lies there, and what flows out and in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from capplan.plan.outcome_context import Context
from capplan.plan.outcome_series import PAGE_SIZE, Array
from capplan.report import words
from capplan.report.chart import Chart, Curve, Panel, Rule, marks, unit
from capplan.report.figures_pressure import rate
from capplan.units import MIB, format_bytes

if TYPE_CHECKING:
    from capplan.plan.outcome_model import Outcome

KIB = 1024
# counter, label, colour, style, sign: what leaves memory points up, what comes back down
FLOWS = (
    ("vmstat.pswpout", "to the device", "red", "-", 1),
    ("vmstat.pswpin", "from the device", "orange", "-", -1),
    ("vmstat.zswpout", "into zswap", "blue", "--", 1),
    ("vmstat.zswpin", "out of zswap", "sky", "--", -1),
    ("vmstat.zswpwb", "zswap to the device", "brown", ":", 1),
)
# what of swap lies in memory: name, series, bytes in its unit
POOLS = (("zswap", "meminfo_kb.Zswap", KIB), ("zram", "zram.mem_used_total", 1))


def chart(outcome: Outcome, context: Context) -> Chart | None:
    """Stock and flow; None without swap."""
    used = used_swap(context)
    if used is None:
        return None
    panels = [stock(context, used)]
    flow = _flow(context)
    if flow is not None:
        panels.append(flow)
    return Chart(
        slug="swap", title=title(outcome), alt=_alt(outcome), x=context.series.t,
        panels=tuple(panels), marks=marks(outcome, context),
        note="What leaves memory points up, what is read back points down.",
    )  # fmt: skip


def title(outcome: Outcome) -> str:
    """How far swap filled, and what had to come back."""
    node = outcome.node
    if not node.swap_peak_bytes:
        return f"Swap of {words.size(node.swap_total_bytes)} stays empty"
    text = (
        f"Swap fills to {words.size(node.swap_peak_bytes)} of {words.size(node.swap_total_bytes)}"
    )
    if node.zswap_peak_bytes:
        held = words.size(node.zswapped_peak_bytes)
        text += f"; zswap keeps up to {held} of it in {words.size(node.zswap_peak_bytes)}"
    if node.zram_peak_bytes:
        text += f"; zram keeps it in {words.size(node.zram_peak_bytes)} of memory"
    return text


def _alt(outcome: Outcome) -> str:
    node = outcome.node
    return (
        f"{title(outcome)}. {words.size(node.swap_out_bytes)} went to the device, "
        f"{words.size(node.swap_in_bytes)} came back."
    )


def used_swap(context: Context) -> Array | None:
    """Used swap [bytes], None where there is none."""
    total, free = (context.series.get(f"meminfo_kb.{n}") for n in ("SwapTotal", "SwapFree"))
    if not context.swap_total or total is None or free is None:
        return None
    return np.asarray(np.nan_to_num(total - free) * KIB)


def stock(context: Context, used: Array) -> Panel:
    """Used swap and the pool that holds a part of it in memory."""
    near = context.swap_total <= 4 * max(float(used.max()), 1.0)
    highest = max(context.swap_total if near else 1.15 * float(used.max()), 1.0)
    if not used.any():
        highest = float(context.swap_total)
    scale, name = unit(highest)
    curves = [Curve("swap used", used / scale, "sky", "band")]
    for name, key, per in POOLS:
        pool = context.series.get(key)
        if pool is not None and np.nanmax(pool) > 0:
            held = np.nan_to_num(pool) * per / scale
            curves.append(Curve(f"{name} pool (in memory)", held, "red", "line", "--"))
    size = f"swap size ({format_bytes(context.swap_total)})"
    rules = (Rule(size, context.swap_total / scale),) if near or not used.any() else ()
    return Panel(
        label="swap", unit=name, curves=tuple(curves), rules=rules, top=1.05 * highest / scale,
        height=0.7,
    )  # fmt: skip


def _flow(context: Context) -> Panel | None:
    curves = []
    for name, label, colour, style, sign in FLOWS:
        flow = rate(context, context.series.get(name), PAGE_SIZE / MIB)
        if flow is not None:
            curves.append(Curve(label, sign * flow, colour, "line", style))
    if not curves:
        return None
    return Panel(
        label="flow", unit="MiB/s", curves=tuple(curves), rules=(Rule("", 0.0, "-", "quiet"),),
        bottom=None, height=0.9,
    )  # fmt: skip
