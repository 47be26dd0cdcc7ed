"""Captured hosts start a simulation from the state they were seen in."""

from __future__ import annotations

import os
import pathlib

import pytest
from click.testing import CliRunner

import capplan.api
from capplan.cli.main import cli
from capplan.errors import InputError
from capplan.sources.capture import capture
from capplan.sources.capture_groups import profile_of, read_again, share_out
from capplan.sources.cgroupfs import USAGE, Group, find_tree, group_paths, own, read_group
from capplan.sources.draft import Draft
from capplan.sources.procfs import Host, Process, parse_meminfo, parse_zoneinfo
from capplan.sources.write import write
from capplan.spec import load
from capplan.units import parse_k8s
from tests.sources.hosts import only_v1, unpack

# Page tables and stacks that a simulated process is charged for are its own, not what was seen:
# so much of a small group's usage may differ. [bytes]
USAGE_SLACK = 512 << 10


@pytest.mark.parametrize(
    ("name", "version", "said"), [("v1", "v1", "hybrid"), ("v2", "v2", ""), ("only", "v1", "")]
)
def test_version_of_the_memory_controller(
    tmp_path: pathlib.Path, name: str, version: str, said: str
) -> None:
    root = only_v1(unpack("v1", tmp_path)) if name == "only" else unpack(name, tmp_path)
    draft = capture(root)
    found = draft.node["cgroup"]["version"]
    assert found.value == version
    assert said in found.note
    assert (found.note == "") == (said == "")


def truth_of(root: pathlib.Path) -> dict[str, float]:
    """What the copied files say, under the names of the simulation's series."""
    host = Host(root)
    info = parse_meminfo(host.read("proc/meminfo"))
    zones = [z for z in parse_zoneinfo(host.read("proc/zoneinfo")) if z.marks.get("managed")]
    truth: dict[str, float] = {f"zone.{z.zone}.free": z.marks["free"] for z in zones}
    truth["meminfo_kb.MemFree"] = sum(z.marks["free"] for z in zones) * 4
    truth["meminfo_kb.AnonPages"] = info["AnonPages"]
    truth["meminfo_kb.Cached"] = info["Cached"] + info["Buffers"]
    truth["meminfo_kb.Shmem"] = info["Shmem"]
    truth["meminfo_kb.SReclaimable"] = info["SReclaimable"]
    tree = find_tree(host)
    assert tree is not None
    for path in group_paths(host, tree):
        group = read_group(host, tree, path)
        assert group is not None
        truth[f"cgroup.{path}.{USAGE[tree.version]}"] = group.usage
    return truth


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_simulation_starts_from_the_captured_state(tmp_path: pathlib.Path, name: str) -> None:
    root = unpack(name, tmp_path)
    files = write(capture(root), tmp_path / "out")
    run = capplan.api.simulate(load(files[0], {"run.duration": "1s"})).run
    truth = truth_of(root)
    assert len(truth) >= 10
    for series, seen in truth.items():
        found = float(run.series[series][0])
        if series.startswith("cgroup."):
            assert abs(found - seen) <= max(0.005 * seen, USAGE_SLACK), (series, seen, found)
        elif series.startswith("zone.") or series.endswith("MemFree"):
            assert found == seen, series
        else:
            assert found == pytest.approx(seen, rel=1e-3, abs=64), series


def test_free_blocks_start_as_they_were_seen(tmp_path: pathlib.Path) -> None:
    root = unpack("v2", tmp_path)
    files = write(capture(root), tmp_path / "out")
    run = capplan.api.simulate(load(files[0], {"run.duration": "1s"})).run
    zone = next(z for z in load(files[0]).node.zones or () if z.zone == "DMA32")
    assert zone.pagetypeinfo is not None
    blocks = [sum(counts) for counts in zip(*zone.pagetypeinfo.values())]
    found = [int(run.series[f"zone.DMA32.order{order}"][0]) for order in range(11)]
    # pagetypeinfo and zoneinfo were read one after the other: single pages make up the rest
    assert found[4:] == blocks[4:]
    assert sum(n << o for o, n in enumerate(found)) == zone.free


