"""Who the OOM killer chose, with which badness, and who came next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from capplan.plan.outcome_context import Context
from capplan.plan.outcome_model import Candidate
from capplan.plan.outcome_series import PAGE_SIZE
from capplan.spec.cgroup import ancestry
from capplan.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from capplan.sim.result import Event

KIB = 1024
OOM_SCORE_ADJ_MIN = -1000  # include/uapi/linux/oom.h: never killed
PTES_PER_TABLE = 512  # x86-64: one page of page table maps 512 pages
RUNNERS_UP = 3


def victim(context: Context, event: Event) -> Candidate:
    """The victim as the event describes it."""
    declared = context.processes.get(event.name)
    adj = {} if declared is None else {"oom_score_adj": declared.oom_score_adj}
    return _candidate(event.name, adj | event.detail, "kernel")


def _candidate(name: str, detail: Mapping[str, Any], source: str) -> Candidate:
    rss_kb = sum(int(detail.get(f"{kind}_rss_kb", 0)) for kind in ("anon", "file", "shmem"))
    return Candidate(
        process=name,
        points=int(detail.get("points", 0)),
        oom_score_adj=int(detail.get("oom_score_adj", 0)),
        rss_bytes=rss_kb * KIB,
        swap_bytes=int(detail.get("swap_kb", 0)) * KIB,
        pgtables_bytes=int(detail.get("pgtables_kb", 0)) * KIB,
        source=source,
    )


def runners_up(context: Context, event: Event, domain: str) -> tuple[Candidate, ...]:
    """Those who would have been next: the event's own list, or recomputed from the series."""
    given = event.detail.get("candidates")
    if given:
        found = [_candidate(str(row["name"]), row, "kernel") for row in given]
        found = [c for c in found if c.process != event.name]
    else:
        found = _recomputed(context, event, domain)
    return tuple(sorted(found, key=lambda c: -c.points)[:RUNNERS_UP])


def _recomputed(context: Context, event: Event, domain: str) -> list[Candidate]:
    """Badness (mm/oom_kill.c, oom_badness()) of all others at the last sample before.

    A process's swap is not recorded by itself: its cgroup's, shared out by resident memory.
    Page tables are counted as full. Nobody can have had more than the one who was chosen.
    """
    most = int(event.detail.get("points", 0)) or None
    total_pages = int(event.detail.get("totalpages", 0))
    if not total_pages:
        total_pages = (context.memory + context.swap_total) // PAGE_SIZE
    resident = _resident(context, event, domain)
    per_group: dict[str, float] = {}
    for name, pages in resident.items():
        group = context.processes[name].cgroup
        per_group[group] = per_group.get(group, 0.0) + pages
    found = []
    for name, pages in resident.items():
        process = context.processes[name]
        if name == event.name or process.oom_score_adj == OOM_SCORE_ADJ_MIN:
            continue
        swapped = context.series.before(context.group(process.cgroup).swap, event.t) / PAGE_SIZE
        swap = int(swapped * pages / per_group[process.cgroup])
        tables = -(-(int(pages) + swap) // PTES_PER_TABLE)
        points = int(pages) + swap + tables + process.oom_score_adj * (total_pages // 1000)
        found.append(
            Candidate(
                process=name,
                points=points if most is None else min(points, most),
                oom_score_adj=process.oom_score_adj,
                rss_bytes=int(pages) * PAGE_SIZE,
                swap_bytes=swap * PAGE_SIZE,
                pgtables_bytes=tables * PAGE_SIZE,
                source="series",
            )
        )
    return found


def _resident(context: Context, event: Event, domain: str) -> dict[str, float]:
    """Resident pages of every process of the domain that lives just before the event."""
    found = {}
    last = int(np.searchsorted(context.series.t, event.t, side="left")) - 1
    for name, process in context.processes.items():
        if domain and domain not in ancestry(process.cgroup):
            continue
        pages = context.series.get(f"process.{name}.rss_pages")
        if pages is not None and last >= 0 and pages[last] > 0:  # NaN: it did not live then
            found[name] = float(pages[last])
    return found


def weighed(candidate: Candidate) -> str:
    """A candidate's badness in words: what it is made of."""
    parts = [f"{format_bytes(candidate.rss_bytes)} resident"]
    if candidate.swap_bytes:
        parts.append(f"{format_bytes(candidate.swap_bytes)} in swap")
    if candidate.pgtables_bytes:
        parts.append(f"{format_bytes(candidate.pgtables_bytes)} of page tables")
    about = "about " if candidate.source == "series" else ""
    text = f"{' + '.join(parts)}, oom_score_adj {candidate.oom_score_adj}"
    if not candidate.points:
        return text
    return f"badness {about}{candidate.points:,} pages: {text}"
