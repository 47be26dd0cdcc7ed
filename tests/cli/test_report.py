"""``capplan report``: forms, places, and what it refuses."""

from __future__ import annotations

import json
import pathlib

import pytest
from click.testing import CliRunner, Result

from capplan.cli.main import cli
from tests.plan.synthetic import memcg_kill, quiet
from tests.report.pages import written


@pytest.fixture
def result(tmp_path: pathlib.Path) -> pathlib.Path:
    written(memcg_kill(), tmp_path / "a")
    return tmp_path / "a"


def _run(*words: object) -> Result:
    return CliRunner().invoke(cli, ["report", *map(str, words)])


def test_page_lies_in_the_result(result: pathlib.Path) -> None:
    done = _run(result)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{result / 'report.html'}\n"
    first = (result / "report.html").read_bytes()
    assert first.startswith(b"<!DOCTYPE html>")
    _run(result)
    assert (result / "report.html").read_bytes() == first


@pytest.mark.parametrize("form", ["md", "csv", "json"])
def test_texts_go_to_stdout_or_to_a_file(form: str, result: pathlib.Path) -> None:
    shown = _run(result, "-f", form)
    assert shown.exit_code == 0, shown.output
    path = result / "deep" / f"x.{form}"
    assert _run(result, "-f", form, "--out", path).stdout == f"{path}\n"
    assert path.read_text(encoding="utf-8") == shown.stdout
    if form == "json":
        assert json.loads(shown.stdout)["fits"] is False


@pytest.mark.parametrize("form", ["png", "svg"])
def test_pictures_get_a_folder(form: str, result: pathlib.Path) -> None:
    names = [pathlib.Path(line).name for line in _run(result, "-f", form).stdout.splitlines()]
    assert f"memory.{form}" in names
    assert sorted(names) == sorted(p.name for p in (result / "pictures").iterdir())


def test_two_results(result: pathlib.Path, tmp_path: pathlib.Path) -> None:
    written(quiet(), tmp_path / "b")
    done = _run(result, tmp_path / "b")
    assert done.stdout == f"{result / 'comparison.html'}\n"
    assert "A does not fit, B fits" in (result / "comparison.html").read_text(encoding="utf-8")


def test_what_is_no_result_is_bad_input(tmp_path: pathlib.Path) -> None:
    done = _run(tmp_path)
    assert done.exit_code == 2
    assert "no summary.json here" in done.stderr
    assert _run(tmp_path / "missing").exit_code == 2
    assert _run(tmp_path, "--format", "pdf").exit_code == 2
