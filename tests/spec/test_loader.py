"""Loading: the node of the contract, overrides, --set, profiles, round trips."""

# ruff: noqa: E501  (tables of cases)

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capplan import spec
from capplan.errors import InputError, Place
from capplan.spec.common import Bytes, Dist, Duration
from capplan.spec.node import NodeFile
from capplan.spec.timeline import Setting
from capplan.units import GIB, MIB, UNLIMITED

# the contract's examples (docs/design.md), word for word
NODE = """\
capplan: 1
node:
  memory: 16Gi                      # or zones: explicit managed pages (capture writes these)
  cpus: 4
  kernel: "6.12"
  sysctl: {vm.min_free_kbytes: 67584, vm.swappiness: 60}
  swap: [{device: nvme, size: 4Gi, priority: 10}]
  zswap: {enabled: true, max_pool_percent: 20, compressor: lz4, zpool: zsmalloc}
  system: {kernel: 400Mi, daemons: {memory: 300Mi, oom_score_adj: -999}}
cgroup:
  version: v2
  groups:
    kubepods.slice: {memory.max: 14Gi}
containers:
  web:
    profile: ../services/web.yaml
    parent: kubepods.slice
    replicas: 4
    memory.high: 700Mi
    memory.max: 768Mi
    memory.oom.group: true
    oom_score_adj: 939
  batch:
    profile: ../services/web.yaml
    parent: kubepods.slice
    memory.min: 2Gi
    memory.max: 4Gi
timeline:
  - {at: 6h, set: {containers.web.memory.max: 640Mi}}
  - {at: 8h, start: batch}
run: {duration: 24h, start: warm, seed: 1}
gate: {max_kill_risk: 0.01, max_throttle_share: 0.01}
"""
PROFILE = """\
capplan: 1
profile: web
clock: schedule
processes:
  master: {oom_score_adj: 0, regions: {code: {kind: file, via: mmap, exec: true, size: 60Mi, access: {pattern: zipf, rate: 200Mi/s}}}}
  worker:
    fork_of: master
    count: 8
    regions:
      heap: {kind: anon, compressibility: 0.6, access: {pattern: uniform, rate: 80Mi/s}}
    phases:
      - grow: {region: heap, to: {normal: {mean: 48Mi, sd: 6Mi}}, rate: 20Mi/s}
      - hold: 2h
      - burst: {region: heap, by: 30Mi, every: {exponential: {mean: 10min}}, for: 5s}
shared: {load: {correlation: 0.7}}
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    folder = tmp_path_factory.mktemp("profiles")
    (folder / "nodes").mkdir()
    (folder / "services").mkdir()
    (folder / "nodes" / "worker.yaml").write_text(NODE)
    (folder / "services" / "web.yaml").write_text(PROFILE)
    return folder / "nodes" / "worker.yaml"


def test_load_the_contract(node):
    loaded = spec.load(node)
    assert loaded.name == "worker"
    assert loaded.warnings == ()
    assert loaded.node.memory == 16 * GIB
    assert loaded.node.sysctl.written() == {"vm.min_free_kbytes": 67584, "vm.swappiness": 60}
    assert loaded.containers["web"].written() == {
        "memory.max": 768 * MIB,
        "memory.high": 700 * MIB,
        "memory.oom.group": True,
    }
    first, second = loaded.timeline
    assert first.at_ns == 6 * 3600 * 10**9
    assert first.settings == (Setting("container", "web", "memory.max", 640 * MIB),)
    assert second.start == ("batch",)
    worker = loaded.profiles["web"].processes["worker"]
    assert [phase.kind for phase in worker.phases] == ["grow", "hold", "burst"]
    assert worker.phases[0].body.to.normal.mean == 48 * MIB
    assert worker.phases[1].body.duration.constant == 7200 * 10**9
    assert worker.regions["heap"].compressibility.mean == 0.6
    assert loaded.sources["web"].file("web.csv") == node.parent.parent / "services" / "web.csv"


def test_place_points_into_the_files(node):
    loaded = spec.load(node)
    assert loaded.place("containers", "web", "memory.max") == Place(str(node), 20, 17)
    assert loaded.key_place("containers", "web", "memory.max") == Place(str(node), 20, 5)
    place = loaded.sources["web"].place("processes", "worker", "phases", 1)
    assert (Path(place.file).name, place.line) == ("web.yaml", 13)


def test_resolved_loads_as_the_same(node):
    loaded = spec.load(node)
    again = node.parent / "again.yaml"
    again.write_text(yaml.safe_dump(json.loads(json.dumps(loaded.resolved))))
    other = spec.load(again)
    assert other.profiles == loaded.profiles
    assert (other.node, other.cgroup, other.run, other.gate, other.timeline) == (
        loaded.node,
        loaded.cgroup,
        loaded.run,
        loaded.gate,
        loaded.timeline,
    )


def test_models_are_frozen(node):
    loaded = spec.load(node)
    with pytest.raises(ValueError, match="frozen"):
        loaded.node.cpus = 8


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        (
            "containers.web.memory.max",
            "512Mi",
            lambda s: s.containers["web"].memory_max == 512 * MIB,
        ),
        ("containers.web.memory.max", "max", lambda s: s.containers["web"].memory_max == UNLIMITED),
        (
            "groups.kubepods.slice.memory.max",
            "8Gi",
            lambda s: s.cgroup.groups["kubepods.slice"].memory_max == 8 * GIB,
        ),
        (
            "cgroup.groups.kubepods.slice.memory.swap.max",
            "0",
            lambda s: s.cgroup.groups["kubepods.slice"].memory_swap_max == 0,
        ),
        ("vm.swappiness", "10", lambda s: s.node.sysctl.swappiness == 10),
        ("node.sysctl.vm.page-cluster", "0", lambda s: s.node.sysctl.page_cluster == 0),
        ("zswap.enabled", "false", lambda s: s.node.zswap.enabled is False),
        ("memory", "32Gi", lambda s: s.node.memory == 32 * GIB),
        ("node.swap.0.size", "1Gi", lambda s: s.node.swap[0].size == GIB),
        ("node.swap", "[]", lambda s: s.node.swap == ()),
        ("node.kernel", "'6.1'", lambda s: s.node.kernel == "6.1"),
        ("node.thp", "never", lambda s: s.node.thp == "never"),
        ("run.seed", "7", lambda s: s.run.seed == 7),
        ("node.kernel", "6.10", lambda s: s.node.kernel == "6.10"),  # no number 6.1
        ("node.kernel", '"6.10"', lambda s: s.node.kernel == "6.10"),
        (
            "containers.web.profile.processes.worker.count",
            "3",
            lambda s: (
                s.profiles["web"].processes["worker"].count == 3
                and s.profiles["batch"].processes["worker"].count == 8
            ),
        ),
        (
            "containers.web.profile.processes.worker.phases.0.grow.to",
            "64Mi",
            lambda s: s.profiles["web"].processes["worker"].phases[0].body.to.constant == 64 * MIB,
        ),
        (
            "containers.web.profile.shared.load.correlation",
            "1",
            lambda s: s.profiles["web"].shared.load.correlation == 1,
        ),
    ],
)
def test_set_changes_one_thing(node, key, value, read):
    assert not read(spec.load(node))
    loaded = spec.load(node, {key: value})
    assert read(loaded)
    assert loaded.settings == {key: value}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("containers.wbe.memory.max", "1Gi", "did you mean 'containers.web.memory.max'"),
        ("containers.web.memry.max", "1Gi", "did you mean 'containers.web.memory.max'"),
        ("vm.swapiness", "1", "did you mean 'vm.swappiness'"),
        (
            "containers.web.memory.max",
            "1Gx",
            "<command line>: containers.web.memory.max: '1Gx' is not",
        ),
        ("run.duration", "30", "<command line>: run.duration: '30' has no unit"),
        ("node.swap.3.size", "1Gi", "no key '3.size'"),
        (
            "containers.web.profile.processes.wrker.count",
            "1",
            "did you mean 'processes.worker.count'",
        ),
        ("containers", "@", "<command line>: containers: '@' is not a mapping"),
        ("nonsense", "1", "<command line>: nonsense: unknown key"),
        ("run.seed", "2**200", r"'2\*\*200' is not a whole number"),
        ("run.seed", "9" * 60, "is out of range"),
        ("containers.web.replicas", "100000000", "expected at most 10000"),
        ("containers.web.profile.processes.worker.count", ".inf", "'.inf' is not a whole number"),
    ],
)
def test_set_refuses_with_a_place(node, key, value, message):
    with pytest.raises(InputError, match=message):
        spec.load(node, {key: value})


def test_set_leaves_aliased_values_alone(tmp_path):
    path = tmp_path / "node.yaml"
    path.write_text(
        "capplan: 1\nnode: {memory: 4Gi}\ncgroup: {groups: {a: &g {memory.max: 1Gi}, b: *g}}\n"
    )
    groups = spec.load(path, {"groups.a.memory.max": "2Gi"}).cgroup.groups
    assert (groups["a"].memory_max, groups["b"].memory_max) == (2 * GIB, GIB)


def test_strict_turns_warnings_into_errors(node):
    settings = {"node.memory": "64Gi", "vm.min_free_kbytes": "2097152"}
    assert len(spec.load(node, settings).warnings) == 1
    with pytest.raises(InputError, match=r"C027"):
        spec.load(node, settings, strict=True)


def test_node_file_as_profile_says_so(node):
    message = "containers.web.profile: this is a node file, not a profile"
    with pytest.raises(InputError, match=message):
        spec.load(node, {"containers.web.profile": "worker.yaml"})
    with pytest.raises(InputError, match=r"this is a node file, not a profile"):
        spec.load_profile(node)


@pytest.mark.parametrize("name", ["x" * 5000, '"a\\0b"', "/", "~root", "."])
def test_odd_profile_names_are_input_errors(node, name):
    with pytest.raises(InputError, match=r"containers.web.profile: no file|Is a directory"):
        spec.load(node, {"containers.web.profile": name})


def test_load_profile_alone(node):
    source = spec.load_profile(node.parent.parent / "services" / "web.yaml")
    assert source.profile.shared.load.correlation == 0.7


def test_kernel_files_take_zero_and_one():
    file = NodeFile.model_validate(
        {
            "capplan": 1,
            "node": {"memory": "4Gi"},
            "cgroup": {
                "version": "v1",
                "groups": {
                    "a": {"memory.oom_control": 1},
                    "b": {"memory.oom_control": {"oom_kill_disable": 0}},
                },
            },
        }
    )
    assert file.cgroup.groups["a"].written() == {"memory.oom_control": True}
    assert file.cgroup.groups["b"].written() == {"memory.oom_control": False}


def test_python_names_work_in_python_but_not_in_files(tmp_path):
    assert NodeFile(capplan=1, node={"memory": 4 * GIB}).node.memory == 4 * GIB
    path = tmp_path / "node.yaml"
    path.write_text("capplan: 1\nnode: {memory: 4Gi}\ncgroup: {groups: {a: {memory_max: 1Gi}}}\n")
    with pytest.raises(InputError, match=r"did you mean 'memory.max'"):
        spec.load(path)


@pytest.mark.parametrize(
    ("data", "kind", "middle"),
    [
        ("2h", "constant", 7200e9),
        ({"normal": {"mean": "2h", "sd": "1h"}}, "normal", 7200e9),
        ({"lognormal": {"median": "2h", "sigma": 0.3}}, "lognormal", 7200e9),
        ({"uniform": {"low": "1h", "high": "3h"}}, "uniform", 7200e9),
        ({"exponential": {"mean": "2h"}}, "exponential", 7200e9),
        ({"choice": {"values": ("1h", "3h")}}, "choice", 7200e9),
        ({"choice": {"values": ("1h", "5h"), "weights": (3.0, 1.0)}}, "choice", 7200e9),
    ],
)
def test_distributions(data, kind, middle):
    dist = Dist[Duration].model_validate(data)
    assert (dist.kind, dist.middle) == (kind, middle)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "none of constant, normal"),
        ({"normal": {"mean": "1Mi", "sd": "1Mi"}, "constant": "1Mi"}, "more than one of"),
        ({"choice": {"values": ()}}, "at least 1 item"),
        ({"choice": {"values": ("1Mi",), "weights": (1.0, 2.0)}}, "not one weight for each"),
        ({"choice": {"values": ("1Mi",), "weights": (0.0,)}}, "all weights are 0"),
        ({"uniform": {"low": "2Mi", "high": "1Mi"}}, "low is above high"),
    ],
)
def test_bad_distributions(data, message):
    with pytest.raises(ValueError, match=message):
        Dist[Bytes].model_validate(data)


def test_quantity_models_are_named_after_their_quantity():
    assert repr(Dist[Bytes](constant=3)).startswith("Dist[Bytes](constant=3,")
    assert Dist[float].__name__ == "Dist[float]"


def test_every_field_of_a_node_file_can_be_described():
    schema = json.dumps(NodeFile.model_json_schema())
    assert "lowmem_reserve towards each higher zone" in schema


def assert_problems_say_where(problems):
    assert problems
    for problem in problems:
        assert problem.code
        assert problem.place.line


LINES = [line for line in NODE.splitlines() if line.strip()]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_mutilated_node_file_loads_or_is_an_input_error(node, data):
    lines = list(LINES)
    junk = st.sampled_from(
        ["", "[]", "{}", "null", "-1", "1e400", "x", "'", "&a", "*a", "true", "- 3"]
    )
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(0, len(lines) - 1))
        key, colon, _ = lines[index].partition(":")
        change = data.draw(st.sampled_from(["drop", "double", "value", "indent"]))
        if change == "drop":
            lines[index] = ""
        elif change == "double":
            lines[index] = f"{lines[index]}\n{lines[index]}"
        elif change == "value":
            lines[index] = f"{key}{colon} {data.draw(junk)}"
        else:
            lines[index] = " " + lines[index]
    path = node.parent / "mutilated.yaml"
    path.write_text("\n".join(lines))
    try:
        loaded = spec.load(path)
    except InputError as error:
        problems = error.problems
        assert_problems_say_where(problems)
    else:
        json.dumps(loaded.resolved)
