"""The recorder: what it measures, what it costs, what it survives."""

from __future__ import annotations

import csv
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from capplan.errors import InputError
from capplan.sources import record_profile
from capplan.sources.record import COLUMNS, NODE, PROCESSES, TRACE, Recorder
from capplan.sources.record_profile import refault_rate
from capplan.spec import load
from tests.sources.hosts import unpack

MIB = 1 << 20
MAX_RSS = 30e6
MAX_SHARE = 0.01


def rows(folder: pathlib.Path) -> list[dict[str, str]]:
    with (folder / TRACE).open(newline="") as file:
        return list(csv.DictReader(file))


def recorder(
    tmp_path: pathlib.Path, name: str = "v2", **more: float
) -> tuple[Recorder, pathlib.Path]:
    root = unpack(name, tmp_path)
    return Recorder(tmp_path / "out", 0.05, 0.4, root=root, **more), root  # type: ignore[arg-type]


def test_a_sample_is_each_groups_own(tmp_path: pathlib.Path) -> None:
    taken, _ = recorder(tmp_path)
    taken.start()
    found = {row["group"]: row for row in rows(tmp_path / "out")}
    assert set(found) == {"app.slice", "app.slice/db", "app.slice/web", "system.slice", NODE}
    db = found["app.slice/db"]
    assert int(db["anon"]) == pytest.approx(100 * MIB, rel=0.01)
    assert int(db["shmem"]) == 20 * MIB
    assert int(db["file"]) == 0  # without shmem
    assert int(found["app.slice"]["anon"]) == 0  # what is below is not its own
    assert int(db["demand"]) == int(db["anon"]) + int(db["swap"])
    assert list(db) == list(COLUMNS)
    assert (tmp_path / "out" / PROCESSES).read_text().count("\n") == 5


def test_a_group_that_vanishes_ends_and_the_rest_goes_on(tmp_path: pathlib.Path) -> None:
    taken, root = recorder(tmp_path)
    taken.start()
    record_profile.begin(tmp_path / "out", root)
    for _ in range(4):
        time.sleep(0.05)
        taken.sweep()
    shutil.rmtree(root / "sys/fs/cgroup/app.slice/web")
    # a copied file stays readable after its removal; a kernel's does not
    taken.files.pop("app.slice/web").close()
    new = root / "sys/fs/cgroup/app.slice/late"
    shutil.copytree(root / "sys/fs/cgroup/app.slice/db", new)
    taken._rescan()
    for _ in range(6):
        time.sleep(0.05)
        taken.sweep()
    record_profile.finish(tmp_path / "out")
    spec = load(tmp_path / "out" / "node.yaml")
    gone = spec.profiles["web"].processes["recorded"].trace
    assert gone is not None
    assert gone.at_end == "exit"
    assert spec.containers["late"].start.middle >= 0.1e9
    assert "app.slice/late" in spec.cgroup.groups


def test_the_recorded_node_follows_what_was_recorded(tmp_path: pathlib.Path) -> None:
    import capplan.api

    taken, root = recorder(tmp_path)
    taken.start()
    stat = root / "sys/fs/cgroup/app.slice/db/memory.stat"
    text = stat.read_text()
    anon = int(text.split()[1])
    # the open file is the same: it is written in place
    with stat.open("r+") as file:
        file.write(f"anon {anon + 20 * MIB}\n" + text.split("\n", 1)[1])
    taken.duration_s = 2.0
    taken.interval_s = 0.2
    record_profile.begin(tmp_path / "out", root)
    taken.run()
    record_profile.finish(tmp_path / "out")
    run = capplan.api.simulate(tmp_path / "out" / "node.yaml").run
    found = run.series["cgroup.app.slice/db.stat.anon"]
    assert found[0] == pytest.approx(anon, rel=0.01)
    assert found[-1] == pytest.approx(anon + 20 * MIB, rel=0.01)


def test_what_was_touched_bounds_the_working_set(tmp_path: pathlib.Path) -> None:
    taken, root = recorder(tmp_path)
    taken.start()
    with (tmp_path / "out" / PROCESSES).open("a") as file:
        file.write(f"9.0,1,a,app.slice/web,0,{30 * MIB},0,0,0,0,{10 * MIB}\n")
        file.write(f"9.0,2,b,app.slice/web,0,{20 * MIB},0,0,0,0,{5 * MIB}\nhalf a li")
    taken.sweep()
    record_profile.begin(tmp_path / "out", root)
    text = (tmp_path / "out" / "profiles" / "web.yaml").read_text()
    assert "working set: at most 15.0 MiB of the 50.0 MiB that its processes map" in text


