"""The reports that the repository shows are those of the present engine and templates."""

from __future__ import annotations

import platform

import pytest

from tests.report import examples

MACHINE = "<dt>machine</dt><dd>"


def test_examples_are_fresh() -> None:
    shown = (examples.FOLDER / "worker.html").read_text(encoding="utf-8")
    if f"{MACHINE}{platform.machine()}<" not in shown:
        pytest.skip("the examples were drawn on another kind of machine")  # floats differ
    stale = [
        name
        for name, text in examples.pages().items()
        if examples.said(text)
        != examples.said((examples.FOLDER / name).read_text(encoding="utf-8"))
    ]
    assert stale == [], "make examples draws them again"


def test_examples_are_all_there_and_small() -> None:
    names = {path.name for path in examples.FOLDER.iterdir()}
    expected = {f"{name}.html" for name in (*examples.SINGLE, *examples.PAIRS)}
    assert names == expected | {"swap-zswap.md", examples.PICTURE}
    assert max(path.stat().st_size for path in examples.FOLDER.iterdir()) < 600_000


def test_a_change_of_a_title_is_seen_and_a_change_of_a_curve_is_not() -> None:
    text = '<svg viewBox="0"><title id="a">A</title><desc id="b">B</desc><path d="M 1"/></svg> end'
    assert examples.said(text) == examples.said(text.replace("M 1", "M 2"))
    assert examples.said(text) != examples.said(text.replace(">B<", ">C<"))
    assert examples.said(text).endswith("</svg> end")
