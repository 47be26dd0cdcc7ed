"""Who dies when who grows: the first kills of many runs by who asked for memory and who died."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from capplan.report import words
from capplan.report.chart import Chart, Grid, Panel

if TYPE_CHECKING:
    from collections.abc import Mapping

SHOWN = 10  # rows and columns; the table has every pair
FEW = 4  # a pair is the finding when it is at least one of so many kills
Pairs = Counter[tuple[str, str]]


class Grown(NamedTuple):
    """First kills by (who asked for memory, who died)."""

    pairs: Pairs
    by_container: bool  # replicas counted as their container

    @property
    def kills(self) -> int:
        """All of them."""
        return self.pairs.total()


def pairs(summary: Mapping[str, Any]) -> Pairs:
    """The pairs of a summary, the most frequent first."""
    return Counter({(str(a), str(b)): int(runs) for a, b, runs in summary.get("grown") or []})


def grown(summary: Mapping[str, Any]) -> Grown:
    """What the picture shows: replicas, or their containers where there are too many of them."""
    found = pairs(summary)
    if max(len({a for a, _ in found}), len({b for _, b in found}), 0) <= SHOWN:
        return Grown(found, by_container=False)
    owner = {str(r["name"]): str(r["container"]) for r in summary.get("replicas") or []}
    counted: Pairs = Counter()
    for (asked, died), runs in found.items():
        counted[owner.get(asked, asked), owner.get(died, died)] += runs
    return Grown(counted, by_container=bool(owner))


def chart(summary: Mapping[str, Any]) -> Chart | None:
    """The matrix; None where nobody was killed, or one only and by itself: the table says it."""
    found = grown(summary)
    if len(found.pairs) < 2:
        return None
    rows = _top(found.pairs, 0)
    columns = _top(found.pairs, 1)
    values = np.zeros((len(rows), len(columns)))
    for (asked, died), runs in found.pairs.items():
        values[_place(rows, asked), _place(columns, died)] += runs
    title = finding(found)
    note = "A row asked for memory, a column was killed first for it; numbers are runs."
    if found.by_container:
        note += " Replicas are counted as their container."
    panel = Panel("asked for memory", "", grid=Grid(rows, columns, values, "was killed for it"))
    return Chart(
        "grown", title, f"{title}. {_said(found.pairs)}.", np.array([0.0, 1.0]), (panel,),
        wide=len(columns) > SHOWN // 2, time=False, note=note,
    )  # fmt: skip


def finding(found: Grown) -> str:
    """Whether those who grow pay for it themselves, and who pays most for others."""
    own = sum(runs for (asked, died), runs in found.pairs.items() if asked == died)
    others = Counter({pair: n for pair, n in found.pairs.items() if pair[0] != pair[1]})
    kills = "the only first kill" if found.kills == 1 else f"all {found.kills:,} first kills"
    if not others:
        return f"Who grows dies: in {kills} the one that asked for memory"
    (asked, died), most = others.most_common(1)[0]
    pays = f"{died} dies when {asked} grows"
    if not own:
        return f"Others pay: {pays} in {most:,} of {found.kills:,} first kills"
    share = words.percent(own / found.kills)
    if 2 * own >= found.kills:
        return f"Who grows dies in {share} of the first kills; else most often {pays}"
    if FEW * most >= found.kills:
        return (
            f"{pays} in {most:,} of {found.kills:,} first kills; who grows dies itself in {share}"
        )
    victims = _totals(others, 1)
    victim, times = victims.most_common(1)[0]
    return (
        f"Who grows dies itself in {share} of the first kills only; {victim} dies most often for "
        f"others, {times:,} times"
    )


def _totals(found: Pairs, side: int) -> Counter[str]:
    """Runs by who asked (0) or by who died (1)."""
    totals: Counter[str] = Counter()
    for pair, runs in found.items():
        totals[pair[side]] += runs
    return totals


def _top(found: Pairs, side: int) -> tuple[str, ...]:
    """The names of a side with the most runs; the rest under one name."""
    totals = _totals(found, side)
    names = sorted(totals, key=lambda name: (-totals[name], name))
    left = len(names) - SHOWN
    return (*names[:SHOWN], f"{left} others") if left > 0 else tuple(names)


def _place(names: tuple[str, ...], name: str) -> int:
    return names.index(name) if name in names[:SHOWN] else len(names) - 1


def _said(found: Pairs) -> str:
    most = found.most_common(SHOWN)
    return "; ".join(f"{asked} asked, {died} died: {runs:,} runs" for (asked, died), runs in most)
