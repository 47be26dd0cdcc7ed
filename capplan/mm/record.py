"""Records: numpy types whose fields are attributes in plain Python too."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Record", "attributes", "filled", "record"]

CACHE_LINE = 64  # bytes


def record(fields: list[Any], **other: Any) -> np.dtype[Any]:
    """A record type, its fields aligned as in C.

    ``other`` names what its bytes may be instead, as in a union: ``cells=(int32, 8)``.
    """
    dtype = np.dtype(fields, align=True)
    if not other:
        return dtype
    known: Any = dtype.fields
    return np.dtype(
        {
            "names": [*known, *other],
            "formats": [*(field[0] for field in known.values()), *other.values()],
            "offsets": [*(field[1] for field in known.values()), *(0 for _ in other)],
            "itemsize": dtype.itemsize,
        },
        align=True,
    )


class Record(np.record):  # type: ignore[misc]
    """A record whose fields win over numpy's own attributes.

    ``np.record`` gives ``frame.flags`` and ``counter.max`` numpy's meaning.
    """

    def __getattribute__(self, name: str) -> Any:
        """Return the field of that name; nested records give their fields alike."""
        dtype = np.void.__getattribute__(self, "dtype")
        if dtype.fields is None or name not in dtype.fields:
            return np.void.__getattribute__(self, name)
        value = np.void.__getitem__(self, name)
        if not isinstance(value, np.generic | np.ndarray):
            return value
        if value.dtype.names is not None:
            return value.view(np.dtype((Record, value.dtype)))
        # a plain number: products of narrow fields are 64 bits wide in compiled code
        return value.item() if isinstance(value, np.generic) else value

    def __setattr__(self, name: str, value: Any) -> None:
        """Write the field of that name."""
        self[name] = value


def attributes(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Give ``record.field`` in plain Python.

    Only the outermost type is a Record: as a nested field it would lose its alignment,
    which numba refuses.
    """
    return np.dtype((Record, dtype))


def filled(number: int, one: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """``(number,)`` records like the one in ``one``; the first begins a cache line."""
    size = one.dtype.itemsize
    buffer = np.empty(number * size + CACHE_LINE, np.uint8)
    start = -buffer.ctypes.data % CACHE_LINE
    records = buffer[start : start + number * size]
    records.view(f"V{size}")[:] = one.view(f"V{size}")
    return records.view(attributes(one.dtype))
