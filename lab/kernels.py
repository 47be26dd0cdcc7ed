"""Kernels to boot: Debian's packages, downloaded and unpacked, never installed; or one by path."""

from __future__ import annotations

import lzma
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from capplan.errors import CapplanError

CACHE = Path(os.environ.get("CAPPLAN_LAB_CACHE", "~/.cache/capplan-lab")).expanduser()
IMAGE = re.compile(r"^linux-image-(\d+\.\d+)\.[\w.+]*?(?:-(\d+))?-amd64$")


class LabError(CapplanError):
    """The lab cannot do what was asked of it."""


@dataclass(frozen=True)
class Kernel:
    """A kernel to boot: its image, and where its modules lie (None: it is to need none)."""

    release: str
    image: Path
    modules: Path | None

    def module_files(self, names: Iterable[str]) -> list[Path]:
        """Files of modules with what they depend on, in the order in which to load them.

        Names that the kernel has built in are left out.

        Raises
        ------
        LabError
            A module is neither built in nor there.
        """
        if self.modules is None:
            return []
        files = {_module_name(p): p for p in self.modules.rglob("*.ko*") if ".ko" in p.name}
        builtin = self.modules / "modules.builtin"
        there = (
            {_module_name(Path(n)) for n in builtin.read_text().split()}
            if builtin.exists()
            else set()
        )
        ordered: dict[str, Path] = {}

        def add(name: str) -> None:
            if name in ordered or name in there:
                return
            if name not in files:
                raise LabError(f"kernel {self.release}: no module '{name}' in {self.modules}")
            for other in _depends(files[name]):
                add(other)
            ordered[name] = files[name]

        for name in names:
            add(name.replace("-", "_"))
        return list(ordered.values())


def _module_name(path: Path) -> str:
    return path.name.split(".ko")[0].replace("-", "_")


def module_bytes(path: Path) -> bytes:
    """A module as the kernel loads it, unpacked where the package compresses it."""
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def _depends(path: Path) -> list[str]:
    """What the module's own ``depends=`` says (its .modinfo section)."""
    found = re.search(rb"\0depends=([^\0]*)\0", b"\0" + module_bytes(path))
    names = found.group(1).decode() if found else ""
    return [name.replace("-", "_") for name in names.split(",") if name]


def find_kernel(which: str, modules: Path | None = None) -> Kernel:
    """A kernel by Debian's series ("6.12"), or by the path of its image.

    Parameters
    ----------
    which : str
        A series that the machine's package lists offer, or a file such as ``/boot/vmlinuz-6.9``.
    modules : Path, optional
        Of a kernel by path: its ``lib/modules/RELEASE`` folder.

    Raises
    ------
    LabError
        No such file, no such package, or it cannot be fetched.
    """
    path = Path(which)
    if path.is_file():
        release = image_release(path)
        own = modules or Path("/lib/modules") / release
        return Kernel(release, path, own if own.is_dir() else None)
    if not re.fullmatch(r"\d+\.\d+", which):
        raise LabError(f"{which}: no such file, and not a series such as 6.12")
    return _unpacked(newest_package(which))


def image_release(path: Path) -> str:
    """The release that a kernel image carries (Documentation/arch/x86/boot.rst, kernel_version).

    Raises
    ------
    LabError
        The file is no x86 kernel image.
    """
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if head[0x202:0x206] != b"HdrS":
        raise LabError(f"{path}: not an x86 kernel image (bzImage)")
    at = int.from_bytes(head[0x20E:0x210], "little") + 0x200
    return head[at:].split(b"\0", 1)[0].split()[0].decode("ascii", "replace")


def newest_package(series: str) -> str:
    """Name of the newest Debian image package of a series, by the lists of this machine.

    Raises
    ------
    LabError
        None is offered, or this machine has no ``apt-cache``.
    """
    if shutil.which("apt-cache") is None:
        raise LabError("apt-cache is missing: give a kernel by path instead")
    listed = subprocess.run(
        ["apt-cache", "pkgnames", f"linux-image-{series}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    offered = [(_version(name), name) for name in listed if _series(name) == series]
    if not offered:
        raise LabError(f"no linux-image package of series {series} (run apt-get update first?)")
    return max(offered)[1]


def _series(name: str) -> str:
    found = IMAGE.match(name)
    return found.group(1) if found else ""


def _version(name: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", name)]


def _unpacked(package: str) -> Kernel:
    folder = CACHE / package
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            _download(package, Path(scratch))
            (Path(scratch) / "tree").rename(folder)
    images = sorted(folder.glob("boot/vmlinuz-*"))
    if not images:
        raise LabError(f"{folder}: no kernel image in it; remove the folder to fetch it anew")
    release = images[0].name.removeprefix("vmlinuz-")
    modules = next(iter(folder.glob(f"**/lib/modules/{release}")), None)
    return Kernel(release, images[0], modules)


def _download(package: str, scratch: Path) -> None:
    try:
        subprocess.run(
            ["apt-get", "download", "-q", package], cwd=scratch, check=True, capture_output=True
        )
        (archive,) = scratch.glob("*.deb")
        subprocess.run(
            ["dpkg-deb", "-x", archive, scratch / "tree"], check=True, capture_output=True
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip().splitlines()
        raise LabError(f"{package}: {said[-1] if said else error}") from error
