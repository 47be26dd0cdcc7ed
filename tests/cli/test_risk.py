"""capplan risk: what it prints, writes, keeps, and its exit codes."""

from __future__ import annotations

import contextlib
import csv
import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import capplan
from capplan.cli.main import cli
from tests.plan.test_runs import NODE

pytest.importorskip("pyarrow")


@pytest.fixture
def node(tmp_path: Path) -> Path:
    path = tmp_path / "leak.yaml"
    path.write_text(NODE)
    return path


def _risk(node: Path, *options: str) -> tuple[int, str]:
    arguments = ["risk", str(node), "--jobs", "1", "--out", str(node.parent / "out"), *options]
    found = CliRunner().invoke(cli, arguments)
    return found.exit_code, found.output


def test_risk_prints_the_verdict_first_and_writes_all_tables(node: Path) -> None:
    code, output = _risk(node, "-n", "12", "--parquet")
    assert code == 0
    assert output.startswith("Does not fit: leak is OOM-killed in ")
    assert "memory.max" not in output.splitlines()[0]
    out = node.parent / "out"
    names = {path.name for path in out.iterdir()}
    assert names >= {
        "summary.json", "runs.csv", "containers.csv", "risks.csv", "first_kill.csv", "victims.csv",
        "orders.csv", "runs.sqlite", "runs.parquet", "containers.parquet",
    }  # fmt: skip
    summary = json.loads((out / "summary.json").read_text())
    assert list(summary)[:4] == ["fits", "verdict", "format", "kind"]
    assert summary["fits"] is False
    runs = list(csv.DictReader((out / "runs.csv").read_text().splitlines()))
    assert [int(run["replicate"]) for run in runs] == list(range(1, 13))
    killed = sum(int(run["kills"]) > 0 for run in runs)
    assert summary["node"]["kill"]["count"] == killed > 0
    (victim,) = summary["victims"]
    assert victim["runs"] == victim["memcg"] == killed
    curve = summary["first_kill"]
    assert curve[0][1] == 0
    assert curve[-1][:2] == [4.0, killed]
    import pandas as pd

    parquet = pd.read_parquet(out / "runs.parquet")
    assert parquet["kills"].tolist() == [float(run["kills"]) for run in runs]
    assert parquet["kill_first"].notna().sum() == killed


def test_a_second_call_computes_only_what_is_new(
    node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _risk(node, "-n", "6")
    first = (node.parent / "out" / "runs.csv").read_bytes()

    def refuse(chunk: object) -> None:
        raise AssertionError(f"computed again: {chunk}")

    with monkeypatch.context() as patch:
        patch.setattr("capplan.plan.local.compute", refuse)
        assert _risk(node, "-n", "6")[0] == 0
    assert (node.parent / "out" / "runs.csv").read_bytes() == first
    assert _risk(node, "-n", "7")[0] == 0
    longer = (node.parent / "out" / "runs.csv").read_bytes()
    assert longer.startswith(first)
    assert longer.count(b"\n") == 8


def test_gate_exits_1_unless_the_runs_show_that_it_fits(node: Path) -> None:
    assert _risk(node, "-n", "12", "--gate")[0] == 1
    undecided = _risk(node, "-n", "12", "--gate", "--set", "containers.leak.memory.max=max")
    assert undecided[0] == 1
    assert undecided[1].startswith("Not decided: in 12 runs of 4 s the risk")
    assert "12 runs cannot show a risk of at most 1 %: 381 would" in undecided[1].replace("\n ", "")
    allowed = ["--set", "gate.max_kill_risk=0.5", "--set", "gate.max_pause_risk=0.5"]
    fits = ["--set", "containers.leak.memory.max=max", "--set", "gate.max_evict_risk=0.5"]
    code, output = _risk(node, "-n", "12", "--gate", *allowed, *fits)
    assert code == 0
    assert output.startswith("Fits: ")


def test_json_is_the_summary_alone(node: Path) -> None:
    code, output = _risk(node, "-n", "3", "--json")
    assert code == 0
    assert json.loads(output)["kind"] == "risk"


def test_the_library_gives_frames(node: Path) -> None:
    result = capplan.risk(node, replicates=5, jobs=1)
    assert result.runs["replicate"].tolist() == [1, 2, 3, 4, 5]
    assert set(result.containers["container"]) == {"leak"}
    alone = capplan.simulate(capplan.load(node), replicate=3)
    assert (result.runs["kills"][2] > 0) == any(e.event == "oom_kill" for e in alone.events)


def test_a_node_that_cannot_hold_what_it_starts_with_is_an_input_error(node: Path) -> None:
    code, output = _risk(node, "-n", "3", "--set", "node.memory=24Mi")
    assert code == 2
    assert "leak.yaml:2:56: node.system: this node cannot boot: its system holds" in output


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished_and_says_where(node: Path) -> None:
    out = node.parent / "out"
    command = [sys.executable, "-m", "capplan", "risk", str(node), "-n", "100000", "--jobs", "2"]
    going = subprocess.Popen(
        [*command, "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # a shell that starts tests in the background has SIGINT ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        until = time.monotonic() + 100
        while _rows(out) < 5 and time.monotonic() < until:
            time.sleep(0.2)
        going.send_signal(signal.SIGINT)
        _, said = going.communicate(timeout=60)
    finally:
        going.kill()
        going.wait()
    assert going.returncode == 130
    assert f"stopped; finished runs are kept in {out}" in said
    assert "Traceback" not in said
    assert _rows(out) >= 5


def _rows(out: Path) -> int:
    if not (out / "runs.sqlite").exists():
        return 0
    with contextlib.closing(sqlite3.connect(out / "runs.sqlite", timeout=30)) as db:
        try:
            return int(db.execute("SELECT count(*) FROM rows").fetchone()[0])
        except sqlite3.OperationalError:  # the table is being made
            return 0
