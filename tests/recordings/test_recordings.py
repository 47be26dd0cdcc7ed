"""The model on every recording that the project carries, against the committed expectations."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import pytest
import yaml

from capplan.validate import docs
from capplan.validate.judge import Verdict, judge
from capplan.validate.measured import recordings_of
from capplan.validate.truth import load_recording

HERE = pathlib.Path(__file__).resolve().parent
NAMES = sorted(path.parent.name for path in HERE.glob("*/scenario.json"))
MIN_FREE = ("global-noswap-minfree-4096", "global-noswap-minfree-65536")
HEADROOM = 0.01  # of the victim's size
STALE = 0.001  # of a curve's scale: how far a committed error may be from the present one

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
    assert len(NAMES) >= 65


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


def _near(entry: dict[str, Any], committed: dict[str, Any]) -> bool:
    same = ("kernel", "passed", "events", "marks", "mechanisms")
    if any(entry[key] != committed[key] for key in same):
        return False
    return all(
        abs(found["error"] - committed["series"][series]["error"]) <= STALE
        for series, found in entry["series"].items()
    )


def test_committed_figures_are_the_engines(
    verdicts: dict[str, Verdict], root: pathlib.Path
) -> None:
    """docs/fidelity.md is not stale; CAPPLAN_GOLDEN_ACCEPT writes figures, pages and pictures."""
    found = [_verdict(verdicts, name) for name in NAMES]
    folder = root / "docs"
    if "CAPPLAN_GOLDEN_ACCEPT" in os.environ:
        data = docs.with_recordings(docs.read_data(folder), found)
        docs.draw_pictures(found, folder / "fidelity")
        docs.write(folder, data, docs.pages(data, list(expected_failures().values())))
    committed = docs.read_data(folder)["recordings"]
    fresh = recordings_of(found)
    assert set(fresh) == set(committed)
    stale = [name for name, entry in fresh.items() if not _near(entry, committed[name])]
    assert stale == [], "make golden-accept writes the present figures"


def test_a_picture_drawn_twice_is_the_same(
    verdicts: dict[str, Verdict], tmp_path: pathlib.Path
) -> None:
    verdict = _verdict(verdicts, docs.PICTURES[-1])
    first, second = (docs.draw_pictures([verdict], tmp_path / n)[0] for n in "ab")
    assert first.read_bytes() == second.read_bytes()
