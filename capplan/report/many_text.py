"""Risks and sweeps as text: the verdict first, tables of plain aligned columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from capplan.plan.intervals import Proportion, percent
from capplan.report.lines import aligned, wrap
from capplan.report.words import clean
from capplan.units import format_bytes, format_duration

if TYPE_CHECKING:
    from capplan.plan.reach import Reach
    from capplan.plan.risk import ContainerRisk, Risk
    from capplan.plan.tally import Spread

__all__ = ["interval", "risk_text", "section"]

NS_PER_S = 1_000_000_000
DEFAULT_TOP = 20
WATCHED = ("kill", "pause", "throttle", "evict")


def section(title: str, lines: Sequence[str]) -> list[str]:
    """A titled block, or nothing where there is nothing to say."""
    return ["", title, *lines] if lines else []


def interval(found: Proportion) -> str:
    """A probability and its interval: ``2.3 % (1.5-3.4)``; ``-`` where nothing happened."""
    if found.p is None:
        return "unknown"
    low, high = percent(found.low), percent(found.high)
    return f"0 % (<{high})" if found.count == 0 else f"{percent(found.p)} % ({low}-{high})"


def risk_text(risk: Risk, top: int = DEFAULT_TOP) -> str:
    """A risk run as plain text."""
    lines = [*wrap(risk.verdict), ""]
    lines += [f"Risk within {format_duration(risk.duration_s * NS_PER_S)} (95 % interval)"]
    node = ["the node", *(interval(risk.node[what]) for what in WATCHED)]
    rows = [node, *(_of_container(c) for c in risk.containers[:top])]
    lines += aligned(("", "OOM kill", "pause (v1)", "throttle", "eviction"), rows)
    if len(risk.containers) > top:
        lines += [f"  ... {len(risk.containers) - top} more in risks.csv"]
    lines += section("First OOM kill", _first_kill(risk))
    lines += section("Who is killed", _victims(risk, top))
    lines += section("In which order", _orders(risk))
    lines += section("Node over all runs (5 %, median, 95 %)", _spreads(risk))
    lines += section("How far the data reach", list(_reach(risk.reach)))
    notes = [*risk.notes, f"runs without any incident: {interval(risk.fitting)}"]
    lines += section("Notes", [line for note in notes for line in wrap(note, "  - ")])
    if risk.assumptions:
        assumed = [line for text in risk.assumptions for line in wrap(text, "  - ")]
        lines += section("Assumptions", assumed)
    return "\n".join(lines) + "\n"


def _of_container(c: ContainerRisk) -> list[str]:
    name = c.name if c.replicas == 1 else f"{c.name} (any of {c.replicas})"
    return [clean(name), *(interval(c.risks[what]) for what in WATCHED)]


def _first_kill(risk: Risk) -> list[str]:
    times = risk.first_kill_t
    if times is None:
        return []
    early, _, middle, _, late = (format_duration(q * NS_PER_S) for q in times.quantiles)
    first = format_duration(times.min * NS_PER_S)
    text = f"in {times.runs:,} runs: earliest {first}, 5 % by {early}, half by {middle}, "
    return wrap(text + f"95 % by {late}", "  ")


def _victims(risk: Risk, top: int) -> list[str]:
    rows = [
        [
            clean(v.container),
            f"{v.runs:,}",
            f"{v.first:,}",
            f"{v.kills:,}",
            f"{v.memcg:,}",
            f"{v.on_node:,}",
        ]
        for v in risk.victims[:top]
    ]
    headers = ("container", "runs", "first", "kills", "at its limit", "node-wide")
    return aligned(headers, rows) if rows else []


def _orders(risk: Risk) -> list[str]:
    shown = [(order, count) for order, count in risk.orders[:5] if ">" in order]
    return (
        aligned(
            ("order", "runs"),
            [[clean(order.replace(">", " > ")), f"{count:,}"] for order, count in shown],
        )
        if shown
        else []
    )


def _spreads(risk: Risk) -> list[str]:
    shown = {
        "available_min": ("lowest MemAvailable", format_bytes),
        "headroom_min": ("least headroom under a limit", format_bytes),
        "swap_peak": ("most swap in use", format_bytes),
        "kswapd_cpu_share": ("kswapd, share of a CPU", _share),
        "direct_stalls": ("allocation stalls", _count),
        "psi_some": ("PSI memory some", _share),
        "order9_min": ("fewest free blocks of 2 MiB", _count),
    }
    rows = []
    for metric, (words, form) in shown.items():
        found = risk.spread.get(metric)
        if found is not None:
            rows.append([words, *(form(q) for q in _three(found))])
    return aligned(("", "5 %", "median", "95 %"), rows) if rows else []


def _three(found: Spread) -> Iterable[float]:
    low, _, middle, _, high = found.quantiles
    return low, middle, high


def _share(value: float) -> str:
    return f"{percent(value)} %"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _reach(found: Sequence[Reach]) -> Iterable[str]:
    """Containers of which the same is to be said, together."""
    by_statement: dict[str, list[str]] = {}
    for one in found:
        by_statement.setdefault(one.statement, []).append(one.container)
    for statement, names in by_statement.items():
        who = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        yield from wrap(f"{who}: {statement}", "  - ")
