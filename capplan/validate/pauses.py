"""Pauses, read off the RSS in truth and prediction alike.

Paused: a live process whose RSS stays flat below its phase's demand for 2 s or more, to the
run's end or its release, while its cgroup is at its limit. A task that swaps out one page for
each that it touches has a flat RSS too, but moves on: its group's swap must be flat as well. One
that sleeps after every few pages (memory.swap.high) is throttled, not paused: its group's usage
rises between most samples. (The kernel adds up a task's RSS by 64 pages at a time.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capplan.validate.truth import Course

PAUSE_S = 2.0
FLAT_PAGES = 64  # MEMCG_CHARGE_BATCH: a growing task takes more between two samples
AT_LIMIT_PAGES = 128  # what two CPUs may hold in their stocks (mm/memcontrol.c, refill_stock)
SLACK_PAGES = 512  # a recorded process maps about 300 pages beside its phases' own
PAGE_SIZE = 4096
PAGES_PER_MIB = 256


@dataclass(frozen=True)
class Pause:
    """A process held at its cgroup's limit, from and to [s]; ``to_end``: never released."""

    name: str
    begin_s: float
    end_s: float
    to_end: bool


@dataclass(frozen=True)
class _Growth:
    """An ``anon`` phase: it cannot begin before, and takes the process from lo to hi pages."""

    begin_s: float
    lo: float
    hi: float


def find_pauses(raw: Mapping[str, Any], course: Course) -> tuple[Pause, ...]:
    """All pauses of a course.

    Parameters
    ----------
    raw : mapping
        ``scenario.json``: the phases say what each process demands.
    course : Course
        Truth or prediction.
    """
    limits = {group["name"]: _hard_limit(group) for group in raw["cgroups"]}
    found: list[Pause] = []
    for process in raw["processes"]:
        limit = limits.get(process["cgroup"])
        rss = course.series.get(f"process.{process['name']}.rss_pages")
        if limit is None or rss is None:
            continue
        done = rss + _swap(course, process)
        usage = _usage(course, process)
        held = _held(course, process, done, usage >= limit - AT_LIMIT_PAGES)
        for first, last in _flat_windows(course.t, (rss, done), held):
            if np.median(np.diff(usage[first : last + 1])) >= 1:
                continue
            to_end = course.t[last] >= course.t[-1]
            found.append(
                Pause(process["name"], float(course.t[first]), float(course.t[last]), bool(to_end))
            )
    return tuple(found)


def _hard_limit(group: Mapping[str, Any]) -> float | None:
    value = group.get("memory.max", group.get("memory.limit_in_bytes"))
    return None if value in (None, "max", "-1") else int(str(value)) / PAGE_SIZE


def _held(
    course: Course,
    process: Mapping[str, Any],
    done: NDArray[np.float64],
    full: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Samples at which the process is in the midst of growing and its group at its limit."""
    midst = np.zeros(len(done), dtype=np.bool_)
    for growth in _growths(process):
        midst |= (
            (course.t >= growth.begin_s)
            & (done > growth.lo + SLACK_PAGES)
            & (done < growth.hi - SLACK_PAGES)
        )
    return midst & full & ~np.isnan(done)


def _usage(course: Course, process: Mapping[str, Any]) -> NDArray[np.float64]:
    """What the process's group is charged. [pages]"""
    prefix = f"cgroup.{process['cgroup']}."
    return _first(course, prefix, ("memory.current", "memory.usage_in_bytes")) / PAGE_SIZE


def _swap(course: Course, process: Mapping[str, Any]) -> NDArray[np.float64]:
    """The group's swapped pages, taken for the process's: an upper bound."""
    prefix = f"cgroup.{process['cgroup']}."
    names = ("memory.swap.current", "stat.total_swap")
    return np.nan_to_num(_first(course, prefix, names)) / PAGE_SIZE


def _first(course: Course, prefix: str, names: tuple[str, ...]) -> NDArray[np.float64]:
    for name in names:
        if prefix + name in course.series:
            return course.series[prefix + name]
    return np.zeros(len(course.t))


def _growths(process: Mapping[str, Any]) -> Iterator[_Growth]:
    """The process's ``anon`` phases; rates are upper bounds, so none begins earlier."""
    begin, pages = float(process["start_s"]), 0.0
    for phase in process["phases"]:
        mib = phase.get("mib", 0)
        if phase["op"] == "anon":
            yield _Growth(begin, pages, pages + mib * PAGES_PER_MIB)
            pages += mib * PAGES_PER_MIB
        elif phase["op"] == "free_anon":
            pages -= mib * PAGES_PER_MIB
        rate = phase.get("rate_mib_s", 0)
        begin += phase.get("seconds", mib / rate if rate else 0.0)


def _flat_windows(
    t: NDArray[np.float64], flat: tuple[NDArray[np.float64], ...], held: NDArray[np.bool_]
) -> Iterator[tuple[int, int]]:
    """First and last sample of each stretch that is held and in which all of flat stay so."""
    first = 0
    while first < len(t):
        last = first
        while last + 1 < len(t) and held[first] and held[last + 1]:
            if any(abs(values[last + 1] - values[first]) > FLAT_PAGES for values in flat):
                break
            last += 1
        if t[last] - t[first] >= PAUSE_S:
            yield first, last
        first = last + 1
