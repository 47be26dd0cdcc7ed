"""Pages that are written on ext4 have buffer heads: who pays, and when they go."""

from __future__ import annotations

import dataclasses

import pytest

from capplan.sim.expand_node import disk_of
from capplan.sim.result import Run
from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Change, Mapping, Op, Process, Task
from capplan.spec.node import Speeds
from tests.sim.engine_cases import MS, S, last, node, process, scenario

pytestmark = pytest.mark.small

PAGES = 2048
HEADS = PAGES * 112 / 4096  # 56 pages


def found_of(op: str, *changes: Change, buffered: bool = True, g: int = 0) -> Run:
    """A process reads or writes a file of 2048 pages."""
    (disk,) = node().disks
    machine = node(disks=(dataclasses.replace(disk, buffer_heads=buffered),))
    own = Process("p", "a", "app", mappings=("f",), tasks=(Task((Op(op, "f", pages=PAGES),)),))
    other = process("q", "b", 10, Op("hold", ns=10 * S))
    case = scenario(
        [other],
        (Cgroup("a"), Cgroup("b")),
        changes,
        (Mapping("f", "file", PAGES, via="read", disk="vda"),),
        node=machine,
        granule_order=g,
    )
    return run(dataclasses.replace(case, processes=(own, *case.processes)))


def kernel(found: Run, path: str = "a") -> float:
    return last(found, f"cgroup.{path}.stat.kernel") / 4096


@pytest.mark.parametrize("g", [0, 3, 6])
def test_writer_pays_for_its_pages_buffer_heads(g: int) -> None:
    ext4, xfs = found_of("write", g=g), found_of("write", buffered=False, g=g)
    assert last(ext4, "cgroup.a.stat.file") == PAGES * 4096
    assert kernel(ext4) - kernel(xfs) == pytest.approx(HEADS, abs=1)
    assert kernel(ext4, "b") == kernel(xfs, "b")
    slab = [last(found, "meminfo_kb.SReclaimable") / 4 for found in (ext4, xfs)]
    assert slab[0] - slab[1] == -(-PAGES // 39)


def test_reader_has_none() -> None:
    assert kernel(found_of("read")) == kernel(found_of("read", buffered=False))


def test_buffer_heads_go_with_their_pages() -> None:
    """What reclaim takes of the cache takes 2.7 % with it; slabs without objects go, but a few."""
    shrink = Change(800 * MS, "a", "memory.max", 400)
    ext4, xfs = (found_of("write", shrink, buffered=b) for b in (True, False))
    file = last(ext4, "cgroup.a.stat.file") / 4096
    assert file < 400
    assert kernel(ext4) - kernel(xfs) == pytest.approx(file * 112 / 4096, abs=1.5)
    slab = [last(found, "meminfo_kb.SReclaimable") / 4 for found in (ext4, xfs)]
    assert slab[0] - slab[1] <= -(-400 // 39) + 5 + 2


@pytest.mark.parametrize(("filesystem", "has"), [("ext4", True), ("xfs", False), ("btrfs", False)])
def test_file_system_of_the_node_file_decides(filesystem: str, has: bool) -> None:
    speeds = Speeds.model_validate({"device": "ssd", "filesystem": filesystem})
    assert disk_of("d", speeds).buffer_heads is has
    assert disk_of("d", Speeds()).buffer_heads is True
