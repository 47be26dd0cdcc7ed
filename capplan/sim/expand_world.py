"""What an expansion builds up: mappings that grow while processes are written, and notes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from capplan.sim.expand_draws import Draws
from capplan.sim.expand_phases import Extent, to_pages
from capplan.sim.scenario import PAGE_SIZE, Cgroup, Mapping, Node, Process
from capplan.spec.profile import Region

# Ratios of the kernel reference, section 12 (from published comparisons of zram on mixed
# data): what a region that says nothing compresses to.
RATIOS = {
    "lzo": 2.6, "lzo-rle": 2.7, "lz4": 2.5, "lz4hc": 2.5, "zstd": 3.3, "deflate": 3.3, "842": 2.5,
}  # fmt: skip


@dataclass
class MappingPlan:
    """A mapping while its largest extent is still being found out [pages]."""

    region: Region
    extent: Extent
    size: int = 0  # at t = 0
    resident: int = 0
    swapped: int = 0
    grown: int = 0  # beside the phases: steady growth, traces
    disk: str = ""
    cow_of: MappingPlan | None = None

    def lay_out(self, size: int, warm: bool, written: bool) -> None:
        """Set the extents at the start."""
        region, extent = self.region, self.extent
        self.resident = resident_pages(region, size) if warm else 0
        self.swapped = to_pages(region.swapped or 0) if warm else 0
        start = size
        if region.kind == "file" and written:
            start, extent.limit = self.resident, size
        elif region.limit is not None:
            extent.limit = to_pages(region.limit)
        self.size = start if warm or region.kind == "file" else 0
        extent.initial = extent.pages = start
        extent.peak = max(extent.peak, size, self.resident + self.swapped)

    def build(self, stored: float) -> Mapping:
        """The IR's mapping; ``stored`` is what a page compresses to if nothing is said."""
        region = self.region
        zipped = region.compressibility
        largest = max(self.extent.peak + self.grown, self.size, 1)
        if self.cow_of is not None:
            largest = max(self.cow_of.extent.peak + self.cow_of.grown, self.cow_of.size, 1)
        return Mapping(
            name=self.extent.mapping,
            kind=region.kind,
            max_pages=largest,
            size_pages=self.size,
            resident_pages=min(self.resident, self.size),
            swapped_pages=self.swapped,
            via=region.via,
            exec=region.exec,
            disk=self.disk if region.kind == "file" else "",
            locked=region.locked,
            thp=region.thp,
            length_mean=stored if zipped is None else PAGE_SIZE * (1.0 - zipped.mean),
            length_sd=0.0 if zipped is None else PAGE_SIZE * zipped.sd,
            same_filled=0.0 if zipped is None else zipped.same_filled,
            incompressible=0.0 if zipped is None else zipped.incompressible,
            cow_of=None if self.cow_of is None else self.cow_of.extent.mapping,
        )


@dataclass
class World:
    """Everything of the scenario that is written by more than one container."""

    node: Node
    draws: Draws
    duration_ns: int
    warm: bool
    compressor: str  # what a region without compressibility is taken to meet
    plans: dict[str, MappingPlan] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    cgroups: dict[str, Cgroup] = field(default_factory=dict)
    assumptions: list[str] = field(default_factory=list)
    said: dict[str, list[str]] = field(default_factory=dict)
    """What is assumed of containers: their names by the text."""
    unsaid: int = 0  # regions whose compressibility was assumed

    def again(self, draws: Draws) -> World:
        """The same for another run: nothing written yet, all notes so far."""
        return replace(
            self, draws=draws, assumptions=list(self.assumptions), plans={}, processes=[], said={}
        )

    def mappings(self) -> tuple[Mapping, ...]:
        """All mappings, with the extents they came to have."""
        stored = self.stored
        return tuple(plan.build(stored) for plan in self.plans.values())

    @property
    def ceiling(self) -> int:
        """Most pages a region can ever have: RAM and swap."""
        ram = sum(zone.managed for zone in self.node.zones)
        return ram + sum(swap.size_pages for swap in self.node.swaps)

    @property
    def ratio(self) -> float:
        """What memory compresses to by default: size over stored size."""
        return RATIOS[self.compressor]

    @property
    def stored(self) -> float:
        """Bytes that a page of a region without compressibility is stored in."""
        return PAGE_SIZE / self.ratio

    @property
    def compresses(self) -> bool:
        """Whether anything on this node compresses memory."""
        zswap = self.node.zswap
        return (zswap is not None and zswap.enabled) or any(s.zram for s in self.node.swaps)

    def note(self, text: str) -> None:
        """Remember an assumption, once."""
        if text not in self.assumptions:
            self.assumptions.append(text)

    def note_of(self, container: str, text: str) -> None:
        """Remember an assumption about a container, once for all that share it."""
        names = self.said.setdefault(text, [])
        if container not in names:
            names.append(container)

    def noted(self) -> tuple[str, ...]:
        """All assumptions, those of containers last."""
        return (*self.assumptions, *(f"{', '.join(of)}: {text}" for text, of in self.said.items()))

    def plan(
        self, name: str, region: Region, size: int, warm: bool, written: bool = False
    ) -> MappingPlan:
        """The mapping of that name, made if it is not there yet.

        ``size`` is the extent a warm start finds; anonymous memory of a process that starts
        later is empty at t = 0, files have their length. A file that is ``written`` has so
        far only the part that is in memory, and grows to its length.
        """
        found = self.plans.get(name)
        if found is None:
            found = MappingPlan(region, Extent(name, region.kind))
            found.disk = region.disk or self.node.disks[0].name
            self.plans[name] = found
            self.unsaid += region.compressibility is None and region.kind in ("anon", "shmem")
            found.lay_out(size, warm, written)
        elif region.kind == "file" and size > found.size and found.extent.limit is None:
            # the same path at another length: the longest is the file's
            found.lay_out(size, warm, written)
        return found


def resident_pages(region: Region, size: int) -> int:
    """Pages of a region that a warm start has in memory.

    A share is told from a size by being at most 1: nobody means one byte.
    """
    wanted = region.resident
    if wanted is None:
        return size
    exact = float(getattr(wanted, "exact", wanted))
    return round(size * exact) if exact <= 1 else min(to_pages(exact), size)
