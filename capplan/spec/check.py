"""Named checks of input that parses but makes no physical sense.

Each check is a small function that yields problems; a problem is an error when the node
could not run that way, a warning when a real node would run but hardly as meant.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from capplan.errors import Place, Problem, closest, quoted
from capplan.spec.cgroup import COUNTERPART, V1_FILES, V2_FILES, CgroupFiles
from capplan.spec.check_agents import (
    check_kubelet,
    check_managed_oom,
    check_pods,
    check_requests,
    check_restart_keys,
)
from capplan.spec.check_autoscalers import check_autoscalers
from capplan.spec.check_files import check_files_of_release
from capplan.spec.check_names import check_profile_names
from capplan.spec.hugepages import check_hugepages
from capplan.spec.marks import PAGE, check_watermarks
from capplan.spec.mempolicy import check_mempolicies, numa_nodes
from capplan.spec.tree import KeyPath, Node, shown_path
from capplan.units import UNLIMITED, Size, format_bytes

if TYPE_CHECKING:
    from capplan.spec.loader import NodeSpec, Source
    from capplan.spec.profile import Profile

Check = Callable[["NodeSpec"], Iterator[Problem]]

_RELEASE = re.compile(r"v?[0-9]{1,2}\.[0-9]{1,3}([.\-+~_][0-9A-Za-z.\-+~_]*)?")


def check(spec: NodeSpec) -> list[Problem]:
    """Run all checks; return errors and warnings."""
    return [problem for each in CHECKS for problem in each(spec)]


def check_release(spec: NodeSpec) -> Iterator[Problem]:
    """The kernel release must start with a version."""
    release = spec.node.kernel
    if not _RELEASE.fullmatch(release):
        expected = "a release as uname -r prints it: 6.12, 5.14.0-427.el9.x86_64"
        message = f"{quoted(release)} is not a kernel release"
        place = spec.place("node", "kernel")
        yield Problem(place, "node.kernel", message, expected, "", "C025")


def check_cpuset_mems(spec: NodeSpec) -> Iterator[Problem]:
    """Memory can only come from NUMA nodes that are there."""
    there = numa_nodes(spec.node)
    for path, files in _groups(spec):
        for node in sorted(set(files.cpuset_mems or ()) - there):
            message = f"there is no NUMA node {node}"
            expected = f"some of {', '.join(map(str, sorted(there)))} (node.numa splits the memory)"
            place = spec.place(*path, "cpuset.mems")
            shown = shown_path((*path, "cpuset.mems"))
            yield Problem(place, shown, message, expected, "", "C029")


def check_cgroup_version(spec: NodeSpec) -> Iterator[Problem]:
    """A v2 key on a v1 node does not exist, and the reverse."""
    version = spec.cgroup.version
    foreign = V2_FILES if version == "v1" else V1_FILES
    other = "v2" if version == "v1" else "v1"
    for path, files in _groups(spec):
        for key in files.written():
            if key in foreign:
                instead = COUNTERPART.get(key, "")
                expected = (
                    f"{instead} on a {version} node" if instead else f"cgroup.version: {other}"
                )
                message = f"'{key}' is a file of cgroup {other}, the node has {version}"
                place = spec.key_place(*path, key)
                yield Problem(place, shown_path((*path, key)), message, expected, "", "C020")
    for step in spec.timeline:
        for setting in step.settings:
            v2_only = setting.key in V2_FILES or setting.key == "memory.reclaim"
            if setting.key in foreign or (version == "v1" and v2_only):
                message = f"'{setting.key}' is a file of cgroup {other}, the node has {version}"
                expected = f"a {version} file"
                yield Problem(setting.place, setting.path, message, expected, "", "C020")


def check_parents(spec: NodeSpec) -> Iterator[Problem]:
    """A container's parent, and a group's own parents, must be declared."""
    groups = spec.cgroup.groups
    for name, container in spec.containers.items():
        key = "parent" if container.cgroup is None else "cgroup"
        parent = (container.parent if container.cgroup is None else container.cgroup).strip("/")
        if parent and parent not in groups:
            message = f"no control group {quoted(parent)}"
            expected = "a key of cgroup.groups" + (f": {', '.join(groups)}" if groups else "")
            path = ("containers", name, key)
            near = closest(parent, groups)
            yield Problem(spec.place(*path), shown_path(path), message, expected, near, "C021")
    for name in groups:
        above, slash, _ = name.rpartition("/")
        if slash and above not in groups:
            message = f"its parent {quoted(above)} is not in cgroup.groups"
            place = spec.key_place("cgroup", "groups", name)
            expected = f"an entry '{above}: {{}}' as well"
            yield Problem(place, f"cgroup.groups.{name}", message, expected, "", "C021")


def check_limit_order(spec: NodeSpec) -> Iterator[Problem]:
    """Order of the limits: min <= low, high <= max; nothing promised above the hard limit."""
    pairs = (
        ("memory.max", "memory.min"),
        ("memory.max", "memory.low"),
        ("memory.max", "memory.high"),
        ("memory.high", "memory.min"),
        ("memory.limit_in_bytes", "memory.soft_limit_in_bytes"),
    )
    for path, files in _groups(spec):
        written = files.written()
        for upper, lower in pairs:
            if lower == "memory.high" and written.get(lower) == UNLIMITED:
                continue  # max is how a file says: none
            if upper in written and lower in written and _above(written[lower], written[upper]):
                message = (
                    f"{format_bytes(written[upper])} is below {lower}"
                    f" ({format_bytes(written[lower])}), which never takes effect above it"
                )
                yield Problem(
                    spec.place(*path, upper),
                    shown_path((*path, upper)),
                    message,
                    f"{upper} at or above {lower}",
                    code="C022",
                    severity="warning",
                )


def check_memsw(spec: NodeSpec) -> Iterator[Problem]:
    """v1: memsw counts memory and swap, so it cannot be below the memory limit (EINVAL)."""
    limit, memsw = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
    for path, files in _groups(spec):
        written = files.written()
        if memsw not in written:
            continue
        if _above(written.get(limit, UNLIMITED), written[memsw]):
            have = format_bytes(written[limit]) if limit in written else "unlimited"
            message = f"{format_bytes(written[memsw])} is below {limit} ({have})"
            yield Problem(
                spec.place(*path, memsw),
                shown_path((*path, memsw)),
                message,
                "memory and swap together: at or above the memory limit",
                code="C023",
            )


def check_swap_limits(spec: NodeSpec) -> Iterator[Problem]:
    """Swap limits on a node without swap have no effect; zswap needs swap slots too."""
    if spec.node.swap:
        return
    keys = (
        "memory.swap.max",
        "memory.swap.high",
        "memory.zswap.max",
        "memory.memsw.limit_in_bytes",
    )
    for path, files in _groups(spec):
        for key in keys:
            if files.written().get(key, 0) > 0:
                place = spec.key_place(*path, key)
                message = "the node has no swap, so this has no effect"
                expected = "node.swap: [{device: nvme, size: 4Gi}], for instance"
                yield Problem(
                    place, shown_path((*path, key)), message, expected, "", "C024", "warning"
                )
    if spec.node.zswap is not None and spec.node.zswap.enabled:
        message = "zswap is a cache in front of swap, and the node has none"
        place = spec.key_place("node", "zswap")
        expected = "node.swap: the swap size bounds what zswap can hold"
        yield Problem(place, "node.zswap", message, expected, "", "C024", "warning")


def check_sizes(spec: NodeSpec) -> Iterator[Problem]:
    """'500m' of memory is half a byte; a limit of less than a page is 0 pages."""
    yield from _small_sizes(spec.model, (), spec.tree)
    for source in spec.sources.values():
        if not source.prefix:
            yield from _small_sizes(source.profile, (), source.tree)


def check_used(spec: NodeSpec) -> Iterator[Problem]:
    """A hard limit below what a warm start puts in place at once kills at t0."""
    if spec.run.start != "warm":
        return
    for name, container in spec.containers.items():
        limit = _hard_limit(container)
        used = _resident(spec.sources[name])
        if limit is not None and used > limit and not spec.node.swap:
            key = "memory.max" if container.memory_max is not None else "memory.limit_in_bytes"
            path = ("containers", name, key)
            message = (
                f"{format_bytes(limit)} is below the {format_bytes(used)} of anonymous and shared"
                " memory that the profile holds at the start"
            )
            expected = f"at least {format_bytes(used)}, or run.start: cold"
            yield Problem(spec.place(*path), shown_path(path), message, expected, "", "C022")


def check_used_groups(spec: NodeSpec) -> Iterator[Problem]:
    """The same for a group: what a warm start puts in place in all that is below it."""
    if spec.run.start != "warm" or spec.node.swap:
        return
    for name, group in spec.cgroup.groups.items():
        limit, path = _hard_limit(group), name.strip("/")
        used = sum(
            _resident(spec.sources[key]) * container.replicas
            for key, container in spec.containers.items()
            if f"{container.group(key)}/".startswith(f"{path}/")
        )
        if limit is not None and used > limit:
            key = "memory.max" if group.memory_max is not None else "memory.limit_in_bytes"
            at = ("cgroup", "groups", name, key)
            message = (
                f"{format_bytes(limit)} is below the {format_bytes(used)} of anonymous and shared"
                " memory that the containers in it hold at the start"
            )
            expected = f"at least {format_bytes(used)}, or run.start: cold"
            yield Problem(spec.place(*at), shown_path(at), message, expected, "", "C022")


def check_something_runs(spec: NodeSpec) -> Iterator[Problem]:
    """A node without containers fits, but says nothing."""
    if not any(container.replicas for container in spec.containers.values()):
        path = ("containers",)
        message = "no container runs on this node"
        expected = "a container with its profile (capplan init writes one)"
        yield Problem(spec.place(*path), "containers", message, expected, "", "C032", "warning")


def check_promises(spec: NodeSpec) -> Iterator[Problem]:
    """What memory.min protects, over all replicas, must fit into the machine."""
    total = _total_bytes(spec)
    promised = sum(max(c.memory_min or 0, 0) * c.replicas for c in spec.containers.values())
    if promised > total:
        message = (
            f"memory.min of all containers adds up to {format_bytes(promised)},"
            f" the node has {format_bytes(total)}"
        )
        place = spec.key_place("containers")
        yield Problem(place, "containers", message, "less than the node has", "", "C031", "warning")


def check_trace_files(spec: NodeSpec) -> Iterator[Problem]:
    """A trace's CSV must be there, and those that mask it."""
    for source in spec.sources.values():
        for path, file in _csv_files(source.profile):
            if os.path.isfile(source.file(file)):
                continue
            message = f"no file {quoted(file)}"
            expected = f"a CSV, relative to the profile ({source.file(file)})"
            shown = shown_path((*source.prefix, *path))
            yield Problem(source.place(*path), shown, message, expected, "", "C001")


