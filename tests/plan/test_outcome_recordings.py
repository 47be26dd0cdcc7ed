"""What the analysis says of courses that real kernels took."""

from __future__ import annotations

import pathlib

import pytest

from capplan.plan.outcome import Outcome, analyse
from tests.plan.recorded import recorded


def outcome_of(shared: pathlib.Path, name: str) -> Outcome:
    folder = shared / "recordings" / name
    if not folder.is_dir():
        pytest.skip(f"no recording {name}")
    return analyse(recorded(folder))


@pytest.mark.parametrize(
    ("name", "victim", "grower", "place"),
    [
        ("global-adj-victim", "leaf", "leaker", "the node is out of memory"),
        ("global-noswap-minfree-65536", "leaker", "leaker", "the node is out of memory"),
        ("global-swap-leak", "leaker", "leaker", "the node is out of memory"),
        ("node-mix-4g", "batch", "batch", "the node is out of memory"),
        ("tmpfs-under-max", "writer", "writer", "at its memory.max of 100 MiB"),
        ("v1-memsw", "alloc", "alloc", "at its memory.limit_in_bytes of 100 MiB"),
        ("v2-max-file-then-anon", "alloc", "alloc", "at its memory.max of 120 MiB"),
    ],
)
def test_analyse_recorded_kill(
    shared: pathlib.Path, name: str, victim: str, grower: str, place: str
) -> None:
    outcome = outcome_of(shared, name)
    kill = next(i for i in outcome.incidents if i.kind == "oom_kill")
    assert outcome.verdict.startswith(f"Does not fit: {victim} is OOM-killed at ")
    assert place in outcome.verdict
    assert kill.chain[0].startswith(f"{grower} grew from ")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("v1-memsw", "memory.memsw.limit_in_bytes 160 MiB counts swap too"),
        ("tmpfs-under-max", "the node has no swap"),
        ("node-mix-4g", "has nowhere to go (no swap)"),
    ],
)
def test_analyse_recorded_kill_says_what_reclaim_could_not_take(
    shared: pathlib.Path, name: str, why: str
) -> None:
    kill = next(i for i in outcome_of(shared, name).incidents if i.kind == "oom_kill")
    assert why in next(link for link in kill.chain if link.startswith("reclaim: "))


@pytest.mark.parametrize(
    "name", ["v2-max-swap-fits", "zswap-memcg", "random-file-under-max", "v2-high-file-only"]
)
def test_analyse_recorded_course_that_fits(shared: pathlib.Path, name: str) -> None:
    assert outcome_of(shared, name).verdict.startswith("Fits: ")


def test_analyse_recorded_swap_leak_shows_its_signs_in_order(shared: pathlib.Path) -> None:
    kill = outcome_of(shared, "global-swap-leak").incidents[0]
    names = [sign.name for sign in kill.signs]
    # memory runs low, kswapd swaps, tasks stall, swap runs low: 20 s of warning in all
    assert names[:4] == ["MemAvailable", "kswapd", "psi", "SwapFree"]
    assert kill.signs[0].lead_s > 20


def test_analyse_recorded_adj_outranks_size(shared: pathlib.Path) -> None:
    kill = outcome_of(shared, "global-adj-victim").incidents[0]
    assert kill.victim is not None
    assert kill.victim.rss_bytes < kill.runners_up[0].rss_bytes
    assert [c.process for c in kill.runners_up] == ["leaker", "medium", "bulk"]
