"""Small worlds in which the size of a granule may not decide what happens.

Each builder takes a granule order and a seed. The seed sets the draws and also moves sizes
and rates by up to a tenth, so that twenty seeds are twenty situations and not one twenty
times. The order changes nothing but ``Scenario.granule_order``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

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
    Zone,
    Zswap,
)

MIB = 256  # pages
SECOND = 1_000_000_000
IDLE = Access()
DISK = Disk("vda", 100_000, 100_000, 20_000.0, 20_000.0, 120_000.0, origin="a 200 MB/s disk")


@dataclass(frozen=True)
class Case:
    """A world and the smallest granule order it is compared with."""

    name: str
    build: Callable[[np.random.Generator], Scenario]
    first_order: int = 0
    seeds: int = 20
    last_step: int = 3  # the coarsest that holds; what is beyond is known not to

    def scenario(self, order: int, seed: int) -> Scenario:
        """The world of one seed at one granule order."""
        built = self.build(np.random.default_rng(seed))
        return replace(built, name=self.name, seed=seed, granule_order=order)

    def nudged(self, seed: int) -> Scenario:
        """The same with processes that start some microseconds later: what chance changes."""
        plain = self.scenario(self.first_order, seed)
        later = (replace(p, start_ns=p.start_ns + 1000 * i) for i, p in enumerate(plain.processes))
        return replace(plain, processes=tuple(later))


def _near(rng: np.random.Generator, value: float) -> int:
    """The value moved by up to a tenth."""
    return int(value * rng.uniform(0.9, 1.1))


def _node(mib: int, swap_mib: int = 0, zswap: Zswap | None = None) -> Node:
    pages = mib * MIB
    name = "DMA32" if mib <= 2048 else "Normal"
    return Node(
        zones=(Zone(0, name, pages, pages, pages - pages // 32),),
        cpus=2,
        release="6.1",
        disks=(DISK,),
        swaps=(Swap("vda", swap_mib * MIB, -2),) if swap_mib else (),
        zswap=zswap,
        kernel_pages=16 * MIB,
        slab_reclaimable_pages=4 * MIB,
        daemon_anon_pages=8 * MIB,
        daemon_file_pages=12 * MIB,
    )


def _process(name: str, tasks: tuple[Task, ...], *mappings: str, adj: int = 0) -> Process:
    return Process(
        name, name, name, oom_score_adj=adj, mappings=mappings, tasks=tasks, kernel_pages=20
    )


def _anon(name: str, pages: int, **more: float) -> Mapping:
    return Mapping(name, "anon", pages, **more)  # type: ignore[arg-type]


def _file(name: str, pages: int, via: str = "read") -> Mapping:
    return Mapping(name, "file", pages, pages, via=via, disk="vda")


def _grower(name: str, pages: int, rate: float, access: Access = IDLE) -> Task:
    """Grows by so much at that rate, accessing what it has, then holds."""
    grow = Op("grow", name, pages=pages, rate=rate)
    return Task((grow, Op("hold", ns=600 * SECOND)), access_mapping=name, access=access)


def _overcommit(rng: np.random.Generator, pattern: str) -> Scenario:
    """Three containers use more than RAM; with swap it thrashes until swap is full."""
    sizes = [_near(rng, mib * MIB) for mib in (70, 100, 130)]
    names = ("first", "second", "third")
    tasks = [
        _grower(f"{name}.heap", size, _near(rng, size / 6), Access(pattern, _near(rng, 20_000)))
        for name, size in zip(names, sizes)
    ]
    leak = _grower("leak.heap", 400 * MIB, _near(rng, 4 * MIB))
    processes = [_process(n, (t,), f"{n}.heap") for n, t in zip(names, tasks)]
    processes.append(_process("leak", (leak,), "leak.heap"))
    return Scenario(
        name="", node=_node(256, swap_mib=128), cgroup_version="v2",
        cgroups=tuple(Cgroup(name) for name in (*names, "leak")),
        mappings=(*(_anon(f"{n}.heap", s) for n, s in zip(names, sizes)),
                  _anon("leak.heap", 400 * MIB)),
        processes=tuple(processes), duration_ns=40 * SECOND,
    )  # fmt: skip


def random_overcommit(rng: np.random.Generator) -> Scenario:
    """Uniform accesses to more than there is."""
    return _overcommit(rng, "uniform")


def cyclic_overcommit(rng: np.random.Generator) -> Scenario:
    """Cyclic accesses to more than there is."""
    return _overcommit(rng, "cyclic")


def file_thrash(rng: np.random.Generator) -> Scenario:
    """Two files share a group that is too small for them; a leak takes its cache away."""
    loop = _near(rng, 60 * MIB)
    rand = _near(rng, 40 * MIB)
    tasks = (
        Task((Op("read_loop", "loop", pages=loop, rate=_near(rng, 12_000), ns=60 * SECOND),)),
        Task((Op("read_rand", "rand", pages=rand, rate=_near(rng, 3_000), ns=60 * SECOND),)),
        _grower("heap", 120 * MIB, _near(rng, 3 * MIB)),
    )
    return Scenario(
        name="", node=_node(256), cgroup_version="v2",
        cgroups=(Cgroup("db", memory_max=_near(rng, 80 * MIB)),),
        mappings=(_file("loop", loop), _file("rand", rand), _anon("heap", 120 * MIB)),
        processes=(_process("db", tasks, "loop", "rand", "heap"),), duration_ns=40 * SECOND,
    )  # fmt: skip


def _limited(rng: np.random.Generator, node: Node, swap_max: int) -> Scenario:
    """A used heap and a leak that outgrows it, in a group with a limit."""
    heap = _near(rng, 45 * MIB)
    access = Access("uniform", _near(rng, 5_000))
    shape = {"length_mean": 1400.0, "length_sd": 500.0, "same_filled": 0.05}
    tasks = (_grower("heap", heap, _near(rng, 20 * MIB), access),)
    leak = (_grower("leak", 300 * MIB, _near(rng, 4 * MIB)),)
    group = Cgroup("box", memory_max=_near(rng, 80 * MIB), swap_max=swap_max)
    return Scenario(
        name="", node=node, cgroup_version="v2", cgroups=(group,),
        mappings=(_anon("heap", heap, **shape), _anon("leak", 300 * MIB, **shape)),
        processes=(
            Process("server", "box", "box", mappings=("heap",), tasks=tasks, kernel_pages=20),
            Process("leaker", "box", "box", mappings=("leak",), tasks=leak, kernel_pages=20),
        ), duration_ns=40 * SECOND,
    )  # fmt: skip


def swap(rng: np.random.Generator) -> Scenario:
    """memory.max with swap.max: the group swaps, then it is killed."""
    return _limited(rng, _node(256, swap_mib=256), 50 * MIB)


def zswap(rng: np.random.Generator) -> Scenario:
    """The same in front of a compressed pool of 20 % of RAM."""
    return _limited(rng, _node(256, 256, Zswap(True, compressor="lz4")), 60 * MIB)


def memory_high(rng: np.random.Generator) -> Scenario:
    """Growth past memory.high with some cache and nothing else to reclaim: throttled."""
    cache = _near(rng, 16 * MIB)
    tasks = (
        Task((Op("read", "cache", pages=cache),)),
        _grower("heap", 200 * MIB, _near(rng, 8 * MIB)),
    )
    return Scenario(
        name="", node=_node(256), cgroup_version="v2",
        cgroups=(Cgroup("slow", memory_high=_near(rng, 64 * MIB)),),
        mappings=(_file("cache", cache), _anon("heap", 200 * MIB)),
        processes=(_process("slow", tasks, "cache", "heap"),), duration_ns=40 * SECOND,
    )  # fmt: skip


def small_limit(rng: np.random.Generator) -> Scenario:
    """A limit of 64 MiB on a node of 64 GiB: few granules in a small group."""
    cache = _near(rng, 80 * MIB)
    tasks = (
        Task((Op("read_loop", "cache", pages=cache, rate=_near(rng, 8_000), ns=60 * SECOND),)),
        _grower("heap", 100 * MIB, _near(rng, 2 * MIB)),
    )
    return Scenario(
        name="", node=_node(65_536), cgroup_version="v2",
        cgroups=(Cgroup("small", memory_max=64 * MIB),),
        mappings=(_file("cache", cache), _anon("heap", 100 * MIB)),
        processes=(_process("small", tasks, "cache", "heap"),), duration_ns=40 * SECOND,
    )  # fmt: skip


def replicas(rng: np.random.Generator) -> Scenario:
    """Five replicas that share a mapped library grow at rates of their own until RAM is full."""
    names = [f"web-{i}" for i in range(5)]
    rates = [_near(rng, mib * MIB) for mib in (1.0, 1.4, 1.8, 2.4, 3.2)]
    rng.shuffle(rates)
    library = Mapping("library", "file", 8 * MIB, 8 * MIB, via="mmap", exec=True, disk="vda")
    processes = []
    for name, rate in zip(names, rates):
        tasks = (
            _grower(f"{name}.heap", 200 * MIB, rate, Access("uniform", 2_000)),
            Task((Op("hold", ns=600 * SECOND),), access_mapping="library",
                 access=Access("uniform", 1_000)),
        )  # fmt: skip
        processes.append(_process(name, tasks, f"{name}.heap", "library"))
    return Scenario(
        name="", node=_node(256), cgroup_version="v2",
        cgroups=tuple(Cgroup(name) for name in names),
        mappings=(library, *(_anon(f"{name}.heap", 200 * MIB) for name in names)),
        processes=tuple(processes), duration_ns=40 * SECOND,
    )  # fmt: skip


def zram_overcommit(rng: np.random.Generator) -> Scenario:
    """Uniform accesses to more than there is, with swap on zram, whose pool grows meanwhile."""
    plain = random_overcommit(rng)
    shape = {"length_mean": 1400.0, "length_sd": 500.0, "same_filled": 0.05}
    node = replace(
        plain.node,
        disks=(DISK, replace(DISK, name="zram0")),
        swaps=(Swap("zram0", 160 * MIB, 100, zram=True),),
    )
    mappings = tuple(replace(m, **shape) for m in plain.mappings)  # type: ignore[arg-type]
    return replace(plain, node=node, mappings=mappings, duration_ns=90 * SECOND)


def v1_pause(rng: np.random.Generator) -> Scenario:
    """A v1 limit with oom_kill_disable: the group is paused, after cache and swap are used up."""
    cache = _near(rng, 16 * MIB)
    tasks = (
        Task((Op("read_loop", "cache", pages=cache, rate=_near(rng, 4_000), ns=60 * SECOND),)),
        _grower("heap", 200 * MIB, _near(rng, 6 * MIB), Access("uniform", 2_000)),
    )
    group = Cgroup("box", memory_max=_near(rng, 64 * MIB), oom_kill_disable=True, swappiness=60)
    return Scenario(
        name="", node=_node(256, swap_mib=64), cgroup_version="v1", cgroups=(group,),
        mappings=(_file("cache", cache), _anon("heap", 200 * MIB)),
        processes=(_process("box", tasks, "cache", "heap"),), duration_ns=40 * SECOND,
    )  # fmt: skip


def swap_mglru(rng: np.random.Generator) -> Scenario:
    """memory.max with swap.max under the multi-gen LRU."""
    plain = swap(rng)
    return replace(plain, node=replace(plain.node, release="6.12", lru_gen=True))


CASES = (
    Case("random-overcommit", random_overcommit, seeds=60),
    Case("cyclic-overcommit", cyclic_overcommit, seeds=100, last_step=1),
    Case("file-thrash", file_thrash),
    Case("swap", swap),
    Case("zswap", zswap),
    Case("memory-high", memory_high),
    Case("small-limit", small_limit, 6),
    Case("replicas", replicas),
    Case("zram-overcommit", zram_overcommit, seeds=60),
    Case("v1-pause", v1_pause),
    Case("swap-mglru", swap_mglru),
)
