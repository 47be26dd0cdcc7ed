"""The only place that names numba.

``jit`` marks a mechanism (compiled when an entry calls it), ``entry`` marks the few
functions that Python calls in a hot loop. ``CAPPLAN_JIT=0`` leaves both as plain Python:
the same source, to debug, to count coverage, and to compare with the compiled run.

Only the engine's entries are written to disk, each as one file of object code with everything
it calls linked in (``_jit_object.py``), so a warm start does not even import numba. The cache
folder's name is a hash of all sources of ``mm`` and ``sim``, of the versions of numba, llvmlite
and numpy, of the CPU, and of the NUMBA_ flags: an edited mechanism is compiled anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any, TypeVar

ENABLED = os.environ.get("CAPPLAN_JIT", "1") != "0"


@functools.cache
def source_hash() -> str:
    """Hash of everything the compiled code depends on (hex, 16 digits)."""
    from capplan.mm._jit_object import host_cpu

    digest = hashlib.sha256()
    package = pathlib.Path(__file__).resolve().parent.parent
    for folder in ("mm", "sim"):
        for path in sorted((package / folder).glob("*.py")):
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    for name in ("numba", "llvmlite", "numpy"):
        digest.update(f"{name}={importlib.metadata.version(name)}".encode())
    flags = sorted(
        f"{k}={v}"
        for k, v in os.environ.items()
        if k.startswith("NUMBA_") and k != "NUMBA_CACHE_DIR"  # does not change the code
    )
    digest.update("\n".join([*flags, sys.version, host_cpu()]).encode())
    return digest.hexdigest()[:16]


def cache_dir() -> pathlib.Path:
    """Folder of the compiled engine: one per :func:`source_hash`."""
    base = os.environ.get("CAPPLAN_CACHE_DIR")
    if base is None:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        base = os.path.join(base, "capplan")
    return pathlib.Path(base) / source_hash()


def is_compiled() -> bool:
    """Whether a warm start is possible (an entry is in the cache)."""
    return not ENABLED or any(cache_dir().glob("*.o"))


_OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True}
_LEAN: dict[str, Any] = {
    **_OPTIONS,
    "_nrt": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}

F = TypeVar("F", bound=Callable[..., Any])


def jit(function: F) -> F:
    """Compile a mechanism; from Python it can be called too (tests do)."""
    if not ENABLED:
        return function
    return Mechanism(function)  # type: ignore[return-value]


def rare(function: F) -> F:
    """``jit`` for what seldom runs: it stands aside, and its callers are laid out for without it.

    A turn goes through more code than a core's first cache holds; what lies between costs time.
    """
    if not ENABLED:
        return function
    return Mechanism(function, rare=True)  # type: ignore[return-value]


def _njit(function: Callable[..., Any], **options: Any) -> Any:
    """``numba.njit``; numba is imported when the first function is compiled."""
    import numba

    _install()
    return numba.njit(**options)(function)


def _quick_compile() -> contextlib.AbstractContextManager[None]:
    from capplan.mm._jit_lean import quick_compile

    return quick_compile()


def _type_of(arg: Any) -> Any:
    import numba

    return numba.typeof(arg) if hasattr(arg, "dtype") else _wide(numba.typeof(arg))


def _wide(arg: Any) -> Any:
    """The one type that a scalar argument is passed as: a function is compiled once."""
    from numba.core import types

    arg = types.unliteral(arg)  # type: ignore[attr-defined]
    if isinstance(arg, types.Integer | types.Boolean):
        return types.int64
    if isinstance(arg, types.Float):
        return types.float64
    return arg


class Mechanism:
    """A function that compiled code calls, compiled without an entry of its own.

    numba finishes each function by itself, with everything below it linked in and optimised
    again: on a call graph 25 levels deep that took minutes. Here a function's code is only
    kept, and what an entry calls is linked and optimised once, in the entry
    (:func:`_finalize`). Called from Python, an entry is made on the spot.
    """

    def __init__(self, function: Callable[..., Any], rare: bool = False) -> None:
        self.py_func = function
        self.rare = rare
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__
        self.__wrapped__ = function
        self._entry: Any = None

    @functools.cached_property
    def dispatcher(self) -> Any:
        """numba's dispatcher, made when something is compiled: a warm start needs none."""
        from capplan.mm._jit_lean import LeanCompiler, compile_lean

        dispatcher = _njit(self.py_func, pipeline_class=LeanCompiler, **_LEAN)
        compiler = dispatcher._compiler

        def no_code_yet(flags: Any) -> Any:
            flags.no_compile = True
            return flags

        def keep(result: Any) -> None:
            if self.rare:
                code = result.library.get_function(result.fndesc.llvm_func_name)
                code.add_function_attribute("cold")
            token = object()  # stands for the address that callers are compiled against
            target = dispatcher.targetctx
            target.insert_user_function(token, result.fndesc, [result.library])
            result = result._replace(entry_point=token)
            dispatcher.overloads[tuple(result.signature.args)] = result

        resolve = dispatcher.get_call_template

        def one_signature(args: Any, kws: Any) -> Any:
            return resolve([_wide(arg) for arg in args], kws)

        compiler._customize_flags = no_code_yet
        dispatcher.get_call_template = one_signature
        dispatcher.add_overload = keep
        dispatcher.compile = functools.partial(compile_lean, dispatcher)
        return dispatcher

    def __call__(self, *args: Any) -> Any:
        if self._entry is None:
            names = ", ".join(f"a{i}" for i in range(len(args)))
            space: dict[str, Any] = {"mechanism": self}
            exec(f"def from_python({names}):\n    return mechanism({names})", space)
            self._entry = _njit(space["from_python"], **_OPTIONS)
            with _quick_compile():
                return self._entry(*args)
        return self._entry(*args)


