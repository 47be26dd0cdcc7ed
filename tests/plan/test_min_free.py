"""What vm.min_free_kbytes takes away: compare's marks and a simulated kill against real kernels."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

import capplan

VALUES = (4096, 65536)


def recorded_kib(root: Path, value: int) -> float:
    """Anonymous memory that the recordings' victim had when it was killed, mean of both [KiB]."""
    folder = root / "tests" / "recordings" / f"global-noswap-minfree-{value}"
    kills = []
    for name in ("truth.json.gz", "truth-2.json.gz"):
        with gzip.open(folder / name) as file:
            events = json.load(file)["events"]
        kills += [event["anon_rss_kb"] for event in events if event["event"] == "oom_kill"]
    assert len(kills) == 2
    return sum(kills) / 2


def simulated_kib(root: Path, value: int) -> float:
    """The same of the node file that describes their machine [KiB]."""
    node = root / "profiles" / "traces" / "minfree-recording.yaml"
    found = capplan.simulate(capplan.load(node, settings={"vm.min_free_kbytes": str(value)}))
    kill = next(event for event in found.run.events if event.event == "oom_kill")
    assert kill.name == "a/leaker"
    return float(kill.detail["anon_rss_kb"])


@pytest.mark.parametrize("value", VALUES)
def test_usable_memory_is_the_kernels(root: Path, value: int) -> None:
    assert simulated_kib(root, value) == pytest.approx(recorded_kib(root, value), rel=0.01)


def test_what_more_of_it_takes_away_is_what_the_kernel_takes(root: Path) -> None:
    kernel = recorded_kib(root, VALUES[0]) - recorded_kib(root, VALUES[1])
    simulated = simulated_kib(root, VALUES[0]) - simulated_kib(root, VALUES[1])
    assert simulated == pytest.approx(kernel, rel=0.03)


def test_compare_shows_that_difference(root: Path) -> None:
    node = root / "profiles" / "traces" / "minfree-recording.yaml"
    axis = {"vm.min_free_kbytes": [str(value) for value in VALUES]}
    settings = capplan.compare(node, axis, replicates=1, bursts=False, jobs=1).comparison.settings
    low, high = (setting.marks for setting in settings)
    assert low is not None
    assert high is not None
    kernel = recorded_kib(root, VALUES[0]) - recorded_kib(root, VALUES[1])
    assert (high.minimum - low.minimum) / 1024 == pytest.approx(kernel, rel=0.03)
