"""The page of many runs: ``capplan risk``, ``sweep``, ``compare`` and ``headroom``.

Read from ``summary.json`` alone, whose fields docs/results.md lists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from capplan.plan.metrics import NODE_METRICS
from capplan.report import figures_odds, html, page, words
from capplan.report.figures_odds import chance
from capplan.report.plates import plate
from capplan.report.tables import Cell, Column, Table
from capplan.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from capplan.report.chart import Chart

KINDS = ("risk", "sweep", "comparison", "headroom", "recommendation")
KIND_NAMES = {
    "risk": "Risk over many runs", "sweep": "Sweep of settings",
    "comparison": "Settings compared over many runs", "headroom": "Headroom",
    "recommendation": "Recommended settings",
}  # fmt: skip
INCIDENTS = ("kill", "pause", "throttle", "evict", "unfinished")
SHARES = ("share", "psi_some", "psi_full")
BYTES = (
    "_min", "reclaimed", "swap_in", "swap_out", "swap_peak", "zswap_peak", "refaults", "peak",
    "headroom",
)  # fmt: skip
COUNTS = ("order9_min",)
# what the two middle sections are called
TITLES = {
    "risk": ("Containers", "Node"), "sweep": ("What the knobs do", "Points"),
    "comparison": ("Settings", "Figures"), "headroom": ("Knobs", "How much more"),
    "recommendation": ("Containers", "Node"),
}  # fmt: skip
Summary = dict[str, Any]
MATRIX = 12  # rows and columns of "who dies when who grows"; the commonest come first


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
    made = {
        "risk": (figures_odds.first_kill, figures_odds.by_container, figures_odds.victims),
        "sweep": (figures_odds.risk_over_knob, figures_odds.sensitivity),
        "comparison": (figures_odds.usable_against_risk,),
        "headroom": (),
        "recommendation": (),
    }[summary["kind"]]
    return [chart for draw in made if (chart := draw(summary)) is not None]


def report(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows."""
    kind = summary["kind"]
    provenance = summary.get("provenance", {})
    found, plates = report_tables(summary), [plate(chart) for chart in charts(summary)]
    filled = {where for where, _, table in found if table.rows} | (
        {"containers"} if plates else set()
    )
    middle = [s for s in zip(("containers", "node"), TITLES[kind]) if s[0] in filled]
    return {
        "title": summary.get("name", ""),
        "kind": KIND_NAMES[kind],
        "fits": summary.get("fits"),
        "verdict": page.verdict_text(str(summary["verdict"])),
        "facts": _facts(summary),
        "sections": [("change", "What to change"), *middle, ("methods", "Methods")],
        "middle": middle,
        "change": change(summary),
        "plates": plates,
        "tables": found,
        "notes": summary.get("notes") or (),
        "methods": _methods(summary),
        "assumptions": summary.get("assumptions") or (),
        "fidelity": (),
        "not_modelled": page.NOT_MODELLED,
        "command": str(provenance.get("command", "")),
        "input": "",
    }


def report_tables(summary: Mapping[str, Any]) -> list[tuple[str, str, Table]]:
    """The tables of a kind: section, what is searched for, table."""
    made = {
        "risk": _risk, "sweep": _sweep, "comparison": _compare, "headroom": _headroom,
        "recommendation": _recommendation,
    }  # fmt: skip
    return made[summary["kind"]](summary)


def _facts(summary: Mapping[str, Any]) -> str:
    parts = []
    if summary.get("runs"):
        parts.append(f"{summary['runs']:,} runs")
    elif summary.get("replicates"):
        parts.append(f"{summary['replicates']:,} runs of each setting, with the same draws")
    if summary.get("duration_s"):
        parts.append(f"of {words.time(summary['duration_s'])} each")
    parts.append("intervals hold the probability 95 times in 100")
    return ", ".join(parts) + "."


