"""Run a recording's scenario and score it; many of them on several processes."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from capplan.sim.result import Run
from capplan.sim.scenario import Scenario
from capplan.validate.pool import workers
from capplan.validate.recording import scenario_of
from capplan.validate.score import Marks, Score, score
from capplan.validate.truth import Course, Recording, course_of_run, load_recording

Change = Callable[[Scenario], Scenario]


@dataclass(frozen=True)
class Verdict:
    """A recording, what the model made of it, and the score; ``error`` when it broke down."""

    recording: Recording
    predicted: Course
    score: Score | None
    wall_s: float
    marks: Marks = dataclasses.field(default_factory=dict)
    error: str = ""

    @property
    def name(self) -> str:
        """The recording's name."""
        return self.recording.name

    @property
    def passed(self) -> bool:
        """Whether the prediction meets every bar."""
        return self.score is not None and self.score.passed

    @property
    def why(self) -> tuple[str, ...]:
        """What fails, in plain words."""
        if self.score is None:
            return (f"the model broke down: {self.error.strip().splitlines()[-1]}",)
        return self.score.why


def judge(recording: Recording, change: Change | None = None) -> Verdict:
    """Run the model on a recording's inputs and score it.

    A model that raises fails that recording, with its traceback in ``error``; the others go on.

    Parameters
    ----------
    recording : Recording
        Inputs and truths.
    change : callable, optional
        Applied to the scenario before the run (a sensitivity study's changed cost).
    """
    begin = time.perf_counter()
    try:
        scenario = scenario_of(recording.raw)
        from capplan.sim.run import run

        result = run(change(scenario) if change else scenario)
    except Exception:
        nothing = Course((), {"t": np.zeros(0)}, 0.0)
        return Verdict(
            recording, nothing, None, time.perf_counter() - begin, error=traceback.format_exc()
        )
    predicted = course_of_run(result, tuple(recording.truths[0].series))
    wall_s = time.perf_counter() - begin
    marks = result.wmarks
    scored = dataclasses.replace(score(recording, predicted, marks), tasks=_tasks(result))
    return Verdict(recording, predicted, scored, wall_s, marks)


def _tasks(result: Run) -> dict[str, dict[str, float]]:
    """What each process lost, by cause: the kernel shows it only as PSI. [s]"""
    return {
        total.process: {
            "late_s": round(total.late_s, 3),
            "stall_s": round(total.stall_s, 3),
            "high_throttle_s": round(total.throttle_s, 3),
            "pause_s": round(total.pause_s, 3),
        }
        for total in result.totals
    }


def judge_all(recordings: Sequence[Recording], jobs: int = 1) -> Iterator[Verdict]:
    """Verdicts in the order of the recordings, as they become known.

    The first runs in this process, so that the engine is compiled once, before workers start.
    """
    if not recordings:
        return
    yield judge(recordings[0])
    rest = recordings[1:]
    if jobs <= 1 or len(rest) <= 1:
        yield from map(judge, rest)
        return
    with workers(min(jobs, len(rest))) as pool:
        yield from pool.map(judge, rest)


def find_recordings(folders: Sequence[Path]) -> list[Recording]:
    """Load recordings; a folder that holds recordings stands for all of them.

    Raises
    ------
    ValueError
        A folder is none, or holds none; the message names it.
    """
    found: list[Recording] = []
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such directory")
        if (folder / "scenario.json").exists():
            found.append(load_recording(folder))
            continue
        inner = sorted(path.parent for path in folder.glob("*/scenario.json"))
        if not inner:
            raise ValueError(f"{folder}: no recording: scenario.json is missing")
        found += [load_recording(path) for path in inner]
    return found
