"""The costs of a recorded machine, from the ``calibration`` of its scenario.

A recording states the emulated machine's own speeds, in MiB/s, measured unpaced on a quiet
host. What the engine needs is nanoseconds per page, under the names of ``costs_t``
(:mod:`capplan.mm.state`). One table, :data:`DERIVATIONS`, says where each comes from; nothing
here is fitted to a recording's truth.

Where the calibration gives only a sum, the sum is kept and its split is stated: first touch
always fills the page, so ``fault_ns`` is nought and ``fill_ns`` the whole; reading a file
that lies in the host's page cache is the guest's own work (request, interrupt, copy), so it
is CPU time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from capplan.sim.scenario import Disk

PAGES_PER_MIB = 256
READ_PIECE_PAGES = 16  # the recorder's read(2) and write(2) pieces, 64 KiB
SWAP_CLUSTER_PAGES = 8  # swap-in readahead, 1 << vm.page-cluster (mm/swap.c, swap_setup: 3)


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
        "file_copy_ns",
        "page / read_file",
        "read(2) of a file in 64 KiB pieces; the image lies in the host's page cache",
    ),
    Derivation("read_syscall_ns", "0", "part of file_copy_ns: 1/16 of a call per page"),
    Derivation(
        "write_copy_ns",
        "page / read_file",
        "write(2) does the same work on the page cache: allocate, insert, copy",
    ),
    Derivation(
        "swap_setup_ns",
        "page / swap_out_while_growing - page / fault_and_fill",
        "each page grown costs one page swapped out beside its own fault and fill",
    ),
    Derivation(
        "swapin_setup_ns",
        "page / swap_in_and_out - swap_setup_ns - random_read_ns / 8",
        "each page touched costs one in and one out; a disk read brings in 8 (page-cluster 3)",
    ),
    Derivation(
        "compress_ns",
        "page / zswap_store_while_growing - page / fault_and_fill",
        "a whole zswap store (the unmap and slot included) in place of a swap-out",
    ),
    Derivation(
        "decompress_ns",
        "page / zswap_load_and_store - compress_ns",
        "a whole zswap load: each page touched costs one in and one out",
    ),
    Derivation("exit_free_ns", "page / exit_free", "unmap and free of a page at exit"),
    Derivation("exit_unmap_ns", "0", "part of exit_free_ns"),
    Derivation(
        "random_read_ns",
        "page / random_read_4k - file_copy_ns",
        "disk: one 4 KiB read at queue depth 1 beside its copy",
    ),
    Derivation(
        "read_ns_per_page, write_ns_per_page",
        "page / read_file",
        "disk: no faster than it was seen to stream",
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


def costs_of(calibration: Mapping[str, float]) -> dict[str, float]:
    """Overrides of the cost table, by name of ``costs_t``, from a calibration.

    Keys that a calibration lacks leave the default cost in force.
    """
    page = {name: page_ns(speed) for name, speed in calibration.items() if speed > 0}
    costs: dict[str, float] = {}
    fill = page.get("fault_and_fill_mib_s")
    if fill is not None:
        costs |= {"fault_ns": 0.0, "fill_ns": fill}
        both = page.get("fault_and_fill_two_tasks_mib_s_each")
        if both is not None:
            costs["contention"] = both / fill
        costs |= _swap_costs(page, fill)
    if "read_file_mib_s" in page:
        read = page["read_file_mib_s"]
        costs |= {"file_copy_ns": read, "read_syscall_ns": 0.0, "write_copy_ns": read}
    if "exit_free_mib_s" in page:
        costs |= {"exit_free_ns": page["exit_free_mib_s"], "exit_unmap_ns": 0.0}
    return costs


def _swap_costs(page: Mapping[str, float], fill: float) -> dict[str, float]:
    costs: dict[str, float] = {}
    grow = page.get("swap_out_while_growing_mib_s")
    if grow is not None:
        costs["swap_setup_ns"] = max(grow - fill, 0.0)
        cycle = page.get("swap_in_and_out_cyclic_mib_s_each")
        if cycle is not None:
            seek = _random_read_ns(page) / SWAP_CLUSTER_PAGES
            costs["swapin_setup_ns"] = max(cycle - costs["swap_setup_ns"] - seek, 0.0)
    store = page.get("zswap_store_while_growing_mib_s_at_75_pct")
    if store is not None:
        costs["compress_ns"] = max(store - fill, 0.0)
        cycle = page.get("zswap_load_and_store_cyclic_mib_s_each")
        if cycle is not None:
            costs["decompress_ns"] = max(cycle - costs["compress_ns"], 0.0)
    return costs


def _random_read_ns(page: Mapping[str, float]) -> float:
    return max(page.get("random_read_4k_mib_s", 0.0) - page.get("read_file_mib_s", 0.0), 0.0)


def disk_of(name: str, calibration: Mapping[str, float]) -> Disk:
    """The recorded machine's virtio disk, its image in the host's page cache.

    Parameters
    ----------
    name : str
        What the disk is called in the scenario.
    calibration : mapping
        Speeds by the names of ``scenario.json``. [MiB/s]
    """
    page = {key: page_ns(speed) for key, speed in calibration.items() if speed > 0}
    stream = page.get("read_file_mib_s", 0.0)
    seek = _random_read_ns(page)
    return Disk(
        name=name,
        read_latency_ns=round(seek),
        write_latency_ns=round(seek),
        read_ns_per_page=stream,
        write_ns_per_page=stream,
        random_read_ns=seek,
        origin="calibration: read_file, random_read_4k",
    )
