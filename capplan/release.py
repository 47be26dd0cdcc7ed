"""Kernel releases: from ``uname -r`` to features and defaults.

The engine never compares versions: it reads features. Here a version becomes features, as
data: what changed upstream and when (:data:`HISTORY`), and what distributions do on their own
(:data:`DISTRIBUTIONS`). Each row says where it comes from; rows marked "background" are
general knowledge that was not read again in a source, and :attr:`Release.note` repeats that
for releases that rest on them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

__all__ = ["DISTRIBUTIONS", "HISTORY", "LISTED", "Features", "Release", "features", "resolve"]

NS_PER_S = 1_000_000_000


@dataclass(frozen=True)
class Features:
    """What a release does; the first group are fields of ``kernel_t`` of the same name."""

    lru_gen: bool = False
    """The multi-gen LRU is on by default."""
    recursiveprot: bool = False
    """systemd mounts cgroup v2 with memory_recursiveprot."""
    direct_reclaim_cursor: bool = False
    """Direct reclaim goes on at the memcg where the last one stopped."""
    cost_rotations: bool = False
    """Rotated pages count as LRU cost, I/O counts 32 times."""
    movable_excluded: bool = False
    """Movable takes no part in min_free_kbytes; its min mark is 32 pages or more."""
    pcp_auto: bool = False
    """Per-cpu lists grow and shrink by themselves."""
    swap_cluster_lists: bool = False
    """Swap clusters are on lists by how full they are; before, the map is searched."""
    zeromap: bool = False
    """Zero-filled pages are a bit in the swap device's map."""
    anon_starts_active: bool = True
    """New anonymous pages start on the active list."""
    oom_reaper_delay_ns: int = 0
    """The OOM reaper waits. [ns]"""
    root_bonus: int = 2
    """CAP_SYS_ADMIN is spared: 0 no, 1 3 % of its points, 2 30 of its adjustment."""
    badness_clamped: bool = True
    """An eligible task has at least one point."""
    badness_per_mille: bool = True
    """Points are whole thousandths of the memory."""
    oom_ties_to_first: bool = True
    """Of equal points the first task in the list dies, not the last."""
    empty_lru_counts_free: bool = False
    """A zone without LRU pages counts its free pages as reclaimable."""
    high_penalty: bool = False
    """memory.high makes tasks sleep, not only reclaim."""
    zswap_shrinker: bool = False
    """zswap has a shrinker (off by default)."""
    zswap_memcg_writeback: bool = False
    """memory.zswap.writeback exists, and a memcg at its zswap.max writes back first."""
    zswap_lru: bool = False
    """zswap, not its allocator, has the list; its worker shrinks until the pool takes pages."""
    zswap_second_chance: bool = False
    """zswap writes a page back that it has looked at twice."""
    pagevec_size: int = 15
    """Pages that come to the LRU lists at once."""
    vma_readahead: bool = False
    """Swap read-ahead goes by address, not by slot, where no swap device rotates."""
    full_walk_retry: bool = False
    """Direct reclaim that got nothing tries once more over all memcgs."""
    swap_shadow_nodes: bool = False
    """Nodes that hold only shadows of swapped pages can be reclaimed, as those of files."""
    memcg_slab_counts: bool = True
    """Slab freed in a memcg's reclaim counts as reclaimed, as it does in global reclaim."""
    soft_limit: bool = True
    """Writing memory.soft_limit_in_bytes has an effect."""
    proactive_reclaim_shift: int = 0
    """memory.reclaim asks for what is left >> this at a time."""

    watermark_scale_factor: int = 0
    """Default; 0: the sysctl does not exist, high = min + min / 2. [1/10000]"""
    watermark_scale_factor_max: int = 1000
    watermark_boost_factor: int = 0
    """Default; 0: there is no boost. [1/10000]"""
    compaction_proactiveness: int = 0
    """Default; 0: free memory is not defragmented before somebody asks for large blocks."""
    min_free_kbytes_max: int = 65536
    """Upper clamp of the computed vm.min_free_kbytes. [KiB]"""
    swappiness_max: int = 100
    memcg_charge_batch: int = 32
    """Pages charged at a time. [pages]"""
    reclaim_throttle: bool = False
    """reclaim_throttle() instead of congestion_wait()."""
    pcp_high_by_zone: bool = False
    """Per-cpu lists are sized from the zone's low mark."""
    oom_reaper: bool = False
    """A victim's memory is freed by a kernel thread."""
    zswap_zpool: str = "zbud"
    """Default allocator of zswap."""
    zsmalloc_chain: int = 4
    """Pages of zsmalloc's longest zspage. [pages]"""
    fallback_claims: bool = False
    """A request that no pageblock of its type can meet takes a pageblock over or the smallest block
    that fits; before, the largest moves to its type's free lists."""
    proactive_counted: bool = False
    """compact_daemon_{migrate,free}_scanned count proactive compaction too."""
    highatomic_counts_free: bool = False
    """Of the highatomic reserve only what is free is beyond a request's reach, not all of it."""
    oom_group: bool = False
    """memory.oom.group exists."""
    psi: bool = False
    """/proc/pressure exists and is on without a boot parameter."""
    refaults: str = ""
    """Kinds of memory whose refaults /proc/vmstat counts: file, anon."""

    def kernel_fields(self) -> dict[str, int]:
        """The features that the engine reads, by their field of ``kernel_t``."""
        return {name: int(getattr(self, name)) for name in KERNEL_FIELDS}


