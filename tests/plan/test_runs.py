"""The run store and the executors: nothing twice, nothing lost, the same rows everywhere."""

from __future__ import annotations

import concurrent.futures
import sqlite3
from pathlib import Path

import pytest

import capplan
from capplan.errors import InputError
from capplan.plan import executor, local, metrics, work
from capplan.plan.point import Point, points, variant
from capplan.plan.sensitivity import Index
from capplan.plan.store import Store
from capplan.plan.sweep import _strongest
from capplan.sim import build
from capplan.spec import NodeSpec

NODE = """\
capplan: 1
node: {memory: 512Mi, cpus: 2, kernel: "6.12", system: {kernel: 40Mi, daemons: {memory: 20Mi}}}
cgroup: {version: v2}
containers:
  leak:
    memory.max: 64Mi
    profile:
      capplan: 1
      profile: leak
      processes:
        main:
          regions: {heap: {kind: anon, size: 8Mi}}
          phases: [{grow: {region: heap, to: {uniform: {low: 40Mi, high: 80Mi}}, rate: 40Mi/s}}]
run: {duration: 4s, seed: 5}
"""


@pytest.fixture
def node(tmp_path: Path) -> Path:
    path = tmp_path / "node.yaml"
    path.write_text(NODE)
    return path


def run(some: list[Point], store: Store, **options: object) -> dict[str, metrics.Row]:
    found = executor.run_points(some, store, **options)  # type: ignore[arg-type]
    return {point.key: row for point, row in found}


def test_a_row_says_who_was_killed_when_and_in_which_scope(node: Path) -> None:
    made = variant(node)
    assert made.spec is not None
    rows = [work.run_point(made.spec, 5, r) for r in range(1, 9)]
    killed = [row for row in rows if row["node.kills"]]
    assert 0 < len(killed) < 8  # the target is above the limit in about four of ten
    for row in killed:
        assert row["container.leak.kills"] == 1
        assert row["node.kill_first"] == row["node.kill_order"] == "leak"
        assert row["container.leak.kill_scope"] == "memcg"
        assert row["node.kill_t"] == row["container.leak.kill_t"] > 1.0
        assert not row["node.fits"]
        assert row["container.leak.peak"] <= 64 << 20
    of_node, of_containers = metrics.split(killed[0])
    assert set(of_node) == set(metrics.NODE_METRICS)
    assert set(of_containers["leak"]) == set(metrics.CONTAINER_METRICS)


def test_a_run_leaves_nothing_behind_for_the_next(node: Path) -> None:
    made = variant(node)
    assert made.spec is not None
    fresh = [run_alone(made.spec, replicate) for replicate in (1, 2, 3)]
    # memory and the booted node are used again from the second run on
    assert [work.run_point(made.spec, 5, replicate) for replicate in (1, 2, 3)] == fresh
    assert work.run_point(made.spec, 5, 1) == fresh[0]


def test_a_run_writes_to_no_group_process_or_region_that_there_is_not(node: Path) -> None:
    made = variant(node)
    assert made.spec is not None
    run_alone(made.spec, 1)
    booted, used = build._KEPT[0][1][0], build._SPARE[0][0]  # what is not copied for the next run
    for begin, end in build._unused(used):
        assert end - begin > 10_000
        assert booted.view("u1")[begin:end].tobytes() == used.view("u1")[begin:end].tobytes()
    known = int(booted[0].nr_memcgs)
    assert used["memcg"][0, :known].tobytes() != booted["memcg"][0, :known].tobytes()


def run_alone(spec: NodeSpec, replicate: int) -> metrics.Row:
    build._KEPT.clear()
    build._SPARE.clear()
    return work.run_point(spec, 5, replicate)


