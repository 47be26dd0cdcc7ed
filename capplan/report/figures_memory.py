"""Who held the node's memory, when, against the zones' marks.

Stacked by owner: kernel and daemons below, then the containers that held most, the others
together, page cache, free memory on top.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from capplan.plan.outcome_context import Context
from capplan.plan.outcome_series import PAGE_SIZE, Array
from capplan.report import words
from capplan.report.chart import Chart, Curve, Panel, Rule, marks, unit
from capplan.report.palette import OWNERS
from capplan.units import format_bytes

if TYPE_CHECKING:
    from capplan.plan.outcome_model import Outcome

KIB = 1024
VISIBLE = 1e-3  # of the node's memory: less is no band
MARK_STYLES = {"min": "-", "low": "--", "high": ":"}


def chart(outcome: Outcome, context: Context) -> Chart:
    """The node's memory over time."""
    return Chart(
        slug="memory",
        title=title(outcome, context),
        alt=_alt(outcome, context),
        x=context.series.t,
        panels=(panel(outcome, context),),
        marks=marks(outcome, context),
        wide=True,
        note=(
            "What is free hangs from the top: where its lower edge crosses a mark, kswapd wakes "
            "(low) or tasks reclaim for themselves (min)."
        ),
    )


def panel(outcome: Outcome, context: Context) -> Panel:
    """The stack with its marks."""
    scale, name = unit(outcome.node.memory_bytes)
    bands = tuple(
        Curve(band.label, band.values / scale, band.colour, "band") for band in bands_of(context)
    )
    return Panel(
        label="memory of the node",
        unit=name,
        curves=bands,
        rules=_rules(outcome, scale),
        top=context.memory / scale,
        height=1.5,
    )


def _rules(outcome: Outcome, scale: int) -> tuple[Rule, ...]:
    """Min, low and high, measured downwards from the top: free memory hangs there."""
    rules = []
    for name, style in MARK_STYLES.items():
        size = sum(getattr(zone, f"{name}_bytes") for zone in outcome.node.zones)
        if size:
            level = (outcome.node.memory_bytes - size) / scale
            rules.append(Rule(f"free = {name} marks ({format_bytes(size)})", level, style))
    return tuple(rules)


def title(outcome: Outcome, context: Context) -> str:
    """What the stack shows: how near the node came to its end, and who held most."""
    node = outcome.node
    breaking = [i for i in outcome.incidents if i.breaks]
    short = next((i for i in breaking if "the node is out of memory" in i.title), None)
    if short is not None:
        return f"The node runs out of memory at {words.time(short.t)}"
    most = _most(context)
    held = f"; {most[0]} holds most, up to {format_bytes(most[1])}" if most else ""
    if node.lowest_available_bytes is None or node.lowest_available_t is None:
        return f"{format_bytes(node.memory_bytes)} of memory by owner{held}"
    least = format_bytes(node.lowest_available_bytes)
    return f"At least {least} of {format_bytes(node.memory_bytes)} stays available{held}"


def _most(context: Context) -> tuple[str, float] | None:
    held = {name: float(values.max()) for name, values in owners(context).items()}
    return max(held.items(), key=lambda item: item[1]) if held else None


def _alt(outcome: Outcome, context: Context) -> str:
    """The bands' peaks in words."""
    peaks = [f"{b.label} {format_bytes(float(b.values.max()))}" for b in bands_of(context)]
    return f"{title(outcome, context)}. Peaks by owner, from the bottom: {', '.join(peaks)}."


# --- the stack ---------------------------------------------------------------------------


def bands_of(context: Context) -> list[Curve]:
    """The bands from bottom to top [bytes]; they add up to the node's memory."""
    series = context.series
    zero = np.zeros(series.t.size)

    def kib(name: str) -> Array:
        found = series.get(f"meminfo_kb.{name}")
        return zero if found is None else np.nan_to_num(found) * KIB

    free, total = kib("MemFree"), np.full(series.t.size, float(context.memory))
    cache = kib("Active(file)") + kib("Inactive(file)")
    owned = [(name, held) for name, held in owners(context).items() if held.any()]
    owned.sort(key=lambda item: (-float(item[1].max()), item[0]))
    inside = np.sum([held for _, held in owned], axis=0) if owned else zero
    anon = kib("Active(anon)") + kib("Inactive(anon)") + kib("Unevictable")
    daemons = np.clip(anon - inside, 0.0, None)
    pcp = series.get("pcp.pages")
    lists = zero if pcp is None else np.nan_to_num(pcp) * PAGE_SIZE
    zswap, zram = kib("Zswap"), series.get("zram.mem_used_total")
    zram = zero if zram is None else np.nan_to_num(zram)
    kernel = np.clip(total - free - lists - zswap - zram - cache - inside - daemons, 0.0, None)
    made = [_band("kernel", kernel, "kernel"), _band("daemons", daemons, "daemons")]
    made += [_band("zswap pool", zswap, "brown"), _band("zram pool", zram, "brown")]
    top = len(OWNERS)
    made += [_band(name, held, OWNERS[i]) for i, (name, held) in enumerate(owned[:top])]
    rest = [held for _, held in owned[top:]]
    if rest:
        made.append(_band(f"{len(rest)} more containers", np.sum(rest, axis=0), "others"))
    made.append(_band("page cache", cache, "yellow"))
    made += [_band("free, on per-cpu lists", lists, "lists"), _band("free", free, "free")]
    return [band for band in made if band.values.max() > VISIBLE * context.memory]


def _band(label: str, values: Array, colour: str) -> Curve:
    return Curve(words.clean(label), values, colour, "band")


def owners(context: Context) -> dict[str, Array]:
    """Anonymous and shared memory of each container [bytes]; its page cache is drawn as cache."""
    found: dict[str, Array] = {}
    for name, path in context.container_cgroup.items():
        group = context.group(path)
        parts = [p for p in (group.anon, group.shmem) if p is not None]
        if not parts or context.sharing[path] > 1:
            rows = context.totals[name]
            rss = context.series.total(*(f"process.{row.process}.rss_pages" for row in rows))
            parts = [] if rss is None else [rss * PAGE_SIZE]
        if parts:
            found[name] = np.asarray(np.nan_to_num(np.nansum(parts, axis=0)))
    return found
