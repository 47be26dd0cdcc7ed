"""What capplan wrote in a guest is brought out whole, with its times on the guest's clock."""

from __future__ import annotations

import json
import pathlib

import pytest

import lab.__main__ as cli
from lab import machine
from lab.kernels import Kernel
from tests.lab.test_lab_trace import _record

T0_S = 19.5
CAPTURE_S, RECORD_S, JOB_S = 35.168, 25.178, 50.014


@pytest.fixture
def committed(root: pathlib.Path) -> pathlib.Path:
    """What a guest had found."""
    return root / "tests" / "observed" / "busy-node-6.12"


def said(committed: pathlib.Path, *events: str) -> bytes:
    """The stream of a guest that found what was committed."""
    files = {
        str(path.relative_to(committed)): path.read_text(encoding="utf-8")
        for part in ("capture", "record")
        for path in sorted((committed / part).rglob("*"))
        if path.is_file()
    }
    found = {
        "capture_s": T0_S + CAPTURE_S,
        "record_s": T0_S + RECORD_S,
        "said": "C027: ...\n71 samples in 74.5 s; took 0.73 % of a CPU and 17.1 MB\n",
        "files": files | {"record/start.json": "{}"},
    }
    text = json.dumps(found)
    half = len(text) // 2
    parts = [_record(0, "clock", "t0", f"{T0_S * 1e9:.0f}"), _record(1, "sample")]
    parts += [_record(2, "event", "-", event) for event in events]
    parts += [_record(3, "kmsg", "-", "12,500,900000,-;lab: t0\n")]
    parts += [_record(4, "fetched", "/files/lab/log", "Traceback: no such thing\n")]
    parts += [_record(4, "fetched", "/files/lab/found.json", t) for t in (text[:half], text[half:])]
    return b"".join(parts) + _record(112_000_000, "end")


def check(
    monkeypatch: pytest.MonkeyPatch, stream: bytes, out: pathlib.Path
) -> tuple[int, pathlib.Path]:
    """Run the command on what a guest says; its exit code, and where the result is."""
    kernel = Kernel("6.12.117+deb12-amd64", out, None)
    monkeypatch.setattr(cli, "find_kernel", lambda which, modules=None: kernel)
    monkeypatch.setattr(machine, "run", lambda scenario, kernel, seed: stream)
    return cli.main(["capture-check", "--kernel", "6.12", "--out", str(out)]), (
        out / "busy-node-6.12"
    )


@pytest.mark.slow
def test_capture_check_prints_the_errors_and_keeps_what_makes_them(
    committed: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = said(committed, f"{JOB_S * 1e6:.0f} start job 138")
    code, folder = check(monkeypatch, stream, tmp_path)
    out = capsys.readouterr().out
    assert code == 0
    assert out.splitlines()[-1] == str(folder)
    assert "cgroup.batch.slice.memory.swap.current" in out
    runs = json.loads((folder / "observed.json").read_text(encoding="utf-8"))["runs"]
    assert [run["capture_s"] for run in runs] == [CAPTURE_S] * 2
    assert (runs[0]["record_s"], runs[0]["next_s"]) == (RECORD_S, JOB_S)
    assert runs[0]["said"].startswith("71 samples")
    assert not (folder / "record" / "start.json").exists()
    for name in ("capture/node.yaml", "record/profiles/cache.yaml", "record/trace.csv"):
        assert (folder / name).read_bytes() == (committed / name).read_bytes()


def test_a_command_that_failed_in_the_guest_is_quoted(
    committed: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = said(committed, "88000000 error /lab/observe ended with status 256")
    code, folder = check(monkeypatch, stream, tmp_path)
    assert code == 2
    told = capsys.readouterr().err
    assert "/lab/observe ended with status 256" in told
    assert "Traceback: no such thing" in told
    assert not folder.exists()
