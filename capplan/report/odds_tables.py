"""The tables of many runs: the figures behind the pictures, for each kind of result."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from capplan.plan.metrics import NODE_METRICS
from capplan.report import figures_odds, words
from capplan.report.figures_odds import chance
from capplan.report.tables import Cell, Column, Table, shortened
from capplan.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

INCIDENTS = ("kill", "pause", "throttle", "evict", "unfinished")
SHARES = ("share", "psi_some", "psi_full")
BYTES = (
    "_min", "reclaimed", "swap_in", "swap_out", "swap_peak", "zswap_peak", "zram_peak",
    "refaults", "peak", "headroom",
)  # fmt: skip
COUNTS = ("order9_min",)
Summary = dict[str, Any]
Tables = list[tuple[str, str, Table]]  # section, what is searched for, table
ORDERS = 10  # of victims
CHANCE = 0.05  # of the sign test: above it a split may be a toss (docs/planning.md)
HOLDS = {True: "yes", False: "no", None: "not decided"}


def report_tables(summary: Mapping[str, Any]) -> Tables:
    """The tables of a kind of result."""
    made = {
        "risk": of_risk, "check": of_check, "sweep": _sweep, "comparison": _compare,
        "headroom": _headroom, "recommendation": _recommendation,
    }  # fmt: skip
    return made[summary["kind"]](summary)


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


def of_risk(summary: Mapping[str, Any]) -> Tables:
    """Who is at risk and how tight it is; the node; who is killed, in which order, for whom."""
    containers = [(c["name"], c["risks"]) for c in summary.get("containers") or []]
    replicas = sorted(summary.get("replicas") or [], key=_first_at_risk)
    found = []
    if any(c.get("replicas", 1) != 1 for c in summary.get("containers") or []):
        table = _risks("Risk by container, any of its replicas", containers)
        found.append(("containers", "container", table))
    found.append(("containers", "container", _with_headroom(replicas)))
    node = _risks("The node: any container", [("the node", summary["node"])])
    found += [("node", "", node), ("node", "figure", _spread(summary.get("spread") or {}))]
    made: tuple[tuple[list[Any] | None, Callable[[list[Any]], Table]], ...] = (
        (summary.get("victims"), _victims), (summary.get("grown"), _grown),
        (_often(summary.get("orders") or []), _orders),
    )  # fmt: skip
    return [*found, *(("containers", "container", make(rows)) for rows, make in made if rows)]


def _first_at_risk(replica: Summary) -> tuple[Any, ...]:
    room = (replica.get("spread") or {}).get("headroom")
    least = math.inf if room is None else room["quantiles"][0]
    return (*(-((replica["risks"].get(k) or {}).get("p") or 0.0) for k in INCIDENTS), least)


def _with_headroom(replicas: list[Summary]) -> Table:
    """Each replica's risks beside its peak and headroom."""
    risks = _risks("Risk and headroom by replica", [(r["name"], r["risks"]) for r in replicas])
    columns = (Column("peak", "peak, 95 % below"), Column("headroom", "headroom, 95 % above"))
    rows = [
        (*row, _quantile(replica, "peak", 4), _quantile(replica, "headroom", 0))
        for replica, row in zip(replicas, risks.rows)
    ]
    return shortened(Table(risks.caption, (*risks.columns, *columns), tuple(rows)), always=2)


def _quantile(replica: Summary, metric: str, which: int) -> Cell:
    found = (replica.get("spread") or {}).get(metric)
    value = None if found is None else round(found["quantiles"][which])
    return Cell(words.size(value), value)


def of_check(summary: Mapping[str, Any]) -> Tables:
    """The rules, those that do not hold first; then what the runs showed."""
    columns = (
        Column("passed", "holds", False), Column("rule", "rule", False),
        Column("who", "of", False), Column("message", "found", False),
    )  # fmt: skip
    rules = sorted(summary["rules"], key=lambda r: (r["passed"] is True, r["passed"] is None))
    rows = tuple(
        (
            Cell(HOLDS[r["passed"]], HOLDS[r["passed"]], state="" if r["passed"] else "bad"),
            Cell(r["name"], r["name"]), Cell(r["who"], r["who"]), Cell(r["message"]),
        )
        for r in rules
    )  # fmt: skip
    met = sum(r["passed"] is True for r in rules)
    table = Table(f"{met} of {len(rules)} rules of the gate hold", columns, rows)
    return [("rules", "rule", table), *of_risk(summary)]


def _victims(victims: list[Summary]) -> Table:
    keys = ("runs", "first", "kills", "memcg", "on_node")
    titles = ("runs with it", "first to die", "kills", "at a limit", "node out of memory")
    columns = (Column("container", "container", False), *map(Column, keys, titles))
    rows = tuple(
        (Cell(v["container"], v["container"]), *(Cell(f"{v[k]:,}", v[k]) for k in keys))
        for v in victims
    )
    return Table("Who is killed, over all runs", columns, rows)


