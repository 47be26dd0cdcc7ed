"""What the guest says, taken apart, and the recording that it becomes."""

from __future__ import annotations

import pathlib

import pytest

from lab import trace
from lab.kernels import LabError
from lab.scenario import load
from lab.truth import boot_of, truth_of
from tests.lab.test_lab_scenario import SMALL

ZONEINFO = """\
Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 100
  pages free     3808
        boost    0
        min      178
        low      222
        high     266
        spanned  4095
        present  3998
        managed  3840
        cma      0
        protection: (0, 931, 931, 931, 931)
      nr_free_pages 3808
  pagesets
    cpu: 0
              count: 0
              high:  13
Node 0, zone    DMA32
  pages free     228846
        boost    0
        min      11085
        low      13856
        high     16627
        spanned  258012
        present  258012
        managed  241525
        protection: (0, 0, 0, 0, 0)
  pagesets
    cpu: 0
              count: 700
              high:  13856
    cpu: 1
              count: 41
              high:  13856
Node 0, zone   Normal
  pages free     0
        min      0
        low      0
        high     0
        spanned  0
        present  0
        managed  0
        protection: (0, 0, 0, 0, 0)
"""
BUDDYINFO = (
    "Node 0, zone      DMA      0      0      0      0      0      1      1      1      0      1"
    "      3 \nNode 0, zone    DMA32      0      1      1      1      2      2      2      2"
    "      2      1    222 \n"
)
KMSG = (
    "12,500,900000,-;lab: t0\n4,501,7158000,-;alloc invoked oom-killer: gfp_mask=0xcc0\n"
    "6,502,7159000,-;CPU: 0\n"
    "3,503,7160000,-;Memory cgroup out of memory: Killed process 91 (alloc) total-vm:155084kB, "
    "anon-rss:102816kB, file-rss:4kB\n"
)


def _record(t_us: int, kind: str, name: str = "-", text: str = "") -> bytes:
    return b"\x1e%d %s %s %d\n%s\n" % (t_us, kind.encode(), name.encode(), len(text), text.encode())


def stream() -> bytes:
    """A short run, as the guest tells it."""
    boot = {
        "/proc/version": "Linux version 6.1.0-56-amd64 (x)",
        "/proc/zoneinfo": ZONEINFO,
        "/proc/buddyinfo": BUDDYINFO,
        "/proc/meminfo": "MemTotal:  981460 kB\nActive(anon):   8 kB\nBounce: 5 kB\n",
        "/proc/sys/vm/min_free_kbytes": "45056\n",
        "/proc/sys/vm/swappiness": "60\n",
        "/proc/sys/vm/overcommit_memory": "1\n",
    }
    parts = [_record(0, "boot", path, text) for path, text in boot.items()]
    for t_us, free, pages in ((0, 900, 10), (250000, 800, 0)):
        parts += [
            _record(t_us, "sample"),
            _record(t_us + 9, "file", "/proc/meminfo", f"MemFree: {free} kB\n"),
            _record(t_us + 9, "file", "/cg/p/a/memory.current", "4096\n"),
            _record(t_us + 9, "file", "/cg/p/a/memory.pressure", "some avg10=0.0 total=7\n"),
        ]
        if pages:
            parts.append(_record(t_us + 20, "file", "/proc/zoneinfo", ZONEINFO))
            parts.append(_record(t_us + 30, "statm", "alloc", f"20 {pages} 3 0 0 0 0"))
    parts.append(_record(250900, "event", "-", "100400 start alloc 91"))
    parts.append(_record(250900, "event", "-", "6253000 exit alloc signal 9"))
    parts.append(_record(251000, "kmsg", "-", KMSG))
    return b"noise" + b"".join(parts) + _record(20002000, "end")


def test_truth_has_the_events_of_guest_and_kernel_in_order() -> None:
    truth = truth_of(trace.read(stream()))
    assert [(event["t"], event["event"]) for event in truth["events"]] == [
        (0.1, "start"),
        (6.253, "exit"),
        (6.26, "oom_kill"),
    ]
    assert truth["events"][-1] | {"t": 0} == {
        "t": 0, "event": "oom_kill", "name": "alloc", "pid": 91, "anon_rss_kb": 102816,
        "scope": "memcg",
    }  # fmt: skip
    assert truth["end_s"] == 20.002
    assert [line["t"] for line in truth["kernel_log"]] == [6.258, 6.26]


def test_truth_has_series_of_one_length_with_gaps() -> None:
    series = truth_of(trace.read(stream()))["series"]
    assert series["t"] == [0.0, 0.25]
    assert series["meminfo_kb.MemFree"] == [900, 800]
    assert series["zone.DMA32.free"] == [228846, None]
    assert series["process.alloc.rss_pages"] == [10, None]
    assert series["cgroup.p/a.memory.current"] == [4096, 4096]
    assert series["cgroup.p/a.psi.some"] == [7, 7]
    assert {len(values) for values in series.values()} == {2}


def test_a_file_that_came_in_pieces_is_whole() -> None:
    parts = [_record(0, "clock", "t0", "19510725120"), stream().removesuffix(b"\n")]
    pieces = [_record(9, "fetched", "/files/lab/found.json", text) for text in ('{"a": ', "1}")]
    run = trace.read(b"".join([parts[0], *pieces, parts[1], b"\n"]))
    assert run.fetched == {"/files/lab/found.json": '{"a": 1}'}
    assert run.t0_s == pytest.approx(19.51072512)


def test_boot_has_populated_zones_with_their_own_marks(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SMALL, encoding="utf-8")
    boot = boot_of(trace.read(stream()), load(path))
    assert [zone["zone"] for zone in boot["zones"]] == ["DMA", "DMA32"]
    dma32 = boot["zones"][1]
    assert (dma32["min"], dma32["low"], dma32["high"]) == (11085, 13856, 16627)
    assert dma32["pcp"] == 741
    assert dma32["protection"] == [0] * 5
    assert boot["buddyinfo"]["DMA32"] == [0, 1, 1, 1, 2, 2, 2, 2, 2, 1, 222]
    assert boot["meminfo_kb"] == {"MemTotal": 981460, "Active(anon)": 8}
    assert boot["kernel"] == "6.1.0-56-amd64"
    assert boot["lru_gen_enabled"] == "0x0000"


def test_zones_of_two_nodes_are_told_apart() -> None:
    assert trace.zone_label(1, "Normal", 2) == "N1.Normal"
    assert trace.zone_label(0, "Normal", 1) == "Normal"


def test_a_stream_that_is_cut_off_is_refused() -> None:
    with pytest.raises(LabError, match="cut off"):
        trace.read(stream() + b"\x1e5 file /proc/meminfo 9999\nMem")


def test_a_stream_without_end_is_refused() -> None:
    with pytest.raises(LabError, match="has no end"):
        trace.read(stream().split(b"\x1e20002000")[0])


def test_a_log_without_its_mark_is_refused() -> None:
    with pytest.raises(LabError, match="lacks the mark"):
        trace.read(stream().replace(b"lab: t0", b"lab: t9"))
