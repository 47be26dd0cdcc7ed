"""The pool of huge pages that stayed shorter than ``vm.nr_hugepages`` asked for.

The kernel's write succeeds all the same. Who relies on the pool finds out later: ``mmap()`` of
MAP_HUGETLB fails with ENOMEM, and where the reservation was left out a fault gets SIGBUS
(mm/hugetlb.c, hugetlb_reserve_pages(), hugetlb_no_page()).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from capplan.plan import outcome_chain as link
from capplan.plan.outcome_context import NS_PER_S
from capplan.plan.outcome_model import Incident
from capplan.plan.outcome_signs import signs
from capplan.spec.hugepages import HPAGE_BYTES, KEY
from capplan.units import format_bytes

if TYPE_CHECKING:
    from capplan.plan.outcome_context import Context
    from capplan.sim.result import Event

BLOCK_ORDERS = (9, 10)


def short_pools(context: Context) -> list[Incident]:
    """One incident for each request that the node could not fill.

    A pool that a later write makes smaller, or fills, is short until then.
    """
    failed = [e for e in context.events("write_failed") if e.detail.get("key") == KEY]
    return [_short(context, event) for event in failed]


def _short(context: Context, event: Event) -> Incident:
    wanted, got = int(event.detail["wanted"]), int(event.detail["got"])
    t = event.t
    end = min((at for at in _requests(context) if at > t), default=None)
    missing = wanted - got
    asked = (
        f"{KEY} asks for {wanted:,} huge pages, {format_bytes(wanted * HPAGE_BYTES)} in blocks of"
        f" {format_bytes(HPAGE_BYTES)}; the node has made {got:,},"
        f" {format_bytes(got * HPAGE_BYTES)}"
    )
    follows = (
        f"who maps one of the {missing:,} that are missing gets ENOMEM from mmap(), or SIGBUS at"
        " the first touch where nothing was reserved"
    )
    return Incident(
        number=0, kind="hugepages_short", t=t, end=end, name=KEY, container="", cgroup="",
        title=f"the pool of huge pages is {missing:,} of {wanted:,} short at {link.clock(t)}",
        chain=(asked, *_left(context, t), follows), signs=signs(context, t, ""),
    )  # fmt: skip


def _requests(context: Context) -> list[float]:
    """When the timeline writes the size of the pool. [s]"""
    return [c.at_ns / NS_PER_S for c in context.scenario.changes if c.key == KEY]


def _left(context: Context, t: float) -> list[str]:
    """What was free then, and in which pieces."""
    series = context.series
    free = series.get("meminfo_kb.MemFree")
    if free is None:
        return []
    at = min(int(np.searchsorted(series.t, t)), len(series.t) - 1)
    text = f"{format_bytes(float(free[at]) * 1024)} are free"
    blocks = 0.0
    for zone in context.scenario.node.zones:
        for order in BLOCK_ORDERS:
            count = series.get(f"zone.{context.zone_name(zone)}.order{order}")
            blocks += 0.0 if count is None else float(count[at]) * 2.0 ** (order - BLOCK_ORDERS[0])
    return [f"{text}, {blocks:,.0f} blocks of {format_bytes(HPAGE_BYTES)} among it"]
