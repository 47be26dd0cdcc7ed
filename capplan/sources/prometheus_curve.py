"""One container's samples as a curve: page cache apart, restarts, lost peaks, clipping.

cAdvisor reads a control group's files once a scrape; between two scrapes only the group's
high-water mark (``container_memory_max_usage_bytes``: memory.max_usage_in_bytes of v1, memory.peak
of v2 since 5.19) and its counters know what happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from capplan.sources.prometheus import Series
from capplan.spec.trace import CLIP_SHARE, clipped_samples
from capplan.units import format_bytes

__all__ = ["Curve", "Points", "curve_of", "merged"]

FloatArray = npt.NDArray[np.float64]
MIB = 1 << 20
SHOWN_KILLS = 5
LEAST_PEAK = 64 * 4096  # memcg charges in batches of 64 pages per CPU: less is no peak
Points = tuple[FloatArray, FloatArray]


@dataclass(frozen=True, eq=False)
class Curve:
    """What a container held over time [Unix seconds, bytes].

    Attributes
    ----------
    measures
        ``usage`` (``value`` is anonymous memory, ``file`` apart), or what ``value`` is.
    kernel
        Kernel memory: usage less anonymous memory, cache and page tables; median. 0: not known.
    limit
        Largest limit it ran under; None: none known.
    notes
        What was measured, modelled or assumed, for the profile's comments.
    warnings
        What the user should be told.
    """

    time: FloatArray
    value: FloatArray
    file: FloatArray | None
    measures: str
    kernel: int
    limit: int | None
    restarts: int
    last: tuple[int, int, int]
    interval: float
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def merged(series: list[Series]) -> Points | None:
    """Samples of several series of one container: the larger where two have the same time.

    A container that was made anew has another cgroup, and two replicas of Prometheus may watch
    the same one: neither may count twice.
    """
    if not any(one.times for one in series):
        return None
    time = np.concatenate([np.asarray(one.times, dtype=np.float64) for one in series])
    value = np.concatenate([np.asarray(one.values, dtype=np.float64) for one in series])
    order = np.lexsort((value, time))
    time, value = time[order], value[order]
    last = np.append(np.diff(time) > 0, True)
    return time[last], value[last]


def _at(points: Points | None, time: FloatArray) -> FloatArray | None:
    """The last value at or before each time; before the first one, the first."""
    if points is None:
        return None
    index = np.searchsorted(points[0], time + 1e-3, side="right") - 1
    found: FloatArray = points[1][np.maximum(index, 0)]
    return found


def curve_of(points: Mapping[str, Points]) -> Curve | None:
    """Make the curve of a container.

    Parameters
    ----------
    points : mapping
        Times and values by name without ``container_memory_`` and ``_bytes``: ``rss``, ``cache``,
        ``usage``, ``working_set``, ``max_usage``, ``swap``, ``failcnt``, ``oom_events``,
        ``limit``, the signs of a restart ``start_time``, ``cpu``, ``restarts``, and
        ``oom_killed``: 1 while the last termination is an OOM kill.

    Returns
    -------
    Curve or None
        None where nothing of its memory was measured.
    """
    base = next((points[k] for k in ("rss", "working_set", "usage") if k in points), None)
    if base is None:
        return None
    keep = base[1] >= 0
    time = base[0][keep]
    if not time.size:
        return None
    given = {name: found for name in points if (found := _at(points[name], time)) is not None}
    notes: list[str] = []
    warnings: list[str] = []
    value, file, measures = _split(given, notes)
    limit = given.get("limit")
    if limit is not None:
        limit = np.where((limit > 0) & (limit < 2.0**60), limit, 0.0)  # none: 0, or nearly 2**63
        if not limit.any():
            limit = None
    kernel = _kernel(given, notes) if file is not None else 0
    again = _restarts(given)
    killed = _killed(points.get("oom_killed"), time, again)
    _say_clipped(given, value, limit, notes, warnings)
    _say_killed(killed, time, points.get("oom_killed"), limit, notes, warnings)
    last = tuple(int(given[k][-1]) if k in given else int(value[-1]) for k in
                 ("usage", "working_set", "rss"))  # fmt: skip
    interval = float(np.median(np.diff(time))) if time.size > 1 else 0.0
    time, value, file = _with_peaks(time, value, file, given, again, limit, notes)
    if limit is not None and killed.any():
        at = _kill_times(base[0][keep], given, killed)
        tops = np.maximum(limit[np.maximum(killed.nonzero()[0] - 1, 0)] - kernel, 0.0)
        time, value, file = _with_kills(time, value, file, at, tops)
    if again.any():
        notes.append(f"{int(again.sum())} restarts: the trace falls to nothing there")
    notes += _gaps(time, interval)
    return Curve(
        time, value, file, measures, kernel, None if limit is None else int(limit.max()),
        int(again.sum()), (last[0], last[1], last[2]), interval, tuple(notes), tuple(warnings),
    )  # fmt: skip


def _split(
    given: Mapping[str, FloatArray], notes: list[str]
) -> tuple[FloatArray, FloatArray | None, str]:
    """Anonymous memory and page cache where both are known, or the one figure there is."""
    rss, cache, usage, working = (
        given.get(k) for k in ("rss", "cache", "usage", "working_set")
    )  # fmt: skip
    swap = given.get("swap")
    if rss is None and usage is not None and cache is not None:
        notes.append("measured: usage and cache; the rest is taken to be anonymous")
        return np.maximum(usage - cache, 0.0), np.maximum(cache, 0.0), "usage"
    if rss is None:
        name = "working_set" if working is not None else "usage"
        notes.append(
            f"measured: {name} alone; which part of it is page cache is not known (anon_share)"
        )
        found = working if working is not None else usage
        assert found is not None
        return found, None, name
    anon = np.maximum(rss, 0.0)
    said = "rss"
    if swap is not None and swap.any():
        anon, said = anon + np.maximum(swap, 0.0), "rss and swap (what is in swap is wanted too)"
    if cache is not None:
        notes.append(f"measured: {said}; cache apart, with tmpfs and shared memory in it")
        return anon, np.maximum(cache, 0.0), "usage"
    if usage is not None or working is not None:
        name, more = ("usage", usage) if usage is not None else ("working_set", working)
        assert more is not None
        only = ", of which working_set has the active part only" if usage is None else ""
        notes.append(f"measured: {said}; page cache is {name} less rss{only}")
        return anon, np.maximum(more - rss, 0.0), "usage"
    notes.append(f"measured: {said}; page cache is not known, and left out")
    return anon, None, "rss"


def _kernel(given: Mapping[str, FloatArray], notes: list[str]) -> int:
    """Kernel memory that is neither anonymous, cache nor page tables [bytes]."""
    if not {"usage", "rss", "cache"} <= given.keys():
        return 0
    # a page table of 4 KiB maps 2 MiB
    rest = given["usage"] - given["cache"] - given["rss"] * (1 + 1 / 512)
    found = int(np.median(rest)) // 4096 * 4096
    if found < MIB:
        return 0
    notes.append(
        f"kernel memory: usage less rss, cache and page tables, median {format_bytes(found)}"
    )
    return found


def _say_clipped(
    given: Mapping[str, FloatArray], anon: FloatArray, limit: FloatArray | None,
    notes: list[str], warnings: list[str],
) -> None:  # fmt: skip
    """Tell where the limit, not the container, made the curve."""
    if limit is not None:
        shares = np.where(limit > 0, 1.0 / np.maximum(limit, 1.0), 0.0)
        sitting = max(
            clipped_samples(one * shares, 1.0)
            for one in (anon, given.get("working_set", np.zeros_like(anon)))
        )
        top = format_bytes(int(limit.max()))
        if sitting:
            text = f"CLIPPED: {sitting} of {anon.size} samples sit at the old limit of {top}"
            notes.append(f"{text}; the demand was higher, how much nobody measured")
            warnings.append(f"{text}: the demand was higher")
        elif "usage" in given and clipped_samples(given["usage"] * shares, 1.0):
            notes.append(
                f"usage sat at the limit of {top} for its page cache: the cache wanted more"
            )
    for name, said in (("failcnt", "the limit was hit"), ("oom_events", "the OOM killer came")):
        count = int(_rise(given[name]).sum()) if name in given else 0
        if count:
            notes.append(f"{said} {count} times (counted): samples between show less than it took")
            warnings.append(f"{said} {count} times: the trace shows less than was wanted")


def _rise(counter: FloatArray) -> FloatArray:
    """How much a counter rose up to each sample; after a reset, what it has."""
    steps = np.diff(counter, prepend=counter[:1])
    return np.where(steps < 0, counter, steps)


def _restarts(given: Mapping[str, FloatArray]) -> npt.NDArray[np.bool_]:
    """Samples of a new life: the best sign of it that is there decides."""
    size = next(iter(given.values())).size
    again = np.zeros(size, dtype=np.bool_)
    for name in ("start_time", "cpu", "max_usage", "restarts"):
        if name in given:
            steps = np.diff(given[name])
            # a start time may be told with a jitter of parts of a second
            again[1:] = steps > 1.0 if name == "start_time" else (
                steps > 0 if name == "restarts" else steps < 0
            )  # fmt: skip
            break
    return again


def _killed(
    points: Points | None, time: FloatArray, again: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Samples before which the container was OOM-killed.

    A restart is one if the reason of the last termination, told then or with the next scrape, is
    an OOM kill; without a restart it is the sample at which that became the reason.
    """
    none = np.zeros(time.size, dtype=np.bool_)
    if points is None:
        return none
    shown = _at(points, time)
    assert shown is not None
    state = (shown > 0) & (time + 1e-3 >= points[0][0])
    told = state | np.append(state[1:], False)
    begun = np.append(False, np.diff(state.astype(np.int8)) > 0)
    near = again | np.append(False, again[:-1])
    found: npt.NDArray[np.bool_] = (again & told) | (begun & ~near)
    return found


