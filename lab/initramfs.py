"""What the guest boots into: one static program, its plan, and the modules it loads."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lab.kernels import CACHE, LabError

GUEST = Path(__file__).parent / "guest"
EXTENT = 64 * 4096  # the guest's buffer
DIRECTORY, PROGRAM, FILE = 0o040755, 0o100755, 0o100644


def guest_stamp() -> str:
    """What tells one state of the guest's sources from another."""
    parts = [path.read_bytes() for path in sorted(GUEST.iterdir())]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def build_guest() -> Path:
    """Compile the guest's program, once per state of its sources.

    Raises
    ------
    LabError
        There is no C compiler, or no static C library.
    """
    sources = sorted(GUEST.glob("*.c"))
    program = CACHE / f"guest-{guest_stamp()}"
    if program.exists():
        return program
    if shutil.which("gcc") is None:
        raise LabError("gcc is missing (Debian: apt-get install gcc libc6-dev)")
    CACHE.mkdir(parents=True, exist_ok=True)
    made = program.with_suffix(".new")
    done = subprocess.run(
        ["gcc", "-static", "-s", "-O2", "-Wall", "-Wextra", "-std=gnu11", "-o", made, *sources],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LabError(f"the guest's program does not compile:\n{done.stderr.strip()}")
    made.rename(program)
    return program


def archive(members: Mapping[str, tuple[int, bytes]]) -> bytes:
    """A cpio archive ("newc", Documentation/driver-api/early-userspace/buffer-format.rst).

    Parameters
    ----------
    members : mapping
        Path to (mode, content).
    """
    out = io.BytesIO()
    entries = [*members.items(), ("TRAILER!!!", (0, b""))]
    for number, (name, (mode, content)) in enumerate(entries, 1):
        path = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
        out.write(b"070701" + b"".join(b"%08X" % field for field in fields) + path)
        out.write(b"\0" * (-out.tell() % 4))
        out.write(content)
        out.write(b"\0" * (-out.tell() % 4))
    return out.getvalue()


def initramfs(plan: str, extra: Mapping[str, bytes]) -> bytes:
    """The archive to boot, compressed: /init, /plan, and files under /m."""
    folder = (DIRECTORY, b"")
    members = {"dev": folder, "proc": folder, "sys": folder, "m": folder}
    members["init"] = (PROGRAM, build_guest().read_bytes())
    members["plan"] = (FILE, plan.encode())
    members |= {f"m/{name}": (FILE, content) for name, content in extra.items()}
    return gzip.compress(archive(members), 6, mtime=0)


def ext4_image(mib: int, tree: Path | None = None) -> bytes:
    """An ext4, as the guest's ``image`` line reads it: extents without their zeros.

    Parameters
    ----------
    mib : int
        Its size. [MiB]
    tree : Path, optional
        What is on it; without one it is empty.

    Raises
    ------
    LabError
        mke2fs is missing or fails.
    """
    tool = shutil.which("mke2fs") or shutil.which("mke2fs", path="/sbin:/usr/sbin")
    if tool is None:
        raise LabError("mke2fs is missing (Debian: apt-get install e2fsprogs)")
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch) / "image"
        with image.open("wb") as file:
            file.truncate(mib << 20)
        options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
        command = [tool, "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-J", "size=4"]
        content = [] if tree is None else ["-d", str(tree)]
        done = subprocess.run(
            [*command, *content, "-E", options, str(image)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise LabError(f"mke2fs: {done.stderr.strip()}")
        return sparse(image.read_bytes())


def sparse(data: bytes) -> bytes:
    """Extents of what is not zero: "<offset> <length>" and a newline before each.

    Worked example
    --------------
    Two blocks of 4096 zeros, then one of ones: "8192 4096", a newline and those 4096 bytes.
    """
    out = io.BytesIO()
    zero = bytes(4096)
    at = 0
    while at < len(data):
        end = at
        while end < len(data) and end - at < EXTENT and data[end : end + 4096] != zero:
            end += 4096
        if end > at:
            out.write(b"%d %d\n" % (at, end - at) + data[at:end])
        at = end if end > at else at + 4096
    return out.getvalue()
