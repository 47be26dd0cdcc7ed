"""A draft is written whole and loadable, or not at all."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from capplan.errors import InputError
from capplan.sources.draft import Draft, legal_name
from capplan.sources.write import write
from capplan.spec import load
from capplan.spec.emit import Noted


def draft(**machine: Any) -> Draft:
    profile = {
        "capplan": 1,
        "profile": "web",
        "processes": {"main": {"regions": {"heap": {"kind": "anon", "size": "64Mi"}}}},
    }
    node = {
        "capplan": 1,
        "node": {"memory": Noted("2Gi", "MemTotal")} | machine,
        "containers": {"web": {"profile": "profiles/web.yaml", "memory.max": "128Mi"}},
    }
    return Draft(node, {"profiles/web.yaml": profile}, ("from a test",))


def test_write_makes_files_that_load(tmp_path: pathlib.Path) -> None:
    files = write(draft(), tmp_path / "out")
    assert [f.relative_to(tmp_path / "out").as_posix() for f in files] == [
        "node.yaml",
        "profiles/web.yaml",
    ]
    assert load(files[0]).containers["web"].memory_max == 128 << 20
    assert files[0].read_text().startswith("# from a test\n")
    assert not list((tmp_path / "out").glob(".capplan-*"))


def test_write_refuses_to_replace_unless_forced(tmp_path: pathlib.Path) -> None:
    (tmp_path / "node.yaml").write_text("mine")
    with pytest.raises(InputError, match="already there: nothing was written"):
        write(draft(), tmp_path)
    assert (tmp_path / "node.yaml").read_text() == "mine"
    assert not (tmp_path / "profiles").exists()
    write(draft(), tmp_path, force=True)
    assert load(tmp_path / "node.yaml").node.memory == 2 << 30


def test_write_leaves_nothing_of_a_node_that_does_not_load(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match=r"out/node.yaml:\d+:\d+: node.cpus: 'many'"):
        write(draft(cpus="many"), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_legal_name_is_one_and_free() -> None:
    assert legal_name("cri-containerd:9f.scope") == "cri-containerd-9f.scope"
    assert legal_name(r"dev-disk\x2duuid.swap", {"dev-disk-x2duuid.swap"}) == (
        "dev-disk-x2duuid.swap-2"
    )
    assert legal_name("///") == "unnamed"
