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


LEFT_OUT = """
import numpy as np
from capplan.mm._jit import entry, jit

@jit
def inner(pages, unused, start, count):
    total = start
    for i in range(count):
        total += pages[i] // 7 if pages[i] > total else pages[i] * 3 - i
        if total % 13 == 5:
            pages[i] = total
        elif total % 17 == 3:
            pages[i] = total - count
        elif total % 19 == 4:
            pages[i] = total % 11 - count
        elif total % 23 == 4:
            pages[i] = total % 29 - count
        elif total % 31 == 4:
            pages[i] = total % 37 - count
        elif total % 41 == 4:
            pages[i] = total % 43 - count
    return total

@jit
def middle(pages, unused, start, count):
    total = inner(pages, unused, start, count) % 1000
    total += inner(pages, unused, total + 1, count - 2) % 1000
    total += inner(pages, unused, total ^ 3, count - 1) % 1000
    for i in range(9):
        total += inner(pages, unused, total + i, count) % 1000
        total -= inner(pages, unused, total * i, count - 3) % 1000
    return total

@entry
def top(pages, unused, start, count):
    return middle(pages, unused, start, count)

for function in (top, inner, middle):
    args = 7, 50, 90
    told = function(np.arange(100) * 37 % 101, *args)
    print(told == function.py_func(np.arange(100) * 37 % 101, *args))
"""


@compiled
def test_a_mechanism_called_after_an_entry_gets_all_its_arguments():
    """Inside the entry it lost those it does not need, and once was found there by its name."""
    assert _python(LEFT_OUT).split() == ["True"] * 3


SAME_NAME = """
from capplan.mm import _jit

def namesakes():
    @_jit.jit
    def triple(number):
        return 3 * number
    inner = triple
    @_jit.entry
    def triple(number):
        return inner(number) + 1
    return triple

print(namesakes()(5))
"""


@compiled
def test_an_entry_may_be_called_what_its_mechanism_is_called():
    """It was taken for the mechanism, kept for another to link, and never finished."""
    assert _python(SAME_NAME) == "16"


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
