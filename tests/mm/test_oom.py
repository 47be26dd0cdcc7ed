"""The OOM killer's choice: worked numbers, edges, releases, a naive oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capplan.mm import oom
from capplan.mm.state import PROC_DEAD, PROC_EXITING, PROC_LIVE, UNLIMITED, new_kernel

KERNEL = new_kernel()


@pytest.fixture
def k() -> Any:
    return fresh()


def fresh() -> Any:
    """One kernel, as new: a root, /a, /a/b and /c."""
    k = KERNEL[0]
    k["proc"] = np.zeros_like(k["proc"])
    k["memcg"]["oom_group"] = 0
    for field in ("root_bonus", "badness_clamped", "badness_per_mille", "oom_ties_to_first"):
        k[field] = 0
    k["cgroup_v1"], k["swappiness"], k["nr_procs"], k["nr_memcgs"] = 0, 60, 0, 4
    k["totalram"], k["totalswap"] = 4081408, 0
    k["memcg"]["parent"][:4] = (-1, 0, 1, 0)
    k["memcg"]["subtree_end"][:4] = (4, 3, 3, 4)
    k["memcg"]["swappiness"][:4] = 60
    for counter in ("memory", "swap", "memsw"):
        k["memcg"][counter]["max"] = UNLIMITED
    return k


def add(k: Any, rss: int = 0, adj: int = 0, memcg: int = 0, pgtables: int = 0, **more: int) -> int:
    p = int(k["nr_procs"])
    proc = k["proc"][p]
    proc["rss_anon"], proc["pgtables"], proc["oom_score_adj"] = rss, pgtables, adj
    proc["memcg"], proc["state"], proc["pid"] = memcg, PROC_LIVE, 100 + p
    for field, value in more.items():
        proc[field] = value
    k["nr_procs"] = p + 1
    return p


@pytest.mark.small
@pytest.mark.parametrize(
    ("rss", "pgtables", "adj", "totalpages", "points"),
    [
        (500000, 1024, 0, 4081408, 501024),
        (100, 0, 1000, 4081408, 4081100),
        (2000000, 2048, -997, 4081408, -2066709),
        (60000, 125, 0, 131072, 60125),
        (30000, 75, 500, 131072, 95575),
        (30000, 75, 500, 393216, 30075 + 196500),
    ],
)
def test_oom_badness_worked_numbers(
    k: Any, rss: int, pgtables: int, adj: int, totalpages: int, points: int
) -> None:
    p = add(k, rss, adj, pgtables=pgtables)
    assert oom.oom_badness(k, p, totalpages) == points


@pytest.mark.small
def test_oom_badness_counts_every_kind_of_page(k: Any) -> None:
    p = add(k, 1, pgtables=10, rss_file=100, rss_shmem=1000, swapents=10000)
    assert oom.oom_badness(k, p, 1000) == 11111


@pytest.mark.small
@pytest.mark.parametrize(
    "field",
    [
        {"adj": -1000},
        {"pid": 1},
        {"oom_skip": 1},
        {"state": PROC_DEAD},
        {"state": PROC_EXITING},
    ],
)
def test_oom_badness_unkillable_is_long_min(k: Any, field: dict[str, int]) -> None:
    p = add(k, 1000, **field)
    assert oom.oom_badness(k, p, 4081408) == oom.LONG_MIN
    assert oom.select_bad_process(k, -1) == oom.NO_VICTIM


@pytest.mark.small
def test_select_bad_process_lone_negative_is_killed(k: Any) -> None:
    assert add(k, 100, -997) == oom.select_bad_process(k, -1)


@pytest.mark.small
@pytest.mark.parametrize(
    ("features", "points"),
    [
        ({}, 9999 - 4000),
        ({"root_bonus": 1}, 9999 - 299 - 4000),
        ({"root_bonus": 2}, 9999 - 70 * 40),
        ({"badness_per_mille": 1}, 249 - 100),
        ({"badness_per_mille": 1, "root_bonus": 2}, 249 - 130),
    ],
)
def test_oom_badness_root_bonus_by_release(k: Any, features: dict[str, int], points: int) -> None:
    for name, value in features.items():
        k[name] = value
    adj = -40 if features == {"root_bonus": 2} else -100
    p = add(k, 9999, adj, cap_sys_admin=1)
    assert oom.oom_badness(k, p, 40000) == points


@pytest.mark.small
def test_oom_badness_clamped_only_before_5_9(k: Any) -> None:
    p = add(k, 100, -900)
    assert oom.oom_badness(k, p, 1000000) == 100 - 900000
    k["badness_clamped"] = 1
    assert oom.oom_badness(k, p, 1000000) == 1


@pytest.mark.small
@pytest.mark.parametrize(
    ("rss", "pgtables", "adj", "score"),
    [(500000, 1024, 0, 748), (100, 0, 1000, 1332), (2000000, 2048, -997, 329), (9, 0, -1000, 0)],
)
def test_proc_oom_score_truncates_as_c(
    k: Any, rss: int, pgtables: int, adj: int, score: int
) -> None:
    assert oom.proc_oom_score(k, add(k, rss, adj, pgtables=pgtables)) == score


@pytest.mark.small
def test_proc_oom_score_before_5_9_is_the_per_mille(k: Any) -> None:
    k["badness_clamped"] = 1
    assert oom.proc_oom_score(k, add(k, 501024)) == 122
    assert oom.proc_oom_score(k, add(k, 501024, -900)) == 0


@pytest.mark.small
@pytest.mark.parametrize(
    ("swap_max", "totalswap", "swappiness", "expected"),
    [
        (UNLIMITED, 262144, 60, 393216),
        (UNLIMITED, 0, 60, 131072),
        (1000, 262144, 60, 132072),
        (UNLIMITED, 262144, 0, 131072),
    ],
)
def test_mem_cgroup_get_max_v2(
    k: Any, swap_max: int, totalswap: int, swappiness: int, expected: int
) -> None:
    k["memcg"]["memory"]["max"][1], k["memcg"]["swap"]["max"][1] = 131072, swap_max
    k["totalswap"], k["swappiness"], k["memcg"]["swappiness"][1] = totalswap, swappiness, 17
    assert oom.mem_cgroup_get_max(k, 1) == expected


@pytest.mark.small
def test_mem_cgroup_get_max_v1_uses_memsw_and_own_swappiness(k: Any) -> None:
    k["cgroup_v1"], k["totalswap"], k["swappiness"] = 1, 100000, 0
    k["memcg"]["memory"]["max"][1], k["memcg"]["memsw"]["max"][1] = 25600, 38400
    assert oom.mem_cgroup_get_max(k, 1) == 38400
    k["totalswap"] = 1000
    assert oom.mem_cgroup_get_max(k, 1) == 26600
    k["memcg"]["swappiness"][1] = 0
    assert oom.mem_cgroup_get_max(k, 1) == 25600


@pytest.mark.small
def test_constrained_totalpages_empty_memcg_is_one(k: Any) -> None:
    k["memcg"]["memory"]["max"][1], k["memcg"]["swap"]["max"][1] = 0, 0
    assert oom.constrained_totalpages(k, 1) == 1
    k["totalswap"] = 7
    assert oom.constrained_totalpages(k, -1) == 4081415


@pytest.mark.small
def test_constrained_totalpages_of_bound_nodes_are_present_pages_and_swap(k: Any) -> None:
    k["nr_nodes"] = 3
    for zone, present in ((1, 20), (6, 3), (9, 500)):
        k["zone"]["present"][zone] = present
    k["totalswap"] = 1000
    k["oom_nodes"] = 0b011
    assert oom.constrained_totalpages(k, -1) == 1023
    assert oom.constrained_totalpages(k, 1) != 1023  # of a memcg: nodes do not matter
    k["oom_nodes"] = 0
    assert oom.constrained_totalpages(k, -1) == 4081408 + 1000


@pytest.mark.small
def test_select_bad_process_of_bound_nodes_spares_who_may_not_use_them(k: Any) -> None:
    k["nr_nodes"] = 2
    big, small = add(k, 900, memcg=1), add(k, 100, memcg=2)
    k["memcg"]["mems_allowed"][1] = 0b01
    k["memcg"]["mems_allowed"][2] = 0b10
    assert oom.select_bad_process(k, -1) == big
    k["oom_nodes"] = 0b10
    assert oom.select_bad_process(k, -1) == small
    k["oom_nodes"] = 0b11
    assert oom.select_bad_process(k, -1) == big
    k["oom_nodes"] = 0
    k["memcg"]["mems_allowed"][1:3] = -1


@pytest.mark.small
def test_select_bad_process_ties_go_to_the_later(k: Any) -> None:
    add(k, 500, memcg=2)
    add(k, 500, memcg=1)
    add(k, 499, memcg=3)
    assert oom.select_bad_process(k, -1) == 1  # created later
    assert oom.select_bad_process(k, 0) == 0  # its group comes later in the subtree
    k["oom_ties_to_first"] = 1
    assert oom.select_bad_process(k, -1) == 0
    assert oom.select_bad_process(k, 0) == 1


@pytest.mark.small
def test_select_bad_process_stays_inside_the_domain(k: Any) -> None:
    add(k, 900, memcg=3)
    add(k, 500, memcg=1)
    inner = add(k, 600, memcg=2)
    assert oom.select_bad_process(k, 1) == inner
    assert oom.select_bad_process(k, 3) == 0
    assert oom.select_bad_process(k, -1) == 0


@pytest.mark.small
def test_select_bad_process_victim_in_flight_aborts_its_domain_only(k: Any) -> None:
    victim = add(k, 100, memcg=2, victim=1, state=PROC_EXITING)
    other = add(k, 900, memcg=3)
    assert oom.select_bad_process(k, 1) == oom.VICTIM_IN_FLIGHT
    assert oom.select_bad_process(k, -1) == oom.VICTIM_IN_FLIGHT
    assert oom.select_bad_process(k, 3) == other
    k["proc"]["oom_skip"][victim] = 1  # all unmapped, from then on
    k["now_ns"], k["proc"]["oom_skip_ns"][victim] = 999, 1000
    assert oom.select_bad_process(k, 1) == oom.VICTIM_IN_FLIGHT
    k["now_ns"] = 1000
    assert oom.select_bad_process(k, -1) == other
    assert oom.select_bad_process(k, 1) == oom.NO_VICTIM
    k["proc"]["oom_skip"][victim], k["proc"]["state"][victim] = 0, PROC_DEAD
    assert oom.select_bad_process(k, -1) == other


@pytest.mark.small
def test_best_effort_dwarf_outranks_guaranteed_giant(k: Any) -> None:
    add(k, 2000000, -997, pgtables=2048)
    dwarf = add(k, 100, 1000)
    assert oom.select_bad_process(k, -1) == dwarf


@pytest.mark.small
def test_oom_group_root_is_the_highest_level_in_the_domain(k: Any) -> None:
    assert oom.oom_group_root(k, 2, -1) == -1
    k["memcg"]["oom_group"][:4] = (0, 1, 1, 0)
    assert oom.oom_group_root(k, 2, -1) == 1
    assert oom.oom_group_root(k, 2, 1) == 1
    assert oom.oom_group_root(k, 2, 2) == 2
    assert oom.oom_group_root(k, 2, 3) == -1  # not inside
    assert oom.oom_group_root(k, 3, -1) == -1
    assert oom.oom_group_root(k, 0, -1) == -1
    k["cgroup_v1"] = 1
    assert oom.oom_group_root(k, 2, -1) == -1


@pytest.mark.small
def test_oom_kill_eligible_spares_init_and_minus_1000(k: Any) -> None:
    inside = add(k, 1, memcg=2)
    add(k, 1, memcg=3)
    add(k, 1, -1000, memcg=2)
    add(k, 1, memcg=2, pid=1)
    add(k, 1, memcg=2, state=PROC_DEAD)
    eligible = [p for p in range(5) if oom.oom_kill_eligible(k, p, 1)]
    assert eligible == [inside]


def test_rank_lists_the_next_victims_in_order(k: Any) -> None:
    for rss, memcg in ((500, 2), (500, 1), (900, 3), (10, 1)):
        add(k, rss, memcg=memcg)
    k["memcg"]["memory"]["max"][1] = 5000
    assert [c.proc for c in oom.rank(k, -1)] == [2, 1, 0, 3]
    assert oom.rank(k, 1, top=2) == [oom.Candidate(0, 500, 5000), oom.Candidate(1, 500, 5000)]
    k["oom_ties_to_first"] = 1
    assert [c.proc for c in oom.rank(k, -1)] == [2, 0, 1, 3]


Proc = tuple[int, int, int]
procs = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 3), st.sampled_from((-1000, -1, 0, 0, 1))),
    max_size=12,
)


def naive_choice(found: list[Proc], domain: int, totalpages: int, to_first: bool) -> int:
    """Walk in the kernel's order and keep the best, as its own loop does."""
    order = sorted(range(len(found)), key=lambda p: (found[p][1] if domain >= 0 else 0, p))
    inside = {-1: (0, 1, 2, 3), 0: (0, 1, 2, 3), 1: (1, 2), 2: (2,), 3: (3,)}[domain]
    best, chosen = None, -1
    for p in order:
        rss, memcg, adj = found[p]
        if memcg not in inside or adj == -1000:
            continue
        points = rss + adj * (totalpages // 1000)
        if best is None or points > best or (points == best and not to_first):
            best, chosen = points, p
    return chosen


@given(found=procs, domain=st.integers(-1, 3), to_first=st.booleans())
def test_select_bad_process_equals_the_kernels_loop(
    found: list[Proc], domain: int, to_first: bool
) -> None:
    k = fresh()
    k["totalram"], k["oom_ties_to_first"] = 2000, to_first
    k["memcg"]["memory"]["max"][:4] = 2000
    for rss, memcg, adj in found:
        add(k, rss, adj, memcg)
    chosen = oom.select_bad_process(k, domain)
    assert chosen == naive_choice(found, domain, 2000, to_first)
    ranked = oom.rank(k, domain)
    assert (ranked[0].proc if ranked else oom.NO_VICTIM) == chosen
