"""The arithmetic of watermarks that the input checks need, in bytes and without zones' detail.

``mm`` has the kernel's own; this is the part that tells a person beforehand what a
``min_free_kbytes`` costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capplan.errors import Problem, quoted
from capplan.units import format_bytes

if TYPE_CHECKING:
    from capplan.spec.loader import NodeSpec

PAGE = 4096
SCALE_FACTOR = 10
"""Default vm.watermark_scale_factor (mm/page_alloc.c). [1/10000]"""

LARGE_SHARE = 0.02
"""From this share of the memory on, MIN is worth a warning: the default reserve of a node
of 4 GiB and more is at most 1.6 % (67584 kB, set_recommended_min_free_kbytes())."""


@dataclass(frozen=True)
class Marks:
    """The sums of all zones' watermarks. [bytes]"""

    low_memory: int
    minimum: int
    low: int
    high: int


def marks(memory_bytes: int, min_free_kbytes: int, watermark_scale_factor: int) -> Marks:
    """Work out the node's MIN, LOW and HIGH as if it were one zone.

    Parameters
    ----------
    memory_bytes : int
        Memory that the zones manage. [bytes]
    min_free_kbytes : int
        vm.min_free_kbytes. [KiB]
    watermark_scale_factor : int
        vm.watermark_scale_factor. [1/10000]

    Returns
    -------
    Marks

    Kernel
    ------
    mm/page_alloc.c, __setup_per_zone_wmarks(): LOW is MIN plus the larger of MIN / 4 and
    the scale factor's share of the memory; HIGH is as far above LOW.

    Departs from the kernel
    -----------------------
    One zone instead of several: the sums differ by a page a zone.

    Worked example
    --------------
    64 GiB, min_free_kbytes 2097152: MIN 2 GiB, step max(0.5 GiB, 65.5 MiB), LOW 2.5 GiB,
    HIGH 3 GiB.
    """
    pages = memory_bytes // PAGE
    minimum = min_free_kbytes >> 2
    step = max(minimum >> 2, pages * watermark_scale_factor // 10_000)
    in_pages = (pages, minimum, minimum + step, minimum + 2 * step)
    return Marks(*(value * PAGE for value in in_pages))


def check_watermarks(spec: NodeSpec) -> Iterator[Problem]:
    """min_free_kbytes above the memory cannot boot; a large one is worth its arithmetic."""
    minimum = spec.node.sysctl.min_free_kbytes
    scale = spec.node.sysctl.watermark_scale_factor or SCALE_FACTOR
    memory = spec.node.memory
    if memory is None:
        memory = sum(zone.managed for zone in spec.node.zones or ()) * PAGE
    found = marks(memory, minimum or 0, scale)
    key = "vm.min_free_kbytes" if minimum is not None else "vm.watermark_scale_factor"
    path = ("node", "sysctl", key)
    shown = ".".join(path)
    system = spec.node.system
    rest = memory - system.kernel - system.daemons.memory - system.daemons.shmem
    if found.high >= memory or found.minimum >= rest:
        message = (
            f"this node cannot boot: the watermarks (MIN {format_bytes(found.minimum)},"
            f" LOW {format_bytes(found.low)}, HIGH {format_bytes(found.high)}) are above its"
            f" memory ({format_bytes(memory)}, {format_bytes(max(rest, 0))} after the system's)"
        )
        expected = f"less than {memory // 1024 // 2} (half of the memory in KiB)"
        yield Problem(spec.place(*path), shown, message, expected, "", "C026")
    elif minimum is not None and found.minimum >= LARGE_SHARE * memory:
        message = f"{quoted(minimum)} KiB {_arithmetic(found)}"
        expected = (
            f"a smaller reserve, unless meant; the usual one is 67584 ({format_bytes(67584 << 10)})"
        )
        yield Problem(spec.place(*path), shown, message, expected, "", "C027", "warning")


def _arithmetic(found: Marks) -> str:
    """Say what the marks cost: MIN is never usable, kswapd keeps HIGH free of cache."""
    never = 100 * found.minimum / found.low_memory
    lost = 100 * found.high / found.low_memory
    return (
        f"of {format_bytes(found.low_memory)}: MIN {format_bytes(found.minimum)},"
        f" LOW {format_bytes(found.low)}, HIGH {format_bytes(found.high)};"
        f" {never:.1f} % is never usable, up to {lost:.1f} % is lost to the cache"
    )
