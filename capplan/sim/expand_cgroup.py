"""Control groups, and what the timeline does to them and to their containers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from capplan.sim.expand_draws import Draws
from capplan.sim.scenario import LIMIT_FILES, PAGE_SIZE, UNLIMITED, Cgroup, Change
from capplan.spec.cgroup import CgroupFiles, ancestry
from capplan.spec.node import Container
from capplan.spec.timeline import RECLAIM, Setting, Step

_PLAIN = {
    "memory.zswap.writeback": "zswap_writeback",
    "memory.oom.group": "oom_group",
    "memory.swappiness": "swappiness",
    "memory.oom_control": "oom_kill_disable",
}


@dataclass(frozen=True)
class Life:
    """A container from a start to the stop after it (None: it runs on) [ns]."""

    start_ns: int
    stop_ns: int | None = None
    waits: bool = False  # an autoscaler starts it


def pages_of_limit(size: int) -> int:
    """Pages of a size written to a limit: the kernel rounds down (page_counter_memparse)."""
    return UNLIMITED if size == UNLIMITED else size // PAGE_SIZE


def cgroup_of(path: str, files: CgroupFiles, **other: Any) -> Cgroup:
    """The IR's group, with ``other`` fields; what is not written has the kernel's default."""
    fields = dict(other)
    for name, value in files.written().items():
        if name in LIMIT_FILES:
            fields[LIMIT_FILES[name]] = pages_of_limit(int(value))
        else:
            fields[_PLAIN[name]] = value
    return Cgroup(path, mems=files.cpuset_mems, **fields)


def add_ancestors(groups: dict[str, Cgroup]) -> dict[str, Cgroup]:
    """All groups, parents before children; parents that nobody wrote have no limits."""
    full: dict[str, Cgroup] = {}
    for path in sorted(groups, key=lambda p: p.count("/")):
        for above in reversed(ancestry(path)[1:]):
            full.setdefault(above, groups.get(above, Cgroup(above)))
        full[path] = groups[path]
    return full


def assume_oom_control(
    groups: dict[str, Cgroup], written: set[str], assumptions: list[str]
) -> dict[str, Cgroup]:
    """Version 1: what happens at a limit where ``memory.oom_control`` is not written.

    A group inherits its parent's (mm/memcontrol-v1.c, at creation). Where nobody wrote it, a
    group with a limit pauses: that is what this planner's v1 stands for, and it says so.
    """
    found: dict[str, Cgroup] = {}
    for path, group in groups.items():
        above = path.rpartition("/")[0]
        if path not in written and above in written:
            written.add(path)
            group = replace(group, oom_kill_disable=found[above].oom_kill_disable)
        if path not in written and (group.memory_max >= 0 or group.memsw_max >= 0):
            group = replace(group, oom_kill_disable=True, oom_kill_disable_assumed=True)
            assumptions.append(
                f"{path}: memory.oom_control is not written; pauses at its limit (assumed, "
                "a stock kernel has oom_kill_disable 0 and kills)"
            )
        found[path] = group
    return found


def lives_of(
    name: str, container: Container, timeline: tuple[Step, ...], draws: Draws, end_ns: int
) -> tuple[Life, ...]:
    """When a container runs.

    A first entry in the timeline that starts it makes it wait for that; otherwise it starts
    at its own ``start``.
    """
    steps = [
        (step.at_ns, kind)
        for step in timeline
        for kind, names in (("stop", step.stop), ("start", step.start))
        if name in names
    ]
    if not steps or steps[0][1] == "stop":
        steps.insert(0, (round(draws.sample(container.start, "start")), "start"))
    lives: list[Life] = []
    running = False
    for at, kind in steps:
        if kind == "start" and not running:
            lives.append(Life(at))
        elif kind == "stop" and running:
            lives[-1] = replace(lives[-1], stop_ns=at)
        running = kind == "start"
    return tuple(life for life in lives if life.start_ns < end_ns)


def changes_of(timeline: tuple[Step, ...], paths: dict[str, list[str]]) -> tuple[Change, ...]:
    """The settings of the timeline, one change for each replica's group.

    Parameters
    ----------
    timeline : tuple of Step
        Resolved and in order of time.
    paths : dict of str to list of str
        Group paths of "container NAME" and "group NAME".
    """
    return tuple(
        change for step in timeline for setting in step.settings
        for change in _changes(step.at_ns, setting, paths)
    )  # fmt: skip


def _changes(at_ns: int, setting: Setting, paths: dict[str, list[str]]) -> list[Change]:
    value = setting.value
    if setting.scope == "sysctl":
        if isinstance(value, tuple):
            return [Change(at_ns, "", f"{setting.key}.{i}", v) for i, v in enumerate(value)]
        return [Change(at_ns, "", setting.key, int(value))]
    assert not isinstance(value, tuple)
    pages = int(value)
    if setting.key in LIMIT_FILES or setting.key == RECLAIM:
        pages = pages_of_limit(pages)
    return [
        Change(at_ns, path, setting.key, pages) for path in paths[f"{setting.scope} {setting.name}"]
    ]
