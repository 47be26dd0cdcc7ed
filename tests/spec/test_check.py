"""The physical checks: each fires on what it is for, and not on what is fine."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capplan import spec
from capplan.errors import InputError
from capplan.spec.marks import marks
from capplan.units import GIB, MIB

INLINE = """
profile:
  capplan: 1
  profile: app
  processes:
    app: {count: 2, regions: {heap: {size: 100Mi}, log: {kind: file, size: 1Gi, via: read}}}
"""


def load(tmp_path, *, machine="memory: 4Gi", cgroup="{}", container="", extra=""):
    text = (
        f"capplan: 1\nnode: {{{machine}}}\ncgroup: {cgroup}\ncontainers:\n  app:\n"
        + textwrap.indent(container + INLINE, "    ")
        + extra
    )
    path = tmp_path / "node.yaml"
    path.write_text(text)
    return spec.load(path)


def codes(loaded):
    return [problem.code for problem in loaded.warnings]


def test_a_plain_node_has_no_warnings(tmp_path):
    assert load(tmp_path, container="memory.max: 300Mi").warnings == ()


@pytest.mark.parametrize(
    ("kind", "container", "code", "message"),
    [
        ("half a byte", "memory.low: 500m", "C028", "'500m' is half a byte: m is a thousandth"),
        ("sub-byte", "memory.low: 300m", "C028", "'300m' is 0.3 bytes"),
        ("sub-page", "memory.low: 512", "C028", "'512' is 512 bytes, less than one page"),
        ("min above max", "memory.max: 1Gi\nmemory.min: 2Gi", "C022", "1 GiB is below memory.min"),
        ("low above max", "memory.max: 1Gi\nmemory.low: max", "C022", r"memory.low \(max\)"),
        (
            "high above max",
            "memory.max: 1Gi\nmemory.high: 2Gi",
            "C022",
            "1 GiB is below memory.high",
        ),
        ("swap limit, no swap", "memory.swap.max: 1Gi", "C024", "the node has no swap"),
        ("promises", "memory.min: 3Gi\nreplicas: 2", "C031", "memory.min of all .* up to 6 GiB"),
        ("too much at the start", "replicas: 30", "C031", "containers and system hold 6.35 GiB"),
    ],
)
def test_container_warnings(kind, container, code, message, tmp_path):
    loaded = load(tmp_path, container=container)
    assert codes(loaded) == [code]
    with pytest.raises(InputError, match=message):
        spec.load(loaded.path, strict=True)


@pytest.mark.parametrize(
    "container",
    [
        "memory.max: max\nmemory.min: 1Gi",
        "memory.max: 1Gi\nmemory.high: 1Gi",
        "memory.max: 1Gi\nmemory.high: max",
        "memory.swap.max: 0",
        "memory.max: 200Mi",
        "memory.low: 4Ki",
    ],
)
def test_container_settings_that_are_fine(container, tmp_path):
    assert load(tmp_path, container=container).warnings == ()


def test_limit_below_what_is_used_is_an_error_without_swap_only(tmp_path):
    with pytest.raises(InputError, match="199 MiB is below the 200 MiB"):
        load(tmp_path, container="memory.max: 199Mi")
    swap = "memory: 4Gi, swap: [{device: ssd, size: 1Gi}]"
    assert load(tmp_path, machine=swap, container="memory.max: 199Mi").warnings == ()
    cold = "run: {start: cold}\n"
    assert load(tmp_path, container="memory.max: 199Mi", extra=cold).warnings == ()


@pytest.mark.parametrize(
    ("container", "message"),
    [
        ("memory.memsw.limit_in_bytes: 1Gi", r"1 GiB is below memory.limit_in_bytes \(unlimited\)"),
        ("memory.limit_in_bytes: 2Gi\nmemory.memsw.limit_in_bytes: 1Gi", r"below .* \(2 GiB\)"),
        ("memory.high: 2Gi", "'memory.high' is a file of cgroup v2, the node has v1"),
        ("memory.oom.group: true", "'memory.oom.group' is a file of cgroup v2"),
    ],
)
def test_v1_errors(container, message, tmp_path):
    machine = "memory: 4Gi, swap: [{device: ssd, size: 1Gi}]"
    with pytest.raises(InputError, match=message):
        load(tmp_path, machine=machine, cgroup="{version: v1}", container=container)


def test_timeline_keys_are_checked_against_the_version(tmp_path):
    extra = "timeline: [{at: 5min, set: {containers.app.memory.reclaim: 10Mi}}]\n"
    step = load(tmp_path, extra=extra).timeline[0]
    assert (step.settings[0].key, step.settings[0].value) == ("memory.reclaim", 10 * MIB)
    message = r"timeline\[0\].set.containers.app.memory.reclaim: .* is a file of cgroup v2"
    with pytest.raises(InputError, match=message):
        load(tmp_path, cgroup="{version: v1}", extra=extra)


def test_timeline_after_the_end_warns(tmp_path):
    extra = "timeline: [{at: 2h, stop: app}]\nrun: {duration: 1h}\n"
    assert codes(load(tmp_path, extra=extra)) == ["C032"]


def test_zswap_without_swap_warns(tmp_path):
    assert codes(load(tmp_path, machine="memory: 4Gi, zswap: {enabled: true}")) == ["C024"]


@pytest.mark.parametrize(
    "release",
    ["6.12", "6.1.0-28-amd64", "5.14.0-427.el9.x86_64", "6.12.0-rc1+", "v6.8", "6.8.0-45-generic"],
)
def test_releases_that_can_be_parsed(release, tmp_path):
    load(tmp_path, machine=f"memory: 4Gi, kernel: '{release}'")


@pytest.mark.parametrize("release", ["", "6", "six", "el9", "6.x", "6.12 ", "6.12; rm"])
def test_releases_that_cannot_be_parsed(release, tmp_path):
    with pytest.raises(InputError, match="is not a kernel release"):
        load(tmp_path, machine=f"memory: 4Gi, kernel: '{release}'")


def test_groups_need_their_parents(tmp_path):
    with pytest.raises(InputError, match=r"its parent 'a' is not in cgroup.groups"):
        load(tmp_path, cgroup="{groups: {a/b: {}}}")
    load(tmp_path, cgroup="{groups: {a: {}, a/b: {}}}", container="parent: a/b")


@pytest.mark.parametrize(
    ("process", "message"),
    [
        ("fork_of: b", "no process is named 'b'"),
        ("fork_of: app", "no process is named 'app'"),
        ("uses: [x]", "no shared region is named 'x'"),
        ("cow: {x: 1Mi/s}", "no region is named 'x'"),
        ("phases: [{fork: x}]", r"phases\[0\].fork.process: no process is named 'x'"),
        ("regions: {f: {kind: file, size: 1Mi, disk: d}}", "no disk of the node is named 'd'"),
        (
            "phases: [{repeat: {phases: [{free: {region: x}}]}}]",
            r"phases\[0\].repeat.phases\[0\].free.region: no region is named 'x'",
        ),
    ],
)
def test_profile_names_must_exist(process, message, tmp_path):
    path = tmp_path / "node.yaml"
    path.write_text(
        "capplan: 1\nnode: {memory: 4Gi}\ncontainers:\n  a:\n    profile:\n"
        f"      {{capplan: 1, profile: a, processes: {{app: {{{process}}}}}}}\n"
    )
    with pytest.raises(InputError, match=message):
        spec.load(path)


@pytest.mark.parametrize(
    ("app", "kid", "message"),
    [
        ("", "", r"processes.app.phases\[0\].fork: 'kid' is not forked from this process"),
        ("count: 2, ", "fork_of: app", "there are 2 of this process"),
        ("", "fork_of: app, start: 5s", "'kid' has a start of its own"),
        (
            "",
            "fork_of: app, trace: {file: t.csv, measures: rss, columns: {value: v}}",
            "'kid' follows a trace, at times of its own",
        ),
    ],
)
def test_forked_by_phase_must_be_able_to(app, kid, message, tmp_path):
    (tmp_path / "t.csv").write_text("time,v\n0,1\n60,2\n")
    path = tmp_path / "node.yaml"
    path.write_text(
        "capplan: 1\nnode: {memory: 4Gi}\ncontainers:\n  a:\n    profile:\n"
        "      {capplan: 1, profile: a, processes: {app: "
        f"{{{app}phases: [{{fork: kid}}]}}, kid: {{{kid}}}}}}}\n"
    )
    with pytest.raises(InputError, match=message):
        spec.load(path)


def test_inherited_and_shared_regions_may_be_named(tmp_path):
    path = tmp_path / "node.yaml"
    path.write_text(
        textwrap.dedent(
            """\
            capplan: 1
            node: {memory: 4Gi, disks: {data: hdd}}
            containers:
              a:
                profile:
                  capplan: 1
                  profile: a
                  processes:
                    one: {regions: {heap: {size: 1Mi}}}
                    two: {fork_of: one}
                    three:
                      fork_of: two
                      uses: [cache]
                      cow: {heap: 1Mi/s}
                      regions: {f: {kind: file, size: 1Mi, disk: data}}
                      phases: [{grow: {region: heap, by: 1Mi}}, {free: {region: cache}}, exit]
                  shared: {regions: {cache: {kind: shmem, size: 1Mi}}}
            """
        )
    )
    assert spec.load(path).warnings == ()


def test_min_free_kbytes_of_two_gib_on_64_gib_warns_with_its_arithmetic(tmp_path):
    loaded = load(tmp_path, machine="memory: 64Gi, sysctl: {vm.min_free_kbytes: 2097152}")
    assert str(loaded.warnings[0]).splitlines() == [
        f"{loaded.path}:2:51: warning: node.sysctl.vm.min_free_kbytes: '2097152' KiB of 64 GiB:"
        " MIN 2 GiB, LOW 2.5 GiB, HIGH 3 GiB; 3.1 % is never usable, up to 4.7 % is lost to the"
        " cache",
        "    expected a smaller reserve, unless meant; the usual one is 67584 (66 MiB) [C027]",
    ]


@pytest.mark.parametrize("memory", ["4Gi", "64Gi", "1Ti"])
def test_usual_min_free_kbytes_does_not_warn(memory, tmp_path):
    machine = f"memory: {memory}, sysctl: {{vm.min_free_kbytes: 67584}}"
    assert load(tmp_path, machine=machine).warnings == ()


@pytest.mark.parametrize(
    "machine",
    [
        "memory: 1Gi, sysctl: {vm.min_free_kbytes: 1048576}",
        "memory: 1Gi, sysctl: {vm.min_free_kbytes: 700000}",
        "memory: 400Mi, sysctl: {vm.min_free_kbytes: 65536},"
        " system: {kernel: 100Mi, daemons: {memory: 240Mi}}",
        "zones: [{zone: Normal, managed: 262144}], sysctl: {vm.min_free_kbytes: 1048576}",
    ],
)
def test_marks_above_the_memory_cannot_boot(machine, tmp_path):
    with pytest.raises(InputError, match="this node cannot boot: the watermarks"):
        load(tmp_path, machine=machine)


def test_a_system_above_the_memory_cannot_boot(tmp_path):
    machine = "memory: 400Mi, system: {kernel: 300Mi, daemons: {memory: 200Mi}}"
    with pytest.raises(InputError, match=r"node\.system: this node cannot boot: its system holds"):
        load(tmp_path, machine=machine)
    swap = f"{machine}, swap: [{{device: ssd, size: 1Gi}}]"
    assert codes(load(tmp_path, machine=swap)) == []  # its daemons can be swapped out


def test_a_small_node_has_its_share_of_the_assumed_system(tmp_path):
    small = load(tmp_path, machine="memory: 512Mi, system: {kernel: 60Mi}").node.system
    assert (small.kernel, small.slab_reclaimable) == (60 << 20, 25 << 20)
    assert (small.daemons.memory, small.daemons.file) == (50 << 20, 25 << 20)
    assert small.daemons.model_fields_set == set()  # they are still assumed
    whole = load(tmp_path, machine="memory: 2Gi").node.system
    assert (whole.kernel, whole.daemons.memory) == (300 << 20, 200 << 20)


def test_marks_above_the_memory_by_a_timeline_are_refused(tmp_path):
    extra = "timeline: [{at: 5min, set: {vm.min_free_kbytes: 4194304}}]\n"
    with pytest.raises(InputError, match=r"timeline\[0\].set.vm.min_free_kbytes: this node cannot"):
        load(tmp_path, extra=extra)
    extra = "timeline: [{at: 5min, set: {vm.min_free_kbytes: 262144}}]\n"
    assert codes(load(tmp_path, extra=extra)) == ["C027"]


def test_marks_worked_example():
    found = marks(64 * GIB, 2097152, 10)
    assert (found.minimum, found.low, found.high) == (2 * GIB, 5 * GIB // 2, 3 * GIB)


def test_marks_follow_the_scale_factor_on_a_large_node():
    # 1 TiB: 0.1 % of the memory is more than a quarter of MIN
    found = marks(1 << 40, 67584, 10)
    assert found.low - found.minimum == (1 << 28) * 10 // 10000 * 4096


@given(st.integers(1, 1 << 40), st.integers(0, 1 << 28), st.integers(1, 3000))
def test_marks_are_ordered_and_evenly_spaced(memory, minimum, scale):
    found = marks(memory, minimum, scale)
    assert found.minimum <= found.low <= found.high
    assert found.high - found.low == found.low - found.minimum


def test_group_below_what_its_containers_hold_at_the_start(tmp_path):
    cgroup = "{groups: {apps: {memory.max: 300Mi}, apps/low: {}, apps2: {memory.max: 1Mi}}}"
    with pytest.raises(InputError, match="max: 300 MiB is below the 400 MiB of anonymous"):
        load(tmp_path, cgroup=cgroup, container="parent: apps/low\nreplicas: 2")
    assert load(tmp_path, cgroup=cgroup, container="parent: apps/low").warnings == ()


def test_node_on_which_nothing_runs(tmp_path):
    assert codes(load(tmp_path, container="replicas: 0")) == ["C032"]


@pytest.mark.parametrize(
    ("kernel", "container", "said"),
    [
        ("4.4", "memory.max: 1Gi", "no memory controller in cgroup v2: it came with 4.5"),
        ("4.18", "memory.oom.group: true", "no file memory.oom.group: it came with 4.19"),
        (
            "6.1",
            "memory.zswap.writeback: false",
            "no file memory.zswap.writeback: it came with 6.8",
        ),
        ("4.19", "memory.oom.group: true", ""),
        ("6.8.0-45-generic", "memory.min: 1Mi", ""),
    ],
)
def test_a_file_that_the_kernel_does_not_have_yet(kernel, container, said, tmp_path):
    spec = load(tmp_path, machine=f"memory: 4Gi, kernel: '{kernel}'", container=container)
    told = [p.message for p in spec.warnings if "this kernel has no" in p.message]
    assert told == ([f"this kernel has {said}"] if said else [])


def test_a_v1_node_has_no_files_of_v2_to_miss(tmp_path):
    spec = load(tmp_path, machine="memory: 4Gi, kernel: '3.10'", cgroup="{version: v1}")
    assert spec.warnings == ()
