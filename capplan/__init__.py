"""capplan: a planner for container memory that knows the kernel.

>>> import capplan
>>> result = capplan.simulate(capplan.load("node.yaml"))  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from capplan.api import RiskResult, Simulation, expand, load, risk, simulate
    from capplan.api_compare import ComparisonResult, compare
    from capplan.api_headroom import HeadroomResult, RecommendationResult, headroom, recommend
    from capplan.api_sweep import SweepResult, sweep
    from capplan.errors import CapplanError
    from capplan.sim.result import Event, Run
    from capplan.sim.scenario import Scenario

__version__ = "0.1.0"

__all__ = [
    "CapplanError",
    "ComparisonResult",
    "Event",
    "HeadroomResult",
    "RecommendationResult",
    "RiskResult",
    "Run",
    "Scenario",
    "Simulation",
    "SweepResult",
    "compare",
    "expand",
    "headroom",
    "load",
    "recommend",
    "risk",
    "simulate",
    "sweep",
]

# Imported when first asked for: `import capplan` costs nothing.
_EXPORTS = {
    "CapplanError": "capplan.errors",
    "ComparisonResult": "capplan.api_compare",
    "Event": "capplan.sim.result",
    "HeadroomResult": "capplan.api_headroom",
    "RecommendationResult": "capplan.api_headroom",
    "RiskResult": "capplan.api",
    "Run": "capplan.sim.result",
    "Scenario": "capplan.sim.scenario",
    "Simulation": "capplan.api",
    "SweepResult": "capplan.api_sweep",
    "compare": "capplan.api_compare",
    "expand": "capplan.api",
    "headroom": "capplan.api_headroom",
    "load": "capplan.api",
    "recommend": "capplan.api_headroom",
    "risk": "capplan.api",
    "simulate": "capplan.api",
    "sweep": "capplan.api_sweep",
}


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'capplan' has no attribute '{name}'")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
