"""The model on every recording that the project carries, against the committed expectations."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
import yaml

from capplan.validate.judge import Verdict, judge
from capplan.validate.truth import load_recording

HERE = pathlib.Path(__file__).resolve().parent
NAMES = sorted(path.parent.name for path in HERE.glob("*/scenario.json"))
MIN_FREE = ("global-noswap-minfree-4096", "global-noswap-minfree-65536")
HEADROOM = 0.01  # of the victim's size

pytestmark = pytest.mark.slow


def expected_failures() -> dict[str, dict[str, Any]]:
    """The committed list, by recording."""
    loaded = yaml.safe_load((HERE / "expected-failures.yaml").read_text(encoding="utf-8"))
    return {entry["name"]: entry for entry in loaded["expected_failures"]}


@pytest.fixture(scope="session")
def verdicts() -> dict[str, Verdict]:
    """Verdicts by name, filled as tests ask for them."""
    return {}


def _verdict(verdicts: dict[str, Verdict], name: str) -> Verdict:
    if name not in verdicts:
        verdicts[name] = judge(load_recording(HERE / name))
    return verdicts[name]


def test_the_list_names_recordings_and_kernel_functions() -> None:
    entries = expected_failures()
    assert set(entries) <= set(NAMES)
    for entry in entries.values():
        assert set(entry) == {"name", "function", "reason"}
        assert "(" in entry["function"] or "," in entry["function"]


def test_all_recordings_are_here() -> None:
    assert len(NAMES) >= 44


@pytest.mark.parametrize("name", NAMES)
def test_recording_passes_unless_listed(name: str, verdicts: dict[str, Verdict]) -> None:
    verdict = _verdict(verdicts, name)
    entry = expected_failures().get(name)
    if entry is None:
        assert verdict.passed, "\n".join(verdict.why) + verdict.error
    else:
        assert not verdict.passed, f"{name} passes now: take it off expected-failures.yaml"


@pytest.mark.parametrize("name", MIN_FREE)
def test_victim_has_the_kernels_size(name: str, verdicts: dict[str, Verdict]) -> None:
    """The usable memory under a given vm.min_free_kbytes is what the victim held."""
    if name in expected_failures():
        pytest.skip(f"{name} is an expected failure")
    verdict = _verdict(verdicts, name)
    assert verdict.score is not None
    (victim,) = verdict.score.victims_kb
    _, ours, kernels = victim
    assert min(abs(ours / real - 1) for real in kernels) <= HEADROOM


def test_a_recording_of_the_evidence_folder_is_the_one_carried(shared: pathlib.Path) -> None:
    for name in NAMES:
        theirs = shared / "recordings" / name / "scenario.json"
        if theirs.exists():
            assert (HERE / name / "scenario.json").read_bytes() == theirs.read_bytes()
