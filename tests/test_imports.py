"""The import budget: asking for help must not load the engine."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

import capplan
from capplan.cli import main

HEAVY = ("numba", "llvmlite", "numpy", "pandas", "pydantic", "matplotlib", "scipy", "rich", "yaml")

SHOW_HEAVY = f"import sys; print([name for name in {HEAVY!r} if name in sys.modules])"
HELP_SECONDS = 0.3


def _loaded_by(statement: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", f"{statement}\n{SHOW_HEAVY}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.splitlines()[-1]


def test_import_capplan_loads_nothing_heavy() -> None:
    assert _loaded_by("import capplan") == "[]"


def test_help_loads_nothing_heavy() -> None:
    shown = _loaded_by("from capplan.cli.main import cli; cli(['--help'], standalone_mode=False)")
    assert shown == "[]"


@pytest.mark.parametrize("command", [name for name in main.COMMANDS if name != "validate"])
def test_help_of_a_command_loads_nothing_heavy(command: str) -> None:
    shown = _loaded_by(
        f"from capplan.cli.main import cli; cli([{command!r}, '--help'], standalone_mode=False)"
    )
    assert shown == "[]"


def test_the_probe_sees_a_heavy_import() -> None:
    assert _loaded_by("import numpy") == "['numpy']"


def test_help_answers_within_its_budget() -> None:
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "capplan", "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < HELP_SECONDS


def test_every_export_is_there_and_documented() -> None:
    for name in capplan.__all__:
        assert getattr(capplan, name).__doc__, name
    assert set(capplan._EXPORTS) == set(capplan.__all__)


def test_unknown_export_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'capplan' has no attribute 'simulat'"):
        _ = capplan.simulat
