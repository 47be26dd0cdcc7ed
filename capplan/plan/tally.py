"""Counting rows as they come, in bounded memory: incidents, times, victims, spreads."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from capplan.plan.intervals import Proportion, proportion, wilson
from capplan.plan.metrics import Row, split

__all__ = ["INCIDENT_COUNTS", "Spread", "Tally", "Victim"]

KEPT = 4096  # values of a metric that quantiles are taken of: the first so many runs'
ORDERS_KEPT = 10_000
CURVE_POINTS = 100  # of the time to the first kill
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

# incident -> the metrics whose being above 0 means that it happened: of the node, of a container
INCIDENT_COUNTS = {
    "kill": ("kills", "kills"),
    "pause": ("pauses", "pauses"),
    "throttle": ("throttles", "throttled"),
    "evict": ("evictions", "evictions"),
    "unfinished": ("unfinished", "unfinished"),
    "panic": ("panics", ""),
    "stock_kill": ("stock_kills", ""),
}
SPREAD_OF_NODE = (
    "available_min", "free_min", "headroom_min", "kswapd_cpu_share", "direct_stalls", "swap_in",
    "swap_out", "swap_peak", "refaults", "majfaults", "psi_some", "psi_full", "order9_min",
    "late_s",
)  # fmt: skip
SPREAD_OF_CONTAINER = ("peak", "headroom", "throttle_share", "pause_s", "late_s", "stall_share")


@dataclass(frozen=True)
class Spread:
    """How a metric is spread over the runs; quantiles are those of the first 4096 runs."""

    mean: float
    min: float
    max: float
    quantiles: tuple[float, ...]  # 5, 25, 50, 75, 95 %
    runs: int


@dataclass(frozen=True)
class Victim:
    """Who lost processes to the OOM killer."""

    container: str
    runs: int  # in which it lost one
    first: int  # runs in which it was the first to lose one
    kills: int  # in all
    memcg: int  # runs in which its first kill was at a cgroup's limit
    on_node: int  # runs in which its first kill was the node's


class _Values:
    """A metric's values: mean and extremes of all, the first few thousand kept."""

    def __init__(self) -> None:
        self.total = 0.0
        self.runs = 0
        self.low, self.high = math.inf, -math.inf
        self.kept: list[float] = []

    def add(self, value: float) -> None:
        self.total += value
        self.runs += 1
        self.low, self.high = min(self.low, value), max(self.high, value)
        if len(self.kept) < KEPT:
            self.kept.append(value)

    def spread(self) -> Spread | None:
        if not self.runs:
            return None
        quantiles = np.quantile(np.array(self.kept), QUANTILES)
        return Spread(
            self.total / self.runs,
            self.low,
            self.high,
            tuple(float(q) for q in quantiles),
            self.runs,
        )


def pair_table(pairs: Mapping[tuple[str, str], int]) -> tuple[tuple[str, str, int], ...]:
    """Who asked for memory, who died first for it, in how many runs; the commonest first."""
    found = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return tuple((grew, died, runs) for (grew, died), runs in found)


