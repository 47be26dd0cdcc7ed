"""The lab from end to end: build, boot, record, and the model on the result.

Only where CAPPLAN_LAB_KERNEL names a kernel (a series or a vmlinuz) and the emulator is there:
it takes minutes.
"""

from __future__ import annotations

import os
import pathlib
import shutil

import pytest

from capplan.validate.judge import judge
from capplan.validate.truth import load_recording
from lab.kernels import find_kernel
from lab.machine import QEMU
from lab.record import record
from lab.scenario import load

WHICH = os.environ.get("CAPPLAN_LAB_KERNEL", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not WHICH, reason="CAPPLAN_LAB_KERNEL names no kernel"),
    pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"no {QEMU}"),
]


def test_a_kernel_is_recorded_and_the_model_agrees(
    tmp_path: pathlib.Path, root: pathlib.Path
) -> None:
    scenario = load(root / "lab" / "scenarios" / "max-kill.yaml")
    folder = record(scenario, find_kernel(WHICH), tmp_path)
    recording = load_recording(folder)
    kills = [h for truth in recording.truths for h in truth.happenings if h.event == "oom_kill"]
    assert [(kill.name, kill.scope) for kill in kills] == [("alloc", "memcg")] * 2
    verdict = judge(recording)
    assert verdict.passed, "\n".join(verdict.why) + verdict.error
