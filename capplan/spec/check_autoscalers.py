"""Named checks of autoscalers: whom they scale, and what makes them do nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from capplan.errors import Problem, closest, quoted
from capplan.spec.tree import shown_path
from capplan.units import UNLIMITED

if TYPE_CHECKING:
    from capplan.spec.loader import NodeSpec
    from capplan.spec.node import Container

__all__ = ["check_autoscalers"]


def check_autoscalers(spec: NodeSpec) -> Iterator[Problem]:
    """A target that exists, has a request and a pod of its own, and is not scaled twice."""
    for kind, scalers in (("vpa", spec.vpas), ("hpa", spec.hpas)):
        for name in scalers:
            container = spec.containers.get(name)
            if container is None:
                near = closest(name, spec.containers)
                known = f"one of {', '.join(spec.containers)}" if spec.containers else "a container"
                yield _problem(
                    spec, kind, name, f"there is no container {quoted(name)}", known, near
                )
            else:
                yield from _target(spec, kind, name, container)
    for name in spec.vpas:
        if name in spec.hpas:
            message = "a VPA and an HPA on the same memory work against each other"
            yield _problem(spec, "vpa", name, message, "one of them, or updateMode: 'Off'",
                           severity="warning")  # fmt: skip
        elif name in spec.containers:
            yield from _idle(spec, name)


def _target(spec: NodeSpec, kind: str, name: str, container: Container) -> Iterator[Problem]:
    limit = next(
        (v for v in (container.memory_max, container.memory_limit_in_bytes) if v is not None),
        UNLIMITED,
    )
    by_value = kind == "hpa" and spec.hpas[name].value is not None
    if not container.requests_memory and limit == UNLIMITED and not by_value:
        message = f"{name} requests no memory"
        yield _problem(spec, kind, name, message, f"containers.{name}.requests.memory")
    if container.cgroup is not None or container.pod:
        key = "cgroup" if container.cgroup is not None else "pod"
        message = f"{name} shares a {'group' if key == 'cgroup' else 'pod'} with others"
        yield _problem(spec, kind, name, message, f"a container without {key}")
    if any(name in (*step.start, *step.stop) for step in spec.timeline):
        message = f"the timeline starts or stops {name}"
        yield _problem(spec, kind, name, message, "a container that only the autoscaler starts")
    traced = any(p.trace is not None for p in spec.sources[name].profile.processes.values())
    if kind == "hpa" and traced:
        message = f"{name} follows a trace: its load is recorded, not shared out"
        yield _problem(spec, kind, name, message, "a profile with phases")


def _idle(spec: NodeSpec, name: str) -> Iterator[Problem]:
    vpa, replicas = spec.vpas[name], spec.containers[name].replicas
    if vpa.update_mode not in ("Off", "Initial") and replicas < vpa.min_replicas:
        message = f"the updater does nothing: {replicas} replicas, and minReplicas is "
        message += str(vpa.min_replicas)
        yield _problem(spec, "vpa", name, message, f"minReplicas: {max(replicas, 1)}",
                       code="C032", severity="warning")  # fmt: skip


def _problem(
    spec: NodeSpec, kind: str, name: str, message: str, expected: str, near: str = "",
    code: str = "C019", severity: str = "error",
) -> Problem:  # fmt: skip
    place = spec.key_place(kind, name)
    return Problem(place, shown_path((kind, name)), message, expected, near, code, severity)
