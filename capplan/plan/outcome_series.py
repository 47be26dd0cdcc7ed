"""Reading a run's series: missing names, bin extremes, rates and turning points."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from capplan.sim.series import LazySeries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capplan.sim.result import Run

PAGE_SIZE = 4096
# A rise is told from the moment a tenth of it was done: the flat part before it is no growth.
RISE_BEGIN = 0.1
# enum zone_type, and the model's one sum
ALLOCSTALL_ZONES = ("", "_dma", "_dma32", "_normal", "_high", "_movable", "_device")
# Activity that pauses for up to this many samples is told as one stretch.
BRIDGED_SAMPLES = 5

Array = np.ndarray[Any, np.dtype[np.float64]]


class Series:
    """A run's series by name; what is missing is None, what was not sampled is NaN."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.t: Array = np.asarray(run.series["t"], dtype=np.float64)
        self._cache: dict[str, Array | None] = {}

    def get(self, *names: str) -> Array | None:
        """The first of ``names`` that was recorded."""
        for name in names:
            if name not in self._cache:
                self._cache[name] = self._read(name)
            found = self._cache[name]
            if found is not None:
                return found
        return None

    def _read(self, name: str) -> Array | None:
        """A series as float; None where it has no value at all."""
        raw = self.run.series.get(name)
        if raw is None:
            return None
        values = np.asarray(raw, dtype=np.float64)
        if not values.size or (math.isnan(values[0]) and np.isnan(values).all()):
            return None
        return values

    def total(self, *names: str) -> Array | None:
        """The sum of those of ``names`` that were recorded."""
        found = [s for s in (self.get(n) for n in names) if s is not None]
        return _sum(found) if found else None

    def table(self, *names: Sequence[str]) -> Array:
        """Series as rows, each the first of its names that was recorded; NaN where none was."""
        series = self.run.series
        if isinstance(series, LazySeries):  # what one group has, all have
            made = (table for choice in names if (table := series.table(choice)) is not None)
            if (found := next(made, None)) is not None:
                return np.asarray(found, dtype=np.float64)
        rows = [self.get(*choice) for choice in zip(*names, strict=True)]
        none = np.full(self.t.size, np.nan)
        whole = np.array([none if row is None else row for row in rows], dtype=np.float64)
        return whole.reshape(len(rows), self.t.size)

    @property
    def allocstall(self) -> Array | None:
        """Allocations that reclaimed for themselves: a kernel counts them for each zone."""
        return self.total(*(f"vmstat.allocstall{zone}" for zone in ALLOCSTALL_ZONES))

    def at(self, values: Array | None, t: float) -> float:
        """The value of the last sample at or before ``t`` (0.0 when there is none)."""
        if values is None:
            return 0.0
        last = int(np.searchsorted(self.t, t, side="right")) - 1
        while last >= 0 and math.isnan(values[last]):
            last -= 1
        return float(values[last]) if last >= 0 else 0.0

    def each_at(self, table: Array, times: Sequence[float]) -> list[float]:
        """:meth:`at` of each row at its own time."""
        last = np.searchsorted(self.t, times, side="right") - 1
        found: list[float] = table[np.arange(len(table)), last].tolist()
        # before the first sample, or where none was taken
        odd = np.flatnonzero((last < 0) | np.isnan(found))
        for i in odd.tolist():
            found[i] = self.at(table[i], times[i])
        return found

    def before(self, values: Array | None, t: float) -> float:
        """The value of the last sample before ``t``: what was there when it happened."""
        return self.at(values, float(np.nextafter(t, -np.inf)))

    def extreme(self, name: str, which: str) -> tuple[float, float] | None:
        """(value, time) of the lowest (``min``) or highest (``max``), bins' extremes included."""
        values = self.get(f"{name}|{which}", name)
        if values is None:
            return None
        index = int(values.argmin() if which == "min" else values.argmax())
        if math.isnan(values[index]):  # of those that were not sampled the first is found
            index = int(np.nanargmin(values) if which == "min" else np.nanargmax(values))
        return float(values[index]), float(self.t[index])

    def highest(self, table: Array) -> list[tuple[float, float] | None]:
        """(value, time) of the highest of each row; None where it has no sample."""
        known = np.where(np.isnan(table), -np.inf, table)
        places = known.argmax(axis=1)
        values = known[np.arange(len(table)), places].tolist()
        return [
            None if value == -np.inf else (value, t)
            for value, t in zip(values, self.t[places].tolist())
        ]

    def increase(self, values: Array | None, begin: float = 0.0, end: float = np.inf) -> float:
        """How much a cumulative counter rose between two times."""
        if values is None:
            return 0.0
        known = np.flatnonzero(~np.isnan(values))
        last = float(values[known[-1]]) if np.isinf(end) else self.at(values, end)
        # before the first sample nothing is known: a counter rises from what it stood at then
        first = self.at(values, max(begin, float(self.t[known[0]])))
        return max(last - first, 0.0)

    def rises(self, values: Array | None) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """For each sample whether the counter rose since the one before."""
        flags = np.zeros(self.t.size, dtype=np.bool_)
        if values is not None and values.size > 1 and values.any():
            flags[1:] = np.diff(np.nan_to_num(values)) > 0
        return flags

    def onset(self, mask: np.ndarray[Any, np.dtype[np.bool_]], t: float) -> float | None:
        """When the stretch of True that leads up to ``t`` began; None when none does.

        Pauses of up to ``BRIDGED_SAMPLES`` samples are bridged, at its end too.
        """
        last = int(np.searchsorted(self.t, t, side="left")) - 1
        hits = np.flatnonzero(mask[: last + 1])
        if not hits.size or last - hits[-1] > BRIDGED_SAMPLES:
            return None
        gaps = np.flatnonzero(np.diff(hits) > BRIDGED_SAMPLES + 1)
        return float(self.t[hits[gaps[-1] + 1] if gaps.size else hits[0]])

    def stretches(
        self, mask: np.ndarray[Any, np.dtype[np.bool_]]
    ) -> list[tuple[float, float | None]]:
        """(begin, end) of each run of True, pauses of ``BRIDGED_SAMPLES`` bridged.

        A run begins at the sample before its first True, where what is told may have begun; the
        last one's end is None when it goes on to the last sample.
        """
        hits = np.flatnonzero(mask)
        if not hits.size:
            return []
        parts = np.split(hits, np.flatnonzero(np.diff(hits) > BRIDGED_SAMPLES + 1) + 1)
        last = self.t.size - 1 - BRIDGED_SAMPLES
        return [
            (float(self.t[max(p[0] - 1, 0)]), None if p[-1] >= last else float(self.t[p[-1]]))
            for p in parts
        ]

    def rise(self, values: Array | None, t: float) -> tuple[float, float, float, float] | None:
        """The rise that led up to ``t``: (from time, from value, to value, rate per second).

        It begins at the last sample that was not above the lowest value so far plus a tenth
        of the rise. None when nothing rose.
        """
        if values is None:
            return None
        last = int(np.searchsorted(self.t, t, side="left"))
        past = np.nan_to_num(values[:last])
        if past.size < 2:
            return None
        top, base = float(past[-1]), float(past.min())
        if top <= base:
            return None
        begin = int(np.flatnonzero(past <= base + RISE_BEGIN * (top - base))[-1])
        span = float(self.t[last - 1] - self.t[begin])
        if span <= 0:
            return None
        low = float(past[begin])
        return float(self.t[begin]), low, top, (top - low) / span

    def average10(self, total_us: Array | None) -> Array | None:
        """Share of the last 10 s that a PSI total [us] rose by, at every sample."""
        if total_us is None:
            return None
        known = ~np.isnan(total_us)
        now = np.interp(self.t, self.t[known], total_us[known])
        past = np.interp(self.t - 10.0, self.t[known], total_us[known])
        # before the run nobody stalled, as in the kernel's averages: the window is always whole
        return np.asarray(np.clip((now - past) / 10e6, 0.0, 1.0))


