"""One recording's score: events, pauses, series, work, watermarks.

The bars: the same processes killed (name and scope) and finished, in order where two kills
lie more than 0.5 s apart, within max(1.5 s, 5 % of the run); what lies within that of the
run's end counts either way; the same pauses; mean errors of the series within tolerance or
the kernel's own spread; the zones' marks exact. Work counters are reported and gate nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from capplan.validate.hints import hint_for
from capplan.validate.pauses import Pause, find_pauses
from capplan.validate.series import SeriesScore, measures_of, score_series
from capplan.validate.truth import Course, Happening, Recording

LEAST_TIME_TOLERANCE_S = 1.5
TIME_TOLERANCE = 0.05  # of the run
ORDER_S = 0.5
ALLOCSTALL = "vmstat.allocstall"  # the kernel counts it per zone, the model in one sum
Marks = Mapping[str, tuple[int, int, int]]


@dataclass(frozen=True)
class Work:
    """A counter's growth over the run: the kernel's two, and the prediction's."""

    name: str
    truths: tuple[float, ...]
    predicted: float

    @property
    def nearer(self) -> float:
        """The kernel's count that lies nearer."""
        return min(self.truths, key=lambda truth: abs(truth - self.predicted))

    @property
    def ratio(self) -> float | None:
        """Predicted over the kernel's; None where the kernel counted none."""
        return self.predicted / self.nearer if self.nearer else None


@dataclass(frozen=True)
class Score:
    """How near a prediction is to the kernel, and whether that passes."""

    name: str
    why_events: tuple[str, ...]
    why_pauses: tuple[str, ...]
    why_marks: tuple[str, ...]
    series: tuple[SeriesScore, ...]
    work: tuple[Work, ...]
    pauses: tuple[Pause, ...]  # the prediction's
    victims_kb: tuple[tuple[str, int, tuple[int, ...]], ...] = ()
    tasks: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # the model's only

    @property
    def worst(self) -> SeriesScore:
        """The series nearest to, or furthest over, what is allowed."""
        return max(self.series, key=lambda score: score.share)

    @property
    def why(self) -> tuple[str, ...]:
        """What fails, in plain words; empty when it passes."""
        lines = [*self.why_events, *self.why_pauses, *self.why_marks]
        for score in sorted(self.series, key=lambda s: -s.share):
            if not score.passed:
                lines.append(
                    f"{score.series}: mean error {score.mean:.1%}, allowed "
                    f"{score.allowed:.1%} ({hint_for(score.series)})"
                )
        return tuple(lines)

    @property
    def passed(self) -> bool:
        """Whether every bar is met."""
        return not self.why


def score(recording: Recording, predicted: Course, marks: Marks | None = None) -> Score:
    """Hold a prediction against a recording's two truths.

    Parameters
    ----------
    recording : Recording
        Inputs and truths.
    predicted : Course
        The model's run, or anything of the same shape.
    marks : mapping, optional
        Zone name to (min, low, high) that the model worked with; None: not judged. [pages]
    """
    measures = (score_series(recording, predicted, m) for m in measures_of(recording))
    return Score(
        name=recording.name,
        why_events=_judge_events(recording, predicted),
        why_pauses=_judge_pauses(recording, predicted),
        why_marks=() if marks is None else judge_marks(recording.raw, marks),
        series=tuple(s for s in measures if s is not None),
        work=work_of(recording, predicted),
        pauses=find_pauses(recording.raw, predicted),
        victims_kb=_victims(recording, predicted),
    )


def time_tolerance(run_s: float) -> float:
    """How far a kill or finish may be off. [s]

    Worked example
    --------------
    A run of 20 s: max(1.5, 1.0) = 1.5; of 96 s: 4.8.
    """
    return max(LEAST_TIME_TOLERANCE_S, TIME_TOLERANCE * run_s)


def _judge_events(recording: Recording, predicted: Course) -> tuple[str, ...]:
    """Complaints against the nearer truth: the one with fewer of them."""
    spread = _time_spread(recording)
    complaints = [event_complaints(truth, predicted, spread) for truth in recording.truths]
    return min(complaints, key=len)


def _time_spread(recording: Recording) -> dict[tuple[str, str], float]:
    """Difference between the two truths' times of the same happening. [s]"""
    first, second = (_by_name(t) for t in (recording.truths[0], recording.truths[-1]))
    return {key: abs(first[key].t - second[key].t) for key in first.keys() & second.keys()}


def _by_name(course: Course) -> dict[tuple[str, str], Happening]:
    found: dict[tuple[str, str], Happening] = {}
    for happening in course.happenings:
        found.setdefault((happening.event, happening.name), happening)
    return found


def event_complaints(
    truth: Course, predicted: Course, spread: Mapping[tuple[str, str], float]
) -> tuple[str, ...]:
    """What differs in kills and finishes, in plain words."""
    tolerance = time_tolerance(truth.end_s)
    late = truth.end_s - tolerance
    ours, theirs = _by_name(predicted), _by_name(truth)
    lines: list[str] = []
    for key in sorted(ours.keys() | theirs.keys(), key=lambda k: (k[1], k[0])):
        event, name = key
        mine, real = ours.get(key), theirs.get(key)
        what = "killed" if event == "oom_kill" else "finished"
        if mine is None or real is None:
            there = mine or real
            if there is not None and there.t < late:
                side = "model" if real is None else "kernel"
                lines.append(f"{name}: {what} at {there.t:.1f} s in the {side} only")
            continue
        allowed = max(tolerance, spread.get(key, 0.0))
        if abs(mine.t - real.t) > allowed and min(mine.t, real.t) < late:
            lines.append(
                f"{name}: {what} at {mine.t:.1f} s, in the kernel at {real.t:.1f} s "
                f"(allowed {allowed:.1f} s)"
            )
        if mine.scope != real.scope:
            lines.append(f"{name}: killed with scope {mine.scope}, in the kernel {real.scope}")
    return tuple(lines + _order_complaints(theirs, ours))


