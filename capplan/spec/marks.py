"""The arithmetic of watermarks that the input checks need, in bytes and without zones' detail.

``mm`` has the kernel's own; this is the part that tells a person beforehand what a
``min_free_kbytes`` costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capplan.errors import Place, Problem, quoted
from capplan.units import format_bytes

if TYPE_CHECKING:
    from capplan.spec.loader import NodeSpec

PAGE = 4096
SCALE_FACTOR = 10
"""Default vm.watermark_scale_factor (mm/page_alloc.c). [1/10000]"""

SCALE_KEY = "vm.watermark_scale_factor"

USUAL_KBYTES = 67584
"""What set_recommended_min_free_kbytes() gives a node with three zones and THP. [KiB]"""

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
    sysctl = spec.node.sysctl
    key = "vm.min_free_kbytes" if sysctl.min_free_kbytes is not None else SCALE_KEY
    path = ("node", "sysctl", key)
    scale = sysctl.watermark_scale_factor or SCALE_FACTOR
    yield from _judge(spec, spec.place(*path), ".".join(path), sysctl.min_free_kbytes, scale)
    for step in spec.timeline:
        for setting in step.settings:
            if setting.key == "vm.min_free_kbytes" and isinstance(setting.value, int):
                yield from _judge(spec, setting.place, setting.path, setting.value, scale)


def _judge(
    spec: NodeSpec, place: Place, path: str, minimum: int | None, scale: int
) -> Iterator[Problem]:
    memory = spec.node.memory
    if memory is None:
        memory = sum(zone.managed for zone in spec.node.zones or ()) * PAGE
    found = marks(memory, minimum or 0, scale)
    system = spec.node.system
    rest = memory - system.kernel - system.daemons.memory - system.daemons.shmem
    if found.high >= memory or (found.minimum and found.minimum >= rest):
        message = (
            f"this node cannot boot: the watermarks (MIN {format_bytes(found.minimum)},"
            f" LOW {format_bytes(found.low)}, HIGH {format_bytes(found.high)}) are above its"
            f" memory ({format_bytes(memory)}, {format_bytes(max(rest, 0))} after the system's)"
        )
        expected = f"less than {memory // 1024 // 2} (half of the memory in KiB)"
        yield Problem(place, path, message, expected, "", "C026")
    elif minimum is not None and found.minimum >= LARGE_SHARE * memory:
        message = f"{quoted(minimum)} KiB {_arithmetic(found)}"
        expected = (
            "a smaller reserve, unless meant;"
            f" the usual one is {USUAL_KBYTES} ({format_bytes(USUAL_KBYTES << 10)})"
        )
        yield Problem(place, path, message, expected, "", "C027", "warning")


def _arithmetic(found: Marks) -> str:
    """Say what the marks cost: MIN is never usable, kswapd keeps HIGH free of cache."""
    never = 100 * found.minimum / found.low_memory
    lost = 100 * found.high / found.low_memory
    return (
        f"of {format_bytes(found.low_memory)}: MIN {format_bytes(found.minimum)},"
        f" LOW {format_bytes(found.low)}, HIGH {format_bytes(found.high)};"
        f" {never:.1f} % is never usable, up to {lost:.1f} % is lost to the cache"
    )
