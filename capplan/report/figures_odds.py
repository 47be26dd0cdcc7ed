"""Pictures of many runs: when the first kill comes, who is hit, what a knob does to the risk.

Everything is read from a summary of ``capplan risk``, ``sweep`` or ``compare`` (docs/results.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from capplan.plan.metrics import NODE_METRICS
from capplan.report import words
from capplan.report.chart import Band, Bar, Chart, Curve, Dot, Panel, Rule
from capplan.units import GIB, MIB, format_bytes, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SHOWN = 15  # bars; the table has the rest
VERBS = {
    "kill": "killed", "pause": "paused", "throttle": "throttled", "evict": "evicted",
    "unfinished": "unfinished",
}  # fmt: skip
RISKS = {f"P({incident})": f"the risk of being {verb}" for incident, verb in VERBS.items()}
Summary = dict[str, Any]


def chance(found: Mapping[str, Any]) -> str:
    """A proportion and its interval in words."""
    if found.get("p") is None:
        return "unknown"
    low, high = words.percent(found["low"]).removesuffix(" %"), words.percent(found["high"])
    return f"{words.percent(found['p'])} ({low} to {high})"


# --- risk --------------------------------------------------------------------------------


def first_kill(summary: Mapping[str, Any]) -> Chart | None:
    """The share of runs with a kill by each moment; None where nobody is ever killed."""
    steps = summary.get("first_kill") or []
    if len(steps) < 2 or not any(step[1] for step in steps):
        return None
    table = np.array([[step[0], *step[2:5]] for step in steps], dtype=np.float64)
    t, share, low, high = table.T
    if t[0] > 0:
        t, share, low, high = (np.concatenate(([0.0], row)) for row in (t, share, low, high))
    last = summary["node"]["kill"]
    half = int(np.argmax(share >= 0.5 * share[-1]))
    text = (
        f"A kill by the end of {chance(last)} of the runs; half of these kills have come by "
        f"{words.time(float(t[half]))}"
    )
    panel = Panel(
        "runs with a kill so far", "%", (Curve("share of runs", 100 * share, "alarm"),),
        bands=(Band("95 % interval", 100 * low, 100 * high, "red"),),
        rules=_gate(summary, "kill"), top=min(105.0, max(5.0, 112 * float(high.max()))),
    )  # fmt: skip
    return Chart("first-kill", text, f"{text}.", t, (panel,), wide=True)


def _gate(summary: Mapping[str, Any], incident: str) -> tuple[Rule, ...]:
    bar = (summary.get("gate") or {}).get(incident)
    if bar is None:
        return ()
    return (Rule(f"allowed: {words.percent(bar)}", 100 * bar, "--", "ink"),)


def by_container(summary: Mapping[str, Any]) -> Chart | None:
    """The likeliest incident's risk of each container, the riskiest first."""
    containers = summary.get("containers") or []
    totals = {w: sum(c["risks"].get(w, {}).get("p") or 0.0 for c in containers) for w in VERBS}
    incident = max(totals, key=lambda w: totals[w], default="kill")
    if not totals.get(incident):
        return None
    found = sorted(containers, key=lambda c: (-(c["risks"][incident]["p"] or 0.0), c["name"]))
    rows = [(c["name"], c["risks"][incident]) for c in found[:SHOWN]]
    verb = VERBS[incident]
    title = f"{rows[0][0]} is most often {verb}: in {chance(rows[0][1])} of the runs"
    return bars(
        "by-container", title, f"runs in which it is {verb} [%]",
        [Bar(n, 100 * r["p"], 100 * r["low"], 100 * r["high"]) for n, r in rows if r["p"]],
        _gate(summary, incident),
    )  # fmt: skip


def victims(summary: Mapping[str, Any]) -> Chart | None:
    """Who dies first, of all runs."""
    found = [v for v in summary.get("victims") or [] if v["first"]]
    if not found:
        return None
    found.sort(key=lambda v: (-v["first"], v["container"]))
    runs = max(int(summary["runs"]), 1)
    first = found[0]
    title = f"{first['container']} dies first in {words.percent(first['first'] / runs)} of the runs"
    if len(found) > 1:
        title += f", {found[1]['container']} in {words.percent(found[1]['first'] / runs)}"
    rows = [Bar(v["container"], 100 * v["first"] / runs, 0.0, 0.0, "orange") for v in found[:SHOWN]]
    return bars("victims", title, "runs in which it is killed first [%]", rows)


