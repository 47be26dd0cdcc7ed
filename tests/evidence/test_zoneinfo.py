"""Watermark gaps of real kernels: how many states each rule explains.

See :mod:`capplan.validate.zone_states`; a change of a rule shows at once.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections import Counter

import pytest

from capplan.mm import state, watermark
from capplan.validate.zone_states import RULES, SCALE_FACTOR, SPECIAL, Zone, load_states, rule_of

KERNEL = state.new_kernel()


@pytest.fixture(scope="module")
def states(shared: pathlib.Path) -> list[tuple[Zone, ...]]:
    if not (shared / "kernel-evidence").is_dir():
        pytest.skip("no kernel-evidence folder")
    return [found.zones for found in load_states(shared)]


def test_gaps_of_real_kernels(states: list[tuple[Zone, ...]]) -> None:
    found = Counter(rule_of(zones) for zones in states)
    assert found == {
        "exact": 77,
        "before 4.6": 8,
        "boot": 23,
        "boost": 10,
        "not set yet": 3,
        "unexplained": 1,  # low and high of one zone were printed with boosts 512 pages apart
    }
    assert found.total() == 122
    assert set(found) == set(RULES)


def test_gap_rules_can_fail() -> None:
    """A gap one page too large or too small is no rule's."""
    zone = Zone(0, "Normal", 13709, 17136, 20563, 3311616, 0, 512)
    assert rule_of((zone,)) == "exact"
    for low, high in ((17137, 20565), (17136, 20564)):
        assert rule_of((dataclasses.replace(zone, low=low, high=high),)) == "unexplained"


def test_khugepageds_raise_on_real_kernels(states: list[tuple[Zone, ...]]) -> None:
    """Most nodes run with 22 MiB for each zone, which the marks add up to."""
    raised = 0
    for zones in states:
        k = KERNEL[0]
        k["zone"]["managed"] = k["zone"]["present"] = 0
        k["zone"]["wmark"] = 0
        k.nr_nodes, k.min_free_kbytes, k.watermark_scale_factor = 4, 0, SCALE_FACTOR
        for zone in zones:
            if zone.name in state.ZONE_NAMES and zone.node < state.MAX_NODES:
                z = zone.node * state.ZONES_PER_NODE + state.ZONE_NAMES.index(zone.name)
                k.zone[z].managed = k.zone[z].present = zone.managed
        recommended = watermark.set_recommended_min_free_kbytes(k) // 4
        marked = sum(zone.min - zone.boost for zone in zones if zone.name not in SPECIAL)
        raised += 0 <= recommended - marked < len(zones)
    assert raised == 57