def test_limits_processes_and_settings_are_in_the_file(tmp_path: pathlib.Path) -> None:
    root = unpack("v2", tmp_path)
    spec = load(write(capture(root), tmp_path / "out")[0])
    web, db = spec.cgroup.groups["app.slice/web"], spec.cgroup.groups["app.slice/db"]
    assert (web.memory_high, web.memory_max, web.memory_oom_group) == (200 << 20, 256 << 20, True)
    assert (db.memory_min, db.memory_max) == (32 << 20, None)
    assert spec.containers["web"].cgroup == "app.slice/web"
    assert spec.containers["web"].oom_score_adj == 500
    assert spec.node.kernel == "6.12.117+deb12-amd64"
    assert spec.node.lru_gen is True
    assert spec.node.sysctl.min_free_kbytes == 45056
    heap = spec.profiles["db"].processes
    assert sum(
        r.size.constant or 0 for p in heap.values() for r in p.regions.values()
        if r.kind == "anon" and r.size is not None
    ) == pytest.approx(100 << 20, rel=0.02)  # fmt: skip


def test_v1_groups_carry_their_oom_control(tmp_path: pathlib.Path) -> None:
    root = unpack("v1", tmp_path)
    (root / "sys/fs/cgroup/memory/docker/memory.oom_control").write_text(
        "oom_kill_disable 1\nunder_oom 0\noom_kill 0\n"
    )
    (root / "sys/fs/cgroup/memory/docker/memory.limit_in_bytes").write_text("8589934592\n")
    spec = load(write(capture(root), tmp_path / "out")[0])
    group = spec.cgroup.groups["docker"]
    assert group.memory_oom_control is not None
    assert group.memory_oom_control.oom_kill_disable
    assert group.memory_limit_in_bytes == 8 << 30


def test_a_group_that_vanishes_while_it_is_read_is_left_out(tmp_path: pathlib.Path) -> None:
    root = unpack("v2", tmp_path)
    (root / "sys/fs/cgroup/app.slice/web/memory.stat").unlink()
    groups = capture(root).node["cgroup"]["groups"]
    assert "app.slice/db" in groups
    assert "app.slice/web" not in groups


def test_capture_of_something_else_says_so(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match="no zones or no MemTotal"):
        capture(tmp_path)


def test_capture_without_any_control_groups_still_makes_a_node(tmp_path: pathlib.Path) -> None:
    root = unpack("v2", tmp_path)
    (root / "proc" / "mounts").write_text("")
    (root / "sys/fs/cgroup/cgroup.controllers").unlink()
    draft = capture(root)
    assert any("no memory controller" in str(problem) for problem in draft.problems)
    spec = load(write(draft, tmp_path / "out")[0])
    assert list(spec.containers) == ["root"]


def _held(draft: Draft) -> dict[str, int]:
    """Bytes of anonymous memory by process of ``db``, and pages on per-cpu lists ("pcp")."""
    found = {}
    for name, noted in draft.profiles["profiles/db.yaml"]["processes"].items():
        regions = noted.value["regions"]
        found[name] = sum(
            parse_k8s(region["size"]) for region in regions.values() if region["kind"] == "anon"
        )
    zones = draft.node["node"]["zones"]
    return found | {"pcp": sum(zone.get("pcp", 0) for zone in zones)}


