"""Compose files as a node file: limits as Docker writes them to cgroups.

Sizes are Docker's: ``512m`` is 512 MiB. ``mem_limit`` and ``deploy.resources.limits.memory`` are
the same thing; ``memswap_limit`` is memory and swap together, and twice the memory where it is
left out.

Source: compose-spec (05-services.md, deploy.md); moby/moby daemon/daemon_unix.go
(adaptContainerSettings: the default of memswap) and opencontainers/cgroups (swap.max is memswap
less memory).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capplan.errors import InputError, Problem
from capplan.sources import numa
from capplan.sources.draft import Draft, doubt, legal_name
from capplan.sources.host import Host, assumed, node_file, profile
from capplan.spec.emit import Noted
from capplan.spec.mempolicy import Mempolicy
from capplan.spec.tree import parse_all, read_text
from capplan.units import Dialect, UnitError, format_k8s, parse_size

__all__ = ["Service", "draft_of", "interpolate", "objects_of", "read_services", "read_stats"]

PARENT = {"v1": "docker", "v2": "system.slice"}
RESTARTS = {"always": "Always", "unless-stopped": "Always", "on-failure": "OnFailure"}
_VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)"
    r"(?:(?P<how>:?[-?+])(?P<word>[^}]*))?\})"
)


@dataclass(frozen=True)
class Service:
    """A service's memory keys; sizes in bytes, None where nothing is written, -1 unlimited."""

    name: str
    replicas: int = 1
    limit: int | None = None
    reservation: int | None = None
    memswap: int | None = None
    swappiness: int | None = None
    oom_score_adj: int = 0
    oom_kill_disable: bool = False
    parent: str = ""  # the group it is in; empty: docker's own
    restart: str = "Never"
    shm: int | None = None
    tmpfs: tuple[tuple[str, int | None], ...] = ()
    numa: Mempolicy | None = None  # what numactl gives it


