"""The shipped nodes from file to report, word for word and number for number.

A change of the engine, of a profile or of a wording shows here. Where it is meant:
``make golden-accept``, and look at the difference before the commit.
"""

from __future__ import annotations

import json
import os
import pathlib
import platform
from typing import Any

import pytest

import capplan
from capplan.report import text

HERE = pathlib.Path(__file__).resolve().parent
NODES = HERE.parent.parent / "profiles" / "nodes"

# name of the golden files: node file and settings
CASES: dict[str, tuple[str, dict[str, str]]] = {
    "worker": ("worker.yaml", {}),
    "worker-420Mi": ("worker.yaml", {"containers.web.memory.max": "420Mi"}),
    "docker-v1": ("docker-v1.yaml", {}),
    "docker-v1-kills": ("docker-v1.yaml", {"containers.cache.memory.oom_control": "0"}),
    "swap-zswap": ("swap-zswap.yaml", {}),
    "trainticket": ("trainticket.yaml", {}),
}
VERSIONS = ("capplan", "command")  # of the provenance: no result of the run


def _compare(path: pathlib.Path, found: str) -> None:
    """Compare with the golden file, or accept what was found as the golden file."""
    if "CAPPLAN_GOLDEN_ACCEPT" in os.environ:
        path.write_text(found, encoding="utf-8")
    expected = path.read_text(encoding="utf-8")
    assert found == expected, f"{path.name} differs: if that is meant, make golden-accept"


def _plain(summary: dict[str, Any]) -> str:
    """summary.json as it is written, less what only names versions."""
    provenance = {k: v for k, v in summary["provenance"].items() if k not in VERSIONS}
    return json.dumps(summary | {"provenance": provenance}, indent=1, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("name", CASES)
def test_shipped_node_gives_the_golden_result(name: str, tmp_path: pathlib.Path) -> None:
    file, settings = CASES[name]
    golden = HERE / f"{name}.json"
    if golden.exists() and "CAPPLAN_GOLDEN_ACCEPT" not in os.environ:
        accepted_on = json.loads(golden.read_text(encoding="utf-8"))["provenance"]["machine"]
        if accepted_on != platform.machine():
            pytest.skip(f"the golden results are of {accepted_on}")  # floating point differs
    result = capplan.simulate(capplan.load(NODES / file, settings=settings))
    result.write(tmp_path, picture=False)
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    _compare(HERE / f"{name}.txt", text.plain(result.outcome))
    _compare(golden, _plain(summary))
