"""Whether a threshold can fire: the arithmetic, and the engine against it."""

from __future__ import annotations

import pytest

from capplan.plan.eviction import EvictionWindow, direct_reclaim_pages, eviction_window
from capplan.plan.outcome import analyse
from capplan.sim.agents.model import MEMORY_AVAILABLE, Kubelet, Pod, Threshold
from capplan.sim.result import Run
from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Op, Zone
from tests.sim.engine_cases import S, events, node, process, scenario

MIB = 1 << 20
PAGES = 256  # of a MiB


def test_direct_reclaim_point_by_hand() -> None:
    # the kernel reference's 16 GiB node: the DMA zone is out of reach as a whole
    zones = [(3840, 15, 15928), (765952, 3170, 12936), (3311616, 13709, 0)]
    assert direct_reclaim_pages(zones) == 33655


def test_window_by_hand() -> None:
    shut = eviction_window(100 * MIB, 84 * MIB, 200 * MIB)
    assert (shut.floor_bytes, shut.fires, shut.max_rate) == (284 * MIB, False, 0.0)
    wide = eviction_window(500 * MIB, 84 * MIB, 200 * MIB)
    assert wide.window_bytes == 216 * MIB
    assert wide.max_rate == pytest.approx(21.6 * MIB)


def test_page_cache_and_time_to_react_take_from_the_window() -> None:
    found = eviction_window(500 * MIB, 84 * MIB, 200 * MIB, inactive_file_bytes=16 * MIB, react_s=2)
    assert found.window_bytes == 200 * MIB
    assert found.max_rate == pytest.approx(200 / 12 * MIB)


@pytest.mark.parametrize(
    ("rate_mib", "caught"), [(0, 1.0), (10, 1.0), (20, 0.5), (200, 0.05), (1e9, 0.0)]
)
def test_share_of_phases_that_catch_a_growth(rate_mib: float, caught: float) -> None:
    window = EvictionWindow(200 * MIB, 100 * MIB, 10.0, 0.0)
    assert window.caught(rate_mib * MIB) == pytest.approx(caught, abs=1e-6)


def test_threshold_at_the_floor_does_not_fire() -> None:
    assert not EvictionWindow(100, 100, 10.0, 0.0).fires
    assert EvictionWindow(101, 100, 10.0, 0.0).caught(0.0) == 1.0
    assert EvictionWindow(100, 100, 10.0, 0.0).caught(0.0) == 0.0


# --- the engine against the arithmetic -----------------------------------------------------


def play(threshold_mib: int, rate_mib: float, replicate: int = 0) -> Run:
    """A leak of one process on a node of 256 MiB, of which the kernel holds 40."""
    zone = Zone(0, "DMA32", 256 * PAGES, 256 * PAGES, 256 * PAGES)
    leak = process("leak", "leak", 500 * PAGES, Op("hold", ns=10**13), rate=rate_mib * PAGES)
    agent = Kubelet(
        (Threshold(MEMORY_AVAILABLE, threshold_mib * MIB),), (Pod("leak", ("leak",), ("leak",)),)
    )
    made = scenario(
        [leak], (Cgroup("leak"),), node=node(zones=(zone,), kernel_pages=40 * PAGES),
        duration_ns=round(300 / rate_mib + 15) * S, sample_ns=S, agents=(agent,),
    )  # fmt: skip
    return run(made, replicate=replicate)


FLOOR_MIB = 40 + 2 + 1  # kernel memory, the min mark of 512 pages, page tables and the like


@pytest.mark.parametrize(("threshold_mib", "evicts"), [(FLOOR_MIB - 2, False), (60, True)])
def test_engine_agrees_whether_a_slow_leak_is_evicted(threshold_mib: int, evicts: bool) -> None:
    found = play(threshold_mib, 1.0)
    assert bool(events(found, "evicted")) is evicts
    assert bool(events(found, "oom_kill")) is not evicts
    said = [note for note in analyse(found).notes if "cannot evict before" in note]
    assert bool(said) is not evicts


def test_engine_catches_what_the_arithmetic_says_is_always_caught() -> None:
    window = eviction_window(143 * MIB, 2 * MIB, 41 * MIB)  # 100 MiB
    slow = 0.95 * window.max_rate / MIB
    assert all(events(play(143, slow, n), "evicted") for n in range(4))


def test_engine_misses_about_the_share_of_phases_that_the_arithmetic_says() -> None:
    window = eviction_window(143 * MIB, 2 * MIB, 41 * MIB)
    fast = 2 * window.max_rate
    assert window.caught(fast) == pytest.approx(0.5)
    caught = sum(bool(events(play(143, fast / MIB, n), "evicted")) for n in range(20))
    assert 4 <= caught <= 16  # of 20 at one half: outside in one of 400