def _order_complaints(
    theirs: Mapping[tuple[str, str], Happening], ours: Mapping[tuple[str, str], Happening]
) -> list[str]:
    kills = [key for key in theirs if key[0] == "oom_kill" and key in ours]
    return [
        f"{a[1]} is killed after {b[1]}, in the kernel {theirs[b].t - theirs[a].t:.1f} s before"
        for a in kills
        for b in kills
        if theirs[b].t - theirs[a].t > ORDER_S and ours[a].t > ours[b].t
    ]


def _judge_pauses(recording: Recording, predicted: Course) -> tuple[str, ...]:
    tolerance = time_tolerance(recording.truths[0].end_s)
    ours = find_pauses(recording.raw, predicted)
    kernels = [find_pauses(recording.raw, truth) for truth in recording.truths]
    if len(kernels) > 1 and len(kernels[0]) == len(kernels[1]):
        apart = [abs(a.begin_s - b.begin_s) for a, b in zip(*kernels, strict=True)]
        tolerance = max([tolerance, *apart])
    end = recording.truths[0].end_s
    return min((pause_complaints(real, ours, tolerance, end) for real in kernels), key=len)


def pause_complaints(
    real: tuple[Pause, ...], ours: tuple[Pause, ...], tolerance: float, end_s: float
) -> tuple[str, ...]:
    """What differs in pauses; one that begins within the tolerance of the end is let pass."""
    lines: list[str] = []
    left = list(ours)
    for pause in real:
        near = [p for p in left if p.name == pause.name and _same(p, pause, tolerance)]
        if near:
            left.remove(near[0])
        elif pause.begin_s < end_s - tolerance:
            lines.append(
                f"{pause.name}: paused at {pause.begin_s:.1f} s to {_until(pause)} in the kernel "
                "only (mm/memcontrol.c, mem_cgroup_oom_synchronize)"
            )
    lines += [
        f"{pause.name}: paused at {pause.begin_s:.1f} s to {_until(pause)} in the model only"
        for pause in left
        if pause.begin_s < end_s - tolerance
    ]
    return tuple(lines)


def _same(a: Pause, b: Pause, tolerance: float) -> bool:
    begins = abs(a.begin_s - b.begin_s) <= tolerance
    return begins and (a.to_end == b.to_end or abs(a.end_s - b.end_s) <= tolerance)


def _until(pause: Pause) -> str:
    return "the end" if pause.to_end else f"{pause.end_s:.1f} s"


def judge_marks(raw: Mapping[str, Any], marks: Marks) -> tuple[str, ...]:
    """Zones whose marks differ from those that the kernel printed."""
    lines: list[str] = []
    for zone in raw["boot"]["zones"]:
        real = (zone["min"], zone["low"], zone["high"])
        found = [v for k, v in marks.items() if _zone_is(k, zone["node"], zone["zone"])]
        if not found or tuple(int(v) for v in found[0]) != real:
            mine = tuple(int(v) for v in found[0]) if found else "missing"
            lines.append(
                f"zone {zone['zone']}: marks {mine}, in the kernel {real} "
                "(mm/page_alloc.c, __setup_per_zone_wmarks)"
            )
    return tuple(lines)


def _zone_is(key: str, node: int, zone: str) -> bool:
    """Whether a run's zone key ("DMA32", "N0.DMA32", "0:DMA32") means this zone."""
    if key == zone:
        return True
    return key.endswith(zone) and key[: -len(zone)].strip("nodeN.:/ ") == str(node)


def work_of(recording: Recording, predicted: Course) -> tuple[Work, ...]:
    """How much each counter grew, where the kernel or the model counted anything."""
    names = [
        name
        for name in recording.truths[0].series
        if (name.startswith(("vmstat.", "psi.")) or ".events." in name or ".psi." in name)
        and not name.startswith(ALLOCSTALL + "_")
    ]
    names.append(ALLOCSTALL)
    names += [
        name
        for name in recording.truths[0].series
        if name.split(".")[-1].startswith(("pgscan", "pgsteal", "workingset"))
        and name.startswith("cgroup.")
    ]
    found = []
    for name in names:
        truths = tuple(_growth(truth, name) for truth in recording.truths)
        own = _growth(predicted, name)
        if own or any(truths):
            found.append(Work(name, truths, own))
    return tuple(found)


def _growth(course: Course, name: str) -> float:
    if name == ALLOCSTALL and name not in course.series:
        return sum(_growth(course, part) for part in course.series if part.startswith(name + "_"))
    values = course.series.get(name)
    if values is None:
        return 0.0
    there = values[~np.isnan(values)]
    return float(there[-1] - there[0]) if len(there) else 0.0


def _victims(
    recording: Recording, predicted: Course
) -> tuple[tuple[str, int, tuple[int, ...]], ...]:
    """Each victim of both: its anonymous RSS at the kill, ours and the kernel's. [kB]"""
    kernels = [_by_name(truth) for truth in recording.truths]
    rows = []
    for (event, name), mine in _by_name(predicted).items():
        real = tuple(k[event, name].anon_kb for k in kernels if (event, name) in k)
        if event == "oom_kill" and real:
            rows.append((name, mine.anon_kb, real))
    return tuple(rows)