def test_what_is_stored_is_not_computed_again(
    node: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = list(points([variant(node)], range(1, 5), 5))
    with Store(tmp_path / "runs.sqlite") as store:
        first = run(some[:3], store, jobs=1)
        computed: list[str] = []
        original = work.compute

        def counted(chunk: work.Chunk) -> list[work.Done]:
            computed.extend(job.key for job in chunk.jobs)
            return original(chunk)

        monkeypatch.setattr("capplan.plan.local.compute", counted)
        again = run(some, store, jobs=1)
        assert computed == [some[3].key]
        assert len(again) == len(store) == 4
        assert {key: again[key] for key in first} == first


def test_equal_points_are_computed_once_and_given_back_each(node: Path) -> None:
    (one,) = points([variant(node)], [1], 5)
    (same,) = points([variant(node, {"node.memory": "512Mi"}, 1)], [1], 5)
    assert one.key == same.key
    with Store(":memory:") as store:
        found = list(executor.run_points([one, same], store, 1))
        assert [point.variant.index for point, _ in found] == [0, 1]
        assert len(store) == 1


def test_two_processes_give_the_rows_of_one(node: Path) -> None:
    some = list(points([variant(node)], range(1, 7), 5))
    with Store(":memory:") as here, Store(":memory:") as there:
        assert run(some, here, jobs=1) == run(some, there, jobs=2)


def test_the_last_chunks_get_smaller_so_that_all_workers_end_together(node: Path) -> None:
    sizes: list[int] = []

    class Two(local.Inline):
        size = 2

        def submit(self, chunk: work.Chunk) -> local.Answer:
            sizes.append(len(chunk.jobs))
            answer: local.Answer = concurrent.futures.Future()
            answer.set_result([(job.key, "{}", 1 / 32) for job in chunk.jobs])
            return answer

    some = list(points([variant(node)], range(1, 201), 5))
    with Store(":memory:") as store:
        assert len(list(executor.run_points(some, store, pool=Two()))) == len(store) == 200
    # the first shows how long one takes; then half a second's worth; then what is left, shared out
    assert sizes[:6] == [1, 16, 16, 16, 16, 16]
    assert sizes[6:] == sorted(sizes[6:], reverse=True)
    assert sizes[-4:] == [1, 1, 1, 1]


def test_a_point_that_fails_is_a_row_with_its_error(node: Path) -> None:
    made = [
        variant(node),
        variant(node, {"node.memory": "x"}, 1, keep_errors=True),
        variant(node, {"node.memory": "24Mi"}, 2, keep_errors=True),  # less than it uses
    ]
    some = list(points(made, [1], 5))
    with Store(":memory:") as store:
        rows = run(some, store, jobs=1)
    errors = [executor.failure_of(rows[point.key]) for point in some]
    assert errors[0] is None
    assert "'x' is not a memory size" in str(errors[1])
    assert errors[2]
    assert "/tmp" not in str(errors[2])


def test_leaving_early_keeps_what_is_finished(node: Path, tmp_path: Path) -> None:
    some = list(points([variant(node)], range(1, 9), 5))
    with Store(tmp_path / "runs.sqlite") as store:
        going = executor.run_points(some, store, 1)
        next(going)
        going.close()  # as Ctrl-C does
        assert 1 <= len(store) < 8


def test_progress_counts_stored_points_too(node: Path) -> None:
    some = list(points([variant(node)], range(1, 4), 5))
    counts: list[int] = []
    with Store(":memory:") as store:
        run(some[:1], store, jobs=1)
        run(some, store, jobs=1, progress=counts.append)
    assert counts == [1, 2, 3]


def test_rows_come_in_the_order_of_the_keys(tmp_path: Path) -> None:
    with Store(tmp_path / "runs.sqlite") as store:
        store.put((f"k{i}", f'{{"n":{i}}}', 0.1) for i in range(1200))
        keys = [f"k{i}" for i in range(1199, -1, -1)]
        assert [row["n"] for _, row in store.rows(keys)] == list(range(1199, -1, -1))
        assert store.get("k5") == {"n": 5}
        assert store.get("k1200") is None


def test_a_batch_is_in_whole_or_not_at_all(tmp_path: Path) -> None:
    def broken() -> object:
        yield ("a", "{}", 0.1)
        raise RuntimeError("in the middle")

    with Store(tmp_path / "runs.sqlite") as store:
        with pytest.raises(RuntimeError, match="in the middle"):
            store.put(broken())  # type: ignore[arg-type]
        assert len(store) == 0


def test_a_store_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    path.write_text("not a database, but long enough to look at" * 100)
    with pytest.raises(InputError, match="cannot be used as a run store"):
        Store(path)
    newer = tmp_path / "newer.sqlite"
    with Store(newer) as store:
        store.note("format", "2")
    with pytest.raises(InputError, match="a run store of format 2"):
        Store(newer)
    assert sqlite3.connect(newer).execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_results_show_their_verdict_at_a_prompt(uncertain_node: Path) -> None:
    run = capplan.simulate(uncertain_node)
    assert repr(run) == f"<Simulation: {run.verdict}>"
    risk = capplan.risk(uncertain_node, replicates=1, jobs=1)
    assert repr(risk) == f"<RiskResult: {risk.verdict}>"


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (Index("swap", "P(kill)", 0.6, 0.2, 0.9), "depends most on swap (first-order index 0.60)"),
        (Index("swap", "P(kill)", 0.6, 0.2, 0.9, 0.8, 0.3, 1.1), "on swap (total index 0.80)"),
        (Index("swap", "P(kill)", 0.0, 0.0, 1.0), "6 points do not tell which knob decides who"),
        (Index("swap", "P(kill)", 0.6, 0.2, 0.9, 0.8, 0.0, 1.1), "do not tell which knob"),
    ],
)
def test_the_strongest_knob_is_named_where_its_index_is_not_zero(index: Index, said: str) -> None:
    assert said in _strongest(index, "OOM-killed", 6)
