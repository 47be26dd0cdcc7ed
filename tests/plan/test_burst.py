"""The burst that a node absorbs before an allocation reclaims for itself."""

from __future__ import annotations

from pathlib import Path

import pytest

import capplan
import capplan.sim.run
from capplan.plan.burst import absorbed, burst, tightest
from capplan.units import MIB

NODE = """
capplan: 1
node:
  memory: 972Mi
  cpus: 2
  kernel: "6.1"
  sysctl: {{vm.min_free_kbytes: {kbytes}}}
  system: {{kernel: 300Mi, slab_reclaimable: 100Mi, daemons: {{memory: 200Mi, file: 100Mi}}}}
  {swap}
containers:
  idle:
    profile:
      capplan: 1
      profile: idle
      processes: {{p: {{regions: {{heap: {{kind: anon, size: 200Mi, compressibility: 0.6}}}}}}}}
run: {{duration: 10s, granule: 3}}
"""


def _scenario(tmp_path: Path, kbytes: int = 16384, swap: str = "") -> capplan.sim.run.Scenario:
    path = tmp_path / "node.yaml"
    path.write_text(NODE.format(kbytes=kbytes, swap=swap), encoding="utf-8")
    return capplan.expand(capplan.load(path))


def test_without_swap_a_burst_gets_what_is_free_or_clean_above_min(tmp_path: Path) -> None:
    scenario = _scenario(tmp_path)
    run = capplan.sim.run.run(scenario)
    at_ns, _ = tightest(run)
    clean = ("meminfo_kb.MemFree", "meminfo_kb.Cached", "meminfo_kb.SReclaimable")
    there = sum(float(run.series[name][-1]) for name in clean) / 1024
    least = sum(marks[0] for marks in run.wmarks.values()) * 4096 / MIB
    found = absorbed(scenario, at_ns, 256 * MIB, 1024 * MIB)
    assert not found.whole
    assert found.absorbed_bytes / MIB == pytest.approx(there - least, abs=8)  # per-cpu lists


def test_a_larger_reserve_takes_its_size_from_the_burst(tmp_path: Path) -> None:
    found = {}
    for kbytes in (16384, 131072):
        scenario = _scenario(tmp_path, kbytes)
        found[kbytes] = absorbed(scenario, 5_000_000_000, 256 * MIB, 1024 * MIB).absorbed_bytes
    assert (found[16384] - found[131072]) / MIB == pytest.approx(112, abs=8)


def test_swap_takes_a_slow_burst_and_not_a_fast_one(tmp_path: Path) -> None:
    scenario = _scenario(tmp_path, swap="swap: [{device: hdd, size: 2Gi}]")
    available = 600 * MIB
    found = burst(scenario, 5_000_000_000, available)
    slow, _, fast = found.at_rates
    assert slow.whole
    assert not fast.whole
    assert found.fastest_rate is not None
    assert slow.rate < found.fastest_rate < fast.rate


def test_what_fits_is_absorbed_whole(tmp_path: Path) -> None:
    found = absorbed(_scenario(tmp_path), 5_000_000_000, 64 * MIB, 100 * MIB)
    assert found.whole
    assert found.absorbed_bytes == 100 * MIB