def _csv_files(profile: Profile) -> Iterator[tuple[KeyPath, str]]:
    """The CSV files that a profile names, each with its key path."""
    for name, process in profile.processes.items():
        if process.trace is not None:
            path: KeyPath = ("processes", name, "trace")
            yield (*path, "file"), process.trace.file
            for index, mask in enumerate(process.trace.mask):
                if mask.file is not None:
                    yield (*path, "mask", index, "file"), mask.file


def check_timeline(spec: NodeSpec) -> Iterator[Problem]:
    """What is set after the run's end has no effect."""
    for index, event in enumerate(spec.model.timeline):
        if event.at > spec.run.duration:
            message = "this is after the end of the run"
            path = ("timeline", index, "at")
            expected = "a time within run.duration"
            yield Problem(
                spec.place(*path), shown_path(path), message, expected, "", "C032", "warning"
            )


def check_system_fits(spec: NodeSpec) -> Iterator[Problem]:
    """What the system itself holds must leave something, or the node dies as it starts."""
    system, total = spec.node.system, _total_bytes(spec)
    daemons = system.daemons
    parts = {"kernel": system.kernel, "slab_reclaimable": system.slab_reclaimable}
    if not spec.node.swap:
        parts |= {"daemons.memory": daemons.memory, "daemons.shmem": daemons.shmem}
    if sum(parts.values()) >= total:
        said = ", ".join(f"{key} {format_bytes(size)}" for key, size in parts.items() if size)
        message = (
            f"this node cannot boot: its system holds {format_bytes(sum(parts.values()))} ({said}),"
            f" the node has {format_bytes(total)}"
        )
        place = spec.place("node", "system")
        yield Problem(place, "node.system", message, "less than the node's memory", "", "C026")


