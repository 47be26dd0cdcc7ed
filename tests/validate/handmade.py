"""A small recording made by hand: one group with a limit, one process that meets it."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from capplan.validate.truth import Course, Happening

RECORDINGS = pathlib.Path(__file__).resolve().parent.parent / "recordings"
NAMES = sorted(path.parent.name for path in RECORDINGS.glob("*/scenario.json"))

MIB = 1 << 20
END_S = 20.0
RAW: dict[str, Any] = {
    "name": "hand-made",
    "kernel": "6.1",
    "ram_mib": 64,
    "cpus": 2,
    "swap_mib": 0,
    "cgroup_version": "v2",
    "sysctl": {},
    "zswap": None,
    "files": {"f1": 10},
    "cgroups": [{"name": "a", "memory.max": str(20 * MIB)}],
    "processes": [
        {
            "cgroup": "a",
            "name": "alloc",
            "oom_score_adj": 7,
            "start_s": 1,
            "phases": [
                {"op": "anon", "mib": 30, "rate_mib_s": 5, "compressible_pct": 75},
                {"op": "hold", "seconds": 3},
            ],
        }
    ],
    "duration_s": 20,
    "calibration": {
        "fault_and_fill_mib_s": 82,
        "fault_and_fill_two_tasks_mib_s_each": 62,
        "read_file_mib_s": 100,
        "random_read_4k_mib_s": 9.3,
        "swap_out_while_growing_mib_s": 36,
        "swap_in_and_out_cyclic_mib_s_each": 17,
        "zswap_store_while_growing_mib_s_at_75_pct": 20,
        "zswap_load_and_store_cyclic_mib_s_each": 17,
        "exit_free_mib_s": 400,
    },
    "boot": {
        "kernel": "6.1.0-56-amd64",
        "zones": [
            {
                "node": 0,
                "zone": "DMA32",
                "free": 12000,
                "boost": 0,
                "min": 100,
                "low": 125,
                "high": 150,
                "spanned": 16384,
                "present": 16384,
                "managed": 15000,
                "protection": [0, 0, 0, 0, 0],
            }
        ],
        "buddyinfo": {"DMA32": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11]},
        "min_free_kbytes": 400,
        "swappiness": 60,
        "lru_gen_enabled": "0x0000",
        "overcommit_memory": 1,
        "thp_for_process_memory": False,
        "meminfo_kb": {
            "MemTotal": 60000,
            "AnonPages": 800,
            "Cached": 440,
            "Shmem": 400,
            "Buffers": 8,
            "SReclaimable": 1200,
            "Mlocked": 900,
        },
    },
}


def make_course(
    usage_mib: float = 20.0, happenings: tuple[Happening, ...] = (), shift: float = 0.0
) -> Course:
    """Growth at 5 MiB/s from t = 1 up to ``usage_mib``, then flat; ``shift`` MiB on MemFree."""
    t = np.arange(0, END_S, 0.25)
    own = np.clip((t - 1) * 5, 0, usage_mib) * MIB
    series = {
        "t": t,
        "meminfo_kb.MemTotal": np.full(len(t), 60000.0),
        "meminfo_kb.MemFree": 48000 - own / 1024 + shift * 1024,
        "meminfo_kb.AnonPages": 800 + own / 1024,
        "cgroup.a.memory.current": own,
        "cgroup.a.stat.anon": own,
        "cgroup.a.memory.swap.current": np.zeros(len(t)),
        "cgroup.a.events.max": np.where(own >= 20 * MIB, 5.0, 0.0),
        "process.alloc.rss_pages": np.where(t >= 1, own / 4096 + 297, np.nan),
    }
    return Course(happenings, series, END_S)
