"""What operations cost in time: one table, each with its origin.

The defaults stand for a server of about 2020 (3 GHz x86-64). A recording replaces them by its
own calibration, a node file by ``node.costs``. No mechanism depends on them being exact;
``capplan validate --sensitivity`` changes each by 20 % and says what still passes.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["COSTS", "Cost"]


@dataclass(frozen=True)
class Cost:
    value: float
    unit: str
    origin: str


_M = "kernel-model section 17.1"

COSTS: dict[str, Cost] = {
    "fault_ns": Cost(500, "ns per page", f"{_M}: fault and zero 4 KiB, 0.5 to 1 us"),
    "fill_ns": Cost(200, "ns per page", "writing 4 KiB at 20 GB/s (DDR4 data sheets)"),
    "touch_ns": Cost(5, "ns per page", "one access to a resident page (DRAM latency, overlapped)"),
    "file_copy_ns": Cost(400, "ns per page", "copying 4 KiB at 10 GB/s (read(2), one core)"),
    "read_syscall_ns": Cost(20, "ns per page", "a 64 KiB read(2) call spread over 16 pages"),
    "write_copy_ns": Cost(700, "ns per page", "page allocated, copied and dirtied by write(2)"),
    "scan_ns": Cost(200, "ns per page", f"{_M}: scan 0.1 to 0.3 us"),
    "rmap_ns": Cost(0, "ns per page", "folio_referenced() of a mapped page: part of scan_ns"),
    "visit_ns": Cost(
        1000,
        "ns per group and pass",
        "shrink_lruvec of a group: 870 to 970 instructions (docs/lab.md), tens of cache misses",
    ),
    "rotate_ns": Cost(300, "ns per page", f"{_M}: activate or rotate 0.3 us"),
    "unmap_ns": Cost(300, "ns per page", f"{_M}: unmap and free 0.5 to 1 us, half of it"),
    "free_ns": Cost(300, "ns per page", f"{_M}: unmap and free 0.5 to 1 us, half of it"),
    "filemap_ns": Cost(0, "ns per page", "__filemap_remove_folio() in reclaim: part of free_ns"),
    "swap_setup_ns": Cost(
        1500, "ns per page", "slot, bio and submission of one page (fio, null_blk)"
    ),
    "swapin_setup_ns": Cost(1500, "ns per page", "the same for reading, and the fault"),
    "compress_ns": Cost(3000, "ns per page", "kernel-model section 11: lz4 in DRAM, 2 to 5 us"),
    "decompress_ns": Cost(1700, "ns per page", "kernel-model section 11: lz4, 1.7 us"),
    "shootdown_ns": Cost(
        2000, "ns per page and CPU", "interrupt and answer: microseconds (Amit, USENIX ATC 2017)"
    ),
    "charge_ns": Cost(100, "ns per batch", "an atomic add per level of the hierarchy"),
    "slab_scan_ns": Cost(100, "ns per object", "dentry lock and list move"),
    "exit_unmap_ns": Cost(200, "ns per page", "kernel-model section 13.5: exit frees 1 to 4 GiB/s"),
    "exit_free_ns": Cost(1000, "ns per page", "kernel-model section 13.5: exit frees 1 to 4 GiB/s"),
    "kill_delay_ns": Cost(1_000_000, "ns", "from SIGKILL to the first unmapped page, a few ms"),
    "oom_ns": Cost(1_000_000, "ns", "choosing a victim and printing the report"),
    "sample_ns": Cost(0, "ns per sample", "a recorder that reads the files; nobody does elsewhere"),
    "contention": Cost(1.0, "factor", "slow-down when two CPUs are busy; 1 on real machines"),
}
