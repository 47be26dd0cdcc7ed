"""A finished run as one flat row of numbers and words: what a run of many leaves behind.

Names are ``node.<metric>`` and ``container.<replica>.<metric>``; a metric's name has no dot.
Bytes, seconds and shares of one; None is "did not happen" or "there is none". The figures are
those of :func:`capplan.plan.outcome.analyse`: a replicate shown by ``capplan simulate`` says the
same (but for samples, which a run of many takes more rarely; extremes between samples are kept).
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from capplan.plan.outcome_containers import containers
from capplan.plan.outcome_context import NS_PER_S, Context
from capplan.plan.outcome_gate import Bars, beyond
from capplan.plan.outcome_node import node

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from capplan.plan.outcome_model import ContainerOutcome, GateLike, NodeOutcome
    from capplan.sim.result import Event, Run

__all__ = [
    "CONTAINER_METRICS",
    "NODE_METRICS",
    "dump",
    "failed",
    "row",
    "split",
    "stopped",
    "well",
    "went_badly",
]

Row = dict[str, Any]
EVICTIONS = ("evicted", "oomd_kill", "earlyoom_kill")  # events of killers in user space
BAD = ("node.kills", "node.pauses", "node.evictions")
KIB = 1024
HUGE = 9  # order of a block of 2 MiB
ORDER_SHOWN = 20  # victims named in node.kill_order

NODE_METRICS = {
    "kills": "OOM kills, all containers and daemons",
    "kill_t": "time of the first OOM kill [s]",
    "kill_first": "container that lost a process first",
    "kill_scope": "memcg or global: of the first kill",
    "kill_trigger": "container that asked for the memory that the first kill was for",
    "kill_order": "containers in the order in which they first lost a process, joined by >",
    "kill_containers": "containers that lost a process",
    "pauses": "containers that were paused (cgroup v1)",
    "pause_t": "time of the first pause [s]",
    "throttles": "containers asleep in memory.high's throttle for more than the gate's share",
    "throttle_share": "largest share of a process's life asleep in a throttle",
    "evictions": "containers evicted by the kubelet, and kills by systemd-oomd and earlyoom",
    "evict_t": "time of the first of them [s]",
    "evict_first": "container evicted first",
    "evict_by": "who evicted first: kubelet, systemd-oomd, earlyoom",
    "stock_kills": "OOM kills on a stock kernel where a pause rests on an assumption",
    "panic_t": "time of a kernel panic [s]",
    "unfinished": "containers whose work was not done",
    "beyond_gate": "containers later or closer to their limit than the gate allows",
    "fits": "1 when nobody was killed, paused, evicted, throttled or unfinished, within the gate",
    "late_s": "largest lateness of any process [s]",
    "available_min": "lowest MemAvailable [bytes]",
    "free_min": "lowest free memory above the min mark, worst zone [bytes]",
    "headroom_min": "least room under a limit, any container [bytes]",
    "fullness": "largest share of a limit, or of the node's memory, that was needed (swap with it)",
    "kswapd_wakes": "times that kswapd woke",
    "kswapd_awake_share": "share of the run in which kswapd was awake",
    "kswapd_cpu_share": "share of one CPU that kswapd used",
    "direct_stalls": "allocations that reclaimed for themselves (allocstall)",
    "direct_reclaimed": "by direct reclaim [bytes]",
    "kswapd_reclaimed": "by kswapd [bytes]",
    "swap_in": "read from swap [bytes]",
    "swap_out": "written to swap [bytes]",
    "swap_peak": "most swap in use [bytes]",
    "zswap_peak": "largest zswap pool [bytes]",
    "zram_peak": "most memory that zram devices took [bytes]",
    "refaults": "read back after it had been reclaimed [bytes]",
    "majfaults": "major faults",
    "psi_some": "share of the run with some task stalled for memory",
    "psi_full": "share of the run with all tasks stalled for memory",
    "compact_stalls": "allocations that compacted for themselves",
    "order9_min": "fewest free blocks of 2 MiB at any sample, all zones",
    "order9_available": "share of samples at which a block of 2 MiB could be had at once",
    "order9_unusable": "largest share of the free memory that lies in smaller blocks than 2 MiB",
}
CONTAINER_METRICS = {
    "kills": "processes OOM-killed",
    "kill_t": "time of the first [s]",
    "kill_scope": "memcg or global: of the first",
    "pauses": "stretches paused (cgroup v1)",
    "pause_t": "begin of the first [s]",
    "pause_s": "paused, all processes [s]",
    "throttle_share": "largest share of a process's life asleep in memory.high's throttle",
    "throttle_s": "asleep in the throttle, all processes [s]",
    "evictions": "times evicted, or killed by a killer in user space",
    "evict_t": "time of the first [s]",
    "peak": "largest usage of its cgroup [bytes]",
    "headroom": "least room under the nearest limit, page cache counted as room [bytes]",
    "late_s": "largest lateness [s]",
    "stall_share": "share of its processes' lives stalled for memory",
    "majfaults": "major faults",
    "restarts": "restarts",
    "unfinished": "1 when its work was not done",
}


def row(run: Run, gate: GateLike | None = None, stock: Run | None = None) -> Row:
    """The row of a finished run.

    Parameters
    ----------
    run : Run
        A finished simulation; its series may be coarse.
    gate : GateLike, optional
        Whose ``max_throttle_share`` says from when on a container counts as throttled.
    stock : Run, optional
        The same with ``oom_kill_disable: 0``, where that had been left out (cgroup v1).

    Returns
    -------
    dict
        :data:`NODE_METRICS` and, for each container's replica, :data:`CONTAINER_METRICS`.
    """
    bars = Bars.of(gate)
    context = Context(run)
    found = containers(context, bars.max_throttle_share)
    made: Row = {f"node.{k}": v for k, v in _node(context, found, bars, stock).items()}
    scopes = _first_scopes(context)
    ended = _ended(context)
    for c in found:
        figures = _container(c, scopes, ended.get(c.name, []))
        made |= {f"container.{c.name}.{k}": v for k, v in figures.items()}
    return made


def well(made: Mapping[str, Any]) -> bool:
    """Whether a run ended without a kill, a pause, an eviction or a panic."""
    # a panic at 0 s is one too: its time is what tells, not its truth
    ended = "error" in made or any(made[k] for k in BAD)
    return not ended and made["node.panic_t"] is None


def went_badly(events: Iterable[Event]) -> bool:
    """Whether something happened after which a run is not :func:`well` (a pause: may not be)."""
    return any(event.event in ("oom_kill", "paused", "panic", *EVICTIONS) for event in events)


def stopped(made: Mapping[str, Any]) -> Row:
    """The row of a run that was stopped when it went badly: what it says about that."""
    return {name: made[name] for name in (*BAD, "node.panic_t")}


def failed(error: str) -> Row:
    """The row of a point that could not be run."""
    return {"error": error}


def dump(made: Mapping[str, Any]) -> str:
    """A row as text: the same row is the same text."""
    return json.dumps(made, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def split(made: Mapping[str, Any]) -> tuple[Row, dict[str, Row]]:
    """A row's node metrics, and those of each container's replica."""
    of_node: Row = {}
    of_containers: dict[str, Row] = {}
    for name, value in made.items():
        head, _, rest = name.partition(".")
        if head == "node":
            of_node[rest] = value
        elif head == "container":
            container, _, metric = rest.rpartition(".")
            of_containers.setdefault(container, {})[metric] = value
    return of_node, of_containers


# --- the node ------------------------------------------------------------------------------


def _node(
    context: Context, found: tuple[ContainerOutcome, ...], bars: Bars, stock: Run | None
) -> Row:
    broken = beyond(context, found, bars)
    over = [c for c in found if c.throttle_share > bars.max_throttle_share]
    troubled = over or broken or any(c.troubled for c in found)
    panic = _first(context.events("panic"))
    kills = _kills(context)
    befallen = _befallen(context, found)
    fits = not (troubled or kills["kills"] or befallen["evictions"] or panic is not None)
    rooms = [c.headroom_bytes for c in found if c.headroom_bytes is not None]
    return {
        **kills,
        **befallen,
        "throttles": len(over),
        "throttle_share": _number(max((c.throttle_share for c in found), default=0.0)),
        "stock_kills": None if stock is None else sum(e.event == "oom_kill" for e in stock.events),
        "panic_t": None if panic is None else _number(panic.t),
        "unfinished": sum(bool(c.unfinished) for c in found),
        "beyond_gate": len({i.container for i in broken}),
        "fits": int(fits),
        "late_s": _number(max((c.late_max_s for c in found), default=0.0)),
        "headroom_min": min(rooms, default=None),
        "fullness": _number(_fullness(context, found)),
        **_memory(context, node(context)),
    }


def _fullness(context: Context, found: tuple[ContainerOutcome, ...]) -> float:
    """How near the run came to a kill: need over what there is, swap counted on both sides."""
    available = context.series.extreme("meminfo_kb.MemAvailable", "min")
    swap_free = context.series.extreme("meminfo_kb.SwapFree", "min")
    room = context.memory + context.swap_total
    left = 0.0 if available is None else available[0] * KIB
    left += 0.0 if swap_free is None else swap_free[0] * KIB
    shares = [1.0 - left / room if room else 0.0]
    limited = [c for c in found if c.limit_bytes and c.headroom_bytes is not None]
    names = [f"cgroup.{c.limit_cgroup}.memory.swap.current" for c in limited]
    swaps = context.series.highest(context.series.table([f"{name}|max" for name in names], names))
    for c, swapped in zip(limited, swaps):
        if c.limit_bytes and c.headroom_bytes is not None:
            swap = 0.0 if swapped is None else swapped[0]
            need = c.limit_bytes - c.headroom_bytes + swap
            shares.append(need / (c.limit_bytes + context.swap_total))
    return max(shares)


def _kills(context: Context) -> Row:
    events = list(context.events("oom_kill"))
    victims = list(dict.fromkeys(context.container_of(e) or e.name for e in events))
    first = _first(events)
    return {
        "kills": len(events),
        "kill_t": None if first is None else _number(first.t),
        "kill_first": victims[0] if victims else None,
        "kill_scope": None if first is None else first.scope,
        "kill_trigger": None if first is None else _trigger(context, first),
        "kill_order": ">".join(victims[:ORDER_SHOWN]) if victims else None,
        "kill_containers": len(victims),
    }


def _trigger(context: Context, kill: Event) -> str | None:
    """The container whose process found no memory; None where none did (a limit was written)."""
    name = str(kill.detail.get("trigger") or "")
    process = context.processes.get(name)
    return (process.container or process.name) if process is not None else None


def _befallen(context: Context, found: tuple[ContainerOutcome, ...]) -> Row:
    """Pauses and evictions over all containers."""
    pauses = [c.paused[0].begin for c in found if c.paused]
    ended = list(context.events(*EVICTIONS))
    return {
        "pauses": len(pauses),
        "pause_t": _number(min(pauses)) if pauses else None,
        "evictions": len(ended),
        "evict_t": _number(ended[0].t) if ended else None,
        "evict_first": context.container_of(ended[0]) or ended[0].name if ended else None,
        "evict_by": str(ended[0].detail.get("agent", "")) or None if ended else None,
    }


def _memory(context: Context, of_node: NodeOutcome) -> Row:
    span = max(context.duration, 1.0 / NS_PER_S)
    cpu = context.series.increase(context.series.get("kswapd.cpu_us")) / 1e6
    zones = [z.lowest_free_bytes - z.min_bytes for z in of_node.zones if z.lowest_free_bytes]
    return {
        "available_min": of_node.lowest_available_bytes,
        "free_min": min(zones, default=None),
        "kswapd_wakes": of_node.kswapd_wakes,
        "kswapd_awake_share": _number(of_node.kswapd_awake_s / span),
        "kswapd_cpu_share": _number(cpu / span),
        "direct_stalls": of_node.direct_stalls,
        "direct_reclaimed": of_node.direct_reclaimed_bytes,
        "kswapd_reclaimed": of_node.kswapd_reclaimed_bytes,
        "swap_in": of_node.swap_in_bytes,
        "swap_out": of_node.swap_out_bytes,
        "swap_peak": of_node.swap_peak_bytes,
        "zswap_peak": of_node.zswap_peak_bytes,
        "zram_peak": of_node.zram_peak_bytes,
        "refaults": of_node.refault_bytes,
        "majfaults": of_node.majfaults,
        "psi_some": _number(of_node.psi_some_share),
        "psi_full": _number(of_node.psi_full_share),
        "compact_stalls": of_node.compact_stalls,
        "order9_min": sum(of_node.least_huge_blocks.values()),
        "order9_available": of_node.order_available[HUGE] if of_node.order_available else None,
        "order9_unusable": of_node.order9_unusable,
    }


# --- containers ----------------------------------------------------------------------------


def _container(c: ContainerOutcome, scopes: Mapping[str, str], ended: Sequence[float]) -> Row:
    return {
        "kills": len(c.killed),
        "kill_t": _number(c.killed[0]) if c.killed else None,
        "kill_scope": scopes.get(c.name),
        "pauses": len(c.paused),
        "pause_t": _number(c.paused[0].begin) if c.paused else None,
        "pause_s": _number(c.pause_s),
        "throttle_share": _number(c.throttle_share),
        "throttle_s": _number(c.throttle_s),
        "evictions": len(ended),
        "evict_t": _number(ended[0]) if ended else None,
        "peak": c.peak_bytes,
        "headroom": c.headroom_bytes,
        "late_s": _number(c.late_max_s),
        "stall_share": _number(c.stall_share),
        "majfaults": c.majfaults,
        "restarts": c.restarts,
        "unfinished": int(bool(c.unfinished)),
    }


def _ended(context: Context) -> dict[str, list[float]]:
    """When killers in user space ended each container."""
    times: dict[str, list[float]] = {}
    for event in context.events(*EVICTIONS):
        times.setdefault(context.container_of(event), []).append(event.t)
    return times


def _first_scopes(context: Context) -> dict[str, str]:
    scopes: dict[str, str] = {}
    for event in context.events("oom_kill"):
        scopes.setdefault(context.container_of(event), event.scope)
    return scopes


def _first(events: Iterable[Event]) -> Event | None:
    return next(iter(events), None)


def _number(value: float) -> float | None:
    """A plain float that JSON takes and gives back; None for what is not finite."""
    value = float(value)
    return value if math.isfinite(value) else None