def change(summary: Mapping[str, Any]) -> dict[str, str]:
    """The pick's settings, where the result picks one; else which command finds some."""
    pick, settings = summary.get("pick"), summary.get("settings")
    if summary["kind"] == "comparison" and pick is not None and isinstance(settings, list):
        chosen = {k: str(v) for k, v in settings[pick]["settings"].items()}
        label = settings[pick]["label"]
        take = f"Take {label}:" if summary.get("fits") else f"Nothing fits; the best is {label}:"
        return {"text": take, "yaml": page.node_file_lines(chosen)}
    if summary["kind"] == "recommendation":
        return {"text": "Set:", "yaml": page.node_file_lines(_written(summary["settings"]))}
    if summary["kind"] == "sweep" and summary.get("fitting"):
        first = summary["points"][summary["fitting"][0]]
        chosen = {k: str(v) for k, v in first["settings"].items()}
        count = f"{len(summary['fitting'])} of {len(summary['points'])} points fit; the first is"
        return {"text": f"{count}:", "yaml": page.node_file_lines(chosen)}
    if summary.get("fits"):
        return {"text": "Nothing has to change for this plan.", "yaml": ""}
    return {
        "text": "capplan simulate shows one run and what would mend it; capplan headroom and "
        "capplan compare measure other settings.",
        "yaml": "",
    }


# --- tables ------------------------------------------------------------------------------


def _odds(found: Mapping[str, Any] | None) -> Cell:
    if not found:
        return Cell(words.NOTHING, None)
    return Cell(chance(found) if found.get("count") else _never(found), found.get("p"))


def _never(found: Mapping[str, Any]) -> str:
    return f"0 (below {words.percent(found['high'])})" if found.get("runs") else "unknown"


def _risks(caption: str, rows: list[tuple[str, Mapping[str, Any]]]) -> Table:
    kinds = _happened([r for _, r in rows])
    columns = (Column("name", "who", False), *(Column(k, figures_odds.VERBS[k]) for k in kinds))
    made = tuple((Cell(n, n), *(_odds(r.get(k)) for k in kinds)) for n, r in rows)
    return Table(caption, columns, made)


def _happened(risks: list[Mapping[str, Any]]) -> list[str]:
    """Kills, and what else was seen at least once."""
    return [
        k for k in INCIDENTS if k == "kill" or any((r.get(k) or {}).get("count") for r in risks)
    ]


def _risk(summary: Mapping[str, Any]) -> list[tuple[str, str, Table]]:
    containers = [(c["name"], c["risks"]) for c in summary.get("containers") or []]
    replicas = [(c["name"], c["risks"]) for c in summary.get("replicas") or []]
    node = _risks("The node: any container", [("the node", summary["node"])])
    found = [
        ("containers", "container", _risks("Risk by container, any of its replicas", containers)),
    ]
    if len(replicas) != len(containers):
        found.append(("containers", "replica", _risks("Risk by replica", replicas)))
    found += [("node", "", node), ("node", "figure", _spread(summary.get("spread") or {}))]
    victims = summary.get("victims") or []
    if victims:
        found.append(("containers", "victim", _victims(victims)))
    if summary.get("grown"):
        found.append(("containers", "matrix", _matrix(summary["grown"])))
    return found


def _victims(victims: list[Summary]) -> Table:
    keys = ("runs", "first", "kills", "memcg", "on_node")
    titles = ("runs with it", "first to die", "kills", "at a limit", "node out of memory")
    columns = (Column("container", "container", False), *map(Column, keys, titles))
    rows = tuple(
        (Cell(v["container"], v["container"]), *(Cell(f"{v[k]:,}", v[k]) for k in keys))
        for v in victims
    )
    return Table("Who is killed, over all runs", columns, rows)


def _matrix(grown: list[list[Any]]) -> Table:
    """Who dies when who grows: a row for each that asked for memory, a column for each victim."""
    counts = {(str(grew), str(died)): int(runs) for grew, died, runs in grown}
    growers = list(dict.fromkeys(grew for grew, _ in counts))[:MATRIX]
    victims = list(dict.fromkeys(died for _, died in counts))[:MATRIX]
    columns = (Column("grew", "asked for memory", False), *(Column(v, v) for v in victims))
    rows = tuple((Cell(g, g), *(_runs(counts.get((g, v), 0)) for v in victims)) for g in growers)
    own = sum(runs for (grew, died), runs in counts.items() if grew == died)
    share = words.percent(own / sum(counts.values()))
    title = f"Who dies when who grows: in {share} of the first kills the one that asked for memory"
    return Table(title, columns, rows)


def _runs(count: int) -> Cell:
    return Cell(f"{count:,}" if count else "-", count)


