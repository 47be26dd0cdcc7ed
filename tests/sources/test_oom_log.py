"""OOM reports: prefixes, cuts, other messages between the lines, and nonsense."""

from __future__ import annotations

import gzip
import pathlib
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import capplan.api
from capplan.cli.main import cli
from capplan.plan.oom_report import choose
from capplan.report import oom_story
from capplan.sources.oom_log import parse
from capplan.sources.oom_node import draft_of
from capplan.sources.write import write
from capplan.spec import load

# A report as 6.1 prints it, written for this test; the figures add up.
NODE = """\
web invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0, oom_score_adj=0
CPU: 1 PID: 900 Comm: web Not tainted 6.1.0-18-amd64 #1  Debian 6.1.76-1
Hardware name: QEMU Standard PC
Call Trace:
 <TASK>
 dump_stack_lvl+0x44/0x5c
 </TASK>
Mem-Info:
active_anon:10000 inactive_anon:400000 isolated_anon:0
 active_file:300 inactive_file:200 isolated_file:0
 unevictable:0 dirty:0 writeback:0
 slab_reclaimable:2000 slab_unreclaimable:8000
 mapped:300 shmem:1000 pagetables:1200
 free:7000 free_pcp:100 free_cma:0
Node 0 active_anon:40000kB inactive_anon:1600000kB active_file:1200kB inactive_file:800kB
Node 0 DMA32 free:28000kB boost:0kB min:26000kB low:32500kB high:39000kB reserved_highatomic:0KB \
active_anon:40000kB inactive_anon:1600000kB present:2080000kB managed:2000000kB mlocked:0kB \
free_pcp:400kB local_pcp:200kB free_cma:0kB
lowmem_reserve[]: 0 0 0 0 0
Node 0 DMA32: 1000*4kB (UME) 500*8kB (UM) 250*16kB (M) 125*32kB (M) 0*64kB 0*128kB 0*256kB \
1*512kB (M) 1*1024kB (M) 1*2048kB (M) 2*4096kB (M) = 27776kB
1500 total pagecache pages
0 pages in swap cache
Free swap  = 0kB
Total swap = 0kB
520000 pages RAM
0 pages HighMem/MovableOnly
20000 pages reserved
Tasks state (memory values in pages):
[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name
[    300]     0   300     6000      500    65536        0          -250 systemd-journal
[    700]     0   700   400000   250000  2100000        0             0 db server
[    900]    33   900   300000   150000  1300000        0           100 web
[    950]     0   950     2000      100    49152        0         -1000 sshd
oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,\
task_memcg=/system.slice/db.service,task=db server,pid=700,uid=0
Out of memory: Killed process 700 (db server) total-vm:1600000kB, anon-rss:999000kB, \
file-rss:1000kB, shmem-rss:0kB, UID:0 pgtables:2050kB oom_score_adj:0
oom_reaper: reaped process 700 (db server), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB
"""
GROUP = """\
worker invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
CPU: 0 PID: 42 Comm: worker Not tainted 6.12.1 #1
memory: usage 102400kB, limit 102400kB, failcnt 77
swap: usage 0kB, limit 9007199254740988kB, failcnt 0
Memory cgroup stats for /app/job:
anon 100000000
file 1000000
kernel 3857600
shmem 0
file_mapped 0
Tasks state (memory values in pages):
[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents \
oom_score_adj name
[     41]     0    41     3000     1000     900       100         0    65536        0             \
0 shell
[     42]     0    42    90000    23600    23500       100         0   233472        0             \
0 worker
oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/app/job,\
task_memcg=/app/job,task=worker,pid=42,uid=0
Memory cgroup out of memory: Killed process 42 (worker) total-vm:360000kB, anon-rss:94000kB, \
file-rss:400kB, shmem-rss:0kB, UID:0 pgtables:228kB oom_score_adj:0
"""
PREFIXES = {
    "none": "",
    "dmesg": "[12345.678901] ",
    "dmesg with callers": "[12345.678901][  T900] ",
    "dmesg -T": "[Sun Nov 22 10:00:00 2026] ",
    "dmesg -r": "<4>[12345.678901] ",
    "dmesg -x": "kern  :warn  : [12345.678901] ",
    "journal": "Nov 22 10:00:00 node-1 kernel: ",
    "journal iso": "2026-11-22T10:00:00+0000 node-1 kernel: ",
    "syslog": "Nov 22 10:00:00 node-1 kernel: [12345.678901] ",
    "rsyslog": "2026-11-22T10:00:00.123456+01:00 node-1 kernel: [12345.678901] ",
}


