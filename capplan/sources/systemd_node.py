"""Units as a node file: services are containers, slices and scopes their groups.

Sizes are 1024-based; percentages are shares of the host's memory, for MemorySwapMax= too;
``[not set]`` and 18446744073709551615 are what ``systemctl show`` prints for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from capplan.errors import InputError, Problem
from capplan.sources import numa
from capplan.sources.draft import Draft, doubt, legal_name
from capplan.sources.host import Host, assumed, node_file, profile
from capplan.sources.systemd import Unit, slice_path
from capplan.spec.emit import Noted
from capplan.spec.mempolicy import Mempolicy
from capplan.units import UNLIMITED, Dialect, UnitError, format_k8s, parse_duration, parse_size

__all__ = ["draft_of"]

NOTHING = ("", "[not set]", str(2**64 - 1))
FILES = {
    "MemoryMin": "memory.min", "MemoryLow": "memory.low", "MemoryHigh": "memory.high",
    "MemoryMax": "memory.max", "MemorySwapMax": "memory.swap.max",
    "MemoryZSwapMax": "memory.zswap.max",
}  # fmt: skip
POSITIVE = ("MemoryHigh", "MemoryMax", "MemoryLimit")
MANAGED = ("ManagedOOMSwap", "ManagedOOMMemoryPressure", "ManagedOOMPreference")
PRESSURE, LASTING = "ManagedOOMMemoryPressureLimit", "ManagedOOMMemoryPressureDurationSec"
# whether a service comes back after SIGKILL, which is an unclean signal (systemd.service(5))
RESTARTS = {
    "always": "Always", "on-failure": "OnFailure", "on-abnormal": "OnFailure",
    "on-abort": "OnFailure",
}  # fmt: skip
SPANS = {
    "usec": "us", "msec": "ms", "seconds": "s", "second": "s", "minutes": "min", "minute": "min",
    "hours": "h", "hour": "h", "hr": "h", "days": "d", "day": "d", "weeks": "w", "week": "w",
}  # fmt: skip


def draft_of(
    units: list[Unit], host: Host, problems: list[Problem], *, name: str = "host"
) -> Draft:
    """A node file of units on a host.

    Services that only run to their end (Type=oneshot) and those that are not active are left out.

    Raises
    ------
    InputError
        No service is left.
    """
    draft = Draft(node={}, problems=problems)
    groups: dict[str, Any] = {}
    containers: dict[str, Any] = {}
    slices = {unit.name: unit for unit in units if unit.kind == "slice"}
    for unit in slices.values():
        _parents(slice_path(unit.name), slices, groups, host, problems)
    for unit in units:
        if unit.kind == "slice" or not _runs(unit, problems):
            continue
        parent = slice_path(unit.slice)
        _parents(parent, slices, groups, host, problems)
        key = legal_name(unit.name, containers)
        file = f"profiles/{key}.yaml"
        files = _files(unit, host, problems) | _inherited(unit, parent, slices, host, problems)
        containers[key] = _entry(unit, file, parent, files, host, problems)
        draft.profiles[file] = _profile(key, unit, files)
    if not containers:
        told = "".join(f"\n{problem}" for problem in problems[:12])
        raise InputError(f"there is no running service in these files{told}")
    draft.node.update(node_file(name, host, groups, containers))
    draft.header = (
        f"systemd units: {len(containers)} services and scopes, {len(slices)} slices.",
        "The machine is what the command line said.",
        "Where nobody MEASURED what a service uses, its profile says what is assumed.",
    )
    return draft


def _runs(unit: Unit, problems: list[Problem]) -> bool:
    state = unit.settings.get("ActiveState", "active")
    why = ""
    if state not in ("active", "activating", "reloading"):
        why = f"is {state}"
    elif unit.settings.get("Type") == "oneshot":
        why = "is of Type=oneshot: it runs to its end"
    if why:
        problems.append(doubt(unit.file, 0, f"{unit.name} {why}: left out"))
    return not why


def _parents(
    path: str, slices: dict[str, Unit], groups: dict[str, Any], host: Host, problems: list[Problem]
) -> None:
    """The slices along a path, those without a unit of their own too."""
    parts = path.split("/") if path else []
    for n, name in enumerate(parts):
        here = "/".join(parts[: n + 1])
        if here in groups:
            continue
        unit = slices.get(name)
        if unit is None:
            groups[here] = {}
            continue
        made = _written(_files(unit, host, problems), host, unit, problems)
        groups[here] = made | dict(_managed(unit, problems))


# --- settings ------------------------------------------------------------------------------


def _files(unit: Unit, host: Host, problems: list[Problem]) -> dict[str, int]:
    """The files of its group that it writes [bytes]."""
    made: dict[str, int] = {}
    for directive, file in FILES.items():
        size = _size(unit, directive, host, problems)
        nothing = 0 if directive in ("MemoryMin", "MemoryLow") else UNLIMITED
        if size is not None and not (unit.shown and size == nothing):
            made[file] = size
    old = _size(unit, "MemoryLimit", host, problems)
    if old is not None and "memory.max" not in made and not unit.shown:
        made["memory.max"] = old
    return made


def _inherited(
    unit: Unit, parent: str, slices: dict[str, Unit], host: Host, problems: list[Problem]
) -> dict[str, int]:
    """DefaultMemoryMin= and DefaultMemoryLow= of the nearest slice that says one."""
    made: dict[str, int] = {}
    if unit.shown:
        return made
    for what in ("Min", "Low"):
        if f"Memory{what}" in unit.settings:
            continue
        for name in reversed(parent.split("/")):
            above = slices.get(name)
            size = None if above is None else _size(above, f"DefaultMemory{what}", host, problems)
            if size is not None:
                made[f"memory.{what.lower()}"] = size
                break
    return made


def _size(unit: Unit, directive: str, host: Host, problems: list[Problem]) -> int | None:
    text = unit.settings.get(directive, "")
    if text in NOTHING:
        return UNLIMITED if text == NOTHING[2] else None
    share = re.fullmatch(r"([0-9]+(?:\.[0-9]{1,2})?)%", text)
    if share is not None and Fraction(share[1]) <= 100:
        size = int(host.memory * Fraction(share[1]) / 100) // 4096 * 4096
    else:
        try:
            size = int(parse_size(text, Dialect.SYSTEMD))
        except UnitError as error:
            problems.append(doubt(unit.file, 0, f"{unit.name}: {directive}={error}: left out"))
            return None
    if size == 0 and directive in POSITIVE:
        message = f"{unit.name}: {directive}=0 is out of range: systemd ignores it"
        problems.append(doubt(unit.file, 0, message))
        return None
    return size


def _written(
    files: dict[str, int], host: Host, unit: Unit, problems: list[Problem]
) -> dict[str, Any]:
    """Files as the node's version has them."""
    if host.cgroup == "v2":
        return {file: format_k8s(size) for file, size in files.items()}
    for file in files.keys() - {"memory.max"}:
        problems.append(doubt(unit.file, 0, f"{unit.name}: {file} is not of cgroup v1: left out"))
    limit = files.get("memory.max")
    return {} if limit is None else {"memory.limit_in_bytes": format_k8s(limit)}


