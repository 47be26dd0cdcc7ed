"""The machine of a node file becomes the IR's :class:`~capplan.sim.scenario.Node`.

What the file leaves out is filled in here, and each such value is a line of
``Scenario.assumptions``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from capplan import release, units
from capplan.errors import InputError
from capplan.mm.zone import zones_from_ram
from capplan.sim.scenario import PAGE_SIZE, Disk, Node, Swap, Zone, Zswap
from capplan.spec.node import Machine, Speeds, System
from capplan.spec.node import Swap as SwapSpec
from capplan.spec.node import Zone as ZoneSpec

NS_PER_S = 1_000_000_000
DEFAULT_DISK = "disk"
WITH_BUFFER_HEADS = ("ext2", "ext3", "ext4")  # fs/buffer.c; the others keep their own books
FIRST_AUTOMATIC_PRIORITY = -2  # mm/swapfile.c, _enable_swap_info: least_priority starts at -1


@dataclass(frozen=True)
class DeviceClass:
    """What is known of a kind of device: ranges, low and high end.

    Latencies are of one 4 KiB operation on an idle device [ns]; the others are sustained
    4 KiB operations a second.
    """

    read_latency: tuple[float, float]
    write_latency: tuple[float, float]
    random_reads: tuple[float, float]
    reads: tuple[float, float]
    writes: tuple[float, float]
    origin: str


def _mb(low: float, high: float) -> tuple[float, float]:
    """Pages a second of a range in MB/s."""
    return low * 1e6 / PAGE_SIZE, high * 1e6 / PAGE_SIZE


# The device table of the kernel reference, section 11 (its own sources in brackets). Where it
# gives no separate sequential figure, the deep-queue one stands in.
DEVICES: dict[str, DeviceClass] = {
    "optane": DeviceClass(
        (11e3, 11e3), (15e3, 15e3), (300e3, 500e3), (300e3, 500e3), (300e3, 500e3),
        "kernel reference 11 (fio survey, treeru.com); write rate as read",
    ),
    "nvme": DeviceClass(
        (50e3, 100e3), (15e3, 30e3), (100e3, 500e3), (100e3, 500e3), (50e3, 500e3),
        "kernel reference 11 (usual range of flash)",
    ),
    "ssd": DeviceClass(
        (100e3, 200e3), (50e3, 100e3), (50e3, 90e3), _mb(500, 500), _mb(500, 500),
        "kernel reference 11 (usual range; 500 MB/s is SATA's limit)",
    ),
    "network": DeviceClass(
        (0.5e6, 2e6), (1e6, 3e6), (3e3, 16e3), (3e3, 16e3), (3e3, 16e3),
        "kernel reference 11 (cloud disk, IOPS cap)",
    ),
    "hdd": DeviceClass(
        (4e6, 12e6), (4e6, 12e6), (80, 150), _mb(100, 150), _mb(100, 150),
        "kernel reference 11 (usual range)",
    ),
    "zram": DeviceClass(
        (1.7e3, 3e3), (2e3, 5e3), (1.5e6, 2e6), (1.5e6, 2e6), (200e3, 500e3),
        "kernel reference 11 (lz4 on eight cores; one writer at its latency)",
    ),
}  # fmt: skip


def expand_node(machine: Machine, assumptions: list[str]) -> Node:
    """The IR's node.

    Parameters
    ----------
    machine
        The ``node`` of a node file.
    assumptions
        Appended to: one line for each value that was filled in.
    """
    disks = [disk_of(name, speeds) for name, speeds in _disks(machine, assumptions).items()]
    swaps, swap_disks = _swaps(machine.swap)
    system = machine.system
    _assume_system(system, assumptions, _is_captured(machine))
    note = release.resolve(machine.kernel).note
    if note:
        assumptions.append(note)
    return Node(
        zones=_zones(machine, assumptions),
        cpus=machine.cpus,
        release=machine.kernel,
        hz=machine.hz,
        sysctl=_sysctl(machine),
        lru_gen=machine.lru_gen,
        interleave_weights=tuple(node.weight for node in machine.numa),
        thp=machine.thp != "never",
        thp_compact=machine.thp == "madvise",
        disks=(*disks, *swap_disks),
        swaps=swaps,
        zswap=_zswap(machine),
        kernel_pages=system.kernel // PAGE_SIZE,
        slab_reclaimable_pages=system.slab_reclaimable // PAGE_SIZE,
        slab_pinned_pages=system.slab_in_use // PAGE_SIZE,
        daemon_anon_pages=system.daemons.memory // PAGE_SIZE,
        daemon_file_pages=system.daemons.file // PAGE_SIZE,
        daemon_shmem_pages=system.daemons.shmem // PAGE_SIZE,
        daemon_locked_pages=system.daemons.locked // PAGE_SIZE,
        captured=_is_captured(machine),
        costs=dict(machine.costs),
    )


def disk_of(name: str, speeds: Speeds) -> Disk:
    """A disk of a class, with what the file says about its speeds.

    The class's ranges give their geometric mean: they span factors, not differences.

    Worked example
    --------------
    nvme: read latency sqrt(50 * 100) = 70.7 us, deep-queue reads sqrt(100k * 500k) =
    223607/s, that is 4472 ns a page.
    """
    kind = DEVICES[speeds.device]
    given = [n for n in ("read_latency", "write_latency", "read", "write", "random_read")
             if getattr(speeds, n) is not None]  # fmt: skip
    origin = f"{speeds.device}: {kind.origin}"
    if given:
        origin = f"{', '.join(given)}: {speeds.origin or 'the node file'}; the rest {origin}"
    latency = _middle(kind.read_latency) if speeds.read_latency is None else speeds.read_latency
    write = _middle(kind.write_latency) if speeds.write_latency is None else speeds.write_latency
    # one at a time is never faster than the device's own rate under a deep queue
    random = _ns_per_page(speeds.random_read, kind.random_reads)
    return Disk(
        name=name,
        read_latency_ns=round(latency),
        write_latency_ns=round(write),
        read_ns_per_page=_ns_per_page(speeds.read, kind.reads),
        write_ns_per_page=_ns_per_page(speeds.write, kind.writes),
        random_read_ns=max(float(latency), random),
        origin=origin,
        rotational=speeds.device == "hdd",
        buffer_heads=speeds.filesystem in WITH_BUFFER_HEADS,
    )


def _middle(bounds: tuple[float, float]) -> float:
    return math.sqrt(bounds[0] * bounds[1])


def _ns_per_page(rate: float | None, pages_per_s: tuple[float, float]) -> float:
    """Time of a page at a rate in bytes/s, or at the middle of a class's range."""
    return NS_PER_S / (rate / PAGE_SIZE if rate else _middle(pages_per_s))


