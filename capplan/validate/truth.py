"""What happened: the kernel's truth, and a prediction in the same shape.

A :class:`Course` is a list of happenings and named series on one time axis. Truth files and
finished runs are both turned into it, so that one and the same scoring sees no difference.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capplan.sim.result import Run
from capplan.validate.recording import scenario_of

Series = dict[str, NDArray[np.float64]]
TRUTH_FILES = ("truth.json.gz", "truth-2.json.gz")

# v1 files by the names that a run gives to what they count (mm/memcontrol.c, memcg1_stats)
V1_NAMES = {
    "memory.usage_in_bytes": "memory.current",
    "stat.total_rss": "stat.anon",
    "stat.rss": "stat.anon",
    "stat.total_cache": "stat.file",
    "stat.cache": "stat.file",
    "stat.total_swap": "memory.swap.current",
    "stat.swap": "memory.swap.current",
}


@dataclass(frozen=True)
class Happening:
    """An event that is scored: ``oom_kill``, ``exit`` (by itself), ``paused``, ``resumed``."""

    t: float
    event: str
    name: str
    scope: str = ""
    anon_kb: int = 0  # the victim's anonymous RSS at the kill

    def as_json(self) -> dict[str, Any]:
        """As ``validate.json`` writes it."""
        return {
            "t": round(self.t, 3),
            "event": self.event,
            "name": self.name,
            "scope": self.scope or None,
        }


@dataclass(frozen=True)
class Course:
    """How a run went: happenings in order, series, and its end [s]."""

    happenings: tuple[Happening, ...]
    series: Series
    end_s: float

    @property
    def t(self) -> NDArray[np.float64]:
        """The samples' times [s]."""
        return self.series["t"]


@dataclass(frozen=True)
class Recording:
    """One folder: its inputs as written, and the kernel's two runs."""

    name: str
    folder: Path
    raw: Mapping[str, Any]
    truths: tuple[Course, ...]

    @property
    def v1(self) -> bool:
        """Whether the groups are of cgroup v1."""
        return str(self.raw["cgroup_version"]) == "v1"


def load_recording(folder: Path) -> Recording:
    """Read a recording.

    Raises
    ------
    ValueError
        The folder is no recording; the message says what is amiss.
    """
    try:
        raw = json.loads((folder / "scenario.json").read_text(encoding="utf-8"))
        scenario_of(raw)
        truths = tuple(_read_truth(folder / name) for name in TRUTH_FILES)
    except FileNotFoundError as error:
        missing = Path(error.filename).name if error.filename else "a file"
        raise ValueError(f"{folder}: no recording: {missing} is missing") from error
    except (OSError, EOFError) as error:
        raise ValueError(f"{folder}: cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{folder}: not valid JSON: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder}: no recording: {error!r} is missing or amiss") from error
    return Recording(raw["name"], folder, raw, truths)


def _read_truth(path: Path) -> Course:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return course_of_truth(json.load(file))


def course_of_truth(raw: Mapping[str, Any]) -> Course:
    """A truth file's content as a course; null becomes NaN."""
    happenings = []
    for entry in raw["events"]:
        if entry["event"] == "oom_kill":
            happenings.append(
                Happening(
                    entry["t"],
                    "oom_kill",
                    entry["name"],
                    entry.get("scope", ""),
                    int(entry.get("anon_rss_kb") or 0),
                )
            )
        elif entry["event"] == "exit" and entry.get("how") == "code":
            happenings.append(Happening(entry["t"], "exit", entry["name"]))
    series = {name: _floats(values) for name, values in raw["series"].items()}
    return Course(_in_order(happenings), series, float(raw["end_s"]))


def _floats(values: list[Any]) -> NDArray[np.float64]:
    return np.array([math.nan if v is None else v for v in values], dtype=np.float64)


def _in_order(happenings: list[Happening]) -> tuple[Happening, ...]:
    return tuple(sorted(happenings, key=lambda h: h.t))


def course_of_run(run: Run, names: tuple[str, ...] = ()) -> Course:
    """A finished run as a course, under the truth's names.

    Parameters
    ----------
    run : Run
        What :func:`capplan.sim.run.run` returned.
    names : tuple of str
        Series of the truth; those that v1 calls otherwise are given under these names too.
    """
    happenings = [
        Happening(
            event.t,
            event.event,
            event.name,
            event.scope or str(event.detail.get("scope", "")),
            int(event.detail.get("anon_rss_kb", 0)),
        )
        for event in run.events
        if event.event == "oom_kill"
        or (event.event == "exit" and event.detail.get("how", "code") == "code")
    ]
    series = {
        name: np.asarray(values, dtype=np.float64)
        for name, values in run.series.items()
        if "|" not in name
    }
    for name in names:
        if name not in series and (source := _v1_source(name)) in series:
            series[name] = series[source]
    return Course(_in_order(happenings), series, run.scenario.duration_ns / 1e9)


def _v1_source(name: str) -> str:
    for ending, source in V1_NAMES.items():
        if name.startswith("cgroup.") and name.endswith("." + ending):
            return name[: -len(ending)] + source
    return name
