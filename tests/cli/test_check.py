"""``capplan check`` as CI calls it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

from click.testing import CliRunner

from capplan.cli.main import cli


def _run(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["check", *map(str, args)], prog_name="capplan")
    return result.exit_code, result.stdout, result.stderr


def test_a_gate_that_holds_exits_0(uncertain_node: Path, tmp_path: Path) -> None:
    code, text, err = _run(
        uncertain_node, "--set", "containers.web.memory.max=160Mi", "-n", 20, "-j", 1,
        "--max-kill-risk", "20%", "--max-pause-risk", "20%", "--max-evict-risk", "20%",
        "--out", tmp_path / "out", "--junit", tmp_path / "junit.xml",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert text.startswith("Passes: all 4 rules hold in 20 runs of 3 s.")
    suite = ET.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("4", "0")


def test_a_gate_that_fails_exits_1_and_says_what(uncertain_node: Path, tmp_path: Path) -> None:
    code, text, _ = _run(
        uncertain_node, "-n", 20, "-j", 1, "--out", tmp_path / "out", "--min-headroom", "1Gi",
        "--junit", tmp_path / "junit.xml",
    )  # fmt: skip
    assert code == 1
    assert text.startswith("Fails: node: risk of being OOM-killed: ")
    assert "at least 1 GiB is asked for" in text
    suite = ET.parse(tmp_path / "junit.xml").getroot()
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert "max_kill_risk" in failed
    assert "min_headroom" in failed
    written = json.loads((tmp_path / "out" / "check.json").read_text())
    assert written["fits"] is False
    said = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (said["kind"], said["rules"]) == ("check", written["rules"])
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "The gate&#39;s rules" in page
    assert f"as a page: {tmp_path / 'out' / 'report.html'}" in text


def test_no_page_is_written_when_none_is_asked_for(uncertain_node: Path, tmp_path: Path) -> None:
    _run(uncertain_node, "-n", 5, "-j", 1, "--out", tmp_path / "out", "--no-report")
    assert not (tmp_path / "out" / "report.html").exists()


def test_what_the_runs_do_not_show_is_not_passed(uncertain_node: Path, tmp_path: Path) -> None:
    args = (uncertain_node, "--set", "containers.web.memory.max=160Mi", "-j", 1)
    code, text, _ = _run(*args, "-n", 5, "--out", tmp_path / "out")
    assert code == 1
    assert text.startswith("Not decided by 5 runs of 3 s: ")
    assert "381 runs without one would show it" in " ".join(text.split())


def test_a_bad_bar_is_refused(uncertain_node: Path) -> None:
    code, _, err = _run(uncertain_node, "--max-kill-risk", "lots")
    assert code == 2
    assert "gate.max_kill_risk: 'lots'" in err