# --- reading -------------------------------------------------------------------------------


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Put in ``${NAME}``, ``${NAME:-default}``, ``${NAME-default}``, ``${NAME:+other}``, ``$$``.

    Worked example
    --------------
    >>> interpolate("${A:-1g} ${B-x} $C $$", {"A": "", "C": "2m"})
    '1g x 2m $'
    """

    def put(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        value = variables.get(match["plain"] or match["name"])
        how, word = match["how"] or "", match["word"] or ""
        there = bool(value) if how.startswith(":") else value is not None
        if how.endswith("+"):
            return word if there else ""
        return (value or "") if there else (word if how.endswith("-") else "")

    return _VARIABLE.sub(put, text)


def read_services(
    paths: Iterable[Path], variables: Mapping[str, str] | None = None
) -> tuple[list[Service], list[Problem]]:
    """Read compose files; later ones override earlier ones, key by key.

    Parameters
    ----------
    paths : iterable of Path
    variables : mapping, optional
        For ``${...}``; None: the ``.env`` beside the first file. The environment is not read.

    Raises
    ------
    InputError
        A file that is no compose file.
    """
    paths, problems = list(paths), list[Problem]()
    known = _dotenv(paths[0].parent / ".env") if variables is None else variables
    merged: dict[str, Any] = {}
    for path in paths:
        text = read_text(path, str(path))
        trees = parse_all(text, str(path), merge=True)
        plain = trees[0].plain() if trees else None
        services = plain.get("services") if isinstance(plain, Mapping) else None
        if not isinstance(services, Mapping):
            raise InputError(f"{path}: there are no services: in it\n    expected a compose file")
        for name, service in services.items():
            merged[name] = _over(merged.get(name), service)
    problems += [
        doubt(paths[-1], 0, f"services.{name}: this is no service: left out", "an image, at least")
        for name, service in merged.items()
        if not isinstance(service, Mapping)
    ]
    made = [
        _service(str(name), service, str(paths[-1]), known, problems)
        for name, service in merged.items()
        if isinstance(service, Mapping)
    ]
    return made, problems


def _over(below: Any, above: Any) -> Any:
    """Mappings merged key by key; anything else replaced."""
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        return {**below, **{key: _over(below.get(key), value) for key, value in above.items()}}
    return above


def _dotenv(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    pairs = (line.partition("=") for line in read_text(path, str(path)).splitlines())
    return {
        key.strip().removeprefix("export "): value.strip().strip("'\"")
        for key, equals, value in pairs
        if equals and not key.lstrip().startswith("#")
    }


def _command(given: Mapping[str, Any]) -> Iterator[Any]:
    """Words of the entry point, then of its command: texts, or lists of them."""
    for key in ("entrypoint", "command"):
        value = given.get(key) or ""
        yield from value if isinstance(value, list) else str(value).split()


def _service(
    name: str, given: Mapping[str, Any], file: str, known: Mapping[str, str],
    problems: list[Problem],
) -> Service:  # fmt: skip
    def text(value: Any) -> str:
        return interpolate(str(value), known)

    def size(*path: str) -> int | None:
        value: Any = given
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return None if value is None else _size(text(value), f"{name}.{'.'.join(path)}")

    def _size(written: str, where: str) -> int | None:
        try:
            return int(parse_size(written, Dialect.DOCKER)) if written else None
        except UnitError as error:
            problems.append(doubt(file, 0, f"{where}: {error}: left out"))
            return None

    def tmpfs() -> Iterator[tuple[str, int | None]]:
        value = given.get("tmpfs")
        for entry in [value] if isinstance(value, str) else value or ():
            path, _, options = text(entry).partition(":")
            sized = re.search(r"(?:^|,)size=([^,]+)", options)
            yield path, _size(sized[1], f"{name}.tmpfs") if sized else None

    deploy = ("deploy", "resources")
    limit = size(*deploy, "limits", "memory")
    reserved = size(*deploy, "reservations", "memory")
    policy = text(given.get("restart") or "").partition(":")[0]
    return Service(
        name=name,
        replicas=_count(given),
        limit=size("mem_limit") if limit is None else limit,
        reservation=size("mem_reservation") if reserved is None else reserved,
        memswap=size("memswap_limit"),
        swappiness=_int(given.get("mem_swappiness")),
        oom_score_adj=_int(given.get("oom_score_adj")) or 0,
        oom_kill_disable=given.get("oom_kill_disable") is True,
        restart=RESTARTS.get(policy, "Never"),
        shm=size("shm_size"),
        tmpfs=tuple(tmpfs()),
        numa=numa.of_command([text(word) for word in _command(given)]),
    )


def _count(given: Mapping[str, Any]) -> int:
    deploy = given.get("deploy")
    count = deploy.get("replicas") if isinstance(deploy, Mapping) else None
    found = _int(given.get("scale") if count is None else count)
    return 1 if found is None or found < 0 else found


def _int(value: Any) -> int | None:
    try:
        return None if value is None or isinstance(value, bool) else int(value)
    except (TypeError, ValueError):
        return None


def read_stats(path: Path) -> dict[str, int]:
    """Usage by container, from ``docker stats --no-stream --format json`` or the API [bytes].

    Both are usage without the inactive file pages; the command's ``MemUsage`` is rounded to four
    digits, the API's ``memory_stats`` (of ``/containers/ID/stats?stream=false``) is exact.

    Raises
    ------
    InputError
        An object is none of theirs.
    """
    found: dict[str, int] = {}
    text = read_text(path, str(path))
    for line, one in objects_of(text, str(path)):
        try:
            found[str(one.get("Name") or one["name"]).lstrip("/")] = _used(one)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}:{line}: not a line of docker stats: {error}\n"
                "    expected docker stats --no-stream --format json"
            ) from error
    return found


def objects_of(text: str, file: str) -> Iterator[tuple[int, Any]]:
    """JSON values one after the other, arrays opened, with the lines that they begin at."""
    decoder, at, line = json.JSONDecoder(), 0, 1
    while True:
        begin = re.compile(r"\s*").match(text, at).end()  # type: ignore[union-attr]
        line += text.count("\n", at, begin)
        if begin == len(text):
            return
        try:
            value, at = decoder.raw_decode(text, begin)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file}:{line}: not JSON: {error}") from error
        yield from ((line, one) for one in (value if isinstance(value, list) else [value]))
        line += text.count("\n", begin, at)


def _used(one: Mapping[str, Any]) -> int:
    """Usage of one object: as docker's command counts it (moby: calculateMemUsageUnixNoCache)."""
    memory = one.get("memory_stats")
    if memory is None:
        told = str(one["MemUsage"]).partition("/")[0].strip()
        return int(parse_size(told.replace("B", ""), Dialect.K8S))
    counts = memory.get("stats") or {}
    cold = int(counts.get("total_inactive_file", counts.get("inactive_file", 0)))
    usage = int(memory["usage"])
    return usage - cold if cold < usage else usage


# --- the node file -------------------------------------------------------------------------


