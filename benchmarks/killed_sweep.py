"""A sweep of 1,000 points, killed (SIGKILL) ten times at random and resumed: the same bytes."""

from __future__ import annotations

import argparse
import itertools
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import report

NODE = """\
capplan: 1
node: {memory: 256Mi, cpus: 2, kernel: "6.12", system: {kernel: 30Mi, daemons: {memory: 10Mi}}}
cgroup: {version: v2}
containers:
  web:
    memory.max: 64Mi
    profile:
      capplan: 1
      profile: web
      processes:
        main:
          regions: {heap: {kind: anon, size: 8Mi}}
          phases: [{grow: {region: heap, to: {normal: {mean: 50Mi, sd: 8Mi}}, rate: 60Mi/s}}]
run: {duration: 2s, seed: 5}
"""
SWEEP = """\
capplan: 1
node: node.yaml
design: latin
points: POINTS
replicates: 2
knobs:
  containers.web.memory.max: {low: 40Mi, high: 80Mi, round: 64Ki}
  vm.min_free_kbytes: {low: 512, high: 8192, scale: log}
"""
STORED = "select count(*) from rows"


def command(folder: Path, out: str) -> list[str]:
    """The sweep, into a directory of its own."""
    file, to = str(folder / "sweep.yaml"), str(folder / out)
    return [sys.executable, "-m", "capplan", "sweep", file, "--out", to, "--quiet"]


def stored(folder: Path) -> int:
    """Rows in the store."""
    path = folder / "runs.sqlite"
    if not path.exists():
        return 0
    with sqlite3.connect(path) as db:
        return int(db.execute(STORED).fetchone()[0])


def tables(folder: Path) -> dict[str, bytes]:
    """The tables of a result."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.csv"))}


def main() -> None:
    """Run it whole, then killed again and again; compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=10)
    given = parser.parse_args()
    moments = random.Random(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "node.yaml").write_text(NODE)
        (folder / "sweep.yaml").write_text(SWEEP.replace("POINTS", str(given.points)))
        begin = time.perf_counter()
        subprocess.run(command(folder, "whole"), check=True)
        whole_s = time.perf_counter() - begin
        kept, killed = [0], 0
        for _ in range(given.kills):
            going = subprocess.Popen(command(folder, "broken"), stdout=subprocess.DEVNULL)
            time.sleep(moments.uniform(0.1, 0.18) * whole_s)
            killed += going.poll() is None
            going.kill()
            going.wait()
            kept.append(stored(folder / "broken"))
        subprocess.run(command(folder, "broken"), check=True)
        equal = tables(folder / "broken") == tables(folder / "whole")
        report("killed_sweep", [
            ("points, 2 runs each", given.points, "", ""),
            ("undisturbed", whole_s, "s", ""),
            ("kills while it ran", killed, "", str(given.kills)),
            ("rows kept at the last kill", kept[-1], "", ""),
            ("kills that lost a row", sum(a > b for a, b in itertools.pairwise(kept)), "", "0"),
            ("tables equal, byte for byte", float(equal), "", "1"),
        ])  # fmt: skip
        print("rows kept after each kill:", kept[1:])


if __name__ == "__main__":
    main()
