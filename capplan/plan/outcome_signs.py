"""The signs before an incident, with their lead time: what an alert could have seen.

Thresholds are those that people already use:

============================ ========= ====================================================
sign                         at        from
============================ ========= ====================================================
MemAvailable                 10 %      node_exporter's mixin, NodeMemoryHighUtilization
PSI memory some, last 10 s   15 %      Documentation/accounting/psi.rst, example trigger
                                       "some 150000 1000000"
swap free                    10 %      systemd-oomd, SwapUsedLimit=90%
working set against limit    90 %      the same margin as for the node
============================ ========= ====================================================

The rest are onsets: allocation stalls, kswapd scanning, refaults, charges that meet a limit. Only
what the node's kernel shows is a sign: none of PSI before 4.20, none of a v1 group's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from capplan import release
from capplan.plan.outcome_context import NS_PER_S, Context
from capplan.plan.outcome_model import Sign
from capplan.units import format_bytes, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from capplan.plan.outcome_series import Array

    Mask = np.ndarray[Any, np.dtype[np.bool_]]

AVAILABLE_SHARE = 0.10
PSI_SHARE = 0.15
SWAP_FREE_SHARE = 0.10
WORKING_SET_SHARE = 0.90
INACTIVE_SHARE = 0.01  # of the anonymous memory: "near zero"
KIB = 1024


def signs(context: Context, t: float, domain: str) -> tuple[Sign, ...]:
    """The signs before ``t``, the earliest first; ``domain`` is a cgroup, "" the node."""
    found = list(_of_group(context, t, domain) if domain else _of_node(context, t))
    return tuple(sorted(found, key=lambda sign: (sign.t, sign.name)))


def _sign(context: Context, name: str, mask: Mask, t: float, text: str) -> Iterator[Sign]:
    begin = context.series.onset(mask, t)
    if begin is None or begin >= t:
        return
    when = format_duration(begin * NS_PER_S)
    lead = f"{format_duration((t - begin) * NS_PER_S)} before"
    if t - begin < context.sample_s:
        lead = "only in the last sample before"
    yield Sign(name, begin, t - begin, f"{text} from {when} ({lead})")


def _features(context: Context) -> release.Features:
    return release.features(context.run.scenario.node.release)


def _below(values: Array, limit: float | Array) -> Mask:
    with np.errstate(invalid="ignore"):
        return np.asarray(values < limit)


def _of_node(context: Context, t: float) -> Iterator[Sign]:
    series = context.series
    available = series.get("meminfo_kb.MemAvailable")
    if available is not None:
        limit = AVAILABLE_SHARE * context.memory
        text = f"MemAvailable below {format_bytes(limit)} (10 % of the node)"
        yield from _sign(context, "MemAvailable", _below(available * KIB, limit), t, text)
    swap_free = series.get("meminfo_kb.SwapFree")
    if swap_free is not None and context.swap_total:
        limit = SWAP_FREE_SHARE * context.swap_total
        text = f"free swap below {format_bytes(limit)} (10 %)"
        yield from _sign(context, "SwapFree", _below(swap_free * KIB, limit), t, text)
    yield from _pressure(context, t, "psi.memory.some.total_us", "of the node")
    stalls = series.rises(series.allocstall)
    yield from _sign(context, "allocstall", stalls, t, "tasks reclaim for themselves (allocstall)")
    scans = series.rises(series.get("vmstat.pgscan_kswapd"))
    yield from _sign(context, "kswapd", scans, t, "kswapd scans without pause")
    inactive, active = (
        series.get("meminfo_kb.Inactive(anon)"),
        series.get("meminfo_kb.Active(anon)"),
    )
    yield from _inactive(context, t, inactive, active)
    for kind in ("anon", "file"):
        counter = series.get(f"vmstat.workingset_refault_{kind}")
        yield from _refaults(context, t, counter, kind)


def _of_group(context: Context, t: float, domain: str) -> Iterator[Sign]:
    group = context.group(domain)
    limits = np.minimum(
        context.limit_series(domain, context.limit_key),
        context.limit_series(domain, "memory.high"),
    )
    usage, idle = group.usage, group.file("stat.inactive_file")
    if usage is not None and np.isfinite(limits).any():
        working_set = usage if idle is None else np.maximum(usage - np.nan_to_num(idle), 0.0)
        with np.errstate(invalid="ignore"):
            near = np.asarray(working_set > WORKING_SET_SHARE * limits)
        text = f"working set of {context.called(domain)} above 90 % of its limit"
        yield from _sign(context, "working_set", near, t, text)
    counter, name = group.file("events.max"), "memory.events max"
    if counter is None:
        counter = group.file("memory.failcnt")
    if context.v1:
        name = "memory.failcnt"
    text = f"charges meet the limit and reclaim first ({name} rises)"
    yield from _sign(context, name, context.series.rises(counter), t, text)
    high = context.series.rises(group.file("events.high"))
    yield from _sign(context, "memory.events high", high, t, "memory.events high rises")
    if not context.v1:  # memory.pressure is a file of v2
        name = f"cgroup.{domain}.psi.some"
        yield from _pressure(context, t, name, f"of {context.called(domain)}")
    yield from _inactive(
        context, t, group.file("stat.inactive_anon"), group.file("stat.active_anon")
    )
    for kind in ("anon", "file"):
        yield from _refaults(context, t, group.file(f"stat.workingset_refault_{kind}"), kind)


def _pressure(context: Context, t: float, name: str, whose: str) -> Iterator[Sign]:
    average = context.series.average10(context.series.get(name))
    if average is not None and _features(context).psi:
        text = f"PSI memory some {whose} above 15 % (10 s average)"
        yield from _sign(context, "psi", np.asarray(average > PSI_SHARE), t, text)


def _inactive(
    context: Context, t: float, inactive: Array | None, active: Array | None
) -> Iterator[Sign]:
    """Inactive anon near zero: what swap could take was taken. Only if there was any before."""
    if inactive is None or active is None:
        return
    near = _below(inactive, INACTIVE_SHARE * (inactive + active))
    early = context.series.t < t
    if (~near & early & (inactive > 0)).any():
        yield from _sign(context, "inactive_anon", near, t, "inactive anonymous memory near zero")


def _refaults(context: Context, t: float, counter: Array | None, kind: str) -> Iterator[Sign]:
    if kind not in _features(context).refaults.split():
        return
    what = "swapped-out memory" if kind == "anon" else "page cache"
    rises = context.series.rises(counter)
    text = f"{what} is read back soon after it was reclaimed (refaults)"
    yield from _sign(context, f"refault_{kind}", rises, t, text)
