"""Kernel releases to features: worked releases, notes, and that the engine knows the names."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capplan import release
from capplan.mm import state


def test_kernel_fields_are_fields_of_the_kernel_record() -> None:
    names = state.kernel_t.names
    assert names is not None
    assert set(release.Features().kernel_fields()) <= set(names)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # read in their sources
        ("6.1", {"cost_rotations": False, "movable_excluded": False, "pcp_auto": False,
                 "zeromap": False, "full_walk_retry": False, "direct_reclaim_cursor": False,
                 "zswap_zpool": "zbud", "zswap_shrinker": False, "zswap_lru": False,
                 "zswap_second_chance": False, "pagevec_size": 15, "memcg_slab_counts": True,
                 "zsmalloc_chain": 4, "fallback_claims": False, "proactive_counted": False,
                 "highatomic_counts_free": False,
                 "oom_reaper_delay_ns": 2 * 10**9,
                 "memcg_charge_batch": 64, "empty_lru_counts_free": True, "lru_gen": False}),
        ("6.12", {"cost_rotations": True, "movable_excluded": True, "pcp_auto": True,
                  "zeromap": True, "full_walk_retry": True, "direct_reclaim_cursor": True,
                  "memcg_slab_counts": False, "zsmalloc_chain": 8, "fallback_claims": True,
                  "proactive_counted": True, "highatomic_counts_free": True,
                  "zswap_zpool": "zsmalloc", "zswap_shrinker": True, "zswap_lru": True,
                  "zswap_second_chance": True, "pagevec_size": 31, "swappiness_max": 200,
                  "empty_lru_counts_free": True, "watermark_scale_factor_max": 3000}),
        # each side of a change
        ("5.7", {"swappiness_max": 100, "min_free_kbytes_max": 65536, "recursiveprot": True}),
        ("5.8", {"swappiness_max": 200, "min_free_kbytes_max": 262144, "anon_starts_active": True}),
        ("5.9", {"anon_starts_active": False, "badness_clamped": False}),
        ("5.15", {"reclaim_throttle": False, "oom_reaper_delay_ns": 0, "memcg_charge_batch": 32}),
        ("5.18", {"reclaim_throttle": True, "watermark_scale_factor_max": 3000}),
        ("4.5", {"watermark_scale_factor": 0, "oom_reaper": False}),
        ("4.6", {"watermark_scale_factor": 10, "oom_reaper": True}),
        ("4.19", {"watermark_boost_factor": 0, "oom_group": True, "oom_ties_to_first": True}),
        ("5.4", {"watermark_boost_factor": 15000, "high_penalty": True,
                 "oom_ties_to_first": False}),
        ("3.10", {"root_bonus": 2, "badness_per_mille": False}),
        ("3.14", {"refaults": ""}),
        ("3.15", {"refaults": "file"}),
        ("4.19", {"psi": False}),
        ("4.20", {"psi": True, "refaults": "file"}),
        ("5.14.0-427.el9.x86_64", {"psi": False, "refaults": "file anon"}),
        # stable series
        ("6.1.123", {"empty_lru_counts_free": False}),
        ("6.1.124", {"empty_lru_counts_free": True}),
        ("6.2.1", {"empty_lru_counts_free": False}),
        # distributions
        ("2.6.32-642.11.1.el6.x86_64", {"root_bonus": 2, "badness_per_mille": True,
                                        "badness_clamped": True, "oom_ties_to_first": True}),
        ("3.10.0-514.6.1.el7.x86_64", {"root_bonus": 1, "badness_per_mille": False}),
        ("4.18.0-553.8.1.el8_10.x86_64", {"root_bonus": 0, "watermark_boost_factor": 15000}),
        ("6.1.0-56-amd64", {"lru_gen": False, "empty_lru_counts_free": True}),
        ("6.12.117+deb12-amd64", {"lru_gen": True}),
        ("6.12.94+deb13-amd64", {"lru_gen": True}),
        ("5.15.0-91-generic", {"lru_gen": False}),
        ("6.8.0-45-generic", {"lru_gen": True, "direct_reclaim_cursor": False}),
        ("6.1.119-129.201.amzn2023.x86_64", {"lru_gen": False}),
        ("6.8.9-300.fc40.x86_64", {"lru_gen": True}),
        ("6.7.4-arch1-1", {"lru_gen": True}),
    ],
)  # fmt: skip
def test_features_of_a_release(text: str, expected: dict[str, object]) -> None:
    found = release.features(text)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "distribution", "note"),
    [
        ("6.12", "", ""),
        ("6.1.0-56-amd64", "Debian", ""),
        ("5.15.0-1041-azure", "Ubuntu",
         "features of 5.15 are from version notes, not from its source"),
        ("5.7.2", "", "kernel 5.7 is not listed: taken as 5.4 and what is known to have changed "
         "up to 5.7"),
        ("6.19.0-rc5", "", "kernel 6.19 is not listed: taken as 6.18, the nearest known; changes "
         "that its builder made are not known"),
        ("2.4.20", "", "kernel 2.4 is not listed: taken as 2.6, the nearest known"),
        ("6.12.0-211.el10.ppc64le", "RHEL 10", "what RHEL 10 changed is not known"),
    ],
)  # fmt: skip
def test_resolve_says_what_is_a_guess(text: str, distribution: str, note: str) -> None:
    found = release.resolve(text)
    assert (found.distribution, found.note) == (distribution, note)


@pytest.mark.parametrize("text", ["", "linux", "6", "6.", "el9", "-6.1", "x6.1"])
def test_resolve_refuses_what_is_no_version(text: str) -> None:
    expected = f"{re.escape(repr(text))} is not a kernel release: expected a version like 6.12"
    with pytest.raises(ValueError, match=expected):
        release.resolve(text)


def test_resolve_accepts_a_leading_v_and_spaces() -> None:
    assert release.resolve(" v6.6.32\n").version == (6, 6, 32)


def test_newer_than_all_is_as_the_newest_listed() -> None:
    assert release.features("7.3") == release.features("6.18")


def test_every_row_names_features_and_its_origin() -> None:
    assert all(row.origin for row in release.HISTORY)
    assert all(row.origin for row in release.DISTRIBUTIONS)
    names = {name for row in release.HISTORY for name in row.values}
    names |= {name for row in release.DISTRIBUTIONS for name in row.values}
    assert names <= {field.name for field in dataclasses.fields(release.Features)}
    assert [row.since for row in release.HISTORY] == sorted(row.since for row in release.HISTORY)


@given(st.integers(0, 9), st.integers(0, 40), st.integers(0, 300))
def test_resolve_takes_any_version(major: int, minor: int, patch: int) -> None:
    found = release.resolve(f"{major}.{minor}.{patch}")
    assert found.version == (major, minor, patch)
    # a later patch level never loses a feature of the series
    bare = release.features(f"{major}.{minor}").kernel_fields()
    assert all(bare[name] == value for name, value in found.features.kernel_fields().items()
               if name != "empty_lru_counts_free")  # fmt: skip