def prefixed(text: str, prefix: str) -> list[str]:
    return [f"{prefix}{line}\n" for line in text.splitlines()]


def facts(report: Any) -> tuple[Any, ...]:
    victim = report.victim
    zones = [(z.zone, z.free_kb, z.min_kb, z.managed_kb, z.buddy) for z in report.zones]
    return (report.kernel, report.tasks, zones, victim.pid, report.memcg, report.counters)


@pytest.mark.parametrize("text", [NODE, GROUP], ids=["node", "group"])
@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
def test_prefixes_change_nothing(text: str, prefix: str) -> None:
    plain, found = parse(text.splitlines()), parse(prefixed(text, prefix))
    assert len(found) == 1
    assert facts(found[0]) == facts(plain[0])
    assert found[0].unknown == []


def test_what_a_report_says() -> None:
    report = parse(NODE.splitlines())[0]
    assert (report.trigger, report.order, report.kernel) == ("web", 0, "6.1.0-18-amd64")
    assert [task.name for task in report.tasks][1] == "db server"
    zone = report.zones[0]
    assert (zone.managed_kb, zone.free_pcp_kb, zone.buddy[0], zone.buddy[10]) == (
        2000000,
        400,
        1000,
        2,
    )
    assert report.totalram_pages == 500000
    assert report.meminfo["shmem"] == 1000
    assert report.victim is not None
    assert (report.victim.pid, report.victim.pgtables_kb) == (700, 2050)
    group = parse(GROUP.splitlines())[0]
    assert (group.memcg, group.counters["memory"].limit_kb) == ("/app/job", 102400)
    assert group.stat["file_mapped"] == 0


def test_other_messages_between_the_lines_are_told_and_harmless() -> None:
    lines = NODE.splitlines()
    mixed = [part for line in lines for part in (line, "usb 1-1: new high-speed USB device")]
    report = parse(mixed)[0]
    assert facts(report) == facts(parse(lines)[0])
    assert report.unknown[0] == (2, "usb 1-1: new high-speed USB device")


def test_several_reports_in_one_log_are_apart() -> None:
    found = parse([*NODE.splitlines(), "eth0: link up", *GROUP.splitlines(), *NODE.splitlines()])
    assert [report.is_memcg for report in found] == [False, True, False]
    assert [len(report.tasks) for report in found] == [4, 2, 4]


@given(st.integers(0, len(NODE) + len(GROUP)), st.integers(0, len(NODE)))
def test_a_log_may_be_cut_anywhere(end: int, begin: int) -> None:
    for report in parse((NODE + GROUP)[begin:end].splitlines()):
        told(report)


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from([*NODE.splitlines(), *GROUP.splitlines()])
        | st.text(max_size=80)
        | st.from_regex(r"\[ *[0-9]{1,12}\] +[0-9 -]{1,60} [a-z]{0,5}", fullmatch=True)
        | st.from_regex(r"memory: usage [0-9]{1,25}kB, limit [0-9]{1,25}kB, failcnt 1",
                        fullmatch=True),
        max_size=40,
    ),
    st.data(),
)  # fmt: skip
def test_no_log_makes_a_traceback(lines: list[str], data: st.DataObject) -> None:
    """Lines in any order, with digits turned about: read, judged, told, made a draft."""
    if lines:
        at = data.draw(st.integers(0, len(lines) - 1))
        lines[at] = lines[at].translate(str.maketrans("0123456789", "9071830265"))
    for report in parse(lines):
        told(report)


def told(report: Any) -> None:
    choice = choose(report) if report.tasks else None
    assert oom_story.tell(report, choice)
    if report.tasks:
        draft_of(report, "log")


def test_badness_is_the_kernels() -> None:
    choice = choose(parse(NODE.splitlines())[0])
    assert choice.total_pages == 500000
    points = {row.task.pid: row.points for row in choice.rows}
    # rss + page tables + adj thousandths of 500000 pages
    assert points[700] == 250000 + 512
    assert points[900] == 150000 + 317 + 100 * 500
    assert points[950] is None
    assert choice.chosen is not None
    assert (choice.chosen.pid, choice.agrees) == (700, True)