def test_the_capture_leaves_itself_out(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it holds is gone when it ends: its pages are on the per-cpu lists then."""
    root = unpack("v2", tmp_path)
    before = _held(capture(root))
    name = max(before.keys() - {"pcp"}, key=lambda key: before[key])
    pid = int(name.rpartition("-")[2])
    itself = Host(root).process(pid)
    assert itself is not None
    monkeypatch.setattr(os, "getpid", lambda: pid)
    monkeypatch.setattr(Host, "__setattr__", _keeps_live)
    after = _held(capture(root))
    assert name not in after
    freed = (after.pop("pcp") - before.pop("pcp")) * 4096
    assert freed == pytest.approx(itself.anon, rel=0.05)
    assert sum(before.values()) - sum(after.values()) == freed - itself.tables


def _keeps_live(host: Host, name: str, value: object) -> None:
    object.__setattr__(host, name, True if name == "live" else value)


def test_capture_this_host_as_a_user_calls_it(tmp_path: pathlib.Path) -> None:
    if not pathlib.Path("/proc/zoneinfo").exists():
        pytest.skip("no Linux host")
    found = CliRunner().invoke(cli, ["capture", "--out", str(tmp_path / "host")])
    assert found.exit_code == 0, found.output
    assert "next: capplan simulate" in found.stdout
    again = CliRunner().invoke(cli, ["capture", "--out", str(tmp_path / "host")])
    assert again.exit_code == 2
    assert "already there: nothing was written" in again.stderr


def test_a_group_starts_with_the_generations_that_it_had(tmp_path: pathlib.Path) -> None:
    root = unpack("v2", tmp_path)
    tree = find_tree(Host(root))
    assert tree is not None
    sizes = {path: read_group(Host(root), tree, path) for path in group_paths(Host(root), tree)}
    own({path: group for path, group in sizes.items() if group is not None})
    held = {p: g.own["anon"] + g.own["shmem"] for p, g in sizes.items() if g is not None}
    path = max(held, key=lambda path: held[path])
    pages = held[path] // 4096  # shmem is on the lists of anonymous memory
    debug = root / "sys" / "kernel" / "debug"
    debug.mkdir(parents=True)
    lines = f"memcg 9 /{path}\n node 0\n 4 9000 {pages - 50} 0\n 5 8000 30 0\n 6 700 20 9\n"
    (debug / "lru_gen").write_text(lines)
    write(capture(root), tmp_path / "out", force=False)
    spec = load(tmp_path / "out" / "node.yaml")
    found = spec.cgroup.lru[path]
    assert [size // 4096 for size in found.anon] == [pages - 50, 30, 20]
    assert found.age == (9_000_000_000, 8_000_000_000, 700_000_000)
    series = capplan.api.simulate(spec).run.series
    assert series[f"cgroup.{path}.stat.active_anon"][0] == pytest.approx(50 * 4096)
    assert series[f"cgroup.{path}.stat.inactive_anon"][0] == pytest.approx((pages - 50) * 4096)


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_without_debugfs_the_lists_of_memory_stat_are_taken(
    tmp_path: pathlib.Path, name: str
) -> None:
    root = unpack(name, tmp_path)
    lists = capture(root).node["cgroup"]["lru"].value
    info = parse_meminfo((root / "proc" / "meminfo").read_text())
    assert all(len(held["file"]) == 2 and "age" not in held for held in lists.values())
    for kind in ("anon", "file"):  # what no group is charged for is the root's
        old = float(sum(parse_k8s(held[kind][0]) for held in lists.values())) / 1024
        assert old == pytest.approx(info[f"Inactive({kind})"], rel=0.02, abs=64)


def test_page_cache_that_was_read_again_is_in_use(tmp_path: pathlib.Path) -> None:
    """1000 refaults in the 50 s of the older process: 80 KiB/s."""
    group = Group("a", own={"anon": 0, "file": 8192, "usage": 8192, "refault_file": 1000})
    members = [Process(1, "a", age_s=50.0), Process(2, "b", age_s=10.0)]
    held = share_out(group, [])
    held.read_again = read_again(group, members)
    profile = profile_of("a", held, 0)
    assert profile is not None
    access = profile["processes"]["group"].value["regions"]["cache"]["access"]
    assert access.value == {"pattern": "uniform", "rate": "81920/s"}
    assert "1000 refaults in the 50 s" in access.note
    assert read_again(group, []) == (0, 0.0)