def check_start_fits(spec: NodeSpec) -> Iterator[Problem]:
    """What a warm start puts in place should fit into the machine."""
    if spec.run.start != "warm" or spec.node.swap:
        return
    held = sum(_resident(spec.sources[n]) * c.replicas for n, c in spec.containers.items())
    system = spec.node.system
    own = system.kernel + system.daemons.memory + system.daemons.shmem
    total = _total_bytes(spec)
    if held + own > total:
        message = (
            f"containers and system hold {format_bytes(held + own)} at the start"
            f" ({format_bytes(own)} of it node.system), the node has {format_bytes(total)}"
            " and no swap"
        )
        place = spec.key_place("containers")
        expected = "less than the node has, or run.start: cold"
        yield Problem(place, "containers", message, expected, "", "C031", "warning")


CHECKS: tuple[Check, ...] = (
    check_release,
    check_cgroup_version,
    check_files_of_release,
    check_cpuset_mems,
    check_mempolicies,
    check_parents,
    check_limit_order,
    check_memsw,
    check_swap_limits,
    check_sizes,
    check_used,
    check_used_groups,
    check_something_runs,
    check_promises,
    check_system_fits,
    check_start_fits,
    check_profile_names,
    check_trace_files,
    check_timeline,
    check_watermarks,
    check_hugepages,
    check_kubelet,
    check_managed_oom,
    check_pods,
    check_requests,
    check_autoscalers,
    check_restart_keys,
)


