"""Dask: a real scheduler and worker processes on loopback, one of them killed in the middle."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import capplan
from capplan.errors import InputError
from capplan.report.many import STORE
from tests.plan.test_runs import NODE

pytest.importorskip("distributed")

SWEEP = """\
capplan: 1
node: leak.yaml
replicates: 10
knobs: {containers.leak.memory.max: [48Mi, 56Mi, 64Mi, 96Mi, 1Xi]}
"""
START_S = 60.0


@contextlib.contextmanager
def process(*arguments: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A part of a cluster, ended with the block."""
    root = str(Path(capplan.__file__).resolve().parent.parent)
    with log.open("wb") as file:
        started = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": root},
        )
        try:
            yield started
        finally:
            started.kill()
            started.wait()


def address_in(log: Path) -> str:
    """The scheduler's address, once it says it."""
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        found = re.search(r"Scheduler at:\s+(tcp://127\.0\.0\.1:\d+)", log.read_text())
        if found:
            return found[1]
        time.sleep(0.1)
    raise TimeoutError(log.read_text())


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    (tmp_path / "leak.yaml").write_text(NODE)
    path = tmp_path / "limits.yaml"
    path.write_text(SWEEP)
    return path


def tables(result: capplan.SweepResult, folder: Path) -> dict[str, bytes]:
    result.write(folder)
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.csv"))}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # sockets of a killed worker
def test_dask_gives_the_same_tables_when_a_worker_is_killed(
    sweep_file: Path, tmp_path: Path
) -> None:
    local = tables(capplan.sweep(sweep_file, jobs=1), tmp_path / "local")
    log = tmp_path / "scheduler.txt"
    scheduler = ("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0")
    worker = ("--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1", "--no-nanny")
    with contextlib.ExitStack() as parts:
        parts.enter_context(process(*scheduler, "--no-dashboard", log=log))
        address = address_in(log)
        workers = [
            parts.enter_context(
                process("distributed.cli.dask_worker", address, *worker, log=tmp_path / f"w{i}.txt")
            )
            for i in range(2)
        ]
        killed = threading.Event()

        def kill_one(finished: int) -> None:
            if finished >= 5 and not killed.is_set():
                workers[0].send_signal(signal.SIGKILL)
                killed.set()

        store = tmp_path / "store"
        result = capplan.sweep(
            sweep_file, executor="dask", address=address, store=store, progress=kill_one
        )
        found = tables(result, tmp_path / "dask")
    assert killed.is_set()
    assert workers[0].returncode == -signal.SIGKILL
    assert found == local
    assert (store / STORE).exists()


def test_a_scheduler_that_does_not_answer_is_an_input_error(
    sweep_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capplan.plan.cluster.CONNECT_S", 0.2)
    with pytest.raises(InputError, match="no Dask scheduler answers at tcp://127"):
        capplan.sweep(sweep_file, executor="dask", address="tcp://127.0.0.1:9")
