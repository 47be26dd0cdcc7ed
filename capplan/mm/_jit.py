"""The only place that names numba.

``jit`` marks a mechanism (compiled when an entry calls it), ``entry`` marks the few
functions that Python calls in a hot loop. ``CAPPLAN_JIT=0`` leaves both as plain Python:
the same source, to debug, to count coverage, and to compare with the compiled run.

Why so little is cached: only entries are written to disk, each with everything it calls
linked in, so a warm start reads one file. numba's cache does not notice an edit in another
module, so the cache folder's name is a hash of all sources of ``mm`` and ``sim``, of the
versions of numba, llvmlite and numpy, and of the NUMBA_ flags.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any, TypeVar

ENABLED = os.environ.get("CAPPLAN_JIT", "1") != "0"

# Wrappers let Python call every mechanism (tests do); they cost compile time, so they are
# off unless asked for.
_WRAPPERS = os.environ.get("CAPPLAN_JIT_WRAPPERS", "0") == "1"


def source_hash() -> str:
    """Hash of everything the compiled code depends on (hex, 16 digits)."""
    digest = hashlib.sha256()
    package = pathlib.Path(__file__).resolve().parent.parent
    for folder in ("mm", "sim"):
        for path in sorted((package / folder).glob("*.py")):
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    for name in ("numba", "llvmlite", "numpy"):
        digest.update(f"{name}={importlib.metadata.version(name)}".encode())
    flags = sorted(f"{k}={v}" for k, v in os.environ.items() if k.startswith("NUMBA_"))
    digest.update("\n".join([*flags, sys.version, str(_WRAPPERS)]).encode())
    return digest.hexdigest()[:16]


def cache_dir() -> pathlib.Path:
    """Folder of the compiled engine: one per :func:`source_hash`."""
    base = os.environ.get("CAPPLAN_CACHE_DIR")
    if base is None:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        base = os.path.join(base, "capplan")
    return pathlib.Path(base) / source_hash()


def is_compiled() -> bool:
    """Whether a warm start is possible (an entry is in the cache)."""
    return not ENABLED or any(cache_dir().glob("**/*.nbi"))


if ENABLED:
    os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_dir()))
    import numba
    import numba.core.config

    numba.core.config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]

_OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True}


F = TypeVar("F", bound=Callable[..., Any])


def jit(function: F) -> F:
    """Compile a mechanism (never from Python's side unless wrappers are on)."""
    if not ENABLED:
        return function
    options = dict(_OPTIONS)
    if not _WRAPPERS:
        options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return numba.njit(**options)(function)  # type: ignore[no-any-return]


class entry:  # noqa: N801 - reads like the decorator it is
    """Compile a function that Python calls often; its arguments never change type.

    numba works out the type of each argument at each call, which costs a millisecond for
    the nested records used here. After the first call the compiled wrapper is called itself.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.py_func = function
        self._call: Callable[..., Any] | None = None if ENABLED else function
        self._dispatcher: Any = numba.njit(cache=True, **_OPTIONS)(function) if ENABLED else None

    def __call__(self, *args: Any) -> Any:
        if self._call is None:
            result = self._dispatcher(*args)
            (overload,) = self._dispatcher.overloads.values()
            self._call = overload.entry_point
            return result
        return self._call(*args)