KERNEL_FIELDS = (
    "lru_gen", "recursiveprot", "direct_reclaim_cursor", "cost_rotations", "movable_excluded",
    "pcp_auto", "swap_cluster_lists", "zeromap", "anon_starts_active", "oom_reaper_delay_ns",
    "root_bonus",
    "badness_clamped", "badness_per_mille", "oom_ties_to_first", "empty_lru_counts_free",
    "high_penalty", "zswap_shrinker", "zswap_memcg_writeback", "zswap_lru", "zswap_second_chance",
    "pagevec_size", "vma_readahead", "full_walk_retry", "proactive_reclaim_shift",
    "memcg_slab_counts", "soft_limit", "zsmalloc_chain", "fallback_claims", "proactive_counted",
    "highatomic_counts_free", "swap_shadow_nodes",
)  # fmt: skip

Version = tuple[int, ...]

SOURCE = "read in 6.1.192 and 6.12.117"
BACKGROUND = "background"


@dataclass(frozen=True)
class Change:
    """From version `since` on, `values`; from `stable` on also in these stable series."""

    since: Version
    values: Mapping[str, Any]
    origin: str
    stable: tuple[Version, ...] = ()


def _change(since: Version, origin: str, *stable: Version, **values: Any) -> Change:
    return Change(since, MappingProxyType(values), origin, stable)


