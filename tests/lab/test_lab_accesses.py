"""What a guest's recorder saw of accesses is printed beside the truth."""

from __future__ import annotations

import json
import pathlib

import pytest

import lab.__main__ as cli
from capplan.sources.working_set import COLUMNS
from lab import machine
from lab.accesses import truth_of
from lab.kernels import Kernel
from lab.scenario import load
from tests.lab.test_lab_trace import _record

ROWS = "30,random.slice,damon,mapped,5.0,33e6,1e8,2e6\n30,read.slice,damon,mapped,5.0,0,1e6,1e4\n"


def test_truth_of_a_groups_processes(root: pathlib.Path) -> None:
    scenario = load(root / "lab" / "observed" / "accesses.yaml")

    def of(group: str, window_s: float) -> float:
        return truth_of([p for p in scenario.processes if p.cgroup == group], window_s)

    assert of("hot.slice", 1.0) == pytest.approx(0.2 * (1 - 2.718281828**-1))
    assert of("circle.slice", 4.0) == pytest.approx(0.5)
    assert of("circle.slice", 20.0) == 1.0
    assert of("idle.slice", 20.0) == 0.0
    assert of("read.slice", 3.0) == pytest.approx(0.5)


@pytest.mark.parametrize("left", [0, 1])
def test_access_check_prints_what_was_seen(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    left: int,
) -> None:
    table = ",".join(COLUMNS) + "\n" + ROWS
    found = {"said": "took 0.6 %", "kdamonds_left": left, "files": {"working-set.csv": table}}
    records = (
        (0, "clock", "t0", "19500000000"), (1, "sample"),
        (3, "kmsg", "-", "12,500,900000,-;lab: t0\n"),
        (4, "fetched", "/files/lab/found.json", json.dumps(found)), (225_000_000, "end"),
    )  # fmt: skip
    stream = b"".join(_record(*record) for record in records)  # type: ignore[arg-type]
    kernel = Kernel("6.12.117+deb12-amd64", tmp_path, None)
    monkeypatch.setattr(cli, "find_kernel", lambda which, modules=None: kernel)
    monkeypatch.setattr(machine, "run", lambda scenario, kernel, seed: stream)
    code = cli.main(["access-check", "--kernel", "6.12"])
    out, err = capsys.readouterr()
    if left:
        assert code == 2
        assert "accesses: 1 kdamonds were left behind" in err
        return
    assert code == 0
    # 100 MiB at random at 8 MiB/s: 1 - exp(-0.4) within 5 s; read(2) is not seen by DAMON
    assert "random.slice    mapped        5.0 s   33.0%   33.0% +- 3.9%" in out
    assert "read.slice" not in out
    assert out.splitlines()[-1] == "took 0.6 %"
