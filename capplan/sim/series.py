"""A run's series by name, read from the rows of samples when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["Layout", "LazySeries"]

Array = np.ndarray[Any, Any]
Place = tuple[str, tuple[Any, ...], float]
"""A block of the rows, what stands in it behind the row's number, and the factor."""


class Layout:
    """Where each series stands: runs of many have one in common."""

    def __init__(self, places: dict[str, Place]) -> None:
        self.places = places
        self._tables: dict[tuple[str, ...], Place | None] = {}

    def table(self, names: tuple[str, ...]) -> Place | None:
        """Where series that stand in one block stand together; None for others."""
        if names not in self._tables:
            self._tables[names] = self._together(names)
        return self._tables[names]

    def _together(self, names: tuple[str, ...]) -> Place | None:
        found = [self.places[name] for name in names if name in self.places]
        kinds = {(block, factor, len(index)) for block, index, factor in found}
        summed = any(isinstance(i, slice) for _, index, _ in found for i in index)
        if len(found) < len(names) or len(kinds) != 1 or summed:
            return None
        ((block, factor, _),) = kinds
        return block, tuple(np.array([index for _, index, _ in found]).T), factor


class LazySeries(Mapping[str, Array]):
    """Series by name, each worked out of the samples when it is first asked for.

    A run of many asks for a few dozen of some thousand.
    """

    def __init__(self, layout: Layout, blocks: Mapping[str, Array]) -> None:
        self._layout = layout
        self._blocks = blocks
        self._made: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        if name not in self._made:
            block, index, factor = self._layout.places[name]
            samples = self._blocks[block][:, *index]
            # several columns are those of a group and all below it
            whole = samples if samples.ndim == 1 else samples.sum(axis=1)
            self._made[name] = _scaled(whole, factor)
        return self._made[name]

    def table(self, names: Sequence[str]) -> Array | None:
        """Series as rows, where they stand in one block: worked out at once."""
        place = self._layout.table(tuple(names))
        if place is None:
            return None
        block, index, factor = place
        return _scaled(self._blocks[block][:, *index].T, factor)

    def __contains__(self, name: object) -> bool:
        return name in self._layout.places

    def __iter__(self) -> Iterator[str]:
        return iter(self._layout.places)

    def __len__(self) -> int:
        return len(self._layout.places)


def _scaled(samples: Array, factor: float) -> Array:
    if factor == 1:
        return samples
    return samples * factor if factor > 1 else samples / round(1 / factor)