class Group:
    """One cgroup's memory in bytes, under v1's or v2's names."""

    def __init__(self, series: Series, path: str) -> None:
        self.series = series
        self.path = path
        self.prefix = f"cgroup.{path}."

    def file(self, name: str) -> Array | None:
        """A series of this cgroup."""
        return self.series.get(self.prefix + name)

    @property
    def usage_name(self) -> str:
        """The full name of its usage: v2's or v1's."""
        v2 = self.prefix + "memory.current"
        return v2 if v2 in self.series.run.series else self.prefix + "memory.usage_in_bytes"

    @cached_property
    def usage(self) -> Array | None:
        """memory.current or memory.usage_in_bytes."""
        return self.series.get(self.usage_name)

    @cached_property
    def anon(self) -> Array | None:
        """Anonymous memory (v1: rss), its children's included."""
        return self.series.get(
            self.prefix + "stat.anon", self.prefix + "stat.total_rss", self.prefix + "stat.rss"
        )

    @cached_property
    def cache(self) -> Array | None:
        """Page cache on the file lists: what reclaim can take without swap."""
        lists = [self.prefix + "stat.inactive_file", self.prefix + "stat.active_file"]
        found = self.series.total(*lists)
        return self.series.get(self.prefix + "stat.file") if found is None else found

    @cached_property
    def shmem(self) -> Array | None:
        """Shared memory and tmpfs."""
        return self.file("stat.shmem")

    @cached_property
    def swap(self) -> Array | None:
        """What it has in swap (v1: memory+swap less memory)."""
        v2 = self.file("memory.swap.current")
        if v2 is not None:
            return v2
        both, usage = self.file("memory.memsw.usage_in_bytes"), self.usage
        if both is not None and usage is not None:
            return np.asarray(np.maximum(both - usage, 0.0))
        return self.file("stat.swap")

    @cached_property
    def lasting(self) -> Array | None:
        """What only swap or an exit can take away: anon and shmem, in memory or in swap."""
        parts = [p for p in (self.anon, self.shmem, self.swap) if p is not None]
        return _sum(parts) if parts else self.usage


def _sum(parts: list[Array]) -> Array:
    """Sum of series; what was not sampled counts as nothing (nansum is three times as slow)."""
    whole: Array = np.add.reduce(parts, axis=0)
    return np.asarray(np.nansum(parts, axis=0)) if np.isnan(whole).any() else whole
