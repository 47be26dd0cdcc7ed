"""``capplan compare`` as its user calls it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from click.testing import CliRunner

from capplan.cli.main import cli


def _run(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["compare", *map(str, args)], prog_name="capplan")
    return result.exit_code, result.stdout, result.stderr


def test_compare_prints_the_pick_and_writes_a_result(uncertain_node: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, text, err = _run(
        uncertain_node, "--set", "containers.web.memory.max=100Mi,160Mi", "-n", 6, "-j", 1,
        "--no-burst", "--out", out,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert text.startswith("Take containers.web.memory.max=")
    assert "P(OOM kill)" in text
    summary = json.loads((out / "summary.json").read_text())
    assert summary["kind"] == "comparison"
    assert len(summary["settings"]) == 2
    assert summary["settings"][1]["risk"]["runs"] == 6
    with (out / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["setting"] for row in rows] == [s["label"] for s in summary["settings"]]
    assert sum(int(row["pick"]) for row in rows) == 1


def test_the_same_command_again_computes_nothing_and_says_the_same(
    uncertain_node: Path, tmp_path: Path
) -> None:
    args = (
        uncertain_node,
        "--min-free-kbytes",
        "8192,16384",
        "-n",
        3,
        "-j",
        1,
        "--no-burst",
        "--out",
    )
    first = _run(*args, tmp_path / "out")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").glob("*.csv")}
    assert _run(*args, tmp_path / "out") == first
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").glob("*.csv")} == before


def test_one_value_is_nothing_to_compare(uncertain_node: Path) -> None:
    code, _, err = _run(uncertain_node, "--set", "vm.swappiness=10")
    assert code == 2
    assert "nothing to compare: give --set KEY=VALUE,VALUE, --min-free-kbytes or" in err


def test_versions_are_translated_and_it_is_said(uncertain_node: Path, tmp_path: Path) -> None:
    code, text, _ = _run(
        uncertain_node, "--set", "cgroup.version=v2,v1", "-n", 4, "-j", 1, "--no-burst", "--out",
        tmp_path / "out",
    )  # fmt: skip
    assert code == 0
    flat = " ".join(text.split())
    assert "v1: " in flat
    assert "containers.web.memory.max: taken as memory.limit_in_bytes: 100Mi under" in flat
