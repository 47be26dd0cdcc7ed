"""The compiled engine as a file: written whole, refused when damaged, loaded without numba."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from capplan.mm import _jit, _jit_object

compiled = pytest.mark.skipif(not _jit.ENABLED, reason="CAPPLAN_JIT=0: nothing is compiled")

WARM = """
import sys
import capplan
from capplan.cli.options import shipped_profiles
node = capplan.load(shipped_profiles() / "nodes" / "worker.yaml", duration="1s")
print(capplan.simulate(node).fits, "numba" in sys.modules)
"""


@compiled
def test_a_warm_start_does_not_import_numba():
    outputs = [_python(WARM) for _ in range(2)]  # the first one may have to compile
    assert outputs[1] == "True False"


def _python(source: str) -> str:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        capture_output=True, text=True, check=True, env=dict(os.environ),
    )  # fmt: skip
    return run.stdout.strip()


@compiled
def test_a_damaged_file_is_no_engine(tmp_path):
    path = tmp_path / "engine.o"
    _jit_object.save(path, "symbol", b"code that no linker ever sees")
    path.write_bytes(path.read_bytes()[:-1])
    assert _jit_object.load(path) is None
    assert _jit_object.load(tmp_path / "missing.o") is None


def test_the_hash_names_the_cpu(monkeypatch):
    before = _jit.source_hash.__wrapped__()
    monkeypatch.setattr(_jit_object, "host_cpu", lambda: "another CPU")
    assert _jit.source_hash.__wrapped__() != before


def test_saving_leaves_no_temporary_file(tmp_path):
    _jit_object.save(tmp_path / "engine.o", "symbol", b"code")
    assert [path.name for path in tmp_path.iterdir()] == ["engine.o"]
