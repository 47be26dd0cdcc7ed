"""A recorded curve becomes the lives of a process that follows it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from capplan import units
from capplan.errors import InputError
from capplan.sim.expand_draws import Draws
from capplan.sim.scenario import PAGE_SIZE, Access
from capplan.spec.moment import moment_s
from capplan.spec.profile import Access as SpecAccess
from capplan.spec.profile import Region, Trace
from capplan.spec.trace import (
    MemoryTrace,
    TraceQuery,
    Window,
    clipped_samples,
    fit_to_run,
    load_trace,
)
from capplan.spec.trace_mask import WindowQuery, read_windows

NS_PER_S = 1_000_000_000
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

# Median and range of rss / usage over the 19 containers of Kruize's demonstration data
# (containers_15min.csv): JVMs at 0.97, small Go operators at 0.5 to 0.7.
ANON_SHARE = 0.70
ANON_SHARE_RANGE = (0.47, 0.99)
# Far memory's smallest cold age (Lagar-Cavilla et al., ASPLOS'19): memory in use is touched
# about this often.
REVISIT_S = 120.0
DAY_S = 86_400.0
TREND_BLOCKS, MIN_TREND_BLOCKS = 20, 5

_UNIT_BYTES = {"bytes": 1.0, "KiB": 1024.0, "MiB": 1048576.0, "GiB": 1073741824.0}


@dataclass(frozen=True, eq=False)
class Life:
    """One life of the process: from its start to the restart after it.

    ``at_ns`` are run times; the first point is the extent at the start.
    """

    at_ns: IntArray
    anon: IntArray
    file: IntArray | None
    exits: bool


@dataclass(frozen=True, eq=False)
class Followed:
    """What a trace asks for."""

    lives: tuple[Life, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Curve:
    """What is followed, on the trace's own clock."""

    t_s: FloatArray
    anon: FloatArray
    file: FloatArray | None
    restarts: npt.NDArray[np.bool_]


class Recording:
    """A trace as it was read: what all runs that follow it have in common.

    Parameters
    ----------
    trace
        The profile's.
    folder
        What its file is relative to.
    limit
        The container's own limit, -1 for none. [bytes]
    """

    def __init__(self, trace: Trace, folder: Path, limit: int) -> None:
        self.trace = trace
        self.value, self.other = _curves(trace, folder)
        self.peaks = _peaks(trace, folder)
        limit = trace.limit if trace.limit is not None else limit
        self.flaws = _flaws(trace.file, self.value, limit)
        self.between = _between(trace.file, self.value, trace.peaks is not None)
        self.anon = Region(kind="anon", compressibility=trace.compressibility)
        self._laid: tuple[tuple[int, int, float], Laid] | None = None  # the latest

    def follow(self, draws: Draws, start_ns: int, end_ns: int) -> Followed:
        """Lay it on a run.

        Parameters
        ----------
        draws
            The process instance's.
        start_ns, end_ns
            When the process starts, and the run ends. [ns]
        """
        trace = self.trace
        offset = draws.sample(trace.offset, "trace", "offset") / NS_PER_S
        scale = draws.sample(trace.scale, "trace", "scale")
        notes = list(self.flaws)
        anon, file = _split(trace, self.value, self.other, draws, notes)
        curve = Curve(self.value.t_s, anon, file, self.value.restarts)
        if self.peaks is not None:
            curve = _with_peaks(self.peaks, self.value, curve, draws)
        notes += self.between
        at_ns, index, begins = self._lay(curve, start_ns, end_ns, -offset)
        anon = curve.anon[index] * scale
        file = None if curve.file is None else curve.file[index] * scale
        if trace.jitter > 0.0:
            noise = _noise(trace, draws, at_ns.size)
            anon, file = anon * noise, None if file is None else file * noise
        anon += trace.add
        is_over = bool(at_ns[-1] < end_ns)
        if trace.at_end == "trend" and is_over:
            further = scale * _trend(trace, curve, draws, notes) * (end_ns - at_ns[-1]) / NS_PER_S
            anon = np.append(anon, max(anon[-1] + further, 0.0))
            file = None if file is None else np.append(file, file[-1])
            at_ns = np.append(at_ns, end_ns)
        ends = trace.at_end == "exit" and is_over
        lives = _lives(at_ns, _pages(anon), None if file is None else _pages(file), begins, ends)
        return Followed(lives, tuple(notes))

    def _lay(self, curve: Curve, start_ns: int, end_ns: int, offset_s: float) -> Laid:
        """Where a curve lies; without peaks, which are drawn, runs differ by its offset only."""
        key = (start_ns, end_ns, offset_s)
        if self._laid is None or self._laid[0] != key or self.peaks is not None:
            self._laid = (key, _lay(curve, *key, self.trace.at_end == "repeat"))
        return self._laid[1]


def recorded(trace: Trace, folder: Path) -> float:
    """Length of the recording, from its first sample to its last [s]."""
    value, _ = _curves(trace, folder)
    return float(value.t_s[-1])


