"""What makes the first compile short: numba without the work that the mechanisms never need.

numba compiles a function for any Python that may come: closures, array expressions, generators,
reference counts, overloads for lists and strings. The mechanisms are integers, floats and
records. So, while an entry is compiled (:func:`quick_compile`) and for mechanisms only:

``LeanCompiler``     the passes that such code needs, and no others; no lifetimes of variables
``LeanLower``        LLVM's text of fields, elements and variables is short (``_jit_lower.py``)
``enable_nrt=False`` no reference counts: nothing here allocates
``_operator_type``   the type of ``int64 + int64`` is worked out once, not 3000 times
``compile_lean``     no timers around each of 25 nested compilations
``LOOP_VECTORIZE``   off, and SLP too: the loops are over four lists or six orders, and wide vectors
                     made a day under pressure 6 % slower
"""

from __future__ import annotations

import contextlib
import gc
import operator
from collections.abc import Callable, Iterator
from typing import Any

from numba import types
from numba.core import compiler, config, untyped_passes
from numba.core import typed_passes as typed
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.ir_utils import build_definitions
from numba.core.rewrites import static_getitem
from numba.core.ssa import reconstruct_ssa
from numba.core.types import unliteral  # type: ignore[attr-defined]

from capplan.mm._jit_lower import LeanLower, MechanismLibrary

__all__ = ["LeanCompiler", "compile_lean", "quick_compile"]


@register_pass(mutates_CFG=True, analysis_only=False)
class ConstantIndices(untyped_passes.GenericRewrites):  # type: ignore[misc]
    """Constant indices of tuples."""

    _name = "constant_indices"

    def run_pass(self, state: Any) -> bool:
        """Rewrite each block that has one."""
        rewrite = static_getitem.RewriteConstGetitems(state)
        for key, block in list(state.func_ir.blocks.items()):
            if rewrite.match(state.func_ir, block, state.typemap, state.calltypes):
                state.func_ir.blocks[key] = rewrite.apply()
        return True


@register_pass(mutates_CFG=True, analysis_only=False)
class AssignOnce(untyped_passes.ReconstructSSA):  # type: ignore[misc]
    """A variable of its own for each assignment (SSA)."""

    _name = "assign_once"

    def run_pass(self, state: Any) -> bool:
        """Rewrite the function."""
        state.func_ir = reconstruct_ssa(state.func_ir)
        state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return True


@register_pass(mutates_CFG=True, analysis_only=False)
class StripPhis(typed.PreLowerStripPhis):  # type: ignore[misc]
    """One variable again where paths meet."""

    _name = "strip_phis_only"

    def run_pass(self, state: Any) -> bool:
        """Rewrite the function."""
        state.func_ir = self._strip_phi_nodes(state.func_ir)
        return True


@register_pass(mutates_CFG=True, analysis_only=False)
class LeanLowering(typed.BaseNativeLowering):  # type: ignore[misc]
    """Lowering by :class:`LeanLower`, into a :class:`MechanismLibrary`."""

    _name = "lean_lowering"

    def run_pass(self, state: Any) -> bool:
        """Lower the function."""
        library = MechanismLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library = library
        return bool(super().run_pass(state))

    @property
    def lowering_class(self) -> Any:
        """What lowers."""
        return LeanLower


_PASSES = (
    untyped_passes.TranslateByteCode,
    untyped_passes.FixupArgs,
    ConstantIndices,
    AssignOnce,
    typed.NopythonTypeInference,
    StripPhis,
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
