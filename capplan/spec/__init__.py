"""What people write: models of node files and profiles, loading, checks.

The loader is imported when it is first asked for, since pydantic takes a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from capplan.spec.loader import Loaded, NodeSpec, Source, load, load_profile

__all__ = ["Loaded", "NodeSpec", "Source", "load", "load_profile"]


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import capplan.spec.loader

    return getattr(capplan.spec.loader, name)
