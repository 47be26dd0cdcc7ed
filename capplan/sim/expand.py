"""A checked node file becomes a :class:`~capplan.sim.scenario.Scenario`.

This is where people's units end: bytes become pages, profiles become mappings and
operations, distributions become values (drawn here, see :mod:`capplan.sim.expand_draws`),
and what nobody wrote becomes an assumption that is printed with the verdict.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from capplan.errors import InputError, Problem
from capplan.sim.expand_agents import Instance as Named
from capplan.sim.expand_agents import agents_of, kubepods, kubepods_limit, oom_score_adj
from capplan.sim.expand_autoscalers import running_replicas, with_room
from capplan.sim.expand_cgroup import (
    Life,
    add_ancestors,
    assume_oom_control,
    cgroup_of,
    changes_of,
    lives_of,
)
from capplan.sim.expand_container import THREAD_BYTES, Instance
from capplan.sim.expand_draws import Blend, Draws
from capplan.sim.expand_family import Family
from capplan.sim.expand_node import expand_node
from capplan.sim.expand_phases import to_pages
from capplan.sim.expand_world import World
from capplan.sim.scenario import PAGE_SIZE, Cgroup, Change, LruLists, Process, Scenario
from capplan.spec.node import Container, Machine
from capplan.spec.profile import Region
from capplan.spec.tree import shown_path

if TYPE_CHECKING:
    from capplan.sim.agents.model import Agent
    from capplan.spec import NodeSpec
    from capplan.spec.loader import Source

__all__ = ["expand", "instance_names", "sample_ns"]

DEFAULT_ZRAM_COMPRESSOR = "lzo-rle"  # drivers/block/zram/Kconfig, ZRAM_DEF_COMP
NEVER_CHOSEN_ADJ = -999
SYSTEM_GROUP = "system.slice"
MARK_SYSCTLS = ("min_free_kbytes", "watermark_scale_factor")
MAX_SAMPLES = 2000  # what a picture can show; also bounds the result's size
# Steps that people read easily [ns]
SAMPLE_STEPS = tuple(
    round(seconds * 1e9)
    for seconds in (0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
)


def expand(
    spec: NodeSpec, seed: int | None = None, replicate: int = 0, blend: Blend = ()
) -> Scenario:
    """What a loaded node file means in the kernel's units.

    Parameters
    ----------
    spec : NodeSpec
        What :func:`capplan.spec.load` returned.
    seed : int, optional
        Instead of the file's ``run.seed``.
    replicate : int, default 0
        Number of the run in a Monte Carlo; 0 is the single run.
    blend : tuple of (int, float), optional
        Replicates whose draws are weighted and added up instead
        (:class:`capplan.sim.expand_draws.Draws`).

    Returns
    -------
    Scenario
        The same arguments give the same scenario, on every machine.

    Raises
    ------
    InputError
        A trace that cannot be followed, phases without end, a node that cannot boot.
    """
    common = _common(spec, keep=replicate > 0)
    seed = spec.run.seed if seed is None else seed
    world = common.world.again(Draws(seed, replicate, blend=blend))
    _daemons(world, common.spec)
    for family in common.families:
        _container(world, family, common)
    _note_compressibility(world)
    for note in common.notes_of_agents:
        world.note(note)
    run = spec.run
    return Scenario(
        name=spec.name,
        node=world.node,
        cgroup_version=spec.cgroup.version,
        cgroups=common.cgroups,
        mappings=world.mappings(),
        processes=tuple(world.processes),
        changes=common.changes,
        agents=common.agents,
        duration_ns=run.duration,
        sample_ns=sample_ns(run.duration) if run.sample is None else run.sample,
        seed=seed,
        granule_order=run.granule,
        assumptions=world.noted(),
        lru=common.lru,
    )


@dataclass(frozen=True, eq=False)
class Common:
    """What all runs of a node file have in common: everything but what is drawn."""

    spec: NodeSpec  # with as many replicas as autoscalers may ever start
    running: dict[str, int]  # replicas at the start, where an HPA scales them
    world: World  # without any process
    families: tuple[Family, ...]
    cgroups: tuple[Cgroup, ...]
    changes: tuple[Change, ...]
    agents: tuple[Agent, ...]
    notes_of_agents: tuple[str, ...]
    lru: tuple[tuple[str, LruLists], ...]


_KEPT: dict[int, tuple[NodeSpec, Common]] = {}  # of the latest files of which many runs are made
_MOST_KEPT = 16


def _common(spec: NodeSpec, *, keep: bool) -> Common:
    """What all runs have in common; of runs of many it is kept from the first one."""
    if not keep:
        return _of_all_runs(spec)
    if id(spec) not in _KEPT:
        if len(_KEPT) >= _MOST_KEPT:
            _KEPT.pop(next(iter(_KEPT)))
        _KEPT[id(spec)] = (spec, _of_all_runs(spec))  # as long as it is kept, its id is its own
    return _KEPT[id(spec)][1]


def _of_all_runs(spec: NodeSpec) -> Common:
    running = running_replicas(spec)
    spec = with_room(spec)
    world = _world(spec)
    paths = _groups(spec, world)
    _enforce_allocatable(spec, world)
    _group_of_daemons(world, spec)
    families = tuple(_family(world, name, spec) for name in spec.containers)
    told = replace(world, assumptions=[])
    agents = agents_of(spec, told, _instances(spec), running)
    return Common(
        spec=spec,
        running=running,
        world=world,
        families=families,
        cgroups=tuple(world.cgroups.values()),
        changes=changes_of(spec.timeline, paths),
        agents=agents,
        notes_of_agents=tuple(told.assumptions),
        lru=_lru(spec) if world.warm else (),
    )


def _lru(spec: NodeSpec) -> tuple[tuple[str, LruLists], ...]:
    """How old what was captured is, in pages."""
    return tuple(
        (
            path.strip("/"),
            LruLists(
                tuple(size // PAGE_SIZE for size in lists.anon),
                tuple(size // PAGE_SIZE for size in lists.file),
                lists.age,
            ),
        )
        for path, lists in spec.cgroup.lru.items()
    )


def sample_ns(duration_ns: int) -> int:
    """Distance of samples: the smallest readable step with at most 2000 of them.

    Worked example
    --------------
    24 h: 86400 s / 2000 = 43.2 s, so 60 s. 1 h: 2 s. 60 s: 0.1 s.
    """
    for step in SAMPLE_STEPS:
        if duration_ns <= step * MAX_SAMPLES:
            return step
    return -(-duration_ns // MAX_SAMPLES)


def _world(spec: NodeSpec) -> World:
    assumptions = list(spec.model.assumptions)
    node = expand_node(_machine(spec), assumptions)
    zram = next((swap for swap in spec.node.swap if swap.speeds.device == "zram"), None)
    compressor: str | None = zram.compressor if zram is not None else None
    if node.zswap is not None and node.zswap.enabled:
        compressor = node.zswap.compressor
    return World(
        node=node,
        draws=Draws(spec.run.seed),
        duration_ns=spec.run.duration,
        warm=spec.run.start == "warm",
        compressor=compressor or DEFAULT_ZRAM_COMPRESSOR,
        assumptions=assumptions,
    )


def _machine(spec: NodeSpec) -> Machine:
    """The node's machine. A sysctl that ``--set`` writes makes the kernel set the marks anew
    (setup_per_zone_wmarks()), so captured ones no longer hold.
    """
    zones = spec.node.zones
    if zones is None or not any(key.endswith(MARK_SYSCTLS) for key in spec.settings):
        return spec.node
    fresh = {"min": None, "low": None, "high": None}
    return spec.node.model_copy(
        update={"zones": tuple(zone.model_copy(update=fresh) for zone in zones)}
    )


def instance_names(name: str, container: Container) -> list[str]:
    """Names of a container's replicas: its own if there is one, else with a number."""
    if container.replicas == 1:
        return [name]
    return [f"{name}-{index}" for index in range(container.replicas)]


