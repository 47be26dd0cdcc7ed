"""Reading a node file and the profiles it names; everything that is wrong, at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from capplan.errors import InputError, Place, Problem, closest, quoted
from capplan.spec import settings as dotted
from capplan.spec import timeline
from capplan.spec.autoscalers import Hpa, Vpa
from capplan.spec.cgroup import Cgroup
from capplan.spec.node import Container, Gate, Machine, NodeFile, RunOptions
from capplan.spec.profile import Profile
from capplan.spec.runtimes.expand import expand_runtimes
from capplan.spec.translate import translate
from capplan.spec.tree import SET, KeyPath, Node, parse, read_text
from capplan.spec.validate import key_place, validate

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Source:
    """A profile as a container has it: the model, where it came from, and its tree."""

    profile: Profile
    path: Path
    """The profile's file; an inline profile's is the node file."""
    tree: Node = field(repr=False)
    prefix: KeyPath = ()
    """Key path of an inline profile in its node file."""
    notes: tuple[str, ...] = ()
    """What was worked out or assumed of its runtimes."""

    def file(self, name: str) -> Path:
        """Return the path of a file (a trace) that the profile names."""
        return self.path.parent / name

    def place(self, *path: str | int) -> Place:
        """Return the place of a key path in the profile."""
        return self.tree.place_of(path)


@dataclass(frozen=True)
class NodeSpec:
    """A node file, read and checked, with the profile of each container.

    Attributes
    ----------
    path : Path
        The node file.
    name : str
        Its ``name``, or the file's name without suffix.
    model : NodeFile
    sources : dict of str to Source
        By container.
    timeline : tuple of Step
        The changes during the run, resolved and in order of time.
    settings : dict of str to str
        What ``--set`` changed.
    warnings : tuple of Problem
        What is doubtful but runs.
    """

    path: Path
    name: str
    model: NodeFile
    sources: dict[str, Source]
    timeline: tuple[timeline.Step, ...]
    settings: dict[str, str]
    tree: Node = field(repr=False)
    warnings: tuple[Problem, ...] = ()

    @property
    def node(self) -> Machine:
        """The machine."""
        return self.model.node

    @property
    def cgroup(self) -> Cgroup:
        """The control groups."""
        return self.model.cgroup

    @property
    def containers(self) -> dict[str, Container]:
        """The containers by name."""
        return self.model.containers

    @property
    def vpas(self) -> dict[str, Vpa]:
        """The vertical pod autoscalers, by container."""
        return self.model.vpa or {}

    @property
    def hpas(self) -> dict[str, Hpa]:
        """The horizontal pod autoscalers, by container."""
        return self.model.hpa or {}

    @property
    def run(self) -> RunOptions:
        """How it is run."""
        return self.model.run

    @property
    def gate(self) -> Gate:
        """What counts as fitting."""
        return self.model.gate

    @property
    def profiles(self) -> dict[str, Profile]:
        """The profile of each container, overrides applied."""
        return {name: source.profile for name, source in self.sources.items()}

    @property
    def resolved(self) -> dict[str, Any]:
        """The whole input with every default, profiles in place.

        Plain values only; written to a YAML file beside the node file it loads as the same.
        """
        dumped = _dump(self.model)
        for name, source in self.sources.items():
            profile = _dump(source.profile)
            for process in profile["processes"].values():
                if "trace" in process:
                    for named in (process["trace"], *process["trace"]["mask"]):
                        if "file" in named:
                            file = source.file(named["file"])
                            named["file"] = os.path.relpath(file, self.path.parent)
            dumped["containers"][name] |= {"profile": profile, "set": {}}
        return dumped

    def place(self, *path: str | int) -> Place:
        """Return the place of a key path: ``place("containers", "web", "memory.max")``."""
        return self.tree.place_of(path)

    def key_place(self, *path: str | int) -> Place:
        """Return the place of the path's last key."""
        return key_place(self.tree, path)


