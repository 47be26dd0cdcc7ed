"""README and docs say what is true: commands are run, outputs compared, links followed.

A fenced block whose first word is ``console`` is run, file by file and in order, in one folder
that holds nothing but the shipped ``profiles``. What stands below a ``$ `` line is the output;
``...`` stands for any lines. Words behind ``console``: ``exit=2`` where the block's last command
fails; ``traces`` where a page needs recorded data that are no part of the repository.
``make golden-accept`` writes fresh output.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from capplan import release

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

BLOCK = re.compile(r"^```console(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#)(?P<target>[^)#\s]+)")
MAKE = re.compile(r"(?:^|`)make (?P<target>[a-z-]+)", re.MULTILINE)

# What may differ from one run to the next.
STAMP = re.compile(r"-\d{8}-\d{6}(-\d+)?\b")
PASSING = re.compile(r"^compiling the engine once.*\n", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """A command of a console block and the output that stands below it."""

    line: str
    expected: str
    exit_code: int


def commands(text: str) -> list[Command]:
    """Every command of the console blocks of ``text``."""
    found = []
    for block in BLOCK.finditer(text):
        code = re.search(r"exit=(\d+)", block["info"])
        parts = re.split(r"^\$ ", block["body"], flags=re.MULTILINE)[1:]
        for part in parts:
            line, _, expected = part.partition("\n")
            fails = code is not None and part is parts[-1]
            found.append(Command(line, expected, int(code[1]) if code and fails else 0))
    return found


def steady(text: str) -> str:
    """``text`` without times, wait messages, and spaces at line ends."""
    text = STAMP.sub("-TIME", PASSING.sub("", text))
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


def alike(expected: str, shown: str) -> bool:
    """Whether ``shown`` is what was expected; a line ``...`` stands for any lines."""
    pieces = [re.escape(piece) for piece in re.split(r"^\.\.\.$", steady(expected), flags=re.M)]
    return re.fullmatch("(?:.*)".join(pieces), steady(shown), flags=re.DOTALL) is not None


def run(line: str, folder: pathlib.Path) -> tuple[int, str]:
    """Run ``line`` as a reader would; stdout and stderr together."""
    path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
    env = os.environ | {"PATH": path, "COLUMNS": "100"}
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("doc", [d for d in DOCS if commands(d.read_text())], ids=lambda d: d.name)
def test_commands_of_the_page_do_what_it_says(
    doc: pathlib.Path, tmp_path: pathlib.Path, request: pytest.FixtureRequest
) -> None:
    text = doc.read_text(encoding="utf-8")
    if any("traces" in block["info"].split() for block in BLOCK.finditer(text)):
        shared: pathlib.Path = request.getfixturevalue("shared")
        if shared.resolve() != (ROOT.parent / "shared").resolve():
            pytest.skip("the shipped profiles look for traces in ../shared beside the checkout")
    (tmp_path / "profiles").symlink_to(ROOT / "profiles")
    accepted = text
    for command in commands(text):
        code, shown = run(command.line, tmp_path)
        assert code == command.exit_code, f"$ {command.line}\n{shown}"
        assert str(ROOT) not in shown, f"names this checkout:\n$ {command.line}\n{shown}"
        if "CAPPLAN_GOLDEN_ACCEPT" not in os.environ:
            assert alike(command.expected, shown), f"$ {command.line}\n{steady(shown)}"
        elif not alike(command.expected, shown):
            old = f"$ {command.line}\n{command.expected}"
            accepted = accepted.replace(old, f"$ {command.line}\n{steady(shown)}\n", 1)
    if accepted != text:
        doc.write_text(accepted, encoding="utf-8")


@pytest.mark.parametrize("doc", DOCS, ids=lambda d: d.name)
def test_links_lead_somewhere(doc: pathlib.Path) -> None:
    targets = [match["target"] for match in LINK.finditer(doc.read_text(encoding="utf-8"))]
    assert [t for t in targets if not (doc.parent / t).exists()] == []


@pytest.mark.parametrize("doc", DOCS, ids=lambda d: d.name)
def test_make_targets_that_are_named_exist(doc: pathlib.Path) -> None:
    rules = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {match["target"] for match in MAKE.finditer(doc.read_text(encoding="utf-8"))}
    assert named <= rules


def test_support_page_knows_every_mechanism() -> None:
    page = (ROOT / "docs" / "support.md").read_text(encoding="utf-8")
    mechanisms = {p.name for p in (ROOT / "capplan" / "mm").glob("[a-z]*.py")} - {"state.py"}
    assert {name for name in mechanisms if f"`{name}`" not in page} == set()
    named = set(re.findall(r"`([a-z_0-9]+\.py)`", page))
    assert named <= mechanisms


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _values(values: Mapping[str, object]) -> str:
    return ", ".join(f"`{name}` {value}" for name, value in values.items())


def _history() -> str:
    def version(numbers: tuple[int, ...]) -> str:
        return ".".join(map(str, numbers))

    rows = [
        (
            ", ".join(map(version, (change.since, *change.stable))),
            _values(change.values),
            change.origin,
        )
        for change in release.HISTORY
    ]
    return _table(("since", "features", "origin"), rows)


def _distributions() -> str:
    rows = [(d.name, _values(d.values) or "none known", d.origin) for d in release.DISTRIBUTIONS]
    return _table(("distribution", "features", "origin"), rows)


@pytest.mark.parametrize(
    ("name", "table"), [("history", _history()), ("distributions", _distributions())]
)
def test_generated_table_of_the_support_page_is_fresh(name: str, table: str) -> None:
    page = ROOT / "docs" / "support.md"
    text = page.read_text(encoding="utf-8")
    begin, end = f"<!-- begin: {name} -->\n", f"<!-- end: {name} -->\n"
    before, rest = text.split(begin)
    held, after = rest.split(end)
    if "CAPPLAN_GOLDEN_ACCEPT" in os.environ:
        page.write_text(f"{before}{begin}{table}{end}{after}", encoding="utf-8")
    else:
        assert held == table


def test_console_blocks_are_split_into_commands() -> None:
    text = "```console exit=2\n$ a b\nout\nmore\n$ c\n```\n```sh\n$ d\n```\n"
    assert commands(text) == [Command("a b", "out\nmore\n", 0), Command("c", "", 2)]


def test_output_may_leave_lines_out_but_not_differ() -> None:
    assert alike("a\n...\nd\n", "a\nb\nc\nd\n")
    assert alike("in reports/x-20260102-030405\n", "in reports/x-20270102-030405  \n")
    assert not alike("a\nd\n", "a\nb\nd\n")
    assert not alike("", "a\n")
