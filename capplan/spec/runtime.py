"""Language runtimes of a process: what a person knows of a JVM, a Go or a Node.js program.

``capplan.spec.runtimes`` turns it into regions and phases, against the container's limit.
"""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from capplan.spec.common import (
    Bytes,
    Compressibility,
    Dist,
    Duration,
    Model,
    Rate,
    Share,
    bare_as,
    only_one,
    problem,
)
from capplan.spec.runtimes.jvm_flags import parse_jvm
from capplan.spec.runtimes.nodejs_flags import parse_nodejs

GIB = 1 << 30
# Go: internal/runtime, parseByteCount(): digits with B, KiB, MiB, GiB, TiB, or none at all
_GO_SIZE = re.compile(r"([0-9]+)(B|[KMGT]iB)?")
_GO_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def _gomemlimit(value: Any) -> Any:
    text = str(value).strip()
    found = _GO_SIZE.fullmatch(text)
    if text == "off":
        return None
    if found is None or isinstance(value, bool):
        fixed = re.sub(r"^([0-9]+)([KMGT])i?$", r"\1\2iB", text)
        suggestion = fixed if fixed != text and _GO_SIZE.fullmatch(fixed) else ""
        expected = "digits with B, KiB, MiB, GiB or TiB, as Go reads it, or off"
        raise problem("size", f"{text!r} is not a GOMEMLIMIT; Go would exit", expected, suggestion)
    return int(found[1]) * _GO_UNITS[found[2] or ""]


def _gogc(value: Any) -> Any:
    if value in ("off", False):  # YAML 1.1 readers hand over off as false
        return -1
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]+", text):
        raise problem("word", f"{text!r} is not a GOGC", "a whole percentage such as 100, or off")
    return max(int(text), -1)


def _flags(parse: Any) -> AfterValidator:
    """Check the flags when the file is read, so that errors have a place."""

    def check(value: str) -> str:
        try:
            words = shlex.split(value)
        except ValueError as error:
            raise problem("word", f"{value!r}: {error}", "flags as on a command line") from error
        parse(words)
        return value

    return AfterValidator(check)


class Live(Model):
    """What all runtimes with a garbage collector have in common."""

    live: Bytes
    """What a full collection leaves: the heap's live data."""
    growth: Rate = 0.0
    """How fast the live data grow: a leak."""
    allocation_rate: Rate
    """How fast the program allocates."""
    access_rate: Rate | None = None
    """How fast the program accesses its live data. Left out: as fast as it allocates, printed as
    an assumption."""
    scan_rate: Annotated[Rate, Field(gt=0)] = float(GIB)
    """How fast one CPU marks live data; the collector's log shows it."""
    compressibility: Annotated[Compressibility, bare_as("mean")] | None = None
    """Share saved by compression, of all its memory. Left out: an assumption is printed."""


class Jvm(Live):
    """A HotSpot JVM (OpenJDK 11 and later)."""

    flags: Annotated[str, _flags(parse_jvm)] = ""
    """The command line's flags. Of those that are not about memory none has an effect."""
    version: Annotated[int, Field(ge=11, le=99)] = 21
    threads: Annotated[int, Field(ge=1, le=1_000_000)] = 40
    """All threads: the program's, the collector's and the compilers'."""
    committed: Bytes | None = None
    """Heap that was in use at its highest (``jcmd GC.heap_info``, or the collector's log). Left
    out: what the sizing policy arrives at from ``live``."""
    promoted: Share = 0.1
    """Share of what is allocated that reaches the old generation."""
    mark_every: Dist[Duration] | None = None
    """From one collection that marks all live data to the next. Left out: the time in which
    promotion fills the old generation."""
    metaspace: Bytes = 90 << 20
    """Metadata of classes (``jcmd VM.metaspace``)."""
    code_cache: Bytes = 40 << 20
    """Compiled code (``jcmd Compiler.codecache``)."""
    stack: Bytes = 100 << 10
    """What a thread touches of its stack."""
    direct: Bytes = 0
    """Direct byte buffers."""
    native: Bytes = 0
    """Other native memory: JNI libraries, malloc arenas, symbols (native memory tracking)."""


class Go(Live):
    """A Go program (1.19 and later)."""

    gomemlimit: Annotated[
        int | None, BeforeValidator(_gomemlimit), Field(alias="GOMEMLIMIT", ge=0)
    ] = None
    """As in the environment: 450MiB. Left out: none; Go does not look at the cgroup's limit."""
    gogc: Annotated[int, BeforeValidator(_gogc), Field(alias="GOGC")] = 100
    """As in the environment: a percentage, or off."""
    gomaxprocs: Annotated[int | None, Field(alias="GOMAXPROCS", ge=1)] = None
    """Left out: the node's CPUs."""
    goroutines: Annotated[int, Field(ge=1, le=100_000_000)] = 100
    stack: Bytes = 8 << 10
    """A goroutine's stack; the least is 2 KiB."""
    globals: Bytes = 4 << 20
    """Data of the program that the collector scans."""
    runtime: Bytes = 10 << 20
    """The runtime's own structures: spans, bitmaps, profiling buckets (MemStats: MSpanSys,
    MCacheSys, GCSys, OtherSys)."""


class NodeJs(Live):
    """A Node.js program with one isolate (12 and later)."""

    flags: Annotated[str, _flags(parse_nodejs)] = ""
    """Command line or NODE_OPTIONS."""
    version: Annotated[int, Field(ge=12, le=99)] = 22
    promoted: Share = 0.1
    """Share of what is allocated that reaches the old space."""
    external: Bytes = 0
    """Buffers and other memory outside V8's heap (process.memoryUsage().external)."""
    base: Bytes = 40 << 20
    """What the process has before a line of the program ran: V8's code, ICU, libuv."""
    threads: Annotated[int, Field(ge=1, le=10_000)] = 11
    """The main thread, four of V8's workers and one for delays, four of libuv, one for signals."""


class Runtime(Model):
    """A mapping with exactly one key: which runtime it is."""

    jvm: Jvm | None = None
    go: Go | None = None
    nodejs: NodeJs | None = None

    @model_validator(mode="after")
    def _one(self) -> Runtime:
        only_one(self, *type(self).model_fields)
        return self