class Tally:
    """What many rows of one setting come to.

    Parameters
    ----------
    containers : mapping of str to sequence of str
        The names of each container's replicas.
    duration_s : float
        Of a run.
    throttle_share : float
        From which share of a process's life on a container counts as throttled (the gate's).
    """

    def __init__(
        self,
        containers: Mapping[str, Sequence[str]],
        duration_s: float,
        throttle_share: float,
    ) -> None:
        self.group = {name: c for c, names in containers.items() for name in names}
        self.containers = containers
        self.duration_s = duration_s
        self.throttle_share = throttle_share
        self.runs = 0
        self.errors: Counter[str] = Counter()
        self.counts: Counter[tuple[str, str]] = Counter()  # (who, incident); "" is the node
        self.fitting = 0
        self.orders: Counter[str] = Counter()
        self.first_kill = np.zeros(CURVE_POINTS, np.int64)
        self.kill_times = _Values()
        self.values: dict[tuple[str, str], _Values] = {}
        self.victims: dict[str, Counter[str]] = {}
        self.pairs: Counter[tuple[str, str]] = Counter()  # who asked for memory, who died first

    def add_all(self, rows: Iterable[Row]) -> None:
        """Count rows."""
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> None:
        """Count one row; a failed one is counted apart."""
        if "error" in row:
            self.errors[str(row["error"])] += 1
            return
        self.runs += 1
        of_node, of_containers = split(row)
        self.fitting += int(of_node["fits"])
        of_node["panics"] = int(of_node["panic_t"] is not None)
        self._incidents("", of_node, 0)
        self._spread("", of_node, SPREAD_OF_NODE)
        self._first_kill(of_node)
        befallen: set[tuple[str, str]] = set()
        for name, metrics in of_containers.items():
            metrics["throttled"] = int(metrics["throttle_share"] > self.throttle_share)
            befallen |= self._incidents(name, metrics, 1)
            self._spread(name, metrics, SPREAD_OF_CONTAINER)
            self._victim(name, metrics, of_node)
        # a container with replicas: any of them
        several = {(self.group.get(name, name), what) for name, what in befallen}
        self.counts.update((f"{who}*", what) for who, what in several)

    def _incidents(self, who: str, metrics: Row, column: int) -> set[tuple[str, str]]:
        found = set()
        for what, columns in INCIDENT_COUNTS.items():
            if columns[column] and metrics.get(columns[column]):
                found.add((who, what))
        self.counts.update(found)
        return found

    def _spread(self, who: str, metrics: Row, names: Sequence[str]) -> None:
        for name in names:
            value = metrics.get(name)
            if value is not None:
                self.values.setdefault((who, name), _Values()).add(float(value))

    def _first_kill(self, of_node: Row) -> None:
        t = of_node["kill_t"]
        if t is None:
            return
        self.kill_times.add(t)
        place = min(int(t / self.duration_s * CURVE_POINTS), CURVE_POINTS - 1)
        self.first_kill[place] += 1
        if of_node["kill_trigger"] is not None and len(self.pairs) < ORDERS_KEPT:
            self.pairs[str(of_node["kill_trigger"]), str(of_node["kill_first"])] += 1
        order = str(of_node["kill_order"])
        if order in self.orders or len(self.orders) < ORDERS_KEPT:
            self.orders[order] += 1

    def _victim(self, name: str, metrics: Row, of_node: Row) -> None:
        if metrics["kills"]:
            counts = self.victims.setdefault(name, Counter())
            counts["runs"] += 1
            counts["kills"] += metrics["kills"]
            counts["first"] += of_node["kill_first"] == name
            counts["memcg" if metrics["kill_scope"] == "memcg" else "on_node"] += 1

    # --- what came of it ------------------------------------------------------------------

    def risk(self, incident: str, who: str = "") -> Proportion:
        """The probability of an incident: of the node (""), or of a replica by name."""
        return proportion(self.counts[who, incident], self.runs)

    def proportion_fitting(self) -> Proportion:
        """Runs in which nothing happened that stands against "fits"."""
        return proportion(self.fitting, self.runs)

    def any_replica(self, incident: str, container: str) -> Proportion:
        """The probability that an incident befalls any replica of a container."""
        return proportion(self.counts[f"{container}*", incident], self.runs)

    def spread(self, metric: str, who: str = "") -> Spread | None:
        """How a metric is spread; None: no run had it."""
        found = self.values.get((who, metric))
        return None if found is None else found.spread()

    def victim_table(self) -> tuple[Victim, ...]:
        """Who was killed, the most often first."""
        made = [
            Victim(name, c["runs"], c["first"], c["kills"], c["memcg"], c["on_node"])
            for name, c in self.victims.items()
        ]
        return tuple(sorted(made, key=lambda v: (-v.runs, -v.kills, v.container)))

    def most_orders(self, count: int) -> tuple[tuple[str, int], ...]:
        """The commonest orders of victims."""
        return tuple(sorted(self.orders.items(), key=lambda item: (-item[1], item[0]))[:count])

    def first_kill_curve(self) -> list[tuple[float, int, float, float, float]]:
        """Time [s], runs with a kill by then, their share, and its interval, at each step."""
        curve, by_then = [], 0
        if not self.runs:
            return []
        for place, count in enumerate(self.first_kill.tolist(), start=1):
            by_then += count
            t = self.duration_s * place / CURVE_POINTS
            curve.append((t, by_then, by_then / self.runs, *wilson(by_then, self.runs)))
        return curve
