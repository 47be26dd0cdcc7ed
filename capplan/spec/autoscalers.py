"""Autoscalers of a cluster that work on this node's pods: the objects' own keys, and flags.

Each is named after the container that it scales (its targetRef). Only memory is looked at.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from capplan.spec.common import Bytes, Duration, Factor, Model, Share, only_one, problem

HOUR = 3600 * 10**9
Whole = Annotated[int, Field(ge=0, le=1_000_000)]
Replicas = Annotated[int, Field(ge=1, le=1000)]


class Memory(Model):
    """Resources of which only memory counts here."""

    memory: Bytes


class Vpa(Model):
    """A VerticalPodAutoscaler, and the flags of its recommender and updater."""

    update_mode: Annotated[
        Literal["Off", "Initial", "Recreate", "Auto", "InPlaceOrRecreate"],
        Field(alias="updateMode"),
    ] = "Recreate"
    controlled_values: Annotated[
        Literal["RequestsAndLimits", "RequestsOnly"], Field(alias="controlledValues")
    ] = "RequestsAndLimits"
    min_allowed: Annotated[Memory | None, Field(alias="minAllowed")] = None
    max_allowed: Annotated[Memory | None, Field(alias="maxAllowed")] = None
    min_replicas: Annotated[Replicas, Field(alias="minReplicas")] = 2
    """With fewer replicas the updater does nothing (--min-replicas)."""
    oom_bump_up_ratio: Annotated[Annotated[Factor, Field(ge=1)],
                                 Field(alias="oom-bump-up-ratio")] = 1.2  # fmt: skip
    oom_min_bump_up: Annotated[Bytes, Field(alias="oom-min-bump-up-bytes")] = 100 << 20
    percentile: Annotated[Share, Field(alias="target-memory-percentile")] = 0.9
    margin: Annotated[Share, Field(alias="recommendation-margin-fraction")] = 0.15
    min_memory_mb: Annotated[Whole, Field(alias="pod-recommendation-min-memory-mb")] = 250
    aggregation: Annotated[Duration, Field(alias="memory-aggregation-interval")] = 24 * HOUR
    half_life: Annotated[Duration, Field(alias="memory-histogram-decay-half-life")] = 24 * HOUR
    update_threshold: Annotated[Share, Field(alias="pod-update-threshold")] = 0.1
    eviction_tolerance: Annotated[Share, Field(alias="eviction-tolerance")] = 0.5
    evict_after_oom: Annotated[Duration, Field(alias="evict-after-oom-threshold")] = HOUR // 6
    lifetime: Annotated[
        Duration, Field(alias="in-recommendation-bounds-eviction-lifetime-threshold")
    ] = 12 * HOUR
    grace: Annotated[Whole, Field(alias="terminationGracePeriodSeconds")] = 30

    @model_validator(mode="after")
    def _order(self) -> Vpa:
        low, high = self.min_allowed, self.max_allowed
        if low is not None and high is not None and low.memory > high.memory:
            raise problem("order", "minAllowed is above maxAllowed", "minAllowed at or below it")
        if self.aggregation == 0 or self.half_life == 0:
            raise problem("duration", "a duration of 0", "more than 0, such as 24h")
        return self


class Policy(Model):
    """How fast replicas may come or go."""

    type: Literal["Percent", "Pods"]
    value: Annotated[int, Field(ge=1, le=1_000_000)]
    period_seconds: Annotated[int, Field(alias="periodSeconds", ge=1, le=1800)]


class Rules(Model):
    """One direction of an HPA's behavior; what is left out has the default."""

    window: Annotated[int | None, Field(alias="stabilizationWindowSeconds", ge=0, le=3600)] = None
    policies: Annotated[tuple[Policy, ...], Field(min_length=1)] | None = None
    select: Annotated[Literal["Max", "Min", "Disabled"], Field(alias="selectPolicy")] = "Max"
    tolerance: Share | None = None
    """Share of the target that is near enough in this direction (HPAConfigurableTolerance)."""


class Behavior(Model):
    """scaleUp and scaleDown of an HPA."""

    up: Annotated[Rules, Field(alias="scaleUp")] = Rules()
    down: Annotated[Rules, Field(alias="scaleDown")] = Rules()


class Hpa(Model):
    """A HorizontalPodAutoscaler on the resource memory; all its pods come to this node."""

    min_replicas: Annotated[Replicas, Field(alias="minReplicas")] = 1
    max_replicas: Annotated[Replicas, Field(alias="maxReplicas")]
    utilization: Annotated[int | None, Field(alias="averageUtilization", ge=1, le=10_000)] = None
    """Percent of the request."""
    value: Annotated[Bytes | None, Field(alias="averageValue")] = None
    tolerance: Share = 0.1
    behavior: Behavior = Behavior()
    grace: Annotated[Whole, Field(alias="terminationGracePeriodSeconds")] = 30
    shares_load: bool = True
    """What phases do is the load: more replicas do less of it each. false: each brings all."""

    @model_validator(mode="after")
    def _sensible(self) -> Hpa:
        only_one(self, "utilization", "value")
        if self.min_replicas > self.max_replicas:
            message = "minReplicas is above maxReplicas"
            raise problem("order", message, "minReplicas at or below it")
        return self
