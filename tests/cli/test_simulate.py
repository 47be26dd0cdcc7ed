"""`capplan simulate` and `capplan explain`, from a file to a verdict."""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

import capplan
from capplan.cli import main

# 256 MiB of RAM, page-exact; `hog` grows past its limit at 4 s.
NODE = """\
capplan: 1
node: {memory: 256Mi, cpus: 2, kernel: "6.1", system: {kernel: 40Mi, daemons: {memory: 10Mi}}}
cgroup: {version: v2}
containers:
  hog:
    memory.max: 16Mi
    profile:
      capplan: 1
      profile: hog
      processes:
        main:
          regions: {heap: {kind: anon}}
          phases:
            - grow: {region: heap, to: 20Mi, rate: 4Mi/s}
            - hold: 2s
run: {duration: 8s}
"""


@pytest.fixture
def node(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A node file in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(NODE)
    return path


def _capplan(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main.cli, args)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.small
def test_growth_past_the_limit_is_killed_and_told(node: pathlib.Path) -> None:
    code, out, _ = _capplan("simulate", str(node), "--out", "result")
    assert code == 0
    assert "hog" in out.splitlines()[0]
    names = {path.name for path in pathlib.Path("result").iterdir()}
    assert {"summary.json", "events.csv", "timeseries.csv.gz", "memory.png"} <= names
    code, story, _ = _capplan("explain", "result")
    assert code == 0
    assert "memory.max" in story


@pytest.mark.small
def test_gate_exits_1_when_it_does_not_fit_and_0_when_it_does(node: pathlib.Path) -> None:
    assert _capplan("simulate", str(node), "--gate", "--quiet")[0] == 1
    wide = ("--set", "containers.hog.memory.max=64Mi")
    assert _capplan("simulate", str(node), "--gate", "--quiet", *wide)[0] == 0


def test_quiet_prints_one_line(node: pathlib.Path) -> None:
    _, out, _ = _capplan("simulate", str(node), "--quiet")
    assert len(out.splitlines()) == 1


def test_json_is_the_summary_and_nothing_else(node: pathlib.Path) -> None:
    code, out, _ = _capplan("simulate", str(node), "--json", "--out", "result")
    assert code == 0
    assert out == pathlib.Path("result/summary.json").read_text()
    assert json.loads(out)["fits"] is False


def test_default_result_folder_is_named_after_the_node(node: pathlib.Path) -> None:
    _capplan("simulate", str(node), "--quiet")
    (folder,) = pathlib.Path("reports").iterdir()
    assert folder.name.startswith("small-")


def test_duration_and_seed_reach_the_run(node: pathlib.Path) -> None:
    loaded = capplan.load(node, seed=7, duration="5s")
    scenario = capplan.expand(loaded)
    assert (scenario.seed, scenario.duration_ns) == (7, 5_000_000_000)


def test_bad_input_exits_2_with_place_and_repair(node: pathlib.Path) -> None:
    node.write_text(NODE.replace("memory.max: 16Mi", "memory.mx: 16Mi"))
    code, out, err = _capplan("simulate", str(node))
    assert (code, out) == (2, "")
    assert "small.yaml:6:" in err
    assert "did you mean 'memory.max'?" in err


def test_missing_file_exits_2(node: pathlib.Path) -> None:
    code, _, err = _capplan("simulate", "nowhere.yaml")
    assert code == 2
    assert "nowhere.yaml" in err


def test_explain_of_something_else_exits_2(node: pathlib.Path) -> None:
    pathlib.Path("empty").mkdir()
    code, _, err = _capplan("explain", "empty")
    assert code == 2
    assert "empty" in err


def test_library_gives_the_same_verdict(node: pathlib.Path) -> None:
    result = capplan.simulate(capplan.load(node))
    assert not result.fits
    assert result.timeseries.index.name == "t"
    assert [e.event for e in result.events].count("oom_kill") == 1
    _, out, _ = _capplan("simulate", str(node), "--quiet")
    assert out.strip() == result.verdict


def test_ctrl_c_ends_the_run_without_a_traceback(node: pathlib.Path) -> None:
    # a file twice as large as the group, read over and over: reclaim never rests
    reads = "read: {region: data, pattern: cyclic, rate: 900Mi/s, for: 30d}"
    text = NODE.replace("hold: 2s", reads)
    node.write_text(text.replace("{heap:", "{data: {kind: file, via: read, size: 32Mi}, heap:"))
    command = [sys.executable, "-m", "capplan", "simulate", str(node), "--duration", "30d"]
    wide = ["--set", "containers.hog.memory.max=24Mi", "--out", "result"]
    with subprocess.Popen(
        [*command, *wide],
        stderr=subprocess.PIPE,
        text=True,
        # a shell that starts tests in the background has SIGINT ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as run:
        try:
            with pytest.raises(subprocess.TimeoutExpired, match="timed out"):
                run.wait(timeout=4)
            run.send_signal(signal.SIGINT)
            _, err = run.communicate(timeout=120)  # the compiler hears it late
        finally:
            run.kill()
    assert run.returncode == 130
    assert err.splitlines()[-1] == "interrupted"
    assert not pathlib.Path("result").exists()
