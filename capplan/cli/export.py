"""``capplan export``: a recommendation in the format that is applied."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from capplan.targets.advice import Advised

KINDS = ("kubernetes", "helm", "kubelet", "compose", "sysctl", "systemd")


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("result", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write to.  [default: print]",
)
@click.option(
    "--workload",
    type=click.Choice(["Deployment", "StatefulSet", "DaemonSet", "Job"]),
    default="Deployment",
    show_default=True,
    help="kubernetes: what runs the containers.",
)
@click.option("--namespace", "-n", default="", help="kubernetes: its namespace.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
def export(
    kind: str, result: Path, out: Path | None, workload: str, namespace: str, force: bool
) -> None:
    """Write RESULT (of `capplan recommend`, `compare` or `headroom`) as KIND.

    kubernetes: strategic-merge patches and a kustomization; helm: values; kubelet: a configuration
    fragment; compose: an override file; sysctl: for /etc/sysctl.d; systemd: drop-ins. Of a
    comparison the picked setting's changes are written, of a headroom the lower limits. --workload
    and --namespace are for containers of which the node file does not say whose they are.
    """
    from capplan.errors import InputError
    from capplan.report.files import replace_file
    from capplan.targets import kubernetes, system
    from capplan.targets.advice import read_advice

    advised = read_advice(result)
    writers: dict[str, Callable[[Advised], dict[str, str]]] = {
        "kubernetes": lambda advised: kubernetes.patches(advised, workload, namespace),
        "helm": kubernetes.helm_values,
        "kubelet": kubernetes.kubelet_fragment,
        "compose": system.compose_override,
        "sysctl": system.sysctl_conf,
        "systemd": system.systemd_dropins,
    }
    files = writers[kind](advised)
    _tell(advised, kind)
    if not files:
        held = ", ".join(name for name, writer in writers.items() if writer(advised))
        why = f"expected one of: {held}" if held else "what it picks is as written"
        raise InputError(f"{result}: nothing in it for {kind}\n    {why}")
    if out is None:
        click.echo("\n".join(_titled(files)), nl=False)
        return
    base = out.resolve()
    for name in files:
        path = (out / name).resolve()
        if not path.is_relative_to(base):
            raise InputError(f"{name}: leads out of {out}: a container's name may not do that")
        if path.exists() and not force:
            raise InputError(f"{path}: there already; --force replaces it")
    for name, text in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        click.echo(f"wrote {replace_file(out / name, text.encode())}")


def _tell(advised: Advised, kind: str) -> None:
    """Say on stderr what is not in the files."""
    from capplan.targets.kubernetes import left_out

    told = [f"{other}: left out, none of these formats holds it" for other in advised.others]
    if kind in ("kubernetes", "helm"):
        told += [f"{name}: left out, an operator makes it" for name in left_out(advised)]
    for line in told:
        click.echo(line, err=True)


def _titled(files: dict[str, str]) -> list[str]:
    """Each file under its name; one file alone without."""
    if len(files) == 1:
        return list(files.values())
    return [f"# --- {name}\n{text}" for name, text in files.items()]