def _instances(spec: NodeSpec) -> dict[str, list[Named]]:
    return {
        name: [Named(inst, container.group(inst)) for inst in instance_names(name, container)]
        for name, container in spec.containers.items()
    }


def _enforce_allocatable(spec: NodeSpec, world: World) -> None:
    """The limit that the kubelet writes to kubepods."""
    limit = kubepods_limit(spec, world)
    if limit is not None:
        path = kubepods(spec)
        world.cgroups[path] = replace(world.cgroups[path], memory_max=limit // PAGE_SIZE)


def _groups(spec: NodeSpec, world: World) -> dict[str, list[str]]:
    """Fill in all groups; return the paths of each container's and declared group's."""
    groups: dict[str, Cgroup] = {}
    paths: dict[str, list[str]] = {}
    written: set[str] = set()  # groups whose memory.oom_control is written
    for path, group in spec.cgroup.groups.items():
        paths[f"group {path}"] = [path.strip("/")]
        slab = (group.slab_reclaimable or 0) // PAGE_SIZE if world.warm else 0
        groups[path.strip("/")] = cgroup_of(path.strip("/"), group, slab_reclaimable_pages=slab)
        if group.memory_oom_control is not None:
            written.add(path.strip("/"))
    for name, container in spec.containers.items():
        paths[f"container {name}"] = [
            container.group(inst) for inst in instance_names(name, container)
        ]
        if container.cgroup is not None:
            continue  # a group that is declared, or the root
        for path in paths[f"container {name}"]:
            groups[path] = cgroup_of(path, container, of_container=True)
            if container.memory_oom_control is not None:
                written.add(path)
    full = add_ancestors(groups)
    if spec.cgroup.version == "v1":
        full = assume_oom_control(full, written, world.assumptions)
    world.cgroups |= full
    return paths


def _family(world: World, name: str, spec: NodeSpec) -> Family:
    container = spec.containers[name]
    container = container.model_copy(update={"oom_score_adj": oom_score_adj(spec, name, world)})
    source = spec.sources[name]
    for note in source.notes:
        world.note(note)
    lives = None
    if container.start.constant is not None:
        lives = lives_of(name, container, spec.timeline, world.draws, world.duration_ns)
    return Family(name, container, source.profile, source.path.parent, lives)


def _container(world: World, family: Family, common: Common) -> None:
    """Write all replicas of a container, in all their lives; those that do not run yet wait."""
    name, container = family.container, family.spec
    timeline, running = common.spec.timeline, common.running.get(name)
    for replica, inst in enumerate(instance_names(name, container)):
        lives = family.lives
        if lives is None:
            draws = world.draws.at((name, replica), (name,))
            lives = lives_of(name, container, timeline, draws, world.duration_ns)
        if running is not None and replica >= running:
            lives = (Life(0, waits=True),)
        for number, life in enumerate(lives):
            instance = Instance(
                world=world,
                family=family,
                replica=replica,
                name=inst,
                cgroup=container.group(inst),
                life=life,
                number=number,
            )
            try:
                instance.write()
            except InputError as error:
                raise _placed(error, common.spec.sources[name]) from error


_ABOUT = re.compile(r"containers\.\S+: (processes\.[^:]+): (.*)", re.DOTALL)


def _placed(error: InputError, source: Source) -> InputError:
    """The error with its place in the profile, where it names a key of one."""
    about = _ABOUT.fullmatch(str(error))
    if about is None or error.problems:
        return error
    keys = tuple(about[1].split("."))
    message, _, expected = about[2].partition("; ")
    return InputError(
        Problem(
            source.place(*keys),
            shown_path((*source.prefix, *keys)),
            message,
            expected,
            code="C019",
        )
    )


def _note_compressibility(world: World) -> None:
    if world.compresses and world.unsaid:
        regions = "1 region" if world.unsaid == 1 else f"{world.unsaid} regions"
        world.note(
            f"{regions} without compressibility: stored at 1/{world.ratio:.1f} of the size "
            f"({world.compressor}, assumed)"
        )


def _has_daemons(spec: NodeSpec) -> bool:
    """Whether there are daemons that the OOM killer may choose: they become processes.

    With -999 or less, the badness of any daemon is below that of every other process (0.999
    of memory and swap is taken off it): those are part of the node's own use.
    """
    daemons = spec.node.system.daemons
    return daemons.oom_score_adj > NEVER_CHOSEN_ADJ and daemons.memory > 0


def _group_of_daemons(world: World, spec: NodeSpec) -> None:
    if _has_daemons(spec):
        world.node = replace(world.node, daemon_anon_pages=0, daemon_locked_pages=0)
        world.cgroups.setdefault(SYSTEM_GROUP, Cgroup(SYSTEM_GROUP))


def _daemons(world: World, spec: NodeSpec) -> None:
    if not _has_daemons(spec):
        return
    daemons = spec.node.system.daemons
    share, locked = daemons.memory // daemons.count, daemons.locked // daemons.count
    for index in range(daemons.count):
        name = f"system/daemon-{index}" if daemons.count > 1 else "system/daemon"
        names = []
        for what, size in (("heap", share - locked), ("locked", locked)):
            if size > 0:
                region = Region(kind="anon", locked=what == "locked")
                world.plan(f"{name}/{what}", region, size // PAGE_SIZE, True)
                names.append(f"{name}/{what}")
        world.processes.append(
            Process(
                name,
                SYSTEM_GROUP,
                "system",
                oom_score_adj=daemons.oom_score_adj,
                mappings=tuple(names),
                kernel_pages=to_pages(THREAD_BYTES),
            )
        )
