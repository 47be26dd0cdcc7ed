from __future__ import annotations

from pathlib import Path

from capplan.sim.scenario import Change, Op
from tests.sim.expand_cases import MIB, MIN, S, cgroup, heap, mapping, process, scenario


def test_expand_limits_are_whole_pages_rounded_down(tmp_path: Path) -> None:
    found = scenario(
        tmp_path,
        {"web": {"profile": heap(size="1Mi"), "memory.max": 10_000_000, "memory.high": "8Mi",
                 "memory.swap.max": "max", "memory.oom.group": True}},
    )  # fmt: skip
    group = cgroup(found, "web")
    assert group.memory_max == 2441  # 10,000,000 // 4096
    assert (group.memory_high, group.swap_max, group.oom_group) == (2048, -1, True)
    assert (group.memory_min, group.memory_low, group.zswap_max) == (0, 0, -1)


def test_expand_replicas_have_their_own_groups_below_the_parent(tmp_path: Path) -> None:
    groups = {"kube": {"memory.max": "1Gi"}, "kube/burstable": {}}
    found = scenario(
        tmp_path,
        {"web": {"profile": heap(size="1Mi"), "parent": "kube/burstable", "replicas": 2}},
        cgroup={"version": "v2", "groups": groups},
    )
    assert [c.path for c in found.cgroups] == [
        "kube", "kube/burstable", "kube/burstable/web-0", "kube/burstable/web-1",
    ]  # fmt: skip
    assert cgroup(found, "kube").memory_max == 1024 * MIB
    assert [(p.name, p.container, p.cgroup) for p in found.processes] == [
        ("web-0/app", "web-0", "kube/burstable/web-0"),
        ("web-1/app", "web-1", "kube/burstable/web-1"),
    ]


def test_expand_v1_without_oom_control_pauses_and_says_so(tmp_path: Path) -> None:
    found = scenario(
        tmp_path,
        {
            "left": {"profile": heap(size="1Mi"), "memory.limit_in_bytes": "64Mi"},
            "kills": {"profile": heap(size="1Mi"), "memory.limit_in_bytes": "64Mi",
                      "memory.oom_control": 0},
            "free": {"profile": heap(size="1Mi")},
        },
        cgroup={"version": "v1"},
    )  # fmt: skip
    states = {c.path: (c.oom_kill_disable, c.oom_kill_disable_assumed) for c in found.cgroups}
    assert states == {"left": (True, True), "kills": (False, False), "free": (False, False)}
    assert sum("memory.oom_control is not written" in a for a in found.assumptions) == 1


def test_expand_v1_child_inherits_its_parents_oom_control(tmp_path: Path) -> None:
    found = scenario(
        tmp_path,
        {"web": {"profile": heap(size="1Mi"), "memory.limit_in_bytes": "64Mi", "parent": "docker"}},
        cgroup={"version": "v1", "groups": {"docker": {"memory.oom_control": 1}}},
    )
    web = cgroup(found, "docker/web")
    assert (web.oom_kill_disable, web.oom_kill_disable_assumed) == (True, False)


def test_expand_timeline_changes_every_replica(tmp_path: Path) -> None:
    found = scenario(
        tmp_path,
        {"web": {"profile": heap(size="1Mi"), "replicas": 2}},
        cgroup={"version": "v2", "groups": {"a.slice": {}}},
        timeline=[
            {"at": "20min", "set": {"vm.swappiness": 5, "groups.a.slice.memory.max": "max"}},
            {"at": "10min", "set": {"containers.web.memory.max": "64Mi"}},
        ],
    )
    assert found.changes == (
        Change(10 * MIN, "web-0", "memory.max", 64 * MIB),
        Change(10 * MIN, "web-1", "memory.max", 64 * MIB),
        Change(20 * MIN, "", "vm.swappiness", 5),
        Change(20 * MIN, "a.slice", "memory.max", -1),
    )


