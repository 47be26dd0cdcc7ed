"""Python and capplan, as they are here, as a tree of files for the guest."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.kernels import LabError

INSIDE = Path(__file__).parent / "inside"
SITE = "lab/site"
LEFT_OUT = (  # of the standard library: what no program of the lab asks for
    "site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo",
    "ensurepip", "lib2to3", "pydoc_data", "distutils", "config-*", "_tkinter*",
    "*.opt-*.pyc", "*.a",
)  # fmt: skip
# which packages capture and record import: those of this very interpreter
IMPORTED = """
import sys
import capplan.cli.main, capplan.cli.capture, capplan.cli.record
import capplan.sources.capture, capplan.sources.record_profile, capplan.sources.write
from capplan.spec import load
for name, module in sorted(sys.modules.items()):
    if "." not in name and name not in sys.stdlib_module_names:
        print(getattr(module, "__file__", None) or "")
"""
MOUNTED = ("proc", "sys", "dev", "lab", "tmp", "var/tmp")


@contextmanager
def python_tree() -> Iterator[Path]:
    """A root file system with an interpreter, what it needs, capplan, and ``lab/inside``.

    Everything of the interpreter lies where it lies here, so that it finds itself.

    Raises
    ------
    LabError
        capplan cannot be imported, or ldd is missing.
    """
    with tempfile.TemporaryDirectory(prefix="capplan-lab-python-") as scratch:
        root = Path(scratch)
        for name in MOUNTED:
            (root / name).mkdir(parents=True)
        interpreter = Path(os.path.realpath(sys.executable))
        library = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}))
        shutil.copytree(
            library, _below(root, library), symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT)
        )
        for path in _imported():
            _copy(path, root / SITE / path.name)
        _copy(interpreter, _below(root, interpreter))
        for path in _libraries(
            [interpreter, *library.glob("lib-dynload/*.so"), *root.glob(f"{SITE}/**/*.so")]
        ):
            _copy(path, _below(root, path))
        for path in INSIDE.glob("*.py"):
            program = root / "lab" / path.stem
            program.write_text(f"#!{interpreter}\n{path.read_text(encoding='utf-8')}")
            program.chmod(0o755)
        yield root


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
    elif not target.exists():
        shutil.copy2(source, target)


def _imported() -> list[Path]:
    """Files and folders of the packages that capture and record import, capplan among them."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LabError(f"capplan cannot be imported:\n{done.stderr.strip()}")
    paths = [Path(line) for line in done.stdout.splitlines() if line]
    return [path.parent if path.name == "__init__.py" else path for path in paths]


def _libraries(programs: Iterable[Path]) -> list[Path]:
    """Shared objects that programs are linked with, and the loader (ldd)."""
    if shutil.which("ldd") is None:
        raise LabError("ldd is missing (Debian: apt-get install libc-bin)")
    done = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False)
    return [Path(name) for name in sorted(set(re.findall(r"(/\S+) \(0x", done.stdout)))]
