"""Replicates draw anew all that a profile declares, and what was assumed where it says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from capplan.plan.reach import reach
from capplan.plan.risk import replicates_of
from capplan.sim.expand import expand
from capplan.sim.expand_trace import ANON_SHARE, ANON_SHARE_RANGE
from capplan.sim.scenario import Scenario
from capplan.spec import NodeSpec, load

NODE = """\
capplan: 1
node: {memory: 8Gi, cpus: 2, kernel: "6.12"}
cgroup: {version: v2}
containers:
  web:
    start: {uniform: {low: 0s, high: 20s}}
    profile:
      capplan: 1
      profile: web
      processes:
        main:
          start: {exponential: {mean: 2s}}
          regions: {heap: {kind: anon, size: {normal: {mean: 50Mi, sd: 9Mi}}}}
          phases:
            - grow: {region: heap, to: {lognormal: {median: 80Mi, sigma: 0.3}}, rate: 20Mi/s}
            - hold: {for: {uniform: {low: 1s, high: 9s}}}
            - burst: {region: heap, by: {choice: {values: [1Mi, 7Mi, 30Mi]}},
                      every: {exponential: {mean: 5s}}, for: 1s}
  db:
    profile:
      capplan: 1
      profile: db
      processes:
        main:
          trace:
            file: db.csv
            columns: {time: t, value: mib}
            measures: working_set
            unit: MiB
            offset: {uniform: {low: 0s, high: 50s}}
            scale: {normal: {mean: 1.0, sd: 0.1}}
            jitter: 0.05
run: {duration: 2min, seed: 3}
"""


@pytest.fixture
def spec(tmp_path: Path) -> NodeSpec:
    rows = "".join(f"{t},{1000 + t}\n" for t in range(0, 200, 10))
    (tmp_path / "db.csv").write_text(f"t,mib\n{rows}")
    path = tmp_path / "node.yaml"
    path.write_text(NODE)
    return load(path)


def drawn(scenario: Scenario) -> dict[str, object]:
    """What each declared distribution came to."""
    web, db = scenario.processes[0], scenario.processes[-1]
    ops = [op for task in web.tasks for op in task.ops]
    trace = db.tasks[0].trace
    assert trace is not None
    first = next(i for i, op in enumerate(ops) if op.op == "hold")
    return {
        "start": web.start_ns,
        "size": next(m.size_pages for m in scenario.mappings if "web" in m.name)
        or next(op.pages for op in ops if op.op == "target"),
        "target": next(op.pages for op in ops if op.op == "grow"),
        "hold": ops[first].ns,
        "every": tuple(op.ns for op in ops[first + 1 : first + 8] if op.op == "hold"),
        "trace": tuple(trace.pages[:5].tolist()),
        "trace times": tuple(trace.at_ns[:5].tolist()),
    }


def test_every_declared_distribution_is_drawn_anew(spec: NodeSpec) -> None:
    found = [drawn(expand(spec, 3, replicate)) for replicate in replicates_of(6)]
    for what in found[0]:
        assert len({row[what] for row in found}) >= 5, what
    assert drawn(expand(spec, 3, 4)) == found[3]


def test_a_burst_size_is_any_of_its_values(spec: NodeSpec) -> None:
    sizes = set()
    for replicate in replicates_of(12):
        ops = [op for task in expand(spec, 3, replicate).processes[0].tasks for op in task.ops]
        sizes |= {op.pages >> 8 for op in ops if op.op == "free"}
    assert sizes >= {1, 7, 30}


def test_an_assumed_anonymous_share_is_varied_in_runs_of_many(spec: NodeSpec) -> None:
    def share(replicate: int) -> float:
        (note,) = [a for a in expand(spec, 3, replicate).assumptions if "is anonymous" in a]
        return float(note.split(": ")[-1].split(" %")[0]) / 100

    assert share(0) == pytest.approx(ANON_SHARE)  # the single run
    shares = [share(replicate) for replicate in replicates_of(60)]
    low, high = ANON_SHARE_RANGE
    assert low - 0.005 <= min(shares) < low + 0.1
    assert high - 0.1 < max(shares) <= high + 0.005


def test_reach_names_what_is_drawn_and_what_a_trace_cannot_show(spec: NodeSpec) -> None:
    web, db = reach(spec)
    assert set(web.drawn) == {
        "start",
        "profile.processes.main.start",
        "profile.processes.main.regions.heap.size",
        "profile.processes.main.phases.0.grow.to",
        "profile.processes.main.phases.1.hold.for",
        "profile.processes.main.phases.2.burst.by",
        "profile.processes.main.phases.2.burst.every",
    }
    assert web.recorded_s is None
    assert {"trace.jitter", "trace.anon_share"} < set(db.drawn)
    assert db.recorded_s == 190.0
    assert db.statement.startswith("db.csv holds 3 min 10 s.")
    assert "once a week 99.9 %" in db.statement