def _spread(spread: Mapping[str, Any]) -> Table:
    names = ("least", "5 %", "half", "95 %", "most", "mean")
    columns = (Column("figure", "figure", False), *(Column(n, n) for n in names))
    rows = []
    for metric, found in spread.items():
        if not found or not found.get("quantiles"):
            continue
        q = found["quantiles"]
        values = (found["min"], q[0], q[2], q[4], found["max"], found["mean"])
        cells = (Cell(figure(metric, v), v) for v in values)
        rows.append((Cell(NODE_METRICS.get(metric, metric).partition(" [")[0]), *cells))
    return Table("The node's figures over all runs", columns, tuple(rows))


def figure(metric: str, value: float | None) -> str:
    """A metric's value for people."""
    if value is None:
        return words.NOTHING
    if metric.endswith(SHARES):
        return words.percent(value)
    if metric.endswith(("_s", "_t")):
        return words.time(value)
    if metric.endswith(BYTES) and metric not in COUNTS:
        return format_bytes(value)
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _sweep(summary: Mapping[str, Any]) -> list[tuple[str, str, Table]]:
    knobs = [str(k["key"]) for k in summary.get("knobs") or []]
    columns = [Column("point", "point", False), *(Column(k, k) for k in knobs)]
    columns += [Column("fits", "fits", False)]
    kinds = _happened([p.get("risks") or {} for p in summary.get("points") or []])
    columns += [Column(k, figures_odds.VERBS[k]) for k in kinds]
    rows = []
    for point in summary.get("points") or []:
        fits = {True: "yes", False: "no"}.get(point.get("fits"), point.get("error") or "unknown")
        settings = [point["settings"].get(k) for k in knobs]
        rows.append(
            (
                Cell(str(point["index"]), point["index"]),
                *(Cell(str(v), figures_odds.number(v) or str(v)) for v in settings),
                Cell(fits, fits, state="bad" if fits == "no" else ""),
                *(_odds((point.get("risks") or {}).get(k)) for k in kinds),
            )
        )
    return [("node", "point", Table(f"{len(rows)} points", tuple(columns), tuple(rows)))]


def _compare(summary: Mapping[str, Any]) -> list[tuple[str, str, Table]]:
    metrics = ("available_min", "direct_stalls", "kswapd_cpu_share", "psi_some", "swap_out")
    names = {"available_min": "least available", "swap_out": "to swap", "psi_some": "PSI some"}
    called = figures_odds.labels([str(s["label"]) for s in summary.get("settings") or []])
    columns = [Column("setting", "setting", False), Column("usable", "above the high marks")]
    risks = [(s.get("risk") or {}).get("node") or {} for s in summary.get("settings") or []]
    kinds = _happened(risks)
    columns += [Column(k, figures_odds.VERBS[k]) for k in kinds]
    columns += [Column(m, names.get(m, m.replace("_", " "))) for m in metrics]
    rows = []
    for number, s in enumerate(summary.get("settings") or []):
        label = called[s["label"]] + (" (the pick)" if number == summary.get("pick") else "")
        marks, risk = s.get("marks") or {}, s.get("risk") or {}
        usable = marks.get("low_memory", 0) - marks.get("high", 0)
        spread = risk.get("spread") or {}
        means = [(m, (spread.get(m) or {}).get("mean")) for m in metrics]
        rows.append(
            (
                Cell(label, label), Cell(format_bytes(usable), usable),
                *(_odds((risk.get("node") or {}).get(k)) for k in kinds),
                *(Cell(figure(m, v), v) for m, v in means),
            )
        )  # fmt: skip
    found = [("node", "setting", Table("Settings", tuple(columns), tuple(rows)))]
    bursts = _bursts(summary)
    return [*found, ("node", "", bursts)] if bursts.rows else found


def _bursts(summary: Mapping[str, Any]) -> Table:
    """What each setting absorbs before tasks reclaim for themselves, by rate."""
    settings = [s for s in summary.get("settings") or [] if s.get("burst")]
    rates = [r["rate"] for r in settings[0]["burst"]["at_rates"]] if settings else []
    columns = (
        Column("setting", "setting", False),
        *(Column(f"rate_{r}", f"at {format_bytes(r)}/s") for r in rates),
    )
    rows = tuple(
        (
            Cell(s["label"], s["label"]),
            *(
                Cell(words.size(r["absorbed_bytes"]), r["absorbed_bytes"])
                for r in s["burst"]["at_rates"]
            ),
        )
        for s in settings
    )
    return Table("Burst that is absorbed before tasks reclaim for themselves", columns, rows)