HISTORY: tuple[Change, ...] = (
    _change((3, 6), BACKGROUND, badness_per_mille=False),
    _change((3, 14), "OOM reports of 3.10.el7 to 4.16", root_bonus=1),
    _change((3, 15), BACKGROUND, refaults="file"),
    _change((4, 6), "zone dumps of 4.4 to 6.19", watermark_scale_factor=10),
    _change((4, 6), BACKGROUND, oom_reaper=True),
    _change((4, 14), BACKGROUND, vma_readahead=True),
    _change((4, 17), "OOM reports from 4.17", root_bonus=0),
    _change((4, 19), BACKGROUND, oom_group=True),
    _change((4, 20), BACKGROUND, psi=True),
    _change((5, 0), "zone dumps of 5.0", watermark_boost_factor=15000),
    _change((5, 3), "OOM reports from 5.3", oom_ties_to_first=False),
    _change((5, 4), BACKGROUND, high_penalty=True),
    _change((5, 7), BACKGROUND, recursiveprot=True),
    _change((5, 8), BACKGROUND, swappiness_max=200, min_free_kbytes_max=262144),
    _change((5, 9), BACKGROUND, anon_starts_active=False, compaction_proactiveness=20,
            refaults="file anon"),
    _change((5, 9), "OOM reports from 5.9", badness_clamped=False),
    _change((5, 14), BACKGROUND, pcp_high_by_zone=True),
    _change((5, 16), BACKGROUND, reclaim_throttle=True),
    _change((5, 18), BACKGROUND, oom_reaper_delay_ns=2 * NS_PER_S, watermark_scale_factor_max=3000),
    _change((6, 1), BACKGROUND, memcg_charge_batch=64),
    _change((6, 2), SOURCE, cost_rotations=True),  # absent in the one, present in the other
    _change((6, 3), SOURCE, zsmalloc_chain=8, swap_shadow_nodes=True),
    _change((6, 4), SOURCE, memcg_slab_counts=False),
    # Between the two sources; the list is in 6.1.192's allocators, the batch of 31 in 6.12.117
    _change((6, 5), BACKGROUND, zswap_lru=True),
    _change((6, 6), SOURCE, movable_excluded=True),
    _change((6, 7), SOURCE, pcp_auto=True),
    _change((6, 7), SOURCE, zswap_zpool="zsmalloc"),
    _change((6, 8), SOURCE, zswap_shrinker=True, zswap_memcg_writeback=True),
    _change((6, 9), SOURCE, proactive_reclaim_shift=2),
    _change((6, 9), BACKGROUND, pagevec_size=31),
    _change((6, 11), SOURCE, direct_reclaim_cursor=True, full_walk_retry=True),
    _change((6, 12), SOURCE, zeromap=True, swap_cluster_lists=True, soft_limit=False,
            zswap_second_chance=True,
            proactive_counted=True, highatomic_counts_free=True),
    # The stable series took it in January 2025; the first patch level of each is background.
    _change((6, 13), SOURCE, (5, 15, 176), (6, 1, 124), (6, 6, 70), (6, 12, 9),
            empty_lru_counts_free=True),
    # 6.12's stable series took it later; which patch level is the first is not known
    _change((6, 15), SOURCE, (6, 12, 117), fallback_claims=True),
)  # fmt: skip
"""What changed upstream. Where the change lies between two sources that were read, the exact
version in between is background."""

LISTED: tuple[Version, ...] = (
    (2, 6, 32), (3, 10), (4, 4), (4, 9), (4, 14), (4, 15), (4, 18), (4, 19), (5, 4), (5, 10),
    (5, 14), (5, 15), (6, 1), (6, 6), (6, 8), (6, 12), (6, 18),
)  # fmt: skip
"""Releases that distributions ship or shipped for years."""

READ: tuple[Version, ...] = ((6, 1), (6, 12))
"""Releases whose source was read; all others rest on version notes."""


@dataclass(frozen=True)
class Distribution:
    """Kernels whose release matches `pattern`: what they do apart from their version."""

    name: str
    pattern: str
    origin: str
    values: Mapping[str, Any] = field(default_factory=dict)
    since: Version = (0,)
    latest_stable: bool = False  # a third number 0 stands for a stable release of its own


