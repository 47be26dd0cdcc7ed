"""What a comparison's pick or a headroom changes, as advice: the input before and after."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from capplan.spec.node import NodeFile
from capplan.spec.settings import apply
from capplan.spec.tree import parse
from capplan.targets.advice import Advised, Container
from capplan.units import UNLIMITED, Dialect, format_k8s, parse_size

__all__ = ["of_comparison", "of_headroom"]

LIMITS = ("memory.max", "memory.limit_in_bytes")
HIGH, REQUEST = "memory.high", "requests.memory"
FILES = (
    "memory.min", "memory.low", "memory.swap.max", "memory.zswap.max", "memory.soft_limit_in_bytes",
    "memory.memsw.limit_in_bytes",
)  # fmt: skip
SIZES = (*LIMITS, HIGH, REQUEST, *FILES)
ADJ = "oom_score_adj"
SIGNALS = ("evictionHard", "evictionSoft", "evictionMinimumReclaim")
RESERVES = ("systemReserved", "kubeReserved")


def of_comparison(data: Mapping[str, Any]) -> Advised:
    """The changes of the setting that was picked."""
    pick = data["pick"]
    if pick is None:
        return Advised(str(data["name"]), str(data["verdict"]), by="compare")
    chosen = data["settings"][pick]
    reason = f"picked: {chosen['label']}"
    return _changed(data, chosen["settings"], "compare", dict.fromkeys(chosen["settings"], reason))


def of_headroom(data: Mapping[str, Any]) -> Advised:
    """The limits that can come down. Each was searched by itself, which every file then says."""
    rooms = [room for room in data["rooms"] if room["kind"] == "limit" and room["value"]]
    settings = {str(room["key"]): str(room["value"]) for room in rooms}
    reasons = {str(room["key"]): str(room["statement"]) for room in rooms}
    alone = (
        " Each limit was lowered by itself: apply one, or let capplan recommend find all together."
        if len(rooms) > 1
        else ""
    )
    return _changed({**data, "verdict": f"{data['verdict']}{alone}"}, settings, "headroom", reasons)


def _changed(
    data: Mapping[str, Any], settings: Mapping[str, str], by: str, reasons: Mapping[str, str]
) -> Advised:
    text = json.dumps(data["provenance"]["input"])
    before = parse(text, "the result's input")[0].plain()
    tree, _ = parse(text, "the result's input")
    problems = apply(tree, NodeFile, settings)
    if problems:
        raise ValueError("; ".join(map(str, problems)))
    after = tree.plain()
    held = set[str]()
    containers = tuple(_containers(before, after, reasons, held))
    groups = tuple(_groups(before, after, reasons, held))
    told = ", ".join(dict.fromkeys(reasons.values()))
    sysctl = _sysctl(before, after)
    return Advised(
        name=str(data["name"]),
        verdict=str(data["verdict"]),
        by=by,
        containers=containers,
        groups=groups,
        sysctl=sysctl,
        sysctl_reason=told if sysctl else "",
        kubelet=_kubelet(before.get("kubelet") or {}, after.get("kubelet") or {}),
        kubelet_reason=told,
        others=tuple(
            f"{key}={value}"
            for key, value in settings.items()
            if key not in held and "kubelet." not in key and not key.endswith(tuple(sysctl))
        ),
    )


def _containers(
    before: Mapping[str, Any], after: Mapping[str, Any], reasons: Mapping[str, str], held: set[str]
) -> Iterator[Container]:
    for name, one in after["containers"].items():
        key = f"containers.{name}"
        made = _container(name, key, before["containers"][name], one, reasons, held)
        if made is not None:
            yield made


def _groups(
    before: Mapping[str, Any], after: Mapping[str, Any], reasons: Mapping[str, str], held: set[str]
) -> Iterator[Container]:
    old = (before.get("cgroup") or {}).get("groups") or {}
    for path, one in ((after.get("cgroup") or {}).get("groups") or {}).items():
        name = path.rpartition("/")[2]
        made = _container(name, f"groups.{path}", old.get(path) or {}, one, reasons, held)
        if made is not None:
            yield made


def _container(
    name: str, key: str, old: Mapping[str, Any], new: Mapping[str, Any],
    reasons: Mapping[str, str], held: set[str],
) -> Container | None:  # fmt: skip
    """What differs of one; the keys that say it go to ``held``."""
    sizes = {f: _size(new[f]) for f in SIZES if f in new}
    if new.get(ADJ, 0) != old.get(ADJ, 0):
        sizes[ADJ] = int(new[ADJ])
    changed = {f: n for f, n in sizes.items() if f not in old or f == ADJ or _size(old[f]) != n}
    mine = {k: why for k, why in reasons.items() if k.removeprefix("cgroup.").startswith(f"{key}.")}
    # what the kubelet works out itself from the limits and requests
    held |= {k for k in mine if k.endswith((*SIZES, ADJ, "parent"))}
    if not changed:
        return None
    was = ", ".join(
        f"{f} was {old[f] if f == ADJ else _told(old[f])}" if f in old else f"{f} was not set"
        for f in changed
    )
    why = ", ".join(dict.fromkeys(mine.values()))
    limit = next((changed[f] for f in LIMITS if f in changed), None)
    return Container(
        name=name,
        limit=limit,
        request=changed.get(REQUEST),
        high=changed.get(HIGH),
        reason=f"{why} ({was})",
        files={f: changed[f] for f in (*FILES, ADJ) if f in changed},
        present=next((_size(new[f]) for f in LIMITS if f in new), None),
    )


def _size(value: Any) -> int:
    return UNLIMITED if value in ("max", UNLIMITED) else int(parse_size(value, Dialect.K8S))


def _told(value: Any) -> str:
    size = _size(value)
    return "max" if size == UNLIMITED else format_k8s(size)


def _sysctl(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, int | str]:
    old = before["node"].get("sysctl") or {}
    return {
        key: " ".join(map(str, value)) if isinstance(value, list | tuple) else value
        for key, value in (after["node"].get("sysctl") or {}).items()
        if old.get(key) != value
    }


def _kubelet(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of the kubelet's configuration that differ: a key is replaced whole."""
    made: dict[str, Any] = {}
    for key, value in new.items():
        if old.get(key) == value:
            continue
        if key in RESERVES:
            made[key] = {"memory": _told(value["memory"])}
        elif key in SIGNALS:  # texts all of them: the kubelet's type is map[string]string
            made[key] = {signal: _threshold(at) for signal, at in value.items() if at is not None}
        else:
            made[key] = value
    return made


def _threshold(value: Any) -> str:
    if isinstance(value, float):
        return f"{100 * value:g}%"
    return format_k8s(value) if isinstance(value, int) else str(value)
