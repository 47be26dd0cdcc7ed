"""memory.png: the node's memory by owner; below it the limit that was met first, and swap."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from capplan.plan.outcome_context import Context
from capplan.report import draw, figures_containers, figures_memory, figures_swap

if TYPE_CHECKING:
    from capplan.plan.outcome_model import Outcome
    from capplan.report.chart import Chart
    from capplan.sim.result import Run


def png(outcome: Outcome, run: Run) -> bytes:
    """The picture as PNG; the same run gives the same bytes."""
    return draw.save(chart(outcome, run), "png")


def chart(outcome: Outcome, run: Run) -> Chart:
    """The picture; its title is the verdict's first clause."""
    context = Context(run)
    memory = figures_memory.chart(outcome, context)
    panels = [*memory.panels]
    tight = _tightest(outcome, context)
    limit = figures_containers.panel_of(context, tight) if tight else None
    if limit is not None:
        panels.append(replace(limit, label=f"{context.called(tight)} at its limit", height=0.8))
    used = figures_swap.used_swap(context)
    if used is not None:
        panels.append(replace(figures_swap.stock(context, used), height=0.6))
    return replace(memory, title=_title(outcome), panels=tuple(panels))


def _title(outcome: Outcome) -> str:
    finding = outcome.verdict.split("; ")[0].rstrip(".")
    return f"{outcome.name}: {finding[0].lower()}{finding[1:]}"


def _tightest(outcome: Outcome, context: Context) -> str:
    """The cgroup whose limit the first incident met; "" when none did."""
    for incident in outcome.incidents:
        keys = ("memory.high",) if incident.kind == "throttled" else (context.limit_key,)
        if not incident.breaks or incident.kind not in ("oom_kill", "paused", "throttled"):
            continue
        group = next((g for k in keys if (g := context.limiting(incident.cgroup, k))), None)
        if group and context.group(group).usage is not None:
            return group
    return ""
