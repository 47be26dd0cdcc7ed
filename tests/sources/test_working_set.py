"""Idle page tracking and DAMON on copied trees, and the patterns that fit what they see.

What they see of a real kernel is measured in a guest: ``python -m lab access-check`` (docs/lab.md).
"""

from __future__ import annotations

import math
import os
import pathlib
import re
import signal
import struct
import time
from typing import Any

import pytest
from click.testing import CliRunner

from capplan.cli.main import cli
from capplan.sources import damon, idle_pages, record_profile
from capplan.sources.access_fit import Share, fit
from capplan.sources.damon import ADMIN, Damon
from capplan.sources.idle_pages import FLAGS, IDLE, OWNERS, IdlePages
from capplan.sources.procfs import Host
from capplan.sources.record import WATCHED, Recorder
from capplan.sources.record_watched import Watched, read_watched
from capplan.sources.working_set import CPU_SHARE, Look, Pace
from capplan.spec import load
from tests.sources.hosts import unpack

ANON_LRU = 1 << 5 | 1 << 12
FILE_LRU = 1 << 5 | 1 << 11
HEAD, TAIL = 1 << 15, 1 << 16


# --- the fit --------------------------------------------------------------------------------


def shares(of: Any, error: float = 0.01) -> list[Share]:
    return [Share(t, of(t), error) for t in (1.0, 5.0, 20.0)]


def test_uniform_and_cyclic_worked_examples() -> None:
    found = fit([Share(10, 1 - math.exp(-1), 0.01), Share(20, 1 - math.exp(-2), 0.01)], 25600)
    assert (found.pattern, found.part) == ("uniform", 1.0)
    assert found.rate == pytest.approx(0.1, rel=0.03)
    assert found.low < 0.1 < found.high
    found = fit([Share(10, 0.5, 0.01), Share(20, 1.0, 0.01)], 25600)
    assert (found.pattern, found.rate) == ("cyclic", pytest.approx(0.05, rel=0.03))


def test_a_part_that_is_used_is_told_from_all_of_it() -> None:
    found = fit(shares(lambda t: 0.2 * -math.expm1(-t)), 25600)
    assert (found.pattern, found.part) == ("uniform", pytest.approx(0.2, abs=0.01))
    assert found.rate == pytest.approx(1.0, rel=0.15)
    all_at_once = fit(shares(lambda _: 0.2), 25600)
    assert math.isinf(all_at_once.high)
    assert all_at_once.part == pytest.approx(0.2, abs=0.01)


def test_zipf_is_found_with_its_skew() -> None:
    weights = [(rank + 1) ** -1.0 for rank in range(2000)]
    mean = sum(weights) / len(weights)

    def of(t: float) -> float:
        return sum(-math.expm1(-0.2 * t * w / mean) for w in weights) / len(weights)

    found = fit(shares(of, 0.002), 2000)
    assert (found.pattern, found.skew) == ("zipf", pytest.approx(1.0, abs=0.2))
    assert found.rate == pytest.approx(0.2, rel=0.2)


def test_nothing_touched_is_idle_with_a_bound() -> None:
    found = fit(shares(lambda _: 0.0), 25600)
    assert (found.pattern, found.rate) == ("idle", 0.0)
    assert 0.0 < found.high < 0.01


# --- idle page tracking ---------------------------------------------------------------------


