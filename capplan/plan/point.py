"""What is run: a node file with settings applied, a seed and a replicate; and its key.

All replicates of a setting share a :class:`Variant`: the resolved input as one canonical text
and the traces it names by content. A worker needs nothing else, so a variant can be sent to
another host. A point's key is a hash of that text, the traces, the seed, the replicate and the
code: the same key is the same row, and what is in a store is never computed again.

Draws depend on seed, replicate and names only (:mod:`capplan.sim.expand_draws`), never on a
setting: the settings of a sweep meet the same workload in the same replicate.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import hashlib
import importlib.metadata
import itertools
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import capplan
import capplan.spec
from capplan.errors import CapplanError, InputError
from capplan.sim.expand import SAMPLE_STEPS, instance_names
from capplan.sim.expand_draws import Blend
from capplan.spec import NodeSpec

__all__ = [
    "Point",
    "Variant",
    "axis",
    "code_digest",
    "grid",
    "of_spec",
    "point",
    "points",
    "variant",
]

MAX_SAMPLES = 200  # of a run of many: extremes are kept between samples, curves are not shown
NODE_FILE = "node.json"  # JSON is YAML too
Load = Callable[[Path, Mapping[str, str]], NodeSpec]


@dataclasses.dataclass(frozen=True, eq=False)
class Variant:
    """A node file with settings applied: what all its replicates have in common.

    Attributes
    ----------
    index : int
        Place among the settings of a sweep or comparison.
    settings : dict of str to str
        What was set, in the order it was given.
    digest : str
        Hash of ``text`` (which names traces by their content's hash).
    text : str
        The resolved input as canonical JSON, without its seed.
    files : dict of str to bytes
        The traces' content by the names that ``text`` has for them.
    containers : dict of str to tuple of str
        The names of each container's replicas.
    spec : NodeSpec, optional
        The checked input; None where it is wrong.
    error : str
        Why it cannot be run; its points become rows with this error.
    name : str
        What the settings are called, where they have a name (``krr``).
    """

    index: int
    settings: Mapping[str, str]
    digest: str
    text: str = dataclasses.field(default="", repr=False)
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict, repr=False)
    containers: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict, repr=False)
    spec: NodeSpec | None = dataclasses.field(default=None, repr=False)
    error: str = ""
    name: str = ""

    @property
    def label(self) -> str:
        """Its name, else the settings on one line; "as written" where nothing was set."""
        return self.name or ", ".join(f"{k}={v}" for k, v in self.settings.items()) or "as written"


@dataclasses.dataclass(frozen=True, eq=False)
class Point:
    """One run: a variant, a seed, a replicate.

    ``blend``: see :mod:`capplan.plan.rare`. ``until_bad``: the run is over with its first kill,
    pause or eviction (:func:`capplan.plan.metrics.stopped`).
    """

    variant: Variant
    seed: int
    replicate: int
    key: str
    blend: Blend = ()
    until_bad: bool = False


# --- settings ------------------------------------------------------------------------------


def axis(text: str) -> list[str]:
    """The values of a ``--set`` list: split at commas outside brackets and quotes.

    Worked example
    --------------
    >>> axis("512Mi,768Mi"), axis("[a, b],max"), axis("60")
    (['512Mi', '768Mi'], ['[a, b]', 'max'], ['60'])
    """
    values, depth, quote, begin = [], 0, "", 0
    for at, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "[{":
            depth += 1
        elif char in "]}":
            depth -= 1
        elif char == "," and depth == 0:
            values.append(text[begin:at].strip())
            begin = at + 1
    return [*values, text[begin:].strip()]


def grid(axes: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Every combination, the last key's values changing fastest.

    Worked example
    --------------
    >>> grid({"a": ["1", "2"], "b": ["x"]})
    [{'a': '1', 'b': 'x'}, {'a': '2', 'b': 'x'}]
    """
    return [dict(zip(axes, values)) for values in itertools.product(*axes.values())]


# --- variants ------------------------------------------------------------------------------


def variant(
    path: str | Path,
    settings: Mapping[str, str] | None = None,
    index: int = 0,
    *,
    load: Load = capplan.spec.load,
    keep_errors: bool = False,
) -> Variant:
    """Load a node file with settings applied.

    Parameters
    ----------
    path : str or Path
        The node file.
    settings : mapping of str to str, optional
        As after ``--set``: a key path matches the longest known key.
    index : int
        Place among the settings of a sweep.
    load : callable
        Reads and checks; replaced where settings need a translation first (cgroup.version).
    keep_errors : bool, default False
        Give back a variant with its error instead of raising (a point of a sweep that fails is
        a row with its error).

    Raises
    ------
    InputError
        What is wrong with the files or settings.
    """
    settings = dict(settings or {})
    try:
        return of_spec(load(Path(path), settings), settings, index)
    except CapplanError as error:
        if not keep_errors:
            raise
        text = str(error).replace(f"{Path(path).parent}/", "")  # the same wherever it lies
        what = json.dumps([Path(path).name, settings], sort_keys=True)
        return Variant(index, settings, _sha(f"wrong {what} {text}"), error=text)


def of_spec(spec: NodeSpec, settings: Mapping[str, str] | None = None, index: int = 0) -> Variant:
    """The variant of a node that is loaded already."""
    resolved = spec.resolved
    resolved["name"] = spec.name
    resolved["run"] = {**resolved["run"], "sample": f"{sample_ns(spec)}ns"}
    resolved["run"].pop("seed")
    files: dict[str, bytes] = {}
    for container in resolved["containers"].values():
        for process in container["profile"]["processes"].values():
            if "trace" in process:
                process["trace"] = _packed(process["trace"], spec.path.parent, files)
    text = json.dumps(resolved, sort_keys=False, separators=(",", ":"), allow_nan=False)
    return Variant(
        index=index,
        settings=dict(spec.settings if settings is None else settings),
        digest=_sha(text),
        text=text,
        files=files,
        containers={n: tuple(instance_names(n, c)) for n, c in spec.containers.items()},
        spec=spec,
    )


def sample_ns(spec: NodeSpec) -> int:
    """Distance of samples in a run of many [ns]: what the file says, else at most 200 of them."""
    if spec.run.sample is not None:
        return spec.run.sample
    duration = spec.run.duration
    fitting = (step for step in SAMPLE_STEPS if duration <= step * MAX_SAMPLES)
    return next(fitting, -(-duration // MAX_SAMPLES))


def _packed(trace: Mapping[str, Any], folder: Path, files: dict[str, bytes]) -> dict[str, Any]:
    """The trace with its files named by content; the content goes to ``files``."""
    masks = [
        {**mask, "file": _pack(folder / mask["file"], files)} if "file" in mask else mask
        for mask in trace["mask"]
    ]
    return {**trace, "file": _pack(folder / str(trace["file"]), files), "mask": masks}


def _pack(path: Path, files: dict[str, bytes]) -> str:
    """The name that a file has by its content, which goes to ``files``."""
    try:
        stat = path.stat()
        content, digest = _content(path, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise InputError(f"{path}: the trace cannot be read: {error.strerror or error}") from error
    name = f"{digest}{''.join(path.suffixes[-2:])}"
    files[name] = content
    return name


@functools.lru_cache(maxsize=64)
def _content(path: Path, mtime_ns: int, size: int) -> tuple[bytes, str]:
    content = path.read_bytes()
    return content, hashlib.sha256(content).hexdigest()[:32]


def unpack(text: str, files: Mapping[str, bytes]) -> NodeSpec:
    """The checked input of a variant, from what was sent of it (elsewhere, maybe)."""
    folder = unpacked()
    for name, content in files.items():
        if not (folder / name).exists():
            (folder / name).write_bytes(content)
    path = folder / NODE_FILE
    path.write_text(text, encoding="utf-8")
    return capplan.spec.load(path)


@functools.cache
def unpacked() -> Path:
    """Where this process keeps the traces that were sent to it; gone when it ends."""
    folder = tempfile.TemporaryDirectory(prefix="capplan-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


# --- points --------------------------------------------------------------------------------


def points(
    variants: Iterable[Variant], replicates: Sequence[int], seed: int, *, until_bad: bool = False
) -> Iterator[Point]:
    """Every replicate of every variant, variant by variant."""
    for made in variants:
        for replicate in replicates:
            yield point(made, seed, replicate, until_bad=until_bad)


def point(
    made: Variant, seed: int, replicate: int, blend: Blend = (), *, until_bad: bool = False
) -> Point:
    """One run of a variant, with its key."""
    what = f"{made.digest} {seed} {replicate} {code_digest()}"
    what += f" {blend!r}" if blend else ""
    what += " until bad" if until_bad else ""
    return Point(made, seed, replicate, _sha(what), blend, until_bad)


@functools.cache
def code_digest() -> str:
    """Hash of the version, of all source that a row depends on, and of what compiles it.

    The host is not part of it: the same lock file gives the same rows and keys on each.
    """
    package = Path(capplan.__file__).resolve().parent
    digest = hashlib.sha256(capplan.__version__.encode())
    for name in ("numba", "llvmlite", "numpy"):
        digest.update(f" {name}={importlib.metadata.version(name)}".encode())
    sources = [package / "release.py", package / "units.py"]
    for folder in ("mm", "sim", "spec", "plan"):
        sources += sorted((package / folder).rglob("*.py"))
    for path in sources:
        digest.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return digest.hexdigest()[:32]


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
