"""The map of swap slots and the slots cache, as the ledger counts them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from capplan.mm import state as s
from capplan.mm.swap_map import COUNT, FREE


def slots_cache(ledger: Any, areas: int) -> tuple[Any, Any]:
    """Pages of slots that are taken ahead or given back and kept: by area, by owner."""
    k = ledger.k
    by_area, by_owner = np.zeros(areas, np.int64), np.zeros(ledger.groups, np.int64)
    cached = k["cached_slot"][int(k["cached_at"]) :][: int(k["nr_cached_slots"])]
    count = int(k["nr_returned_slots"])
    returned, pages = k["returned_slot"][:count], k["returned_pages"][:count]
    for slots, sizes in ((cached, np.full(len(cached), k["granule_pages"])), (returned, pages)):
        ends = (k["swap"]["first_slot"] + k["swap"]["nr_slots"])[:areas]
        np.add.at(by_area, np.searchsorted(ends, slots, side="right"), sizes)
    owners = k["returned_owner"][:count]
    np.add.at(by_owner, owners[owners >= 0], pages[owners >= 0])
    return by_area, by_owner


def swap_map(ledger: Any, held: Any) -> Iterator[tuple[str, Any, Any]]:
    """The map has each entry at its slot and nobody else; clusters count what is not free."""
    k = ledger.k
    size = max(s.SWAPFILE_CLUSTER >> int(k["g"]), 1)
    cells = ledger.swap_cells[int(k["first_slot"]) :].ravel()
    slots = ledger.entries["slot"]
    yield ("M6: holder of the slot of", cells[slots[held]], np.flatnonzero(held))
    for area in k["swap"][: int(k["nr_swaps"])]:
        first, count = int(area["first_slot"]), int(area["nr_slots"])
        there = cells[first : first + count]
        yield ("M6: entries of", (there >= 0).sum(), (held & (slots >= first)
                         & (slots < first + count)).sum())  # fmt: skip
        clusters = -(-count // size)
        used = np.ones(clusters * size, np.bool_)
        used[:count] = there != FREE
        records = ledger.swap_cells[int(area["first_cluster"]) :][:clusters]
        yield ("M6: slots of cluster", records[:, COUNT], used.reshape(-1, size).sum(1))
