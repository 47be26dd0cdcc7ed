"""One golden message for each kind of bad input: place, what, expected, repair, code."""

# ruff: noqa: E501  (the messages are compared word for word)

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from capplan import spec
from capplan.errors import InputError, Place, Problem, row_problem

NODE = """\
capplan: 1
node:
  memory: 16Gi
  kernel: "6.12"
cgroup:
  groups:
    kubepods.slice: {memory.max: 14Gi}
containers:
  web:
    profile: web.yaml
    parent: kubepods.slice
    memory.max: 768Mi
run: {duration: 1h}
"""
PROFILE = """\
capplan: 1
profile: web
processes:
  worker:
    count: 2
    regions:
      heap: {kind: anon, size: 100Mi, access: {pattern: uniform, rate: 80Mi/s}}
    phases:
      - grow: {region: heap, to: 200Mi, rate: 20Mi/s}
"""

# what is replaced in the node file, by what, and the messages that follow
BAD_NODE = {
    "wrong key": (
        "memory.max: 768Mi",
        "memry.max: 768Mi",
        """
        node.yaml:12:5: containers.web.memry.max: unknown key
            did you mean 'memory.max'?                              [C010]
        """,
    ),
    "lists of different length": (
        "cgroup:\n",
        "cgroup:\n  lru:\n    kubepods.slice: {anon: [1Mi, 2Mi], file: [0, 0, 1Mi]}\n",
        """
        node.yaml:7:21: cgroup.lru.kubepods.slice: anon, file and age differ in length
            expected one value for each list                        [C019]
        """,
    ),
    "missing key": (
        "    profile: web.yaml\n",
        "",
        """
        node.yaml:10:5: containers.web: the key 'profile' is missing
            expected profile: A profile file (relative to the node file), or a profile written here [C011]
        """,
    ),
    "wrong unit": (
        "768Mi",
        "2Gx",
        """
        node.yaml:12:17: containers.web.memory.max: '2Gx' is not a memory size
            expected digits with Ki, Mi, Gi, Ti (1024) or k, M, G, T (1000), or max
            did you mean '2Gi'?                                     [C012]
        """,
    ),
    "no unit": (
        "duration: 1h",
        "duration: 24",
        """
        node.yaml:13:17: run.duration: '24' has no unit
            expected digits with ns, us, ms, s, min, h, d, such as 250ms, 10min or 1h30m
            did you mean '24s'?                                     [C013]
        """,
    ),
    "wrong type": (
        "memory: 16Gi",
        "memory: 16Gi\n  cpus: four",
        """
        node.yaml:4:9: node.cpus: 'four' is not a whole number
            expected a whole number without quotes or unit          [C016]
        """,
    ),
    "a release that is a number": (
        '"6.12"',
        "6.10",
        """
        node.yaml:4:11: node.kernel: '6.10' without quotes is a number
            expected a text in quotes: "6.10"                       [C016]
        """,
    ),
    "yes is no truth": (
        "memory: 16Gi",
        "memory: 16Gi\n  lru_gen: yes",
        """
        node.yaml:4:12: node.lru_gen: 'yes' is not true or false
            expected true or false
            did you mean 'true'?                                    [C016]
        """,
    ),
    "negative size": (
        "768Mi",
        "-768Mi",
        """
        node.yaml:12:17: containers.web.memory.max: '-768Mi' is negative
            expected a memory size of 0 or more, or max             [C012]
        """,
    ),
    "out of range": (
        "memory: 16Gi",
        "memory: 16Gi\n  sysctl: {vm.swappiness: 300}",
        """
        node.yaml:4:27: node.sysctl.vm.swappiness: '300' is out of range
            expected at most 200                                    [C017]
        """,
    ),
    "unknown word": (
        "memory: 16Gi",
        "memory: 16Gi\n  swap: [{device: nvmee, size: 4Gi}]",
        """
        node.yaml:4:19: node.swap[0].device: 'nvmee' is not known here
            expected nvme, ssd, hdd, network, zram or optane
            did you mean 'nvme'?                                    [C018]
        """,
    ),
    "keys that exclude each other": (
        "memory: 16Gi",
        "memory: 16Gi\n  zones: [{zone: Normal, managed: 4000000}]",
        """
        node.yaml:3:3: node: more than one of memory, zones
            expected only one of memory, zones                      [C019]
        """,
    ),
    "missing file": (
        "profile: web.yaml",
        "profile: wbe.yaml",
        """
        node.yaml:10:14: containers.web.profile: no file 'wbe.yaml'
            expected a profile, relative to the node file (wbe.yaml)
            did you mean 'web.yaml'?                                [C001]
        """,
    ),
    "limit under what is used": (
        "768Mi",
        "128Mi",
        """
        node.yaml:12:17: containers.web.memory.max: 128 MiB is below the 200 MiB of anonymous and shared memory that the profile holds at the start
            expected at least 200 MiB, or run.start: cold           [C022]
        """,
    ),
    "unparsable release": (
        '"6.12"',
        '"six"',
        """
        node.yaml:4:11: node.kernel: 'six' is not a kernel release
            expected a release as uname -r prints it: 6.12, 5.14.0-427.el9.x86_64 [C025]
        """,
    ),
    "a cgroup that does not exist": (
        "parent: kubepods.slice",
        "parent: kubepod.slice",
        """
        node.yaml:11:13: containers.web.parent: no control group 'kubepod.slice'
            expected a key of cgroup.groups: kubepods.slice
            did you mean 'kubepods.slice'?                          [C021]
        """,
    ),
    "a v1 key on a v2 node": (
        "memory.max: 768Mi",
        "memory.limit_in_bytes: 768Mi",
        """
        node.yaml:12:5: containers.web.memory.limit_in_bytes: 'memory.limit_in_bytes' is a file of cgroup v1, the node has v2
            expected memory.max on a v2 node                        [C020]
        """,
    ),
    "a v2 key on a v1 node": (
        "  groups:\n    kubepods.slice: {memory.max: 14Gi}",
        "  version: v1\n  groups: {kubepods.slice: {}}",
        """
        node.yaml:12:5: containers.web.memory.max: 'memory.max' is a file of cgroup v2, the node has v1
            expected memory.limit_in_bytes on a v1 node             [C020]
        """,
    ),
    "a node that cannot boot": (
        "memory: 16Gi",
        "memory: 1Gi\n  sysctl: {vm.min_free_kbytes: 2097152}",
        """
        node.yaml:4:32: node.sysctl.vm.min_free_kbytes: this node cannot boot: the watermarks (MIN 2 GiB, LOW 2.5 GiB, HIGH 3 GiB) are above its memory (1 GiB, 774 MiB after the system's)
            expected less than 524288 (half of the memory in KiB)   [C026]
        """,
    ),
    "a timeline key with a typo": (
        "run: ",
        "timeline: [{at: 5min, set: {containers.wbe.memory.max: 1Gi}}]\nrun: ",
        """
        node.yaml:13:29: timeline[0].set.containers.wbe.memory.max: unknown key
            did you mean 'containers.web.memory.max'?               [C010]
        """,
    ),
    "a timeline key that cannot change": (
        "run: ",
        "timeline: [{at: 5min, set: {node.memory: 1Gi}}]\nrun: ",
        """
        node.yaml:13:29: timeline[0].set.node.memory: this cannot change during a run
            expected a cgroup file of a container or group, or a sysctl [C030]
        """,
    ),
    "a timeline value": (
        "run: ",
        "timeline: [{at: 5min, set: {containers.web.memory.max: 1Gx}}]\nrun: ",
        """
        node.yaml:13:56: timeline[0].set.containers.web.memory.max: '1Gx' is not a memory size
            expected digits with Ki, Mi, Gi, Ti (1024) or k, M, G, T (1000), or max
            did you mean '1Gi'?                                     [C012]
        """,
    ),
    "a timeline container": (
        "run: ",
        "timeline: [{at: 5min, start: [wbe]}]\nrun: ",
        """
        node.yaml:13:30: timeline[0].start: no container is named 'wbe'
            did you mean 'web'?                                     [C029]
        """,
    ),
    "an override with a typo": (
        "memory.max: 768Mi",
        "set: {processes.worker.cuont: 3}",
        """
        node.yaml:12:11: containers.web.set.processes.worker.cuont: no key 'cuont'
            did you mean 'processes.worker.count'?                  [C010]
        """,
    ),
    "a duplicate key": (
        "memory.max: 768Mi",
        "memory.max: 768Mi\n    memory.max: 1Gi",
        """
        node.yaml:13:5: the key 'memory.max' stands already in line 12
            expected each key once in a mapping                     [C005]
        """,
    ),
}

