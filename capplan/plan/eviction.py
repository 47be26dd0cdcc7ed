"""Whether a kubelet's eviction threshold can fire at all, by arithmetic alone.

The kubelet does not see free memory. It sees::

    memory.available = MemTotal - (anon + file - inactive_file)
                     = free + kernel + inactive_file

where ``kernel`` is all that is neither free nor anonymous nor page cache: slab, page tables,
stacks, per-cpu pages. User memory cannot take the last free pages: an allocation fails in every
zone at MIN + lowmem_reserve. With the page cache gone, memory.available is then still

    floor = sum over zones of min(managed, MIN + lowmem_reserve) + kernel

A threshold at or below the floor is met only when direct reclaim and the OOM killer have come
already. Above it, the kubelet looks each ten seconds: growth of up to
(threshold - floor) / 10 s is seen whenever it began.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["MONITORING_S", "EvictionWindow", "direct_reclaim_pages", "eviction_window"]

MONITORING_S = 10.0  # pkg/kubelet/kubelet.go, evictionMonitoringPeriod


@dataclass(frozen=True)
class EvictionWindow:
    """What lies between a threshold and the point where allocations fail."""

    threshold_bytes: int
    floor_bytes: int
    """memory.available when user memory finds no page."""
    interval_s: float
    react_s: float

    @property
    def window_bytes(self) -> int:
        """Growth from the threshold to the floor; 0 when the threshold cannot fire in time."""
        return max(self.threshold_bytes - self.floor_bytes, 0)

    @property
    def fires(self) -> bool:
        """Whether slow growth is evicted before direct reclaim or the OOM killer."""
        return self.window_bytes > 0

    @property
    def max_rate(self) -> float:
        """Largest growth that is caught whatever the kubelet's phase [bytes/s]."""
        return self.window_bytes / (self.interval_s + self.react_s)

    def caught(self, rate: float) -> float:
        """Probability that growth at ``rate`` [bytes/s] is evicted first, the phase unknown.

        Worked example
        --------------
        Window 100 MiB, no time to react: 10 MiB/s is always caught, 20 MiB/s in half of the
        cases, 200 MiB/s in one of twenty.
        """
        if not self.fires:
            return 0.0
        if rate <= 0:
            return 1.0
        left = self.window_bytes / rate - self.react_s
        return min(max(left / self.interval_s, 0.0), 1.0)


def direct_reclaim_pages(zones: Iterable[tuple[int, int, int]]) -> int:
    """Free pages of the node at which user memory finds none left.

    Parameters
    ----------
    zones : iterable of (managed, min, reserve)
        Pages of each zone, its min mark, its lowmem_reserve against the highest zone. [pages]

    Worked example
    --------------
    A 16 GiB node with vm.min_free_kbytes 67584: DMA 15 + 15928, but no more than its 3840
    pages, DMA32 3170 + 12936, Normal 13709 + 0: 33655 pages, 131 MiB.
    """
    return sum(min(managed, least + reserve) for managed, least, reserve in zones)


def eviction_window(
    threshold_bytes: int,
    direct_reclaim_bytes: int,
    kernel_bytes: int,
    *,
    inactive_file_bytes: int = 0,
    interval_s: float = MONITORING_S,
    react_s: float = 0.0,
) -> EvictionWindow:
    """What a ten-second poll has between an eviction threshold and the OOM killer.

    Parameters
    ----------
    threshold_bytes : int
        evictionHard's memory.available. [bytes]
    direct_reclaim_bytes : int
        :func:`direct_reclaim_pages`, in bytes. [bytes]
    kernel_bytes : int
        Memory that no working set shows: slab, page tables, stacks, per-cpu pages. [bytes]
    inactive_file_bytes : int, optional
        Page cache that reclaim leaves. [bytes]
    interval_s, react_s : float, optional
        Time between looks, and from a look to the memory's return. [s]

    Worked example
    --------------
    Threshold 100 MiB, direct reclaim at 84 MiB, 200 MiB of kernel memory: the floor is 284 MiB,
    the threshold cannot fire. At 500 MiB the window is 216 MiB: 21.6 MiB/s are always caught.
    """
    floor = direct_reclaim_bytes + kernel_bytes + inactive_file_bytes
    return EvictionWindow(threshold_bytes, floor, interval_s, react_s)
