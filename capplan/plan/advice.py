"""What to change, from what went wrong: limits that the demand needs, memory that the node lacks.

============================ ================================================================
what went wrong              what is proposed
============================ ================================================================
killed or paused at a limit  the limit at the peak demand of those inside it (:mod:`.demand`),
                             and a share on top for what the kernel charges besides
throttled at memory.high     memory.high there; memory.max above it
the node out of memory       the node's memory at the sum of all peak demands, its system and
                             its high marks
============================ ================================================================

Nothing is proposed for what no single setting mends (unfinished work without throttling, ENOMEM);
nothing where all fits. A proposal rests on the plan of the programs as drawn with this seed:
another seed may ask for more, which ``capplan risk`` measures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from capplan.plan.demand import Demand
from capplan.plan.outcome_context import NS_PER_S, Context
from capplan.sim.scenario import PAGE_SIZE
from capplan.spec.cgroup import ancestry
from capplan.units import format_bytes, format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from capplan.plan.outcome_model import Outcome

MIB = 1 << 20
GIB = 1 << 30
# Charges that no program plans: slab, per-cpu batches of 64 pages, the cache of mapped code that
# is in use. A convention of this planner; the tests hold that it is enough on the shipped nodes.
MARGIN = 0.05
STEP = 16 * MIB  # limits are proposed in steps that people write
HIGH_TO_MAX = 0.05  # room above memory.high before memory.max kills

AT_LIMIT = ("oom_kill", "paused", "enomem", "oom_no_victim")


@dataclass(frozen=True)
class Advice:
    """One change.

    ``settings`` are dotted keys of the node file and their values, as after ``--set``; ``files``
    are what a running host takes: (file, value).
    """

    title: str
    basis: str
    settings: dict[str, str] = field(default_factory=dict)
    files: tuple[tuple[str, str], ...] = ()
    caution: str = ""


def advise(
    outcome: Outcome,
    context: Context,
    planned: Mapping[str, Demand],
    resolved: Mapping[str, Any] | None = None,
) -> tuple[Advice, ...]:
    """What would mend the verdict.

    Parameters
    ----------
    outcome, context
        Of the run.
    planned : mapping of str to Demand
        Peak demand by container (:func:`capplan.plan.demand.demands`).
    resolved : mapping, optional
        The resolved node file, for its keys; without it only the host's files are named.

    Returns
    -------
    tuple of Advice
        The most serious first; empty when the verdict is "fits" or nothing follows from it.
    """
    wanted: dict[str, set[str]] = {}
    short = False
    for incident in (i for i in outcome.incidents if i.breaks):
        if "the node is out of memory" in incident.title or incident.kind == "panic":
            short = True
        elif incident.kind == "throttled":
            _want(wanted, context, incident.cgroup, "memory.high")
        elif incident.kind in AT_LIMIT:
            _want(wanted, context, incident.cgroup, context.limit_key)
    maker = _Maker(context, planned, resolved or {})
    found = [maker.limits(paths, keys) for paths, keys in maker.alike(wanted)]
    found += [maker.memory()] if short else []
    return tuple(advice for advice in found if advice is not None)


def _want(wanted: dict[str, set[str]], context: Context, cgroup: str, key: str) -> None:
    path = context.limiting(cgroup, key)
    if path is not None:
        wanted.setdefault(path, set()).add(key)


def _up(size: float) -> int:
    return math.ceil(size / STEP) * STEP


class _Maker:
    def __init__(
        self, context: Context, planned: Mapping[str, Demand], resolved: Mapping[str, Any]
    ) -> None:
        self.context, self.planned, self.resolved = context, planned, resolved

    def alike(self, wanted: Mapping[str, set[str]]) -> list[tuple[list[str], set[str]]]:
        """The cgroups by the entry of the node file that sets them, with what they want.

        An entry's replicas share its limits, those that went well in this run too.
        """
        found: dict[str, set[str]] = {}
        for path, keys in wanted.items():
            found.setdefault(self._file_key(path) or path, set()).update(keys)
        entries: dict[str, list[str]] = {}
        for path in dict.fromkeys((*wanted, *self.context.container_cgroup.values())):
            entries.setdefault(self._file_key(path) or path, []).append(path)
        return [(sorted(entries[entry]), keys) for entry, keys in found.items()]

    def limits(self, paths: list[str], keys: set[str]) -> Advice | None:
        """Limits of one cgroup (or of replicas alike) at what those inside ask for."""
        needs = {path: self._need(path) for path in paths}
        path = max(paths, key=lambda p: (needs[p], p))
        new = self._new_limits(path, keys, needs[path])
        if not new:
            return None
        files = [(f"{p}/{key}", str(size)) for p in paths for key, size in new.items()]
        settings = self._settings(path, new)
        for above, size in self._too_small_above(path, new):
            files.insert(0, (f"{above}/{self.context.limit_key}", str(size)))
            settings |= self._settings(above, {self.context.limit_key: size})
        said = " and ".join(f"{key} to {format_bytes(size)}" for key, size in new.items())
        entry = (self._file_key(path) or "").removeprefix("containers.")
        name = entry if len(paths) > 1 else self.context.called(path)
        return Advice(
            f"Raise {name}'s {said}", self._basis(path, needs[path], len(paths)), settings,
            tuple(files), self._caution(path),
        )  # fmt: skip

    def _inside(self, path: str) -> list[str]:
        return [c for c in self.context.containers_in(path) if c in self.planned]

    def _need(self, path: str) -> int:
        return sum(self.planned[c].bytes for c in self._inside(path))

    def _new_limits(self, path: str, keys: set[str], need: int) -> dict[str, int]:
        """Those of high and max that are below the need, raised; in the order of writing."""
        least = _up(need * (1 + MARGIN))
        high = self._lowest(path, "memory.high")
        most = self._lowest(path, self.context.limit_key)
        new: dict[str, int] = {}
        if high is not None and high < least and not self.context.v1:
            new["memory.high"] = least
            least = _up(least * (1 + HIGH_TO_MAX))
        if most is not None and most < least and (new or self.context.limit_key in keys):
            new = {self.context.limit_key: least} | new
        return new

    def _lowest(self, path: str, key: str) -> int | None:
        """The lowest this limit ever is, changes of the timeline included."""
        values = self.context.limit_series(path, key)
        low = float(values.min(initial=math.inf))
        return int(low) if math.isfinite(low) else None

    def _too_small_above(self, path: str, new: dict[str, int]) -> list[tuple[str, int]]:
        """Ancestors whose limit the raised one no longer fits into."""
        key = self.context.limit_key
        size = new.get(key)
        return [
            (above, size)
            for above in ancestry(path)[1:]
            if size is not None and (limit := self._lowest(above, key)) is not None and limit < size
        ]

    def _basis(self, path: str, need: int, replicas: int) -> str:
        inside = self._inside(path)
        if len(inside) == 1:
            at = format_duration(self.planned[inside[0]].t * NS_PER_S)
            most = f", the most of {replicas}," if replicas > 1 else ""
            who = f"the program of {inside[0]}{most} asks for {format_bytes(need)} at {at}"
        else:
            who = f"the programs of {len(inside)} containers ask for {format_bytes(need)} in all"
        return (
            f"{who}, page cache apart and without counting on swap; {100 * MARGIN:.0f} % on top "
            "for what the kernel charges besides"
        )

    def _caution(self, path: str) -> str:
        total = sum(d.bytes for d in self.planned.values())
        if total > self.context.memory:
            return (
                f"All containers together ask for {format_bytes(total)}; the node has "
                f"{format_bytes(self.context.memory)}. A higher limit moves the trouble to the "
                "node."
            )
        if any(self.planned[c].t >= self.context.duration for c in self._inside(path)):
            return (
                "The demand still grows at the end of the run. If that is a leak it outgrows any "
                "limit: mend the growth, the limit buys time."
            )
        return ""

    # --- where it is written --------------------------------------------------------------

    def _settings(self, path: str, new: dict[str, int]) -> dict[str, str]:
        """Keys of the node file, changes of its timeline included."""
        prefix = self._file_key(path)
        if prefix is None:
            return {}
        found = {f"{prefix}.{key}": f"{size // MIB}Mi" for key, size in new.items()}
        for number, entry in enumerate(self.resolved.get("timeline", ())):
            for key, size in new.items():
                if f"{prefix}.{key}" in (entry.get("set") or {}):
                    found[f"timeline.{number}.set.{prefix}.{key}"] = f"{size // MIB}Mi"
        return found

    def _file_key(self, path: str) -> str | None:
        """``containers.NAME`` or ``cgroup.groups.PATH`` of a cgroup."""
        names = [n for n, own in self.context.container_cgroup.items() if own == path]
        containers = self.resolved.get("containers", {})
        if len(names) == 1:
            name = names[0]
            stem, _, number = name.rpartition("-")
            if name in containers:
                return f"containers.{name}"
            if stem in containers and number.isdecimal():
                return f"containers.{stem}"
        if path in self.resolved.get("cgroup", {}).get("groups", {}):
            return f"cgroup.groups.{path}"
        return None

    # --- the node -------------------------------------------------------------------------

    def memory(self) -> Advice | None:
        """The node's memory at all that is asked for at once."""
        node = self.context.scenario.node
        asked = sum(d.bytes for d in self.planned.values())
        system = node.kernel_pages + node.slab_pinned_pages
        system += node.daemon_anon_pages + node.daemon_shmem_pages
        marks = sum(high for _, _, high in self.context.run.wmarks.values())
        need = asked + (system + marks) * PAGE_SIZE
        managed = sum(zone.managed for zone in node.zones) * PAGE_SIZE
        missing = need * (1 + MARGIN) - managed
        if missing <= 0:
            return None
        now = int(self.resolved.get("node", {}).get("memory") or managed)
        size = math.ceil((now + missing) / GIB) * GIB
        basis = (
            f"the programs of {len(self.planned)} containers ask for {format_bytes(asked)} in all "
            f"(each at its own peak), the system and the high marks for "
            f"{format_bytes(need - asked)}; the node manages {format_bytes(managed)}. Page cache "
            f"and swap are not counted; {100 * MARGIN:.0f} % on top"
        )
        settings = {"node.memory": f"{size // GIB}Gi"} if self.resolved else {}
        title = f"Give the node {format_bytes(size)} of memory, or run less on it"
        return Advice(f"{title}: {format_bytes(missing)} are missing", basis, settings)
