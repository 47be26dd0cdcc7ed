"""Each setting of a comparison by itself: its warnings, its first kills, its risks and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from capplan.report import figures_odds, figures_victims, odds_tables
from capplan.report.plates import plate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from capplan.report.plates import Plate

PICTURED = 8  # settings with pictures of their own; the others have the tables


def slug(number: int) -> str:
    """A setting's name in the page."""
    return f"setting-{number}"


def settings(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the page shows of each setting; nothing for another kind of result."""
    if summary["kind"] != "comparison":
        return []
    return [_setting(number, found, summary) for number, found in enumerate(summary["settings"])]


def _setting(number: int, found: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    risk = found.get("risk") or {}
    picked = number == summary.get("pick")
    own = {"gate": risk.get("gate"), **risk}
    return {
        "slug": slug(number),
        "name": found["label"] + (" (the pick)" if picked else ""),
        "error": found.get("error") or "",
        "warnings": found.get("warnings") or (),
        "plates": _plates(slug(number), own) if number < PICTURED else [],
        "tables": odds_tables.of_risk(own) if risk else [],
    }


def _plates(name: str, risk: Mapping[str, Any]) -> list[Plate]:
    if "first_kill" not in risk:
        return []
    drawn = (figures_odds.first_kill(risk), figures_odds.by_container(risk),
             figures_victims.chart(risk))  # fmt: skip
    return [plate(chart, f"{name}-") for chart in drawn if chart is not None]
