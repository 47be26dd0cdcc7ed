"""A compiled entry as a file of object code, which llvmlite alone loads and ctypes calls.

numba needs half a second to be imported and made ready, only to load what it compiled once. The
file holds a line with the symbol's name and the code's hash, then the object code. It was made for
one CPU, one set of sources and one numba: its folder's name (:func:`capplan.mm._jit.source_hash`)
says which.

The calling convention is numba's: an integer status; where the result goes; where an exception
would go; then the arguments, an array as seven words (owner, parent, items, item size, data, shape,
strides). ctypes releases the GIL for the call, so progress and other runs go on beside it.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np

__all__ = ["bind", "host_cpu", "load", "save"]

_OK, _NONE = 0, -2  # numba.core.callconv: RETCODE_OK, RETCODE_NONE
SUFFIX = ".o"


def host_cpu() -> str:
    """The CPU that code is compiled for: its name and features."""
    return f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"


def save(path: pathlib.Path, symbol: str, code: bytes) -> None:
    """Write an entry's file; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    digest = hashlib.sha256(code).hexdigest()
    try:
        temporary.write_bytes(f"{digest} {symbol}\n".encode() + code)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: pathlib.Path) -> Callable[..., int] | None:
    """The entry in a file; None when there is no such file, or a damaged one."""
    try:
        head, _, code = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    digest, _, symbol = head.decode(errors="replace").partition(" ")
    if not symbol or hashlib.sha256(code).hexdigest() != digest:
        return None
    engine = _engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return bind(engine.get_function_address(symbol), keep=engine)


@functools.cache
def _engine() -> Any:
    """A just-in-time linker (MCJIT) for object files."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        jit=True, codemodel="jitdefault"
    )
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)


def bind(address: int, keep: object) -> Callable[..., int]:
    """A Python function for compiled code at ``address`` that returns an int64.

    Parameters
    ----------
    address : int
        Of a function with numba's calling convention.
    keep : object
        What owns the code; it lives as long as the function.
    """

    def call(*args: Any) -> int:
        words, kinds = _words(args)
        result, exception = ctypes.c_int64(), ctypes.c_void_p()
        function = _prototype(kinds)(address)
        status = function(ctypes.byref(result), ctypes.byref(exception), *words)
        if status not in (_OK, _NONE):
            raise IndexError("an index in compiled code is out of range; CAPPLAN_JIT=0 shows where")
        return result.value

    call.code = keep  # type: ignore[attr-defined]
    return call


@functools.cache
def _prototype(kinds: tuple[type, ...]) -> Any:
    return ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *kinds)


def _words(args: tuple[Any, ...]) -> tuple[list[int], tuple[type, ...]]:
    """The arguments as the machine's words, and their C types."""
    words: list[int] = []
    for arg in args:
        if isinstance(arg, np.ndarray):
            if arg.ndim != 1 or not arg.flags.c_contiguous:
                raise TypeError("an entry takes dense arrays of one dimension")
            size = arg.itemsize
            words += [0, 0, arg.size, size, arg.ctypes.data, arg.size, size]
        else:
            words.append(int(arg))
    return words, (ctypes.c_int64,) * len(words)
