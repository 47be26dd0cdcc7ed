"""Commented YAML: what is written reads back as the same values, whatever it holds."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from capplan.spec.emit import Noted, emit
from capplan.spec.tree import parse

KEYS = st.text(min_size=1, max_size=20).map(lambda t: t.encode("utf-8", "replace").decode())
SCALARS: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | KEYS
    | st.sampled_from(["6.12", "yes", "12:30", "0777", "512Mi", "1e3", "- a", "a: b", "# a", "max"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def noted(value: Any, note: str) -> Any:
    """The same value with a comment at every place."""
    if isinstance(value, dict):
        return {key: Noted(noted(held, note), note, (note,)) for key, held in value.items()}
    if isinstance(value, list):
        return [Noted(noted(held, note), note, (note,)) for held in value]
    return value


def listed(value: Any) -> Any:
    """Tuples as lists, as the tree's reader hands them out."""
    if isinstance(value, dict):
        return {key: listed(held) for key, held in value.items()}
    return [listed(held) for held in value] if isinstance(value, list | tuple) else value


@given(st.dictionaries(KEYS, VALUES, max_size=5), st.text(max_size=12))
def test_what_is_written_reads_back(value: dict[str, Any], note: str) -> None:
    for written in (value, noted(value, note)):
        tree, problems = parse(emit(written, (note,)), "x.yaml")
        assert not problems
        assert listed(tree.plain()) == (value or None)


@given(st.dictionaries(KEYS, KEYS, max_size=5))
def test_texts_stay_texts_in_yaml_1_1(value: dict[str, str]) -> None:
    assert yaml.safe_load(emit(value)) == (value or None)


def test_comments_stand_where_a_reader_looks() -> None:
    shown = emit(
        {
            "node": {"cpus": Noted(4, "counted"), "swap": [{"device": "nvme", "size": "4Gi"}]},
            "containers": Noted({"a": {"memory.max": "1Gi"}}, above=("all of them",)),
        },
        ("captured",),
    )
    assert shown.splitlines() == [
        "# captured",
        "node:",
        "  cpus: 4  # counted",
        "  swap:",
        "    - {device: nvme, size: 4Gi}",
        "# all of them",
        "containers:",
        "  a: {memory.max: 1Gi}",
    ]
