"""``python -m lab``: what is recorded, what is printed, and how it ends."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

import lab.__main__ as cli
from lab import machine
from lab.kernels import Kernel
from lab.record import record
from lab.scenario import Scenario, load
from tests.lab.test_lab_scenario import SMALL
from tests.lab.test_lab_trace import stream


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What would have been recorded: (scenario, kernel)."""
    found: list[tuple[str, str]] = []

    def note(scenario: Scenario, kernel: str, out: pathlib.Path, _: Any) -> pathlib.Path:
        found.append((scenario.name, kernel))
        return out / scenario.name

    monkeypatch.setattr(cli, "find_kernel", lambda which, modules=None: which)
    monkeypatch.setattr(cli, "record", note)
    return found


def test_record_prints_the_new_folder(
    recorded: list[tuple[str, str]], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SMALL, encoding="utf-8")
    assert cli.main(["record", str(path), "--kernel", "6.1", "--out", str(tmp_path)]) == 0
    assert recorded == [("small", "6.1")]
    assert capsys.readouterr().out == f"{tmp_path / 'small'}\n"


def test_all_records_each_scenario_with_each_kernel_that_it_names(
    recorded: list[tuple[str, str]], tmp_path: pathlib.Path
) -> None:
    assert cli.main(["all", "--out", str(tmp_path)]) == 0
    assert ("max-kill", "6.1") in recorded
    assert ("max-kill", "6.12") in recorded
    assert [kernel for name, kernel in recorded if name == "v1-soft-limit"] == ["6.1"]


def test_all_can_be_narrowed_and_leaves_out_what_is_there(
    recorded: list[tuple[str, str]], tmp_path: pathlib.Path
) -> None:
    there = tmp_path / "max-kill-6.1"
    there.mkdir()
    (there / "scenario.json").write_text("{}", encoding="utf-8")
    options = ["--only", "max-kill", "--missing", "--out", str(tmp_path)]
    assert cli.main(["all", *options]) == 0
    assert recorded == [("max-kill", "6.12")]


@pytest.mark.parametrize(
    ("scenario", "kernel", "said"),
    [("absent.yaml", "6.1", "absent.yaml"), ("s.yaml", "no-such-image", "no such file")],
)
def test_what_is_amiss_is_told_with_exit_2(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    scenario: str,
    kernel: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    pathlib.Path("s.yaml").write_text(SMALL, encoding="utf-8")
    if kernel == "6.1":
        monkeypatch.setattr(cli, "find_kernel", lambda which, modules=None: which)
    assert cli.main(["record", scenario, "--kernel", kernel, "--out", "."]) == 2
    assert said in capsys.readouterr().err


def test_a_recording_is_three_files_that_validate_reads(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SMALL, encoding="utf-8")
    seeds: list[int] = []

    def run(scenario: Scenario, kernel: Kernel, seed: int) -> bytes:
        seeds.append(seed)
        return stream()

    monkeypatch.setattr(machine, "run", run)
    monkeypatch.setattr("lab.record.calibrate", lambda *_: {"fault_and_fill_mib_s": 190.0})
    kernel = Kernel("6.1.0-56-amd64", tmp_path / "vmlinuz", None)
    folder = record(load(path), kernel, tmp_path)
    assert folder.name == "small-6.1"
    assert sorted(p.name for p in folder.iterdir()) == [
        "scenario.json",
        "truth-2.json.gz",
        "truth.json.gz",
    ]
    raw = json.loads((folder / "scenario.json").read_text(encoding="utf-8"))
    assert (raw["name"], raw["kernel"]) == ("small-6.1", "6.1")
    assert raw["calibration"]["fault_and_fill_mib_s"] == 190.0
    assert raw["calibration"]["sample_ns"] == 14500.0  # between its two samples
    assert seeds == [1, 2]
