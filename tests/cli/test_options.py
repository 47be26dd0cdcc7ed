"""Options that several commands share."""

from __future__ import annotations

import pathlib

import click
import pytest

from capplan.cli import options


def test_parse_settings_splits_at_the_first_equals_sign() -> None:
    given = ("containers.web.memory.max=512Mi", "a = b=c", "a=d")
    assert options.parse_settings(given) == {"containers.web.memory.max": "512Mi", "a": "d"}


@pytest.mark.parametrize("pair", ["memory.max", "=512Mi", " =1"])
def test_parse_settings_without_key_or_value_is_refused(pair: str) -> None:
    with pytest.raises(click.BadParameter, match="is not KEY=VALUE"):
        options.parse_settings((pair,))


def test_new_result_dir_never_is_one_that_exists(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = set()
    for _ in range(3):
        folder = options.new_result_dir("shop")
        assert folder.parent == pathlib.Path("reports")
        assert folder.name.startswith("shop-20")
        folder.mkdir(parents=True)
        made.add(folder)
    assert len(made) == 3


def test_shipped_profiles_are_those_at_the_top(root: pathlib.Path) -> None:
    assert options.shipped_profiles() == root / "profiles"
