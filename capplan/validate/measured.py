"""Verdicts become the figures that are committed: per recording, and per mechanism."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from capplan.validate.judge import Verdict
from capplan.validate.mechanisms import TITLES, exercised
from capplan.validate.pauses import find_pauses
from capplan.validate.recording import scenario_of
from capplan.validate.series import SeriesScore
from capplan.validate.truth import Course, Recording

DIGITS = 5  # of an error: a thousandth of a percent


def recordings_of(verdicts: Sequence[Verdict]) -> dict[str, dict[str, Any]]:
    """Figures of each recording, by name; none but its failure where the model broke down."""
    return {verdict.name: _recording(verdict) for verdict in verdicts}


def _recording(verdict: Verdict) -> dict[str, Any]:
    known = {
        "kernel": verdict.recording.raw["kernel"],
        "cgroup": verdict.recording.raw["cgroup_version"],
        "passed": verdict.passed,
        "mechanisms": list(mechanisms_of(verdict.recording)),
    }
    if verdict.score is None:
        nothing: dict[str, Any] = {"times": [], "series": {}, "victims_kb": {}}
        return known | {"events": False, "marks": False, **nothing}
    return known | {
        "events": not (verdict.score.why_events or verdict.score.why_pauses),
        "marks": not verdict.score.why_marks,
        "times": _times(verdict),
        "series": {entry.series: _series(entry) for entry in verdict.score.series},
        "victims_kb": {name: [ours, *real] for name, ours, real in verdict.score.victims_kb},
    }


def mechanisms_of(recording: Recording) -> tuple[str, ...]:
    """What the kernel's first run of a recording exercised."""
    truth = recording.truths[0]
    happened = {(h.event, h.scope) for h in truth.happenings}
    if find_pauses(recording.raw, truth):
        happened.add(("paused", ""))
    return exercised(scenario_of(recording.raw), truth.series, happened)


def _series(entry: SeriesScore) -> dict[str, Any]:
    return {
        "error": round(entry.mean, DIGITS),
        "truths": [round(mean, DIGITS) for mean in entry.means],
        "spread": round(entry.spread, DIGITS),
        "allowed": round(entry.allowed, DIGITS),
    }


def _times(verdict: Verdict) -> list[dict[str, Any]]:
    """Kills and finishes: ours, and the kernel's in its two runs. [s]"""
    kernels = [_by_name(truth) for truth in verdict.recording.truths]
    ours = _by_name(verdict.predicted)
    keys = sorted(set(ours).union(*kernels), key=lambda key: (key[1], key[0]))
    rows = []
    for event, name in keys:
        kernel = [k.get((event, name)) for k in kernels]
        rows.append(
            {"event": event, "name": name, "model": ours.get((event, name)), "kernel": kernel}
        )
    return rows


def _by_name(course: Course) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for happening in course.happenings:
        found.setdefault((happening.event, happening.name), round(happening.t, 2))
    return found


def mechanisms_table(recordings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Figures of each mechanism, over the recordings that exercise it.

    Parameters
    ----------
    recordings : mapping
        As :func:`recordings_of` made them.
    """
    table = {}
    for key in TITLES:
        names = [name for name, entry in recordings.items() if key in entry["mechanisms"]]
        if names:
            entries = [recordings[name] for name in names]
            table[key] = {
                "title": TITLES[key],
                "recordings": names,
                "passed": sum(entry["passed"] for entry in entries),
                "node_error": _mean(_mean(_errors(e, "meminfo_kb.")) for e in entries),
                "group_error": _mean(_mean(_errors(e, "cgroup.")) for e in entries),
                "kill_error_s": _mean((t for e in entries for t in _kill_errors(e)), 2),
            }
    return table


def _errors(entry: Mapping[str, Any], prefix: str) -> list[float]:
    return [s["error"] for name, s in entry["series"].items() if name.startswith(prefix)]


def _kill_errors(entry: Mapping[str, Any]) -> Iterable[float]:
    """How far each kill is from the nearer run's. [s]"""
    for row in entry["times"]:
        there = [t for t in row["kernel"] if t is not None]
        if row["event"] == "oom_kill" and row["model"] is not None and there:
            yield min(abs(row["model"] - t) for t in there)


def _mean(values: Iterable[float | None], digits: int = DIGITS) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), digits) if known else None


def worst_of(entry: Mapping[str, Any]) -> str:
    """The series nearest to, or furthest over, what is allowed."""
    series: dict[str, dict[str, float]] = entry["series"]
    return max(series, key=lambda name: series[name]["error"] / series[name]["allowed"])
