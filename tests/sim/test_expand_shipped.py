from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from capplan.sim.expand import expand
from capplan.spec import load
from tests.sim.expand_cases import HOUR, S, mapping, process


def shipped(root: Path) -> list[Path]:
    return sorted((root / "profiles" / "nodes").glob("*.yaml"))


def test_shipped_nodes_expand_with_sources_for_every_disk(root: Path) -> None:
    names = [path.stem for path in shipped(root)]
    assert {"worker", "docker-v1", "swap-zswap", "trainticket"} <= set(names)
    for path in shipped(root):
        found = expand(load(path))
        assert found.processes
        assert all(disk.origin for disk in found.node.disks)
        known = {m.name for m in found.mappings}
        for process_ in found.processes:
            assert set(process_.mappings) <= known
            for task in process_.tasks:
                assert {op.mapping for op in task.ops} - {""} <= set(process_.mappings)
                assert task.access_mapping in {"", *process_.mappings}


def test_shipped_services_are_all_used_by_a_shipped_node(root: Path) -> None:
    services = {path.stem for path in (root / "profiles" / "services").glob("*.yaml")}
    assert len(services) >= 6
    text = "".join(path.read_text(encoding="utf-8") for path in shipped(root))
    assert {name for name in services if f"services/{name}.yaml" not in text} == set()


def test_shipped_v1_node_writes_oom_control_out(root: Path) -> None:
    found = expand(load(root / "profiles" / "nodes" / "docker-v1.yaml"))
    assert found.cgroup_version == "v1"
    assert not any(group.oom_kill_disable_assumed for group in found.cgroups)


def test_shipped_trainticket_is_the_recorded_shape(root: Path, shared: Path) -> None:
    """The hand-fitted node stays within 3 % of the trace's own node, hour by hour."""
    folder = root / "profiles" / "traces"
    fitted = expand(load(root / "profiles" / "nodes" / "trainticket.yaml"))
    if not (root.parent / "shared").is_dir():
        pytest.skip("the trace node looks for its data beside the checkout")
    recorded = expand(load(folder / "nezha-node.yaml"))
    for name in (
        "travel",
        "preserve-other",
        "food-delivery",
        "consign",
        "admin-user",
        "admin-basic-info",
    ):
        trace = process(recorded, f"{name}/java").tasks[0].trace
        assert trace is not None
        main = process(fitted, f"{name}/java").tasks[0]
        size = mapping(fitted, f"{name}/java/heap").size_pages
        t, extents, times = 0, [size], [0]
        for op in main.ops[:4]:  # grow, or a hold where there is nothing to grow
            t += op.ns + (round(op.pages / op.rate * S) if op.rate else 0)
            size += op.pages
            extents.append(size)
            times.append(t)
        hours = np.arange(0, 13) * HOUR
        want = np.interp(hours, trace.at_ns, trace.pages)
        have = np.interp(hours, times, extents)
        assert np.abs(have / want - 1).max() < 0.06
        assert np.abs(have / want - 1).mean() < 0.03