def test_page_cache_that_was_read_again_is_in_use(tmp_path: pathlib.Path) -> None:
    """600 refaults in 10 s: at least 60 pages a second are read."""
    taken, root = recorder(tmp_path)
    taken.start()
    path = tmp_path / "out" / TRACE
    first = next(row for row in rows(tmp_path / "out") if row["group"] == "app.slice/web")
    at = float(first["time"]) + 10
    later = first | {"time": f"{at:.3f}", "refault_file": str(int(first["refault_file"]) + 600)}
    taken.sweep()
    lines = [line for line in path.read_text().splitlines(keepends=True) if "web" not in line]
    pair = [",".join(row[name] for name in COLUMNS) + "\n" for row in (first, later)]
    path.write_text("".join([*lines, *pair]))
    record_profile.begin(tmp_path / "out", root)
    spec = load(tmp_path / "out" / "node.yaml")
    trace = spec.profiles["web"].processes["recorded"].trace
    assert trace is not None
    assert trace.access is None
    assert trace.file_access is not None
    assert trace.file_access.rate == pytest.approx(60 * 4096)


def test_a_torn_line_is_cut_off(tmp_path: pathlib.Path) -> None:
    taken, root = recorder(tmp_path)
    taken.start()
    record_profile.begin(tmp_path / "out", root)
    taken.run()
    whole = (tmp_path / "out" / TRACE).read_text()
    (tmp_path / "out" / TRACE).write_text(whole + "0.9,app.slice/db,10")
    record_profile.finish(tmp_path / "out")
    assert (tmp_path / "out" / TRACE).read_text() == whole
    load(tmp_path / "out" / "node.yaml")


def test_finish_without_a_recording_says_so(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match="no recording"):
        record_profile.finish(tmp_path)


def test_refault_rate_worked_example() -> None:
    rate = refault_rate(1000, 0.25, 100)
    assert rate is not None
    assert rate.rate == pytest.approx(40 * 4096)
    assert (rate.low, rate.high) == (
        pytest.approx(40 * 4096 * (1 - 0.062), rel=1e-3),
        pytest.approx(40 * 4096 * (1 + 0.062), rel=1e-3),
    )
    assert refault_rate(1000, 0.0, 100) is None
    none = refault_rate(0, 0.5, 60)
    assert none is not None
    assert (none.rate, none.low) == (0, 0)
    assert none.high == pytest.approx(3 * 4096 / 30)


def test_recorder_imports_nothing_heavy() -> None:
    code = (
        "import sys\nimport capplan.sources.record, capplan.cli.record\n"
        "heavy = ('numpy', 'pandas', 'pydantic', 'numba', 'yaml', 'rich')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_capture_and_its_files_need_no_array_library(tmp_path: pathlib.Path) -> None:
    """numpy and pandas take 60 MB and, on a slow node, seconds: what loads a node file has none."""
    root = unpack("v2", tmp_path)
    code = (
        "import sys\n"
        "from capplan.sources import capture, record_profile, write\n"
        f"write.write(capture.capture({str(root)!r}), {str(tmp_path / 'out')!r})\n"
        "print([name for name in ('numpy', 'pandas', 'numba') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _start(folder: pathlib.Path, duration: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "capplan",
        "record",
        "--interval",
        "1s",
        "--duration",
        duration,
    ]
    return subprocess.Popen(
        [*command, "--out", str(folder)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


needs_linux = pytest.mark.skipif(
    not pathlib.Path("/proc/zoneinfo").exists() or not hasattr(os, "pread"), reason="no Linux host"
)


@needs_linux
@pytest.mark.slow
def test_recording_this_host_costs_less_than_was_promised(tmp_path: pathlib.Path) -> None:
    begin = time.monotonic()
    process = _start(tmp_path / "r", "12s")
    _, told = process.communicate(timeout=200)
    assert process.returncode == 0, told
    assert time.monotonic() - begin >= 11
    line = next(text for text in told.splitlines() if "samples in" in text)
    share, size = (float(word) for word in line.split("took ")[1].split() if _is_number(word))
    assert share / 100 < MAX_SHARE, line
    assert size * 1e6 < MAX_RSS, line
    assert len({row["time"] for row in rows(tmp_path / "r")}) >= 3
    load(tmp_path / "r" / "node.yaml")


def _is_number(word: str) -> bool:
    return word.replace(".", "").isdigit()


@needs_linux
@pytest.mark.slow
def test_what_was_recorded_survives_a_kill(tmp_path: pathlib.Path) -> None:
    process = _start(tmp_path / "r", "10min")
    trace, node = tmp_path / "r" / TRACE, tmp_path / "r" / "node.yaml"
    for _ in range(600):
        if node.exists() and len({row["time"] for row in rows(tmp_path / "r")}) >= 3:
            break
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert trace.read_text().endswith("\n")
    load(node)  # usable as it is
    finished = subprocess.run(
        [sys.executable, "-m", "capplan", "record", "--finish", "--out", str(tmp_path / "r")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert 1e9 <= load(node).run.duration < 600e9
