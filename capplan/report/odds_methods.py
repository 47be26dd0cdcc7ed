"""Where the figures of many runs come from: engine, draws, data, fidelity, the input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from capplan.report import words
from capplan.validate.fidelity import of_mechanisms
from capplan.validate.mechanisms import TITLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TOLD = 4  # mechanisms with their fidelity
TOGETHER = 6  # containers named of which the same is said


def methods(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Engine, seed, machine, draws, failed runs, stopping rule, reach of the data."""
    provenance = summary.get("provenance", {})
    rows = [("engine", _engine(provenance)), ("seed", str(provenance.get("seed", "")))]
    rows += [("machine", str(provenance.get("machine", "")))]
    rows += [("draws", "counted, not timed: the same input, seed and version give the same result")]
    if summary.get("failed"):
        rows.append(("failed runs", f"{summary['failed']:,}"))
    stop = summary.get("stop") or {}
    if stop.get("until"):
        reached = "reached" if stop.get("reached") else "not reached"
        aim = f"intervals of {words.percent(stop['until'])} to each side"
        rows.append(("stopping rule", f"{aim}: {reached}"))
    return [*rows, *_reach(summary.get("reach") or [])]


def _engine(provenance: Mapping[str, Any]) -> str:
    given = provenance.get("input") or {}
    engine = f"capplan {provenance.get('capplan', '')}"
    kernel = (given.get("node") or {}).get("kernel")
    version = (given.get("cgroup") or {}).get("version")
    engine += f"; kernel {kernel}" if kernel else ""
    return engine + (f", cgroup {version}" if version else "")


def _reach(found: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """How far the data reach; containers of which the same is to be said, together."""
    by_statement: dict[str, list[str]] = {}
    for one in found:
        by_statement.setdefault(str(one["statement"]), []).append(str(one["container"]))
    for statement, names in by_statement.items():
        more = len(names) - TOGETHER
        who = ", ".join(names[:TOGETHER]) + (f" and {more} more" if more > 0 else "")
        yield f"data of {who}", statement


def fidelity(summary: Mapping[str, Any]) -> list[str]:
    """The recordings that exercise what decided the verdict, as far as the runs tell it."""
    decided = _decided(summary)
    keys = [key for key in TITLES if key in decided]
    return [each.text for each in of_mechanisms(keys[:TOLD], TITLES)]


def _decided(summary: Mapping[str, Any]) -> set[str]:
    kind = summary["kind"]
    if kind in ("headroom", "recommendation"):
        v1 = ((summary["provenance"].get("input") or {}).get("cgroup") or {}).get("version") == "v1"
        return {"memcg_oom", "global_oom", *(("pause",) if v1 else ())}
    if kind == "sweep":
        return set().union(*(_of_risks(p.get("risks") or {}) for p in summary["points"]))
    risks = [summary]
    if kind == "comparison":
        risks = [s["risk"] for s in summary["settings"] if s.get("risk")]
    found: set[str] = set()
    for risk in risks:
        found |= _of_risks(risk["node"]) | _of_victims(risk) | _of_spread(risk.get("spread") or {})
    return found


def _of_risks(risks: Mapping[str, Any]) -> set[str]:
    named = {"pause": "pause", "throttle": "memory_high", "evict": "agent", "kill": "memcg_oom"}
    return {key for what, key in named.items() if (risks.get(what) or {}).get("count")}


def _of_victims(risk: Mapping[str, Any]) -> set[str]:
    victims = risk.get("victims") or []
    return {"global_oom"} if any(v["on_node"] for v in victims) else set()


def _of_spread(spread: Mapping[str, Any]) -> set[str]:
    def seen(metric: str) -> bool:
        return bool((spread.get(metric) or {}).get("max"))

    found = {"zswap"} if seen("zswap_peak") else set()
    if seen("swap_out"):
        found.add("global_swap" if seen("kswapd_cpu_share") else "memcg_swap")
    elif seen("refaults"):
        found.add("global_file" if seen("kswapd_cpu_share") else "memcg_file")
    return found