def trace_access(given: SpecAccess | None, pages: IntArray) -> Access:
    """How followed memory is accessed; by default each page about every two minutes."""
    if given is None:
        return Access("uniform", int(pages.sum()) // pages.size / REVISIT_S)
    return Access(given.pattern, given.rate / PAGE_SIZE, given.skew)


def _curves(trace: Trace, folder: Path) -> tuple[MemoryTrace, MemoryTrace | None]:
    """The measured series, or anonymous memory and page cache where they stand apart."""
    columns = trace.columns
    name = columns.value if columns.value is not None else columns.anon
    assert name is not None
    value = load_trace(_query(trace, folder, name))
    if columns.anon is None or columns.file is None:
        return value, None
    return value, load_trace(_query(trace, folder, columns.file))


def _query(
    trace: Trace, folder: Path, column: str, where: Mapping[str, str] | None = None
) -> TraceQuery:
    unit = float(trace.of or 0) if trace.unit == "fraction" else _UNIT_BYTES[trace.unit]
    return TraceQuery(
        file=folder / trace.file,
        time=trace.columns.time,
        value=column,
        where=trace.filter if where is None else where,
        time_unit=trace.time_unit,
        unit_bytes=unit,
        max_gap_s=None if trace.max_gap is None else trace.max_gap / NS_PER_S,
        masked=_windows(trace, folder),
    )


def _windows(trace: Trace, folder: Path) -> tuple[Window, ...]:
    """All windows that are masked."""
    windows: list[Window] = []
    for mask in trace.mask:
        length = None if mask.duration is None else mask.duration / NS_PER_S
        if mask.file is None:
            start = -math.inf if mask.start is None else moment_s(mask.start)
            end = math.inf if mask.end is None else moment_s(mask.end)
            windows.append(Window(start, end if length is None else start + length))
            continue
        assert mask.start is not None
        shift = mask.shift / NS_PER_S
        match = {column: trace.filter[key] for column, key in mask.match.items()}
        query = WindowQuery(
            folder / mask.file, mask.start, mask.end, length or 0.0, shift, mask.filter, match
        )
        windows += read_windows(query)
    return tuple(windows)


def _shown(file: str) -> str:
    """The trace's name in a sentence."""
    return Path(file).name


def _flaws(file: str, value: MemoryTrace, limit: int) -> tuple[str, ...]:
    """What is said of samples that are masked, and of those that sit at the limit."""
    notes = []
    if value.masked:
        notes.append(
            f"{_shown(file)}: {value.masked} of {value.masked + len(value)} samples are masked "
            "and bridged in a straight line"
        )
    clipped = clipped_samples(value.bytes, float(limit))
    if clipped:
        notes.append(
            f"{_shown(file)}: {clipped} of {len(value)} samples sit at the limit of "
            f"{units.format_bytes(limit)}: the trace is clipped, the demand was higher"
        )
    return tuple(notes)


def _between(file: str, value: MemoryTrace, peaks: bool) -> tuple[str, ...]:
    """What is said of the time between samples."""
    span = units.format_duration(round(value.interval_s * NS_PER_S))
    if peaks:
        note = (
            f"{_shown(file)}: the peak of each {span} stands in its middle, rising and falling "
            "over all of it (in runs of many: anywhere in it); when it was, and how fast it came, "
            "was not recorded"
        )
        return (note,)
    if len(value) > 1:
        return (f"{_shown(file)}: one sample every {span}; a peak in between is not in it",)
    return ()


Laid = tuple[IntArray, IntArray | slice, list[int]]
"""Times on the run's clock [ns], the samples at them, and where lives begin."""


def _lay(curve: Curve, start_ns: int, end_ns: int, offset_s: float, repeat: bool) -> Laid:
    times, index = fit_to_run(
        curve.t_s, (end_ns - start_ns) / NS_PER_S, offset_s=offset_s, repeat=repeat
    )
    # a repeated trace begins anew where its index falls back
    begins = [0, *(1 + np.flatnonzero(curve.restarts[index[1:]])).tolist()]
    at_ns = start_ns + np.rint(times * NS_PER_S).astype(np.int64)
    at_ns.flags.writeable = False  # the next run may have the same
    return at_ns, index if repeat else slice(index[0], index[-1] + 1), begins


def _split(
    trace: Trace,
    value: MemoryTrace,
    other: MemoryTrace | None,
    draws: Draws,
    notes: list[str],
) -> tuple[FloatArray, FloatArray | None]:
    """Anonymous memory and page cache of each sample [bytes]."""
    if other is not None:
        # the two columns share their rows, but one may have cells that the other lacks
        file = np.interp(value.t_s + value.origin_s, other.t_s + other.origin_s, other.bytes)
        return value.bytes, file
    if trace.measures in ("rss", "anon") or trace.columns.anon is not None:
        return value.bytes, None
    share = trace.anon_share
    if share is None:
        share = ANON_SHARE
        if draws.replicate > 0:  # replicate 0 of a risk run is the single run
            low, high = ANON_SHARE_RANGE
            share = low + (high - low) * draws.uniform("trace", "anon_share")
        notes.append(
            f"{_shown(trace.file)}: {100 * share:.0f} % of {trace.measures.replace('_', ' ')} is "
            "anonymous, the rest page cache (assumed; anon_share says it)"
        )
    return share * value.bytes, (1.0 - share) * value.bytes if share < 1.0 else None


def _peaks(trace: Trace, folder: Path) -> MemoryTrace | None:
    """The series of highest values, where the trace names one."""
    if trace.peaks is None:
        return None
    column = trace.peaks.value or trace.columns.value or trace.columns.anon
    assert column is not None
    return load_trace(_query(trace, folder, column, trace.filter | trace.peaks.filter))


def _with_peaks(peaks: MemoryTrace, value: MemoryTrace, curve: Curve, draws: Draws) -> Curve:
    """Put the highest value of each interval between its sample and the next.

    What rises above the samples is anonymous: below the limit page cache does not go by itself.
    """
    step = value.interval_s
    # a series that is scraped apart may be late by part of an interval
    at = peaks.t_s + (peaks.origin_s - value.origin_s)
    which = np.searchsorted(value.t_s, at + step / 4, side="right") - 1
    high = np.zeros(value.t_s.size)
    np.maximum.at(high, which[which >= 0], peaks.bytes[which >= 0])
    # the life before a restart does not come down to the new one's start
    after = np.where(curve.restarts[1:], value.bytes[:-1], value.bytes[1:])
    place = _within(draws, value.t_s.size - 1)
    wide = np.minimum(np.diff(value.t_s), step)
    share = place * wide / np.diff(value.t_s)
    base = value.bytes[:-1] + share * (after - value.bytes[:-1])
    above = high[:-1] > np.maximum(value.bytes[:-1], after)
    new = np.flatnonzero(above)
    left = curve.anon[new]
    right = np.where(curve.restarts[new + 1], left, curve.anon[new + 1])
    anon = left + share[new] * (right - left) + (high[new] - base[new])
    return Curve(
        np.insert(curve.t_s, new + 1, value.t_s[new] + (place * wide)[new]),
        np.insert(curve.anon, new + 1, anon),
        None if curve.file is None else np.insert(curve.file, new + 1, curve.file[new]),
        np.insert(curve.restarts, new + 1, False),
    )


def _within(draws: Draws, count: int) -> FloatArray:
    """Where in its interval each peak stands: in the middle, or anywhere in a run of many."""
    if draws.replicate == 0:
        return np.full(count, 0.5)
    cdf = NormalDist().cdf
    scores = draws.normals(count, "trace", "peaks").tolist()
    return np.array([min(max(cdf(score), 0.01), 0.99) for score in scores])


def _trend(trace: Trace, curve: Curve, draws: Draws, notes: list[str]) -> float:
    """How anonymous memory rises over the second half of the trace [bytes/s].

    The median of the slopes between block medians (Theil, 1950; Sen, 1968): garbage collections
    and bursts do not bend it. Blocks, since samples that follow each other are not independent;
    the interval is Sen's, and runs of many draw the slope as normal with its width.
    """
    from scipy.stats import theilslopes

    half = curve.t_s.size // 2
    blocks = min(TREND_BLOCKS, curve.t_s.size - half)
    if blocks < MIN_TREND_BLOCKS:
        raise InputError(
            f"{trace.file}: at_end: trend needs {2 * MIN_TREND_BLOCKS - 1} samples, "
            f"there are {curve.t_s.size}"
        )
    t_s = [float(np.median(part)) for part in np.array_split(curve.t_s[half:], blocks)]
    anon = [float(np.median(part)) for part in np.array_split(curve.anon[half:], blocks)]
    slope, _, lowest, highest = theilslopes(anon, t_s, alpha=0.95)
    low, middle, high = (
        units.format_bytes(round(bytes_s * DAY_S)) for bytes_s in (lowest, slope, highest)
    )
    notes.append(
        f"{_shown(trace.file)}: after its end anonymous memory goes on with the trend of its "
        f"second half, {middle} a day (95 %: {low} to {high}); a trend need not last"
    )
    if draws.replicate == 0:
        return float(slope)
    spread = (highest - lowest) / (2 * NormalDist().inv_cdf(0.975))
    return float(slope + spread * draws.score(0, "trace", "trend"))


def _noise(trace: Trace, draws: Draws, count: int) -> FloatArray:
    noise: FloatArray = np.maximum(1.0 + trace.jitter * draws.normals(count, "trace", "jitter"), 0)
    return noise


def _pages(size: FloatArray) -> IntArray:
    return np.ceil(size / PAGE_SIZE).astype(np.int64)


def _lives(
    at_ns: IntArray, anon: IntArray, file: IntArray | None, begins: list[int], ends: bool
) -> tuple[Life, ...]:
    """Cut the curve where a new life begins.

    Page cache falls only by reclaim, and outlives the process: its target never falls.
    """
    if file is not None:
        file = np.maximum.accumulate(file)
    return tuple(
        Life(
            at_ns[a:b],
            anon[a:b],
            None if file is None else file[a:b],
            exits=ends or b < at_ns.size,
        )
        for a, b in itertools.pairwise([*begins, int(at_ns.size)])
    )
