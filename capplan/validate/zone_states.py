"""Watermarks of real kernels: which rule explains the gaps of a captured dump of all zones.

A state is one dump: of an OOM report, of an allocation failure, of /proc/zoneinfo. The first
of these rules counts that fits all its zones.

``exact``       gap = max(min // 4, managed * 10 // 10000), as computed today
``before 4.6``  low = min + min // 4, high = min + min // 2
``boot``        the same with fewer managed pages than today, at least nine tenths of them
``boost``       the printed min holds a boost of whole pageblocks, or of the 1.5 * high cap
"""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capplan.mm import state, watermark

PARSED = ("oom.json.gz", "zones.json.gz")
SCALE_FACTOR = 10
# A special min mark (32 to 128 pages), so the share of min_free_kbytes cannot be seen.
SPECIAL = ("HighMem", "Movable")
RULES = {
    "exact": "low and high follow from min and the managed pages, as computed",
    "before 4.6": "low = min + min / 4, high = min + min / 2",
    "boot": "the same with fewer managed pages than today, at least nine tenths",
    "boost": "the printed min holds a watermark boost",
    "not set yet": "marks were not set yet",
    "unexplained": "low and high of a zone were printed with boosts 512 pages apart",
}


@dataclass(frozen=True)
class Zone:
    """A zone as printed. [pages]"""

    node: int
    name: str
    min: int
    low: int
    high: int
    managed: int
    boost: int  # printed; 0 where the release does not print it
    pageblock: int  # [pages]

    @property
    def gaps(self) -> tuple[int, int]:
        """low - min, high - low."""
        return self.low - self.min, self.high - self.low


def of_report(report: dict[str, Any]) -> tuple[Zone, ...]:
    """The zones of a parsed report that manage pages."""
    page = report["page_kb"] or 4
    zones = []
    for zone in report["zones"]:
        managed = zone["present_kb"] if zone["managed_kb"] is None else zone["managed_kb"]
        if managed:
            marks = zone["min_kb"] // page, zone["low_kb"] // page, zone["high_kb"] // page
            pages = managed // page, (zone["boost_kb"] or 0) // page
            pageblock = 512 if page == 4 else 8192  # 512 MiB with pages of 64 KiB
            zones.append(Zone(zone["node"], zone["zone"], *marks, *pages, pageblock))
    return tuple(zones)


@dataclass(frozen=True)
class State:
    """One dump of all zones, and where it is from."""

    name: str
    kernel: str
    zones: tuple[Zone, ...]

    @property
    def rule(self) -> str:
        """The rule that explains it, a key of :data:`RULES`."""
        return rule_of(self.zones)

    def as_json(self) -> dict[str, Any]:
        """As the committed figures hold it: zones as "node name: min/low/high of managed"."""
        zones = [f"{z.node} {z.name}: {z.min}/{z.low}/{z.high} of {z.managed}" for z in self.zones]
        return {"name": self.name, "kernel": self.kernel, "rule": self.rule, "zones": zones}


def of_zoneinfo(text: str) -> tuple[Zone, ...]:
    """The zones of a /proc/zoneinfo that manage pages."""
    zones = []
    for part in re.split(r"^(?=Node \d+, zone)", text, flags=re.MULTILINE)[1:]:
        head = re.match(r"Node (\d+), zone\s+(\S+)", part)
        if head is None:
            continue
        found: dict[str, int] = {}
        for name, value in re.findall(
            r"^\s+(min|low|high|present|managed|boost)\s+(\d+)", part, re.M
        ):
            found.setdefault(name, int(value))
        managed = found.get("managed", found["present"])  # not told apart before 3.8
        if managed:
            marks = found["min"], found["low"], found["high"]
            zones.append(Zone(int(head[1]), head[2], *marks, managed, found.get("boost", 0), 512))
    return tuple(zones)


