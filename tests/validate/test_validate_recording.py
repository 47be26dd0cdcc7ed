"""scenario.json becomes a scenario."""

from __future__ import annotations

from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from capplan.sim.costs import COSTS
from capplan.sim.scenario import UNLIMITED, Op
from capplan.validate.calibration import DERIVATIONS, costs_of, file_disk, page_ns, swap_disk
from capplan.validate.recording import (
    cgroup_of,
    load_scenario,
    op_of,
    scenario_of,
    stored_bytes,
)
from tests.validate.handmade import NAMES, RAW, RECORDINGS


def test_page_ns_worked_example() -> None:
    assert page_ns(82) == pytest.approx(47637, abs=1)


def test_stored_bytes_worked_example() -> None:
    assert stored_bytes(75) == 1101


def test_stored_bytes_of_a_random_page_exceeds_a_page() -> None:
    assert stored_bytes(0) > 4096


def test_stored_bytes_of_one_repeated_byte_is_nothing() -> None:
    assert stored_bytes(100) == 0


@hypothesis.given(st.integers(0, 99), st.integers(0, 99))
def test_stored_bytes_falls_with_compressibility(a: int, b: int) -> None:
    assert (stored_bytes(a) >= stored_bytes(b)) == (a <= b)


def test_costs_follow_from_the_calibration() -> None:
    costs = costs_of(RAW["calibration"])
    assert costs["fault_ns"] + costs["fill_ns"] == pytest.approx(page_ns(82))
    assert costs["contention"] == pytest.approx(82 / 62)
    look = costs["rmap_ns"]  # each page that goes out is looked at once while it is mapped
    reclaimed = COSTS["scan_ns"].value + costs["filemap_ns"] + COSTS["free_ns"].value
    assert reclaimed == pytest.approx(2 * look)  # a clean page of the page cache
    grow_and_swap = costs["fault_ns"] + costs["fill_ns"] + costs["swap_setup_ns"]
    assert grow_and_swap + look == pytest.approx(page_ns(36))
    assert costs["fill_ns"] + costs["compress_ns"] + look == pytest.approx(page_ns(20))
    load = costs["swapin_setup_ns"] + costs["decompress_ns"] + look
    assert costs["compress_ns"] + load == pytest.approx(page_ns(17))


def test_disks_follow_from_the_calibration() -> None:
    costs = costs_of(RAW["calibration"])
    files = file_disk("d", RAW["calibration"])
    swap = swap_disk("d", RAW["calibration"])
    assert files.random_read_ns + costs["file_copy_ns"] == pytest.approx(page_ns(9.3))
    assert files.read_ns_per_page + costs["file_copy_ns"] == pytest.approx(page_ns(100))
    cycle = costs["swap_setup_ns"] + costs["swapin_setup_ns"] + swap.read_ns_per_page
    assert cycle + costs["rmap_ns"] == pytest.approx(page_ns(17))


def test_swap_reads_agree_with_the_files_disk() -> None:
    """Eight pages share a seek (vm.page-cluster 3) and stream: nothing of this was fitted."""
    seek, stream = page_ns(9.3) - page_ns(100), page_ns(100)
    assert swap_disk("s", RAW["calibration"]).read_ns_per_page == pytest.approx(
        seek / 8 + stream, rel=0.01
    )


def test_costs_of_no_calibration_are_none() -> None:
    assert costs_of({}) == {}


def test_every_cost_has_a_derivation() -> None:
    named = {name.split()[0] for entry in DERIVATIONS for name in entry.name.split(",")}
    assert set(costs_of(RAW["calibration"])) <= named


def test_node_is_the_boot(raw: dict[str, Any]) -> None:
    node = scenario_of(raw).node
    (zone,) = node.zones
    assert (zone.managed, zone.free, zone.wmark) == (15000, 12000, (100, 125, 150))
    assert node.daemon_anon_pages == 200
    assert node.daemon_locked_pages == 200
    assert node.daemon_shmem_pages == 100
    assert node.daemon_locked_shmem_pages == 25  # Mlocked, less what is anonymous
    assert node.daemon_file_pages == 10 + 2
    assert node.slab_reclaimable_pages == 300
    assert node.slab_pinned_pages == 300  # the guest had dropped its caches
    assert zone.pcp_pages + node.kernel_pages == 15000 - 12000 - 200 - 100 - 12 - 300
    assert not node.lru_gen


def test_processes_begin_when_they_were_forked(raw: dict[str, Any]) -> None:
    """Each fork copies the sampler's page table entries; the child drops all but 273 of them."""
    raw["boot"]["meminfo_kb"]["AnonPages"] = 4 * 1700
    raw["processes"] = [raw["processes"][0] | {"name": name, "start_s": 1} for name in "ab"]
    entry = page_ns(raw["calibration"]["exit_free_mib_s"])
    starts = [process.start_ns - 1_000_000_000 for process in scenario_of(raw).processes]
    assert starts == [round(3127 * entry), round(4827 * entry)]


