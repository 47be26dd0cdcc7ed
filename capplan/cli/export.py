"""``capplan export``: a recommendation in the format that is applied."""

from __future__ import annotations

from pathlib import Path

import click

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
    """Write RESULT (of `capplan recommend`) as KIND.

    kubernetes: strategic-merge patches and a kustomization; helm: values; kubelet: a configuration
    fragment; compose: an override file; sysctl: for /etc/sysctl.d; systemd: drop-ins.
    """
    from capplan.errors import InputError
    from capplan.report.files import replace_file
    from capplan.targets import kubernetes, system
    from capplan.targets.advice import read_advice

    advised = read_advice(result)
    if kind == "kubernetes":
        files = kubernetes.patches(advised, workload, namespace)
    else:
        writers = {
            "helm": kubernetes.helm_values,
            "kubelet": kubernetes.kubelet_fragment,
            "compose": system.compose_override,
            "sysctl": system.sysctl_conf,
            "systemd": system.systemd_dropins,
        }
        files = writers[kind](advised)
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


def _titled(files: dict[str, str]) -> list[str]:
    """Each file under its name; one file alone without."""
    if len(files) == 1:
        return list(files.values())
    return [f"# --- {name}\n{text}" for name, text in files.items()]
