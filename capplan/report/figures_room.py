"""Pictures of headroom and recommendations: how far knobs go, what limits cost against the risk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from capplan.report import words
from capplan.report.chart import Bar, Chart, Dot, Panel
from capplan.report.figures_odds import SHOWN, bars, chance, number
from capplan.units import GIB, MIB, format_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS = {
    "memory": "daemons, memory",
    "leak": "leak, time",
    "replicas": "replicas",
    "limit": "limit",
}


def room(summary: Mapping[str, Any]) -> Chart | None:
    """How far each knob may be turned, as a share of where it stands; None where none may."""
    found = []
    for one in summary.get("rooms") or []:
        now, value = number(one.get("present")), number(one.get("value"))
        if now and value is not None and value != now:
            who = f"{one.get('container') or 'node'}: {KINDS.get(one['kind'], one['kind'])}"
            found.append((100 * abs(value - now) / now, who, "up" if value > now else "down"))
    if not found:
        return None
    found.sort(key=lambda each: (-each[0], each[1]))
    share, who, turned = found[0]
    title = f"Most room: {who}, {words.percent(share / 100)} {turned}, the others as they are"
    rows = [Bar(name, percent, 0.0, 0.0) for percent, name, _ in found[:SHOWN]]
    return bars("room", title, "room by itself, of its present value [%]", rows)


def rules(summary: Mapping[str, Any]) -> Chart | None:
    """One dot for each way to set the limits: what they take in all, against the risk."""
    found = [
        ("recommended", summary.get("total_bytes"), summary.get("bad")),
        ("as it is now", summary.get("present_bytes"), summary.get("present_bad")),
        *((r["name"], r.get("total_bytes"), r.get("bad")) for r in summary.get("rivals") or []),
    ]
    rows = [(n, t, b) for n, t, b in found if t and b and b.get("p") is not None]
    if len(rows) < 2 or rows[0][0] != "recommended":
        return None
    scale, unit = (GIB, "GiB") if max(t for _, t, _ in rows) >= 4 * GIB else (MIB, "MiB")
    dots = [
        Dot(n, t / scale, 100 * b["p"], 100 * b["low"], 100 * b["high"], n == "recommended")
        for n, t, b in rows
    ]
    sizes = [dot.x for dot in dots]
    span = max(max(sizes) - min(sizes), 0.02 * max(sizes))
    top = 1.15 * max(5.0, *(dot.high for dot in dots))
    said = "; ".join(f"{n}: {format_bytes(t)}, {chance(b)}" for n, t, b in rows)
    title = f"{format_bytes(rows[0][1])} of limits bear a risk of {chance(rows[0][2])}"
    return Chart(
        "rules", title, f"{title}. {said}.",
        np.array([min(sizes) - 0.12 * span, max(sizes) + 0.5 * span]),
        (Panel("runs with an incident", "%", dots=tuple(dots), bottom=-0.04 * top, top=top),),
        wide=True, xlabel=f"all limits together [{unit}]", time=False,
        note="The filled diamond is what is recommended; lines are 95 % intervals.",
    )  # fmt: skip
