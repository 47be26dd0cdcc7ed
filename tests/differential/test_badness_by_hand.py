"""Victims worked out by hand, next to what a kernel did with the same processes.

Sizes in pages of 4 KiB. The recordings' figures are from their kernel log and series
(v2-adj-picks-small, global-adj-victim, node-mix-4g: Debian 6.1); the Kubernetes case is
issue 133839 of that project.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from capplan.mm import oom
from capplan.mm.state import PROC_DEAD, PROC_LIVE, new_kernel

KERNEL = new_kernel()


@dataclass(frozen=True)
class Case:
    totalram: int
    memory_max: int | None  # memcg OOM in a group of this size; None: the node's
    # name, rss, page tables, oom_score_adj, points by hand
    rows: tuple[tuple[str, int, int, int, int], ...]
    order: tuple[str, ...]  # of death, if each kill frees too little


CASES = {
    # 38400 // 1000 = 38. The small one dies first, then the large one although its adj is
    # -500; the one that grows, not yet 7965 pages large, has 38 * 300 taken off.
    "v2-adj-picks-small": Case(
        245365,
        38400,
        (
            ("guarded", 23342, 55, -500, 23342 + 55 - 19000),
            ("victim", 7965, 25, 300, 7965 + 25 + 11400),
            ("grower", 7110, 24, -300, 7110 + 24 - 11400),
        ),
        ("victim", "guarded", "grower"),
    ),
    # 245365 // 1000 = 245: the leaf's 600 are worth 147000 pages, more than any size here.
    "global-adj-victim": Case(
        245365,
        None,
        (
            ("bulk", 89855, 190, -900, 89855 + 190 - 220500),
            ("medium", 51458, 115, 0, 51573),
            ("leaf", 20751, 50, 600, 20751 + 50 + 147000),
            ("leaker", 60632, 132, 0, 60764),
        ),
        ("leaf", "leaker", "medium", "bulk"),
    ),
    # 1129264 // 1000 = 1129.
    "node-mix-4g": Case(
        1129264,
        None,
        (
            ("web", 77067, 165, 2, 77067 + 165 + 2258),
            ("db", 205107, 415, -997, 205107 + 415 - 1125613),
            ("batch", 632655, 1249, 1000, 632655 + 1249 + 1129000),
            ("cache", 153891, 315, 500, 153891 + 315 + 564500),
        ),
        ("batch", "cache", "web", "db"),
    ),
    # 128 GiB: 33554432 // 1000 = 33554. pod-1 holds 28 GiB at adj 515, pod-2 100 GiB at 484.
    # In GiB 28 + 66 = 94 against 100 + 62 = 162.
    "kubernetes-133839": Case(
        33554432,
        None,
        (
            ("pod-1", 7340032, 0, 515, 7340032 + 17280310),
            ("pod-2", 26214400, 0, 484, 26214400 + 16240136),
        ),
        ("pod-2", "pod-1"),
    ),
}


def kernel_of(case: Case) -> tuple[Any, int]:
    k = KERNEL[0]
    for feature in ("root_bonus", "badness_clamped", "badness_per_mille", "oom_ties_to_first"):
        k[feature] = 0
    k["cgroup_v1"], k["swappiness"] = 0, 60
    k["totalram"], k["totalswap"] = case.totalram, 0
    k["memcg"]["parent"][:2] = (-1, 0)
    k["memcg"]["subtree_end"][:2] = 2
    k["memcg"]["memory"]["max"][1] = case.memory_max or 0
    k["nr_procs"] = len(case.rows)
    for p, (_, rss, pgtables, adj, _) in enumerate(case.rows):
        proc = k["proc"][p]
        proc["state"], proc["pid"], proc["memcg"], proc["victim"] = PROC_LIVE, 90 + p, 1, 0
        proc["rss_anon"], proc["pgtables"], proc["oom_score_adj"] = rss, pgtables, adj
    return k, -1 if case.memory_max is None else 1


@pytest.mark.small
@pytest.mark.parametrize("name", CASES)
def test_points_are_those_worked_out_by_hand(name: str) -> None:
    case = CASES[name]
    k, domain = kernel_of(case)
    total = oom.constrained_totalpages(k, domain)
    points = {row[0]: oom.oom_badness(k, p, total) for p, row in enumerate(case.rows)}
    assert points == {row[0]: row[4] for row in case.rows}


@pytest.mark.small
@pytest.mark.parametrize("name", CASES)
def test_victims_fall_in_the_kernels_order(name: str) -> None:
    case = CASES[name]
    k, domain = kernel_of(case)
    fallen = []
    for _ in case.rows:
        p = oom.select_bad_process(k, domain)
        fallen.append(case.rows[p][0])
        k["proc"][p]["victim"] = 1
        assert oom.select_bad_process(k, domain) == oom.VICTIM_IN_FLIGHT
        k["proc"][p]["state"] = PROC_DEAD
    assert tuple(fallen) == case.order
    assert oom.select_bad_process(k, domain) == oom.NO_VICTIM
