"""What the replicas of a container have in common, in all runs of a node file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from capplan.errors import InputError
from capplan.sim.expand_cgroup import Life
from capplan.sim.expand_phases import forked, written_regions
from capplan.sim.expand_trace import Recording
from capplan.spec.node import Container
from capplan.spec.profile import Process, Profile

__all__ = ["Family"]


@dataclass(frozen=True, eq=False)
class Family:
    """A container's replicas."""

    container: str
    spec: Container
    profile: Profile
    folder: Path  # what files of the profile are relative to
    lives: tuple[Life, ...] | None  # None: when it starts is drawn

    @cached_property
    def by_parent(self) -> tuple[str, ...]:
        """Names of processes, those that fork before those that are forked."""
        return tuple(_by_parent(self.profile.processes, self.container))

    @cached_property
    def forked(self) -> set[str]:
        """Processes that begin when a phase of their parent says so."""
        return {name for spec in self.profile.processes.values() for name in forked(spec.phases)}

    @cached_property
    def written(self) -> set[str]:
        """Regions that any of its processes writes to."""
        found = {n for n, r in self.profile.shared.regions.items() if r.write > 0}
        for spec in self.profile.processes.values():
            found |= {name for name, region in spec.regions.items() if region.write > 0}
            found |= written_regions(spec.phases)
        return found

    def sharers(self, region: str) -> int:
        """Processes that share a region's access rate: all that attach it."""
        users = [p for p in self.profile.processes.values() if region in (*p.uses, *p.regions)]
        return max(sum(p.count for p in users), 1)

    def recording(self, process: str) -> Recording:
        """The trace that a process follows."""
        if process not in self._recordings:
            trace = self.profile.processes[process].trace
            assert trace is not None
            limits = (self.spec.memory_max, self.spec.memory_limit_in_bytes)
            limit = next((value for value in limits if value is not None), -1)
            self._recordings[process] = Recording(trace, self.folder, limit)
        return self._recordings[process]

    @cached_property
    def _recordings(self) -> dict[str, Recording]:
        return {}


def _by_parent(processes: dict[str, Process], container: str) -> Iterator[str]:
    done: set[str] = set()
    left = list(processes)
    while left:
        ready = [n for n in left if (processes[n].fork_of or n) in done | {n}]
        if not ready:
            raise InputError(
                f"containers.{container}: fork_of of {', '.join(left)} leads to no process "
                "that starts by itself"
            )
        yield from ready
        done.update(ready)
        left = [n for n in left if n not in done]
