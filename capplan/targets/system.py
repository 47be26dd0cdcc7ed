"""compose, sysctl.d and systemd: formats whose numbers are 1024-based."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from capplan.spec.emit import Noted, emit
from capplan.targets.advice import Advised, Container

__all__ = ["compose_override", "sysctl_conf", "systemd_dropins"]

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
WIDTH = 96


def compose_override(advised: Advised) -> dict[str, str]:
    """``compose.override.yaml``: limits and reservations of each service.

    Source: compose-spec, deploy.md (``deploy.resources``; sizes as ``b k m g``, 1024-based).
    """
    services = {
        one.name: {
            "deploy": {
                "resources": {
                    "limits": {"memory": Noted(_compose(one.limit), one.reason)},
                    "reservations": {"memory": _compose(one.request)},
                }
            }
        }
        for one in advised.containers
    }
    header = (f"capplan recommend, node {advised.name}.", advised.verdict)
    return {"compose.override.yaml": emit({"services": services}, header)}


def _compose(size: int) -> str:
    for suffix, unit in (("g", GIB), ("m", MIB), ("k", KIB)):
        if size % unit == 0:
            return f"{size // unit}{suffix}"
    return f"{size}b"


def sysctl_conf(advised: Advised) -> dict[str, str]:
    """``90-capplan.conf`` for /etc/sysctl.d.

    Source: sysctl.d(5).
    """
    lines = [
        *_comment(f"capplan recommend, node {advised.name}."),
        *_comment(advised.sysctl_reason),
    ]
    lines += [f"{key} = {value}" for key, value in advised.sysctl.items()]
    return {"90-capplan.conf": "\n".join(lines) + "\n"}


def systemd_dropins(advised: Advised) -> dict[str, str]:
    """A drop-in for each unit: ``NAME.service.d/90-capplan.conf``.

    MemoryLow= takes the request: what is protected while others can be reclaimed.

    Source: systemd.resource-control(5).
    """
    return {
        f"{_unit(one.name)}.d/90-capplan.conf": "\n".join(_dropin(one, advised)) + "\n"
        for one in advised.containers
    }


def _unit(name: str) -> str:
    known = (".service", ".slice", ".scope")
    return name if name.endswith(known) else f"{name}.service"


def _dropin(one: Container, advised: Advised) -> Iterator[str]:
    yield from _comment(f"capplan recommend, node {advised.name}: {one.reason}")
    yield (
        "[Slice]"
        if one.name.endswith(".slice")
        else ("[Scope]" if one.name.endswith(".scope") else "[Service]")
    )
    yield f"MemoryLow={_systemd(one.request)}"
    if one.high is not None:
        yield f"MemoryHigh={_systemd(one.high)}"
    yield f"MemoryMax={_systemd(one.limit)}"


def _systemd(size: int) -> str:
    for suffix, unit in (("G", GIB), ("M", MIB), ("K", KIB)):
        if size % unit == 0:
            return f"{size // unit}{suffix}"
    return str(size)


def _comment(text: str) -> list[str]:
    """Comment lines; nothing in them can end the comment."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    return [f"# {line}" for line in textwrap.wrap(clean, WIDTH)]
