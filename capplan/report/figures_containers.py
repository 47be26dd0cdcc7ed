"""Each container's usage against its limits, with what befell it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from capplan.plan.outcome_context import Context
from capplan.report import words
from capplan.report.chart import Chart, Curve, Panel, Stretch, marks, unit
from capplan.units import format_bytes

if TYPE_CHECKING:
    from capplan.plan.outcome_model import ContainerOutcome, Outcome

SHOWN = 6  # the rest is in the table
SWAP_SHARE = 0.02  # of the peak: less in swap is no curve


def charts(outcome: Outcome, context: Context, shown: int = SHOWN) -> list[Chart]:
    """One for each of the containers at most risk whose usage was recorded."""
    found = []
    for number, container in enumerate(words.by_risk(outcome.containers)[:shown]):
        panel = panel_of(context, container.cgroup, (container,))
        if panel is not None:
            found.append(
                Chart(
                    slug=f"container-{number}", title=title(container), alt=_alt(container),
                    x=context.series.t, panels=(panel,),
                    marks=marks(outcome, context, container.name),
                )
            )  # fmt: skip
    return found


def title(c: ContainerOutcome) -> str:
    """What became of it, the worst first."""
    limit = f"{c.limit_key} of {words.size(c.limit_bytes)}"
    if c.killed:
        return f"{c.name} is OOM-killed {words.times(c.killed)}"
    if c.paused:
        return f"{c.name} is paused at its {limit}: {words.paused(c)}"
    if c.evicted:
        return f"{c.name} is evicted {words.times(c.evicted)}"
    if c.throttle_s:
        share = words.percent(c.throttle_share)
        return f"{c.name} sleeps {share} of its time above memory.high"
    peak = words.size(c.peak_bytes)
    if c.headroom_bytes is None or c.headroom_share is None:
        return f"{c.name} peaks at {peak}; no limit holds it"
    own = "its" if c.limit_cgroup == c.cgroup else f"{c.limit_cgroup}'s"
    left = f"{format_bytes(c.headroom_bytes)} ({words.percent(c.headroom_share)})"
    return f"{c.name} keeps {left} below {own} {limit}"


def _alt(c: ContainerOutcome) -> str:
    when = "" if c.peak_t is None else f" at {words.time(c.peak_t)}"
    text = f"{title(c)}. Usage peaks at {words.size(c.peak_bytes)}{when}"
    if c.peak_cache_bytes:
        text += f", {format_bytes(c.peak_cache_bytes)} of it page cache"
    return f"{text}."


def panel_of(
    context: Context, path: str, containers: tuple[ContainerOutcome, ...] = ()
) -> Panel | None:
    """Usage of one cgroup against its limits; None when it was not recorded."""
    group = context.group(path)
    if group.usage is None:
        return None
    usage = np.nan_to_num(group.usage)
    limits = {key: context.limit_series(path, key) for key in (context.limit_key, "memory.high")}
    set_ = {key: values for key, values in limits.items() if np.isfinite(values).any()}
    peak = float(usage.max())
    ends = [float(values[np.isfinite(values)].max()) for values in set_.values()]
    # a limit far above what is used would press the usage to the ground
    shown = [end for end in ends if end <= 4 * peak]
    highest = max([peak, *shown, 1.0])
    scale, name = unit(highest)
    cache = np.zeros_like(usage) if group.cache is None else np.nan_to_num(group.cache)
    kept = np.maximum(usage - cache, 0.0)
    curves = [
        Curve("used, without page cache", kept / scale, "blue", "band"),
        Curve("its page cache", (usage - kept) / scale, "yellow", "band"),
    ]
    for (key, values), style in zip(set_.items(), ("-", "--")):
        level = np.where(np.isfinite(values), values, np.nan) / scale
        label = f"{key} ({format_bytes(float(values[np.isfinite(values)][-1]))})"
        if float(np.nanmin(level)) * scale > 4 * peak:
            label += ", above the picture"
        curves.append(Curve(label, level, "ink", "step", style))
    swap = group.swap
    if swap is not None and np.nanmax(swap) > SWAP_SHARE * peak:
        curves.append(Curve("in swap, besides", np.nan_to_num(swap) / scale, "red", "line", "-."))
        highest = max(highest, float(np.nanmax(swap)))
    return Panel(
        label="memory", unit=name, curves=tuple(curves), stretches=_stretches(containers),
        top=1.06 * highest / scale,
    )  # fmt: skip


def _stretches(containers: tuple[ContainerOutcome, ...]) -> tuple[Stretch, ...]:
    found = []
    for c in containers:
        found += [Stretch("throttled", s.begin, s.end, "red", "///") for s in c.throttled]
        found += [Stretch("paused", s.begin, s.end, "alarm", "xx") for s in c.paused]
    return tuple(found)
