"""Another cgroup version for a node file that was written for one: ``--set cgroup.version=v1``.

Each key of the old version becomes its counterpart or is left out; a warning at its place says
which, and what that changes. Only ``--set`` translates: a file whose keys and version disagree is
an error, for its writer may mean either.

================================ ============================== ==============================
cgroup v2                        cgroup v1                      what differs
================================ ============================== ==============================
memory.max                       memory.limit_in_bytes          with nothing left to reclaim, v2
                                                                kills; v1 as memory.oom_control
memory.swap.max (v2 counts swap) memory.memsw.limit_in_bytes    the sum; where reclaim has not
                                 (memory and swap together)     used the limit, v1 allows more
memory.low                       memory.soft_limit_in_bytes     from v1; not to it (v1 reclaims
                                                                from those above, protects none)
memory.high, memory.min, swap.   none                           no throttle, no protection
high, zswap.*, oom.group
memory.swappiness, oom_control   none                           vm.swappiness; v2 kills
================================ ============================== ==============================

Source: Documentation/admin-guide/cgroup-v2.rst, "Issues with v1 and Rationales for v2" (the soft
limit became memory.low; memsw became swap.max).
"""

from __future__ import annotations

from collections.abc import Iterator

from capplan.errors import Problem
from capplan.spec.cgroup import V1_FILES, V2_FILES
from capplan.spec.tree import KeyPath, Node, shown_path
from capplan.units import UNLIMITED, UnitError, format_k8s, parse_size

__all__ = ["translate"]

CODE = "C033"
_SAME = {
    "v1": {"memory.max": "memory.limit_in_bytes"},
    "v2": {"memory.limit_in_bytes": "memory.max", "memory.soft_limit_in_bytes": "memory.low"},
}
_WHY_NOT = {
    "memory.high": "v1 does not throttle before the limit",
    "memory.min": "v1 protects no memory from reclaim",
    "memory.low": "v1 protects no memory from reclaim",
    "memory.swap.high": "v1 does not throttle swap",
    "memory.zswap.max": "v1 does not limit a group's zswap pool",
    "memory.zswap.writeback": "v1 writes zswap back whatever the group",
    "memory.oom.group": "v1 kills one process",
    "memory.swappiness": "v2 has node.sysctl.vm.swappiness only",
    "memory.oom_control": "v2 kills when nothing is left to reclaim",
    "memory.reclaim": "v1 has no file of that kind",
}
SWAP_MAX, MEMSW = "memory.swap.max", "memory.memsw.limit_in_bytes"


def translate(tree: Node, version: str) -> list[Problem]:
    """Rewrite a node file's tree for another cgroup version.

    Parameters
    ----------
    tree : Node
        A node file's, which may be changed.
    version : str
        ``v1`` or ``v2``: what the node is to have.

    Returns
    -------
    list of Problem
        A warning for each key that was rewritten or left out.
    """
    notes: list[Problem] = []
    for path, files in _files(tree):
        notes += _translate_group(files, path, version)
    notes += _translate_timeline(tree, version)
    return notes


def _files(tree: Node) -> Iterator[tuple[KeyPath, Node]]:
    """The mappings that hold cgroup files: groups and containers."""
    for path in (("cgroup", "groups"), ("containers",)):
        node: Node | None = tree
        for key in path:
            node = node.child(key) if node is not None else None
        if node is not None and node.kind == "mapping":
            for name, held in node.value.items():
                if held.kind == "mapping":
                    yield (*path, name), held


def _translate_group(files: Node, path: KeyPath, version: str) -> Iterator[Problem]:
    foreign = V2_FILES if version == "v1" else V1_FILES
    old = {key: files.value[key] for key in files.value if key in foreign}
    for key, value in old.items():
        place = files.keys[key]
        del files.value[key]
        instead = _SAME[version].get(key)
        text = str(value.value)
        if key in (SWAP_MAX, MEMSW):
            instead, text = _swap_limit(key, old, files)
        if instead is None:
            why = _WHY_NOT.get(key, "there is no counterpart")
            message = f"left out under cgroup {version}: {why}"
        else:
            message = f"taken as {instead}: {text} under cgroup {version}"
            files.value.setdefault(instead, Node(value.place, text, text))  # unless it is set too
            files.keys.setdefault(instead, place)
        yield Problem(place, shown_path((*path, key)), message, code=CODE, severity="warning")


def _swap_limit(key: str, old: dict[str, Node], files: Node) -> tuple[str | None, str]:
    """memory.swap.max out of memsw, or memsw out of swap.max: the memory limit off or added."""
    limit_key = "memory.max" if key == SWAP_MAX else "memory.limit_in_bytes"
    memory = _size(old.get(limit_key))
    swap = _size(old[key])
    instead = MEMSW if key == SWAP_MAX else SWAP_MAX
    if swap is None or memory is None:
        return None, ""
    if swap == UNLIMITED or memory == UNLIMITED:
        return instead, "max"
    return instead, format_k8s(max(swap + memory if key == SWAP_MAX else swap - memory, 0))


def _size(value: Node | None) -> int | None:
    """A limit in bytes; None: not there, or not a size (the check of the file says so)."""
    if value is None:
        return None
    if value.value == "max":
        return UNLIMITED
    try:
        return int(parse_size(value.value))
    except UnitError:
        return None


def _translate_timeline(tree: Node, version: str) -> Iterator[Problem]:
    """Limits that change during the run: those whose value stays the same are renamed."""
    foreign = V2_FILES | {"memory.reclaim"} if version == "v1" else V1_FILES
    steps = tree.child("timeline")
    for index, step in enumerate(steps.value if steps is not None and steps.kind == "list" else ()):
        held = step.child("set")
        for dotted in list(held.value) if held is not None and held.kind == "mapping" else ():
            key = next((name for name in foreign if dotted.endswith(f".{name}")), None)
            if key is None:
                continue
            place, value = held.keys[dotted], held.value.pop(dotted)
            instead = _SAME[version].get(key)
            if instead is None:
                why = _WHY_NOT.get(key, "what it counts differs")
                message = f"left out under cgroup {version}: {why}"
            else:
                new = dotted.removesuffix(key) + instead
                held.value[new], held.keys[new] = value, place
                message = f"taken as {instead} under cgroup {version}"
            path = shown_path(("timeline", index, "set", dotted))
            yield Problem(place, path, message, code=CODE, severity="warning")