def _finalize(library: Any, original: Callable[[Any], None]) -> None:
    """Finish an entry's code library: it takes all that the entry calls."""
    from capplan.mm._jit_lower import MechanismLibrary

    seen: set[int] = set()
    wanted: list[Any] = []
    waiting = list(library._linking_libraries)
    while waiting:
        other = waiting.pop()
        if id(other) not in seen:
            seen.add(id(other))
            wanted.append(other)
            if isinstance(other, MechanismLibrary):
                waiting.extend(other._linking_libraries)
    library._linking_libraries = wanted
    own = {function.name for function in library._final_module.functions}
    optimize = library._optimize_final_module

    def optimize_as_a_whole() -> None:
        """Nobody else calls the mechanisms: they are inlined, and lose arguments they need not.

        numba passes an array as seven words. They get names of their own: the linker (MCJIT)
        looks for a symbol in all modules by name, finds internal ones too, and has no address.
        """
        for function in library._final_module.functions:
            if not function.is_declaration and function.name not in own:
                function.linkage = "internal"
                function.name = f"{function.name}$in${library.name}"
        optimize()

    library._optimize_final_module = optimize_as_a_whole
    original(library)


class _Prefetch:
    """``prefetch(array, index)``: ask for an element ahead of its use; any index will do, -1 too.

    A list of frames is a walk through memory in no order: asked for one visit ahead, the next
    frame comes while this one is dealt with (prefetchw_prev_lru_folio() in mm/vmscan.c).
    """

    def __call__(self, array: Any, index: Any) -> None:
        """In plain Python there is nothing to ask for."""


prefetch = _Prefetch()


def _prefetch_type() -> Any:
    """What numba knows ``prefetch`` as: one instruction."""
    from numba.core import cgutils, types
    from numba.core.registry import cpu_target
    from numba.extending import intrinsic

    ir = cgutils.ir

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        at = context.cast(builder, args[1], signature.args[1], types.intp)
        pointer = builder.bitcast(builder.gep(array.data, [at]), cgutils.voidptr_t)
        i32 = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, i32, i32, i32])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(call, [pointer, i32(0), i32(3), i32(1)])  # read, keep, data
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def ask(_context: Any, array: Any, index: Any) -> Any:
        return types.void(array, index), generate

    cpu_target.typing_context.refresh()
    return cpu_target.typing_context.resolve_value_type(ask)


@functools.cache
def _install() -> None:
    """Teach numba what a mechanism is, and when its code is finished."""
    from numba.core import codegen, types
    from numba.extending import typeof_impl

    @typeof_impl.register(Mechanism)  # type: ignore[untyped-decorator]
    def _typeof(value: Mechanism, _context: Any) -> Any:
        return types.Dispatcher(value.dispatcher)

    hint = _prefetch_type()
    typeof_impl.register(_Prefetch)(lambda _value, _context: hint)
    # numba writes a record type out in full, nested ones included (200 KiB), each time it
    # mentions one; a number does
    setattr(types.Record, "__repr__", lambda record: f"Record#{record._code}")  # noqa: B010
    original = codegen.CPUCodeLibrary.finalize
    codegen.CPUCodeLibrary.finalize = lambda library: _finalize(library, original)


class entry:  # noqa: N801 - reads like the decorator it is
    """Compile a function that Python calls; its arguments never change type.

    It takes dense arrays of one dimension and integers. One of capplan's own modules is kept on
    disk and returns an int64; any other (a test's) is compiled in each process and returns what
    it likes.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.py_func = function
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self._call: Callable[..., Any] | None = None if ENABLED else function

    def __call__(self, *args: Any) -> Any:
        if self._call is None:
            own = self.__module__.startswith("capplan.")
            self._call = self._loaded(args) if own else _njit(self.py_func, **_OPTIONS)
            if not own:
                with _quick_compile():
                    return self._call(*args)
        return self._call(*args)

    def _loaded(self, args: tuple[Any, ...]) -> Callable[..., int]:
        """The function out of its file; compiled, and the file written, where there is none."""
        from capplan.mm import _jit_object

        name = f"{self.__module__}.{self.py_func.__qualname__}{_jit_object.SUFFIX}"
        path = cache_dir() / name
        found = _jit_object.load(path)
        if found is not None:
            return found
        library, symbol = self._compile(args)
        address = library.get_pointer_to_function(symbol)
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time only
            _jit_object.save(path, symbol, library._get_compiled_object())
        return _jit_object.bind(address, keep=library)

    def _compile(self, args: tuple[Any, ...]) -> tuple[Any, str]:
        """A code library that needs nothing of numba when it runs, and the symbol in it."""
        dispatcher = _njit(self.py_func, **_LEAN)
        with _quick_compile():
            result = dispatcher._compiler.compile(tuple(map(_type_of, args)), None)
        return result.library, result.fndesc.llvm_func_name


if ENABLED:
    source_hash()  # now, beside the import of what it names: sources may be edited later
