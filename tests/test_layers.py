"""The shape of the source: layers, lengths, and what may not stand in it."""

from __future__ import annotations

import ast
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "capplan").rglob("*.py"))
ALL = sorted([*SOURCES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 45  # without the docstring
LEFTOVER = re.compile(
    r"\b(TO"
    r"DO|FIX"
    r"ME|XX"
    r"X|HA"
    r"CK|NotImpl"
    r"ementedError|place"
    r"holder)\b|\bst"
    r"ub\b"
)


def _name(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def _functions(path: pathlib.Path) -> list[tuple[str, int, int]]:
    """Name, line and length (without docstring) of every function of a file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            doc = ast.get_docstring(node, clean=False)
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            found.append((node.name, node.lineno, length - (doc.count("\n") + 1 if doc else 0)))
    return found


def test_layer_contracts_hold() -> None:
    command = shutil.which("lint-imports", path=str(pathlib.Path(sys.executable).parent))
    assert command is not None, "import-linter is not installed (make dev)"
    run = subprocess.run([command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def test_files_are_short_enough_to_read() -> None:
    lengths = {_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in ALL}
    assert {name: n for name, n in lengths.items() if n > MAX_FILE_LINES} == {}


def test_functions_are_short_enough_to_read() -> None:
    long = [
        f"{_name(path)}:{line} {name} ({length} lines)"
        for path in SOURCES
        for name, line, length in _functions(path)
        if length > MAX_FUNCTION_LINES
    ]
    assert long == []


def test_nothing_is_left_over() -> None:
    left = [
        f"{_name(path)}:{number} {line.strip()}"
        for path in SOURCES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if LEFTOVER.search(line)
    ]
    assert left == []


def test_function_lengths_leave_docstrings_out(tmp_path: pathlib.Path) -> None:
    source = tmp_path / "f.py"
    source.write_text('def f():\n    """One.\n\n    Two.\n    """\n    return 1\n')
    assert _functions(source) == [("f", 1, 2)]