def _dump(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


Loaded = NodeSpec


def load(
    path: str | Path,
    settings: Mapping[str, str] | None = None,
    *,
    strict: bool = False,
) -> NodeSpec:
    """Read, validate and check a node file and its profiles.

    Parameters
    ----------
    path : str or Path
        The node file. Profiles are found relative to it, traces relative to their profile.
    settings : mapping of str to str, optional
        Dotted keys and values that take the place of the file's.
    strict : bool, default False
        Treat warnings as errors.

    Returns
    -------
    NodeSpec

    Raises
    ------
    InputError
        Everything that is wrong in all files.
    """
    from capplan.spec.check import check

    path = Path(path)
    tree, problems = parse(read_text(path, str(path)), str(path))
    _refuse_other_files(tree)
    tree = tree.copied()  # what aliases share becomes separate, so that one can be changed
    notes: list[Problem] = []
    if settings:
        written = _cgroup_version(tree)
        problems += dotted.apply(tree, NodeFile, settings)
        if _cgroup_version(tree) not in (written, None):
            notes = translate(tree, str(_cgroup_version(tree)))
    sources, in_profiles = _Profiles(path, tree).read()
    file, in_node = validate(NodeFile, tree)
    problems += in_node
    steps: tuple[timeline.Step, ...] = ()
    if file is not None:
        steps, in_timeline = timeline.resolve(file, tree)
        problems += in_timeline
    problems += in_profiles
    if problems or file is None:
        raise InputError(in_order(problems, path))
    for name, container in file.containers.items():
        if isinstance(container.profile, Profile):
            inside = ("containers", name, "profile")
            sources[name] = Source(container.profile, path, _inline(tree, inside), inside)
    for name, source in sources.items():
        sources[name], in_runtime = expand_runtimes(file, name, source)
        notes += in_runtime
    name = file.name or path.stem
    spec = NodeSpec(path, name, file, sources, steps, dict(settings or {}), tree)
    found = in_order([*notes, *check(spec)], path)
    if found and (strict or any(p.severity == "error" for p in found)):
        # errors first: of a long list the end is cut
        raise InputError(sorted(found, key=lambda p: p.severity != "error"))
    return replace(spec, warnings=tuple(found))


def _cgroup_version(tree: Node) -> str | None:
    """The cgroup version of a node file; None when it is neither."""
    held = tree.child("cgroup")
    version = held.child("version") if held is not None else None
    found = "v2" if version is None else version.value
    return found if found in ("v1", "v2") else None


def in_order(problems: Iterable[Problem], path: Path) -> list[Problem]:
    """Sort problems: ``--set`` first, then the node file, then other files, by line."""
    rank = {SET: 0, str(path): 1}
    return sorted(dict.fromkeys(problems), key=lambda p: (rank.get(p.place.file, 2), p.place))


def load_profile(path: str | Path) -> Source:
    """Read and validate one profile file; raise InputError with all that is wrong."""
    path = Path(path)
    tree, problems = parse(read_text(path, str(path)), str(path))
    _refuse_node_file(tree, Problem(tree.place, "", NO_PROFILE, code="C011"))
    profile, more = validate(Profile, tree)
    if profile is None or problems:
        raise InputError(problems + more)
    return Source(profile, path, tree)


def _refuse_other_files(tree: Node) -> None:
    """Say plainly that a profile, a list or an empty file is no node file."""
    if tree.kind == "mapping" and "node" not in tree.value and "processes" in tree.value:
        message = "this is a profile, not a node file"
        expected = "a file with node: and containers: that names this profile"
        raise InputError(Problem(tree.place, "", message, expected, code="C011"))
    if tree.kind != "mapping":
        held = "nothing" if tree.value is None else f"a {tree.kind}"
        message = f"the file holds {held}, not a node"
        expected = "a mapping with capplan: 1, node: and containers:"
        raise InputError(Problem(tree.place, "", message, expected, code="C016"))


NO_PROFILE = "this is a node file, not a profile"


def _refuse_node_file(tree: Node, problem: Problem) -> None:
    """Raise the problem where a profile is expected and a node file was given."""
    if tree.kind == "mapping" and "node" in tree.value and "processes" not in tree.value:
        raise InputError(problem)


def _inline(tree: Node, path: KeyPath) -> Node:
    node = tree
    for key in path:
        node = node.child(key) or node
    return node


class _Profiles:
    """Reads each profile file once, and applies each container's overrides to a copy."""

    def __init__(self, path: Path, tree: Node) -> None:
        self.path = path
        self.tree = tree
        self.trees: dict[Path, Node | None] = {}
        self.problems: list[Problem] = []

    def read(self) -> tuple[dict[str, Source], list[Problem]]:
        """Return the profiles that are files, and all that is wrong with any profile."""
        sources = {}
        held = self.tree.child("containers")
        containers = held.value if held is not None and held.kind == "mapping" else {}
        for name, container in containers.items():
            named = container.child("profile")
            if named is None:
                continue
            if named.kind == "mapping":
                self._override(named, container, name)
            elif isinstance(named.value, str):
                source = self._source(named, container, name)
                if source is not None:
                    sources[name] = source
        return sources, self.problems

    def _source(self, named: Node, container: Node, name: str) -> Source | None:
        path = Path(os.path.normpath(self.path.parent / named.value))
        tree = self._tree(path, named, name)
        if tree is None:
            return None
        if container.child("set") is not None:
            tree = tree.copied()
            self._override(tree, container, name)
        profile, problems = validate(Profile, tree)
        self.problems += problems
        return None if profile is None else Source(profile, path, tree)

    def _tree(self, path: Path, named: Node, name: str) -> Node | None:
        """Read a profile file; a missing one is a problem of the node file's line."""
        if path not in self.trees:
            self.trees[path] = None
            if not os.path.exists(path):  # of a name too long, pathlib raises
                key = f"containers.{name}.profile"
                message = f"no file {quoted(named.value)}"
                expected = f"a profile, relative to the node file ({path})"
                found = _similar(path)
                self.problems.append(
                    Problem(named.place, key, message, expected, found, code="C001")
                )
                return None
            try:
                tree, problems = parse(read_text(path, str(path)), str(path))
                key = f"containers.{name}.profile"
                _refuse_node_file(tree, Problem(named.place, key, NO_PROFILE, code="C011"))
            except InputError as error:
                self.problems += error.problems
                return None
            self.problems += problems
            self.trees[path] = tree
        return self.trees[path]

    def _override(self, tree: Node, container: Node, name: str) -> None:
        """Apply a container's ``set`` to its profile's tree."""
        overrides = container.child("set")
        if overrides is None or overrides.kind != "mapping":
            return
        for text, value in overrides.value.items():
            resolver = dotted.Resolver(tree, Profile)
            path: KeyPath | None = resolver.resolve(text)
            if path is None:
                found = resolver.problem(overrides.keys[text], text)
                self.problems.append(replace(found, path=f"containers.{name}.set.{text}"))
            else:
                dotted.put(tree, path, value)


def _similar(path: Path) -> str:
    """Return the name of a file beside a missing one that is spelt like it."""
    try:
        beside = [other.name for other in path.parent.iterdir() if other.suffix == path.suffix]
    except (OSError, ValueError):
        return ""
    return closest(path.name, beside)
