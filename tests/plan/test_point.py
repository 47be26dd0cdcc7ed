"""Points: lists of values, keys, and what is sent of a variant."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from capplan.errors import InputError
from capplan.plan import point as p
from capplan.sim.expand import expand
from capplan.sim.scenario import Scenario

NODE = """\
capplan: 1
node: {memory: 1Gi, cpus: 2, kernel: "6.12"}
cgroup: {version: v2}
containers:
  web:
    replicas: 2
    memory.max: 200Mi
    profile:
      capplan: 1
      profile: web
      processes:
        main:
          regions: {heap: {kind: anon, size: {normal: {mean: 50Mi, sd: 5Mi}}}}
  db:
    memory.max: 300Mi
    profile:
      capplan: 1
      profile: db
      processes:
        main:
          trace:
            file: db.csv
            columns: {time: t, value: mib}
            measures: rss
            unit: MiB
            scale: {uniform: {low: 0.9, high: 1.1}}
            mask: [{file: faults.csv, from: at, for: 2s}]
run: {duration: 1min, seed: 3}
"""


@pytest.fixture
def node(tmp_path: Path) -> Path:
    (tmp_path / "db.csv").write_text("t,mib\n0,100\n30,120\n40,500\n60,110\n")
    (tmp_path / "faults.csv").write_text("at\n39\n")
    path = tmp_path / "node.yaml"
    path.write_text(NODE)
    return path


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("512Mi,768Mi", ["512Mi", "768Mi"]),
        ("60", ["60"]),
        ("[256, 32], max", ["[256, 32]", "max"]),
        ('"a,b",{x: 1, y: 2}', ['"a,b"', "{x: 1, y: 2}"]),
        ("", [""]),
    ],
)
def test_axis_splits_at_commas_outside_brackets_and_quotes(text: str, values: list[str]) -> None:
    assert p.axis(text) == values


def test_grid_changes_the_last_key_fastest() -> None:
    assert p.grid({"a": ["1", "2"], "b": ["x", "y"]}) == [
        {"a": "1", "b": "x"},
        {"a": "1", "b": "y"},
        {"a": "2", "b": "x"},
        {"a": "2", "b": "y"},
    ]
    assert p.grid({}) == [{}]


def test_a_longest_known_key_is_one_piece_of_a_setting(node: Path) -> None:
    made = p.variant(node, {"containers.web.memory.max": "64Mi", "vm.min_free_kbytes": "9999"})
    assert made.spec is not None
    assert made.spec.containers["web"].memory_max == 64 << 20
    assert made.label == "containers.web.memory.max=64Mi, vm.min_free_kbytes=9999"
    assert made.containers == {"web": ("web-0", "web-1"), "db": ("db",)}


def test_what_is_sent_is_the_same_input(node: Path) -> None:
    made = p.variant(node)
    again = p.unpack(made.text, made.files)
    assert p.of_spec(again).digest == made.digest
    for replicate in (0, 7):
        ours, theirs = (expand(spec, 3, replicate) for spec in (made.spec, again))
        # samples are further apart in a run of many, and defaults are no assumptions any more
        assert _bare(ours) == _bare(theirs)


def _bare(scenario: Scenario) -> Scenario:
    return dataclasses.replace(scenario, sample_ns=1, assumptions=())


def test_a_key_changes_with_input_trace_seed_replicate_and_nothing_else(
    node: Path, tmp_path: Path
) -> None:
    def key(replicate: int = 1, seed: int = 3, **settings: str) -> str:
        made = p.variant(path, {k.replace("__", "."): v for k, v in settings.items()})
        (point,) = p.points([made], [replicate], seed)
        return point.key

    path = node
    first = key()
    assert key() == first
    assert len({first, key(2), key(seed=4), key(node__memory="2Gi")}) == 4
    assert key(node__memory="1024Mi") == first  # the same size in other words
    path = tmp_path / "elsewhere" / "node.yaml"
    path.parent.mkdir()
    path.write_text(NODE)
    for name in ("db.csv", "faults.csv"):
        (path.parent / name).write_bytes((tmp_path / name).read_bytes())
    assert key() == first
    (path.parent / "faults.csv").write_text("at\n29\n")
    assert key() != first
    (path.parent / "faults.csv").write_text("at\n39\n")
    (path.parent / "db.csv").write_text("t,mib\n0,100\n30,121\n40,500\n60,110\n")
    assert key() != first


def test_settings_meet_the_same_workload_in_the_same_replicate(node: Path) -> None:
    def sizes(replicate: int, limit: str) -> list[int]:
        made = p.variant(node, {"containers.web.memory.max": limit})
        assert made.spec is not None
        scenario = expand(made.spec, 3, replicate)
        return [m.size_pages for m in scenario.mappings]

    assert sizes(5, "100Mi") == sizes(5, "max")
    assert sizes(5, "100Mi") != sizes(6, "100Mi")


def test_a_wrong_setting_raises_or_is_kept_as_a_row(node: Path) -> None:
    wrong = {"containers.web.memory.max": "64Mx"}
    with pytest.raises(InputError, match="'64Mx' is not a memory size"):
        p.variant(node, wrong)
    made = p.variant(node, wrong, keep_errors=True)
    assert "'64Mx' is not a memory size" in made.error
    assert made.spec is None


def test_a_missing_trace_is_an_input_error(node: Path, tmp_path: Path) -> None:
    (tmp_path / "db.csv").unlink()
    with pytest.raises(InputError, match=r"db\.csv"):
        p.variant(node)