def _zones(machine: Machine, assumptions: list[str]) -> tuple[Zone, ...]:
    if machine.zones is not None:
        return tuple(_explicit(zone) for zone in machine.zones)
    assert machine.memory is not None
    shares = [node.memory for node in machine.numa] or None
    try:
        sizes = zones_from_ram(machine.memory, numa_bytes=shares)
    except ValueError as error:
        raise InputError(f"node.memory: {error}") from error
    managed = sum(size.managed for size in sizes)
    total, ram = units.format_bytes(managed * PAGE_SIZE), units.format_bytes(machine.memory)
    assumptions.append(
        f"MemTotal {total} of {ram} RAM (what boot takes is estimated; node.zones says it)"
    )
    return tuple(Zone(s.node, s.name, s.spanned, s.present, s.managed) for s in sizes)


def _is_captured(machine: Machine) -> bool:
    """Whether the zones say what is free with everything in place."""
    return machine.zones is not None and all(zone.free is not None for zone in machine.zones)


def _explicit(zone: ZoneSpec) -> Zone:
    present = zone.managed if zone.present is None else zone.present
    marks = None
    if zone.min is not None and zone.low is not None and zone.high is not None:
        marks = (zone.min, zone.low, zone.high)
    return Zone(
        node=zone.node,
        name=zone.zone,
        spanned=present if zone.spanned is None else zone.spanned,
        present=present,
        managed=zone.managed,
        free=zone.free,
        wmark=marks,
        boost=zone.boost,
        protection=zone.protection,
        buddyinfo=zone.buddyinfo,
        pagetypeinfo=None
        if zone.pagetypeinfo is None
        else {str(name): counts for name, counts in zone.pagetypeinfo.items()},
        pcp_pages=zone.pcp,
    )


def _sysctl(machine: Machine) -> dict[str, int]:
    """Sysctls that are set; the one that is a list gets a number behind its name."""
    found: dict[str, int] = {}
    for name, value in machine.sysctl.written().items():
        if isinstance(value, tuple):
            found |= {f"{name}.{index}": item for index, item in enumerate(value)}
        else:
            found[name] = int(value)
    if machine.lru_gen_min_ttl_ms:
        found["lru_gen.min_ttl_ms"] = machine.lru_gen_min_ttl_ms
    return found


def _disks(machine: Machine, assumptions: list[str]) -> dict[str, Speeds]:
    if not machine.disks:
        assumptions.append("files are on a SATA ssd (assumed)")
        return {DEFAULT_DISK: Speeds()}
    return {
        name: disk if isinstance(disk, Speeds) else Speeds(device=disk)
        for name, disk in machine.disks.items()
    }


def _swaps(specs: tuple[SwapSpec, ...]) -> tuple[tuple[Swap, ...], tuple[Disk, ...]]:
    swaps, disks = [], []
    automatic = FIRST_AUTOMATIC_PRIORITY
    for index, spec in enumerate(specs):
        device = spec.speeds.device
        name = f"swap{index}"
        priority = spec.priority
        if priority is None or priority < 0:
            priority, automatic = automatic, automatic - 1
        zram = device == "zram"
        disks.append(disk_of(name, spec.speeds))
        swaps.append(
            Swap(name, spec.size // PAGE_SIZE, priority, zram, (spec.mem_limit or 0) // PAGE_SIZE)
        )
    return tuple(swaps), tuple(disks)


def _zswap(machine: Machine) -> Zswap | None:
    spec = machine.zswap
    if spec is None:
        return None
    return Zswap(
        enabled=spec.enabled,
        max_pool_percent=spec.max_pool_percent,
        accept_threshold_percent=spec.accept_threshold_percent,
        compressor=spec.compressor,
        zpool=spec.zpool or release.features(machine.kernel).zswap_zpool,
        shrinker_enabled=spec.shrinker_enabled,
    )


def _assume_system(system: System, assumptions: list[str], captured: bool) -> None:
    """Say what the system's own memory was taken to be, where the file does not."""
    daemons = system.daemons
    named = (
        *(() if captured else (("kernel memory", "kernel", system, system.kernel),)),
        ("reclaimable slab", "slab_reclaimable", system, system.slab_reclaimable),
        ("memory of system daemons", "memory", daemons, daemons.memory),
        ("files of system daemons", "file", daemons, daemons.file),
    )
    for what, key, model, value in named:
        if key not in model.model_fields_set:
            assumptions.append(f"{what} {units.format_bytes(value)} (assumed)")