def _managed(unit: Unit, problems: list[Problem]) -> Iterator[tuple[str, Any]]:
    """What it asks of systemd-oomd, where that is not the default."""
    for key in MANAGED:
        value = unit.settings.get(key, "")
        if value not in ("", "auto", "none"):
            yield key, value
    limit = unit.settings.get(PRESSURE, "")
    if limit.endswith("%") and limit.strip("0.%"):
        yield PRESSURE, limit
    elif limit.isdecimal() and 0 < int(limit) < 2**32:  # of 2**32 - 1, as D-Bus has it
        yield PRESSURE, f"{100 * int(limit) / (2**32 - 1):.4g}%"
    lasting = _span(unit, LASTING, problems) or _span(
        unit, LASTING.replace("Sec", "USec"), problems
    )
    if lasting is not None:
        yield LASTING, lasting


def _span(unit: Unit, key: str, problems: list[Problem]) -> str | None:
    """A time span as a node file has it: a bare number is seconds."""
    text = unit.settings.get(key, "")
    if text in (*NOTHING, "infinity"):
        return None
    if re.fullmatch(r"[0-9.]+", text):
        text += "s"
    text = re.sub(r"[a-z]+", lambda found: SPANS.get(found[0], found[0]), text)
    try:
        parse_duration(text)
    except UnitError as error:
        problems.append(doubt(unit.file, 0, f"{unit.name}: {key}={error}: left out"))
        return None
    return text.replace(" ", "")