def _groups(spec: NodeSpec) -> Iterator[tuple[KeyPath, CgroupFiles]]:
    """All groups and containers with their key paths."""
    for name, group in spec.cgroup.groups.items():
        yield ("cgroup", "groups", name), group
    for name, container in spec.containers.items():
        yield ("containers", name), container


def _above(lower: int, upper: int) -> bool:
    """Tell whether a limit is above another; -1 is unlimited."""
    if upper == UNLIMITED:
        return False
    return lower == UNLIMITED or lower > upper


def _hard_limit(files: CgroupFiles) -> int | None:
    limits = (files.memory_max, files.memory_limit_in_bytes)
    return next((v for v in limits if v is not None and v != UNLIMITED), None)


def _total_bytes(spec: NodeSpec) -> int:
    node = spec.node
    if node.memory is not None:
        return node.memory
    return sum(zone.managed for zone in node.zones or ()) * PAGE


def _resident(source: Source) -> int:
    """Unreclaimable-without-swap bytes of constant size in place at t0: anon, shmem, kernel."""
    total = 0
    for process in source.profile.processes.values():
        for region in process.regions.values():
            if region.kind == "file" or region.size is None or region.size.constant is None:
                continue
            copies = 1 if region.shared is not None else process.count
            held = region.size.constant
            if isinstance(region.resident, Size):
                held = min(held, region.resident)
            elif region.resident is not None:
                held = round(held * region.resident)
            total += held * copies
    return total


def _small_sizes(value: Any, path: KeyPath, tree: Node) -> Iterator[Problem]:
    """Walk a model for sizes of less than a byte or a page."""
    if isinstance(value, Size):
        yield from _small_size(value, path, tree)
    elif isinstance(value, BaseModel):
        for name, info in type(value).model_fields.items():
            yield from _small_sizes(getattr(value, name), (*path, info.alias or name), tree)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _small_sizes(item, (*path, key), tree)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _small_sizes(item, (*path, index), tree)


def _small_size(size: Size, path: KeyPath, tree: Node) -> Iterator[Problem]:
    place, path = _existing(path, tree)
    key = shown_path(path)
    if size.exact.denominator != 1:
        shown = f"{float(size.exact):g} bytes" if size.exact != 0.5 else "half a byte"
        message = f"{quoted(size.text)} is {shown}: m is a thousandth here"
        expected = "Mi for MiB (compose's m)"
        meant = size.text.removesuffix("m") + "Mi" if size.text.endswith("m") else ""
        yield Problem(place, key, message, expected, meant, "C028", "warning")
    elif 0 < size < PAGE and path:
        message = f"{quoted(size.text)} is {int(size)} bytes, less than one page"
        expected = f"a size of {PAGE} bytes or more, such as {int(size)}Mi"
        yield Problem(place, key, message, expected, "", "C028", "warning")


def _existing(path: KeyPath, tree: Node) -> tuple[Place, KeyPath]:
    """Cut a model's path to what the file holds (``size.constant`` is written ``size``)."""
    held: list[str | int] = []
    node = tree
    for key in path:
        below = node.child(key)
        if below is None:
            break
        held.append(key)
        node = below
    return node.place, tuple(held)
