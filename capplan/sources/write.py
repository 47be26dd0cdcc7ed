"""Writing a draft: files that load, or nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from capplan.errors import InputError, Place, Problem
from capplan.sources.draft import Draft
from capplan.spec.emit import emit

__all__ = ["NODE_FILE", "write"]

NODE_FILE = "node.yaml"


def write(draft: Draft, directory: str | Path, *, force: bool = False) -> tuple[Path, ...]:
    """Write a draft's node file, profiles and other files into a directory.

    Everything is written beside the directory first and read back with
    :func:`capplan.spec.load`; only what loads is moved in, the node file last.

    Parameters
    ----------
    draft : Draft
    directory : str or Path
        Made if it is not there.
    force : bool, default False
        Replace files of the same names.

    Returns
    -------
    tuple of Path
        The files, the node file first.

    Raises
    ------
    InputError
        A file is there already, or what the source found is no valid node.
    """
    directory = Path(directory)
    texts = {NODE_FILE: emit(draft.node, draft.header)}
    texts |= {name: emit(profile) for name, profile in draft.profiles.items()}
    texts |= draft.files
    there = [str(directory / name) for name in texts if (directory / name).exists()]
    if there and not force:
        raise InputError(f"{', '.join(there)} already there: nothing was written; --force replaces")
    directory.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".capplan-", dir=directory))
    try:
        for name, text in texts.items():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            with (scratch / name).open("w", encoding="utf-8", newline="") as file:
                file.write(text)
        for name in draft.beside:
            (scratch / name).symlink_to((directory / name).resolve())
        draft.problems += _checked(scratch, directory)
        for name in reversed(texts):  # the node file names the others: it comes last
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(scratch / name, directory / name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return tuple(directory / name for name in texts)


def _moved(place: Place, scratch: Path, directory: Path) -> Place:
    """A place under the name that its file will have."""
    head, tail = f"{scratch}{os.sep}", place.file
    if tail.startswith(head):
        tail = f"{directory}{os.sep}{tail.removeprefix(head)}"
    return replace(place, file=tail)


def _checked(scratch: Path, directory: Path) -> list[Problem]:
    """Load what was written; return its warnings, under the names it will have."""
    from capplan.spec import load

    try:
        found = load(scratch / NODE_FILE).warnings
        return [
            replace(problem, place=_moved(problem.place, scratch, directory)) for problem in found
        ]
    except InputError as error:
        text = str(error).replace(f"{scratch}{os.sep}", f"{directory}{os.sep}")
        raise InputError(f"what was found makes no valid node, nothing was written:\n{text}") from (
            error
        )
