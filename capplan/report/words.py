"""Words and rows that the reports share; foreign names made harmless."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from capplan.units import format_bytes, format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capplan.plan.outcome_model import ContainerOutcome, NodeOutcome, Outcome, Span

NS_PER_S = 1_000_000_000
NOTHING = "-"
HUGE = 9  # order of a block of 2 MiB
SIGNS_SHOWN = 4
LATE_SHOWN_S = 0.01  # a turn of the engine and a stall of the disk are no lateness


def clean(text: str) -> str:
    """``text`` with control, format and unassigned characters written as escapes.

    Container names are foreign: an escape sequence must not reach a terminal, nor a
    right-to-left mark turn a line round.
    """
    return "".join(
        ascii(c)[1:-1] if unicodedata.category(c) in _UNSAFE else c for c in text
    )  # fmt: skip


_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def time(seconds: float) -> str:
    """A run time for people."""
    return format_duration(seconds * NS_PER_S)


def percent(share: float) -> str:
    """A share for people: three digits, none invented."""
    return f"{100 * share:.3g} %"


def size(value: int | None) -> str:
    """A size for people, or a dash."""
    return NOTHING if value is None else format_bytes(value)


def by_risk(containers: Sequence[ContainerOutcome]) -> list[ContainerOutcome]:
    """Those at most risk first: killed, paused, evicted, unfinished, throttled, tight."""

    def key(c: ContainerOutcome) -> tuple[bool, bool, bool, bool, float, float, str]:
        headroom = 2.0 if c.headroom_share is None else c.headroom_share
        return (
            not c.killed, not c.paused, not c.evicted, not c.unfinished,
            -c.throttle_share, headroom, c.name,
        )  # fmt: skip

    return sorted(containers, key=key)


def times(moments: Sequence[float]) -> str:
    """When something befell a container."""
    if not moments:
        return NOTHING
    first, distinct = f"at {time(moments[0])}", len(set(moments))
    if distinct > 1:
        return f"{distinct}x, first {first}"
    return first if len(moments) == 1 else f"{first} ({len(moments)} processes)"


def paused(c: ContainerOutcome) -> str:
    """How long and when a container was paused; the times of several processes add up."""
    return spans(c.paused, f"of {c.processes} processes" if c.processes > 1 else "", c.pause_s)


def throttled(c: ContainerOutcome) -> str:
    """How long, which share of its time, and when a container was throttled."""
    return spans(c.throttled, f"({percent(c.throttle_share)})", c.throttle_s)


def spans(found: Sequence[Span], about: str, seconds: float) -> str:
    """How long and when something lasted."""
    if not found and not seconds:
        return NOTHING
    parts = [time(seconds), about] if seconds else []
    if found:
        since = f"from {time(found[0].begin)}"
        if found[-1].end is None:
            since += " to the end"
        parts.append(since if len(found) == 1 else f"in {len(found)} spells {since}")
    return " ".join(filter(None, parts))


HEADERS = (
    "container", "peak", "cache in it", "limit", "headroom", "late", "throttled", "paused",
    "killed", "evicted", "major faults", "stalled",
)  # fmt: skip


def row(c: ContainerOutcome) -> list[str]:
    """A container's line, in the order of ``HEADERS``."""
    headroom = NOTHING
    if c.headroom_bytes is not None and c.headroom_share is not None:
        headroom = f"{format_bytes(c.headroom_bytes)} ({percent(c.headroom_share)})"
    limit = size(c.limit_bytes)
    if c.limit_bytes is not None and c.limit_cgroup != c.cgroup:
        limit += f" of {c.limit_cgroup}"
    return [
        c.name, size(c.peak_bytes), size(c.peak_cache_bytes or None), limit, headroom,
        time(c.late_max_s) if c.late_max_s >= LATE_SHOWN_S else NOTHING,
        throttled(c), paused(c), times(c.killed), times(c.evicted),
        f"{c.majfaults:,}" if c.majfaults else NOTHING,
        percent(c.stall_share) if c.stall_share >= 0.0005 else NOTHING,
    ]  # fmt: skip


