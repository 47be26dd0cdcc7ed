"""The emulated machine's command line, and what is told when it fails."""

from __future__ import annotations

import pathlib

import pytest

from lab import machine
from lab.kernels import Kernel, LabError
from lab.scenario import Scenario, load
from tests.lab.test_lab_scenario import SMALL

KERNEL = Kernel("6.99.1", pathlib.Path("/boot/vmlinuz"), None)


def _scenario(folder: pathlib.Path, more: str = "") -> Scenario:
    path = folder / "s.yaml"
    path.write_text(SMALL + more, encoding="utf-8")
    return load(path)


def _command(scenario: Scenario) -> str:
    paths = [pathlib.Path(name) for name in ("initrd", "wire", "console")]
    return " ".join(machine.command(scenario, KERNEL, *paths))


def test_one_cpu_counts_instructions_and_more_run_in_real_time(tmp_path: pathlib.Path) -> None:
    assert "-icount shift=1,sleep=off" in _command(_scenario(tmp_path))
    assert "-icount" not in _command(_scenario(tmp_path, "cpus: 2\n"))


def test_nodes_have_their_memory_and_the_kernel_its_place(tmp_path: pathlib.Path) -> None:
    two = _command(_scenario(tmp_path, "numa_mib: [192, 64]\n"))
    assert "memory-backend-ram,id=m1,size=64M" in two
    assert "node,nodeid=0,memdev=m0,cpus=0" in two
    assert "nokaslr" in two
    assert "nokaslr" not in _command(_scenario(tmp_path))


def test_missing_emulator_is_told_with_its_package(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match="apt-get install qemu-system-x86"):
        machine.run(_scenario(tmp_path), KERNEL, seed=1)


def test_kernel_without_modules_is_refused_where_they_are_needed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.shutil, "which", lambda name: name)
    with pytest.raises(LabError, match=r"6\.99\.1: small needs its modules"):
        machine.run(_scenario(tmp_path, "swap_mib: 64\n"), KERNEL, seed=1)


def test_a_guest_that_failed_is_quoted(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = b"\x1e0 error - 24\nalloc: cannot join /cg/a\n"

    def fail(arguments: list[str], errors: object) -> int:
        wire = next(a.rpartition("path=")[2] for a in arguments if "id=wire" in a)
        pathlib.Path(wire).write_bytes(said)
        return 3

    monkeypatch.setattr(machine, "_wait", fail)
    monkeypatch.setattr(machine, "_initrd", lambda *_: b"")
    monkeypatch.setattr(machine.shutil, "which", lambda name: name)
    with pytest.raises(LabError, match="status 3 after 0 s:\nalloc: cannot join /cg/a"):
        machine.run(_scenario(tmp_path), KERNEL, seed=1)
