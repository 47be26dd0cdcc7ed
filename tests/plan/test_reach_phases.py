"""What a profile would do after the run's end."""

from __future__ import annotations

from pathlib import Path

import pytest

import capplan
from capplan.plan.reach_phases import unreached

NODE = """
capplan: 1
node: {{memory: 4Gi}}
containers:
  web:
    profile:
      capplan: 1
      profile: web
      processes:
        server:
          start: {start}
          regions: {{heap: {{kind: anon}}}}
          phases: {phases}
run: {{duration: 10min}}
"""


@pytest.mark.parametrize(
    ("start", "phases", "said"),
    [
        ("0s", "[{hold: 9min}, {grow: {region: heap, to: 1Gi, rate: 1Mi/s}}]", ""),
        ("0s", "[{hold: 11min}, {grow: {region: heap, to: 1Gi, rate: 1Mi/s}}]",
         "the grow of heap at 11 min"),
        ("2min", "[{hold: 9min}, {leak: {region: heap, rate: 1Mi/h}}]",
         "the leak of heap at 11 min"),
        ("0s", "[{burst: {region: heap, by: 1Mi, every: 9min, for: 1s}}]", ""),
        ("0s", "[{burst: {region: heap, by: 1Mi, every: 1h, for: 1s}}]",
         "the burst of heap at 1 h"),
        # drawn: it may come in time
        ("0s", "[{burst: {region: heap, by: 1Mi, every: {exponential: {mean: 1h}}, for: 1s}}]", ""),
        ("{uniform: {low: 1min, high: 1h}}", "[{hold: 1h}, {leak: {region: heap, rate: 1Mi/h}}]",
         ""),
        ("0s", "[{repeat: {phases: [{hold: 1h}, {grow: {region: heap, by: 1Mi, rate: 1Mi/s}}]}}]",
         "the grow of heap at 1 h"),
        ("0s", "[{hold: 1h}, {free: {region: heap}}]", ""),  # takes nothing
    ],
)  # fmt: skip
def test_what_takes_memory_after_the_end_is_told(
    start: str, phases: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(NODE.format(start=start, phases=phases), encoding="utf-8")
    expected = (f"web: {said} or later is not seen in a run of 10 min",) if said else ()
    assert unreached(capplan.load(path)) == expected
