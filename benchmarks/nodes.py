"""The node that the benchmarks run: 64 GiB, 50 containers, a day of one-minute traces."""

from __future__ import annotations

import numpy as np

from capplan.mm.zone import zones_from_ram
from capplan.sim.scenario import (
    Access,
    Cgroup,
    Disk,
    Mapping,
    Node,
    Op,
    Process,
    Scenario,
    Swap,
    Task,
    TracePoints,
    Zone,
    Zswap,
)

GIB = 1 << 18  # pages
MIB = 1 << 8
SECOND = 1_000_000_000
DAY = 86_400 * SECOND
CONTAINERS = 50
# Change from minute to minute, in MiB: 50 of them make the node's memory move by 0.05 % of
# 64 GiB a minute, as node_memory_usage_pct of the Nezha traces does (0.02 to 0.08 %).
ROUGHNESS = 0.6
REVISIT_S = 1500.0  # a page of a container is touched about this often
READ_RATE = 10.6 * MIB / 25  # pages a second of each reader: 10.6 MiB/s together


def node(ram_gib: int, sysctl: dict[str, int]) -> Node:
    """A machine with one NVMe, swap on it and zswap."""
    zones = zones_from_ram(ram_gib << 30)
    disk = Disk("nvme", 70_000, 20_000, 2000.0, 2500.0, 80_000.0, "a data-centre NVMe")
    return Node(
        zones=tuple(Zone(z.node, z.name, z.spanned, z.present, z.managed) for z in zones),
        cpus=16,
        release="6.1",
        sysctl=sysctl,
        disks=(disk,),
        swaps=(Swap("nvme", 32 * GIB, 1),),
        zswap=Zswap(True, 40, 90, "lz4", "zsmalloc"),
        kernel_pages=600 * MIB,
        daemon_anon_pages=300 * MIB,
    )


def _curve(number: int, base_mib: float, duration_ns: int) -> TracePoints:
    """A day's wave of 10 % and noise, one point a minute."""
    minutes = np.arange(duration_ns // (60 * SECOND)) + 1
    draws = np.random.default_rng(number)
    wave = 0.1 * np.sin(2 * np.pi * (minutes / 1440 + number / CONTAINERS))
    mib = base_mib * (1 + wave) + draws.normal(0, ROUGHNESS / 1.13, minutes.size)
    pages = np.rint(mib * MIB).astype(np.int64)
    return TracePoints(f"c{number}.anon", minutes * 60 * SECOND, pages)


def idle(granule_order: int | None = None, duration_ns: int = DAY) -> Scenario:
    """Without pressure: half of the memory is used."""
    return _scenario("idle", 650.0, (), 0.0, granule_order, duration_ns)


def pressure(granule_order: int | None = None, duration_ns: int = DAY) -> Scenario:
    """All memory is used, and kswapd takes some 20 MiB/s, half of it clean file pages.

    25 readers go round files that do not fit together; all anonymous memory is come back to,
    and a part of it is in zswap.
    """
    half = CONTAINERS // 2
    tables = [Mapping(f"c{i}.table", "anon", 1020 * MIB, 0, 1020 * MIB, length_mean=1400.0,
                      length_sd=300.0) for i in range(half)]  # fmt: skip
    files = [Mapping(f"c{i}.file", "file", 640 * MIB, 640 * MIB, 0, via="read", disk="nvme")
             for i in range(half, CONTAINERS)]  # fmt: skip
    return _scenario("pressure", 650.0, (*tables, *files), READ_RATE, granule_order, duration_ns)


def _scenario(
    name: str,
    base_mib: float,
    extra: tuple[Mapping, ...],
    read_rate: float,
    granule_order: int | None,
    duration_ns: int,
) -> Scenario:
    anon = [Mapping(f"c{i}.anon", "anon", int(base_mib * 1.2) * MIB, 0,
                    int(base_mib * 1.0) * MIB, length_mean=1400.0, length_sd=300.0)
            for i in range(CONTAINERS)]  # fmt: skip
    processes = [_process(i, base_mib, extra, read_rate, duration_ns) for i in range(CONTAINERS)]
    return Scenario(
        name=name,
        node=node(64, {}),
        cgroup_version="v2",
        cgroups=(Cgroup("kubepods"),
                 *(Cgroup(f"kubepods/c{i}", memory_max=4 * GIB) for i in range(CONTAINERS))),
        mappings=(*anon, *extra),
        processes=tuple(processes),
        duration_ns=duration_ns,
        sample_ns=60 * SECOND,
        granule_order=granule_order,
    )  # fmt: skip


def _process(
    i: int, base_mib: float, extra: tuple[Mapping, ...], read_rate: float, duration_ns: int
) -> Process:
    tasks = [Task((), f"c{i}.anon", Access("uniform", base_mib * MIB / REVISIT_S),
                  trace=_curve(i, base_mib, duration_ns))]  # fmt: skip
    names = [f"c{i}.anon"]
    if extra:
        names.append(extra[i].name)
        if extra[i].kind == "anon":
            rate = extra[i].max_pages / REVISIT_S
            touch = Op("touch", names[1], rate=rate, ns=duration_ns, pattern="uniform")
            tasks.append(Task((touch,)))
        else:
            loop = Op("read_loop", names[1], pages=extra[i].max_pages, rate=read_rate,
                      ns=duration_ns)  # fmt: skip
            tasks.append(Task((loop,)))
    return Process(f"p{i}", f"kubepods/c{i}", f"c{i}", mappings=tuple(names), tasks=tuple(tasks))