DISTRIBUTIONS: tuple[Distribution, ...] = (
    Distribution("RHEL 6", r"\.el6", "OOM reports of 2.6.32.el6", {"root_bonus": 2}),
    Distribution("RHEL 7", r"\.el7", "OOM reports of 3.10.0.el7", {"root_bonus": 1}),
    Distribution(
        "RHEL 8", r"\.el8", "zone dumps of 4.18.0.el8", {"watermark_boost_factor": 15000}
    ),
    Distribution(
        "RHEL 9", r"\.el9", "zone dumps of 5.14.0.el9: no change found; PSI needs psi=1 at boot",
        {"psi": False},
    ),
    Distribution("RHEL 10", r"\.el10", BACKGROUND),
    Distribution(
        "Ubuntu",
        r"-\d+-(generic|lowlatency|aws|azure|gcp|gke|kvm|oem|oracle|ibm|realtime|virtual)\b",
        "multi-gen LRU on since 23.10 (Ubuntu's release notes)",
        {"lru_gen": True},
        since=(6, 5),
        latest_stable=True,
    ),
    Distribution(
        "Debian", r"-\d+-(cloud-|rt-)?(amd64|arm64)\b|\+deb\d|\+bpo",
        "multi-gen LRU off in 6.1, on in 6.12 (their configs)",
        {"lru_gen": True}, since=(6, 12), latest_stable=True,
    ),
    Distribution(
        "Amazon Linux", r"\.amzn(2|2023)\b", "multi-gen LRU built, off (AL2023 user guide)"
    ),
    Distribution(
        "Fedora", r"\.fc\d+", "multi-gen LRU on (its config)", {"lru_gen": True}, since=(6, 1)
    ),
    Distribution(
        "Arch", r"-(arch|zen|hardened|lts)\d*", "multi-gen LRU on (its config)",
        {"lru_gen": True}, since=(6, 1),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Release:
    """A release, its features, and what is to be said about them."""

    text: str
    version: Version
    distribution: str
    features: Features
    note: str


def resolve(release: str) -> Release:
    """Features of a kernel release, with a note where they are a guess.

    Parameters
    ----------
    release : str
        As ``uname -r`` prints it, or just a version: "6.12", "6.1.0-56-amd64",
        "5.14.0-427.el9.x86_64". A bare series means its latest stable release.

    Raises
    ------
    ValueError
        If it does not begin with a version.

    Examples
    --------
    >>> resolve("6.12").features.zeromap, resolve("6.1").features.zeromap
    (True, False)
    >>> resolve("5.15.0-91-generic").distribution
    'Ubuntu'
    """
    match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?!\d)", release.strip())
    if match is None:
        msg = f"{release!r} is not a kernel release: expected a version like 6.12 or 5.14.0-427.el9"
        raise ValueError(msg)
    version = tuple(int(part) for part in match.groups() if part is not None)
    distribution = next((row for row in DISTRIBUTIONS if re.search(row.pattern, release)), None)
    # 6.1.0-56-amd64 and 5.15.0-91-generic hold the series' stable fixes
    whole = distribution is not None and distribution.latest_stable and version[2:] == (0,)
    level = version[:2] if whole else version
    values: dict[str, Any] = {}
    for change in HISTORY:
        if _has(level, change):
            values |= change.values
    if distribution is not None and version >= distribution.since:
        values |= distribution.values
    return Release(
        text=release,
        version=version,
        distribution=distribution.name if distribution else "",
        features=dataclasses.replace(Features(), **values),
        note=_note(version, distribution, release),
    )


def features(release: str) -> Features:
    """Features of a kernel release; see :func:`resolve`."""
    return resolve(release).features


def _has(version: Version, change: Change) -> bool:
    """Whether `version` is late enough, in mainline or in its stable series."""
    if version[:2] >= change.since[:2]:
        return True
    for stable in change.stable:
        if version[:2] == stable[:2]:
            return len(version) < 3 or version[2] >= stable[2]
    return False


def _note(version: Version, distribution: Distribution | None, release: str) -> str:
    """What a reader must know about how the features were found."""
    series = ".".join(str(part) for part in version[:2])
    keys = [listed[:2] for listed in LISTED]
    parts = []
    if version[:2] not in keys:
        if version[:2] > keys[-1] or version[:2] < keys[0]:
            nearest = keys[-1] if version[:2] > keys[-1] else keys[0]
            near = ".".join(str(part) for part in nearest)
            parts.append(f"kernel {series} is not listed: taken as {near}, the nearest known")
        else:
            before = max(key for key in keys if key < version[:2])
            near = ".".join(str(part) for part in before)
            parts.append(
                f"kernel {series} is not listed: taken as {near} and what is known to have "
                f"changed up to {series}"
            )
    elif version[:2] not in READ:
        parts.append(f"features of {series} are from version notes, not from its source")
    if distribution is None and re.search(r"[-+~_]\D*[A-Za-z]", release):
        parts.append("changes that its builder made are not known")
    elif distribution is not None and distribution.origin == BACKGROUND:
        parts.append(f"what {distribution.name} changed is not known")
    return "; ".join(parts)
