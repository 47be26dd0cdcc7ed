"""What must hold of the kernel's state at every instant, as plain functions.

Each returns sentences about what does not hold; none means all is well. Numbers are those
of the kernel model's list of invariants (M memcg, O OOM).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from capplan.mm.oom import OOM_SCORE_ADJ_MIN, PID_INIT
from capplan.mm.state import EV_SWAP_HIGH, UNLIMITED

COUNTERS = ("memory", "swap", "memsw")


def groups(k: Any) -> range:
    """All memcgs but the root, which is never charged."""
    return range(1, int(k["nr_memcgs"]))


def children(k: Any, c: int) -> list[int]:
    return [d for d in groups(k) if int(k["memcg"]["parent"][d]) == c]


def m1_parents_hold_their_children(k: Any) -> list[str]:
    found = []
    for counter in COUNTERS:
        usage = k["memcg"][counter]["usage"]
        for c in groups(k):
            below = sum(int(usage[d]) for d in children(k, c))
            if below > usage[c]:
                found.append(f"M1: {counter} of {c} is {usage[c]}, its children's {below}")
            if usage[c] < 0:
                found.append(f"M1: {counter} of {c} is {usage[c]}")
    return found


def m4_protection_fits_into_the_parents(k: Any) -> list[str]:
    """A group with a limit may be the root of a reclaim, where its children's is as set."""
    found = []
    memory = k["memcg"]["memory"]
    unlimited = [c for c in groups(k) if min(memory["max"][c], memory["high"][c]) >= UNLIMITED]
    for kind in ("emin", "elow"):
        for c in unlimited:
            below = children(k, c)
            share = sum(int(memory[kind][d]) for d in below)
            # Each share is rounded down on its own.
            if below and share > int(memory[kind][c]) + len(below):
                found.append(f"M4: {kind} of {c} is {memory[kind][c]}, its children's {share}")
    return found


def m5_events_add_up(k: Any) -> list[str]:
    """v2: memory.events of a group counts its descendants' too."""
    if k["cgroup_v1"]:
        return []
    found = []
    events, local = k["memcg"]["events"], k["memcg"]["events_local"]
    for c in groups(k):
        below = events[children(k, c)].sum(axis=0) + local[c]
        # No file shows the local count of swap events.
        wrong = [e for e in range(EV_SWAP_HIGH) if events[c][e] != below[e]]
        found += [f"M5: event {e} of {c} is {events[c][e]}, not {below[e]}" for e in wrong]
    return found


def m6_swap_usage_is_slots_in_use(k: Any) -> list[str]:
    areas = k["swap"][: int(k["nr_swaps"])]
    in_use = int(areas["total"].sum() - areas["free"].sum())
    charged = sum(int(k["memcg"]["swap"]["usage"][c]) for c in children(k, 0))
    # A page in zswap holds a slot, so its charge is among them.
    return [f"M6: {charged} pages of swap charged, {in_use} in use"] if charged > in_use else []


def m7_peak_is_no_less_than_usage(k: Any) -> list[str]:
    memory = k["memcg"]["memory"]
    wrong = [c for c in groups(k) if memory["peak"][c] < memory["usage"][c]]
    return [f"M7: peak of {c} is {memory['peak'][c]}" for c in wrong]


def m3_usage_is_within_the_limit(k: Any) -> list[str]:
    """Only forced charges (page tables of exiting tasks, reserves) pass a limit."""
    memory = k["memcg"]["memory"]
    found = []
    for c in groups(k):
        over = int(memory["usage"][c]) - int(memory["max"][c])
        if memory["max"][c] < UNLIMITED and over > 0:
            found.append(f"M3: {c} is {over} pages over its limit")
    return found


def o4_init_and_minus_1000_are_spared(k: Any) -> list[str]:
    procs = k["proc"][: int(k["nr_procs"])]
    spared = (procs["oom_score_adj"] == OOM_SCORE_ADJ_MIN) | (procs["pid"] == PID_INIT)
    return [f"O4: process {p} is a victim" for p in (spared & (procs["victim"] != 0)).nonzero()[0]]


def full_pressure_is_within_some(k: Any) -> list[str]:
    found = []
    for name, group in [("node", k["psi"]), *((str(c), k["memcg"]["psi"][c]) for c in groups(k))]:
        some, full, now = int(group["some_ns"]), int(group["full_ns"]), int(group["last_ns"])
        if not 0 <= full <= some <= now:
            found.append(f"PSI of {name}: full {full}, some {some}, time {now}")
        counts = [int(group[f]) for f in ("nr_running", "nr_memstall", "nr_memstall_running")]
        if min(counts) < 0 or counts[2] > min(counts[:2]):
            found.append(f"PSI of {name}: running, stalled, both: {counts}")
    return found


CHECKS: tuple[Callable[[Any], list[str]], ...] = (
    m1_parents_hold_their_children,
    m3_usage_is_within_the_limit,
    m4_protection_fits_into_the_parents,
    m5_events_add_up,
    m6_swap_usage_is_slots_in_use,
    m7_peak_is_no_less_than_usage,
    o4_init_and_minus_1000_are_spared,
    full_pressure_is_within_some,
)


def violations(k: Any, but: tuple[Callable[[Any], list[str]], ...] = ()) -> list[str]:
    """All that does not hold of one kernel record."""
    return [sentence for check in CHECKS if check not in but for sentence in check(k)]
