"""The emulated machine: one run of one kernel, and what its guest said."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import IO

from lab import plan
from lab.initramfs import ext4_image, initramfs
from lab.kernels import Kernel, LabError, module_bytes
from lab.python import python_tree
from lab.scenario import Scenario

QEMU = "qemu-system-x86_64"
GUEST_DONE = 33  # isa-debug-exit: 2 * 16 + 1, the guest's STATUS_OK
WALL_LIMIT_S = 3600
BOOT_ARGUMENTS = (
    "console=ttyS0 loglevel=4 panic=-1 psi=1 tsc=reliable no_timer_check mitigations=off "
    "audit=0 apparmor=0 random.trust_cpu=on rdinit=/init"
)
# One instruction is 2 ns of the guest's time, whatever the host is doing; idle time is skipped.
INSTRUCTION_CLOCK = ("-icount", "shift=1,sleep=off")


def boot_arguments(scenario: Scenario) -> str:
    """The kernel's command line; with several nodes its image stays on the first in all runs."""
    return BOOT_ARGUMENTS + (" nokaslr" if scenario.numa_mib else "")


def command(
    scenario: Scenario, kernel: Kernel, initrd: Path, wire: Path, console: Path
) -> list[str]:
    """The emulator's command line.

    One CPU runs by counted instructions: repeatable, and independent of a busy host. More run
    in real time.
    """
    arguments = [
        QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-machine", "pc",
        "-accel", "tcg", "-cpu", "qemu64,+rdrand,+rdtscp,+ssse3,+sse4.1,+sse4.2,+popcnt",
        "-m", str(scenario.ram_mib), "-smp", str(scenario.cpus),
        "-kernel", str(kernel.image), "-initrd", str(initrd), "-append", boot_arguments(scenario),
        "-serial", f"file:{console}",
        "-chardev", f"file,id=wire,path={wire}",
        "-device", "isa-debugcon,iobase=0x402,chardev=wire",
        "-device", "isa-debug-exit,iobase=0x501,iosize=1",
    ]  # fmt: skip
    if scenario.cpus == 1:
        arguments += INSTRUCTION_CLOCK
    for node, mib in enumerate(scenario.numa_mib or ()):
        cpus = (
            ",cpus=0"
            if node == 0 and scenario.cpus == 1
            else f",cpus={node}"
            if node < scenario.cpus
            else ""
        )
        arguments += ["-object", f"memory-backend-ram,id=m{node},size={mib}M"]
        arguments += ["-numa", f"node,nodeid={node},memdev=m{node}{cpus}"]
    return arguments


def run(scenario: Scenario, kernel: Kernel, seed: int) -> bytes:
    """Boot the kernel, let the guest do its plan, and return what it said.

    Parameters
    ----------
    scenario : Scenario
    kernel : Kernel
    seed : int
        Of the pages' content and the random accesses.

    Raises
    ------
    LabError
        The emulator is missing, the guest failed, or it did not end.
    """
    if shutil.which(QEMU) is None:
        raise LabError(f"{QEMU} is missing (Debian: apt-get install qemu-system-x86)")
    with tempfile.TemporaryDirectory(prefix="capplan-lab-") as scratch:
        folder = Path(scratch)
        initrd, wire, console = (folder / name for name in ("initrd", "wire", "console"))
        initrd.write_bytes(_initrd(scenario, kernel, seed))
        started = time.monotonic()
        with (folder / "errors").open("wb") as errors:
            status = _wait(command(scenario, kernel, initrd, wire, console), errors)
        said = wire.read_bytes() if wire.exists() else b""
        if status != GUEST_DONE:
            took = time.monotonic() - started
            raise LabError(_failure(scenario, kernel, status, said, folder, took))
        return said


def _initrd(scenario: Scenario, kernel: Kernel, seed: int) -> bytes:
    needed = plan.modules_of(scenario)
    if needed and kernel.modules is None:
        raise LabError(
            f"kernel {kernel.release}: {scenario.name} needs its modules (--modules DIR)"
        )
    files = kernel.module_files(needed)
    extra = {path.name.removesuffix(".xz"): module_bytes(path) for path in files}
    text = plan.lines(scenario, list(extra), seed)
    if plan.needs_files(scenario):
        with python_tree() if scenario.python else nullcontext() as tree:
            extra["ext4.image"] = ext4_image(plan.file_disk_mib(scenario), tree)
    return initramfs(text, extra)


def _wait(arguments: list[str], errors: IO[bytes]) -> int:
    """Run the emulator at the lowest claim on the host's CPUs; its status, or -1 past the limit."""
    process = subprocess.Popen(
        ["nice", "-n", "15", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=errors,
        stderr=errors,
    )
    try:
        return process.wait(WALL_LIMIT_S)
    except subprocess.TimeoutExpired:
        return -1
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _failure(
    scenario: Scenario, kernel: Kernel, status: int, said: bytes, folder: Path, took: float
) -> str:
    """What to tell: the guest's own complaint, or the last lines of its console."""
    _, found, rest = said.rpartition(b" error - ")
    if found:
        text = rest.split(b"\n", 1)[1].strip()
    else:
        logs = [folder / name for name in ("errors", "console")]
        text = b"\n".join(log.read_bytes()[-1500:] for log in logs if log.exists()).strip()
    return (
        f"{scenario.name} with {kernel.release}: the machine ended with status {status} after "
        f"{took:.0f} s:\n{text.decode('utf-8', 'replace')}"
    )
