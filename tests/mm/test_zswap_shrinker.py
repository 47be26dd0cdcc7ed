"""zswap's shrinker: what it counts, and that pressure writes cold pages back."""

from __future__ import annotations

import dataclasses

import pytest

from capplan.mm.state import ST_ZSWAPPED, new_entries, new_frames, new_kernel
from capplan.mm.vmscan import shrink_node_some
from capplan.mm.zswap_shrinker import zswap_shrinker_count
from capplan.sim.run import run
from capplan.sim.scenario import Cgroup, Op, Zswap
from tests.sim.engine_cases import S, last, node, process, scenario

pytestmark = pytest.mark.small


@pytest.mark.parametrize(
    ("enabled", "writeback", "swapins", "count", "left"),
    [
        (1, 1, 200, 200, 0),
        (1, 1, 0, 250, 0),
        (1, 1, 1300, 0, 300),
        (0, 1, 0, 0, 0),
        (1, 0, 0, 0, 0),
    ],
)
def test_count_scales_by_compression_and_takes_swap_ins_off(
    enabled: int, writeback: int, swapins: int, count: int, left: int
) -> None:
    k = new_kernel()[0]
    k["zswap_shrinker_enabled"] = enabled
    memcg = k["memcg"][1]
    memcg["subtree_end"], memcg["zswap_writeback"] = 2, writeback
    memcg["stat"][ST_ZSWAPPED], memcg["zswap_bytes"] = 1000, 250 * 4096
    memcg["zswap_disk_swapins"] = swapins
    assert zswap_shrinker_count(k, 1) == count
    if enabled and writeback:
        assert memcg["zswap_disk_swapins"] == left


def written_back(release: str, enabled: bool) -> float:
    """Pages that zswap wrote to its device while a group outgrew its limit."""
    hog, heap = process("hog", "a", 3000, Op("hold", ns=10 * S), rate=20_000.0)
    parts = [(hog, dataclasses.replace(heap, length_mean=1000.0))]
    zswap = Zswap(True, max_pool_percent=50, shrinker_enabled=enabled)
    machine = node(swap=4096, release=release, zswap=zswap)
    found = run(scenario(parts, (Cgroup("a", memory_max=1000),), node=machine))
    assert last(found, "vmstat.zswpout") > 1500
    return last(found, "vmstat.zswpwb")


def test_pressure_writes_back_only_where_the_shrinker_is_on() -> None:
    assert written_back("6.12", True) > 0
    assert written_back("6.12", False) == 0
    assert written_back("6.1", True) == 0  # it came with 6.8


def test_kswapd_runs_it_on_the_classic_lru_too() -> None:
    # (1000 * 250 / 1000 >> 1) * 4 / 2 = 250 to look at; a batch that writes nothing back ends it,
    # and all wait for the next time
    k = new_kernel()[0]
    k.nr_nodes, k.nr_zones, k.nr_memcgs = 1, 4, 2
    k.zswap_shrinker_enabled, k.granule_pages = 1, 1
    k.memcg[0].subtree_end, k.memcg[1].subtree_end, k.memcg[1].parent = 2, 2, 0
    k.memcg[1].stat[ST_ZSWAPPED], k.memcg[1].zswap_bytes = 1000, 250 * 4096
    k.memcg[1].memory.usage = 1000  # or it would be protected
    k.memcg[1].online = 1
    k.sc.kswapd, k.sc.priority, k.sc.nr_to_reclaim = 1, 1, 32
    k.node[0].kswapd_memcg = 0  # a pass begins
    assert shrink_node_some(k, new_frames(1), new_entries(1), 0)
    assert k.memcg[1].zswap_deferred == 250