def _say_killed(
    killed: npt.NDArray[np.bool_], time: FloatArray, points: Points | None,
    limit: FloatArray | None, notes: list[str], warnings: list[str],
) -> None:  # fmt: skip
    """Tell that the trace ends at kills, each with what is known of its time."""
    if points is not None and points[0][0] <= time[0] + 1e-3 and points[1][0] > 0:
        notes.append("OOMKilled once before the trace begins: it has wanted more than it had")
    if not killed.any():
        return
    begin = time[0]
    shown = ", ".join(f"{t - begin:.0f} s" for t in time[killed][:SHOWN_KILLS])
    more = killed.sum() - SHOWN_KILLS
    shown += f" and {more} more" if more > 0 else ""
    text = f"CLIPPED: OOMKilled {int(killed.sum())} times, seen at {shown}"
    notes.append(f"{text}; the demand was higher, how much nobody measured")
    warnings.append(f"{text}: the demand was higher")
    if limit is not None:
        notes.append(
            "MODELLED: before each kill a point at the limit, as anonymous memory (if it was the "
            "node that had run out, it was less)"
        )


def _kill_times(
    time: FloatArray, given: Mapping[str, FloatArray], killed: npt.NDArray[np.bool_]
) -> FloatArray:
    """When it was killed: half way from the sample before to the new start [Unix seconds]."""
    found = killed.nonzero()[0]
    before, after = time[np.maximum(found - 1, 0)], time[found]
    started = given["start_time"][found] if "start_time" in given else after
    end = np.where((before < started) & (started < after), started, (before + after) / 2)
    at: FloatArray = (before + end) / 2
    return at


