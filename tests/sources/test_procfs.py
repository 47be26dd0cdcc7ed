"""procfs and cgroupfs texts: what real kernels print, and what nobody printed."""

from __future__ import annotations

import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capplan.sources import procfs
from capplan.sources.capture_machine import zone_of
from capplan.sources.cgroupfs import Group, own
from capplan.sources.procfs import Host

LINES = st.lists(
    st.text(max_size=60)
    | st.from_regex(r"Node [0-9]{1,3}, zone +(DMA|Normal)[ 0-9>]*", fullmatch=True)
    | st.from_regex(r" +(free|min|managed|count:|protection:) +[(0-9, )]{0,30}", fullmatch=True)
    | st.from_regex(r"[A-Za-z_]{1,9}:? +[0-9]{1,30}( kB)?", fullmatch=True),
    max_size=30,
).map("\n".join)
PARSERS = (
    procfs.parse_pairs,
    procfs.parse_meminfo,
    procfs.parse_zoneinfo,
    procfs.parse_buddyinfo,
    procfs.parse_pagetypeinfo,
    procfs.parse_lru_gen,
    procfs.parse_swaps,
    procfs.parse_pressure,
)


@given(LINES)
def test_parsers_never_raise(text: str) -> None:
    for parse in PARSERS:
        parse(text)
    for zone in procfs.parse_zoneinfo(text):
        if zone.marks.get("managed"):
            zone_of(zone, None, None)


def test_numbers_are_those_of_64_bits() -> None:
    assert procfs.number(" 42\n") == 42
    assert procfs.number("-1") == -1
    for text in ("", "4x", "1e3", "0x10", "٤", "9" * 40, "--1"):
        assert procfs.number(text) is None, text


def test_every_zoneinfo_of_the_evidence_reads(shared: pathlib.Path) -> None:
    folder = shared / "kernel-evidence" / "zoneinfo"
    texts = sorted(folder.glob("*.txt"))
    if not texts:
        pytest.skip("no kernel-evidence/zoneinfo")
    for path in texts:
        text = path.read_text(encoding="utf-8")
        zones = procfs.parse_zoneinfo(text)
        assert len(zones) == text.count(", zone "), path.name
        for zone in zones:
            if zone.marks["present"]:
                assert zone.marks["min"] <= zone.marks["low"] <= zone.marks["high"], path.name
                entry = zone_of(zone, None, None)
                assert entry["managed"] == zone.marks.get("managed", zone.marks["present"])


def test_every_buddyinfo_and_pagetypeinfo_of_the_evidence_reads(shared: pathlib.Path) -> None:
    folder = shared / "kernel-evidence" / "buddyinfo"
    if not folder.is_dir():
        pytest.skip("no kernel-evidence/buddyinfo")
    for path in sorted(folder.glob("buddyinfo_*.txt")):
        text = path.read_text(encoding="utf-8")
        assert len(procfs.parse_buddyinfo(text)) == text.count(", zone "), path.name
    whole = capped = 0
    for path in sorted(folder.glob("pagetypeinfo_*.txt")):
        text = path.read_text(encoding="utf-8")
        found = procfs.parse_pagetypeinfo(text)
        capped += ">" in text
        for types in found.values():
            whole += all(kind in types for kind in ("Unmovable", "Movable", "Reclaimable"))
    assert whole >= 30


def test_counts_that_the_kernel_capped_are_left_to_buddyinfo() -> None:
    text = (
        "Node    0, zone   Normal, type    Unmovable      1      0\n"
        "Node    0, zone   Normal, type      Movable >100000    7\n"
        "Node    0, zone      DMA, type      Movable      3      7\n"
    )
    assert procfs.parse_pagetypeinfo(text) == {(0, "DMA"): {"Movable": (3, 7)}}


def test_boost_is_no_part_of_the_marks() -> None:
    """min_wmark_pages() adds it, and zoneinfo prints that (mm/vmstat.c)."""
    text = "Node 0, zone Normal\n  pages free 9\n boost 512\n min 1512\n low 1762\n high 2012\n"
    zone = procfs.parse_zoneinfo(text + " managed 99999\n")[0]
    entry = zone_of(zone, (1, 2), None)
    assert [entry[name] for name in ("min", "low", "high", "boost")] == [1000, 1250, 1500, 512]


def test_larger_pages_count_as_several() -> None:
    zone = procfs.ZoneInfo(0, "Normal", {"managed": 10, "free": 4, "min": 1, "low": 2, "high": 3})
    entry = zone_of(zone, (4,), None, page_scale=16)
    assert (entry["managed"], entry["free"], entry["high"]) == (160, 64, 48)
    assert "buddyinfo" not in entry  # its orders are of other pages


def test_a_copied_tree_is_not_left(tmp_path: pathlib.Path) -> None:
    """A link or a pipe in a copied tree is not followed."""
    root = tmp_path / "root"
    (root / "proc").mkdir(parents=True)
    (tmp_path / "secret").write_text("MemTotal: 1 kB")
    (root / "proc" / "meminfo").symlink_to(tmp_path / "secret")
    (root / "proc" / "zoneinfo").mkdir()
    assert Host(root).read("proc/meminfo") == ""
    assert Host(root).read("proc/zoneinfo") == ""
    assert Host(root).read("../secret") == ""


def test_own_takes_off_what_is_below() -> None:
    groups = {
        "a": Group("a", 100, {"anon": 60, "file": 30}),
        "a/b": Group("a/b", 70, {"anon": 50, "file": 20}),
        "a/b/c": Group("a/b/c", 80, {"anon": 20, "file": 5}),  # read later: more than its parent
    }
    for group in groups.values():
        for name in ("shmem", "mapped", "swap", "slab_reclaimable", "active_file", "inactive_file",
                     "active_anon", "inactive_anon", "zswapped"):  # fmt: skip
            group.own[name] = 0
    own(groups)
    assert [groups[p].own["usage"] for p in groups] == [30, 0, 80]
    assert [groups[p].own["anon"] for p in groups] == [10, 30, 20]


LRU_GEN = """\
memcg     1 /
 node     0
          0      57388         42          29 
 node     1
          0      50000          1           2 
          1      40000          3           4 
memcg     3 /web slice/cache
 node     0
          1      46432          0       12192 
          2      46000          0x          0 
          3      45000      12305           0 
 node     1
"""  # noqa: W291 - the kernel's lines end so


def test_generations_are_read_by_group_and_nodes_are_added_up_from_the_youngest_on() -> None:
    found = procfs.parse_lru_gen(LRU_GEN)
    assert found["/"] == [(50000, 1, 2), (57388, 45, 33)]
    assert found["/web slice/cache"] == [(46432, 0, 12192), (45000, 12305, 0)]


def test_a_process_knows_its_age_whatever_its_name_is(tmp_path: pathlib.Path) -> None:
    (tmp_path / "proc" / "7").mkdir(parents=True)
    (tmp_path / "proc" / "uptime").write_text("100.50 50.00\n")
    (tmp_path / "proc" / "7" / "status").write_text("Name:\ta) 1 (b\nVmRSS:\t 4 kB\n")
    fields = " ".join(["S", *["0"] * 18, "4050", "0"])
    (tmp_path / "proc" / "7" / "stat").write_text(f"7 (a) 1 (b) {fields}\n")
    process = Host(tmp_path).process(7)
    assert process is not None
    assert process.age_s == pytest.approx(60.0)
    (tmp_path / "proc" / "7" / "stat").write_text("7 (cut")
    process = Host(tmp_path).process(7)
    assert process is not None
    assert process.age_s == 0.0