def test_a_sample_costs_more_the_more_groups_there_are(raw: dict[str, Any]) -> None:
    one = len(raw["cgroups"])
    first = scenario_of(raw).node.costs["sample_ns"]
    raw["cgroups"] = [*raw["cgroups"], {"name": "z"}]
    assert scenario_of(raw).node.costs["sample_ns"] == pytest.approx(first + 84 * page_ns(82))
    assert first == pytest.approx((21 + 84 * one) * page_ns(82))


def test_marks_are_left_to_the_model_where_min_free_was_written(raw: dict[str, Any]) -> None:
    raw["sysctl"] = {"vm.min_free_kbytes": 400}
    assert scenario_of(raw).node.zones[0].wmark is None


def test_lru_gen_is_the_lowest_bit(raw: dict[str, Any]) -> None:
    raw["boot"]["lru_gen_enabled"] = "0x0007"
    assert scenario_of(raw).node.lru_gen


def test_limits_are_whole_pages() -> None:
    group = cgroup_of({"name": "a", "memory.max": "8191", "memory.high": "max"})
    assert group.memory_max == 1
    assert group.memory_high == UNLIMITED


def test_v1_files_are_known() -> None:
    group = cgroup_of(
        {
            "name": "a",
            "memory.limit_in_bytes": "8192",
            "memory.memsw.limit_in_bytes": "-1",
            "memory.oom_control": "1",
        }
    )
    assert (group.memory_max, group.memsw_max, group.oom_kill_disable) == (2, UNLIMITED, True)


def test_v1_default_kills() -> None:
    group = cgroup_of({"name": "a", "memory.limit_in_bytes": "8192"})
    assert not group.oom_kill_disable
    assert not group.oom_kill_disable_assumed


def test_unknown_cgroup_file_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a: cgroup file 'memory\.magic' is not modelled"):
        cgroup_of({"name": "a", "memory.magic": "1"})


def test_phases_become_operations(raw: dict[str, Any]) -> None:
    (process,) = scenario_of(raw).processes
    before, own, grow, hold = process.tasks[0].ops
    assert before == Op("grow", "alloc.before", 5)  # the root group's
    assert own == Op("grow", "alloc.own", 20)
    assert grow == Op("grow", "alloc.heap", 30 * 256, 5.0 * 256)
    assert hold == Op("hold", ns=3_000_000_000)
    assert process.oom_score_adj == 7
    assert process.tasks[0].exit_at_end


@pytest.mark.parametrize(
    ("phase", "op"),
    [
        (
            {"op": "loop_read_file", "seconds": 2, "file": "f", "mib": 3, "rate_mib_s": 4},
            Op("read_loop", "m", 768, 1024.0, 2_000_000_000),
        ),
        (
            {"op": "random_read_file", "seconds": 2, "file": "f", "mib": 3, "rate_mib_s": 4},
            Op("read_rand", "m", 768, 1024.0, 2_000_000_000),
        ),
        ({"op": "write_tmpfs", "mib": 1, "rate_mib_s": 2}, Op("write", "m", 256, 512.0)),
        ({"op": "free_anon", "mib": 1}, Op("free", "m", 256)),
        ({"op": "mlock", "mib": 1}, Op("mlock", "m", 256)),
        (
            {"op": "touch_anon_random", "seconds": 1, "rate_mib_s": 2},
            Op("touch", "m", rate=512.0, ns=1_000_000_000, pattern="uniform"),
        ),
    ],
)
def test_phase_becomes_operation(phase: dict[str, Any], op: Op) -> None:
    assert op_of(phase, "m") == op


def test_unknown_phase_is_refused() -> None:
    with pytest.raises(ValueError, match="phase 'dance' is not known"):
        op_of({"op": "dance"}, "m")


def test_several_anon_phases_grow_one_region(raw: dict[str, Any]) -> None:
    raw["processes"][0]["phases"].append({"op": "anon", "mib": 10, "rate_mib_s": 5})
    heap = next(m for m in scenario_of(raw).mappings if m.name == "alloc.heap")
    assert heap.max_pages == 40 * 256
    assert heap.incompressible == pytest.approx(0.25)  # the later ten are all random
    assert heap.length_mean == 1101


def test_written_files_are_regions_of_their_own(raw: dict[str, Any]) -> None:
    raw["processes"][0]["phases"] = [
        {"op": "write_file", "mib": 4, "rate_mib_s": 5},
        {"op": "write_tmpfs", "mib": 6, "rate_mib_s": 5},
        {"op": "read_file", "file": "f1", "mib": 2, "rate_mib_s": 5},
    ]
    scenario = scenario_of(raw)
    kinds = {m.name: (m.kind, m.max_pages) for m in scenario.mappings}
    assert kinds["alloc.0"] == ("file", 1024)
    assert kinds["alloc.1"] == ("shmem", 1536)
    assert scenario.processes[0].mappings == (
        "alloc.own",
        "alloc.before",
        "alloc.0",
        "alloc.1",
        "f1",
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_recording_becomes_a_scenario(name: str) -> None:
    scenario = load_scenario(RECORDINGS / name)
    regions = {m.name for m in scenario.mappings}
    assert len(regions) == len(scenario.mappings)
    for process in scenario.processes:
        used = {op.mapping for task in process.tasks for op in task.ops if op.mapping}
        assert used <= set(process.mappings) <= regions
    assert scenario.node.kernel_pages > 0