def load_states(folder: Path) -> list[State]:
    """All distinct states of an evidence folder, the first of equal ones.

    Raises
    ------
    FileNotFoundError
        ``folder`` holds no ``kernel-evidence``.
    """
    evidence = folder / "kernel-evidence"
    found: dict[tuple[Zone, ...], State] = {}
    for name in PARSED:
        with gzip.open(evidence / name, "rt", encoding="utf-8") as file:
            for report in json.load(file):
                zones = of_report(report)
                kernel = str(report["kernel"] or "not given")
                found.setdefault(zones, State(report["id"], kernel, zones))
    for path in sorted((evidence / "zoneinfo").glob("*.txt")):
        text = path.read_text(encoding="utf-8")
        said = re.search(r"kernel: (\S+)", text.partition("\n")[0])
        zones = of_zoneinfo(text)
        found.setdefault(zones, State(path.stem, said[1] if said else "not given", zones))
    return [state for zones, state in found.items() if zones]


def gaps(zone: Zone, share: int, managed: int, factor: int = SCALE_FACTOR) -> tuple[int, int]:
    """The gaps that watermark_scale_factor gives a zone with this share of min_free_kbytes."""
    low, middle, high, _ = watermark.zone_marks(managed, share, factor)
    return middle - low, high - middle


def fits_exactly(zone: Zone) -> bool:
    """Whether the gaps are those of today's managed pages."""
    if zone.name in SPECIAL:
        # whatever the share is, it only widens the gap
        return zone.gaps[0] == zone.gaps[1] >= gaps(zone, 0, zone.managed)[0]
    return zone.gaps == gaps(zone, zone.min - zone.boost, zone.managed)


def fits_before_4_6(zone: Zone) -> bool:
    """Whether the gaps are a quarter of min each."""
    return zone.gaps == gaps(zone, zone.min, zone.managed, 0)


def fits_with_a_boost(zone: Zone) -> bool:
    """Some share and some boost of it, as boost_watermark() makes them, give min and gaps."""
    for boosts in range(1, zone.min // zone.pageblock + 1):
        if fits_fewer_pages_at_boot(zone, zone.min - boosts * zone.pageblock):
            return True
    return any(
        share + capped_boost(zone, share) == zone.min
        for share in range(zone.gaps[0] * 4, zone.gaps[0] * 4 + 4)
        if zone.gaps == gaps(zone, share, zone.managed)
    )


KERNEL = state.new_kernel()


def capped_boost(zone: Zone, share: int) -> int:
    """Largest boost of a zone with that share."""
    k = KERNEL[0]
    k.watermark_boost_factor = 15000
    k.zone[0].managed = zone.managed
    marks = watermark.zone_marks(zone.managed, share, SCALE_FACTOR)
    watermark.set_zone_wmarks(k, 0, *marks[:3])
    before = -1
    while before != int(k.zone[0].boost):
        before = int(k.zone[0].boost)
        watermark.boost_watermark(k, 0)
    return before


def fits_fewer_pages_at_boot(zone: Zone, share: int | None = None) -> bool:
    """Whether the gaps are those of fewer managed pages, at least nine tenths."""
    share = zone.min - zone.boost if share is None else share
    fewest = gaps(zone, share, zone.managed * 9 // 10)[0]
    most = gaps(zone, share, zone.managed)[0]
    return zone.gaps[0] == zone.gaps[1] and fewest <= zone.gaps[0] <= most


def rule_of(zones: tuple[Zone, ...]) -> str:
    """The first rule that explains all zones of a state."""
    if not any(zone.high for zone in zones):
        return "not set yet"
    if all(fits_before_4_6(zone) for zone in zones) and not all(map(fits_exactly, zones)):
        return "before 4.6"
    left = [zone for zone in zones if not fits_exactly(zone)]
    if not left:
        return "exact"
    if all(fits_fewer_pages_at_boot(zone) for zone in left):
        return "boot"
    if all(fits_fewer_pages_at_boot(zone) or fits_with_a_boost(zone) for zone in left):
        return "boost"
    return "unexplained"
