"""The YAML tree: YAML 1.2 scalars, places, and every bound."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capplan.errors import InputError, Place
from capplan.spec import tree
from capplan.spec.tree import Node, parse, read_text, shown_path


def plain(text: str) -> object:
    return parse(text, "a.yaml")[0].plain()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("~", None),
        ("0777", 777),
        ("0o17", 15),
        ("0x1F", 31),
        ("1:30", "1:30"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("-3", -3),
        ("6.10", 6.1),
        ("1e3", 1000.0),
        ("-.inf", float("-inf")),
        ("'6.10'", "6.10"),
        ("!!str 5", "5"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    assert plain(f"k: {text}") == {"k": value}


def test_keys_are_texts():
    assert plain("on: 1\n5: 2\nnull: 3") == {"on": 1, "5": 2, "null": 3}


def test_lists_become_tuples_and_aliases_their_anchor():
    assert plain("a: &x [1, {b: 2}]\nc: *x") == {"a": (1, {"b": 2}), "c": (1, {"b": 2})}


def test_places_count_from_one():
    node, _ = parse("a:\n  - b: 16Gi\n", "a.yaml")
    assert node.place_of(("a", 0, "b")) == Place("a.yaml", 2, 8)
    assert node.place_of(("a", 0, "missing")) == Place("a.yaml", 2, 5)
    assert str(node.place_of(("a", 5))) == "a.yaml:2:3"
    inner = node.child("a").child(0)
    assert inner.keys["b"] == Place("a.yaml", 2, 5)


def test_shown_path():
    assert shown_path(("node", "swap", 0, "device")) == "node.swap[0].device"


def test_duplicate_keys_are_problems_and_the_first_counts():
    node, problems = parse("a: 1\nb: {c: 1, c: 2}\na: 3\n", "a.yaml")
    assert node.plain() == {"a": 1, "b": {"c": 1}}
    assert [str(p.place) for p in problems] == ["a.yaml:2:11", "a.yaml:3:1"]
    assert {p.code for p in problems} == {"C005"}


def billion_laughs(levels: int, width: int) -> str:
    lines = ["a0: &a0 [" + ", ".join(["lol"] * width) + "]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [" + ", ".join([f"*a{level - 1}"] * width) + "]")
    return "\n".join(lines)


def test_alias_bomb_is_refused_at_once():
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"a\.yaml:\d+:\d+: the file has too many values"):
        parse(billion_laughs(10, 10), "a.yaml")
    assert time.perf_counter() - start < 1


def test_aliases_below_the_bound_are_fine():
    assert len(plain(billion_laughs(4, 9))) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [*a]", "the alias 'a' contains itself"),
        ("a: *b", "no anchor named 'b'|undefined alias"),
        ("[" * 200 + "]" * 200, "nested too deeply"),
        ("a: 1\n---\nb: 2\n", "a second document starts here"),
        ("a: !!python/object/apply:os.system ['true']", "the tag .* is not accepted"),
        ("a: !include b.yaml", "the tag '!include' is not accepted"),
        ("base: &b {x: 1}\nc: {<<: *b}", r"merge keys \('<<'\) are not YAML 1.2"),
        ("? [a, b]\n: 1", "a key that is no text"),
        ("a:\n\t- 1", "not YAML"),
        ("a: 'x", "not YAML"),
        ("a: \x07", "not YAML"),
    ],
)
def test_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse(text, "a.yaml")


def test_many_values_are_refused_before_they_are_built(monkeypatch):
    monkeypatch.setattr(tree, "MAX_NODES", 100)
    with pytest.raises(InputError, match="at most 100, aliases counted"):
        parse("[" + "1," * 101 + "]", "a.yaml")


def test_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "huge.yaml"
    with path.open("wb") as stream:
        stream.truncate(1 << 30)  # sparse: no disk is used
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"the file has 1,024 MiB\n    expected at most 16 MiB"):
        read_text(path, "huge.yaml")
    assert time.perf_counter() - start < 1


def test_endless_file_is_refused():
    with pytest.raises(InputError, match="the file has more than 16 MiB"):
        read_text(tree.Path("/dev/zero"), "/dev/zero")


def test_bytes_that_are_no_utf8_are_refused_with_their_line(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(InputError, match=r"a\.yaml:2: byte 0xff is not UTF-8"):
        read_text(path, "a.yaml")


def test_byte_order_mark_is_dropped(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes("﻿a: 1".encode())
    assert plain(read_text(path, "a.yaml")) == {"a": 1}


def test_copied_tree_is_independent():
    node, _ = parse("a: {b: [1]}\n", "a.yaml")
    other = node.copied()
    other.value["a"].value["b"].value.append(Node(Place("x"), 2))
    assert node.plain() == {"a": {"b": (1,)}}
    assert other.plain() == {"a": {"b": (1, 2)}}


@given(st.text(alphabet="ab:{}[],&*!|>-? \n'\"#%@<0x1.", max_size=60))
def test_any_text_is_a_tree_or_an_input_error(text):
    try:
        node, problems = parse(text, "a.yaml")
    except InputError as error:
        problems = list(error.problems)
    else:
        node.plain()
        assert all(problem.code == "C005" for problem in problems)
    assert all(problem.place.file == "a.yaml" for problem in problems)
