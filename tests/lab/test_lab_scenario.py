"""Scenario files of the lab: what they mean, and what is said of a wrong one."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from capplan.errors import InputError
from lab import plan
from lab.scenario import in_bytes, load

SCENARIOS = sorted((pathlib.Path(plan.__file__).parent / "scenarios").glob("*.yaml"))
SMALL = """\
name: small
about: one process in one group
ram_mib: 256
cgroups:
  a: {memory.max: 100Mi}
processes:
  - name: alloc
    cgroup: a
    start_s: 1
    phases:
      - {op: anon, mib: 150, rate_mib_s: 20}
duration_s: 10
"""


@pytest.fixture
def write(tmp_path: pathlib.Path) -> Any:
    """Writes a scenario file and returns its path."""

    def writer(text: str) -> pathlib.Path:
        path = tmp_path / "s.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return writer


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_each_scenario_of_the_lab_loads_under_its_files_name(path: pathlib.Path) -> None:
    assert load(path).name == path.stem


def test_there_are_at_least_ten_scenarios() -> None:
    assert len(SCENARIOS) >= 10


@pytest.mark.parametrize(
    ("written", "kernels"),
    [("100Mi", "104857600"), ("max", "max"), (1, "1"), ("-1", "-1"), ("1G", "1000000000")],
)
def test_in_bytes_gives_what_the_kernels_file_takes(written: str | int, kernels: str) -> None:
    assert in_bytes(written) == kernels


def test_inputs_have_the_form_of_a_recordings_scenario(write: Any) -> None:
    inputs = load(write(SMALL)).inputs()
    assert inputs["cgroups"] == [{"name": "a", "memory.max": "104857600"}]
    assert inputs["processes"][0]["phases"] == [{"op": "anon", "mib": 150, "rate_mib_s": 20}]
    assert "about" not in inputs


def test_a_forked_process_has_its_parents_group_and_earliest_start(write: Any) -> None:
    forked = SMALL.replace("20}\n", "20}\n      - {op: fork, child: young}\n").replace(
        "duration_s", "  - name: young\n    phases: [{op: hold, seconds: 1}]\nduration_s"
    )
    child = load(write(forked)).inputs()["processes"][1]
    assert child["cgroup"] == "a"
    assert child["start_s"] == pytest.approx(1 + 150 / 20)


def test_everything_wrong_is_told_at_once_with_its_place(write: Any) -> None:
    wrong = SMALL.replace("op: anon", "op: anno").replace("ram_mib", "ram_mb")
    with pytest.raises(InputError, match=r"s\.yaml:11:14: (.|\n)*'anno'(.|\n)*s\.yaml:3:1: ram_mb"):
        load(write(wrong))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("mib: 150, ", "", "anon lacks mib"),
        ("op: anon", "op: exec", "exec lacks program"),
        ("cgroup: a", "cgroup: b", "no cgroup 'b'"),
        ("    start_s: 1\n", "", "started by start_s or by one fork phase"),
        ("op: anon", "op: read_file, file: f9", "no file 'f9'"),
        ("ram_mib: 256", "ram_mib: 256\nnuma_mib: [128, 64]", "does not add up"),
        ("duration_s", "changes: [{at_s: 1, value: 3}]\nduration_s", "names no single target"),
    ],
)
def test_what_does_not_go_together_is_refused(write: Any, old: str, new: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load(write(SMALL.replace(old, new)))


def test_plan_sets_up_declares_and_runs_in_that_order(write: Any) -> None:
    lines = plan.lines(load(write(SMALL)), [], seed=3).splitlines()
    wanted = [
        "mount cgroup2 none /cg -",
        "write /cg/a/memory.max 104857600",
        "time 250 10000 3",
        "process alloc /cg/a/cgroup.procs 0 1000 0",
        "phase anon 38400 5120000 0 0 -",
        "sample 1 /cg/a/memory.current",
        "boot /proc/zoneinfo",
        "run",
    ]
    at = [lines.index(line) for line in wanted]
    assert at == sorted(at)
    assert lines[-1] == "run"


def test_plan_makes_disks_only_where_they_are_needed(write: Any) -> None:
    bare = plan.lines(load(write(SMALL)), [], seed=1)
    swap = plan.lines(load(write(SMALL + "swap_mib: 64\n")), ["null_blk.ko"], seed=1)
    assert "nullb" not in bare
    assert "module /m/null_blk.ko nr_devices=0" in swap
    assert "swap /dev/nullb0" in swap


def test_plan_shows_a_program_the_machine_below_its_root(write: Any) -> None:
    small = SMALL.replace("op: anon,", "op: exec, program: /lab/observe,") + "python: true\n"
    lines = plan.lines(load(write(small)), ["null_blk.ko"], 1).splitlines()
    assert "mount cgroup2 none /files/sys/fs/cgroup -" in lines
    assert "fetch /files/lab/found.json" in lines
    assert any(line.startswith("phase exec ") and line.endswith("/lab/observe") for line in lines)
    v1 = plan.lines(load(write(small + "cgroup_version: v1\n")), ["null_blk.ko"], 1)
    assert "mount cgroup none /files/sys/fs/cgroup/memory memory" in v1.splitlines()


def test_plan_gives_control_to_the_children_of_a_nested_group(write: Any) -> None:
    nested = SMALL.replace("  a: {memory.max: 100Mi}", "  p: {memory.max: 1Gi}\n  p/a: {}")
    lines = plan.lines(load(write(nested.replace("cgroup: a", "cgroup: p/a"))), [], 1).splitlines()
    order = ["mkdir /cg/p", "write /cg/p/cgroup.subtree_control +memory", "mkdir /cg/p/a"]
    assert [line for line in lines if line in order] == order


NUMA = SMALL.replace("ram_mib: 256\n", "ram_mib: 256\nnuma_mib: [128, 128]\n")


@pytest.mark.parametrize(
    ("policy", "nodes", "line", "kept"),
    [
        ("bind", "1", "numa 2 2", [1]),
        ("interleave", "all", "numa 3 3", [0, 1]),
        ("preferred-many", "0-1", "numa 5 3", [0, 1]),
    ],
)
def test_a_policy_is_set_in_the_guest_and_written_down(
    write: Any, policy: str, nodes: str, line: str, kept: list[int]
) -> None:
    given = f"    numa: {{policy: {policy}, nodes: {nodes}}}\n    phases:"
    scenario = load(write(NUMA.replace("    phases:", given)))
    assert line in plan.lines(scenario, [], 1).splitlines()
    assert scenario.inputs()["processes"][0]["numa"] == {"policy": policy, "nodes": kept}


def test_local_is_written_down_as_no_policy(write: Any) -> None:
    scenario = load(write(NUMA.replace("    phases:", "    numa: {policy: local}\n    phases:")))
    assert "numa" not in scenario.inputs()["processes"][0]


def test_a_policy_of_a_node_that_is_not_there_is_told(write: Any) -> None:
    given = "    numa: {policy: bind, nodes: 2}\n    phases:"
    with pytest.raises(InputError, match=r"alloc: no NUMA node 2(.|\n)*one of numa_mib"):
        load(write(NUMA.replace("    phases:", given)))
