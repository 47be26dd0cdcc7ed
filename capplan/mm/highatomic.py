"""The highatomic reserve: pageblocks kept for atomic requests of higher orders (mm/page_alloc.c).

    an atomic request of order > 0 below LOW keeps its pageblock, up to 1 % of the zone
    reclaim that freed pages and got none  -> pageblocks beyond the first go back to movable pages
    before the OOM killer                  -> all of them

Who fills it are network and block drivers (GFP_ATOMIC slab of order 1 to 3); no input of a
simulation says how much they ask for, so nothing here fills it: a captured node brings the
pageblocks that it had (pagetypeinfo), and they stand in nobody's reach until pressure frees them.
"""

from __future__ import annotations

from typing import Any

from capplan.mm._jit import rare
from capplan.mm.buddy import convert_pageblocks
from capplan.mm.cpuset import node_allowed
from capplan.mm.page_alloc import zonelist_zone
from capplan.mm.state import (
    MT_HIGHATOMIC,
    MT_MOVABLE,
    NR_ORDERS,
    PAGEBLOCK_ORDER,
    ZONES_PER_NODE,
)

__all__ = ["unreserve_highatomic_pageblock"]


@rare
def unreserve_highatomic_pageblock(k: Any, fr: Any, node: int, force: bool) -> bool:
    """Give one reserved pageblock that has free pages back to movable ones; False: there is none.

    Parameters
    ----------
    node : int
        Where the zonelist begins.
    force : bool
        The last pageblock of a zone too.

    Kernel
    ------
    mm/page_alloc.c, unreserve_highatomic_pageblock(); the smallest free block decides which.

    Worked example
    --------------
    Two pageblocks, 1024 pages in reserve: unforced one goes, 512 stay; forced that one too.
    """
    for step in range(k.nr_zones):
        z = zonelist_zone(k, node, step)
        zone = k.zone[z]
        if zone.managed == 0 or not node_allowed(k, z // ZONES_PER_NODE):
            continue
        if not force and zone.nr_reserved_highatomic <= 1 << PAGEBLOCK_ORDER:
            continue
        for order in range(k.g, NR_ORDERS):
            i = zone.head[order, MT_HIGHATOMIC]
            if i < 0:
                continue
            pages = convert_pageblocks(k, fr, z, i, MT_MOVABLE)
            if pages > 0:
                zone.nr_reserved_highatomic -= min(pages, zone.nr_reserved_highatomic)
                return True
    return False