def _headroom(summary: Mapping[str, Any]) -> list[tuple[str, str, Table]]:
    columns = (
        Column("what", "what", False), Column("container", "container", False),
        Column("present", "now"), Column("value", "borne"), Column("statement", "said", False),
    )  # fmt: skip
    rows = tuple(
        (
            Cell(str(r["kind"]), str(r["kind"])), Cell(str(r.get("container") or words.NOTHING)),
            Cell(_turned(r, "present"), r.get("present")),
            Cell(_turned(r, "value"), r.get("value")),
            Cell(str(r["statement"])),
        )
        for r in summary.get("rooms") or []
    )  # fmt: skip
    return [("node", "knob", Table("How much more the node bears", columns, rows))]


def _turned(room: Mapping[str, Any], key: str) -> str:
    value = room.get(key)
    if value is None:
        return words.NOTHING
    if not isinstance(value, int | float):
        return str(value)
    if room["kind"] in ("memory", "limit"):
        return format_bytes(value)
    return words.time(value) if room["kind"] == "leak" else f"{value:g}"


def _written(settings: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in settings.items()}


def _recommendation(summary: Mapping[str, Any]) -> list[tuple[str, str, Table]]:
    sizes = ("present_limit", "limit", "high", "request", "peak")
    titles = ("limit now", "limit", "memory.high", "request", "peak, unlimited")
    columns = (
        Column("container", "container", False), Column("replicas", "replicas"),
        *map(Column, sizes, titles), Column("reason", "why", False),
    )  # fmt: skip
    rows = tuple(
        (
            Cell(c["container"], c["container"]), Cell(str(c["replicas"]), c["replicas"]),
            *(Cell(words.size(c.get(size)), c.get(size)) for size in sizes), Cell(str(c["reason"])),
        )
        for c in summary.get("containers") or []
    )  # fmt: skip
    caption = (
        f"Limits of all replicas: {words.size(summary.get('total_bytes'))}, "
        f"now {words.size(summary.get('present_bytes'))}"
    )
    found = [("containers", "container", Table(caption, columns, rows))]
    return [*found, ("containers", "", _rivals(summary)), ("node", "", _reserved(summary))]


def _rivals(summary: Mapping[str, Any]) -> Table:
    """The recommended and the present settings beside rules of thumb, under the same runs."""
    columns = (
        Column("rule", "rule", False), Column("total_bytes", "all limits"),
        Column("bad", "runs with an incident"),
    )  # fmt: skip
    beside = [
        ("recommended here", summary.get("total_bytes"), summary.get("bad")),
        ("as it is now", summary.get("present_bytes"), summary.get("present_bad")),
        *((r["name"], r.get("total_bytes"), r.get("bad")) for r in summary.get("rivals") or []),
    ]
    rows = tuple((Cell(n, n), Cell(words.size(t), t), _odds(b)) for n, t, b in beside)
    return Table("Beside percentile rules, under the same runs", columns, rows)


def _reserved(summary: Mapping[str, Any]) -> Table:
    reserved = summary.get("reserved") or {}
    columns = (Column("what", "what", False), Column("bytes", "size"))
    rows = tuple((Cell(k.replace("_", " ")), Cell(words.size(v), v)) for k, v in reserved.items())
    return Table("Memory that containers cannot have", columns, rows)


# --- methods -----------------------------------------------------------------------------


def _methods(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    provenance = summary.get("provenance", {})
    rows = [
        ("engine", f"capplan {provenance.get('capplan', '')}"),
        ("seed", str(provenance.get("seed", ""))),
        ("machine", str(provenance.get("machine", ""))),
    ]
    if summary.get("failed"):
        rows.append(("failed runs", f"{summary['failed']:,}"))
    stop = summary.get("stop") or {}
    if stop.get("until"):
        reached = "reached" if stop.get("reached") else "not reached"
        rows.append(
            (
                "stopping rule",
                f"intervals of {words.percent(stop['until'])} to each side: {reached}",
            )
        )
    rows += [(f"data of {r['container']}", str(r["statement"])) for r in summary.get("reach") or []]
    return rows
