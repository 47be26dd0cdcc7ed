"""A recommendation as text, as lines to paste, and as a result directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capplan.plan.intervals import percent
from capplan.report import many
from capplan.report.files import as_json, replace_file, result_folder, write_table
from capplan.report.lines import aligned, wrap
from capplan.report.many_text import interval, section
from capplan.report.results import SUMMARY
from capplan.report.words import clean
from capplan.units import format_bytes, format_k8s

if TYPE_CHECKING:
    from capplan.plan.recommend_model import Advice, Recommendation

__all__ = ["RECOMMENDATION", "recommendation_text", "write_recommendation"]

RECOMMENDATION = "recommendation.json"
COLUMNS = (
    "container", "replicas", "limit_key", "present_limit", "limit", "high", "request", "peak",
    "confidence", "reason",
)  # fmt: skip


def recommendation_text(found: Recommendation) -> str:
    """A recommendation as plain text."""
    lines = wrap(found.verdict)
    rows = [_row(one) for one in found.containers]
    headers = ("", "limit now", "limit", "memory.high", "request", "what it costs and buys")
    lines += section("Containers", aligned(headers, rows))
    lines += section("Beside it", _beside(found))
    lines += section("Node", _node(found))
    pasted = [f"  {key}: {value}" for key, value in found.settings.items()]
    lines += section("To paste into the node file (or --set KEY=VALUE)", pasted)
    lines += section("Notes", [line for note in found.notes for line in wrap(note, "  - ")])
    how = (
        "Each limit is the least at which the risk of a kill, a pause or an eviction stays within "
        f"{percent(found.max_risk)} % ({found.replicates:,} runs, 2 % steps); memory.high the "
        "least that throttles nobody in any run; the request what the container uses at its peak "
        "in half of the runs. Reserve for the system what pods cannot have: kernel, daemons, and "
        "the free memory that kswapd keeps."
    )
    return "\n".join([*lines, *section("How to read this", wrap(how, "  "))]) + "\n"


def _row(one: Advice) -> list[str]:
    name = clean(one.container) + (f" (x {one.replicas})" if one.replicas > 1 else "")
    now = "none" if one.present_limit is None else format_k8s(one.present_limit)
    high = "-" if one.high is None else format_k8s(one.high)
    return [name, now, format_k8s(one.limit), high, format_k8s(one.request), one.reason]


def _beside(found: Recommendation) -> list[str]:
    """The percentile rules, under the same runs."""
    present = "?" if found.present_bytes is None else format_bytes(found.present_bytes)
    rows = [
        ["as it is written", present, interval(found.present_bad)],
        ["capplan", format_bytes(found.total_bytes), interval(found.bad)],
        *([r.name, format_bytes(r.total_bytes), interval(r.bad)] for r in found.rivals),
    ]
    return aligned(("", "limits in all", "runs with an incident"), rows)


def _node(found: Recommendation) -> list[str]:
    reserved = found.reserved
    lines = wrap(
        f"reserve {format_bytes(reserved.total)}: kernel {format_bytes(reserved.kernel)}, daemons "
        f"{format_bytes(reserved.daemons)}, high marks {format_bytes(reserved.high_mark)}",
        "  - ",
    )
    changed = ", ".join(f"{key} = {value}" for key, value in found.sysctl.items())
    told = f"{changed}: {found.sysctl_reason}" if changed else found.sysctl_reason
    return lines + wrap(told, "  - ")


def write_recommendation(
    found: Recommendation,
    directory: Path,
    *,
    command: str = "",
    seed: int,
    resolved: Mapping[str, Any],
) -> None:
    """Write recommendation.json, recommendation.csv and summary.json (last).

    Raises
    ------
    InputError
        When the directory cannot be written.
    """
    plain = found.to_dict()
    content = many.summary("recommendation", plain, command=command, seed=seed, resolved=resolved)
    rows = ([getattr(one, column) for column in COLUMNS] for one in found.containers)
    with result_folder(directory):
        write_table(directory / "recommendation.csv", COLUMNS, rows)
        replace_file(directory / RECOMMENDATION, as_json({"format": 1, **plain}))
        replace_file(directory / SUMMARY, as_json(content))
