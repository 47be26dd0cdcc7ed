"""Kernel files that the node's release does not have yet.

The releases are those whose Documentation/admin-guide/cgroup-v2.rst (before 4.15
Documentation/cgroup-v2.txt) describes the file first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from capplan.errors import Place, Problem
from capplan.spec.tree import KeyPath, shown_path

if TYPE_CHECKING:
    from capplan.spec.loader import NodeSpec

V2_SINCE = (4, 5)
"""The memory controller of cgroup v2."""

SINCE = {
    "memory.min": (4, 18),
    "memory.oom.group": (4, 19),
    "memory.swap.high": (5, 8),
    "memory.zswap.max": (5, 19),
    "memory.reclaim": (5, 19),
    "memory.zswap.writeback": (6, 8),
}
"""The first release of each file that cgroup v2 did not have from its first day."""


def check_files_of_release(spec: NodeSpec) -> Iterator[Problem]:
    """A file that the release does not have: said, for a distribution may have it all the same."""
    version = major_minor(spec.node.kernel)
    if version is None or spec.cgroup.version == "v1":
        return
    if version < V2_SINCE:
        place = spec.place("cgroup", "version")
        yield not_yet(place, ("cgroup", "version"), "memory controller in cgroup v2", V2_SINCE)
        return
    for path, key, place in _written(spec):
        if version < SINCE.get(key, version):
            yield not_yet(place, path, f"file {key}", SINCE[key])


def _written(spec: NodeSpec) -> Iterator[tuple[KeyPath, str, Place]]:
    groups = spec.cgroup.groups.items()
    for at, files in (
        *((("cgroup", "groups", name), group) for name, group in groups),
        *((("containers", name), container) for name, container in spec.containers.items()),
    ):
        for key in files.written():
            yield (*at, key), key, spec.key_place(*at, key)
    for step in spec.timeline:
        for setting in step.settings:
            yield (setting.path,), setting.key, setting.place


def major_minor(release: str) -> tuple[int, int] | None:
    """``6.12`` of ``6.12.9-amd64``; None where that is no release's name."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else None


def not_yet(place: Place, path: KeyPath, what: str, since: tuple[int, int]) -> Problem:
    """A warning: the node's release does not have what is written, unless it was brought back."""
    release = ".".join(map(str, since))
    message = f"this kernel has no {what}: it came with {release}"
    expected = f"node.kernel {release} or later, unless a distribution brought it earlier"
    return Problem(place, shown_path(path), message, expected, "", "C032", "warning")