def draft_of(
    services: list[Service], host: Host, problems: list[Problem], *, name: str = "docker",
    stats: Mapping[str, int] | None = None, what: str = "Compose project",
) -> Draft:  # fmt: skip
    """A node file of a compose project, or of the containers of a host.

    Raises
    ------
    InputError
        There is no service.
    """
    if not services:
        raise InputError("there is no service in these files")
    draft = Draft(node={}, problems=problems)
    parent = PARENT[host.cgroup]
    containers: dict[str, Any] = {}
    groups: dict[str, Any] = {}
    for service in services:
        key = legal_name(service.name, containers)
        file = f"profiles/{key}.yaml"
        draft.profiles[file] = _profile(key, service, _usage(service, stats or {}))
        groups.setdefault(service.parent or parent, {})
        containers[key] = _entry(service, file, service.parent or parent, host, problems)
    draft.node.update(node_file(name, host, groups, containers))
    draft.header = (
        f"{what} {name}: {len(services)} services.",
        "The machine is what the command line said.",
        *(() if stats else ("NOBODY MEASURED what the services use: see each profile.",)),
    )
    return draft


def _entry(
    service: Service, file: str, parent: str, host: Host, problems: list[Problem]
) -> dict[str, Any]:
    made: dict[str, Any] = {"profile": file, "parent": parent}
    if service.replicas != 1:
        made["replicas"] = service.replicas
    made |= _v1(service, host) if host.cgroup == "v1" else _v2(service, host, problems)
    if service.oom_score_adj:
        made["oom_score_adj"] = service.oom_score_adj
    if service.restart != "Never":
        made |= {"restart": service.restart, "restart_by": "docker"}
    return made | numa.entry(service.numa, service.name, service.name, problems)


def _limited(size: int | None) -> bool:
    return size is not None and size > 0


def _memswap(service: Service) -> int | None:
    """Memory and swap together: twice the memory where nothing is written; None: unlimited."""
    if not _limited(service.limit) or service.memswap == -1:
        return None
    return service.memswap if _limited(service.memswap) else 2 * (service.limit or 0)


def _v1(service: Service, host: Host) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if _limited(service.limit):
        made["memory.limit_in_bytes"] = format_k8s(service.limit or 0)
    memswap = _memswap(service)
    if memswap is not None and host.swap:  # it has no effect without swap
        note = "" if _limited(service.memswap) else "docker's default: twice the memory"
        made["memory.memsw.limit_in_bytes"] = Noted(format_k8s(memswap), note)
    if _limited(service.reservation):
        made["memory.soft_limit_in_bytes"] = format_k8s(service.reservation or 0)
    if service.swappiness is not None and 0 <= service.swappiness <= 100:
        made["memory.swappiness"] = service.swappiness
    made["memory.oom_control"] = int(service.oom_kill_disable)
    return made


def _v2(service: Service, host: Host, problems: list[Problem]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if _limited(service.limit):
        made["memory.max"] = format_k8s(service.limit or 0)
    memswap = _memswap(service)
    if memswap is not None and host.swap:
        note = "" if _limited(service.memswap) else "docker's default: as much as memory"
        swap = max(memswap - (service.limit or 0), 0)
        made["memory.swap.max"] = Noted(format_k8s(swap), note)
    if _limited(service.reservation):
        made["memory.low"] = format_k8s(service.reservation or 0)
    for key in ("oom_kill_disable", "swappiness"):
        if getattr(service, key):
            written = key if key == "oom_kill_disable" else "mem_swappiness"
            problems.append(
                doubt("compose", 0, f"{service.name}: docker ignores {written} under cgroup v2")
            )
    return made


def _usage(service: Service, stats: Mapping[str, int]) -> int | None:
    """Usage of the service's largest container: ``project-service-1`` or the plain name."""
    pattern = re.compile(rf"(?:.*[-_])?{re.escape(service.name)}(?:[-_]\d+)?")
    return max((size for name, size in stats.items() if pattern.fullmatch(name)), default=None)


def _profile(name: str, service: Service, usage: int | None) -> dict[str, Any]:
    size, note = assumed(service.reservation, service.limit)
    if usage is not None:
        size, note = usage, "docker stats: usage without inactive file pages"
    made = profile(name, size, note)
    regions = made["processes"]["main"]["regions"]
    volumes = [*service.tmpfs, *((("/dev/shm", service.shm),) if service.shm else ())]
    for path, limit in volumes:
        bound = "half of RAM" if limit is None else format_k8s(limit)
        shmem = {"kind": "shmem", "size": Noted("0", f"tmpfs: counts when it fills, up to {bound}")}
        regions[legal_name(f"tmpfs{path.replace(os.sep, '-')}", regions)] = shmem
    return made