def tree(tmp_path: pathlib.Path, pages: list[tuple[str, int]], *, lru_gen: str = "0x0000") -> Host:
    """A node of so many page frames from frame 64 on, each of a group and with flags."""
    for name in (IDLE, FLAGS, OWNERS, "sys/kernel/mm/lru_gen/enabled"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    groups = {name for name, _ in pages if name}
    for name in groups:
        (tmp_path / "cg" / name).mkdir(parents=True)
    inode = {name: (tmp_path / "cg" / name).stat().st_ino for name in groups} | {"": 0}
    before = 64
    (tmp_path / OWNERS).write_bytes(
        struct.pack(f"={before + len(pages)}Q", *[0] * before, *(inode[name] for name, _ in pages))
    )
    (tmp_path / FLAGS).write_bytes(
        struct.pack(f"={before + len(pages)}Q", *[0] * before, *(flags for _, flags in pages))
    )
    (tmp_path / IDLE).write_bytes(bytes((before + len(pages)) // 8))
    (tmp_path / "sys/kernel/mm/lru_gen/enabled").write_text(lru_gen)
    (tmp_path / "proc/zoneinfo").write_text(
        f"Node 0, zone   Normal\n        spanned  {len(pages)}\n  start_pfn:           {before}\n"
    )
    return Host(tmp_path)


def one_round(watch: IdlePages, groups: list[str], touch: Any) -> dict[tuple[str, str], Look]:
    watch.poll(groups)
    path = pathlib.Path(watch.host.path(IDLE))
    words = struct.unpack(f"={path.stat().st_size // 8}Q", path.read_bytes())
    path.write_bytes(struct.pack(f"={len(words)}Q", *(touch(i, w) for i, w in enumerate(words))))
    watch.begun -= 30.0  # the window is over
    found = watch.poll(groups)
    return {(look.group, look.kind): look for look in found}


def test_idle_pages_are_sampled_by_group_and_kind(tmp_path: pathlib.Path) -> None:
    pages = [("a", ANON_LRU)] * 512 + [("b", FILE_LRU)] * 512 + [("", ANON_LRU)] * 256
    watch = IdlePages(tree(tmp_path, pages), "cg")
    # every page of the upper half of group a's was touched, none of b's
    found = one_round(watch, ["a", "b"], lambda i, word: 0 if i < 1 + 512 // 64 // 2 else word)
    assert set(found) == {("a", "anon"), ("b", "file")}
    share = {group: look.touched / look.watched for (group, _), look in found.items()}
    assert share["a"] == pytest.approx(0.5, abs=0.3)
    assert share["b"] == 0.0
    assert found["b", "file"].error > 0.0
    assert found["a", "anon"].window_s == pytest.approx(30.0, abs=1.0)
    watch.close()


def test_only_pages_of_the_groups_are_marked(tmp_path: pathlib.Path) -> None:
    pages = [("a", ANON_LRU)] * 64 + [("", ANON_LRU)] * 64 + [("a", 0)] * 64
    watch = IdlePages(tree(tmp_path, pages), "cg")
    watch.poll(["a"])
    words = struct.unpack("=4Q", (tmp_path / IDLE).read_bytes())
    assert [bool(word) for word in words] == [False, True, False, False]
    assert words[1].bit_count() == idle_pages.PER_WORD
    watch.close()


def test_a_folio_counts_with_all_its_pages(tmp_path: pathlib.Path) -> None:
    pages = [("a", ANON_LRU | HEAD)] + [("a", ANON_LRU | TAIL)] * 127
    watch = IdlePages(tree(tmp_path, pages), "cg")
    found = one_round(watch, ["a"], lambda _, word: word)
    assert found["a", "anon"].watched == 128 * 4096
    watch.close()


def test_under_multi_gen_lru_files_that_are_only_read_are_not_judged(
    tmp_path: pathlib.Path,
) -> None:
    pages = [("a", 1 << 5)] * 64 + [("b", FILE_LRU)] * 64
    watch = IdlePages(tree(tmp_path, pages, lru_gen="0x0007"), "cg")
    found = one_round(watch, ["a", "b"], lambda _, word: word)
    assert set(found) == {("b", "mapped file")}
    watch.close()


def test_pages_that_were_freed_meanwhile_are_left_out(tmp_path: pathlib.Path) -> None:
    watch = IdlePages(tree(tmp_path, [("a", ANON_LRU)] * 64), "cg")

    def free(_: int, word: int) -> int:
        (tmp_path / FLAGS).write_bytes(bytes(128 * 8))
        return word

    assert one_round(watch, ["a"], free) == {}
    watch.close()


def test_a_round_that_took_long_is_followed_by_a_rest_and_a_smaller_one() -> None:
    pace = Pace(size=1000, least=10, most=4000)
    pace.took(0.3, begun=100.0)
    assert pace.size == 250  # a tenth would do, but no more than a quarter at a time
    assert pace.rest_until == pytest.approx(100.0 + 0.3 / CPU_SHARE)
    assert pace.window_s() == 5.0


# --- DAMON ----------------------------------------------------------------------------------


def admin(tmp_path: pathlib.Path, *, kdamonds: str = "0") -> Host:
    """sysfs as it is when everything of one kdamond with two targets is there."""
    root = tmp_path / ADMIN
    context = root / "0/contexts/0"
    files = [
        "0/state", "0/pid", "0/contexts/nr_contexts", "0/contexts/0/operations",
        *(f"0/contexts/0/monitoring_attrs/intervals/{n}_us" for n in ("sample", "aggr", "update")),
        *(f"0/contexts/0/monitoring_attrs/nr_regions/{n}" for n in ("min", "max")),
        "0/contexts/0/targets/nr_targets", "0/contexts/0/schemes/nr_schemes",
    ]  # fmt: skip
    for i in range(2):
        scheme = f"0/contexts/0/schemes/{i}"
        files += [f"0/contexts/0/targets/{i}/pid_target", f"{scheme}/action"]
        files += [f"{scheme}/apply_interval_us", f"{scheme}/filters/nr_filters"]
        files += [f"{scheme}/filters/0/{n}" for n in ("type", "damon_target_idx", "matching")]
        files += [f"{scheme}/stats/{n}" for n in ("nr_tried", "sz_tried")]
        for name in ("sz", "nr_accesses", "age"):
            files += [f"{scheme}/access_pattern/{name}/{n}" for n in ("min", "max")]
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    (root / "nr_kdamonds").write_text(kdamonds)
    (root / "0/pid").write_text("777")
    for number, (hits, size) in enumerate(((25, 25 << 20), (0, 0))):
        (context / f"schemes/{number}/stats/nr_tried").write_text(str(hits))
        (context / f"schemes/{number}/stats/sz_tried").write_text(str(size))
    for pid, group in ((11, "a"), (12, "b")):
        (tmp_path / "cg" / group).mkdir(parents=True)
        (tmp_path / "cg" / group / "cgroup.procs").write_text(f"{pid}\n")
        (tmp_path / f"proc/{pid}").mkdir(parents=True)
        status = f"Name:\tx\nVmSize:\t 204800 kB\nVmRSS:\t {102400 + pid} kB\n"
        (tmp_path / f"proc/{pid}/status").write_text(status)
    (tmp_path / "proc/777").mkdir()
    (tmp_path / "proc/777/schedstat").write_text("5000000 0 0\n")
    return Host(tmp_path)


def text(host: Host, name: str) -> str:
    return pathlib.Path(host.path(f"{ADMIN}/{name}")).read_text()


def test_damon_counts_what_its_schemes_saw(tmp_path: pathlib.Path) -> None:
    host = admin(tmp_path)
    watch = Damon(host, "cg")
    assert text(host, "nr_kdamonds") == "1"
    watch.poll(["a", "b"])
    assert watch.round is not None
    assert text(host, "0/contexts/0/targets/0/pid_target") == "12"  # the larger one
    assert text(host, "0/contexts/0/monitoring_attrs/nr_regions/min") == "256"  # 512 for the two
    watch.round.thread.join()
    watch.round.ended = watch.round.begun + 1.1
    found = {look.group: look for look in watch.poll(["a", "b"])}
    assert found["b"].touched == 25 << 20
    assert found["b"].error == pytest.approx((1 << 20) * 5)  # 25 regions of 1 MiB
    assert found["a"].touched == 0
    assert found["a"].watched == (102400 + 11) << 10
    assert found["b"].kind == "mapped"
    assert text(host, "0/state") == "off"
    assert watch.close() == pytest.approx(0.005)
    assert text(host, "nr_kdamonds") == "0"


def test_counts_that_came_too_late_are_left_out(tmp_path: pathlib.Path) -> None:
    watch = Damon(admin(tmp_path), "cg")
    watch.poll(["a", "b"])
    assert watch.round is not None
    watch.round.thread.join()
    watch.round.ended = watch.round.begun + 2.5  # two windows of 1 s have been counted
    assert watch.poll(["a", "b"]) == []
    watch.close()


def test_somebody_elses_kdamond_is_left_alone(tmp_path: pathlib.Path) -> None:
    host = admin(tmp_path, kdamonds="1")
    assert Damon.missing(host) == "DAMON is in use (1 kdamonds), and left alone"
    with pytest.raises(OSError, match="somebody has a kdamond"):
        Damon(host, "cg")
    assert text(host, "nr_kdamonds") == "1"
    assert text(host, "0/contexts/0/operations") == ""


def test_what_somebody_took_over_is_not_removed(tmp_path: pathlib.Path) -> None:
    host = admin(tmp_path)
    watch = Damon(host, "cg")
    mark = pathlib.Path(host.path(f"{ADMIN}/0/contexts/0/{damon.MARK}"))
    mark.write_text("4294967295")
    watch.close()
    assert text(host, "nr_kdamonds") == "1"
    assert text(host, "0/state") == ""


def test_a_recorder_that_is_killed_leaves_no_kdamond(tmp_path: pathlib.Path) -> None:
    host = admin(tmp_path)
    pid = os.fork()
    if not pid:
        Damon(host, "cg")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    until = time.monotonic() + 10.0
    while text(host, "nr_kdamonds") != "0" and time.monotonic() < until:
        time.sleep(0.02)
    assert text(host, "nr_kdamonds") == "0"
    assert text(host, "0/state") == "off"


def test_without_root_or_kernel_support_it_says_what_is_missing(tmp_path: pathlib.Path) -> None:
    host = Host(unpack("v2", tmp_path))
    assert "CONFIG_IDLE_PAGE_TRACKING" in IdlePages.missing(host)
    assert "CONFIG_DAMON_SYSFS" in Damon.missing(host)


def test_asking_for_what_there_is_not_is_an_error(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(IdlePages, "missing", staticmethod(lambda _: "none here"))
    out = str(tmp_path / "out")
    result = CliRunner().invoke(cli, ["record", "--working-set", "idle", "--out", out])
    assert result.exit_code == 2
    assert "--working-set idle: none here" in result.output
    assert not (tmp_path / "out").exists()


# --- in a recording ---------------------------------------------------------------------------


class Seen:
    """A watcher that sees the same at each poll."""

    method = "idle"

    def poll(self, groups: Any) -> list[Look]:
        assert "app.slice/db" in set(groups)
        return [
            Look("app.slice/db", "idle", "anon", window, share * 1e8, 1e8, 1e6)
            for window, share in ((1.0, 0.095), (5.0, 0.393), (20.0, 0.865))
        ]

    def close(self) -> float:
        return 0.25


def test_what_was_watched_becomes_the_access_of_the_profile(tmp_path: pathlib.Path) -> None:
    root = unpack("v2", tmp_path)
    out = tmp_path / "out"
    taken = Recorder(out, 0.05, 0.4, root=root, watcher=Seen())
    taken.start()
    record_profile.begin(out, root)
    assert taken.run().kernel_s == 0.25
    record_profile.finish(out)
    assert set(read_watched(out / WATCHED)) == {"app.slice/db"}
    text = (out / "profiles" / "db.yaml").read_text(encoding="utf-8")
    assert "working set of anonymous memory (idle page tracking, 95 %): 9.5 MiB (+-" in text
    rate = re.search(r"access rate of it: ([\d.]+) MiB/s, [\d.]+ MiB to", text)
    assert rate is not None
    assert float(rate[1]) == pytest.approx(10.0, rel=0.05)
    trace = load(out / "node.yaml").profiles["db"].processes["recorded"].trace
    assert trace is not None
    assert trace.access is not None
    assert trace.access.pattern == "uniform"
    assert trace.access.rate == pytest.approx(0.1 * 100 * 2**20, rel=0.05)  # 0.1 of 100 MiB/s


def test_a_part_in_use_is_a_process_of_its_own(tmp_path: pathlib.Path) -> None:
    root = unpack("v2", tmp_path)
    out = tmp_path / "out"
    taken = Recorder(out, 0.05, 0.2, root=root)
    taken.start()
    record_profile.begin(out, root)
    taken.run()
    lines = ["time,group,method,kind,window,touched,watched,error"]
    lines += [f"1,app.slice/db,damon,mapped,{t},2e7,1e8,1e6" for t in (1, 5, 20)]
    (out / WATCHED).write_text("\n".join([*lines, "torn,app.sl"]))
    record_profile.finish(out)
    spec = load(out / "node.yaml")
    processes = spec.profiles["db"].processes
    hot, cold = processes["recorded-hot"].trace, processes["recorded-cold"].trace
    assert hot is not None
    assert cold is not None
    assert hot.scale.constant == pytest.approx(0.2, abs=0.01)
    assert cold.scale.constant == pytest.approx(1.0 - hot.scale.constant)
    assert hot.access is not None
    assert cold.access is not None
    assert (hot.access.pattern, cold.access.pattern) == ("uniform", "idle")


def test_rounds_that_scatter_make_the_share_less_sure() -> None:
    steady, wild = Watched("idle"), Watched("idle")
    for touched in (10.0, 50.0, 90.0):
        steady.add(1.0, 50.0, 100.0, 1.0)
        wild.add(1.0, touched, 100.0, 1.0)
    assert steady.shares[0].share == wild.shares[0].share == 0.5
    assert wild.shares[0].error > 10 * steady.shares[0].error
