"""The emulated machine's own speeds, measured unpaced: ``calibration`` of a scenario.json.

Three boots: one for memory, files and swap, one for zswap, one with the classic LRU for what a
look at a mapped page costs. A speed is the pages of a phase over the time between the guest's
two words on it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab import machine, trace
from lab.initramfs import guest_stamp
from lab.kernels import CACHE, Kernel
from lab.plan import CGROUPS
from lab.scenario import Scenario
from lab.trace import Trace

PAGES_PER_MIB = 256
LIMIT = {"memory.max": "32Mi"}
LOOKED_AT_MIB = 64


def calibrate(kernel: Kernel, scenario: Scenario, tell: Callable[[str], None]) -> dict[str, float]:
    """Speeds of the machine that a scenario runs on, measured once and kept.

    Parameters
    ----------
    kernel : Kernel
    scenario : Scenario
        Its ``cpus`` and ``disk`` are the machine's.
    tell : callable
        Takes a line about what goes on.

    Returns
    -------
    dict
        MiB/s by name, as recordings have them; ``look_ns`` in nanoseconds.
    """
    # a kernel by path may have been built anew under the same release
    stamp = f"{kernel.image.stat().st_mtime_ns:x}-{guest_stamp()}"
    disk = f"{scenario.disk.latency_us}{'r' if scenario.disk.rotational else ''}"
    kept = CACHE / f"calibration-{kernel.release}-{scenario.cpus}-{disk}-{stamp}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    tell(f"measuring the emulated machine's speeds with {kernel.release} (three boots)")
    speeds = {
        name: float(f"{value:.4g}")
        for part in (_memory, _zswap, _look)
        for name, value in part(kernel, scenario).items()
    }
    CACHE.mkdir(parents=True, exist_ok=True)
    write_whole(kept, json.dumps(speeds, indent=1).encode())
    return speeds


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    scratch = path.with_name(path.name + ".new")
    scratch.write_bytes(data)
    scratch.rename(path)


def _run(kernel: Kernel, base: Scenario, **fields: Any) -> Trace:
    common = {"about": "", "ram_mib": 1024, "cpus": base.cpus, "disk": base.disk.model_dump()}
    scenario = Scenario.model_validate(common | fields, strict=False)
    return trace.read(machine.run(scenario, kernel, seed=1))


def _process(
    name: str, start_s: float, *phases: dict[str, Any], cgroup: str = "a"
) -> dict[str, Any]:
    return {"name": name, "cgroup": cgroup, "start_s": start_s, "phases": phases}


def _grow(mib: int, pct: int = 0) -> dict[str, Any]:
    return {"op": "anon", "mib": mib, "compressible_pct": pct}


def _memory(kernel: Kernel, base: Scenario) -> dict[str, float]:
    run = _run(
        kernel,
        base,
        name="calibration-memory",
        swap_mib=96,
        files={"f0": 32, "f1": 64},
        cgroups={"a": {}, "s": LIMIT},
        processes=[
            _process("fill", 1, _grow(64)),
            _process("one", 4, _grow(64)),
            _process("two", 4, _grow(64)),
            _process("reader", 9, {"op": "read_file", "file": "f0", "mib": 32}),
            _process(
                "seeker", 13, {"op": "random_read_file", "file": "f1", "mib": 64, "seconds": 1}
            ),
            _process("writer", 16, {"op": "write_file", "mib": 32}),
            _process(
                "swapper", 20, _grow(32), _grow(48), {"op": "touch_anon", "seconds": 5}, cgroup="s"
            ),
        ],
        duration_s=40,
    )
    speeds = {
        "fault_and_fill_mib_s": speed(run, "fill", 0),
        "fault_and_fill_two_tasks_mib_s_each": statistics.mean(
            speed(run, name, 0) for name in ("one", "two")
        ),
        "read_file_mib_s": speed(run, "reader", 0),
        "random_read_4k_mib_s": speed(run, "seeker", 0),
        "write_file_mib_s": speed(run, "writer", 0),
        "swap_out_while_growing_mib_s": speed(run, "swapper", 1),
        "swap_in_and_out_cyclic_mib_s_each": speed(run, "swapper", 2),
    }
    _, end_s, _ = _phase(run, "fill", 0)
    gone_s = next(at for at, words in run.events if words[:2] == ["exit", "fill"])
    return speeds | {"exit_free_exact_mib_s": 64 / (gone_s - end_s)}


def _zswap(kernel: Kernel, base: Scenario) -> dict[str, float]:
    run = _run(
        kernel,
        base,
        name="calibration-zswap",
        swap_mib=128,
        zswap={},
        cgroups={"s": LIMIT},
        processes=[
            _process(
                "swapper",
                1,
                _grow(32, 75),
                _grow(64, 75),
                {"op": "touch_anon", "seconds": 5},
                cgroup="s",
            )
        ],
        duration_s=30,
    )
    return {
        "zswap_store_while_growing_mib_s_at_75_pct": speed(run, "swapper", 1),
        "zswap_load_and_store_cyclic_mib_s_each": speed(run, "swapper", 2),
    }


def _look(kernel: Kernel, base: Scenario) -> dict[str, float]:
    """Reclaim that finds every page young looks at all of them before it takes one."""
    run = _run(
        kernel,
        base,
        name="calibration-look",
        swap_mib=96,
        write={"/sys/kernel/mm/lru_gen/enabled": "0"} if _has_lru_gen(kernel) else {},
        cgroups={"a": {}},
        processes=[_process("young", 1, _grow(LOOKED_AT_MIB), {"op": "hold", "seconds": 6})],
        changes=[{"at_s": 5, "cgroup": "a", "file": "memory.reclaim", "value": "131072"}],
        duration_s=9,
    )
    at = {words[0]: t for t, words in run.events if words[0].startswith("change")}
    counts = [
        trace.pairs(files[f"{CGROUPS}/a/memory.stat"])["pgscan"] for _, files, _ in run.samples
    ]
    return {"look_ns": (at["changed"] - at["change"]) * 1e9 / (counts[-1] - counts[0])}


def _has_lru_gen(kernel: Kernel) -> bool:
    """Whether the kernel has the multi-gen LRU at all (since 6.1)."""
    major, minor = (int(part) for part in kernel.release.split("-")[0].split(".")[:2])
    return (major, minor) >= (6, 1)


def speed(run: Trace, process: str, phase: int) -> float:
    """Pages of a phase over its time. [MiB/s]"""
    begin_s, end_s, pages = _phase(run, process, phase)
    return pages / PAGES_PER_MIB / (end_s - begin_s)


def _phase(run: Trace, process: str, phase: int) -> tuple[float, float, int]:
    words = {
        (entry[0], entry[1], entry[2]): (t, entry)
        for t, entry in run.events
        if entry[0] in ("begin", "end")
    }
    begin_s, _ = words["begin", process, str(phase)]
    end_s, last = words["end", process, str(phase)]
    return begin_s, end_s, int(last[3])
