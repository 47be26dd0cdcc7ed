"""Page operations: the engine's own functions against plain C at -O2, on the same log."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import median, one_core, report, seconds
from capplan.mm import state as s
from capplan.mm._jit import entry
from capplan.mm.buddy import alloc_block, buddy_init, free_block
from capplan.mm.lruvec import lru_add, lru_del
from capplan.mm.state import (
    LRU_ACTIVE_FILE,
    LRU_INACTIVE_FILE,
    LRU_NONE,
    MT_MOVABLE,
    PG_ACTIVE,
    PG_REFERENCED,
)

FRAMES = 262_144
OPERATIONS = 4_000_000
TIMES = 7


@entry
def replay(kernel, fr, op, arg):  # type: ignore[no-untyped-def]
    """Replay a log; the checksum of the pages it met (page_ops.c says what the ops are)."""
    k = kernel[0]
    lists = k.memcg[1].lruvec[0]
    total = 0
    for at in range(op.size):
        i = -1
        if op[at] == 0:
            i = alloc_block(k, fr, 0, 0, MT_MOVABLE)
            if i >= 0:
                fr[i].nr_pages = 1
                fr[i].memcg = 1
                lru_add(k, fr, i)
        elif op[at] == 1:
            i = arg[at]
            if fr[i].lru == LRU_NONE:
                i = -1
            elif not fr[i].flags & PG_REFERENCED:
                fr[i].flags |= PG_REFERENCED
            elif not fr[i].flags & PG_ACTIVE:
                lru_del(k, fr, i)
                fr[i].flags = PG_ACTIVE
                lru_add(k, fr, i)
        elif op[at] == 2:
            i = lists.tail[LRU_INACTIVE_FILE]
            if i >= 0:
                lru_del(k, fr, i)
                if fr[i].flags & PG_REFERENCED:
                    fr[i].flags = PG_ACTIVE
                    lru_add(k, fr, i)
                else:
                    fr[i].flags = 0
                    free_block(k, fr, 0, i, 0)
        else:
            i = lists.tail[LRU_ACTIVE_FILE]
            if i >= 0:
                lru_del(k, fr, i)
                fr[i].flags = 0
                lru_add(k, fr, i)
        total = total * 31 + i
    return total


def state() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """One zone of 1 GiB at g = 0, all free, and a group."""
    kernel = s.new_kernel()
    k = kernel[0]
    k.granule_pages = 1
    k.nr_memcgs = 2
    k.memcg[1].parent = 0
    k.nr_zones = 4
    zone = k.zone[0]
    zone.managed = zone.present = zone.spanned = zone.nr_frames = FRAMES
    frames = s.new_frames(FRAMES)
    buddy_init(k, frames, 0, FRAMES)
    return kernel, frames


def log() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Memory fills to 80 %, then allocations, touches, scans and frees in balance."""
    draws = np.random.default_rng(1)
    fill = int(FRAMES * 0.8)
    op = np.zeros(OPERATIONS, np.uint8)
    op[fill:] = draws.choice(4, OPERATIONS - fill, p=[0.25, 0.3, 0.35, 0.1])
    return op, draws.integers(0, FRAMES, OPERATIONS, dtype=np.int32)


class _Zone(ctypes.Structure):
    _fields_ = [
        ("free", ctypes.c_int64), ("frames", ctypes.c_int64),
        ("nr_free", ctypes.c_int64 * 44), ("head", ctypes.c_int32 * 44),
        ("tail", ctypes.c_int32 * 44), ("lru_pages", ctypes.c_int64 * 5),
    ]  # fmt: skip


class _Lruvec(ctypes.Structure):
    _fields_ = [
        ("pages", ctypes.c_int64 * 5), ("head", ctypes.c_int32 * 5), ("tail", ctypes.c_int32 * 5),
    ]  # fmt: skip


def c_replay(folder: Path) -> Callable[..., int]:
    """The C program, compiled here; called with the same state and log."""
    source = Path(__file__).with_suffix(".c")
    target = folder / "page_ops.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", str(source), "-o", str(target)], check=True)
    function = ctypes.CDLL(str(target)).replay
    function.restype = ctypes.c_int64

    def call(kernel: Any, frames: Any, op: Any, arg: Any) -> int:
        zone, groups = _Zone(), (_Lruvec * 2)()
        record = kernel[0].zone[0]
        zone.free, zone.frames = int(record.free), FRAMES
        for name in ("nr_free", "head", "tail"):
            getattr(zone, name)[:] = np.ravel(record[name]).tolist()
        for group in groups:
            group.head[:] = group.tail[:] = [-1] * 5
        return int(function(
            ctypes.c_void_p(frames.ctypes.data), ctypes.byref(zone), groups,
            ctypes.c_void_p(op.ctypes.data), ctypes.c_void_p(arg.ctypes.data),
            ctypes.c_int64(len(op)),
        ))  # fmt: skip

    return call


def _timed(function: Callable[..., int], op: Any, arg: Any) -> tuple[int, float]:
    kernel, frames = state()
    found: list[int] = []
    spent = seconds(lambda: found.append(int(function(kernel, frames, op, arg))), 1)
    return found[0], spent[0]


def main() -> None:
    """Both, in turn; the checksums must agree."""
    one_core()
    op, arg = log()
    with tempfile.TemporaryDirectory() as folder:
        functions = {"engine": replay, "C": c_replay(Path(folder))}
        sums: dict[str, int] = {}
        times: dict[str, list[float]] = {name: [] for name in functions}
        for _ in range(TIMES + 1):  # the first compiles
            for name, function in functions.items():
                sums[name], spent = _timed(function, op, arg)
                times[name].append(spent)
    if sums["engine"] != sums["C"]:
        raise SystemExit(f"checksums differ: {sums}")
    rates = {name: OPERATIONS / median(spent[1:]) / 1e6 for name, spent in times.items()}
    report("page_ops", [
        ("engine", rates["engine"], "M ops/s", ""),
        ("C, gcc -O2", rates["C"], "M ops/s", ""),
        ("engine / C", rates["engine"] / rates["C"], "", ">= 0.5"),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