def _entry(
    unit: Unit, file: str, parent: str, files: dict[str, int], host: Host,
    problems: list[Problem],
) -> dict[str, Any]:  # fmt: skip
    made: dict[str, Any] = {"profile": file, "parent": parent}
    made |= _written(files, host, unit, problems)
    if unit.settings.get("OOMPolicy") == "kill" and host.cgroup == "v2":
        made["memory.oom.group"] = Noted(True, "OOMPolicy=kill")
    adj = unit.settings.get("OOMScoreAdjust", "0")
    if re.fullmatch(r"[+-]?[0-9]+", adj) and -1000 <= int(adj) <= 1000:
        if int(adj):
            made["oom_score_adj"] = int(adj)
    elif adj not in NOTHING:
        message = f"{unit.name}: OOMScoreAdjust={adj[:20]!r} is no score: left out"
        problems.append(doubt(unit.file, 0, message))
    made |= dict(_managed(unit, problems))
    made |= numa.entry(_mempolicy(unit), unit.name, unit.file, problems)
    restart = unit.settings.get("Restart", "no")
    if restart in RESTARTS:
        made |= {"restart": RESTARTS[restart], "restart_by": "systemd"}
        made |= dict(_restarts(unit, problems))
    return made


def _mempolicy(unit: Unit) -> Mempolicy | None:
    """What systemd sets, unless the program is run by numactl, which sets its own."""
    command = unit.settings.get("ExecStart", "")
    _, shown, words = command.partition("argv[]=")  # systemctl show
    by_numactl = numa.of_command((words if shown else command.lstrip("@-:+!|")).split())
    return by_numactl or numa.of_unit(
        unit.settings.get("NUMAPolicy", ""), unit.settings.get("NUMAMask", "")
    )


def _restarts(unit: Unit, problems: list[Problem]) -> Iterator[tuple[str, Any]]:
    """Time between restarts, and how many are too many; old names of them too."""
    for key, names in (
        ("RestartSec", ("RestartSec", "RestartUSec")),
        ("StartLimitIntervalSec",
         ("StartLimitIntervalSec", "StartLimitInterval", "StartLimitIntervalUSec")),
    ):  # fmt: skip
        spans = (_span(unit, name, problems) for name in names)
        found = next((span for span in spans if span is not None), None)
        if found is not None:
            yield key, found
    burst = unit.settings.get("StartLimitBurst", "")
    if burst.isdecimal() and int(burst) < 2**31:
        yield "StartLimitBurst", int(burst)


def _profile(name: str, unit: Unit, files: dict[str, int]) -> dict[str, Any]:
    current = unit.settings.get("MemoryCurrent", "")
    if current.isdecimal() and current not in NOTHING:
        return profile(
            name, int(current), "MemoryCurrent: page cache counts in it, all taken as anon"
        )
    protected = files.get("memory.low") or files.get("memory.min")
    limits = [files[f] for f in ("memory.high", "memory.max") if files.get(f, UNLIMITED) > 0]
    return profile(name, *assumed(protected, min(limits, default=None)))
