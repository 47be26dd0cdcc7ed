"""Series against series: mean and largest error on a grid of whole seconds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from capplan.validate.truth import Course, Recording

NODE_TOLERANCE = 0.02  # of MemTotal
NODE_SERIES = ("MemFree", "AnonPages", "Cached", "SwapFree", "Zswapped")
# the kernel's own self-tests allow 3 % for anon and 10 % for file
GROUP_TOLERANCE = {"anon": 0.03, "swap": 0.03, "file": 0.05, "current": 0.05, "zswap": 0.05}
GROUP_SERIES = {
    "anon": "stat.anon",
    "file": "stat.file",
    "swap": "memory.swap.current",
    "zswap": "memory.zswap.current",
    "current": "memory.current",
}
GROUP_SERIES_V1 = {
    "anon": "stat.total_rss",
    "file": "stat.total_cache",
    "swap": "stat.total_swap",
    "current": "memory.usage_in_bytes",
}
LEAST_SCALE_BYTES = 1 << 20


@dataclass(frozen=True)
class Measure:
    """A series that is scored, what its error is relative to, and how much is allowed."""

    series: str
    scale: float
    tolerance: float


@dataclass(frozen=True)
class SeriesScore:
    """Errors relative to the scale: against the nearer truth, and against each.

    ``allowed`` is the tolerance, or the spread between the two truths where that is larger.
    """

    series: str
    mean: float
    largest: float
    tolerance: float
    spread: float
    means: tuple[float, ...]

    @property
    def allowed(self) -> float:
        """Largest mean error that passes."""
        return max(self.tolerance, self.spread)

    @property
    def passed(self) -> bool:
        """Whether the nearer truth is within what is allowed."""
        return self.mean <= self.allowed

    @property
    def share(self) -> float:
        """Mean error as a share of what is allowed: above 1 fails."""
        return self.mean / self.allowed


def measures_of(recording: Recording) -> Iterator[Measure]:
    """All series of a recording that are scored."""
    first = recording.truths[0].series
    total = float(np.nanmax(first["meminfo_kb.MemTotal"]))
    for name in NODE_SERIES:
        if f"meminfo_kb.{name}" in first:
            yield Measure(f"meminfo_kb.{name}", total, NODE_TOLERANCE)
    names = GROUP_SERIES_V1 if recording.v1 else GROUP_SERIES
    for group in recording.raw["cgroups"]:
        prefix = f"cgroup.{group['name']}."
        scale = group_scale(recording, group)
        for what, name in names.items():
            if prefix + name in first:
                yield Measure(prefix + name, scale, GROUP_TOLERANCE[what])


def group_scale(recording: Recording, group: dict[str, str]) -> float:
    """What a cgroup's errors are relative to: its limit or its peak. [bytes]"""
    limits = [group.get(key) for key in ("memory.max", "memory.limit_in_bytes", "memory.high")]
    set_limits = [int(value) for value in limits if value not in (None, "max", "-1")]
    usage = (GROUP_SERIES_V1 if recording.v1 else GROUP_SERIES)["current"]
    peaks = [
        float(np.nanmax(truth.series[f"cgroup.{group['name']}.{usage}"]))
        for truth in recording.truths
    ]
    return float(max([*set_limits, *peaks, LEAST_SCALE_BYTES]))


def grid_of(courses: tuple[Course, ...]) -> NDArray[np.float64]:
    """Whole seconds that all courses cover. [s]"""
    first = math.ceil(max(course.t[0] for course in courses))
    last = math.floor(min(course.t[-1] for course in courses))
    return np.arange(first, last + 1, dtype=np.float64)


def at(course: Course, name: str, grid: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """A series on the grid, linear between samples; None where it has no sample."""
    values = course.series.get(name)
    if values is None:
        return None
    there = ~np.isnan(values)
    if not there.any():
        return None
    return np.interp(grid, course.t[there], values[there])


def score_series(recording: Recording, predicted: Course, measure: Measure) -> SeriesScore | None:
    """Score one series; None where neither truth has it.

    A prediction that lacks the series is taken for nought throughout.
    """
    grid = grid_of(recording.truths)
    truths = [at(truth, measure.series, grid) for truth in recording.truths]
    known = [truth for truth in truths if truth is not None]
    if not known:
        return None
    own = at(predicted, measure.series, grid)
    if own is None:
        own = np.zeros(len(grid))
    errors = [np.abs(own - truth) / measure.scale for truth in known]
    means = tuple(float(np.mean(error)) for error in errors)
    nearer = int(np.argmin(means))
    spread = float(np.mean(np.abs(known[0] - known[-1]))) / measure.scale
    return SeriesScore(
        measure.series,
        means[nearer],
        float(np.max(errors[nearer])),
        measure.tolerance,
        spread,
        means,
    )
