"""``capplan init``: a commented starting point, ready to run."""

from __future__ import annotations

from pathlib import Path

import click

NODE_V2 = """\
# A starting node file: change the figures to your node's.
#
#   capplan simulate node.yaml
#   capplan simulate node.yaml --set containers.web.memory.max=512Mi
#
# Sizes: Ki Mi Gi Ti are powers of 1024, k M G T powers of 1000. Times: ms s min h d.
capplan: 1

node:
  memory: 8Gi
  cpus: 4
  kernel: "6.12"                # uname -r; decides how reclaim and the OOM killer behave
  sysctl:
    vm.swappiness: 60
    # vm.min_free_kbytes: 67584 # left out: computed as the kernel does at boot
  # swap: [{device: nvme, size: 2Gi, priority: 10}]

cgroup:
  version: v2
  groups:
    apps.slice: {memory.max: 6Gi}

containers:
  web:
    profile: web.yaml
    parent: apps.slice
    replicas: 3
    memory.high: 896Mi          # above this its tasks are slowed down
    memory.max: 1Gi             # above this, and with nothing to reclaim, one is killed
    oom_score_adj: 500          # -1000 never killed .. 1000 killed first

run: {duration: 2h, start: warm, seed: 1}
gate: {max_throttle_share: 0.01}
"""

NODE_V1 = """\
# A starting node file for cgroup v1: change the figures to your node's.
#
#   capplan simulate node.yaml
#   capplan simulate node.yaml --set containers.web.memory.limit_in_bytes=512Mi
#
# Sizes: Ki Mi Gi Ti are powers of 1024, k M G T powers of 1000. Times: ms s min h d.
capplan: 1

node:
  memory: 8Gi
  cpus: 4
  kernel: "6.1"                 # uname -r; decides how reclaim and the OOM killer behave
  sysctl:
    vm.swappiness: 60
    # vm.min_free_kbytes: 67584 # left out: computed as the kernel does at boot
  # swap: [{device: nvme, size: 2Gi, priority: 10}]

cgroup:
  version: v1
  groups:
    apps: {memory.limit_in_bytes: 6Gi, memory.oom_control: 0}

containers:
  web:
    profile: web.yaml
    parent: apps
    replicas: 3
    memory.limit_in_bytes: 1Gi
    memory.oom_control: 0       # 0: at the limit a task is killed; 1: its tasks pause
    oom_score_adj: 500          # -1000 never killed .. 1000 killed first

run: {duration: 2h, start: warm, seed: 1}
gate: {max_throttle_share: 0.01}
"""

PROFILE = """\
# A starting profile: what one replica of the service does with memory.
capplan: 1
profile: web
clock: schedule                 # the load arrives whether or not the service keeps up

processes:
  server:
    regions:
      code:                     # the program's text, shared by all replicas
        kind: file
        via: mmap
        exec: true
        size: 60Mi
        access: {pattern: zipf, rate: 100Mi/s}
      heap:
        kind: anon
        compressibility: 0.6    # share saved by zswap or zram
        access: {pattern: uniform, rate: 50Mi/s}
    phases:
      - grow: {region: heap, to: 400Mi, rate: 20Mi/s}
      - hold: 30min
      - burst: {region: heap, by: 200Mi, every: 20min, for: 30s}
"""


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option(
    "--cgroup",
    type=click.Choice(["v2", "v1"]),
    default="v2",
    show_default=True,
    help="Version of the control groups.",
)
def init(directory: Path, cgroup: str) -> None:
    """Write node.yaml and web.yaml, a starting node and profile, into DIRECTORY."""
    files = {"node.yaml": NODE_V2 if cgroup == "v2" else NODE_V1, "web.yaml": PROFILE}
    there = [str(directory / name) for name in files if (directory / name).exists()]
    if there:
        raise click.UsageError(f"{', '.join(there)} already there: nothing was written")
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")
        click.echo(f"wrote {directory / name}")
    click.echo(f"next: capplan simulate {directory / 'node.yaml'}")