def bars(
    slug: str, title: str, xlabel: str, rows: Sequence[Bar], rules: tuple[Rule, ...] = ()
) -> Chart:
    """A picture of bars with names."""
    top = max([*(max(bar.high, bar.value) for bar in rows), *(rule.level for rule in rules), 1e-9])
    said = ", ".join(f"{bar.label} {bar.value:.3g}" for bar in rows)
    return Chart(
        slug, title, f"{title}. {xlabel}: {said}.", np.array([0.0, 1.08 * top]),
        (Panel("", "", bars=tuple(rows), rules=rules),), xlabel=xlabel, time=False,
    )  # fmt: skip


# --- sweep -------------------------------------------------------------------------------


def risk_over_knob(summary: Mapping[str, Any]) -> Chart | None:
    """Kill risk over the only knob, with its interval; None where several knobs turn."""
    knobs = summary.get("knobs") or []
    if len(knobs) != 1:
        return None
    key = str(knobs[0]["key"])
    rows = sorted(
        (value, point["risks"]["kill"])
        for point in summary.get("points") or []
        if (value := number(point["settings"].get(key))) is not None
        and (point.get("risks") or {}).get("kill", {}).get("p") is not None
    )
    if len({value for value, _ in rows}) < 2:
        return None
    scale, name = _scale(key, max(value for value, _ in rows))
    x = np.array([value / scale for value, _ in rows])
    p, low, high = (np.array([100 * r[what] for _, r in rows]) for what in ("p", "low", "high"))
    panel = Panel(
        "risk of a kill", "%", (Curve("share of runs with a kill", p, "alarm"),),
        bands=(Band("95 % interval", low, high, "red"),), rules=_gate(summary, "kill"),
        top=min(105.0, max(5.0, 1.12 * float(high.max()))),
    )  # fmt: skip
    text = _knee(key, rows, summary)
    return Chart(
        "knob", text, f"{text}.", x, (panel,), wide=True, xlabel=f"{key}{name}", time=False
    )


def _knee(key: str, rows: list[tuple[float, Any]], summary: Mapping[str, Any]) -> str:
    """From which value on the risk is within the gate."""
    bar = (summary.get("gate") or {}).get("kill", 0.0)
    within = _from_on(rows, lambda risk: risk["high"] <= bar)
    if within is not None:
        return f"The risk of a kill is within the gate from {key} = {_shown(key, within)} on"
    never = _from_on(rows, lambda risk: not risk["count"])
    if never is not None:
        runs = rows[-1][1]["runs"]
        return f"From {key} = {_shown(key, never)} on nobody is killed in {runs} runs of each value"
    (first, a), (last, b) = rows[0], rows[-1]
    return (
        f"From {key} = {_shown(key, first)} to {_shown(key, last)} the risk of a kill goes from "
        f"{words.percent(a['p'])} to {words.percent(b['p'])}"
    )


def _from_on(
    rows: list[tuple[float, Any]], holds: Callable[[Mapping[str, Any]], bool]
) -> float | None:
    """The lowest value from which on something holds at every value."""
    found = None
    for value, risk in reversed(rows):
        if not holds(risk):
            break
        found = value
    return found


