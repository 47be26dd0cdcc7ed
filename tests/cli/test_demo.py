"""`capplan demo`: the shipped nodes."""

from __future__ import annotations

import pathlib

import pytest
from click.testing import CliRunner

import capplan
from capplan.cli import demo, main, options

NODES = sorted((options.shipped_profiles() / "nodes").glob("*.yaml"))


def _demo(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main.cli, ["demo", *args])
    return result.exit_code, result.stdout, result.stderr


def test_default_node_is_shipped() -> None:
    assert demo.DEFAULT in {path.stem for path in NODES}


def test_list_says_what_each_node_is() -> None:
    code, out, _ = _demo("--list")
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == [path.stem for path in NODES]
    assert all(len(line.split()) > 3 for line in lines)


def test_unknown_node_names_those_that_exist() -> None:
    code, _, err = _demo("nowhere")
    assert code == 2
    assert "no shipped node 'nowhere'" in err
    assert demo.DEFAULT in err


@pytest.mark.parametrize("path", NODES, ids=lambda p: p.stem)
def test_every_shipped_node_loads_and_expands(path: pathlib.Path) -> None:
    scenario = capplan.expand(path)
    assert scenario.processes
