"""A recorded curve becomes the lives of a process that follows it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from capplan import units
from capplan.sim.expand_draws import Draws
from capplan.sim.scenario import PAGE_SIZE, Access
from capplan.spec.profile import Trace
from capplan.spec.trace import MemoryTrace, TraceQuery, clipped_samples, fit_to_run, load_trace

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


def follow(
    trace: Trace, folder: Path, draws: Draws, start_ns: int, end_ns: int, limit: int
) -> Followed:
    """Read a trace and lay it on the run.

    Parameters
    ----------
    trace
        The profile's.
    folder
        What its file is relative to.
    draws
        The process instance's.
    start_ns, end_ns
        When the process starts, and the run ends. [ns]
    limit
        The container's own limit, -1 for none. [bytes]
    """
    offset = draws.sample(trace.offset, "trace", "offset") / NS_PER_S
    scale = draws.sample(trace.scale, "trace", "scale")
    value, other = _curves(trace, folder)
    notes: list[str] = []
    old_limit = trace.limit if trace.limit is not None else limit
    _note_clipped(trace, value, old_limit, notes)
    times, index = fit_to_run(
        value.t_s, (end_ns - start_ns) / NS_PER_S, offset_s=-offset, repeat=trace.at_end == "repeat"
    )
    anon, file = _split(trace, value, other, draws, notes)
    noise = _noise(trace, draws, times.size)
    anon = anon[index] * scale * noise + trace.add
    if file is not None:
        file = file[index] * scale * noise
    again = value.restarts[index]
    again[0] = False
    # a repeated trace begins anew where its index falls back
    at_ns = start_ns + np.rint(times * NS_PER_S).astype(np.int64)
    ends = trace.at_end == "exit" and bool(at_ns[-1] < end_ns)
    lives = _lives(at_ns, _pages(anon), None if file is None else _pages(file), again, ends)
    return Followed(lives, tuple(notes))


def recorded(trace: Trace, folder: Path) -> float:
    """Length of the recording, from its first sample to its last [s]."""
    value, _ = _curves(trace, folder)
    return float(value.t_s[-1])


def trace_access(trace: Trace, pages: int) -> Access:
    """How followed memory is accessed; by default each page about every two minutes."""
    if trace.access is None:
        return Access("uniform", pages / REVISIT_S)
    given = trace.access
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


def _query(trace: Trace, folder: Path, column: str) -> TraceQuery:
    unit = float(trace.of or 0) if trace.unit == "fraction" else _UNIT_BYTES[trace.unit]
    return TraceQuery(
        file=folder / trace.file,
        time=trace.columns.time,
        value=column,
        where={key: str(text) for key, text in trace.filter.items()},
        time_unit=trace.time_unit,
        unit_bytes=unit,
        max_gap_s=None if trace.max_gap is None else trace.max_gap / NS_PER_S,
    )


def _note_clipped(trace: Trace, value: MemoryTrace, limit: int, notes: list[str]) -> None:
    clipped = clipped_samples(value.bytes, float(limit))
    if clipped:
        notes.append(
            f"{trace.file}: {clipped} of {len(value)} samples sit at the limit of "
            f"{units.format_bytes(limit)}: the trace is clipped, the demand was higher"
        )


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
        file = np.interp(value.t_s, other.t_s, other.bytes)
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
            f"{trace.file}: {100 * share:.0f} % of {trace.measures.replace('_', ' ')} is "
            "anonymous, the rest page cache (assumed; anon_share says it)"
        )
    return share * value.bytes, (1.0 - share) * value.bytes if share < 1.0 else None


def _noise(trace: Trace, draws: Draws, count: int) -> FloatArray | float:
    if trace.jitter <= 0.0:
        return 1.0
    noise: FloatArray = np.maximum(1.0 + trace.jitter * draws.normals(count, "trace", "jitter"), 0)
    return noise


def _pages(size: FloatArray) -> IntArray:
    return np.ceil(size / PAGE_SIZE).astype(np.int64)


def _lives(
    at_ns: IntArray, anon: IntArray, file: IntArray | None, again: npt.NDArray[np.bool_], ends: bool
) -> tuple[Life, ...]:
    """Cut the curve where a new life begins.

    Page cache falls only by reclaim, and outlives the process: its target never falls.
    """
    cuts = [0, *np.flatnonzero(again).tolist(), int(at_ns.size)]
    if file is not None:
        file = np.maximum.accumulate(file)
    return tuple(
        Life(
            at_ns[a:b],
            anon[a:b],
            None if file is None else file[a:b],
            exits=ends or b < at_ns.size,
        )
        for a, b in itertools.pairwise(cuts)
    )