def number(value: Any) -> float | None:
    """A setting's value as a number: sizes in bytes."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value)
    try:
        return float(parse_size(str(value)))
    except ValueError:
        return None


def _sized(key: str, value: float) -> bool:
    return "memory" in key and value >= MIB


def _shown(key: str, value: float) -> str:
    return format_bytes(value) if _sized(key, value) else f"{value:g}"


def _scale(key: str, top: float) -> tuple[int, str]:
    if not _sized(key, top):
        return 1, ""
    return (GIB, " [GiB]") if top >= 4 * GIB else (MIB, " [MiB]")


def sensitivity(summary: Mapping[str, Any]) -> Chart | None:
    """Which knob moves the outcome: share of its variance."""
    found = [s for s in summary.get("sensitivity") or [] if s.get("first") is not None]
    if len({s["knob"] for s in found}) < 2:
        return None  # of one knob it is all of what is varied
    of = found[0]["of"]
    rows = [
        Bar(s["knob"], s["first"], s.get("first_low") or 0.0, s.get("first_high") or 0.0)
        for s in found
        if s["of"] == of
    ][:SHOWN]
    first, *others = rows
    name = RISKS.get(of) or NODE_METRICS.get(of, of).partition(" [")[0]
    share = words.percent(max(first.value, 0.0))
    title = f"{first.label} decides most: {share} of {name} by itself"
    rival = max(others, key=lambda bar: bar.high, default=first)
    if first.low < rival.high:
        title = f"{first.label} may decide most ({share} of {name}), {rival.label} as well"
    return bars("sensitivity", title, "share of the variance, each knob by itself", rows)


# --- compare -----------------------------------------------------------------------------


def usable_against_risk(summary: Mapping[str, Any]) -> Chart | None:
    """One dot for each setting: memory left to use, against the risk and against stalls."""
    rows = [s for s in summary.get("settings") or [] if s.get("risk") and s.get("marks")]
    if len(rows) < 2:
        return None
    pick = summary.get("pick")
    usable = [s["marks"]["low_memory"] - s["marks"]["high"] for s in rows]
    scale, name = (GIB, "GiB") if max(usable) >= 4 * GIB else (MIB, "MiB")
    risks = [_worst(s["risk"]["node"]) for s in rows]
    called = labels([str(s["label"]) for s in rows])
    dots = [
        Dot(called[s["label"]], u / scale, 100 * (r["p"] or 0.0), 100 * r["low"], 100 * r["high"],
            summary["settings"].index(s) == pick)
        for s, u, r in zip(rows, usable, risks)
    ]  # fmt: skip
    top = 1.15 * max(5.0, *(dot.high for dot in dots))
    stalls = [_mean(s["risk"], "direct_stalls") for s in rows]
    panels = [
        Panel("kill, pause or throttle", "%", dots=tuple(dots), bottom=-0.04 * top, top=top),
    ]
    if all(stall is not None for stall in stalls):
        lower = [
            Dot(d.label, d.x, float(s or 0.0), float(s or 0.0), float(s or 0.0), d.picked)
            for d, s in zip(dots, stalls)
        ]
        panels.append(Panel("direct reclaims", "per run", dots=tuple(lower), bottom=None))
    text = _picked(summary, rows, usable, risks)
    span = max(max(usable) - min(usable), 0.02 * max(usable))
    ends = np.array([min(usable) - 0.12 * span, max(usable) + 0.3 * span]) / scale
    return Chart(
        "settings", text, _settings_alt(text, rows, usable, risks), ends, tuple(panels), wide=True,
        xlabel=f"memory above the high marks [{name}]", time=False,
        note="A filled diamond is the setting to take; lines are 95 % intervals.",
    )  # fmt: skip


def labels(found: list[str]) -> dict[str, str]:
    """Labels as they stand beside dots: without the key that all of them have."""
    keys = {label.partition("=")[0] for label in found if "=" in label}
    alone = len(keys) == 1 and all(label.count("=") == 1 for label in found)
    return {label: label.partition("=")[2] if alone else label for label in found}


def _worst(node: Mapping[str, Any]) -> Mapping[str, Any]:
    found = [node[w] for w in ("kill", "pause", "throttle") if w in node]
    worst: Mapping[str, Any] = max(found, key=lambda r: r["p"] or 0.0)
    return worst


def _mean(risk: Mapping[str, Any], metric: str) -> float | None:
    found = (risk.get("spread") or {}).get(metric)
    return None if not found else found.get("mean")


def _picked(
    summary: Mapping[str, Any], rows: list[Summary], usable: list[int], risks: list[Any]
) -> str:
    pick = summary.get("pick")
    for s, size, risk in zip(rows, usable, risks):
        if pick is not None and summary["settings"].index(s) == pick:
            return f"{s['label']} leaves {format_bytes(size)} to use at a risk of {chance(risk)}"
    return "No setting brings the risk within the gate"


def _settings_alt(text: str, rows: list[Summary], usable: list[int], risks: list[Any]) -> str:
    said = "; ".join(
        f"{s['label']}: {format_bytes(u)}, {chance(r)}" for s, u, r in zip(rows, usable, risks)
    )
    return f"{text}. {said}."
