"""systemd units as they are in force: unit files with their drop-ins, and ``systemctl show``.

Drop-ins of a unit come from ``NAME.d``, of its template (``web@.service.d``), of its prefixes
(``shop-.service.d`` for shop-web.service) and of its type (``service.d``); of files of one name
only that of the nearest folder counts, and all that count are read in order of their names. A
later setting replaces an earlier one, an empty one takes it back.

Source: systemd.unit(5), systemd.resource-control(5), systemd.service(5), systemd.syntax(7).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from capplan.errors import InputError, Problem
from capplan.sources.draft import doubt
from capplan.spec.tree import read_text

__all__ = ["Unit", "read_units", "slice_path"]

TYPES = (".service", ".slice", ".scope")
SECTIONS = ("Unit", "Service", "Slice", "Scope")
# where the same name in several places is looked for first (systemd.unit(5), unit load path)
LOAD_PATH = ("/etc/systemd/", "/run/systemd/")
MOST_FILES = 20_000


@dataclass
class Unit:
    """A unit's settings, as text.

    Attributes
    ----------
    name
        ``web.service``, ``shop-web@1.service``, ``app.slice``.
    settings
        Of all sections; the names are unique among those that are read.
    shown
        From ``systemctl show``: sizes are bytes, and usage is there.
    file
        Where it comes from, for messages.
    """

    name: str
    settings: dict[str, str] = field(default_factory=dict)
    shown: bool = False
    file: str = ""

    @property
    def kind(self) -> str:
        """service, slice or scope."""
        return self.name.rpartition(".")[2]

    @property
    def slice(self) -> str:
        """The slice that it is in: what it says, else what systemd gives it."""
        if self.kind == "slice":
            return slice_path(self.name).rpartition("/")[0].rpartition("/")[2]
        told = self.settings.get("Slice", "")
        if told:
            return told
        prefix, at, _ = self.name.partition("@")
        return f"system-{prefix}.slice" if at else "system.slice"


def slice_path(name: str) -> str:
    """The path of a slice below the root: dashes are levels.

    Worked example
    --------------
    >>> slice_path("app-db.slice"), slice_path("-.slice")
    ('app.slice/app-db.slice', '')
    """
    parts = name.removesuffix(".slice").split("-")
    if not any(parts):
        return ""
    return "/".join(f"{'-'.join(parts[: n + 1])}.slice" for n in range(len(parts)))


def read_units(paths: Iterable[Path]) -> tuple[list[Unit], list[Problem]]:
    """Read units: files, folders of them with their drop-ins, or ``systemctl show`` output.

    Raises
    ------
    InputError
        A file that cannot be read, or no unit at all.
    """
    problems: list[Problem] = []
    files: dict[str, Path] = {}
    dropins: dict[str, dict[str, Path]] = {}
    units: dict[str, Unit] = {}
    for path in sorted(_flat(paths), key=_rank, reverse=True):  # what is looked at first comes last
        if path.parent.name.endswith(".d") and path.suffix == ".conf":
            dropins.setdefault(path.parent.name.removesuffix(".d"), {})[path.name] = path
        elif path.suffix in TYPES:
            files[path.name] = path
        else:
            for unit in _shown(read_text(path, str(path)), str(path)):
                units[unit.name] = unit
    alone = [name for name in dropins if name.endswith(TYPES) and not name.startswith(".")]
    for name in sorted({*files, *(n for n in alone if _is_unit(n))} - units.keys()):
        if "@." in name:
            continue  # a template is no unit by itself
        found = _of_files(name, files, dropins, problems)
        if found is not None:
            units[name] = found
    if not units:
        raise InputError(
            "there is no unit in these files\n    expected .service, .slice and .scope files, "
            "folders of them with their drop-ins, or what systemctl show prints"
        )
    return [units[name] for name in sorted(units)], problems


def _flat(paths: Iterable[Path]) -> Iterator[Path]:
    """Files as they are; of folders what may be units and drop-ins."""
    count = 0
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for found in sorted(path.rglob("*")):
            wanted = found.suffix in TYPES or (
                found.suffix == ".conf" and found.parent.name.endswith(".d")
            )
            in_wants = found.parent.name.endswith((".wants", ".requires"))
            if not wanted or in_wants or not (found.is_file() or found.is_symlink()):
                continue
            count += 1
            if count > MOST_FILES:
                raise InputError(f"{path}: more than {MOST_FILES} units")
            yield found


def _rank(path: Path) -> int:
    found = (n for n, where in enumerate(LOAD_PATH) if where in f"{path.absolute().parent}/")
    return next(found, len(LOAD_PATH))


def _is_unit(name: str) -> bool:
    """Whether drop-ins of this name are a unit's own, not a prefix's, template's or type's."""
    return not re.search(r"[-@]\.[a-z]+$", name) and "." in name


def _of_files(
    name: str, files: Mapping[str, Path], dropins: Mapping[str, Mapping[str, Path]],
    problems: list[Problem],
) -> Unit | None:  # fmt: skip
    """A unit of its file and drop-ins; None where it is masked."""
    template = re.sub(r"@[^.]*(?=\.[a-z]+$)", "@", name)
    main = files.get(name) or files.get(template)
    unit = Unit(name, file=str(main or next(iter(dropins.get(name, {}).values()), name)))
    if main is None:
        problems.append(doubt(unit.file, 0, f"{name} has drop-ins here and no file of its own"))
    elif main.is_symlink() and (why := _not_a_unit(main, files)):
        problems.append(doubt(str(main), 0, f"{name} {why}: left out"))
        return None
    else:
        _parse(main, unit, problems)
    counting: dict[str, Path] = {}
    for folder in reversed(_folders(name, template)):
        counting |= dropins.get(folder, {})
    for conf in sorted(counting):
        _parse(counting[conf], unit, problems)
    return unit


def _not_a_unit(main: Path, files: Mapping[str, Path]) -> str:
    """Why a symbolic link stands for no unit of its own; empty: it does."""
    target = main.resolve()
    if str(target) == "/dev/null":
        return "is masked"
    if not target.exists():
        return "leads to a file that is not here"
    if target.name != main.name and target.name in files and "@" not in main.name:
        return f"is another name of {target.name}"
    return ""


def _folders(name: str, template: str) -> list[str]:
    """Names whose ``.d`` folders hold drop-ins of a unit, the nearest first.

    Worked example
    --------------
    >>> _folders("shop-web@1.service", "shop-web@.service")
    ['shop-web@1.service', 'shop-web@.service', 'shop-.service', 'service']
    """
    stem, _, kind = template.rpartition(".")
    parts = stem.split("-")
    prefixes = [f"{'-'.join(parts[:n])}-.{kind}" for n in range(len(parts) - 1, 0, -1)]
    return list(dict.fromkeys([name, template, *prefixes, kind]))


def _parse(path: Path, unit: Unit, problems: list[Problem]) -> None:
    """Read one file into a unit; settings of other sections are passed over."""
    section = ""
    for line, text in _lines(read_text(path, str(path))):
        header = re.fullmatch(r"\[([^\]]*)\]", text)
        if header is not None:
            section = header[1]
            continue
        key, equals, value = text.partition("=")
        if not equals or not section:
            problems.append(doubt(str(path), line, f"{text[:60]!r} is no setting: left out"))
        elif section in SECTIONS:
            key, value = key.strip(), _specified(value.strip(), unit.name)
            if value:
                unit.settings[key] = value
            else:
                unit.settings.pop(key, None)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers: comments dropped, those that end in a backslash joined."""
    held, begin = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped.startswith(("#", ";")) or not (stripped or held):
            continue
        begin = begin or number
        if stripped.endswith("\\"):
            held += stripped[:-1] + " "
            continue
        if held + stripped:
            yield begin, (held + stripped).strip()
        held, begin = "", 0
    if held.strip():
        yield begin, held.strip()


def _specified(value: str, unit: str) -> str:
    """``%i``, ``%p``, ``%n``, ``%N`` and ``%j`` put in (systemd.unit(5), SPECIFIERS)."""
    stem = unit.rpartition(".")[0]
    prefix, _, instance = stem.partition("@")
    known = {"i": instance, "I": instance, "p": prefix, "P": prefix, "n": unit, "N": stem,
             "j": prefix.rpartition("-")[2], "%": "%"}  # fmt: skip
    return re.sub(r"%(.)", lambda found: known.get(found[1], found[0]), value)


def _shown(text: str, file: str) -> Iterator[Unit]:
    """Units of ``systemctl show``: blocks of KEY=VALUE with an empty line between them."""
    for block in re.split(r"\n\s*\n", text):
        pairs = (line.partition("=") for line in block.splitlines())
        settings = {key.strip(): value.strip() for key, equals, value in pairs if equals}
        name = settings.get("Id", "")
        if name.endswith(TYPES):
            yield Unit(name, settings, shown=True, file=file)