def test_explain_tells_why(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "dmesg.txt"
    log.write_text(NODE)
    shown = CliRunner().invoke(cli, ["explain", str(log)]).stdout
    assert "db server (700) was killed, 977 MiB resident" in shown
    assert "By these rules db server (700) is chosen, as the kernel did." in shown
    assert "<- killed" in shown
    log.write_text(NODE + GROUP)
    listed = CliRunner().invoke(cli, ["explain", str(log)]).stdout
    assert "2 OOM reports; name one" in listed
    second = CliRunner().invoke(cli, ["explain", str(log), "2"]).stdout
    assert "Group /app/job was at its limit when worker asked for memory" in second
    wrong = CliRunner().invoke(cli, ["explain", str(log), "3"])
    assert wrong.exit_code == 2
    assert "there is no report 3; it holds 2" in wrong.stderr


@pytest.mark.parametrize(
    ("text", "victim"), [(NODE, "tasks/db-server-700"), (GROUP, "job/worker-42")]
)
def test_the_imported_node_kills_the_same_process(
    tmp_path: pathlib.Path, text: str, victim: str
) -> None:
    log = tmp_path / "dmesg.txt"
    log.write_text(text)
    done = CliRunner().invoke(cli, ["import", "oom", str(log), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    node = tmp_path / "out" / "node.yaml"
    kills = [e for e in capplan.api.simulate(node).events if e.event == "oom_kill"]
    assert kills[0].name == victim
    # more room prevents it
    more = {"cgroup.groups.app/job.memory.max": "400Mi"} if text is GROUP else {
        "node.swap": "[{device: ssd, size: 4Gi}]"
    }  # fmt: skip
    again = capplan.api.simulate(capplan.api.load(node, settings=more))
    assert not [e for e in again.events if e.event == "oom_kill"]


def test_import_starts_from_the_state_at_the_kill(tmp_path: pathlib.Path) -> None:
    files = write(draft_of(parse(NODE.splitlines())[0], "log"), tmp_path)
    run = capplan.api.simulate(load(files[0], {"run.duration": "500ms"})).run
    assert run.series["zone.DMA32.free"][0] == 7000
    assert run.series["meminfo_kb.AnonPages"][0] == pytest.approx((410000 - 1000) * 4, rel=1e-3)
    assert run.series["meminfo_kb.Cached"][0] == (500 + 1000) * 4
    # 56 pages that buddyinfo and the free count differ by are blocks of 32, 16 and 8
    assert [run.series[f"zone.DMA32.order{o}"][0] for o in (0, 3, 4, 10)] == [1000, 126, 1, 2]


def test_a_log_without_a_report_is_refused(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "empty.txt"
    log.write_text("usb 1-1: new device\n")
    for command in (["import", "oom", str(log)], ["explain", str(log)]):
        done = CliRunner().invoke(cli, command)
        assert done.exit_code == 2
        assert "there is no OOM report in it" in done.stderr


def test_a_rotated_log_is_read_and_a_broken_one_refused(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "kern.log.2.gz"
    noise = b"usb 1-1: \xff\xfe\x00 " + b"x" * 200_000 + b"\r\n"
    log.write_bytes(gzip.compress(noise + NODE.replace("\n", "\r\n").encode() + noise))
    done = CliRunner().invoke(cli, ["explain", str(log)])
    assert done.exit_code == 0, done.stderr
    assert "was killed" in " ".join(done.stdout.split())
    log.write_bytes(log.read_bytes()[:100])
    done = CliRunner().invoke(cli, ["import", "oom", str(log), "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "cannot be read: Compressed file ended before" in done.stderr


def test_all_of_the_evidence_becomes_nodes(shared: pathlib.Path, tmp_path: pathlib.Path) -> None:
    texts = sorted((shared / "kernel-evidence" / "oom").glob("*.txt"))
    if not texts:
        pytest.skip("no kernel-evidence/oom")
    made = 0
    for path in texts:
        report = parse(path.read_text(encoding="utf-8", errors="replace").splitlines())[0]
        if report.tasks:
            write(draft_of(report, path.name), tmp_path / path.stem)
            made += 1
    assert made == 111  # the other nine have no task table
