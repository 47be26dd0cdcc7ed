"""The command table, and how errors reach a person."""

from __future__ import annotations

import importlib
import os
import pathlib
import shlex
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from capplan.cli import lazy, main
from capplan.errors import CapplanError


def _invoke(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main.cli, args, prog_name="capplan")
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> object:
    """A command `fail` that raises what the test puts into the returned list."""
    raised: list[BaseException] = []

    @click.command()
    def fail() -> None:
        raise raised[0]

    module = type("Module", (), {"fail": fail})
    real = importlib.import_module
    monkeypatch.setitem(main.COMMANDS, "fail", ("capplan.cli.fail", "fail", "Fails."))
    monkeypatch.setattr(
        lazy.importlib,
        "import_module",
        lambda name: module if name == "capplan.cli.fail" else real(name),
    )
    return raised


def test_help_lists_every_command() -> None:
    code, out, _ = _invoke("--help")
    assert code == 0
    for name, (_, _, line) in main.COMMANDS.items():
        assert name in out
        assert line in " ".join(out.split())


@pytest.mark.parametrize("name", main.COMMANDS)
def test_command_is_where_the_table_says(name: str) -> None:
    module, attribute, _ = main.COMMANDS[name]
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.help, "a command says what it does"


def test_unknown_command_names_the_nearest() -> None:
    code, _, err = _invoke("simulte", "x")
    assert code == 2
    assert "Did you mean 'simulate'?" in err


def test_node_file_without_command_is_understood() -> None:
    code, _, err = _invoke("shop.yaml")
    assert code == 2
    assert "Did you mean 'capplan simulate shop.yaml'?" in err


def test_version_is_the_packages() -> None:
    import capplan

    code, out, _ = _invoke("--version")
    assert (code, out) == (0, f"capplan, version {capplan.__version__}\n")


def test_input_error_exits_2_without_traceback(failing: list[BaseException]) -> None:
    failing.append(CapplanError("shop.yaml:9: no such thing"))
    assert _invoke("fail") == (2, "", "shop.yaml:9: no such thing\n")


def test_missing_file_exits_2(failing: list[BaseException]) -> None:
    failing.append(FileNotFoundError(2, "No such file or directory", "a.yaml"))
    assert _invoke("fail") == (2, "", "a.yaml: No such file or directory\n")


def test_unexpected_error_exits_3_and_says_how_to_see_more(failing: list[BaseException]) -> None:
    failing.append(ZeroDivisionError("division by zero"))
    code, out, err = _invoke("fail")
    assert (code, out) == (3, "")
    assert err.startswith("capplan failed: ZeroDivisionError: division by zero\n")
    assert "capplan --debug" in err


def test_debug_lets_the_exception_through(failing: list[BaseException]) -> None:
    failing.append(ZeroDivisionError("division by zero"))
    result = CliRunner().invoke(main.cli, ["--debug", "fail"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_interrupt_exits_130(failing: list[BaseException]) -> None:
    failing.append(KeyboardInterrupt())
    assert _invoke("fail") == (130, "", "\ninterrupted\n")


def test_cache_shows_and_clears(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("CAPPLAN_CACHE_DIR", str(tmp_path))
    engine = tmp_path / "0123456789abcdef"
    engine.mkdir()
    (engine / "step.advance.o").write_bytes(b"x")
    (tmp_path / "notes").mkdir()
    code, out, _ = _invoke("cache")
    assert code == 0
    assert "not compiled yet" in out
    assert "1 of other versions beside it" in out
    code, out, _ = _invoke("cache", "--clear")
    assert (code, out) == (0, f"removed {engine}\n")
    assert [p.name for p in tmp_path.iterdir()] == ["notes"]


def test_help_explains_codes_and_commands() -> None:
    assert _invoke("help", "c012")[:2] == (0, "C012  Not a memory size.\n")
    assert "C040  A trace with a bad row.\n" in _invoke("help")[1]
    assert _invoke("help", "simulate")[1] == _invoke("simulate", "--help")[1]
    code, _, err = _invoke("help", "C099")
    assert code == 2
    assert "'C099' is neither an error's code, nor a command, nor a key. Did you mean 'C0" in err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_told_as_one() -> None:
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "capplan", "help"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert run.returncode == 2
    assert run.stderr.startswith("the output cannot be written: No space left on device")


def test_a_closed_stdout_is_no_error() -> None:
    line = f"exec {shlex.quote(sys.executable)} -m capplan cache >&- 2>&-"
    assert subprocess.run(["bash", "-c", line], check=False).returncode == 0
