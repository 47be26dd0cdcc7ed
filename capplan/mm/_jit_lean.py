"""What makes the first compile short: numba without the work that the mechanisms never need.

numba compiles a function for any Python that may come: closures, array expressions, generators,
reference counts, overloads for lists and strings. The mechanisms are integers, floats and
records. So, while an entry is compiled (:func:`quick_compile`) and for mechanisms only:

``LeanCompiler``     the passes that such code needs, and no others
``enable_nrt=False`` no reference counts: nothing here allocates
``_operator_type``   the type of ``int64 + int64`` is worked out once, not 3000 times
``compile_lean``     no timers around each of 25 nested compilations
``LOOP_VECTORIZE``   off, and SLP too: the loops are over four lists or six orders, and wide vectors
                     made a day under pressure 6 % slower

What is left is mostly the writing and parsing of LLVM's text.
"""

from __future__ import annotations

import contextlib
import gc
import operator
from collections.abc import Callable, Iterator
from typing import Any

from numba import types
from numba.core import cgutils, compiler, config, lowering, untyped_passes
from numba.core import typed_passes as typed
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.types import unliteral  # type: ignore[attr-defined]
from numba.np import arrayobj

__all__ = ["LeanCompiler", "compile_lean", "quick_compile"]


class LeanLower(lowering.Lower):  # type: ignore[misc]
    """Array elements by pointer arithmetic alone.

    An index is never negative here ("none" is -1, and is asked for before it is used), so
    nothing wraps around: two instructions instead of forty, in the text as in the machine.
    ``NUMBA_BOUNDSCHECK=1`` checks each index, and -1 too.
    """

    def _element(self, base: Any, index: Any) -> Any:
        """Pointer to ``base[index]`` of a dense 1-d array, or None for anything else."""
        array, number = self.typeof(base.name), self.typeof(index.name)
        dense = isinstance(array, types.Array) and array.ndim == 1 and array.layout == "C"
        if not dense or not isinstance(number, types.Integer):
            return None
        context, builder = self.context, self.builder
        at = context.cast(builder, self.loadvar(index.name), number, types.intp)
        value = self.loadvar(base.name)
        fields = context.data_model_manager[array]
        if context.enable_boundscheck:
            length = builder.extract_value(fields.get(builder, value, "shape"), 0)
            cgutils.do_boundscheck(context, builder, at, length, 0)
        return builder.gep(fields.get(builder, value, "data"), [at], inbounds=True)

    def lower_getitem(self, resty: Any, expr: Any, value: Any, index: Any, signature: Any) -> Any:
        """``a[i]``"""
        pointer = self._element(value, index)
        if pointer is None:
            return super().lower_getitem(resty, expr, value, index, signature)
        array = self.typeof(value.name)
        item = arrayobj.load_item(self.context, self.builder, array, pointer)
        return self.context.cast(self.builder, item, array.dtype, resty)

    def lower_setitem(self, target: Any, index: Any, value: Any, signature: Any) -> Any:
        """``a[i] = x``"""
        array = self.typeof(target.name)
        pointer = None
        if isinstance(getattr(array, "dtype", None), types.Number):
            pointer = self._element(target, index)
        if pointer is None:
            return super().lower_setitem(target, index, value, signature)
        item = self.loadvar(value.name)
        item = self.context.cast(self.builder, item, self.typeof(value.name), array.dtype)
        return arrayobj.store_item(self.context, self.builder, array, item, pointer)


@register_pass(mutates_CFG=True, analysis_only=False)
class LeanLowering(typed.BaseNativeLowering):  # type: ignore[misc]
    """Lowering by :class:`LeanLower`."""

    _name = "lean_lowering"

    @property
    def lowering_class(self) -> Any:
        """What lowers."""
        return LeanLower


_PASSES = (
    untyped_passes.TranslateByteCode,
    untyped_passes.FixupArgs,
    untyped_passes.IRProcessing,
    untyped_passes.GenericRewrites,  # constant indices of tuples
    untyped_passes.ReconstructSSA,
    typed.NopythonTypeInference,
    typed.PreLowerStripPhis,
    typed.IRLegalization,
    LeanLowering,
    typed.NoPythonBackend,
)


class LeanCompiler(compiler.CompilerBase):  # type: ignore[misc]
    """numba's pipeline for functions of numbers, records and arrays of records."""

    def define_pipelines(self) -> list[Any]:
        """One pipeline, of the passes above."""
        manager = PassManager("lean")
        for one in _PASSES:
            manager.add_pass(one, one.__name__)
        manager.finalize()
        return [manager]


def compile_lean(dispatcher: Any, signature: Any) -> Any:
    """Compile a dispatcher for argument types: what callers are compiled against."""
    existing = dispatcher.overloads.get(tuple(signature))
    if existing is None:
        result = dispatcher._compiler.compile(tuple(signature), None)
        dispatcher.add_overload(result)
        existing = dispatcher.overloads[tuple(signature)]
    return existing.entry_point


# operator.pow is left out: its type depends on the value of a constant exponent.
_OPERATORS = (
    {f for f in vars(operator).values() if callable(f)} | {bool, int, float, min, max}
) - {operator.pow, operator.ipow}
_PLAIN = (types.Integer, types.Float, types.Boolean, types.Array, types.NestedArray)
_known: dict[Any, Any] = {}  # (operator, argument types) -> (signature, key of its code)
_resolve: Callable[..., Any] = types.Function.get_call_type


def _operator_type(self: Any, context: Any, args: Any, kws: Any) -> Any:
    """Signature of a call of a builtin; that of an operator on numbers is looked up."""
    plain = tuple(unliteral(arg) for arg in args)
    if self.typing_key not in _OPERATORS or not all(isinstance(arg, _PLAIN) for arg in plain):
        return _resolve(self, context, args, kws)
    key = (self.typing_key, plain)
    if key not in _known:
        signature = _resolve(self, context, plain, kws)
        _known[key] = (signature, self._impl_keys[signature.args])
    signature, code = _known[key]
    self._impl_keys[signature.args] = code
    return signature


@contextlib.contextmanager
def quick_compile() -> Iterator[None]:
    """While an entry is compiled, operators are looked up and loops stay loops."""
    types.Function.get_call_type = _operator_type
    vectorize = config.LOOP_VECTORIZE, config.SLP_VECTORIZE
    config.LOOP_VECTORIZE = config.SLP_VECTORIZE = 0
    collecting = gc.isenabled()
    gc.disable()  # it would look at the same million objects again and again
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        config.LOOP_VECTORIZE, config.SLP_VECTORIZE = vectorize
        types.Function.get_call_type = _resolve
