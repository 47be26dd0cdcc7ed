"""cgroup v1 without ``memory.oom_control``: capplan assumes a pause, a stock kernel kills."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capplan.sim.result import Run
    from capplan.sim.scenario import Scenario

__all__ = ["pause_is_assumed", "stock_kernel"]


def pause_is_assumed(run: Run) -> bool:
    """Whether anything was paused because ``oom_kill_disable`` was left out."""
    assumed = any(group.oom_kill_disable_assumed for group in run.scenario.cgroups)
    return assumed and any(event.event == "paused" for event in run.events)


def stock_kernel(scenario: Scenario) -> Scenario:
    """The scenario with ``oom_kill_disable: 0``, a stock kernel's, where 1 was assumed."""
    cgroups = tuple(
        dataclasses.replace(group, oom_kill_disable=False)
        if group.oom_kill_disable_assumed
        else group
        for group in scenario.cgroups
    )
    return dataclasses.replace(scenario, cgroups=cgroups)
