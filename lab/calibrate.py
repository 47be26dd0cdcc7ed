"""The emulated machine's own speeds, measured unpaced: ``calibration`` of a scenario.json.

Four boots: one for memory, files and swap, one for zswap, two with the classic LRU for what a
look at a mapped page and a visit of a group cost. A speed is the pages of a phase over the time
between the guest's two words on it.
"""

from __future__ import annotations

import errno
import json
import statistics
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from capplan.release import features
from lab import machine, trace
from lab.initramfs import guest_stamp
from lab.kernels import CACHE, Kernel, LabError
from lab.plan import CGROUPS
from lab.scenario import Scenario
from lab.trace import Trace

PAGES_PER_MIB = 256
LIMIT = {"memory.max": "32Mi"}
LOOKED_AT_MIB = 64
# a write to memory.reclaim that finds nothing fails after these (memory_reclaim, shrink_node)
MAX_RECLAIM_RETRIES = 16
DEF_PRIORITY = 12
VISITED = {"few": 4, "many": 12}  # children of each parent, a process in each
VISITS = 5  # the first finds cold lists
HOLD = {"op": "hold", "seconds": 60}


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
        MiB/s by name, as recordings have them; ``look_ns`` and ``visit_ns`` in nanoseconds.
    """
    # a kernel by path may have been built anew under the same release
    measured_by = f"{guest_stamp()}-{zlib.crc32(Path(__file__).read_bytes()):08x}"
    stamp = f"{kernel.image.stat().st_mtime_ns:x}-{measured_by}"
    disk = f"{scenario.disk.latency_us}{'r' if scenario.disk.rotational else ''}"
    kept = CACHE / f"calibration-{kernel.release}-{scenario.cpus}-{disk}-{stamp}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    tell(f"measuring the emulated machine's speeds with {kernel.release} (four boots)")
    speeds = {
        name: float(f"{value:.4g}")
        for part in (_memory, _zswap, _look, _visit)
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
        write=_classic_lru(kernel),
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


def _visit(kernel: Kernel, base: Scenario) -> dict[str, float]:
    """Reclaim in vain only visits the groups, priority after priority.

    Each holds anonymous memory that cannot go anywhere. A group that no process was ever in costs
    a fifth of it (docs/lab.md).
    """
    groups = [f"{parent}/{number}" for parent, nr in VISITED.items() for number in range(nr)]
    run = _run(
        kernel,
        base,
        name="calibration-visit",
        write=_classic_lru(kernel),
        cgroups={group: {} for group in (*VISITED, *groups)},
        processes=[
            _process(group.replace("/", "_"), 0, _grow(1), HOLD, cgroup=group) for group in groups
        ],
        changes=[
            # between two samples
            {"at_s": at_s + 0.1, "cgroup": parent, "file": "memory.reclaim", "value": "131072"}
            for number in range(VISITS)
            for at_s, parent in zip((2 + number, 2.5 + number), VISITED, strict=True)
        ],
        duration_s=2 + VISITS,
    )
    took_s = {
        nr: _took_s(run, f"{CGROUPS}/{parent}/memory.reclaim") for parent, nr in VISITED.items()
    }
    return {"visit_ns": visit_ns(took_s, vain_passes(kernel.release))}


def vain_passes(release: str) -> int:
    """Passes over a group's subtree by one write to memory.reclaim that takes nothing.

    It tries once more than ``MAX_RECLAIM_RETRIES`` times, each from ``DEF_PRIORITY`` down to
    nought; where partial walks share a cursor, each try is followed by a full walk.

    Worked example
    --------------
    6.1: 17 * 13 = 221 passes. 6.12: 17 * 13 * 2 = 442.
    """
    walks = 2 if features(_series(release)).full_walk_retry else 1
    return (MAX_RECLAIM_RETRIES + 1) * (DEF_PRIORITY + 1) * walks


def visit_ns(took_s: Mapping[int, Sequence[float]], passes: int) -> float:
    """What each group more costs a pass: the slope over the number of children.

    Parameters
    ----------
    took_s : mapping
        Times of the writes by number of children. [s]
    passes : int
        Of one write.

    Worked example
    --------------
    2095 us with 4 children and 5151 us with 12, in 221 passes: 3056 us / 8 / 221 = 1729 ns.
    """
    medians = [statistics.median(times) for times in took_s.values()]
    return statistics.linear_regression(list(took_s), medians).slope * 1e9 / passes


def _took_s(run: Trace, path: str) -> list[float]:
    """What each write to a file took, all of which found nothing to take. [s]"""
    begun = [t for t, words in run.events if words[:2] == ["change", path]]
    ended = [t for t, words in run.events if words[:2] == ["changed", path]]
    told = {words[2] for _, words in run.events if words[:2] == ["changed", path]}
    if told != {str(errno.EAGAIN)}:
        raise LabError(f"{path}: reclaim was to find nothing, errno {', '.join(sorted(told))}")
    return [end - begin for begin, end in zip(begun, ended, strict=True)]


def _classic_lru(kernel: Kernel) -> dict[str, str]:
    """What turns the multi-gen LRU off, where the kernel has it at all (since 6.1)."""
    major, minor = (int(part) for part in _series(kernel.release).split("."))
    return {"/sys/kernel/mm/lru_gen/enabled": "0"} if (major, minor) >= (6, 1) else {}


def _series(release: str) -> str:
    return ".".join(release.split("-")[0].split(".")[:2])


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
