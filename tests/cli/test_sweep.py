"""capplan sweep: points, gates, tables; killed at any moment and resumed, the same bytes."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

import capplan
from capplan.cli.main import cli
from tests.plan.test_runs import NODE

SWEEP = """\
capplan: 1
node: leak.yaml
replicates: 6
set: {run.duration: 3s}
knobs:
  containers.leak.memory.max: [48Mi, 64Mi, 96Mi, 8Ti, 1Xi]
  vm.min_free_kbytes: {low: 1024, high: 4096, steps: 2}
"""


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    (tmp_path / "leak.yaml").write_text(NODE)
    path = tmp_path / "limits.yaml"
    path.write_text(SWEEP)
    return path


def _tables(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.csv"))}


def test_sweep_says_which_points_fit_and_what_moves_the_risk(sweep_file: Path) -> None:
    out = sweep_file.parent / "out"
    arguments = ["sweep", str(sweep_file), "--jobs", "1", "--out", str(out)]
    found = CliRunner().invoke(cli, arguments)
    assert found.exit_code == 0, found.output
    assert found.output.startswith("0 of 10 points fit, 4 are not decided by their runs")
    summary = json.loads((out / "summary.json").read_text())
    assert summary["kind"] == "sweep"
    by_limit: dict[str, list[float | None]] = {}
    for point in summary["points"]:
        limit = point["settings"]["containers.leak.memory.max"]
        by_limit.setdefault(limit, []).append(point["risks"]["kill"]["p"])
    assert by_limit["8Ti"] == by_limit["96Mi"] == [0.0, 0.0]
    assert by_limit["1Xi"] == [None, None]  # a point that fails is a row with its error
    # common random numbers: a higher limit kills in no run in which a lower one does not
    assert by_limit["48Mi"][0] >= by_limit["64Mi"][0] > 0  # type: ignore[operator]
    first = next(i for i in summary["sensitivity"] if i["of"] == "P(kill)")
    assert first["knob"] == "containers.leak.memory.max"
    rows = list(csv.DictReader((out / "runs.csv").read_text().splitlines()))
    assert len(rows) == 60
    assert sum("'1Xi' is not a memory size" in row["error"] for row in rows) == 12
    assert {row["vm.min_free_kbytes"] for row in rows} == {"1024", "4096"}
    assert CliRunner().invoke(cli, [*arguments, "--gate"]).exit_code == 1


def test_an_unknown_key_is_told_with_its_place_in_the_sweep_file(sweep_file: Path) -> None:
    sweep_file.write_text(SWEEP.replace("vm.min_free_kbytes", "vm.min_fre_kbytes"))
    found = CliRunner().invoke(cli, ["sweep", str(sweep_file)])
    assert found.exit_code == 2
    assert "limits.yaml:7:3: vm.min_fre_kbytes: unknown key" in found.output
    assert "did you mean 'vm.min_free_kbytes'?" in found.output


def test_the_library_gives_frames(sweep_file: Path) -> None:
    result = capplan.sweep(sweep_file, jobs=1)
    assert result.frame.shape[0] == 10
    assert isinstance(result.frame, pd.DataFrame)
    assert result.runs["replicate"].tolist() == list(range(1, 7)) * 10


@pytest.mark.slow
def test_a_sweep_that_is_killed_again_and_again_leaves_the_same_bytes(sweep_file: Path) -> None:
    folder = sweep_file.parent

    def command(out: str, jobs: str) -> list[str]:
        return [sys.executable, "-m", "capplan", "sweep", str(sweep_file), "--out",
                str(folder / out), "--jobs", jobs, "--quiet"]  # fmt: skip

    subprocess.run(command("whole", "1"), check=True, capture_output=True)
    moments = random.Random(4)
    killed = 0
    for _ in range(4):
        going = subprocess.Popen(command("broken", "2"), stdout=subprocess.DEVNULL)
        time.sleep(1.0 + moments.random())
        killed += going.poll() is None
        going.kill()
        going.wait()
    assert killed > 0
    subprocess.run(command("broken", "2"), check=True, capture_output=True)
    assert _tables(folder / "broken") == _tables(folder / "whole")
    assert os.path.getsize(folder / "broken" / "runs.csv") > 1000
