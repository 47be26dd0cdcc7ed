"""Free lists over time: how much of what is free lies in blocks of which order.

A zone can have memory and still refuse a huge page, a stack or a network ring: their blocks are
gone. DMA is left out: lowmem_reserve keeps it from containers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from capplan.plan.outcome_context import Context
from capplan.plan.outcome_series import PAGE_SIZE
from capplan.report import words
from capplan.report.chart import Chart, Heat, Panel, marks
from capplan.units import MIB

if TYPE_CHECKING:
    from capplan.plan.outcome_model import Outcome
    from capplan.report.chart import Array

ORDERS = 11
BOUNDS = (0.0, 1.0, 8.0, 64.0, 512.0, 4096.0)  # MiB of free memory in blocks of an order
LABELS = ("none", "up to 1 MiB", "to 8 MiB", "to 64 MiB", "to 512 MiB", "to 4 GiB", "more")


def charts(outcome: Outcome, context: Context) -> list[Chart]:
    """A heat map for each zone that containers use, in one picture."""
    panels = [
        panel
        for zone in context.run.wmarks
        if not zone.endswith("DMA") and (panel := _panel(context, zone)) is not None
    ]
    if not panels:
        return []
    text = title(outcome)
    return [
        Chart(
            slug="fragmentation", title=text, alt=_alt(text, context), x=context.series.t,
            panels=tuple(panels), marks=marks(outcome, context),
            note=(
                "Rows are block sizes, from single pages (4 KiB) to order 10 (4 MiB). A dark row "
                "on top of light ones is fragmentation: free, but in pieces."
            ),
        )
    ]  # fmt: skip


def title(outcome: Outcome) -> str:
    """Whether huge pages could always be had."""
    least = {z: n for z, n in outcome.node.least_huge_blocks.items() if not z.endswith("DMA")}
    if not least:
        return "Free memory by block size"
    said = " and ".join(f"{count:,} in {zone}" for zone, count in least.items())
    if not any(least.values()):
        return "Free blocks of 2 MiB run out in every zone"
    gone = [zone for zone, count in least.items() if not count]
    if gone:
        return f"Free blocks of 2 MiB run out in {' and '.join(gone)}; at least {said}"
    return f"Free blocks of 2 MiB never run out: at least {said}"


def _alt(text: str, context: Context) -> str:
    parts = []
    for zone in context.run.wmarks:
        free = None if zone.endswith("DMA") else _free_of(context, zone)
        if free is not None:
            high = free[9:].sum(axis=0) / np.maximum(free.sum(axis=0), 1e-9)
            parts.append(
                f"of what is free in {zone} between {words.percent(float(high.min()))} and "
                f"{words.percent(float(high.max()))} of it lies in blocks of 2 MiB or more"
            )
    return f"{text}; {'; '.join(parts)}."


def _free_of(context: Context, zone: str) -> Array | None:
    """Free memory in blocks of each order [MiB], orders x samples."""
    rows = [context.series.get(f"zone.{zone}.order{order}") for order in range(ORDERS)]
    if any(row is None for row in rows):
        return None
    blocks = np.nan_to_num(np.array(rows, dtype=np.float64))
    return np.asarray(blocks * (1 << np.arange(ORDERS))[:, None] * PAGE_SIZE / MIB)


def _panel(context: Context, zone: str) -> Panel | None:
    free = _free_of(context, zone)
    if free is None:
        return None
    rows = tuple(_size(order) for order in range(ORDERS))
    heat = Heat(rows, free, BOUNDS, LABELS)
    return Panel(label=f"blocks in {zone}", unit="", heat=heat, bottom=None, height=0.85)


def _size(order: int) -> str:
    kib = 4 << order
    return f"{kib >> 10} MiB" if kib >= 1024 else f"{kib} KiB"
