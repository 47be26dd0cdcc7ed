"""What below recorded, as a node file whose containers follow it.

A group without groups below it becomes a container; the others are groups with their limits. What
they hold beside the groups below them is told, not followed.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from statistics import median
from typing import Any

from capplan.errors import InputError
from capplan.sources.below import Dump, Group
from capplan.sources.draft import Draft, doubt, legal_name
from capplan.sources.host import Host, machine
from capplan.spec.emit import Noted
from capplan.units import MIB, UNLIMITED, format_bytes, format_k8s

__all__ = ["draft_of"]

SMALL = MIB  # a group that never held more is left out [bytes]
WIDTH = 92
LATE = 3  # so many intervals late: it was not there before; so many early: it went
FLAGS = ("memory.oom.group",)


def draft_of(dump: Dump, host: Host) -> Draft:
    """A node file, profiles and traces of a dump.

    Raises
    ------
    InputError
        No group holds anything.
    """
    draft = Draft(node={}, problems=dump.problems)
    leaves = {path: group for path, group in dump.groups.items() if _is_leaf(path, dump)}
    _tell(dump, leaves, draft)
    kept = {path: group for path, group in leaves.items() if _most(group) > SMALL}
    if not kept:
        raise InputError(f"no group in these files ever held more than {format_bytes(SMALL)}")
    begin = min(group.times[0] for group in kept.values())
    end = max(group.times[-1] for group in kept.values())
    groups: dict[str, Any] = {
        path: _files(group) for path, group in dump.groups.items() if path and path not in leaves
    }
    containers: dict[str, Any] = {}
    for path, group in kept.items():
        parent, _, name = path.rpartition("/")
        key = legal_name(name, containers)
        file = f"profiles/{key}.yaml"
        containers[key] = {"profile": file, **({"parent": parent} if parent else {})}
        containers[key] |= _files(group)
        _follow(draft, key, containers[key], path, group, (begin, end))
    seconds = max(int(end - begin), 1)
    draft.node.update(
        {
            "capplan": 1,
            "name": legal_name(dump.hostname or "below"),
            "node": machine(host),
            "cgroup": {"version": "v2", "groups": groups},
            "containers": containers,
            "run": {
                "duration": Noted(f"{seconds}s", "as long as the dump"),
                "start": "warm", "seed": 1,
            },
        }
    )  # fmt: skip
    draft.header = _header(dump, kept)
    return draft


def _is_leaf(path: str, dump: Dump) -> bool:
    if dump.paths:
        return bool(path) and not any(other.startswith(f"{path}/") for other in dump.groups)
    return bool(path) and not path.endswith(".slice")


def _most(group: Group) -> float:
    return max((size or 0 for size in group.sizes["usage"]), default=0)


def _tell(dump: Dump, leaves: dict[str, Group], draft: Draft) -> None:
    """What a dump without paths and groups that hold something themselves leave open."""
    if not dump.paths:
        draft.problems.append(
            doubt("below", 0, "no Full Path: slices are taken to hold nothing themselves, other "
                  "groups to be below the root", "below dump cgroup -f name full_path ...")
        )  # fmt: skip
        return
    for path, group in dump.groups.items():
        if path in leaves or not path:
            continue
        below = [g for p, g in dump.groups.items() if p.rpartition("/")[0] == path]
        own = _most(group) - sum(_most(one) for one in below)
        if own > 16 * SMALL:
            message = f"{path} holds about {format_bytes(int(own))} beside the groups below it"
            draft.problems.append(doubt("below", 0, f"{message}: not followed"))


def _files(group: Group) -> dict[str, Any]:
    """Control files that differ from what the kernel starts a group with."""
    made: dict[str, Any] = {}
    for file, size in group.files.items():
        if file in FLAGS:
            made |= {file: True} if size else {}
        elif size != (0 if file in ("memory.min", "memory.low") else UNLIMITED):
            made[file] = format_k8s(size)
    return made


def _header(dump: Dump, kept: dict[str, Group]) -> tuple[str, ...]:
    lines = [f"From below: {len(kept)} groups, each as it was recorded."]
    if dump.rounded:
        lines.append("Sizes were printed with one decimal (up to 5 % off): --raw keeps them.")
    if dump.available and dump.memory:
        held = dump.memory - int(median(dump.available))
        lines.append(f"MemTotal less MemAvailable was {format_bytes(held)}, the median.")
    return tuple(lines)


# --- traces --------------------------------------------------------------------------------


def _follow(
    draft: Draft, name: str, entry: dict[str, Any], path: str, group: Group,
    span: tuple[float, float],
) -> None:  # fmt: skip
    pairs = zip(group.sizes["anon"], group.sizes["file"])
    split = any(anon is not None and cache is not None for anon, cache in pairs)
    rows = list(_rows(group, split, span[0]))
    file = f"traces/{name}.csv"
    titles = "time,anon,file" if split else "time,usage"
    draft.files[file] = "\n".join([titles, *(",".join(map(str, row)) for row in rows)]) + "\n"
    columns = (
        {"time": "time", "anon": "anon", "file": "file"} if split
        else {"time": "time", "value": "usage"}
    )  # fmt: skip
    trace: dict[str, Any] = {
        "file": f"../{file}", "measures": "anon" if split else "usage", "columns": columns,
        "time_unit": "s",
    }  # fmt: skip
    steps = [b - a for a, b in zip(group.times, group.times[1:])]
    interval = median(steps) if steps else 5.0
    if steps:
        trace["max_gap"] = f"{max(steps) + 1:.3f}s"
    if span[1] - group.times[-1] > LATE * interval:
        trace["at_end"] = Noted("exit", "its samples end")
    late = group.times[0] - span[0]
    if late > LATE * interval:
        entry["start"] = Noted(f"{late:.3f}s", "when its samples begin")
    limit = group.files.get("memory.max", UNLIMITED)
    if limit > 0:
        trace["limit"] = Noted(format_k8s(limit), "that it ran under")
    said = (
        f"{len(rows)} samples, one every {interval:g} s; "
        + ("anonymous memory with its swap, and page cache" if split else "usage, not split")
        + f"; usage at most {format_bytes(int(_most(group)))}"
    )
    draft.profiles[entry["profile"]] = {
        "capplan": 1, "profile": name, "description": _printable(path),
        "processes": {"main": Noted({"trace": trace}, above=tuple(textwrap.wrap(said, WIDTH)))},
    }  # fmt: skip


def _rows(group: Group, split: bool, begin: float) -> Iterator[tuple[float | int, ...]]:
    """Times and sizes: anon holds what is swapped out too, shmem counts as anonymous."""
    sizes = group.sizes
    for n, at in enumerate(group.times):
        when = round(at - begin, 3)
        if not split:
            if (usage := sizes["usage"][n]) is not None:
                yield when, int(usage)
            continue
        anon, cache = sizes["anon"][n], sizes["file"][n]
        if anon is None or cache is None:
            continue
        swap, shmem = (sizes[kind][n] or 0 for kind in ("swap", "shmem"))
        shared = min(shmem, cache)
        yield when, int(anon + swap + shared), int(cache - shared)


def _printable(text: str) -> str:
    return re.sub(r"[^\x20-\x7e]", "?", text)[:200]
