"""What the lab's recordings have beside the first ones: forks, changes, zram, nodes, and more."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from capplan.sim.scenario import Change, Op
from capplan.validate.calibration import costs_of, page_ns
from capplan.validate.recording import change_of, sample_cost_ns, scenario_of
from capplan.validate.score import judge_marks
from tests.validate.handmade import NAMES, RAW, RECORDINGS


def _with(**keys: Any) -> dict[str, Any]:
    return copy.deepcopy(RAW) | keys


def _process(name: str, *phases: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": name, "cgroup": "a", "oom_score_adj": 0, "start_s": 1, "phases": phases,
    } | more  # fmt: skip


def _forked(seconds: float) -> Any:
    parent = _process(
        "old",
        {"op": "anon", "mib": 4, "rate_mib_s": 4},
        {"op": "free_anon", "mib": 1},
        {"op": "fork", "child": "new"},
        {"op": "hold", "seconds": 9},
    )
    touch = {"op": "touch_anon", "seconds": seconds, "rate_mib_s": 2}
    return scenario_of(_with(processes=[parent, _process("new", touch, start_s=2)]))


def test_a_childs_first_writes_copy_its_parents_pages_once_each() -> None:
    found = _forked(seconds=5)
    child = found.processes[1]
    heap = next(m for m in found.mappings if m.name == "new.heap")
    assert heap.cow_of == "old.heap"
    assert heap.max_pages == 3 * 256
    assert child.parent == "old"
    assert set(child.mappings) == {"new.before", "new.own", "old.heap", "new.heap"}
    store, touch = child.tasks[0].ops[2:]
    assert store == Op("store", "old.heap", 3 * 256, 512.0, pattern="cyclic")
    assert (touch.op, touch.mapping, touch.ns) == ("touch", "new.heap", 3_500_000_000)


def test_a_child_that_writes_for_a_short_time_copies_only_so_much() -> None:
    assert _forked(seconds=1).processes[1].tasks[0].ops[2:] == (
        Op("store", "old.heap", 512, 512.0, pattern="cyclic"),
    )


def test_the_parent_forks_and_goes_on() -> None:
    ops = [op.op for op in _forked(seconds=1).processes[0].tasks[0].ops]
    assert ops == ["grow", "grow", "grow", "free", "fork", "hold"]


@pytest.mark.parametrize(
    ("raw", "change"),
    [
        (
            {"at_s": 9, "cgroup": "a", "file": "memory.reclaim", "value": "41943040"},
            Change(9_000_000_000, "a", "memory.reclaim", 10240),
        ),
        (
            {"at_s": 0.5, "cgroup": "a", "file": "memory.high", "value": "max"},
            Change(500_000_000, "a", "memory.high", -1),
        ),
        (
            {"at_s": 1, "sysctl": "vm.swappiness", "value": 0},
            Change(1_000_000_000, "", "vm.swappiness", 0),
        ),
    ],
)
def test_changes_are_in_the_engines_units(raw: dict[str, Any], change: Change) -> None:
    assert change_of(raw) == change


def test_zram_comes_before_the_disk_and_is_part_of_swap_total() -> None:
    raw = _with(zram={"disksize_mib": 16, "mem_limit_mib": 4})
    raw["boot"]["meminfo_kb"]["SwapTotal"] = 16 * 1024 - 4 + 8 * 1024
    zram, disk = scenario_of(raw).node.swaps
    assert (zram.zram, zram.size_pages, zram.zram_limit_pages) == (True, 16 * 256 - 1, 1024)
    assert (disk.zram, disk.size_pages) == (False, 2048)
    assert disk.priority < zram.priority


def test_zones_have_the_per_cpu_pages_that_were_counted_and_their_own_blocks() -> None:
    raw = _with()
    (zone,) = raw["boot"]["zones"][:1]
    raw["boot"]["zones"] = [zone | {"pcp": 77}, zone | {"node": 1, "pcp": 5}]
    one, two = [9] + [0] * 10, [8] + [0] * 10
    raw["boot"]["buddyinfo"] = {f"N0.{zone['zone']}": one, f"N1.{zone['zone']}": two}
    zones = scenario_of(raw).node.zones
    assert [z.pcp_pages for z in zones] == [77, 5]
    assert [z.buddyinfo for z in zones] == [tuple(one), tuple(two)]


def test_marks_of_each_node_are_judged_apart() -> None:
    raw = _with()
    zone = raw["boot"]["zones"][0] | {"min": 1, "low": 2, "high": 3}
    raw["boot"]["zones"] = [zone, zone | {"node": 1, "high": 4}]
    name = zone["zone"]
    right = {f"N0.{name}": (1, 2, 3), f"N1.{name}": (1, 2, 4)}
    assert judge_marks(raw, right) == ()
    (line,) = judge_marks(raw, right | {f"N1.{name}": (1, 2, 3)})
    assert "(1, 2, 4)" in line


def test_mapped_files_unused_dentries_holes_and_huge_pages() -> None:
    one = _process(
        "p",
        {"op": "map_file", "file": "f1", "mib": 2, "rate_mib_s": 1},
        {"op": "dentries", "mib": 1, "rate_mib_s": 2},
        {"op": "anon", "mib": 4, "rate_mib_s": 4},
        {"op": "punch", "mib": 4},
        thp=True,
    )
    found = scenario_of(_with(processes=[one]))
    regions = {m.name: m for m in found.mappings}
    assert regions["f1"].via == "mmap"
    assert regions["p.heap"].thp
    assert found.processes[0].tasks[0].ops[2:] == (
        Op("read", "f1", 512, 256.0),
        Op("slab", pages=256, rate=512.0),
        Op("grow", "p.heap", 1024, 1024.0),
        Op("punch", "p.heap", 1024),
    )


def test_two_tasks_on_one_cpu_hinder_each_other_no_further() -> None:
    assert "contention" in costs_of(RAW["calibration"], cpus=2)
    assert "contention" not in costs_of(RAW["calibration"], cpus=1)


def test_what_the_lab_measures_replaces_the_constants() -> None:
    exact = RAW["calibration"] | {
        "exit_free_exact_mib_s": 1500, "write_file_mib_s": 200, "look_ns": 3000, "sample_ns": 5e5,
    }  # fmt: skip
    costs = costs_of(exact, cpus=1)
    assert costs["exit_free_ns"] + costs["exit_unmap_ns"] == pytest.approx(page_ns(1500))
    assert costs["write_copy_ns"] == pytest.approx(page_ns(200))
    assert costs["rmap_ns"] == 3000
    assert sample_cost_ns(_with(calibration=exact)) == 5e5
    assert sample_cost_ns(RAW) != 5e5


def test_the_labs_recordings_are_read_with_all_their_keys() -> None:
    raws = [json.loads((RECORDINGS / n / "scenario.json").read_text()) for n in NAMES]
    assert sum("changes" in raw for raw in raws) >= 20
