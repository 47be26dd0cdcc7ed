"""From the guest's words to what a visit of a group costs."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from lab import calibrate, machine
from lab.kernels import Kernel, LabError
from lab.scenario import Scenario, load
from tests.lab.test_lab_scenario import SMALL
from tests.lab.test_lab_trace import _record

EAGAIN = 11


@pytest.mark.parametrize(
    ("release", "passes"),
    [("6.1.0-56-amd64", 221), ("6.12.117+deb12-amd64", 442), ("6.10.11-amd64", 221)],
)
def test_passes_double_where_a_full_walk_follows(release: str, passes: int) -> None:
    assert calibrate.vain_passes(release) == passes


def test_a_visit_is_the_slope_over_the_children() -> None:
    took_s = {4: [2110e-6, 2095e-6, 2095e-6], 12: [5157e-6, 5151e-6, 5151e-6]}
    assert calibrate.visit_ns(took_s, 221) == pytest.approx(1728.5, abs=0.05)
    # a pass's own part is in none of it
    later = {children: [t + 1e-3 for t in times] for children, times in took_s.items()}
    assert calibrate.visit_ns(later, 221) == pytest.approx(1728.5, abs=0.05)


def _machine(error: int) -> Any:
    """A guest whose writes take 555 us, and 400 us more for each child."""

    def run(scenario: Scenario, kernel: Kernel, seed: int) -> bytes:
        parts = [_record(0, "kmsg", "-", "12,500,900000,-;lab: t0\n"), _record(0, "sample")]
        for change in scenario.changes:
            at_us = round(change.at_s * 1e6)
            own = sum(path.startswith(f"{change.cgroup}/") for path in scenario.cgroups)
            path = f"/cg/{change.cgroup}/{change.file}"
            end_us = at_us + 555 + 400 * own
            parts.append(_record(at_us, "event", "-", f"{at_us} change {path}"))
            parts.append(_record(end_us, "event", "-", f"{end_us} changed {path} {error}"))
        return b"".join(parts) + _record(9000000, "end")

    return run


def _small(tmp_path: pathlib.Path) -> Scenario:
    path = tmp_path / "s.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return load(path)


def test_visit_is_measured_between_the_guests_words(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "run", _machine(EAGAIN))
    kernel = Kernel("6.12.117+deb12-amd64", tmp_path / "vmlinuz", None)
    found = calibrate._visit(kernel, _small(tmp_path))
    assert found == {"visit_ns": pytest.approx(400e3 / 442)}


def test_a_write_that_took_something_measures_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "run", _machine(0))
    kernel = Kernel("6.1.0-56-amd64", tmp_path / "vmlinuz", None)
    with pytest.raises(LabError, match="was to find nothing"):
        calibrate._visit(kernel, _small(tmp_path))
