"""``docker inspect`` as services: what the daemon set, not what a compose file asked for.

Source: moby/moby, api/types/container (HostConfig: 0 is no limit; MemorySwap is memory and swap
together, -1 unlimited; MemorySwappiness null or -1 is the group's default).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from capplan.errors import InputError, Problem
from capplan.sources import numa
from capplan.sources.compose import RESTARTS, Service, objects_of
from capplan.sources.draft import doubt
from capplan.spec.tree import read_text
from capplan.units import Dialect, UnitError, parse_size

__all__ = ["host_memory", "read_containers"]


def read_containers(paths: Iterable[Path]) -> tuple[list[Service], list[Problem]]:
    """Read what ``docker inspect`` printed of containers; stopped ones are left out.

    Raises
    ------
    InputError
        There is no container in the files.
    """
    services: list[Service] = []
    problems: list[Problem] = []
    for path in paths:
        for line, one in objects_of(read_text(path, str(path)), str(path)):
            services += _service(one, str(path), line, problems)
    if not services:
        told = "".join(f"\n{problem}" for problem in problems)
        raise InputError(
            f"there is no running container in these files{told}\n"
            "    expected what docker inspect $(docker ps -q) prints"
        )
    return services, problems


def host_memory(path: Path, services: Iterable[Service]) -> int | None:
    """The host's memory, as ``docker stats`` shows it for a container without a limit [bytes]."""
    free = {service.name for service in services if service.limit is None}
    for _, one in objects_of(read_text(path, str(path)), str(path)):
        if not isinstance(one, Mapping):
            continue
        name = str(one.get("Name") or one.get("name")).lstrip("/")
        limit = (one.get("memory_stats") or {}).get("limit")
        if limit is None:
            limit = str(one.get("MemUsage")).partition("/")[2].strip().replace("B", "")
        try:
            if name in free:
                return int(parse_size(limit, Dialect.K8S))
        except UnitError:
            continue
    return None


def _service(one: Any, file: str, line: int, problems: list[Problem]) -> Iterator[Service]:
    host = one.get("HostConfig") if isinstance(one, Mapping) else None
    if not isinstance(one, Mapping) or not isinstance(host, Mapping):
        problems.append(doubt(file, line, "an object without HostConfig is no container: left out"))
        return
    name = str(one.get("Name") or "container").lstrip("/")
    state = one.get("State")
    status = state.get("Status", "running") if isinstance(state, Mapping) else "running"
    if status not in ("running", "paused", "restarting"):
        problems.append(doubt(file, line, f"{name} is {status}: left out"))
        return

    def number(key: str) -> int | None:
        value = host.get(key)
        return value if isinstance(value, int) and value not in (0, True) else None

    policy = host.get("RestartPolicy")
    args = one["Args"] if isinstance(one.get("Args"), list) else []
    restart = policy.get("Name") if isinstance(policy, Mapping) else None
    swappiness = host.get("MemorySwappiness")
    yield Service(
        name=name,
        limit=number("Memory"),
        reservation=number("MemoryReservation"),
        memswap=number("MemorySwap"),
        swappiness=swappiness if isinstance(swappiness, int) and swappiness >= 0 else None,
        oom_score_adj=number("OomScoreAdj") or 0,
        oom_kill_disable=host.get("OomKillDisable") is True,
        parent=str(host.get("CgroupParent") or "").strip("/"),
        restart=RESTARTS.get(str(restart), "Never"),
        shm=number("ShmSize"),
        tmpfs=tuple(_tmpfs(host.get("Tmpfs"), name, file, line, problems)),
        numa=numa.of_command([str(one.get("Path")), *map(str, args)]),
    )


def _tmpfs(
    value: Any, name: str, file: str, line: int, problems: list[Problem]
) -> Iterator[tuple[str, int | None]]:
    """Mounts: ``{"/run": "rw,size=64m"}``."""
    for path, options in value.items() if isinstance(value, Mapping) else ():
        sizes = [part[5:] for part in str(options).split(",") if part.startswith("size=")]
        try:
            yield str(path), int(parse_size(sizes[-1], Dialect.DOCKER)) if sizes else None
        except UnitError as error:
            problems.append(doubt(file, line, f"{name}, tmpfs {path}: {error}: left out"))