def table(containers: Sequence[ContainerOutcome], top: int) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of the containers at most risk; columns without content left out."""
    rows = [row(c) for c in by_risk(containers)[:top]]
    kept = [
        n for n in range(len(HEADERS)) if n in (0, 1, 3, 4) or any(r[n] != NOTHING for r in rows)
    ]
    return [HEADERS[n] for n in kept], [[clean(r[n]) for n in kept] for r in rows]


def the_rest(containers: Sequence[ContainerOutcome], top: int) -> str:
    """One line for those that the table leaves out; "" when there are none."""
    rest = by_risk(containers)[top:]
    if not rest:
        return ""
    peaks = sum(c.peak_bytes or 0 for c in rest)
    text = f"{len(rest)} more: their peaks add up to {format_bytes(peaks)}"
    shares = [c.headroom_share for c in rest if c.headroom_share is not None]
    if shares:
        text += f", the least headroom is {percent(min(shares))}"
    troubled = sum(c.troubled for c in rest)
    return text + (f"; {troubled} of them in trouble" if troubled else "; none in trouble")


def node_lines(node: NodeOutcome) -> list[tuple[str, str]]:
    """What became of the node, as (subject, sentence)."""
    lines = [("memory", _memory(node))]
    for zone in node.zones:
        if zone.name == "DMA" and zone.where == "above high":
            continue  # lowmem_reserve keeps it from containers: nothing to see
        marks = (
            f"min {size(zone.min_bytes)}, low {size(zone.low_bytes)}, high {size(zone.high_bytes)}"
        )
        lowest = "free memory was not recorded"
        if zone.lowest_free_bytes is not None and zone.lowest_t is not None:
            at = time(zone.lowest_t)
            lowest = f"lowest free {size(zone.lowest_free_bytes)} at {at}, {zone.where}"
        lines.append((f"zone {zone.name}", f"{lowest} ({marks})"))
    lines.append(("kswapd", _kswapd(node)))
    lines.append(("direct reclaim", _direct(node)))
    lines.append(("swap", _swap(node)))
    if node.zswapped_peak_bytes or node.zswap_peak_bytes:
        lines.append(("zswap", _zswap(node)))
    if node.zram_peak_bytes:
        lines.append(("zram", f"{size(node.zram_peak_bytes)} of memory taken at most"))
    lines.append(("pressure", _psi(node)))
    if node.least_huge_blocks:
        said = [
            f"{count:,} in {zone}"
            for zone, count in node.least_huge_blocks.items()
            if zone != "DMA"
        ]
        lines.append(
            ("fragmentation", f"least free blocks of 2 MiB: {', '.join(said)}{_had(node)}")
        )
    return lines


def _had(node: NodeOutcome) -> str:
    """How often a huge page could be had, where that was not always."""
    share = node.order_available[HUGE] if node.order_available else 1.0
    if share == 1.0 or node.order9_unusable is None:
        return ""
    worst = percent(node.order9_unusable)
    return (
        f"; one could be had in {percent(share)} of the samples, and at worst {worst} of the free "
        "memory lay in smaller ones"
    )


def _memory(node: NodeOutcome) -> str:
    text = size(node.memory_bytes)
    if node.lowest_available_bytes is not None and node.lowest_available_t is not None:
        low = size(node.lowest_available_bytes)
        text += f", least available {low} at {time(node.lowest_available_t)}"
    return text


def _kswapd(node: NodeOutcome) -> str:
    if not node.kswapd_awake_s and not node.kswapd_scanned_bytes:
        return "slept all the time"
    woken = f"woken {_often(node.kswapd_wakes)}, " if node.kswapd_wakes else ""
    return (
        f"{woken}awake {time(node.kswapd_awake_s)}, scanned {size(node.kswapd_scanned_bytes)}, "
        f"reclaimed {size(node.kswapd_reclaimed_bytes)}"
    )


def _often(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _direct(node: NodeOutcome) -> str:
    if not node.direct_stalls and not node.direct_scanned_bytes:
        return "none"
    return (
        f"{node.direct_stalls:,} stalls for the node's memory; scanned "
        f"{size(node.direct_scanned_bytes)}, reclaimed {size(node.direct_reclaimed_bytes)} "
        "(at cgroup limits too)"
    )


def _swap(node: NodeOutcome) -> str:
    if not node.swap_total_bytes:
        return "none"
    return (
        f"{size(node.swap_peak_bytes)} of {size(node.swap_total_bytes)} used at most; "
        f"{size(node.swap_out_bytes)} out, {size(node.swap_in_bytes)} in"
    )


def _zswap(node: NodeOutcome) -> str:
    text = f"{size(node.zswapped_peak_bytes)} held in {size(node.zswap_peak_bytes)} at most"
    return text + (f"; full {_often(node.zswap_full)}" if node.zswap_full else "")


def _psi(node: NodeOutcome) -> str:
    if not node.psi_some_share:
        return "no task ever stalled for memory (PSI some 0 %)"
    text = (
        f"PSI some {percent(node.psi_some_share)}, full {percent(node.psi_full_share)} of the run"
    )
    if node.psi_some_peak_t is not None:
        at = time(node.psi_some_peak_t)
        text += f"; the worst 10 s: some {percent(node.psi_some_peak)} up to {at}"
    return text


def reclaimed_again(outcome: Outcome) -> str:
    """A sentence on refaults; "" when there were none."""
    refaults = outcome.node.refault_bytes
    return f"{size(refaults)} read back after it had been reclaimed" if refaults else ""
