"""below's CSV dumps become nodes whose containers follow them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import capplan
from capplan.cli.main import cli
from capplan.errors import InputError
from capplan.sources.below import read_dumps
from capplan.sources.below_node import draft_of
from capplan.sources.host import Host
from capplan.sources.write import write

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
# dump_csv ends every line in a comma; titles are default_configs.rs's
TITLES = "Name,Full Path,Mem,Mem Swap,Anon,File,Shmem,Mem Low,Mem Max,Swap Max,OOM Group,Timestamp,"
RAW = "\n".join(
    [
        TITLES,
        *(
            row
            for n in range(4)
            for row in (
                f"<root>,,?,?,{300 * MIB},{200 * MIB},0,?,?,?,?,{1000 + 5 * n},",
                f"app.slice,/app.slice,{200 * MIB},0,{99 * MIB},{99 * MIB},0,0,{GIB},-1,0,"
                f"{1000 + 5 * n},",
                f"web,/app.slice/web,{(100 + n) * MIB},{2 * MIB},{60 * MIB},{30 * MIB},{10 * MIB},"
                f"{50 * MIB},{400 * MIB},0,1,{1000 + 5 * n},",
                f"idle,/app.slice/idle,{64 * KIB},0,0,0,0,0,-1,-1,0,{1000 + 5 * n},",
            )
        ),
        "late,/late,?,?,?,?,?,?,?,?,?,1000,",
    ]
)
DEFAULT = """\
Name,Inode Number,Datetime,CPU Usage,Mem,Reads,Writes,\
CPU Some Pressure,Mem Pressure,I/O Pressure,Timestamp,
<root>,1,2026-03-01 10:00:00,1%,?,0 B/s,0 B/s,0.00%,0.00%,0.00%,1000,
system.slice,2,2026-03-01 10:00:00,1%,1.5 GB,0 B/s,0 B/s,0.00%,0.00%,0.00%,1000,
ssh.service,3,2026-03-01 10:00:00,1%,12.5 MB,0 B/s,0 B/s,0.00%,0.00%,0.00%,1000,
<root>,1,2026-03-01 10:00:05,1%,?,0 B/s,0 B/s,0.00%,0.00%,0.00%,1005,
system.slice,2,2026-03-01 10:00:05,1%,1.5 GB,0 B/s,0 B/s,0.00%,0.00%,0.00%,1005,
ssh.service,3,2026-03-01 10:00:05,1%,900.5 KB,0 B/s,0 B/s,0.00%,0.00%,0.00%,1005,
"""
SYSTEM = """\
Hostname,Datetime,Usage,User,System,Total,Free,Available,Swap Total,Kernel Version,Timestamp,
db-7,2026-03-01 10:00:00,3%,2%,1%,16777216000,1000,9000000000,2147483648,6.12.9-amd64,1000,
"""


def _file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_raw_groups_with_paths(tmp_path: Path) -> None:
    dump = read_dumps([_file(tmp_path, "c.csv", RAW)])
    assert dump.paths
    assert not dump.rounded
    node, *_ = write(draft_of(dump, Host(8 * GIB)), tmp_path / "out")
    spec = capplan.load(node)
    assert set(spec.containers) == {"web"}  # a slice is a group, 64 KiB is nothing
    web = spec.containers["web"]
    assert web.parent == "app.slice"
    assert web.written() == {
        "memory.max": 400 * MIB, "memory.low": 50 * MIB, "memory.swap.max": 0,
        "memory.oom.group": True,
    }  # fmt: skip
    assert spec.cgroup.groups["app.slice"].written() == {"memory.max": GIB}
    lines = (tmp_path / "out" / "traces" / "web.csv").read_text().splitlines()
    # swapped memory is still wanted; shmem is no cache that can be dropped
    assert lines[:2] == ["time,anon,file", f"0.0,{72 * MIB},{20 * MIB}"]
    assert len(lines) == 5
    assert spec.run.duration == 15 * 10**9


def test_default_columns_are_rounded_and_have_no_paths(tmp_path: Path) -> None:
    dump = read_dumps([_file(tmp_path, "c.csv", DEFAULT)])
    assert dump.rounded
    assert dump.groups["ssh.service"].sizes["usage"] == [12.5 * MIB, round(900.5 * KIB)]
    draft = draft_of(dump, Host(8 * GIB))
    assert list(draft.node["containers"]) == ["ssh.service"]
    assert "no Full Path" in str(draft.problems[0])
    assert draft.files["traces/ssh.service.csv"].startswith(f"time,usage\n0.0,{int(12.5 * MIB)}\n")


def test_the_system_dump_describes_the_machine(tmp_path: Path) -> None:
    files = [_file(tmp_path, "c.csv", RAW), _file(tmp_path, "s.csv", SYSTEM)]
    args = ["import", "below", *map(str, files), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, args, prog_name="capplan")
    assert result.exit_code == 0, result.stderr
    spec = capplan.load(tmp_path / "out" / "node.yaml")
    assert (spec.node.memory, spec.node.swap[0].size) == (16777216000, 2 * GIB)
    assert spec.node.kernel == "6.12.9-amd64"
    assert "late" not in spec.containers


def test_a_group_that_comes_and_goes(tmp_path: Path) -> None:
    rows = [
        f"{name},/{name},{50 * MIB},{at},"
        for at in range(0, 100, 5)
        for name, first, last in (("all", 0, 100), ("short", 30, 60))
        if first <= at < last
    ]
    text = "\n".join(["Name,Full Path,Mem,Timestamp,", *rows])  # fmt: skip
    draft = draft_of(read_dumps([_file(tmp_path, "c.csv", text)]), Host(8 * GIB))
    spec = capplan.load(write(draft, tmp_path / "out")[0])
    assert spec.containers["short"].start.constant == 30 * 10**9
    trace = spec.profiles["short"].processes["main"].trace
    assert trace is not None
    assert (trace.at_end, trace.measures) == ("exit", "usage")


@pytest.mark.parametrize(
    ("text", "message"),
    [("a,b\n1,2\n", "neither groups with Mem nor the system with Total"),
     ("Name,Mem,\nx,5,\n", "no Timestamp and no Datetime"),
     ("Name,Mem,Timestamp,\n", "there is no group"),
     (SYSTEM, "there is no group")],
)  # fmt: skip
def test_what_is_no_dump_of_groups_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_dumps([_file(tmp_path, "x.csv", text)])


def test_lines_that_do_not_fit_are_told(tmp_path: Path) -> None:
    text = RAW + "\nweb,/app.slice/web,5,\n" + RAW.splitlines()[3] + "\n"
    problems = [str(problem) for problem in read_dumps([_file(tmp_path, "c.csv", text)]).problems]
    assert ["4 cells under 13 titles: left out" in problems[0], len(problems)] == [True, 2]
    assert "time goes back" in problems[1]


_CELL = st.sampled_from(["?", "", "max", "-1", "12", "1.5 GB", "<root>", "/a/b", "x", "1e9", "nan"])
_TITLE = st.sampled_from(["Name", "Full Path", "Mem", "Anon", "File", "Timestamp", "Datetime",
                          "Mem Max", "OOM Group", "Total", "Free"])  # fmt: skip


@given(st.lists(_TITLE, max_size=8), st.lists(st.lists(_CELL, max_size=8), max_size=6))
def test_no_dump_makes_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, titles: list[str], rows: list[list[str]]
) -> None:
    text = "\n".join(",".join(row) for row in [["Name", "Mem", "Timestamp", *titles], *rows])
    path = _file(tmp_path_factory.mktemp("fuzz"), "c.csv", text)
    try:
        draft_of(read_dumps([path]), Host(GIB))
    except InputError:
        return
