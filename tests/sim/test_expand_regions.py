from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from capplan.errors import InputError
from capplan.sim.scenario import Access, Op, Task
from tests.sim.expand_cases import MIB, MIN, heap, mapping, process, scenario


def test_expand_warm_region_is_in_place(tmp_path: Path) -> None:
    found = scenario(tmp_path, {"web": {"profile": heap(size="64Mi", resident=0.25)}})
    heap_ = mapping(found, "web/app/heap")
    assert (heap_.size_pages, heap_.resident_pages, heap_.max_pages) == (16384, 4096, 16384)
    assert heap_.owner is None  # the first that touches it
    assert process(found, "web/app").tasks == ()


def test_expand_resident_may_be_a_size(tmp_path: Path) -> None:
    found = scenario(tmp_path, {"web": {"profile": heap(size="64Mi", resident="10Mi")}})
    assert mapping(found, "web/app/heap").resident_pages == 2560


def test_expand_cold_region_is_grown_at_once(tmp_path: Path) -> None:
    found = scenario(
        tmp_path, {"web": {"profile": heap(size="64Mi")}}, run={"start": "cold", "duration": "1h"}
    )
    heap_ = mapping(found, "web/app/heap")
    assert (heap_.size_pages, heap_.resident_pages, heap_.max_pages) == (0, 0, 16384)
    assert process(found, "web/app").tasks[0].ops == (Op("target", "web/app/heap", 16384),)


def test_expand_cold_file_has_its_length_but_no_page_in_memory(tmp_path: Path) -> None:
    found = scenario(
        tmp_path,
        {"web": {"profile": heap(kind="file", size="64Mi", path="/data")}},
        run={"start": "cold", "duration": "1h"},
    )
    data = mapping(found, "/data")
    assert (data.size_pages, data.resident_pages, data.disk) == (16384, 0, "disk")


def test_expand_late_process_starts_empty(tmp_path: Path) -> None:
    profile = heap(size="64Mi")
    profile["processes"]["app"]["start"] = "10min"
    found = scenario(tmp_path, {"web": {"profile": profile}}, run={"duration": "1h"})
    app = process(found, "web/app")
    assert app.start_ns == 10 * MIN
    assert app.tasks[0].ops == (Op("target", "web/app/heap", 16384, at_ns=10 * MIN),)
    assert mapping(found, "web/app/heap").size_pages == 0


def test_expand_restartable_process_gets_its_memory_back(tmp_path: Path) -> None:
    found = scenario(tmp_path, {"web": {"profile": heap(size="64Mi"), "restart": "Always"}})
    app = process(found, "web/app")
    assert app.restart == "Always"
    assert app.tasks[0].ops == (Op("target", "web/app/heap", 16384),)


def test_expand_growth_is_a_thread_that_also_accesses(tmp_path: Path) -> None:
    profile = heap(
        size="10Mi", growth="1Mi/min", limit="15Mi", access={"pattern": "uniform", "rate": "4Mi/s"}
    )
    found = scenario(tmp_path, {"web": {"profile": profile}}, run={"duration": "1h"})
    assert process(found, "web/app").tasks == (
        Task(
            (Op("grow", "web/app/heap", 5 * MIB, MIB / 60),),
            "web/app/heap",
            Access("uniform", 4.0 * MIB),
            clock="schedule",
        ),
    )
    assert mapping(found, "web/app/heap").max_pages == 15 * MIB


def test_expand_several_regions_are_several_threads(tmp_path: Path) -> None:
    profile = heap(growth="1Mi/s")
    profile["processes"]["app"]["regions"] |= {
        "old": {"growth": "2Mi/s", "limit": "3Mi"},
        "log": {"kind": "file", "via": "read", "size": "8Mi", "resident": "6Mi", "write": "1Mi/s"},
        "code": {"kind": "file", "size": "8Mi", "access": {"pattern": "zipf", "rate": "1Mi/s"}},
    }
    profile["processes"]["app"]["phases"] = [{"hold": "5s"}]
    found = scenario(tmp_path, {"web": {"profile": profile}}, run={"duration": "10s"})
    tasks = process(found, "web/app").tasks
    assert [[op.op for op in task.ops] for task in tasks] == [
        ["hold"], ["grow"], ["grow"], ["write", "free", "write", "free", "write"], [],
    ]  # fmt: skip
    assert tasks[1].ops[0].pages == 10 * MIB + 1
    # 2 MiB fill the log; it is deleted, and the rest (8 MiB and a page) goes to new ones
    assert tasks[3].ops == (
        Op("write", "web/app/log", 2 * MIB, float(MIB)),
        Op("free", "web/app/log", 8 * MIB),
        Op("write", "web/app/log", 8 * MIB, float(MIB)),
        Op("free", "web/app/log", 8 * MIB),
        Op("write", "web/app/log", 1, float(MIB)),
    )
    assert mapping(found, "web/app/log").size_pages == 6 * MIB
    assert tasks[4].access_mapping == "web/app/code"
    assert mapping(found, "web/app/log").max_pages == 8 * MIB


