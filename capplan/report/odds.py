"""The page of many runs: ``capplan risk``, ``sweep``, ``compare``, ``headroom`` and the like.

Read from ``summary.json`` alone, whose fields docs/results.md lists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from capplan.report import (
    figures_odds,
    figures_room,
    figures_victims,
    html,
    odds_settings,
    page,
    words,
)
from capplan.report.odds_change import change
from capplan.report.odds_methods import fidelity, methods
from capplan.report.odds_tables import report_tables
from capplan.report.plates import plate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from capplan.report.chart import Chart

KINDS = ("risk", "sweep", "comparison", "headroom", "recommendation", "check")
KIND_NAMES = {
    "risk": "Risk over many runs", "sweep": "Sweep of settings",
    "comparison": "Settings compared over many runs", "headroom": "Headroom",
    "recommendation": "Recommended settings", "check": "Gate held against many runs",
}  # fmt: skip
BOTH = {"containers": "Containers", "node": "Node"}
# the sections between what to change and the methods
MIDDLE = {
    "risk": BOTH, "check": {"rules": "The gate's rules", **BOTH}, "recommendation": BOTH,
    "sweep": {"containers": "What the knobs do", "node": "Points"},
    "comparison": {"containers": "Settings", "node": "Each setting"},
    "headroom": {"containers": "Knobs", "node": "How much more"},
}  # fmt: skip
RISK = (
    figures_odds.first_kill, figures_odds.by_container, figures_odds.victims, figures_victims.chart,
)  # fmt: skip
CHARTS = {
    "risk": RISK,
    "check": RISK,
    "sweep": (figures_odds.risk_over_knob, figures_odds.sensitivity, figures_victims.chart),
    "comparison": (figures_odds.usable_against_risk,),
    "headroom": (figures_room.room,),
    "recommendation": (figures_room.rules,),
}


def write(summary: Mapping[str, Any]) -> str:
    """The page as HTML; the same summary gives the same text."""
    name = summary.get("name", "")
    return html.render(
        "odds.html.j2",
        page_title=f"{name}: {summary['kind']}",
        version=str(summary.get("provenance", {}).get("capplan", "")),
        report=report(summary),
    )


def charts(summary: Mapping[str, Any]) -> list[Chart]:
    """Every picture that the kind of result has."""
    made = CHARTS.get(summary["kind"], ())
    return [chart for draw in made if (chart := draw(summary)) is not None]


def report(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows."""
    kind = summary["kind"]
    provenance = summary.get("provenance", {})
    found, plates = report_tables(summary), [plate(chart) for chart in charts(summary)]
    settings = odds_settings.settings(summary)
    filled = {where for where, _, table in found if table.rows}
    filled |= {"containers"} if plates else set()
    filled |= {"node"} if settings else set()
    middle = [(where, name) for where, name in MIDDLE[kind].items() if where in filled]
    return {
        "title": summary.get("name", ""),
        "kind": KIND_NAMES[kind],
        "fits": _fits(summary),
        "verdict": page.verdict_text(str(summary["verdict"])),
        "facts": _facts(summary),
        "sections": [("change", "What to change"), *middle, ("methods", "Methods")],
        "middle": middle,
        "change": change(summary),
        "plates": plates,
        "tables": found,
        "settings": settings,
        "picked": "" if summary.get("pick") is None else odds_settings.slug(summary["pick"]),
        "notes": summary.get("notes") or (),
        "methods": methods(summary),
        "assumptions": summary.get("assumptions") or (),
        "fidelity": fidelity(summary),
        "not_modelled": page.NOT_MODELLED,
        "command": str(provenance.get("command", "")),
        "input": page.input_text(provenance.get("input") or {}),
    }


def _fits(summary: Mapping[str, Any]) -> bool | None:
    """Of a sweep: whether any point fits; None where the runs do not decide it."""
    if summary["kind"] != "sweep":
        found: bool | None = summary.get("fits")
        return found
    if summary.get("fitting"):
        return True
    return False if all(point["fits"] is False for point in summary["points"]) else None


def _facts(summary: Mapping[str, Any]) -> str:
    length = summary.get("duration_s")
    each = f" of {words.time(length)}" if length else ""
    runs = summary.get("runs") if summary["kind"] in ("risk", "check") else None
    if runs:
        text = f"{runs:,} runs{each}, each with other draws"
    elif summary.get("replicates"):
        text = f"{summary['replicates']:,} runs{each} of each setting, with the same draws"
    else:
        text = "Many runs, each with other draws"
    return f"{text}. An interval holds the probability 95 times in 100."
