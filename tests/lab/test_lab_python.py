"""The interpreter that a guest gets: whole, where it lies here, and on a disk."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from lab.initramfs import ext4_image
from lab.plan import PYTHON_MIB
from lab.python import SITE, python_tree

pytestmark = pytest.mark.slow


def test_the_tree_holds_all_that_capture_and_record_import() -> None:
    with python_tree() as root:
        program = (root / "lab" / "observe").read_text(encoding="utf-8")
        interpreter = program.split("\n", 1)[0].removeprefix("#!")
        assert interpreter == os.path.realpath(sys.executable)
        assert os.access(root / interpreter[1:], os.X_OK)
        assert list(root.glob("**/libc.so*"))
        # -I -S: nothing of this environment but the tree's packages
        code = (
            f"import sys; sys.path.insert(0, {str(root / SITE)!r})\n"
            "import capplan.cli.main, capplan.cli.capture, capplan.sources.record_profile\n"
            "from capplan.spec import load\n"
            "assert capplan.cli.main.__file__.startswith(sys.path[0])"
        )
        subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
        mib = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) >> 20
        assert 20 < mib < PYTHON_MIB


@pytest.mark.skipif(
    shutil.which("mke2fs", path="/sbin:/usr/sbin") is None, reason="no mke2fs (e2fsprogs)"
)
def test_an_image_has_the_trees_files(tmp_path: pathlib.Path) -> None:
    (tmp_path / "word").write_text("nowhere else to be found", encoding="utf-8")
    assert b"nowhere else to be found" in ext4_image(24, tmp_path)
    assert b"nowhere else to be found" not in ext4_image(24)