def test_expand_phases_thread_does_the_accesses_of_its_region(tmp_path: Path) -> None:
    profile = heap(access={"pattern": "cyclic", "rate": "4Mi/s"})
    profile["processes"]["app"]["phases"] = [{"grow": {"region": "heap", "to": "8Mi"}}]
    found = scenario(tmp_path, {"web": {"profile": profile}})
    (task,) = process(found, "web/app").tasks
    assert task.access_mapping == "web/app/heap"
    assert task.access == Access("cyclic", 4.0 * MIB)


def test_expand_clock_of_the_profile_is_its_tasks(tmp_path: Path) -> None:
    profile = heap(growth="1Mi/s") | {"clock": "progress"}
    found = scenario(tmp_path, {"web": {"profile": profile}})
    assert process(found, "web/app").tasks[0].clock == "progress"


def test_expand_shared_scopes_name_one_mapping(tmp_path: Path) -> None:
    profile = {
        "capplan": 1,
        "profile": "p",
        "processes": {
            "app": {
                "count": 2,
                "regions": {
                    "own": {"size": "1Mi"},
                    "pool": {"kind": "shmem", "size": "1Mi", "shared": "processes",
                             "access": {"pattern": "uniform", "rate": "2Mi/s"}},
                    "lib": {"kind": "file", "size": "1Mi", "shared": "replicas"},
                    "data": {"kind": "file", "size": "1Mi", "path": "/srv/data"},
                },
                "uses": ["buffers"],
            }
        },
        "shared": {"regions": {"buffers": {"kind": "shmem", "size": "2Mi"}}},
    }  # fmt: skip
    found = scenario(tmp_path, {"web": {"profile": profile, "replicas": 2}})
    assert process(found, "web-1/app-0").mappings == (
        "web-1/buffers", "web-1/app-0/own", "web-1/pool", "web/lib", "/srv/data",
    )  # fmt: skip
    names = [m.name for m in found.mappings]
    assert len(names) == len(set(names)) == 2 + 4 + 2 + 1 + 1
    # the pool's rate is split between the two processes that attach it
    for index in (0, 1):
        assert process(found, f"web-0/app-{index}").tasks[0].access.rate == MIB


def test_expand_file_of_one_path_is_shared_between_containers(tmp_path: Path) -> None:
    found = scenario(
        tmp_path,
        {
            "a": {"profile": heap(kind="file", size="1Mi", path="/lib")},
            "b": {"profile": heap(kind="file", size="3Mi", path="/lib")},
        },
    )
    lib = mapping(found, "/lib")
    assert (lib.size_pages, lib.max_pages, lib.resident_pages) == (768, 768, 768)
    assert [p.mappings for p in found.processes] == [("/lib",), ("/lib",)]


def test_expand_forked_child_attaches_and_copies(tmp_path: Path) -> None:
    profile = {
        "capplan": 1,
        "profile": "p",
        "processes": {
            "worker": {"fork_of": "master", "count": 2, "cow": {"app": "1Mi/s"}},
            "master": {"regions": {"app": {"size": "90Mi", "growth": "1Mi/s", "limit": "100Mi"}}},
        },
    }
    found = scenario(tmp_path, {"web": {"profile": profile}}, run={"duration": "1min"})
    child = process(found, "web/worker-1")
    assert child.parent == "web/master"
    assert child.mappings == ("web/master/app", "web/worker-1/app.cow")
    copy = mapping(found, "web/worker-1/app.cow")
    assert (copy.cow_of, copy.size_pages, copy.max_pages) == ("web/master/app", 0, 100 * MIB)
    assert child.tasks[0].ops == (
        Op("store", "web/master/app", rate=float(MIB), pattern="uniform"),
    )
    assert not child.by_fork


def snapshots(**child: Any) -> dict[str, Any]:
    """A cache that forks every minute, and writes a quarter of its accesses."""
    access = {"pattern": "zipf", "rate": "4Mi/s", "write": 0.25}
    regions = {"data": {"size": "90Mi", "access": access}}
    phases = [{"repeat": {"phases": [{"hold": "1min"}, {"fork": "save"}]}}]
    dump = {"kind": "file", "via": "read", "size": "90Mi", "resident": 0}
    save = {"fork_of": "cache", "regions": {"dump": dump},
            "phases": [{"free": {"region": "dump"}},
                       {"write": {"region": "dump", "size": "9Mi"}}, "exit"]}  # fmt: skip
    processes = {"cache": {"regions": regions, "phases": phases}, "save": save | child}
    return {"capplan": 1, "profile": "p", "processes": processes}