def _with_kills(
    time: FloatArray, value: FloatArray, file: FloatArray | None, at: FloatArray, tops: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Put in a point at the limit before each kill: by then reclaim has taken the cache."""
    order = np.argsort(np.concatenate((time, at)), kind="stable")
    value = np.concatenate((value, tops))[order]
    if file is not None:
        file = np.concatenate((file, np.zeros_like(at)))[order]
    return np.concatenate((time, at))[order], value, file


def _with_peaks(
    time: FloatArray, value: FloatArray, file: FloatArray | None,
    given: Mapping[str, FloatArray], again: npt.NDArray[np.bool_], limit: FloatArray | None,
    notes: list[str],
) -> tuple[FloatArray, FloatArray, FloatArray | None]:  # fmt: skip
    """Put in the restarts, and the peaks that only the high-water mark saw."""
    rows: list[tuple[float, float, float]] = []
    mark, usage = given.get("max_usage"), given.get("usage")
    lost, most, shared = 0, 0.0, 0
    for i in np.flatnonzero(_peaked(mark, usage, again) | again):
        before, after = time[i - 1], time[i]
        cache = 0.0 if file is None else float(file[i])
        if again[i]:
            told = float(given["start_time"][i]) if "start_time" in given else 0.0
            before = told if before < told < after else (before + after) / 2
            rows.append((float(before), 0.0, 0.0))
        if mark is None or usage is None:
            continue
        top = usage[i] if again[i] else max(usage[i - 1], usage[i])
        excess = float(mark[i] - top)
        if excess < LEAST_PEAK:
            continue
        anon, lost, most = excess, lost + 1, max(most, excess)
        if limit is not None and 0 < CLIP_SHARE * limit[i] <= mark[i]:
            # reclaim at the limit may have taken cache since: nobody knows which it was
            anon, shared = excess * value[i] / max(value[i] + cache, 1.0), shared + 1
        floor = value[i] if again[i] else max(value[i - 1], value[i])
        # page cache does not go by itself: what is gone again below the limit was anonymous
        rows.append((float((before + after) / 2), float(floor + anon), cache + excess - anon))
    _say_peaks(notes, mark, lost, most, shared)
    if not rows:
        return time, value, file
    added = np.array(rows)
    order = np.argsort(np.concatenate((time, added[:, 0])), kind="stable")
    value = np.concatenate((value, added[:, 1]))[order]
    if file is not None:
        file = np.concatenate((file, added[:, 2]))[order]
    return np.concatenate((time, added[:, 0]))[order], value, file


def _peaked(
    mark: FloatArray | None, usage: FloatArray | None, again: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Samples before which the high-water mark rose."""
    rose = np.zeros(again.size, dtype=np.bool_)
    if mark is not None and usage is not None:
        rose[1:] = np.diff(mark) > 0
    return rose


def _say_peaks(
    notes: list[str], mark: FloatArray | None, lost: int, most: float, shared: int
) -> None:
    if mark is None:
        notes.append("peaks between scrapes are NOT in it: no max_usage was recorded")
        return
    if not lost:
        notes.append("peaks between scrapes: the high-water mark (max_usage) shows none")
    else:
        notes.append(
            f"MODELLED: {lost} peaks between scrapes, up to {format_bytes(int(most))} above the "
            "samples beside them, known from the high-water mark (max_usage); put in the middle "
            "of the interval, as anonymous memory"
        )
    if shared:
        notes.append(
            f"{shared} of them reached the limit: shared out as anon and cache stood, a guess"
        )
    notes.append("a mark that an earlier peak had set hides lower peaks")


def _gaps(time: FloatArray, interval: float) -> list[str]:
    """Say that scrapes are missing."""
    if time.size < 2:
        return []
    steps = np.diff(time)
    lost = int((steps > 1.5 * interval).sum()) if interval > 0 else 0
    longest = float(steps.max())
    return [f"{lost} gaps, of {longest:.0f} s at most: bridged by a line"] if lost else []
