"""compose, sysctl.d and systemd: formats whose numbers are 1024-based."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from capplan.spec.emit import Noted, emit
from capplan.targets.advice import Advised, Container
from capplan.units import UNLIMITED

__all__ = ["compose_override", "sysctl_conf", "systemd_dropins"]

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
WIDTH = 96
UNITS = {".slice": "Slice", ".scope": "Scope"}  # a unit's section; all others are services
DIRECTIVES = {
    "memory.min": "MemoryMin", "memory.low": "MemoryLow", "memory.swap.max": "MemorySwapMax",
    "memory.zswap.max": "MemoryZSwapMax",
}  # fmt: skip


def compose_override(advised: Advised) -> dict[str, str]:
    """``compose.override.yaml``: limits and reservations of each service.

    Source: compose-spec, deploy.md (``deploy.resources``; sizes as ``b k m g``, 1024-based; 0 is no
    limit), 05-services.md (``memswap_limit`` is memory and swap together).
    """
    services = {one.name: made for one in advised.containers if (made := _service(one))}
    if not services:
        return {}
    return {"compose.override.yaml": emit({"services": services}, advised.header)}


def _service(one: Container) -> dict[str, Any]:
    low = one.files.get("memory.low", one.files.get("memory.soft_limit_in_bytes"))
    reserved = one.request if one.request is not None else low
    resources: dict[str, Any] = {}
    if one.limit is not None:
        resources["limits"] = {"memory": Noted(_compose(one.limit), one.reason)}
    if reserved is not None:
        note = "" if one.limit is not None else one.reason
        resources["reservations"] = {"memory": Noted(_compose(reserved), note)}
    made: dict[str, Any] = {"deploy": {"resources": resources}} if resources else {}
    both = one.files.get("memory.memsw.limit_in_bytes")
    swap = one.files.get("memory.swap.max")
    if both is None and swap is not None:
        both = swap if UNLIMITED in (swap, one.limit) else swap + (one.limit or one.present or 0)
    if both is not None:
        made["memswap_limit"] = Noted("-1" if both == UNLIMITED else _compose(both), one.reason)
    if "oom_score_adj" in one.files:
        made["oom_score_adj"] = one.files["oom_score_adj"]
    return made


def _compose(size: int) -> str:
    if size == UNLIMITED:
        return "0"
    for suffix, unit in (("g", GIB), ("m", MIB), ("k", KIB)):
        if size and size % unit == 0:
            return f"{size // unit}{suffix}"
    return f"{size}b"


def sysctl_conf(advised: Advised) -> dict[str, str]:
    """``90-capplan.conf`` for /etc/sysctl.d.

    Source: sysctl.d(5).
    """
    if not advised.sysctl and advised.by != "recommend":
        return {}
    lines = [line for text in (*advised.header, advised.sysctl_reason) for line in _comment(text)]
    lines += [f"{key} = {value}" for key, value in advised.sysctl.items()]
    return {"90-capplan.conf": "\n".join(lines) + "\n"}


def systemd_dropins(advised: Advised) -> dict[str, str]:
    """A drop-in for each unit: ``NAME.service.d/90-capplan.conf``.

    MemoryLow= takes the request: what is protected while others can be reclaimed. Slices whose
    limits change have one too.

    Source: systemd.resource-control(5), systemd.exec(5) (OOMScoreAdjust=).
    """
    made = {}
    for one in (*advised.groups, *advised.containers):
        lines = list(_directives(one))
        if not lines:
            continue
        unit = one.name if one.name.endswith((".service", *UNITS)) else f"{one.name}.service"
        section = UNITS.get(f".{unit.rpartition('.')[2]}", "Service")
        head = [*advised.header, one.reason]
        text = [line for said in head for line in _comment(said)]
        made[f"{unit}.d/90-capplan.conf"] = "\n".join([*text, f"[{section}]", *lines]) + "\n"
    return made


def _directives(one: Container) -> Iterator[str]:
    files = dict(one.files)
    if one.request is not None:
        files.setdefault("memory.low", one.request)
    for file, directive in DIRECTIVES.items():
        if file in files:
            yield f"{directive}={_systemd(files[file])}"
    if one.high is not None:
        yield f"MemoryHigh={_systemd(one.high)}"
    if one.limit is not None:
        yield f"MemoryMax={_systemd(one.limit)}"
    if "oom_score_adj" in files and not one.name.endswith(tuple(UNITS)):
        yield f"OOMScoreAdjust={files['oom_score_adj']}"


def _systemd(size: int) -> str:
    if size == UNLIMITED:
        return "infinity"
    for suffix, unit in (("G", GIB), ("M", MIB), ("K", KIB)):
        if size and size % unit == 0:
            return f"{size // unit}{suffix}"
    return str(size)


def _comment(text: str) -> list[str]:
    """Comment lines; nothing in them can end the comment."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    return [f"# {line}" for line in textwrap.wrap(clean, WIDTH)]