def test_expand_fork_phase_starts_a_child_that_has_no_time_of_its_own(tmp_path: Path) -> None:
    containers = {"c": {"profile": snapshots(), "restart": "Always"}}
    found = scenario(tmp_path, containers, run={"duration": "150s"})
    cache, save = process(found, "c/cache"), process(found, "c/save")
    assert [op.op for op in cache.tasks[0].ops][1:] == ["hold", "fork", "hold", "fork", "hold"]
    assert cache.tasks[0].ops[2].proc == "c/save"
    assert (save.by_fork, save.parent, save.restart) == (True, "c/cache", "Never")
    assert cache.tasks[-1].ops == (Op("store", "c/cache/data", rate=float(MIB), pattern="uniform"),)
    assert "c/save/data.cow" in save.mappings
    # what it wrote the last time goes, however much that was
    free, write, *_ = save.tasks[0].ops
    assert (free.op, free.mapping, write.op) == ("free", "c/save/dump", "write")
    assert free.pages >= 90 * MIB


def test_expand_fork_phase_of_several_children_names_them_all(tmp_path: Path) -> None:
    found = scenario(tmp_path, {"c": {"profile": snapshots(count=2)}}, run={"duration": "90s"})
    ops = process(found, "c/cache").tasks[0].ops
    assert [op.proc for op in ops if op.op == "fork"] == ["c/save-0", "c/save-1"]


@pytest.mark.parametrize("start", ["warm", "cold"])
def test_expand_cold_start_forks_when_the_parent_has_its_memory(tmp_path: Path, start: str) -> None:
    profile = {
        "capplan": 1,
        "profile": "p",
        "processes": {
            "worker": {"fork_of": "master"},
            "master": {"regions": {"app": {"size": "90Mi"}}},
        },
    }
    found = scenario(tmp_path, {"web": {"profile": profile, "restart": "Always"}},
                     run={"duration": "1min", "start": start})  # fmt: skip
    master, worker = process(found, "web/master"), process(found, "web/worker")
    assert worker.restart == "Always"
    if start == "warm":
        assert not worker.by_fork
    else:
        assert worker.by_fork
        assert [op.op for op in master.tasks[0].ops] == ["target", "fork"]


def test_expand_cow_of_shared_memory_is_refused(tmp_path: Path) -> None:
    profile = {
        "capplan": 1,
        "profile": "p",
        "processes": {
            "master": {"regions": {"shm": {"kind": "shmem", "size": "9Mi"}}},
            "worker": {"fork_of": "master", "cow": {"shm": "1Mi/s"}},
        },
    }
    with pytest.raises(InputError, match=r"cow\.shm: not anonymous memory"):
        scenario(tmp_path, {"web": {"profile": profile}})


def test_expand_fork_loop_is_refused(tmp_path: Path) -> None:
    loop = {
        "capplan": 1,
        "profile": "p",
        "processes": {"a": {"fork_of": "b"}, "b": {"fork_of": "a"}},
    }
    with pytest.raises(InputError, match="fork_of"):
        scenario(tmp_path, {"web": {"profile": loop}})


def test_expand_kernel_pages_are_by_thread(tmp_path: Path) -> None:
    profile = heap(size="1Mi")
    profile["processes"]["app"]["threads"] = 10
    found = scenario(tmp_path, {"web": {"profile": profile, "oom_score_adj": 300}})
    app = process(found, "web/app")
    assert app.kernel_pages == 65  # 10 x (16 + 10) KiB / 4 KiB
    assert app.oom_score_adj == 300


def test_expand_compressibility_is_a_stored_length(tmp_path: Path) -> None:
    said = {"mean": 0.75, "sd": 0.125, "same_filled": 0.1, "incompressible": 0.05}
    found = scenario(
        tmp_path,
        {"a": {"profile": heap(size="1Mi", compressibility=said)},
         "b": {"profile": heap(size="1Mi")}},
        node={"memory": "16Gi", "swap": [{"device": "nvme", "size": "1Gi"}],
              "zswap": {"enabled": True, "compressor": "zstd"}},
    )  # fmt: skip
    a, b = mapping(found, "a/app/heap"), mapping(found, "b/app/heap")
    assert (a.length_mean, a.length_sd, a.same_filled, a.incompressible) == (1024, 512, 0.1, 0.05)
    assert b.length_mean == pytest.approx(4096 / 3.3)
    assert any("1 region without compressibility: stored at 1/3.3" in x for x in found.assumptions)


def test_expand_restart_of_a_child_leaves_the_parents_memory_alone(tmp_path: Path) -> None:
    profile = {
        "capplan": 1,
        "profile": "p",
        "processes": {
            "master": {"regions": {"app": {"size": "90Mi"}}},
            "worker": {
                "fork_of": "master",
                "regions": {"heap": {"size": "8Mi"}},
                "phases": [{"hold": "10s"}, {"restart": "1s"}],
            },
        },
    }
    found = scenario(tmp_path, {"web": {"profile": profile}}, run={"duration": "15s"})
    (task,) = process(found, "web/worker").tasks
    assert [(op.op, op.mapping) for op in task.ops] == [
        ("hold", ""), ("free", "web/worker/heap"), ("hold", ""), ("grow", "web/worker/heap"),
        ("hold", ""),
    ]  # fmt: skip
