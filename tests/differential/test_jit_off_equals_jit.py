"""Compiled and plain Python give the same run: the source is its own oracle.

Each side is a process of its own, for the decorators read CAPPLAN_JIT once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

MECHANISMS = """
import json, random
from capplan.mm import oom, psi
from capplan.mm.state import PROC_LIVE, new_kernel

draw = random.Random(7)
k = new_kernel()[0]
k["nr_cpus"], k["hz"], k["nr_memcgs"], k["nr_procs"] = 3, 250, 4, 12
k["totalram"], k["totalswap"], k["swappiness"] = 100003, 4099, 60
k["memcg"]["parent"][:4] = (-1, 0, 1, 0)
k["memcg"]["subtree_end"][:4] = (4, 3, 3, 4)
k["memcg"]["memory"]["max"][:4] = 70001
told = []
for p in range(12):
    proc = k["proc"][p]
    proc["state"], proc["pid"], proc["memcg"] = PROC_LIVE, p + 2, draw.randrange(4)
    proc["rss_anon"], proc["oom_score_adj"] = draw.randrange(9000), draw.randrange(-999, 999)
    proc["cap_sys_admin"] = p % 2
for root_bonus in range(3):
    for clamped in range(2):
        k["root_bonus"], k["badness_clamped"] = root_bonus, clamped
        told.append([int(oom.select_bad_process(k, d)) for d in range(-1, 4)])
        told.append([int(oom.proc_oom_score(k, p)) for p in range(12)])
t, asleep = 0, [None] * 12
for c in range(12):
    psi.psi_task_change(k, c % 4, 0, 1, 0, 0)
for _ in range(400):
    t += draw.randrange(1, 300_000_000)
    task = draw.randrange(12)
    if asleep[task] is None:
        asleep[task] = draw.random() < 0.5
        psi.psi_memstall_enter(k, task % 4, t, asleep[task])
    else:
        psi.psi_memstall_leave(k, task % 4, t, asleep[task])
        asleep[task] = None
for group in (k["psi"], *k["memcg"]["psi"][1:4]):
    told.append([int(group[f]) for f in ("some_ns", "full_ns", "period_ns", "nr_running")])
    told.append(group["avg_some"].tolist() + group["avg_full"].tolist())
print(json.dumps(told))
"""

SCENARIO = """
import dataclasses, json
import numpy as np
from capplan.sim.run import run
from capplan.sim.scenario import Access, Cgroup, Disk, Mapping, Node, Op, Process, Scenario
from capplan.sim.scenario import Swap, Task, Zone

MS = 1_000_000
disk = Disk("vda", 100_000, 100_000, 20_000.0, 20_000.0, 200_000.0)
node = Node(
    zones=(Zone(0, "DMA32", 8192, 8192, 8192),),
    cpus=2,
    release="6.1",
    lru_gen=False,
    disks=(disk,),
    swaps=(Swap("vda", 512, -2),),
    kernel_pages=512,
)
hog = Process(
    "hog", "a", "hog", mappings=("heap", "log"),
    tasks=(
        Task(ops=(Op("grow", "heap", pages=2048, rate=8192.0), Op("hold", ns=200 * MS))),
        Task(ops=(Op("read", "log", pages=512, rate=4096.0),)),
    ),
)
mild = Process(
    "mild", "b", "mild", oom_score_adj=500, mappings=("cache",),
    tasks=(
        Task(
            ops=(Op("grow", "cache", pages=300, rate=4096.0), Op("hold", ns=300 * MS)),
            access_mapping="cache",
            access=Access("uniform", 2000.0),
        ),
    ),
)
found = run(
    Scenario(
        name="small",
        node=node,
        cgroup_version="v2",
        cgroups=(Cgroup("a", memory_max=1024), Cgroup("b", memory_high=256)),
        mappings=(
            Mapping("heap", "anon", 2048),
            Mapping("log", "file", 512, size_pages=512, via="read", disk="vda"),
            Mapping("cache", "anon", 300),
        ),
        processes=(hog, mild),
        duration_ns=600 * MS,
        sample_ns=50 * MS,
        granule_order=0,
    )
)
series = {name: np.asarray(values).tolist() for name, values in sorted(found.series.items())}
events = [dataclasses.asdict(event) for event in found.events]
totals = [dataclasses.asdict(total) for total in found.totals]
print(json.dumps({"events": events, "series": series, "totals": totals}, default=float))
"""


def told_by(source: str, jit: str, wrappers: str) -> Any:
    """What the source prints in a process of its own."""
    environment = os.environ | {"CAPPLAN_JIT": jit, "CAPPLAN_JIT_WRAPPERS": wrappers}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_mechanisms_give_the_same_numbers() -> None:
    compiled = told_by(MECHANISMS, "1", "1")
    assert compiled == told_by(MECHANISMS, "0", "1")
    assert len(compiled) == 20


@pytest.mark.slow
def test_run_gives_the_same_events_and_series() -> None:
    compiled = told_by(SCENARIO, "1", "0")
    plain = told_by(SCENARIO, "0", "0")
    assert compiled["events"] == plain["events"]
    assert compiled["totals"] == plain["totals"]
    assert compiled["series"].keys() == plain["series"].keys()
    for name, values in compiled["series"].items():
        assert values == plain["series"][name], name
    assert "oom_kill" in {event["event"] for event in compiled["events"]}


POLICIES = """
import json
import numpy as np
from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Disk, Mapping, Mempolicy, Node, Op, Process, Scenario
from capplan.sim.scenario import Task, Zone

MODES = ("bind", "preferred", "preferred-many", "interleave", "weighted-interleave")
zones = tuple(Zone(n, "Normal", 2048, 2048, 2048, free=1900) for n in range(2))
told = []
for order in (0, 3):
    processes = tuple(
        Process(
            mode, "a", mode, mappings=(mode, f"{mode}.log"),
            mempolicy=Mempolicy(mode, (1,)[: i < 3]),
            tasks=(
                Task((Op("grow", mode, pages=700, rate=9000.0),)),
                Task((Op("read", f"{mode}.log", pages=200, rate=9000.0),)),
            ),
        )
        for i, mode in enumerate(MODES)
    )
    mappings = [Mapping(mode, "anon", 700) for mode in MODES]
    mappings += [
        Mapping(f"{mode}.log", "file", 200, size_pages=200, via="read", disk="vda")
        for mode in MODES
    ]
    found = run(
        Scenario(
            name="policies",
            node=Node(
                zones=zones, cpus=2, release="6.12", lru_gen=order > 0, interleave_weights=(3, 1),
                disks=(Disk("vda", 100_000, 100_000, 20_000.0, 20_000.0, 200_000.0),),
                sysctl={"vm.min_free_kbytes": 256},
            ),
            cgroup_version="v2", cgroups=(Cgroup("a"),), mappings=tuple(mappings),
            processes=processes, duration_ns=200_000_000, sample_ns=50_000_000,
            granule_order=order,
        )
    )
    told.append([(e.event, e.name, e.detail.get("constraint")) for e in found.events])
    told.append({name: np.asarray(found.series[name]).tolist() for name in sorted(found.series)})
print(json.dumps(told, default=float))
"""


@pytest.mark.slow
def test_memory_policies_give_the_same_events_and_series() -> None:
    compiled = told_by(POLICIES, "1", "0")
    assert compiled == told_by(POLICIES, "0", "0")
    assert any(kind == "oom_kill" for kind, _, _ in compiled[0])