BAD_PROFILE = {
    "wrong key": (
        "rate: 20Mi/s",
        "speed: 20Mi/s",
        """
        web.yaml:9:41: processes.worker.phases[0].grow.speed: unknown key
            expected one of region, to, by, rate, over              [C010]
        """,
    ),
    "a size for a rate": (
        "rate: 20Mi/s",
        "rate: 20Mi",
        """
        web.yaml:9:47: processes.worker.phases[0].grow.rate: '20Mi' is not a rate
            expected a size per s, min or h, such as 20Mi/s
            did you mean '20Mi/s'?                                  [C014]
        """,
    ),
    "a region that does not exist": (
        "region: heap",
        "region: haep",
        """
        web.yaml:9:24: processes.worker.phases[0].grow.region: no region is named 'haep'
            expected one of heap
            did you mean 'heap'?                                    [C029]
        """,
    ),
    "a phase that does not exist": (
        "- grow: {region: heap, to: 200Mi, rate: 20Mi/s}",
        "- jump",
        """
        web.yaml:9:9: processes.worker.phases[0].jump: unknown key
            expected one of grow, hold, read, write, touch, free, burst, leak, fork, exit, restart, repeat [C010]
        """,
    ),
    "two phases in one": (
        "- grow: {region: heap, to: 200Mi, rate: 20Mi/s}",
        "- {hold: 2h, exit: 0}",
        """
        web.yaml:9:9: processes.worker.phases[0]: more than one of grow, hold, read, write, touch, free, burst, leak, fork, exit, restart, repeat
            expected only one of grow, hold, read, write, touch, free, burst, leak, fork, exit, restart, repeat [C019]
        """,
    ),
    "a bad distribution": (
        "size: 100Mi",
        "size: {uniform: {low: 2Gi, high: 1Gi}}",
        """
        web.yaml:7:42: processes.worker.regions.heap.size.uniform: low is above high
            expected low at or below high                           [C019]
        """,
    ),
    "a missing trace": (
        "    phases:\n      - grow: {region: heap, to: 200Mi, rate: 20Mi/s}",
        "    trace: {file: web.csv, measures: rss, columns: {value: v}}",
        """
        web.yaml:8:19: processes.worker.trace.file: no file 'web.csv'
            expected a CSV, relative to the profile (web.csv)       [C001]
        """,
    ),
}


