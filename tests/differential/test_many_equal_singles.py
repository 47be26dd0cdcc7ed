"""Granules that come and go many at once leave every record as they do one at a time.

In plain Python, where what takes them together can be left out; a process of its own, for the
decorators read CAPPLAN_JIT once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

PLAYED = """
import hashlib, json, random, sys
import numpy as np
import capplan.sim.run as runs
from capplan.sim import ops, unmap
from capplan.sim.scenario import Access, Cgroup, Disk, Mapping, Node, Process, Scenario, Swap
from capplan.sim.scenario import Task, TracePoints, Zone

S = 1_000_000_000
release, granule_order, singly = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "singly"
pages = {"many": 0, "freed": 0, "singles": 0}
many, freed, single = ops.touch_many, unmap._free_newest_plain, ops.touch_next

def touch_many(*given):
    found = 0 if singly else many(*given)
    pages["many"] += found
    return found

def free_newest_plain(*given):
    found = (0, 0) if singly else freed(*given)
    pages["freed"] += found[0]
    return found

def touch_next(*given):
    pages["singles"] += 1
    return single(*given)

ops.touch_many, unmap._free_newest_plain, ops.touch_next = touch_many, free_newest_plain, touch_next

def follower(name, cgroup, base, swing):
    # a curve up and down, and what is there at the start
    draw = random.Random(name)
    steps = np.arange(1, 9, dtype=np.int64)
    points = np.array([base + draw.randrange(-swing, swing) for _ in steps], np.int64)
    heap = f"{name}.heap"
    task = Task((), heap, Access("uniform", 300.0),
                trace=TracePoints(heap, steps * S, points), clock="schedule")
    process = Process(name, cgroup, name, mappings=(heap,), tasks=(task,))
    return process, Mapping(heap, "anon", base + swing, resident_pages=base)

size = 600 << granule_order
fits, tight, held = size // 8, size // 5, size // 6
followers = [
    follower("calm", "pods/a", fits, fits // 2),
    follower("other", "pods/a", fits // 3, fits // 4),
    follower("limited", "pods/b", tight, tight // 3),
    follower("throttled", "pods/c", held, held // 4),
    follower("large", "d", size // 4, size // 5),  # down to the marks
]
scenario = Scenario(
    name="case",
    node=Node(
        zones=(Zone(0, "DMA32", size, size, size),), cpus=4, release=release, lru_gen=False,
        disks=(Disk("vda", 100_000, 100_000, 20_000.0, 20_000.0, 200_000.0),),
        swaps=(Swap("vda", size // 4, -2),), kernel_pages=512,
    ),
    cgroup_version="v2",
    cgroups=(Cgroup("pods", memory_low=size // 8), Cgroup("pods/a"),
             Cgroup("pods/b", memory_max=tight, memory_low=tight // 2),
             Cgroup("pods/c", memory_high=held), Cgroup("d")),
    mappings=tuple(mapping for _, mapping in followers),
    processes=tuple(process for process, _ in followers),
    duration_ns=9 * S, sample_ns=3 * S, granule_order=granule_order,
)
digests = []
def look(machine):
    whole = hashlib.sha256()
    for records in (machine.kernel, machine.frames, machine.entries):
        whole.update(records.tobytes())
    digests.append(whole.hexdigest())
runs.run(scenario, check=look)
print(json.dumps({"pages": pages, "records": digests}))
"""


def played(*arguments: str) -> Any:
    """What the records were at each sample, and how granules came and went."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PLAYED, *arguments],
        env=os.environ | {"CAPPLAN_JIT": "0"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize(("release", "granule_order"), [("6.1", 6), ("6.12", 7)])
def test_many_at_once_are_as_many_singles(release: str, granule_order: int) -> None:
    together = played(release, str(granule_order), "together")
    singly = played(release, str(granule_order), "singly")
    assert together["records"] == singly["records"]
    assert len(together["records"]) == 4
    # most came and went together, and some met a limit or a mark
    assert together["pages"]["many"] > 200 << granule_order
    assert together["pages"]["freed"] > 20 << granule_order
    assert 0 < together["pages"]["singles"] < singly["pages"]["singles"]
