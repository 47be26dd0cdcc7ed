"""``capplan import kubernetes``: manifests, or a cluster's pods, as a node file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from capplan.cli.import_ import finish, import_options

if TYPE_CHECKING:
    from capplan.sources.kubernetes import KubeNode, Objects

FILE = click.Path(path_type=Path, exists=True)


@click.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--node", "name", help="Which node, where the files have several.")
@click.option("--stats", type=FILE, help="The kubelet's /stats/summary: what containers use.")
@click.option("--memory", help="The node's memory (16Gi), where no Node object says it.")
@click.option("--cpus", type=click.IntRange(min=1), help="Its CPUs.")
@click.option("--kernel", help="Its kernel release.")
@click.option(
    "--cgroup", type=click.Choice(["v1", "v2"]), default="v2", show_default=True,
    help="Its cgroup version.",
)  # fmt: skip
@import_options
def kubernetes(files: tuple[Path, ...], out: Path, force: bool, **options: Any) -> None:
    """Write a node file of pods: groups, limits and OOM scores as the kubelet computes them.

    FILES are manifests or what `kubectl get pods,nodes -o yaml` prints (YAML or JSON, .gz or not,
    folders of them), and the kubelet's configuration.
    """
    from capplan.sources.kubernetes import read_objects
    from capplan.sources.kubernetes_node import draft_of
    from capplan.sources.kubernetes_stats import read_node, read_stats

    stats = options["stats"]
    objects = read_objects(_flat(files))
    node = _node(objects, **options)
    whole = None if stats is None else read_node(stats)
    if whole is not None and not node.swap:
        node = replace(node, swap=whole.swap)
    draft = draft_of(
        objects,
        node=node,
        cgroup=options["cgroup"],
        stats=None if stats is None else read_stats(stats),
        whole=whole,
    )
    finish(draft, out, force=force)


def _flat(files: tuple[Path, ...]) -> list[Path]:
    """Files, and those in folders that may be manifests."""
    found: list[Path] = []
    for path in files:
        if path.is_dir():
            kinds = (".yaml", ".yml", ".json", ".gz")
            found += sorted(p for p in path.rglob("*") if p.suffix in kinds and p.is_file())
        else:
            found.append(path)
    return found


def _node(
    objects: Objects, *, name: str | None, memory: str | None, cpus: int | None,
    kernel: str | None, **_rest: Any,
) -> KubeNode:  # fmt: skip
    """The node that is meant, with what the options say of it."""
    from capplan.errors import InputError, closest
    from capplan.sources.kubernetes import KubeNode
    from capplan.units import UnitError, parse_size

    nodes = {node.name: node for node in objects.nodes}
    if name is not None and nodes and name not in nodes:
        near = closest(name, nodes)
        meant = f"\n    did you mean '{near}'?" if near else ""
        raise InputError(f"no node '{name}' in these files (there are: {', '.join(nodes)}){meant}")
    if name is None and len(nodes) > 1:
        raise InputError(f"several nodes: {', '.join(nodes)}\n    expected --node NAME")
    found = nodes.get(name) if name is not None else next(iter(nodes.values()), None)
    if found is None:
        if memory is None and objects.pods:
            raise InputError("no Node object in these files\n    expected one, or --memory 16Gi")
        where = {pod.node for pod in objects.pods}
        found = KubeNode(name or (where.pop() if len(where) == 1 else "") or "node", 0, 4)
    try:
        size = found.memory if memory is None else int(parse_size(memory))
    except UnitError as error:
        raise InputError(f"--memory: {error}") from error
    return replace(
        found, memory=size, cpus=cpus or found.cpus, kernel=kernel or found.kernel,
        allocatable=found.allocatable if memory is None else None,
    )  # fmt: skip
