"""A mechanism's code in LLVM's language: as few instructions as it takes.

What numba writes for a field, an element or a local variable serves reference counts, negative
indices and debuggers. Here none of it is needed, and each instruction is written as text, parsed,
and optimised away again. Lifetimes of variables are not worked out either: nothing is freed.
"""

from __future__ import annotations

import functools
from typing import Any

import llvmlite.binding as llvm
from llvmlite.ir import Constant, IntType, LoadInstr, StoreInstr
from numba import types
from numba.core import cgutils, codegen, ir, lowering
from numba.np import arrayobj

__all__ = ["LeanLower", "MechanismLibrary"]


class LeanLower(lowering.Lower):  # type: ignore[misc]
    """Elements and fields by pointer arithmetic alone; variables without reference counts.

    An index is never negative here ("none" is -1, and is asked for before it is used), so
    nothing wraps around: two instructions instead of forty, in the text as in the machine.
    ``NUMBA_BOUNDSCHECK=1`` checks each index, and -1 too.
    """

    def setup_function(self, fndesc: Any) -> None:
        """The function, for entries to link: each takes one copy."""
        super().setup_function(fndesc)
        self.function.linkage = "linkonce_odr"

    def lower_block(self, block: Any) -> None:
        """A basic block; there are no try blocks to look for."""
        for inst in block.body:
            self.loc = inst.loc
            self.lower_inst(inst)

    def lower_inst(self, inst: Any) -> Any:
        """A statement."""
        if isinstance(inst, ir.SetAttr):
            record = self.typeof(inst.target.name)
            if isinstance(record, types.Record):
                return self._set_field(record, inst)
        if not isinstance(inst, ir.Assign):
            return super().lower_inst(inst)
        self.debuginfo.mark_location(self.builder, self.loc.line)
        name = inst.target.name
        value = self.lower_assign(self.typeof(name), inst)
        self._alloca_var(name, self.typeof(name))
        if name in self._singly_assigned_vars and not self._disable_sroa_like_opt:
            self._blk_local_varmap[name] = value
        else:
            self.builder.store(value, self.getvar(name))
        return None

    def alloca_lltype(self, name: str, lltype: Any, datamodel: Any = None) -> Any:
        """Room for a variable."""
        return cgutils.alloca_once(self.builder, lltype, name=name)

    def lower_expr(self, resty: Any, expr: Any) -> Any:
        """An expression."""
        if expr.op == "getattr":
            record = self.typeof(expr.value.name)
            if isinstance(record, types.Record):
                value = self._get_field(record, self.loadvar(expr.value.name), expr.attr)
                return self.context.cast(self.builder, value, record.typeof(expr.attr), resty)
        if expr.op == "static_getitem" and expr.index_var is not None:
            if isinstance(self.typeof(expr.value.name), types.Array):
                signature = self.fndesc.calltypes[expr]
                return self.lower_getitem(resty, expr, expr.value, expr.index_var, signature)
        return super().lower_expr(resty, expr)

    def _get_field(self, record: Any, value: Any, name: str) -> Any:
        """``record.name``; of an array all but where it lies is known."""
        kind, context, builder = record.typeof(name), self.context, self.builder
        nested = isinstance(kind, types.NestedArray)
        of = context.get_data_type(kind.dtype if nested else kind)
        pointer = cgutils.get_record_member(builder, value, record.offset(name), of)
        if not nested:
            value = context.unpack_value(builder, kind, pointer, None if record.aligned else 1)
            self._touches(value, f"{name} {record.offset(name)}")
            return value
        fields = context.data_model_manager[kind]
        known = {"nitems": kind.nitems, "itemsize": kind.strides[-1]}
        known |= {"shape": kind.shape, "strides": kind.strides}
        words, at = fields.get_value_type(), fields.get_field_position("data")
        parts = [Constant(word, known.get(key)) for word, key in zip(words, fields._fields)]
        return builder.insert_value(Constant(words, parts), pointer, at)

    def _set_field(self, record: Any, inst: Any) -> None:
        """``record.name = value``"""
        kind, context, builder = record.typeof(inst.attr), self.context, self.builder
        self.debuginfo.mark_location(builder, self.loc.line)
        value = self.loadvar(inst.value.name)
        value = context.cast(builder, value, self.typeof(inst.value.name), kind)
        base, of = self.loadvar(inst.target.name), context.get_data_type(kind)
        pointer = cgutils.get_record_member(builder, base, record.offset(inst.attr), of)
        context.pack_value(builder, kind, value, pointer, None if record.aligned else 1)
        self._touches(builder.block.instructions[-1], f"{inst.attr} {record.offset(inst.attr)}")

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
        self._touches(item, f"items {array.dtype}")
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
        arrayobj.store_item(self.context, self.builder, array, item, pointer)
        self._touches(self.builder.block.instructions[-1], f"items {array.dtype}")
        return None

    def _touches(self, instruction: Any, what: str) -> None:
        """Tell LLVM what a load or store touches: differently named things do not overlap.

        The same word of memory is always reached by the same name, or by none: a number in a
        record by its field's name and offset, whatever record it is in; an element of an array of
        numbers, nested in a record or not, by its type. What moves whole records has no name, and
        may touch anything. Nothing in compiled code looks at memory as another type.
        """
        if isinstance(instruction, LoadInstr | StoreInstr):
            add, zero = self.module.add_metadata, Constant(IntType(64), 0)
            kind = add([what, add(["capplan"]), zero])
            instruction.set_metadata("tbaa", add([kind, kind, zero]))


class MechanismLibrary(codegen.JITCodeLibrary):  # type: ignore[misc]
    """A mechanism's code, kept as it is: an entry links and optimises it with all the rest."""

    def add_llvm_module(self, ll_module: Any) -> None:
        """The one module of a mechanism, its functions optimised each by itself."""
        ll_module.data_layout = self._codegen._data_layout
        passes, builder = _first_passes(self._codegen)
        for function in ll_module.functions:
            if not function.is_declaration:
                passes.run(function, builder)
        self._final_module = ll_module

    def finalize(self) -> None:
        """Nothing to finish yet."""
        self._finalized = True

    def _get_module_for_linking(self) -> Any:
        return self._final_module


@functools.cache
def _first_passes(target: Any) -> tuple[Any, Any]:
    """The passes that make text small, at a third of the cost of LLVM's own choice."""
    passes = llvm.create_new_function_pass_manager()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    return passes, target._pass_builder()
