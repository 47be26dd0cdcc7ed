"""What a pool of huge pages leaves of the memory, said before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from capplan.errors import Place, Problem, quoted
from capplan.spec.marks import PAGE, SCALE_FACTOR, marks
from capplan.units import format_bytes

if TYPE_CHECKING:
    from capplan.spec.loader import NodeSpec

KEY = "vm.nr_hugepages"
HPAGE_BYTES = 2 << 20


def check_hugepages(spec: NodeSpec) -> Iterator[Problem]:
    """A pool that leaves nothing is refused; one above what it leaves gets its arithmetic."""
    wanted = spec.node.sysctl.nr_hugepages
    path = ("node", "sysctl", KEY)
    if wanted:
        yield from _judge(spec, spec.place(*path), ".".join(path), wanted)
    for step in spec.timeline:
        for setting in step.settings:
            if setting.key == KEY and isinstance(setting.value, int):
                yield from _judge(spec, setting.place, setting.path, setting.value)


def most_hugepages(memory: int, system: int, minimum: int) -> int:
    """Huge pages of 2 MiB that fit beside the system's memory and the MIN watermark.

    Worked example
    --------------
    4 GiB, 750 MiB of system, MIN 8 MiB: 1669 (3338 MiB).
    """
    return max(memory - system - minimum, 0) // HPAGE_BYTES


def _judge(spec: NodeSpec, place: Place, path: str, wanted: int) -> Iterator[Problem]:
    memory = spec.node.memory
    if memory is None:
        memory = sum(zone.managed for zone in spec.node.zones or ()) * PAGE
    own = spec.node.system
    system = own.kernel + own.daemons.memory + own.daemons.shmem
    sysctl = spec.node.sysctl
    scale = sysctl.watermark_scale_factor or SCALE_FACTOR
    minimum = marks(memory, sysctl.min_free_kbytes or 0, scale).minimum
    most = most_hugepages(memory, system, minimum)
    pool = wanted * HPAGE_BYTES
    left = memory - system - minimum - pool
    reserve = f" and MIN's {format_bytes(minimum)}" if minimum else ""
    sum_of = (
        f"{quoted(wanted)} huge pages of {format_bytes(HPAGE_BYTES)} are {format_bytes(pool)} of"
        f" {format_bytes(memory)}; the system's {format_bytes(system)}{reserve}"
    )
    if wanted >= most:
        message = f"{sum_of} leave room for {most}: no memory would be left for any process"
        yield Problem(place, path, message, f"less than {most}", "", "C036")
    elif left < pool:
        message = f"{sum_of} leave {format_bytes(left)} for everything else, and no process here"
        message += " maps a huge page of the pool"
        yield Problem(place, path, message, "a smaller pool, unless meant", "", "C037", "warning")
