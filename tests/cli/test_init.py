"""`capplan init`: a starting point that loads, fits, and is never overwritten."""

from __future__ import annotations

import pathlib

import pytest
from click.testing import CliRunner

import capplan
from capplan.cli import main


def _init(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main.cli, ["init", *args])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_init_writes_files_that_load_without_a_warning(
    version: str, tmp_path: pathlib.Path
) -> None:
    code, out, err = _init(str(tmp_path / "new"), "--cgroup", version)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == f"next: capplan simulate {tmp_path / 'new' / 'node.yaml'}"
    loaded = capplan.load(tmp_path / "new" / "node.yaml")
    assert list(loaded.warnings) == []
    assert capplan.expand(loaded).cgroup_version == version


def test_init_writes_oom_control_out_under_v1(tmp_path: pathlib.Path) -> None:
    _init(str(tmp_path), "--cgroup", "v1")
    scenario = capplan.expand(tmp_path / "node.yaml")
    assert not any(group.oom_kill_disable_assumed for group in scenario.cgroups)


@pytest.mark.parametrize("name", ["node.yaml", "web.yaml"])
def test_init_never_overwrites(name: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / name).write_text("mine")
    code, out, err = _init(str(tmp_path))
    assert (code, out) == (2, "")
    assert f"{name} already there" in err
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"
