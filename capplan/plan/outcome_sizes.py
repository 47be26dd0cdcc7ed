"""Peak, limit and headroom of all containers: a row of a table for each, worked out at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from capplan.plan.outcome_series import PAGE_SIZE, Array

if TYPE_CHECKING:
    from capplan.plan.outcome_context import Context

__all__ = ["sizes"]


def sizes(context: Context) -> list[dict[str, Any]]:
    """Peak, limit and headroom of each container, as fields of its outcome."""
    key = context.limit_key
    own = list(context.container_cgroup.values())
    limiting = [context.limiting(path, key) for path in own]
    limited = [path for path in dict.fromkeys(limiting) if path is not None]
    paths = list(dict.fromkeys([*own, *limited]))
    at = {path: i for i, path in enumerate(paths)}
    usages, caches = _usages(context, paths), _caches(context, paths)
    first, which = [at[path] for path in own], [at[path] for path in limited]
    peaks = _peaks(context, usages[first], caches[first])
    rooms = _rooms(context, limited, usages[which] - np.nan_to_num(caches[which]))
    none = dict.fromkeys(ROOM, None) | {"limit_key": key, "limit_cgroup": ""}
    return [peak | (rooms[path] if path else none) for peak, path in zip(peaks, limiting)]


ROOM = ("limit_bytes", "limit_key", "limit_cgroup", "headroom_bytes", "headroom_share")


def _peaks(context: Context, usages: Array, caches: Array) -> list[dict[str, Any]]:
    """The largest usage of each container's group, and the page cache in it."""
    series = context.series
    peaks = [
        peak or _peak_of_processes(context, name)
        for name, peak in zip(context.totals, series.highest(usages))
    ]
    times = [0.0 if peak is None else peak[1] for peak in peaks]
    return [
        {
            "peak_bytes": None if peak is None else int(peak[0]),
            "peak_t": None if peak is None else peak[1],
            "peak_cache_bytes": 0 if peak is None else int(cache),
        }
        for peak, cache in zip(peaks, series.each_at(caches, times))
    ]


def _peak_of_processes(context: Context, container: str) -> tuple[float, float] | None:
    """The most that a container's processes had, where its group's usage is not known."""
    names = [f"process.{row.process}.rss_pages" for row in context.totals[container]]
    rss = context.series.total(*names)
    if rss is None:
        return None
    index = int(np.nanargmax(rss))
    return float(rss[index]) * PAGE_SIZE, float(context.series.t[index])


def _rooms(context: Context, paths: list[str], needs: Array) -> dict[str | None, dict[str, Any]]:
    """The limit of each group where the least room was left under it, and that room.

    Page cache on the file lists counts as room: reclaim takes it before anything fails.
    """
    found: dict[str | None, dict[str, Any]] = {}
    if not paths:
        return found
    limits = np.array([context.limit_series(path, context.limit_key) for path in paths])
    room = limits - np.maximum(needs, 0.0)
    room[~np.isfinite(room)] = np.inf
    places = room.argmin(axis=1)
    rows = np.arange(len(paths))
    for path, left, there, least in zip(
        paths, room[rows, places].tolist(), limits[rows, places].tolist(), limits.min(axis=1)
    ):
        known = left < np.inf
        limit = there if known else float(least)
        headroom = max(left, 0.0)
        found[path] = {
            "limit_bytes": int(limit),
            "limit_key": context.limit_key,
            "limit_cgroup": path,
            "headroom_bytes": int(headroom) if known else None,
            "headroom_share": (headroom / limit if limit else 0.0) if known else None,
        }
    return found


def _usages(context: Context, paths: list[str]) -> Array:
    """Usage of these groups at every sample; the bin's highest where it was kept."""
    names = [context.group(path).usage_name for path in paths]
    return context.series.table([f"{name}|max" for name in names], names)


def _caches(context: Context, paths: list[str]) -> Array:
    """Page cache on the file lists of these groups (:attr:`Group.cache`)."""
    lists = np.array(
        [
            context.series.table([f"cgroup.{path}.stat.{kind}_file" for path in paths])
            for kind in ("inactive", "active")
        ]
    )
    unknown = np.isnan(lists)
    if not unknown.any():
        return np.asarray(lists.sum(axis=0))
    whole = np.nansum(lists, axis=0)
    for i in np.flatnonzero(unknown.all(axis=(0, 2))):
        cache = context.group(paths[i]).cache
        whole[i] = np.nan if cache is None else cache
    return np.asarray(whole)