def _grown(pairs: list[list[Any]]) -> Table:
    """Who dies when who grows: every pair, the most frequent first."""
    kills = sum(int(runs) for *_, runs in pairs)
    columns = (
        Column("asked", "asked for memory", False), Column("died", "was killed for it", False),
        Column("runs", "runs"), Column("share", "of the first kills"),
    )  # fmt: skip
    rows = tuple(
        (
            Cell(str(asked), str(asked)), Cell(str(died), str(died)),
            Cell(f"{int(runs):,}", int(runs)), Cell(words.percent(runs / kills), runs / kills),
        )
        for asked, died, runs in sorted(pairs, key=lambda p: (-p[2], str(p[0]), str(p[1])))
    )  # fmt: skip
    return Table("Who dies when who grows: the first kill of each run", columns, rows)


def _often(orders: list[list[Any]]) -> list[list[Any]]:
    """Orders of several victims that came more than once, the commonest first."""
    return [[order, runs] for order, runs in orders if ">" in order and runs > 1][:ORDERS]


def _orders(orders: list[list[Any]]) -> Table:
    columns = (Column("order", "killed in this order", False), Column("runs", "runs"))
    rows = tuple(
        (Cell(str(order).replace(">", " > "), str(order)), Cell(f"{int(runs):,}", int(runs)))
        for order, runs in orders
    )
    return Table("In which order they are killed", columns, rows)


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


def _sweep(summary: Mapping[str, Any]) -> Tables:
    knobs = [str(k["key"]) for k in summary.get("knobs") or []]
    columns = [Column("point", "point", False), *(Column(k, k) for k in knobs)]
    columns += [Column("fits", "fits", False)]
    kinds = _happened([p.get("risks") or {} for p in summary.get("points") or []])
    columns += [Column(k, figures_odds.VERBS[k]) for k in kinds]
    rows = []
    for point in summary.get("points") or []:
        fits = {True: "yes", False: "no"}.get(point.get("fits"), point.get("error") or HOLDS[None])
        settings = [point["settings"].get(k) for k in knobs]
        rows.append(
            (
                Cell(str(point["index"]), point["index"]),
                *(Cell(str(v), figures_odds.number(v) or str(v)) for v in settings),
                Cell(fits, fits, state="bad" if fits == "no" else ""),
                *(_odds((point.get("risks") or {}).get(k)) for k in kinds),
            )
        )
    found = [("node", "point", Table(f"{len(rows)} points", tuple(columns), tuple(rows)))]
    if summary.get("grown"):
        found.append(("containers", "container", _grown(summary["grown"])))
    return found


def _compare(summary: Mapping[str, Any]) -> Tables:
    metrics = ("available_min", "direct_stalls", "kswapd_cpu_share", "psi_some", "swap_out")
    names = {
        "available_min": "least available", "swap_out": "to swap", "psi_some": "PSI some",
        "direct_stalls": "direct stalls", "kswapd_cpu_share": "kswapd",
    }  # fmt: skip
    called = figures_odds.labels([str(s["label"]) for s in summary.get("settings") or []])
    columns = [Column("setting", "setting", False), Column("usable", "above the high marks")]
    risks = [(s.get("risk") or {}).get("node") or {} for s in summary.get("settings") or []]
    kinds = _happened(risks)
    columns += [Column(k, figures_odds.VERBS[k]) for k in kinds]
    columns += [Column("against", "against the first", False)]
    columns += [Column(m, names[m]) for m in metrics]
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
                _against(s.get("against")), *(Cell(figure(m, v), v) for m, v in means),
            )
        )  # fmt: skip
    found = [("containers", "setting", Table("Settings side by side", tuple(columns), tuple(rows)))]
    bursts = _bursts(summary, called)
    return [*found, ("containers", "", bursts)] if bursts.rows else found


def _against(found: Mapping[str, Any] | None) -> Cell:
    """Runs that fit under this setting only, and under the first one only."""
    if not found:
        return Cell(words.NOTHING)
    here, there = found["fits_only_here"], found["fits_only_there"]
    if not here and not there:
        return Cell("same runs fit", 0)
    chance = "" if found["p_value"] <= CHANCE else ", may be chance"
    return Cell(f"+{here} \N{MINUS SIGN}{there} runs fit{chance}", here - there)


def _bursts(summary: Mapping[str, Any], called: Mapping[str, str]) -> Table:
    """What each setting absorbs before tasks reclaim for themselves, by rate."""
    settings = [s for s in summary.get("settings") or [] if s.get("burst")]
    rates = [r["rate"] for r in settings[0]["burst"]["at_rates"]] if settings else []
    columns = (
        Column("setting", "setting", False),
        *(Column(f"rate_{r}", f"at {format_bytes(r)}/s") for r in rates),
    )
    rows = tuple(
        (
            Cell(called[s["label"]], s["label"]),
            *(
                Cell(words.size(r["absorbed_bytes"]), r["absorbed_bytes"])
                for r in s["burst"]["at_rates"]
            ),
        )
        for s in settings
    )
    return Table("Burst that is absorbed before tasks reclaim for themselves", columns, rows)


def _headroom(summary: Mapping[str, Any]) -> Tables:
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


def _recommendation(summary: Mapping[str, Any]) -> Tables:
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
