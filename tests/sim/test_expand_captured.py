"""What a capture writes into a node file, in the kernel's units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from capplan.errors import InputError
from capplan.sim.expand import expand
from capplan.sim.scenario import Cgroup, Scenario
from capplan.spec import load

ZONE = {
    "zone": "Normal",
    "managed": 262144,
    "free": 100000,
    "pcp": 400,
    "min": 1000,
    "low": 1250,
    "high": 1500,
    "pagetypeinfo": {"Unmovable": [1], "Movable": [2, 3], "Reclaimable": [0]},
}
HEAP = {"kind": "anon", "size": "12Mi", "resident": "8Mi", "swapped": "4Mi"}


def node_file(folder: Path, **container: Any) -> Path:
    profile = {"capplan": 1, "profile": "p", "processes": {"main": {"regions": {"heap": HEAP}}}}
    node = {
        "capplan": 1,
        "node": {"zones": [ZONE], "swap": [{"device": "ssd", "size": "1Gi"}]},
        "cgroup": {"groups": {"a": {"memory.max": "1Gi"}, "a/odd:name": {}}},
        "containers": {"web": {"profile": profile} | container},
    }
    path = folder / "node.yaml"
    path.write_text(yaml.safe_dump(node))
    return path


def scenario(folder: Path, settings: dict[str, str] | None = None, **container: Any) -> Scenario:
    return expand(load(node_file(folder, **container), settings))


def test_zones_with_free_pages_are_a_captured_state(tmp_path: Path) -> None:
    found = scenario(tmp_path).node
    zone = found.zones[0]
    assert found.captured
    assert (zone.free, zone.pcp_pages, zone.wmark) == (100000, 400, (1000, 1250, 1500))
    assert zone.pagetypeinfo == {"Unmovable": (1,), "Movable": (2, 3), "Reclaimable": (0,)}
    assert not any("kernel memory" in line for line in scenario(tmp_path).assumptions)


def test_a_sysctl_that_is_set_takes_the_place_of_captured_marks(tmp_path: Path) -> None:
    changed = scenario(tmp_path, {"vm.watermark_scale_factor": "200"})
    assert changed.node.zones[0].wmark is None
    assert scenario(tmp_path, {"vm.swappiness": "1"}).node.zones[0].wmark is not None


@pytest.mark.parametrize(("group", "path"), [("/", ""), ("a/odd:name", "a/odd:name")])
def test_a_container_may_run_in_a_group_that_is_there(
    tmp_path: Path, group: str, path: str
) -> None:
    found = scenario(tmp_path, cgroup=group)
    assert found.processes[0].cgroup == path
    assert [c.path for c in found.cgroups] == ["a", "a/odd:name"]
    assert found.cgroups[0] == Cgroup("a", memory_max=262144)


def test_a_container_in_a_group_has_no_limits_of_its_own(tmp_path: Path) -> None:
    path = node_file(tmp_path, **{"cgroup": "a", "memory.max": "1Gi"})
    with pytest.raises(InputError, match=r"memory.max at cgroup.groups.a"):
        load(path)
    with pytest.raises(InputError, match=r"containers.web.cgroup: no control group 'b'"):
        load(node_file(tmp_path, cgroup="b"))


def test_swapped_pages_are_beside_the_resident_ones(tmp_path: Path) -> None:
    mapping = scenario(tmp_path).mappings[0]
    assert (mapping.resident_pages, mapping.swapped_pages) == (2048, 1024)
    assert mapping.max_pages >= 3072


def test_swapped_memory_needs_swap_and_is_anonymous(tmp_path: Path) -> None:
    path = node_file(tmp_path)
    text = node_file(tmp_path).read_text()
    path.write_text(text.replace("  swap:\n  - device: ssd\n    size: 1Gi\n", ""))
    with pytest.raises(InputError, match="the node has no swap that it could be in"):
        load(path)
    path.write_text(text.replace("kind: anon", "kind: kernel"))
    with pytest.raises(InputError, match="kernel memory is never in swap"):
        load(path)


def test_free_pages_of_some_zones_only_are_refused(tmp_path: Path) -> None:
    path = node_file(tmp_path)
    node = yaml.safe_load(path.read_text())
    node["node"]["zones"].append({"zone": "DMA", "managed": 3840})
    path.write_text(yaml.safe_dump(node))
    with pytest.raises(InputError, match="some zones have free, some have not"):
        load(path)


def test_page_tables_beyond_the_dense_ones_are_sparse(tmp_path: Path) -> None:
    path = node_file(tmp_path)
    node = yaml.safe_load(path.read_text())
    node["containers"]["web"]["profile"]["processes"]["main"]["page_tables"] = "1Mi"
    path.write_text(yaml.safe_dump(node))
    # 2048 resident and 1024 swapped pages have 6 tables of 256
    assert expand(load(path)).processes[0].sparse_tables == 250
