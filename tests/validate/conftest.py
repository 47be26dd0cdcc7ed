"""Fixtures around the recording made by hand."""

from __future__ import annotations

import copy
import gzip
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from capplan.validate.truth import Course, Recording
from tests.validate.handmade import END_S, RAW, make_course


@pytest.fixture
def raw() -> dict[str, Any]:
    """The hand-made recording's scenario.json, to change at will."""
    return copy.deepcopy(RAW)


@pytest.fixture
def course() -> Callable[..., Course]:
    """Builder of courses of the hand-made recording."""
    return make_course


@pytest.fixture
def recording(raw: dict[str, Any], tmp_path: pathlib.Path) -> Recording:
    """The hand-made recording whose two truths agree: the process is held at its limit."""
    return Recording("hand-made", tmp_path, raw, (make_course(), make_course()))


@pytest.fixture
def written(raw: dict[str, Any], tmp_path: pathlib.Path) -> pathlib.Path:
    """The hand-made recording as a folder."""
    folder = tmp_path / "hand-made"
    folder.mkdir()
    (folder / "scenario.json").write_text(json.dumps(raw))
    series = {
        name: [None if np.isnan(v) else v for v in values.tolist()]
        for name, values in make_course().series.items()
    }
    truth = {
        "end_s": END_S,
        "kernel_log": [],
        "events": [
            {"t": 1.0, "event": "start", "name": "alloc", "pid": 9},
            {"t": 9.0, "event": "exit", "name": "alloc", "how": "signal", "value": 9},
            {"t": 9.1, "event": "oom_kill", "name": "alloc", "scope": "memcg", "anon_rss_kb": 5},
            {"t": 9.5, "event": "exit", "name": "other", "how": "code", "value": 0},
        ],
        "series": series,
    }
    for name in ("truth.json.gz", "truth-2.json.gz"):
        with gzip.open(folder / name, "wt") as file:
            json.dump(truth, file)
    return folder