def test_expand_timeline_stop_and_start_make_lives(tmp_path: Path) -> None:
    found = scenario(
        tmp_path,
        {"web": {"profile": heap(size="1Mi", growth="1Mi/s"), "restart": "Always"}},
        timeline=[{"at": "10s", "stop": "web"}, {"at": "30s", "start": "web"}],
        run={"duration": "1min"},
    )
    first, second = found.processes
    assert (first.name, second.name) == ("web/app", "web/app#2")
    assert (first.start_ns, second.start_ns) == (0, 30 * S)
    assert first.tasks[-1].ops == (Op("wait", at_ns=10 * S), Op("exit"))
    assert first.restart == "OnFailure"  # an ordered stop is not restarted
    assert first.tasks[-2].ops[0].pages == 10 * MIB + 1  # grows until the stop
    assert second.mappings == ("web/app#2/heap",)
    assert second.tasks[0].ops == (Op("target", "web/app#2/heap", MIB, at_ns=30 * S),)


def test_expand_container_that_the_timeline_starts_waits_for_it(tmp_path: Path) -> None:
    found = scenario(
        tmp_path,
        {"web": {"profile": heap(size="1Mi")}, "never": {"profile": heap(size="1Mi")}},
        timeline=[{"at": "10s", "start": "web"}, {"at": "2h", "start": "never"}],
        run={"duration": "1h"},
    )
    assert [(p.name, p.start_ns) for p in found.processes] == [("web/app", 10 * S)]


RANDOM = {
    "capplan": 1,
    "profile": "p",
    "processes": {
        "app": {
            "regions": {"heap": {"size": {"lognormal": {"median": "64Mi", "sigma": 0.3}}}},
            "phases": [
                {"burst": {"region": "heap", "by": {"normal": {"mean": "9Mi", "sd": "2Mi"}},
                           "every": {"exponential": {"mean": "30s"}}, "for": "1s"}}
            ],
        }
    },
}  # fmt: skip


def test_expand_is_deterministic(tmp_path: Path) -> None:
    containers = {"a": {"profile": RANDOM, "replicas": 3}}
    assert scenario(tmp_path, containers) == scenario(tmp_path, containers)
    assert scenario(tmp_path, containers) != scenario(tmp_path, containers, replicate=1)


def test_expand_replicas_and_seeds_draw_apart(tmp_path: Path) -> None:
    containers = {"a": {"profile": RANDOM, "replicas": 2}}
    one = scenario(tmp_path, containers, run={"seed": 1})
    two = scenario(tmp_path, containers, run={"seed": 2})
    sizes = {m.size_pages for found in (one, two) for m in found.mappings}
    assert len(sizes) == 4
    assert (one.seed, two.seed) == (1, 2)


def test_expand_common_random_numbers(tmp_path: Path) -> None:
    """What one container draws depends on no other one, nor on its own limits."""
    alone = scenario(tmp_path, {"web": {"profile": RANDOM}})
    crowd = scenario(
        tmp_path,
        {
            "db": {"profile": RANDOM, "replicas": 3},
            "web": {"profile": RANDOM, "memory.max": "1Gi", "oom_score_adj": 5},
            "zoo": {"profile": heap(size="5Mi", growth="1Mi/s")},
        },
        node={"memory": "32Gi", "kernel": "6.1"},
    )
    assert process(alone, "web/app").tasks == process(crowd, "web/app").tasks
    assert mapping(alone, "web/app/heap") == mapping(crowd, "web/app/heap")


def test_expand_more_replicas_leave_the_first_ones_alone(tmp_path: Path) -> None:
    two = scenario(tmp_path, {"web": {"profile": RANDOM, "replicas": 2}})
    five = scenario(tmp_path, {"web": {"profile": RANDOM, "replicas": 5}})
    assert two.processes == five.processes[:2]


def test_expand_full_correlation_makes_replicas_alike(tmp_path: Path) -> None:
    together = RANDOM | {"shared": {"load": {"correlation": 1.0}}}
    found = scenario(tmp_path, {"web": {"profile": together, "replicas": 2}})
    first, second = found.processes
    assert [op.pages for op in first.tasks[0].ops] == [op.pages for op in second.tasks[0].ops]
    assert [op.ns for op in first.tasks[0].ops] == [op.ns for op in second.tasks[0].ops]