def _failure(folder: Path, monkeypatch: pytest.MonkeyPatch, node: str, profile: str) -> str:
    monkeypatch.chdir(folder)
    Path("node.yaml").write_text(node)
    Path("web.yaml").write_text(profile)
    with pytest.raises(InputError, match=r"\[C\d{3}\]") as caught:
        spec.load("node.yaml")
    return str(caught.value)


@pytest.mark.parametrize("kind", BAD_NODE)
def test_load_bad_node_says_where_what_and_how(kind, tmp_path, monkeypatch):
    old, new, golden = BAD_NODE[kind]
    assert old in NODE
    message = _failure(tmp_path, monkeypatch, NODE.replace(old, new, 1), PROFILE)
    assert message == textwrap.dedent(golden).strip()


@pytest.mark.parametrize("kind", BAD_PROFILE)
def test_load_bad_profile_says_where_what_and_how(kind, tmp_path, monkeypatch):
    old, new, golden = BAD_PROFILE[kind]
    assert old in PROFILE
    message = _failure(tmp_path, monkeypatch, NODE, PROFILE.replace(old, new, 1))
    assert message == textwrap.dedent(golden).strip()


def test_load_shows_all_errors_of_all_files_at_once(tmp_path, monkeypatch):
    node = NODE.replace("16Gi", "16Gx").replace("768Mi", "-1Mi")
    message = _failure(tmp_path, monkeypatch, node, PROFILE.replace("20Mi/s", "20Mi"))
    heads = [line.split(" ")[0] for line in message.splitlines() if line.count(":") > 2]
    assert heads == ["node.yaml:3:11:", "node.yaml:12:17:", "web.yaml:9:47:"]


def test_load_shared_profile_is_reported_once(tmp_path, monkeypatch):
    node = NODE.replace("run:", "  api: {profile: web.yaml}\nrun:")
    message = _failure(tmp_path, monkeypatch, node, PROFILE.replace("20Mi/s", "20Mi"))
    assert message.count("'20Mi' is not a rate") == 1


def test_load_shows_twenty_errors_and_counts_the_rest(tmp_path, monkeypatch):
    wrong = "".join(f"    key{index}: 1\n" for index in range(25))
    message = _failure(tmp_path, monkeypatch, NODE.replace("run:", wrong + "run:"), PROFILE)
    assert message.count("unknown key") == 20
    assert message.endswith("and 5 more problems")


def test_load_no_yaml_says_where(tmp_path, monkeypatch):
    # the words are the parser's: libyaml and PyYAML's own differ
    message = _failure(tmp_path, monkeypatch, NODE.replace("768Mi", "{"), PROFILE)
    assert message.startswith("node.yaml:14:1: not YAML: ")
    assert message.endswith("[C002]")


def test_load_profile_as_node_says_so(tmp_path):
    path = tmp_path / "web.yaml"
    path.write_text(PROFILE)
    with pytest.raises(InputError, match="this is a profile, not a node file"):
        spec.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "the file holds nothing, not a node"), ("[1]", "a list"), ("16Gi", "a scalar")],
)
def test_load_no_mapping_says_so(text, message, tmp_path):
    path = tmp_path / "node.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        spec.load(path)


def test_load_missing_node_file(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: No such file or directory"):
        spec.load(tmp_path / "none.yaml")


def test_load_directory(tmp_path):
    with pytest.raises(InputError, match="Is a directory"):
        spec.load(tmp_path)


def test_row_problem_points_to_the_line_of_a_csv():
    problem = row_problem("web.csv", 17, "'-5' is negative", column="memory", expected="bytes")
    assert str(problem).splitlines() == [
        "web.csv:17: memory: '-5' is negative",
        "    expected bytes                                          [C040]",
    ]


def test_problem_without_repair_has_its_code_in_the_first_line():
    assert str(Problem(Place("a.yaml"), "", "gone", code="C001")) == "a.yaml: gone [C001]"
