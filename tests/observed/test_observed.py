"""Captured 6.12 guests (cgroup v2): their simulated next minute against what was recorded there.

``python -m lab capture-check lab/observed/NAME.yaml --kernel 6.12 --out tests/observed`` makes a
folder anew (docs/lab.md).
"""

from __future__ import annotations

import json
import pathlib
import re
import shutil

import pytest
import yaml

from capplan.spec import load
from lab.outlook import NEXT, OBSERVED, outlook, table

FOLDERS = sorted(pathlib.Path(__file__).resolve().parent.glob("*-6.12"))
FOLDER = next(folder for folder in FOLDERS if folder.name.startswith("busy-node"))
TIGHT = next(folder for folder in FOLDERS if folder.name.startswith("tight-node"))
CPU_PERCENT, RSS_MB = 1.0, 30.0  # what record may cost

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_next_minute_is_within_the_tolerances_of_the_recordings(folder: pathlib.Path) -> None:
    scores = outlook(folder)
    assert set(scores) == {"record", "capture"}
    for found in scores.values():
        assert len(found) == 4 + 4 * 5  # of the node, and of each of five groups
        assert [score.series for score in found if not score.passed] == [], table(scores)


def test_another_load_than_what_came_is_told_apart(tmp_path: pathlib.Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "copy")
    path = tmp_path / "copy" / NEXT
    text = path.read_text(encoding="utf-8")
    assert "by: 140Mi" in text
    path.write_text(text.replace("by: 140Mi", "by: 90Mi"), encoding="utf-8")
    failed = {score.series for score in outlook(path.parent)["capture"] if not score.passed}
    assert failed == {"cgroup.batch.slice.memory.swap.current"}


def test_pages_of_unknown_age_are_taken_from_the_wrong_groups(tmp_path: pathlib.Path) -> None:
    """What the generations are for: without them this group's cache is not what it was."""
    shutil.copytree(TIGHT, tmp_path / "copy")
    path = tmp_path / "copy" / "record" / "node.yaml"
    node = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert node["cgroup"].pop("lru")["system.slice/capplan"]["age"]
    path.write_text(yaml.safe_dump(node, sort_keys=False), encoding="utf-8")
    failed = {score.series for score in outlook(tmp_path / "copy")["record"] if not score.passed}
    assert "cgroup.system.slice/capplan.stat.file" in failed


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_recorder_cost_what_was_promised(folder: pathlib.Path) -> None:
    for run in json.loads((folder / OBSERVED).read_text(encoding="utf-8"))["runs"]:
        cost = re.search(r"took ([\d.]+) % of a CPU and ([\d.]+) MB", run["said"])
        assert cost is not None
        assert float(cost[1]) < CPU_PERCENT
        assert float(cost[2]) < RSS_MB


def test_the_node_is_the_guests() -> None:
    node = load(FOLDER / "capture" / "node.yaml")
    assert node.node.kernel.startswith("6.12.")
    assert node.node.lru_gen is True
    assert node.cgroup.version == "v2"
    assert node.cgroup.groups["db.slice"].memory_low == 64 << 20
    assert node.containers["cache"].cgroup == "web.slice/cache"
