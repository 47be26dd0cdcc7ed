"""Kernels and their modules, and what the guest boots into."""

from __future__ import annotations

import lzma
import pathlib
import shutil
import subprocess

import pytest

from lab import initramfs, kernels
from lab.kernels import Kernel, LabError


def _module(folder: pathlib.Path, name: str, depends: str = "", packed: bool = False) -> None:
    data = b"\x7fELF\0license=GPL\0depends=" + depends.encode() + b"\0name=" + name.encode() + b"\0"
    path = folder / f"{name}.ko{'.xz' if packed else ''}"
    path.write_bytes(lzma.compress(data) if packed else data)


@pytest.fixture
def kernel(tmp_path: pathlib.Path) -> Kernel:
    """A kernel with three modules in a row, and one that is built in."""
    _module(tmp_path, "ext4", "jbd2,crc16")
    _module(tmp_path, "jbd2", packed=True)
    _module(tmp_path, "crc16")
    (tmp_path / "modules.builtin").write_text("kernel/mm/zsmalloc.ko\n", encoding="utf-8")
    return Kernel("6.99.1", tmp_path / "vmlinuz", tmp_path)


def test_module_files_come_after_what_they_depend_on(kernel: Kernel) -> None:
    names = [path.name for path in kernel.module_files(["ext4", "zsmalloc"])]
    assert sorted(names[:2]) == ["crc16.ko", "jbd2.ko.xz"]
    assert names[2:] == ["ext4.ko"]


def test_module_that_is_missing_is_named(kernel: Kernel) -> None:
    with pytest.raises(LabError, match=r"6\.99\.1: no module 'zram'"):
        kernel.module_files(["zram"])


def test_module_bytes_unpacks_what_the_package_packed(kernel: Kernel) -> None:
    assert kernel.modules is not None
    assert b"name=jbd2" in kernels.module_bytes(kernel.modules / "jbd2.ko.xz")


def test_image_release_reads_the_images_own_word(tmp_path: pathlib.Path) -> None:
    image = bytearray(0x1000)
    image[0x202:0x206] = b"HdrS"
    image[0x20E:0x210] = (0x400).to_bytes(2, "little")
    image[0x600:0x620] = b"6.99.1-mine (me@here) #1 SMP\0   "
    path = tmp_path / "vmlinuz"
    path.write_bytes(bytes(image))
    assert kernels.image_release(path) == "6.99.1-mine"
    assert kernels.find_kernel(str(path)).release == "6.99.1-mine"


def test_image_release_refuses_another_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(b"x" * 4096)
    with pytest.raises(LabError, match="not an x86 kernel image"):
        kernels.image_release(path)


def test_find_kernel_refuses_what_is_neither_file_nor_series() -> None:
    with pytest.raises(LabError, match="no such file"):
        kernels.find_kernel("six")


def test_newest_package_is_the_highest_plain_image(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = (
        "linux-image-6.1.0-9-amd64\nlinux-image-6.1.0-56-amd64\nlinux-image-6.12-amd64\n"
        "linux-image-6.1.0-60-cloud-amd64\nlinux-image-6.1.0-61-amd64-dbg\n"
        "linux-image-6.12.9+deb12-amd64\nlinux-image-6.12.117+deb12-amd64\n"
    )

    def answer(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 0, listed, "")

    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(subprocess, "run", answer)
    assert kernels.newest_package("6.1") == "linux-image-6.1.0-56-amd64"
    assert kernels.newest_package("6.12") == "linux-image-6.12.117+deb12-amd64"
    with pytest.raises(LabError, match=r"series 6\.9"):
        kernels.newest_package("6.9")


def test_archive_is_a_cpio_that_holds_each_member_aligned() -> None:
    data = initramfs.archive({"dev": (0o040755, b""), "init": (0o100755, b"abcde")})
    assert data.startswith(b"070701")
    assert len(data) % 4 == 0
    at = data.index(b"init\0") - 110
    assert data[at : at + 6] == b"070701"
    assert int(data[at + 14 : at + 22], 16) == 0o100755
    assert int(data[at + 54 : at + 62], 16) == 5
    content = (at + 110 + len(b"init\0") + 3) // 4 * 4
    assert data[content : content + 5] == b"abcde"
    assert b"TRAILER!!!\0" in data


def test_sparse_keeps_what_is_not_zero_and_where_it_was() -> None:
    ones = b"\1" * 4096
    assert initramfs.sparse(bytes(8192) + ones + bytes(4096)) == b"8192 4096\n" + ones
    assert initramfs.sparse(bytes(8192)) == b""
    long = ones * (initramfs.EXTENT // 4096 + 1)
    split = initramfs.sparse(long)
    assert split.startswith(b"0 %d\n" % initramfs.EXTENT)
    assert b"%d 4096\n" % initramfs.EXTENT in split


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")
def test_the_guests_program_compiles_without_a_warning(tmp_path: pathlib.Path) -> None:
    sources = sorted(initramfs.GUEST.glob("*.c"))
    flags = ["-fsyntax-only", "-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11"]
    done = subprocess.run(["gcc", *flags, *sources], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
