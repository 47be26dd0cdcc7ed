"""Runs that are over with their first kill: the same answer as whole ones, for less."""

from __future__ import annotations

from pathlib import Path

from capplan.plan import metrics, work
from capplan.plan.point import point, variant
from capplan.plan.rows import Rows
from capplan.plan.store import Store

NODE = """\
capplan: 1
node: {memory: 512Mi, cpus: 2, kernel: "6.12", system: {kernel: 40Mi, daemons: {memory: 20Mi}}}
containers:
  leak:
    memory.max: %s
    profile:
      capplan: 1
      profile: leak
      processes:
        main:
          regions: {heap: {kind: anon, size: 8Mi}}
          phases: [{grow: {region: heap, to: 96Mi, rate: 10Mi/s}}]
run: {duration: 30s, seed: 5}
"""


def node(folder: Path, limit: str) -> Path:
    path = folder / f"{limit}.yaml"
    path.write_text(NODE % limit, encoding="utf-8")
    return path


def test_a_run_that_goes_well_has_its_whole_row(tmp_path: Path) -> None:
    spec = variant(node(tmp_path, "256Mi")).spec
    assert spec is not None
    whole = work.run_point(spec, 5, 1)
    assert metrics.well(whole)
    assert work.run_point(spec, 5, 1, until_bad=True) == whole


def test_a_run_that_goes_badly_is_over_then(tmp_path: Path) -> None:
    spec = variant(node(tmp_path, "64Mi")).spec
    assert spec is not None
    whole = work.run_point(spec, 5, 1)
    assert not metrics.well(whole)
    stopped = work.run_point(spec, 5, 1, until_bad=True)
    assert not metrics.well(stopped)
    assert set(stopped) == {*metrics.BAD, "node.panic_t"}  # nothing that a part could get wrong


def test_a_part_of_a_run_is_never_taken_for_the_whole(tmp_path: Path) -> None:
    made = variant(node(tmp_path, "64Mi"))
    assert point(made, 5, 1).key != point(made, 5, 1, until_bad=True).key
    with Store(":memory:") as store:
        rows = Rows(lambda settings: made, store, seed=5)
        assert rows.wells({}, [1]) == [(1, False)]
        ((_, row),) = rows.under({}, [1])
    assert row["node.kill_first"] == "leak"
