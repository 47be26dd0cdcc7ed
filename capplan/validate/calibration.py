"""The costs of a recorded machine, from the ``calibration`` of its scenario.

A recording states the emulated machine's own speeds, in MiB/s, measured unpaced on a quiet
host. What the engine needs is nanoseconds per page, under the names of ``costs_t``
(:mod:`capplan.mm.state`). One table, :data:`DERIVATIONS`, says where each comes from; nothing
here is fitted to a recording's truth.

Where the calibration gives only a sum, the sum is kept and its split is stated: first touch
always fills the page, so ``fault_ns`` is nought and ``fill_ns`` the whole; a read(2) waits
for the disk and then copies, half each. The swap disk's reads come in clusters, so it has a
speed of its own; that this agrees with the files' disk (a seek shared by 8 pages, and their
streaming: 381 / 8 + 39 = 87 us, as the cyclic swap figures give) was checked, not fitted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from capplan.sim.costs import COSTS
from capplan.sim.scenario import Disk

# drivers/block/virtio_blk.c: BLK_FEAT_ROTATIONAL, before 6.11 the default of a queue; seg_max is
# two less than QEMU's queue of 256. The lab's null_blk: 255 sectors (BLK_SAFE_MAX_SECTORS), and of
# its 64 tags blk-wbt gives 3/4 to writes, a quarter of them while something is read
# (rq_depth_calc_max_depth(), calc_wb_limits())
VIRTIO_DISK: dict[str, Any] = {
    "rotational": True,
    "max_request_pages": 254,
    "max_plug_requests": 32,
}
NULL_BLK: dict[str, Any] = {"max_request_pages": 31, "max_plug_requests": 12}

PAGES_PER_MIB = 256
# write(2) of a new ext4 file is the one speed that the calibration lacks: 250 MiB took 9.3 and
# 10.0 s in the two runs of the recording that writes (dirty-writer-under-max), 0.8 s of it in
# reclaim (psi); it asked for 40 MiB/s while its dirty pages stayed under 16 MiB, below every
# limit that makes it pause. [MiB/s]
WRITE_FILE_MIB_S = 28.4
# ``exit_free`` was measured with the recorder's clock, which sees an exit at its next sample:
# 100 MiB within 250 ms are "400 MiB/s", whatever they took. The fall of AnonPages between two
# samples within one exit shows the speed: 265 MiB in 250 ms on a quiet machine (global-mlock, both
# runs), 227 to 346 MiB beside a task that touches its memory (global-noswap-minfree-*). [MiB/s]
EXIT_FREE_MIB_S = 1060.0
# What a look at a mapped page costs (folio_referenced() and the move on the list) is not in the
# calibration either. When every page is young, reclaim only looks: kswapd 27929 and 31345 pages
# in 250 ms (global-swap-leak, zswap-compressible; vmstat.pgscan_kswapd) on its CPU, while a task
# did the same on the other; alone it would take 1 / contention of that. [ns]
LOOK_BESIDE_NS = 8500.0
# Unmapping a page of a task that runs on the other CPU takes an interrupt there and its answer,
# which no calibration of a single task contains: with both at work, kswapd compresses a page in
# 333 us (2870 to 3050 a second on one CPU, zswap-compressible, both runs), where the store beside
# a busy CPU takes 195; alone the rest would take 1 / contention of that. [ns]
SHOOTDOWN_NS = 104000.0
# Reclaiming a clean page of the page cache (isolated, taken off its file, uncharged, freed) costs
# about two looks: what psi counts per page that a group at its limit gives back is 16.3 to 17.6 us
# in dirty-writer-under-max and v2-max-file-then-anon (all runs; a look beside a busy CPU is 8.5),
# 5.7 to 6.6 us in the lab's two recordings of writers, on both kernels (a look is 3.0).
RECLAIM_PER_LOOK = 2.0
# The lab's own recordings (lab/calibrate.py) carry all three, measured: ``write_file_mib_s``,
# ``exit_free_exact_mib_s``, ``look_ns``; the constants stand in where a calibration lacks them.
# What goes by the recorder's 400 MiB/s is scaled to it where the exact speed is known.
CLOCKED_PER_EXACT = EXIT_FREE_MIB_S / 400
VISIT_PER_FREE = 1000 / 1200  # capplan.sim.costs: visit_ns / (exit_unmap_ns + exit_free_ns)


@dataclass(frozen=True)
class Derivation:
    """One cost: its name, how it follows from the calibration, and why so."""

    name: str
    formula: str
    why: str


DERIVATIONS: tuple[Derivation, ...] = (
    Derivation("fault_ns", "0", "part of fill_ns: only their sum was measured"),
    Derivation(
        "fill_ns",
        "page / fault_and_fill",
        "first touch of a page with its fill, one task alone",
    ),
    Derivation(
        "contention",
        "fault_and_fill / fault_and_fill_two_tasks_each",
        "what two busy CPUs cost each other (shared caches, one emulator)",
    ),
    Derivation(
        "file_copy_ns, disk.read_ns_per_page (files)",
        "page / read_file / 2 each",
        "read(2) in 64 KiB pieces waits for the disk, then copies: their sum was measured",
    ),
    Derivation("read_syscall_ns", "0", "part of file_copy_ns: 1/16 of a call per page"),
    Derivation(
        "write_copy_ns",
        "page / 28.4 MiB/s",
        "write(2) of a new file on ext4: see WRITE_FILE_MIB_S",
    ),
    Derivation("rmap_ns", "8.5 us / contention", "a look at a mapped page: see LOOK_BESIDE_NS"),
    Derivation(
        "filemap_ns",
        "2 rmap_ns - scan_ns - free_ns",
        "a clean page of the page cache reclaimed: see RECLAIM_PER_LOOK",
    ),
    Derivation(
        "swap_setup_ns",
        "page / swap_out_while_growing - page / fault_and_fill - rmap_ns",
        "each page grown costs one page swapped out beside its own fault and fill",
    ),
    Derivation("shootdown_ns", "104 us", "an interrupt to the other CPU: see SHOOTDOWN_NS"),
    Derivation(
        "compress_ns",
        "page / zswap_store_while_growing - page / fault_and_fill - rmap_ns",
        "a whole zswap store (the unmap and slot included) in place of a swap-out",
    ),
    Derivation(
        "swapin_setup_ns",
        "page / zswap_load_and_store - compress_ns - rmap_ns",
        "a whole zswap load: each page touched costs one in and one out",
    ),
    Derivation("decompress_ns", "0", "part of swapin_setup_ns"),
    Derivation(
        "disk.read_ns_per_page (swap)",
        "page / swap_in_and_out - swap_setup_ns - swapin_setup_ns - rmap_ns",
        "each page touched costs one in and one out; what no zswap load costs is the disk's",
    ),
    Derivation(
        "exit_free_ns",
        "page / 1060 MiB/s - exit_unmap_ns",
        "unmap and free of a page at exit: see EXIT_FREE_MIB_S",
    ),
    Derivation(
        "exit_unmap_ns",
        "0.1 page / exit_free",
        "clearing an entry beside freeing the page: 8,000 pages within the 6 to 12 ms that lie "
        "between a victim's kill and MMF_OOM_SKIP (events.oom and psi of v2-adj-picks-small)",
    ),
    Derivation(
        "visit_ns",
        "page / exit_free * 1000 / 1200",
        "as the default's ratio of a group's visit to unmapping and freeing a page; the lab's "
        "machine, where this gives 5.9 us (6.1) and 4.9 us (6.12), measured 1.7 and 1.9",
    ),
    Derivation(
        "disk.random_read_ns, disk.read_latency_ns, disk.write_latency_ns",
        "page / random_read_4k - file_copy_ns",
        "one 4 KiB read at queue depth 1 beside its copy",
    ),
    Derivation(
        "disk.write_ns_per_page",
        "page / read_file",
        "writing streams as reading does: one virtio disk, its image in the host's page cache",
    ),
)


def page_ns(mib_per_s: float) -> float:
    """Time of one page at a speed.

    Parameters
    ----------
    mib_per_s : float
        Speed. [MiB/s]

    Returns
    -------
    float
        Time of a page of 4096 bytes. [ns]

    Worked example
    --------------
    82 MiB/s: 1e9 / (82 * 256) = 47637 ns.
    """
    return 1e9 / (mib_per_s * PAGES_PER_MIB)


def costs_of(calibration: Mapping[str, float], cpus: int = 2) -> dict[str, float]:
    """Overrides of the cost table, by name of ``costs_t``, from a calibration.

    Keys that a calibration lacks leave the default cost in force.

    Parameters
    ----------
    calibration : mapping
        Speeds by the names of ``scenario.json``. [MiB/s]
    cpus : int
        Of the machine that was measured: on one, two tasks share it and hinder each other no
        further.
    """
    page = {name: page_ns(speed) for name, speed in calibration.items() if speed > 0}
    costs: dict[str, float] = {}
    fill = page.get("fault_and_fill_mib_s")
    if fill is not None:
        costs |= {"fault_ns": 0.0, "fill_ns": fill}
        both = page.get("fault_and_fill_two_tasks_mib_s_each")
        if both is not None and cpus > 1:
            costs["contention"] = both / fill
        beside = LOOK_BESIDE_NS / costs.get("contention", 1.0)
        costs |= _swap_costs(page, fill, calibration.get("look_ns", beside))
    if "read_file_mib_s" in page:
        costs |= {"file_copy_ns": page["read_file_mib_s"] / 2, "read_syscall_ns": 0.0}
        costs["write_copy_ns"] = page.get("write_file_mib_s", page_ns(WRITE_FILE_MIB_S))
    return costs | _exit_costs(page)


def entry_ns(calibration: Mapping[str, float]) -> float:
    """Time of a page table entry with what hangs on it, copied at a fork or dropped. [ns]

    What the recorder's clock says of an exit: the page, its lists and counters, its entry.
    """
    page = {name: page_ns(speed) for name, speed in calibration.items() if speed > 0}
    return _clocked_exit(page) or 0.0


def _clocked_exit(page: Mapping[str, float]) -> float | None:
    if "exit_free_exact_mib_s" in page:
        return page["exit_free_exact_mib_s"] * CLOCKED_PER_EXACT
    return page.get("exit_free_mib_s")


def _exit_costs(page: Mapping[str, float]) -> dict[str, float]:
    clocked = _clocked_exit(page)
    if clocked is None:
        return {}
    exact = page.get("exit_free_exact_mib_s", page_ns(EXIT_FREE_MIB_S))
    unmap = 0.1 * clocked
    # a pass over a group is list and counter work as freeing is: slower by the same factor
    visit = VISIT_PER_FREE * clocked
    return {"exit_free_ns": exact - unmap, "exit_unmap_ns": unmap, "visit_ns": visit}


def _swap_costs(page: Mapping[str, float], fill: float, look: float) -> dict[str, float]:
    seen_and_freed = COSTS["scan_ns"].value + COSTS["free_ns"].value
    costs = {"filemap_ns": max(RECLAIM_PER_LOOK * look - seen_and_freed, 0.0)}
    grow = page.get("swap_out_while_growing_mib_s")
    if grow is not None:
        # each page is looked at once mapped, on its way out
        costs |= {"swap_setup_ns": max(grow - fill - look, 0.0), "rmap_ns": look}
        costs["shootdown_ns"] = SHOOTDOWN_NS
    store = page.get("zswap_store_while_growing_mib_s_at_75_pct")
    if store is not None:
        costs["compress_ns"] = max(store - fill - look, 0.0)
        cycle = page.get("zswap_load_and_store_cyclic_mib_s_each")
        if cycle is not None:
            costs["swapin_setup_ns"] = max(cycle - costs["compress_ns"] - look, 0.0)
            costs["decompress_ns"] = 0.0
    return costs


def file_disk(name: str, calibration: Mapping[str, float]) -> Disk:
    """The recorded machine's disk of files, its image in the host's page cache.

    Parameters
    ----------
    name : str
        What the disk is called in the scenario.
    calibration : mapping
        Speeds by the names of ``scenario.json``. [MiB/s]
    """
    stream = page_ns(calibration["read_file_mib_s"])
    seek = max(page_ns(calibration["random_read_4k_mib_s"]) - stream / 2, 0.0)
    return Disk(
        name=name,
        read_latency_ns=round(seek),
        write_latency_ns=round(seek),
        read_ns_per_page=stream / 2,
        write_ns_per_page=stream,
        random_read_ns=seek,
        origin="calibration: read_file, random_read_4k",
    )


def swap_disk(
    name: str, calibration: Mapping[str, float], made: Mapping[str, Any] | None = None
) -> Disk:
    """The recorded machine's swap disk: as the files', with clustered reads.

    Parameters
    ----------
    name : str
        What the disk is called in the scenario.
    calibration : mapping
        Speeds by the names of ``scenario.json``. [MiB/s]
    made : mapping, optional
        How the lab made its disk: ``rotational`` (slots and read-ahead are chosen for a disk
        with seeks). Left out: a virtio disk.
    """
    driver = VIRTIO_DISK if made is None else NULL_BLK | {"rotational": made["rotational"]}
    costs = costs_of(calibration)
    cycle = page_ns(calibration["swap_in_and_out_cyclic_mib_s_each"])
    read = max(cycle - costs["swap_setup_ns"] - costs["swapin_setup_ns"] - costs["rmap_ns"], 0.0)
    return dataclasses.replace(
        file_disk(name, calibration),
        read_ns_per_page=read,
        origin="calibration: swap_in_and_out_cyclic; read_file, random_read_4k",
        **driver,
    )
